"""Which database a command works on. It is named on standard error before anything is done there."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import psycopg

from todo_api import settings
from todo_api.postgres import embedded, startup, wheel
from todo_api.postgres.conninfo import connect, describe
from todo_api.settings import Settings


def say(sentence: str) -> None:
    """Print on standard error; standard output is for what a command is asked for."""
    click.echo(sentence, err=True)


def configured() -> Settings:
    """Return the settings, after warnings about those that have no effect."""
    found = settings.read()
    for warning in found.warnings:
        say(f"Warning: {warning}")
    return found.settings()


@contextmanager
def database_to_serve(configuration: Settings) -> Iterator[str]:
    """Yield the URL of the configured database, or run the embedded one and yield its URL."""
    if url := configuration.database_url:
        say(f"Database: {describe(url)}")
        yield url
    else:
        wheel.require()
        say(f"Database: embedded, data in {configuration.data_dir}")
        with embedded.running(configuration.data_dir) as url:
            yield url


@contextmanager
def migrations_database() -> Iterator[str]:
    """Yield the URL of the database to migrate, once it takes connections."""
    configuration = configured()
    with _database(configuration, configuration.migrations_database_url) as url:
        startup.wait_for_database(url, configuration.start_timeout, say)
        yield url


@contextmanager
def connection(purpose: str) -> Iterator[psycopg.Connection]:
    """Connect to the database that the service uses."""
    with _database(configured()) as url, connect(url, purpose) as connection:
        yield connection


@contextmanager
def _database(configuration: Settings, url: str | None = None) -> Iterator[str]:
    """The database at ``url``, the configured one, or the embedded one, which ``serve`` may be running."""
    if url:
        say(f"Database: {describe(url)}")
        yield url
    elif configuration.database_url is None and (url := embedded.address(configuration.data_dir)):
        say(f"Database: embedded, data in {configuration.data_dir}")
        yield url
    else:
        with database_to_serve(configuration) as url:
            yield url
