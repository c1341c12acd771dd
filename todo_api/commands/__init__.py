"""The command line. Each module holds a command or a group of them."""

import signal
import sys

import click

from todo_api.commands.errors import sentence
from todo_api.commands.explain import explain
from todo_api.commands.migrations import migrate, migrations, rollback
from todo_api.commands.openapi import openapi
from todo_api.commands.serve import serve
from todo_api.commands.settings import settings
from todo_api.commands.users import users
from todo_api.settings import SettingsError


@click.group()
@click.version_option(package_name="todo-api", message="%(version)s")
def cli() -> None:
    """Tasks of users, over HTTP, kept in PostgreSQL.

    Settings come from the environment and from .env in the current directory;
    'todo-api settings' shows each. Without DATABASE_URL, an embedded PostgreSQL
    keeps the data in DATA_DIR.
    """


for command in (serve, migrate, rollback, migrations, users, explain, settings, openapi):
    cli.add_command(command)


def main() -> None:
    """Run the command line. What the operator or the surroundings got wrong ends in one sentence."""
    # Without a handler, SIGTERM does nothing to a container's first process. This one cancels the statement.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        "".join(sys.argv).encode()
        cli()
    except Exception as error:
        text = sentence(error)
        if text is None:
            raise
        click.echo(f"Error: {text}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
