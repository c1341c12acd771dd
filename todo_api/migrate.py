"""Applies and takes back the files of ``migrations/``, through yoyo."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import psycopg
import yoyo
from psycopg import errors
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI
from yoyo.migrations import MigrationList, default_migration_table

from todo_api import folder
from todo_api.queries import Statement

APPLIED = Statement("migrations/applied", lambda name, at: (name, at))

_LOCK = 0x746F646F  # "todo"; any number that no other program locks on in this database
_TIMEOUTS = "set lock_timeout = '10s'; set statement_timeout = '15min'"


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
    """The names of the migrations that are not applied yet."""
    done = applied(url)
    return [name for name in known() if name not in done]


def apply(url: str, say: Callable[[str], None]) -> None:
    """Apply what is pending, telling ``say`` of each. Two at once are safe: one waits for the other."""
    with _locked(url, say) as backend:
        for migration in backend.to_apply(_read()):
            say(f"Applying {migration.id}")
            backend.apply_one(migration)


def roll_back(url: str, names: list[str], say: Callable[[str], None]) -> None:
    """Take back these migrations, newest first, with all that their tables hold."""
    with _locked(url, say) as backend:
        for migration in backend.to_rollback(_read()):
            if migration.id in names:
                say(f"Rolling back {migration.id}")
                backend.rollback_one(migration)


def _read() -> MigrationList:
    return yoyo.read_migrations(str(folder("migrations")))


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo ships no types
    def __init__(self, uri: DatabaseURI, migration_table: str = default_migration_table) -> None:
        super().__init__(uri, migration_table)

    def init_connection(self, connection: psycopg.Connection) -> None:
        connection.execute(_TIMEOUTS)


@contextmanager
def _locked(url: str, say: Callable[[str], None]) -> Iterator[_Backend]:
    """A backend, under a lock that dies with its connection: yoyo's own, a row, outlives a killed run."""
    os.environ.setdefault("USER", "todo-api")  # yoyo notes who it was; an id without a name has none
    with _told(), psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("select not pg_try_advisory_lock(%s)", [_LOCK]).fetchone() == (True,):
            say("Waiting for another migration to end")
            connection.execute("select pg_advisory_lock(%s)", [_LOCK])
        # libpq reads the URL itself: several hosts, sockets, every parameter.
        arguments = {"conninfo": url, "application_name": "todo-api migrate"}
        with _Backend(DatabaseURI("postgresql", *[None] * 5, arguments)) as backend:
            backend.init_database()
            backend.break_lock()  # whose it was is dead: the living hold ours
            yield backend


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except errors.LockNotAvailable:
        raise MigrationError(
            "A table stayed locked by others for 10 s; nothing was changed, try again"
        ) from None
    except psycopg.Error as error:
        raise MigrationError(" ".join(str(error).split()).removesuffix(".")) from None
