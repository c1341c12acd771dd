"""Applies and takes back the files of ``migrations/``, through yoyo."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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

from todo_api import VERSION, folder
from todo_api.queries import Statement

APPLIED = Statement("migrations/applied", lambda name, at: (name, at), repeatable=True)
DIGESTS = Statement("migrations/digests", lambda name, digest: (name, digest))

_LOCK = 0x746F646F  # "todo"; any number that no other program locks on in this database

_LIMITS = """
set lock_timeout = '10s';
set statement_timeout = '15min';
set client_connection_check_interval = '1s';  -- a statement ends with the process that waits for it
"""


class MigrationError(Exception):
    """A migration, or a look at which are applied, failed; the message is one sentence."""


def applied(url: str) -> dict[str, datetime]:
    """When (UTC) each applied migration was applied, oldest first. Reads only."""
    with _told(), psycopg.connect(url, autocommit=True) as connection:
        try:
            return dict(connection.execute(APPLIED.text).fetchall())
        except errors.UndefinedTable:
            return {}


def known() -> list[str]:
    """The names of all migrations, in the order in which they apply."""
    return [migration.id for migration in _read()]


def pending(url: str) -> list[str]:
    """The names of the migrations that are not applied yet.

    Those that are applied and unknown here do not count: a newer version made them for its own good, and
    while versions replace one another its schema has to serve this one too.
    """
    done = applied(url)
    return [name for name in known() if name not in done]


def apply(url: str, say: Callable[[str], None]) -> None:
    """Apply what is pending, telling ``say`` of each, then ``post-apply.sql``, which is never marked.

    Two at once are safe: one waits for the other. Refuses where a file has changed since it was applied.
    """
    migrations = _read()
    with _locked(url, say) as backend:
        _refuse_edited(migrations, dict(backend.connection.execute(DIGESTS.text).fetchall()))
        for migration in backend.to_apply(migrations):
            say(f"Applying {migration.id}")
            backend.run(migration, "apply")
        for hook in migrations.post_apply:
            hook.process_steps(backend, "apply")


def roll_back(url: str, names: list[str], say: Callable[[str], None]) -> None:
    """Take back these migrations, newest first, with all that their tables hold."""
    with _locked(url, say) as backend:
        for migration in backend.to_rollback(_read()):
            if migration.id in names:
                say(f"Rolling back {migration.id}")
                backend.run(migration, "rollback")


def _read() -> MigrationList:
    return yoyo.read_migrations(str(folder("migrations")))


def _refuse_edited(migrations: MigrationList, digests: dict[str, str]) -> None:
    for migration in migrations:
        if digests.get(migration.id, digest := _digest(migration)) != digest:
            raise MigrationError(
                f"{Path(migration.path).name} has changed since it was applied here: "
                "put it back as it was, and what is new into a migration of its own"
            )


def _digest(migration: Migration) -> str:
    return sha256(Path(migration.path).read_text(encoding="utf-8").encode()).hexdigest()


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo ships no types
    """yoyo, on one connection only, so that whoever holds the lock is the one who changes the schema."""

    _is_locked = True  # by us: yoyo's own lock is a row, which outlives a killed run

    # The log has a column for a comment, which yoyo leaves empty.
    log_migration_sql = PostgresqlPsycopgBackend.log_migration_sql.replace(
        "{quoted.created_at_utc}", "{quoted.created_at_utc}, {quoted.comment}"
    ).replace(":created_at_utc", ":created_at_utc, :comment")

    def __init__(self, uri: DatabaseURI, migration_table: str = default_migration_table) -> None:
        super().__init__(uri, migration_table)

    def get_log_data(self, migration: Migration, operation: str) -> dict[str, Any]:
        """What yoyo notes, and what the file held."""
        return {**super().get_log_data(migration, operation), "comment": _digest(migration)}

    def run(self, migration: Migration, direction: Literal["apply", "rollback"]) -> None:
        """Apply a migration or take it back, and mark that, in one transaction unless it wants none."""
        mark = self.mark_one if direction == "apply" else self.unmark_one
        migration.load()
        with _told(migration.id), self.transaction() if migration.use_transactions else nullcontext():
            migration.process_steps(self, direction)
            self.log_migration(migration, direction)
            mark(migration, log=False)


@contextmanager
def _locked(url: str, say: Callable[[str], None]) -> Iterator[_Backend]:
    """A backend under a lock that ends with its connection."""
    os.environ.setdefault("USER", "todo-api")  # yoyo notes who it was; an id without a name has none
    # libpq reads the URL itself: several hosts, sockets, every parameter.
    arguments = {"conninfo": url, "application_name": f"todo-api/{VERSION} migrate"}
    with _told(), _Backend(DatabaseURI("postgresql", *[None] * 5, arguments)) as backend:
        connection = backend.connection
        if connection.execute("select not pg_try_advisory_lock(%s)", [_LOCK]).fetchone() == (True,):
            say("Waiting for another migration to end")
            connection.execute("select pg_advisory_lock(%s)", [_LOCK])
        connection.execute(_LIMITS)
        backend.ensure_internal_schema_updated()
        yield backend


@contextmanager
def _told(name: str = "") -> Iterator[None]:
    about = f"{name}: " if name else ""
    try:
        yield
    except errors.LockNotAvailable:
        raise MigrationError(f"{about}a table stayed locked by others for 10 s; try again") from None
    except psycopg.Error as error:
        sentence = error.diag.message_primary or " ".join(str(error).split()).removesuffix(".")
        raise MigrationError(f"{about}{sentence}") from None
