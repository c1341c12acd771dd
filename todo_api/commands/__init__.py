"""The command line. Each module holds a command or a group of them."""

import signal
import sys
from importlib import import_module

import click

from todo_api import VERSION

# The commands, in the order of --help. Each is in the module of its name, but for two in migrations.py.
_COMMANDS = ("serve", "migrate", "rollback", "migrations", "users", "explain", "pg", "settings", "openapi")
_MODULES = {"migrate": "migrations", "rollback": "migrations"}


class _Commands(click.Group):
    """Imports a command when it runs. With all of them imported, --version would take as long as serve."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = import_module(f"todo_api.commands.{_MODULES.get(name, name)}")
        command: click.Command = getattr(module, name)
        return command

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """List the variables with their defaults and allowed values, and show how to turn on completion."""
        with formatter.section("Variables"):
            formatter.write_dl(list(import_module("todo_api.commands.settings").described().items()))
        with formatter.section("Completion in bash (zsh and fish likewise)"):
            formatter.write_text('eval "$(_TODO_API_COMPLETE=bash_source todo-api)"')


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, message="%(version)s")
def cli() -> None:
    """The backend of a todo application: users and their tasks, in PostgreSQL.

    Settings come from the variables below and from .env in the current
    directory; 'todo-api settings' shows the present values. Without
    DATABASE_URL, an embedded PostgreSQL keeps the data in DATA_DIR.
    """


def main() -> None:
    """Run the command line. An error that is not our defect ends it with one sentence."""
    # A container's first process ignores SIGTERM unless it has a handler. This one also cancels the
    # statement.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        "".join(sys.argv).encode()  # raises if an argument is not UTF-8
        cli()
    except Exception as error:
        from todo_api.commands.errors import sentence  # imported late, for --version
        from todo_api.settings import SettingsError

        text = sentence(error)
        if text is None:
            raise
        click.echo(f"Error: {text}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
