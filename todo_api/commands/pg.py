"""``todo-api pg``."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from shutil import which

import click

from todo_api.commands.database import configured, database
from todo_api.postgres import wheel
from todo_api.postgres.conninfo import open_connection, variables


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("program", type=click.Choice(["psql", "pg_dump", "pg_restore"]))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def pg(program: str, arguments: tuple[str, ...]) -> None:
    """Run a program of PostgreSQL on the service's database.

    Uses MIGRATIONS_DATABASE_URL if it is set. Takes the program of the server's
    version, or the next newer one. ARGUMENTS are passed on. pg_restore restores
    into the database, unless they ask for a file or a list.
    """
    configuration = configured()
    with database(configuration, configuration.migrations_database_url) as url:
        with open_connection(url, "pg") as connection:
            version, name = connection.info.server_version, connection.info.dbname
        if program == "pg_restore" and not any(re.match("-f|--file|-l|--list", each) for each in arguments):
            arguments = (f"--dbname={name}", *arguments)
        signal.signal(signal.SIGINT, lambda *_: None)  # psql itself handles Ctrl-C: it cancels the statement
        command = [_program(program, version), *arguments]
        status = subprocess.run(command, env=os.environ | variables(url), check=False).returncode
    sys.exit(status if status >= 0 else 128 - status)  # as shells say which signal ended it


def _program(name: str, server_version: int) -> str:
    """The path of the program in the server's version or the next newer one. Older ones refuse to work."""
    major = server_version // 10000
    places = [f"/usr/lib/postgresql/{major}/bin", *os.get_exec_path()]
    with suppress(wheel.EmbeddedError):
        places.append(str(wheel.find()[1]))
    found: dict[int, str] = {}
    for path in filter(None, (which(name, path=place) for place in places)):
        printed = subprocess.run([path, "--version"], capture_output=True, check=False, text=True).stdout
        if version := re.search(r"\d+", printed):
            found.setdefault(int(version[0]), path)
    suitable = [version for version in found if version >= major]
    if not suitable:
        raise click.ClickException(
            f"There is no {name} of PostgreSQL {major} or newer: install it (on Debian, postgresql-client)."
        )
    return found[min(suitable)]
