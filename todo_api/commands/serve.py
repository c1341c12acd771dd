"""``todo-api serve``."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import click

from todo_api.commands.database import configured, database, say
from todo_api.observability.metrics import SHARED
from todo_api.postgres import migrations, startup
from todo_api.postgres.conninfo import describe
from todo_api.server import processes
from todo_api.settings import FIELDS

# Linux keeps this directory in memory, so neither a full disk nor a cleaner of old files harms the metrics.
MEMORY = "/dev/shm"

Command = Callable[..., Any]


def _setting(variable: str, help: str) -> Callable[[Command], Command]:
    """An option that sets a variable and wins over it."""
    text = f"{help}  [env var: {variable}; default: {FIELDS[variable].default}]"
    return click.option(f"--{variable.lower()}", help=text)


@click.command()
@_setting("HOST", "Address to listen on.")
@_setting("PORT", "Port to listen on; 0 takes a free one.")
@_setting("WORKERS", "Processes that serve.")
@click.option("--migrate", "migrate_first", is_flag=True, help="Apply pending migrations first.")
@click.option(
    "--reload", is_flag=True, help="For development: restart, with one worker, when a file changes."
)
def serve(host: str | None, port: str | None, workers: str | None, migrate_first: bool, reload: bool) -> None:
    """Serve the API until SIGTERM or Ctrl-C.

    Does not start while migrations are pending. With --migrate, or on an
    embedded PostgreSQL, it applies them.
    """
    # The workers are separate processes and read the environment.
    given = {"HOST": host, "PORT": port, "WORKERS": workers}
    os.environ.update({name: value for name, value in given.items() if value is not None})
    configuration = configured()
    migrations_url = configuration.migrations_database_url
    # uvicorn finishes the requests under way at SIGTERM, and then sends itself the signal again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (
        database(configuration, exclusive=True) as url,
        _shared_metrics(configuration.workers),
    ):
        startup.wait_for_database(url, configuration.start_timeout, say, configuration)
        if migrate_first or configuration.database_url is None:
            if migrations_url:
                say(f"Migrations: {describe(migrations_url)}")
            migrations.apply(migrations_url or url, say)
        if pending := migrations.pending(url):
            raise click.ClickException(
                f"The schema is behind ({migrations.where(url)} lacks {', '.join(pending)}): "
                "run 'todo-api migrate', or 'todo-api serve --migrate'."
            )
        os.environ["DATABASE_URL"] = url
        processes.run(configuration, say, reload=reload)


@contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """Give several workers a directory for their metrics, so that any of them can report those of all."""
    if workers == 1:
        yield
        return
    place = MEMORY if os.access(MEMORY, os.W_OK) and not os.environ.get("TMPDIR") else None
    with TemporaryDirectory(prefix="todo-api-metrics-", dir=place) as directory:
        os.environ[SHARED] = directory
        yield
