"""PostgreSQL 15, where uuidv7() is ours. ``make test-15`` runs the tests about SQL on it."""

import asyncio
import subprocess
from collections.abc import Iterator
from typing import Any
from uuid import RFC_4122, UUID

import psycopg
import pytest

from todo_api.app import create_app
from todo_api.postgres import migrations
from todo_api.settings import Settings

from .api import User, make_user, talking_to
from .engines import Server, newest, postgres15, postgresql

SCHEMAS = "select pronamespace::regnamespace::text from pg_proc where proname = 'uuidv7' and pronargs = 0"


@pytest.fixture(scope="module")
def fifteen() -> Iterator[Server]:
    """A PostgreSQL 15."""
    programs = postgres15()
    if programs is None:
        pytest.skip("this machine has no PostgreSQL 15: install postgresql-15 where a package has it")
    with postgresql(programs, locale="C.UTF-8") as old:
        yield old


@pytest.fixture(scope="module")
def eighteen() -> Iterator[Server]:
    """A PostgreSQL 18, whatever the other tests run on."""
    with postgresql(newest()) as new:
        yield new


def say_nothing(_: str) -> None:
    """What migrations tell."""


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement).fetchall()


def copy(old: str, new: str) -> None:
    """Dump a database of 15 with its own pg_dump: a newer one may not know the server's latest release."""
    dump = subprocess.run(
        [f"{postgres15()}/pg_dump", "--dbname", old], capture_output=True, check=True
    ).stdout
    psql = [f"{newest()}/psql", "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--dbname", new]
    subprocess.run(psql, input=dump, stdout=subprocess.DEVNULL, check=True)


@pytest.mark.parametrize("version", ["fifteen", "eighteen"])
def test_ids_tell_their_moment(version: str, request: pytest.FixtureRequest) -> None:
    """Ours and the built-in: version 7, and the time to the microsecond (RFC 9562, sections 5.7 and 6.2)."""
    url = request.getfixturevalue(version).create("ids")
    migrations.apply(url, say_nothing)
    clock = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
    made: list[UUID] = []
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(300):
            row = connection.execute(f"select {clock}, uuidv7(), {clock} from pg_sleep(0.001)").fetchone()
            assert row
            before, uuid, after = row
            made.append(uuid)
            milliseconds, fraction = uuid.int >> 80, uuid.int >> 64 & 0xFFF
            assert (7, RFC_4122) == (uuid.version, uuid.variant)
            # The fraction counts 4096ths of a millisecond and is cut off.
            assert before - 1 <= milliseconds * 1000 + fraction * 1000 / 4096 <= after
    assert sorted(made) == made
    assert len(made) == len({uuid.int & ((1 << 62) - 1) for uuid in made}), "the rest is random"


def test_the_function_goes_with_its_migration(fifteen: Server) -> None:
    """Rolled back, nothing of ours is left; applied again, it is there again."""
    url = fifteen.create("rollback")
    migrations.apply(url, say_nothing)
    assert [("public",)] == query(url, SCHEMAS)
    migrations.roll_back(url, migrations.known(), say_nothing)
    assert [] == query(url, SCHEMAS)
    migrations.apply(url, say_nothing)
    assert [("public",)] == query(url, SCHEMAS)


async def test_an_upgrade_keeps_everything(fifteen: Server, eighteen: Server) -> None:
    """Dumped from 15 and restored in 18, all tasks are there, new ones come after them, rollback works."""
    old, new = fifteen.create("upgrade"), eighteen.create("upgrade")
    migrations.apply(old, say_nothing)
    async with talking_to(create_app(Settings(database_url=old))) as client:
        ada = await make_user(client)
        tasks = [await ada.creates(f"Task {number}") for number in range(5)]
    await asyncio.to_thread(copy, old, new)
    assert [] == migrations.pending(new)
    async with talking_to(create_app(Settings(database_url=new))) as client:
        ada = User(client, ada.id)
        tasks.append(await ada.creates("After the upgrade"))
        assert tasks[::-1] == await ada.lists()
    migrations.roll_back(new, migrations.known(), say_nothing)
    assert [("pg_catalog",)] == query(new, SCHEMAS)
