"""Applies and rolls back the files of ``migrations/``, through yoyo."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import psycopg
import yoyo
from psycopg import errors
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI
from yoyo.migrations import Migration, MigrationList, default_migration_table

from todo_api import OperatorError, folder
from todo_api.postgres.conninfo import open_connection
from todo_api.postgres.errors import reason
from todo_api.queries import Statement

APPLIED = Statement("migrations/applied", lambda name, at: (name, at), repeatable=True)
DIGESTS = Statement("migrations/digests", lambda name, digest: (name, digest))
TAKEN = Statement("migrations/taken", lambda name, kind: (name, kind))

_CREATED = re.compile(r"^create (?:unique )?(?:table|index) if not exists (\w+)", re.MULTILINE)

_LOCK = 0x746F646F  # "todo" in ASCII. No other program in this database may lock the same number.

_LIMITS = """
set lock_timeout = '10s';
set statement_timeout = '15min';
set client_connection_check_interval = '1s';  -- a statement ends when its client has died
"""


class MigrationError(OperatorError):
    """Why a migration was not applied or rolled back."""


def applied(url: str) -> dict[str, datetime]:
    """When each applied migration was applied (UTC), oldest first. Changes nothing."""
    with open_connection(url, "migrations") as connection:
        return _applied(connection)


def known() -> list[str]:
    """The names of all migrations, in the order in which they apply."""
    return [migration.id for migration in _read()]


def pending(url: str) -> list[str]:
    """The names of the migrations that are not applied yet.

    Applied migrations that this version does not know are ignored: a newer version made them, and this
    version can run on its schema.
    """
    done = applied(url)
    return [name for name in known() if name not in done]


def where(url: str) -> str:
    """The database and the schema in which unqualified names are looked up first."""
    with open_connection(url, "migrations") as connection:
        [place] = connection.execute(
            "select format('database %s, schema %s', current_database(), coalesce(current_schema(), 'none'))"
        ).fetchall()
    return str(place[0])


def apply(url: str, say: Callable[[str], None]) -> None:
    """Apply each pending migration, report it to ``say``, then run ``post-apply.sql``, as every time.

    Two runs at once are safe: one waits for the other. Raises MigrationError, before anything is changed, if
    an applied file has been edited, or if a relation that a migration creates already exists.
    """
    migrations = _read()
    with _locked(url, say) as backend:
        done = _applied(backend.connection)
        _refuse_taken(backend.connection, [each for each in migrations if each.id not in done])
        backend.ensure_internal_schema_updated()
        _refuse_edited(migrations, dict(backend.connection.execute(DIGESTS.text).fetchall()))
        for migration in backend.to_apply(migrations):
            say(f"Applying {migration.id}")
            backend.run(migration, "apply")
        for hook in migrations.post_apply:
            hook.process_steps(backend, "apply")


def roll_back(url: str, names: list[str], say: Callable[[str], None]) -> None:
    """Roll back these migrations, newest first; deletes the data they hold.

    Raises MigrationError, before anything is changed, if one has no rollback.
    """
    migrations = [migration for migration in _read() if migration.id in names]
    for migration in migrations:
        if not Path(migration.path).with_suffix(".rollback.sql").is_file():
            raise MigrationError(f"{migration.id} has no .rollback.sql, so it cannot be rolled back.")
    with _locked(url, say) as backend:
        for migration in backend.to_rollback(_read()):
            if migration.id in names:
                say(f"Rolling back {migration.id}")
                backend.run(migration, "rollback")


def _applied(connection: psycopg.Connection) -> dict[str, datetime]:
    try:
        return dict(connection.execute(APPLIED.text).fetchall())
    except errors.UndefinedTable:
        return {}


def _read() -> MigrationList:
    return yoyo.read_migrations(str(folder("migrations")))


def _refuse_edited(migrations: MigrationList, digests: dict[str, str]) -> None:
    for migration in migrations:
        if digests.get(migration.id, digest := _digest(migration)) != digest:
            raise MigrationError(
                f"{Path(migration.path).name} has changed since it was applied here: "
                "restore it, and put the change into a new migration."
            )


def _refuse_taken(connection: psycopg.Connection, migrations: list[Migration]) -> None:
    """Refuse somebody else's relations, which ``if not exists`` would take for ours.

    A migration and its mark are one transaction, so nothing that a pending migration creates can exist yet.
    Migrations without a transaction are left out: one that failed half-way has to run again.
    """
    texts = [Path(each.path).read_bytes().decode() for each in migrations if each.use_transactions]
    names = [name for text in texts for name in _CREATED.findall(text)]
    if taken := connection.execute(TAKEN.text, {"names": names}).fetchall():
        raise MigrationError(
            f"There is a {taken[0][1]} {taken[0][0]} already, which todo-api did not make. "
            "Nothing was changed. Give todo-api a database of its own."
        )


def _digest(migration: Migration) -> str:
    return sha256(Path(migration.path).read_bytes()).hexdigest()


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo ships no types
    """yoyo on a single connection, so that the session with the lock is the one that changes the schema."""

    _is_locked = True  # by the advisory lock: yoyo's own is a row, which stays behind when a run is killed

    # yoyo leaves the log's comment empty. It gets the digest of the file.
    log_migration_sql = PostgresqlPsycopgBackend.log_migration_sql.replace(
        "{quoted.created_at_utc}", "{quoted.created_at_utc}, {quoted.comment}"
    ).replace(":created_at_utc", ":created_at_utc, :comment")

    def connect(self, dburi: DatabaseURI) -> psycopg.Connection:
        """Connect as every command does, by the URL as libpq reads it."""
        return open_connection(dburi.args["url"], "migrate")

    def get_log_data(self, migration: Migration, operation: str) -> dict[str, Any]:
        """What yoyo logs, and the digest of the file."""
        return {**super().get_log_data(migration, operation), "comment": _digest(migration)}

    def run(self, migration: Migration, direction: Literal["apply", "rollback"]) -> None:
        """Apply a migration or roll it back, and mark that, in one transaction.

        yoyo ends the transaction first if the file says ``-- transactional: false``.
        """
        mark = self.mark_one if direction == "apply" else self.unmark_one
        try:
            with self.transaction():
                migration.process_steps(self, direction)
                self.log_migration(migration, direction)
                mark(migration, log=False)
        except psycopg.Error as error:
            raise MigrationError(f"{migration.id}: {reason(error)}") from None


@contextmanager
def _locked(url: str, say: Callable[[str], None]) -> Iterator[_Backend]:
    """Yield a backend that holds the lock until its connection ends, and reports notices to ``say``."""
    os.environ.setdefault("USER", "todo-api")  # yoyo logs the user, and fails for a uid without a name
    uri = DatabaseURI("postgresql", *[None] * 5, {"url": url})
    with _Backend(uri, default_migration_table) as backend:
        connection = backend.connection
        if connection.execute("select not pg_try_advisory_lock(%s)", [_LOCK]).fetchone() == (True,):
            say("Waiting for another migration to end")
            connection.execute("select pg_advisory_lock(%s)", [_LOCK])
        connection.execute(_LIMITS)

        def report(notice: psycopg.errors.Diagnostic) -> None:
            if notice.sqlstate != "25P01":  # yoyo ends a transaction that has ended already
                say(f"PostgreSQL: {notice.message_primary}")

        connection.add_notice_handler(report)
        yield backend
