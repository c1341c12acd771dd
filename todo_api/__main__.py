"""The command line: serve, migrate, look after users."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from types import FrameType
from uuid import UUID

import click
import msgspec
import psycopg

from todo_api import VERSION, settings
from todo_api.app import create_app
from todo_api.http import openapi
from todo_api.observability.metrics import SHARED
from todo_api.postgres import embedded, explain
from todo_api.postgres import migrations as migrate
from todo_api.postgres import startup as start
from todo_api.postgres.conninfo import conninfo
from todo_api.queries import Statement
from todo_api.resources.users import ADD, GET, User
from todo_api.server import processes as server

FIND = Statement("users/find", User)
LIST = Statement("users/list", User)
DELETE = Statement("users/delete", User)

DATABASE_URL = "DATABASE_URL"

MISTAKES = (
    embedded.EmbeddedError,
    explain.ExplainError,
    migrate.MigrationError,
    server.ServerError,
    start.StartError,
)


@click.group()
@click.version_option(package_name="todo-api", message="%(version)s")
def cli() -> None:
    """Tasks of users, over HTTP, kept in PostgreSQL.

    Settings come from the environment and from .env in the current directory;
    .env.example explains each. Without DATABASE_URL a PostgreSQL of its own
    keeps the data in DATA_DIR.
    """


@cli.command()
@click.option("--host", help="Address to listen on, instead of HOST.")
@click.option("--port", help="Port to listen on, instead of PORT.")
@click.option("--workers", help="Processes that serve, instead of WORKERS.")
@click.option("--migrate", "migrate_first", is_flag=True, help="Apply pending migrations first.")
def serve(host: str | None, port: str | None, workers: str | None, migrate_first: bool) -> None:
    """Serve the API until SIGTERM or Ctrl-C.

    Refuses to start while migrations are pending, unless it may apply them:
    with --migrate, or on a PostgreSQL of its own.
    """
    # The workers are processes of their own: what they need to know is in the environment.
    given = {"HOST": host, "PORT": port, "WORKERS": workers}
    os.environ.update({name: value for name, value in given.items() if value is not None})
    configuration = settings.load()
    with (
        _stopping_cleanly(),
        _shared_metrics(configuration.workers),
        _database_to_serve(configuration) as url,
    ):
        start.wait_for_database(conninfo(url, configuration), configuration.start_timeout, _say)
        if migrate_first or configuration.database_url is None:
            migrate.apply(configuration.migrations_database_url or url, _say)
        elif migrate.pending(url):
            raise click.ClickException(
                "The schema is behind: run 'todo-api migrate', or 'todo-api serve --migrate'."
            )
        os.environ[DATABASE_URL] = url
        server.run(configuration, _say)


@cli.command(name="migrate")
def migrate_() -> None:
    """Apply every migration that is pending."""
    with _migrations_database() as url:
        migrate.apply(url, _say)
        _say("The schema is current.")


@cli.command()
@click.argument("migration", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
def rollback(migration: str | None, yes: bool) -> None:
    """Take back the newest migration, or all those after MIGRATION, with the data in them."""
    with _migrations_database() as url:
        done = migrate.applied(url)
        applied = [name for name in migrate.known() if name in done]
        if migration is not None and migration not in applied:
            raise click.ClickException(
                f"No applied migration is named {migration!r}: see 'todo-api migrations'."
            )
        names = applied[applied.index(migration) + 1 :] if migration else applied[-1:]
        if not names:
            _say("There is nothing to take back.")
            return
        if not yes:
            click.confirm(f"Take back {', '.join(reversed(names))}, and lose what is in them?", abort=True)
        migrate.roll_back(url, names, _say)


@cli.command()
def migrations() -> None:
    """Show which migrations are applied, and when."""
    with _migrations_database() as url:
        applied = migrate.applied(url)
    known = migrate.known()
    for name, when in applied.items():
        click.echo(f"{name:32} {when:%Y-%m-%d %H:%M:%S} UTC{'' if name in known else ', by a newer version'}")
    for name in known:
        if name not in applied:
            click.echo(f"{name:32} pending")


@cli.command(name="explain")
@click.argument("statement", required=False)
@click.argument("parameters", nargs=-1, metavar="[PARAMETER=VALUE]...")
def explain_(statement: str | None, parameters: tuple[str, ...]) -> None:
    """Show the plan of STATEMENT, a file under sql/ such as tasks/get; without it, list them.

    The statement is executed, with null for each parameter that is left out, and undone.
    """
    files = {file.name: file for file in explain.statements()}
    if statement is None:
        for file in files.values():
            click.echo(explain.usage(file))
        return
    if statement not in files:
        raise click.ClickException(f"There is no statement {statement!r}: see 'todo-api explain'.")
    if wrong := [given for given in parameters if "=" not in given]:
        raise click.ClickException(f"{wrong[0]!r} is not of the form PARAMETER=VALUE.")
    values = dict(given.split("=", 1) for given in parameters)
    with _connection("explain") as connection:
        for line in explain.plan(connection, files[statement], values):
            click.echo(line)


@cli.group(name="users")
def users_() -> None:
    """Add, list and delete users."""


@users_.command()
@click.argument("email")
def add(email: str) -> None:
    """Add a user and print the id."""
    with _connection("users") as connection:
        try:
            rows = connection.execute(ADD.text, {"email": email}).fetchall()
        except psycopg.errors.UniqueViolation:
            raise click.ClickException(f"{email} is taken.") from None
        except psycopg.errors.CheckViolation:
            raise click.ClickException(f"{email!r} is not an email address.") from None
    click.echo(User(*rows[0]).id)


@users_.command(name="list")
def list_() -> None:
    """Print every user: id, email, since when."""
    with _connection("users") as connection:
        for row in connection.execute(LIST.text):
            user = User(*row)
            click.echo(f"{user.id}  {user.created_at:%Y-%m-%d %H:%M}  {user.email}")


@users_.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(user: str, yes: bool) -> None:
    """Delete USER (an id or an email) and all their tasks."""
    with _connection("users") as connection:
        try:
            found = connection.execute(GET.text, {"user_id": UUID(user)}).fetchall()
        except ValueError:
            found = connection.execute(FIND.text, {"email": user}).fetchall()
        if not found:
            raise click.ClickException(f"There is no user {user}.")
        doomed = User(*found[0])
        if not yes:
            click.confirm(f"Delete {doomed.email} ({doomed.id}) and all their tasks?", abort=True)
        connection.execute(DELETE.text, {"user_id": doomed.id})


@cli.command(name="openapi")
def openapi_() -> None:
    """Print the OpenAPI document."""
    app = create_app(settings.Settings(database_url="postgresql://"))
    click.echo(msgspec.json.format(msgspec.json.encode(openapi.build(app)), indent=2))


def main() -> None:
    """Run the command line; every mistake that is the operator's ends in one sentence."""
    try:
        cli()
    except settings.SettingsError as error:
        _fail(str(error), 2)
    except MISTAKES as error:
        _fail(str(error), 1)


