"""Opens the database that a command works on, after naming it on standard error."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click
import psycopg

from todo_api import settings
from todo_api.postgres import embedded, startup, wheel
from todo_api.postgres.conninfo import describe, open_connection
from todo_api.settings import Settings


def say(sentence: str) -> None:
    """Print on standard error. Standard output is for the command's result."""
    click.echo(sentence, err=True)


def configured() -> Settings:
    """Return the settings, after printing the warnings about them."""
    found = settings.read()
    for warning in found.warnings:
        say(f"Warning: {warning}")
    return found.settings()


@contextmanager
def migrations_database() -> Iterator[str]:
    """Yield the URL of the database to migrate, once it accepts connections."""
    configuration = configured()
    with database(configuration, configuration.migrations_database_url) as url:
        startup.wait_for_database(url, configuration.start_timeout, say)
        yield url


@contextmanager
def connection(purpose: str) -> Iterator[psycopg.Connection]:
    """Connect to the database that the service uses."""
    with database(configured()) as url, open_connection(url, purpose) as connection:
        yield connection


@contextmanager
def database(configuration: Settings, url: str | None = None, *, exclusive: bool = False) -> Iterator[str]:
    """Yield ``url``, or else DATABASE_URL, or else the URL of the embedded database.

    The embedded one is shared with a ``serve`` that already runs it, unless ``exclusive`` is true. Otherwise
    it is started, and stopped at the end.
    """
    if url := url or configuration.database_url:
        say(f"Database: {describe(url)}")
        yield url
        return
    if configuration.migrations_database_url:
        raise click.ClickException("MIGRATIONS_DATABASE_URL is set and DATABASE_URL is not: set both.")
    wheel.distribution()  # raises if it is not installed
    say(f"Database: embedded, data in {configuration.data_dir}")
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]  # they are about another database
    if not exclusive and (url := embedded.address(configuration.data_dir)):
        yield url
    else:
        with embedded.running(configuration.data_dir) as url:
            yield url
