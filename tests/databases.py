"""Databases of a test's own, and who logs in to them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from .service import ROOT

NewDatabase = Callable[[], str]
Databases = Callable[[str], str]  # with options, such as another locale

_WAITING = "from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
END_WAITING = f"select pg_terminate_backend(pid) {_WAITING}".encode()


@contextmanager
def databases(server: str, template: str) -> Iterator[NewDatabase]:
    """Makes copies of a database of this server; drops them at the end if the server stays."""
    made = []
    with psycopg.connect(server, autocommit=True) as connection:

        def make() -> str:
            name = f"todo_test_{uuid4().hex[:12]}"
            names = sql.Identifier(name), sql.Identifier(template)
            connection.execute(sql.SQL("create database {} template {} strategy file_copy").format(*names))
            made.append(name)
            return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))

        yield make
        for name in made if "TEST_DATABASE_URL" in os.environ else ():
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def post_apply(role: str) -> bytes:
    """What ends each ``migrate``, for this role in place of ``todo_app``."""
    return (ROOT / "migrations" / "post-apply.sql").read_text().replace("todo_app", role).encode()


def as_login(url: str, name: str) -> str:
    """The same URL for a login whose password is its name."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{name}:{name}@{parts.netloc.rpartition('@')[2]}"))


def waiting(url: str) -> int:
    """How many sessions of a database wait for a lock."""
    with psycopg.connect(url) as connection:
        return connection.execute(f"select {_WAITING}".encode()).rowcount


def alter(url: str, **settings: str) -> None:
    """Have every session of a database begin with these settings, as its administrator would."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        for setting, value in settings.items():
            change = sql.SQL("alter database {} set {} = {}")
            connection.execute(change.format(name, sql.SQL(setting), sql.Literal(value)))