def _fail(sentence: str, status: int) -> None:
    click.echo(f"Error: {sentence}", err=True)
    sys.exit(status)


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


@contextmanager
def _database(configuration: settings.Settings) -> Iterator[str]:
    """The URL of the configured database, or else of the service's own, started unless it runs already."""
    if url := configuration.database_url or embedded.address(configuration.data_dir):
        yield url
    else:
        with embedded.running(configuration.data_dir) as url:
            yield url


@contextmanager
def _database_to_serve(configuration: settings.Settings) -> Iterator[str]:
    if configuration.database_url is not None:
        yield configuration.database_url
    else:
        _say(f"Data: {configuration.data_dir}, in a PostgreSQL of its own")
        with embedded.running(configuration.data_dir) as url:
            yield url


@contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """Where the workers put down their figures, so that each can tell those of all."""
    if workers == 1:
        yield
        return
    with TemporaryDirectory(prefix="todo-api-metrics-") as directory:
        os.environ[SHARED] = directory
        yield


@contextmanager
def _migrations_database() -> Iterator[str]:
    configuration = settings.load()
    with _database(configuration) as url:
        url = configuration.migrations_database_url or url
        start.wait_for_database(url, configuration.start_timeout, _say)
        yield url


@contextmanager
def _connection(purpose: str) -> Iterator[psycopg.Connection]:
    name = f"todo-api/{VERSION} {purpose}"
    with _database(settings.load()) as url:
        try:
            with psycopg.connect(url, autocommit=True, application_name=name) as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise click.ClickException(" ".join(str(error).split())) from None


@contextmanager
def _stopping_cleanly() -> Iterator[None]:
    """Leave by an exception on SIGTERM: uvicorn, once it has drained, sends itself the signal again."""

    def leave(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()
