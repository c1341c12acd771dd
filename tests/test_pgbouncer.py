"""Behind PgBouncer in transaction mode, where each statement may find another server connection."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from todo_api.app import create_app
from todo_api.settings import Settings

from .api import make_user, talking_to
from .databases import NewDatabase, post_apply
from .engines import pgbouncer, pgbouncer_version, pooler
from .executor import Adhoc
from .service import serving
from .waiting import HEALING

Pooled = Callable[[str, int], str]


@pytest.fixture
def pooled() -> Iterator[Pooled]:
    """Puts a PgBouncer with so many server connections before a database and returns its URL."""
    program = pgbouncer()
    if program is None:
        pytest.skip("this machine has no PgBouncer: install the package pgbouncer")
    with ExitStack() as stack:
        yield lambda url, connections: stack.enter_context(pooler(program, url, connections=connections))


async def test_a_crowd_is_served(new_database: NewDatabase, pooled: Pooled) -> None:
    """Hundreds of mixed requests of many users over three server connections: each gets what is theirs."""
    url = pooled(new_database(), 3)
    async with talking_to(create_app(Settings(database_url=url, prepare_statements=False))) as client:

        async def live(number: int) -> None:
            user = await make_user(client)
            tasks: list[dict[str, Any]] = []
            for turn in range(6):
                task = await user.creates(f"{number}/{turn}")
                assert task == (await client.get(user.path(task))).json()
                changed = (await client.patch(user.path(task), json={"description": f"of {number}"})).json()
                assert task["title"] == changed["title"]
                done = (await client.patch(f"{user.path(task)}/complete")).json()
                assert changed | {"completed": True, "updated_at": done["updated_at"]} == done
                tasks.insert(0, done)
                assert tasks == await user.lists()
            assert 204 == (await client.delete(user.path(tasks.pop()))).status_code
            assert tasks == await user.lists()

        async with asyncio.TaskGroup() as crowd:
            for number in range(16):
                crowd.create_task(live(number))


async def test_times_are_in_utc(
    new_database: NewDatabase,
    as_owner: Callable[[str], str],
    pooled: Pooled,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sessions speak UTC where the database speaks otherwise: the pooler hands the parameter on."""
    url = new_database()
    with psycopg.connect(as_owner(url), autocommit=True) as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("alter database {} set timezone = 'Asia/Kolkata'").format(database))
    behind = pooled(url, 1)
    monkeypatch.delenv("PGTZ", raising=False)
    with psycopg.connect(behind) as connection:
        assert ("Asia/Kolkata",) == connection.execute("show timezone").fetchone()
    async with talking_to(create_app(Settings(database_url=behind, prepare_statements=False))) as client:
        ada = await make_user(client)
        assert (await ada.creates())["created_at"].endswith("Z")


def test_time_outs_come_with_the_role(
    new_database: NewDatabase, as_owner: Callable[[str], str], application_role: str | None, pooled: Pooled
) -> None:
    """Once migrated a session has them, though the pooler refuses to carry any; others that were set stay."""
    if application_role is None:
        pytest.skip("the login of TEST_DATABASE_URL may not make roles")
    url = new_database()
    role = sql.Identifier(application_role)
    with psycopg.connect(as_owner(url), autocommit=True) as connection:
        database = sql.Identifier(connection.info.dbname)
        for expected in ("4s", "9s"):
            connection.execute(post_apply(application_role))
            with psycopg.connect(pooled(url, 1)) as service:
                assert (expected,) == service.execute("show statement_timeout").fetchone()
                assert ("2s",) == service.execute("show lock_timeout").fetchone()
            change = sql.SQL("alter role {} in database {} set statement_timeout = '9s'")
            connection.execute(change.format(role, database))


async def test_a_pause_is_waited_for_no_longer_than_the_time_out(
    new_database: NewDatabase, pooled: Pooled
) -> None:
    """PgBouncer's PAUSE holds statements back: each request ends in time, and service resumes at once."""
    url = pooled(new_database(), 3)
    settings = Settings(database_url=url, prepare_statements=False, pool_timeout=1, statement_timeout=0.8)
    async with talking_to(create_app(settings)) as client:
        ada = await make_user(client)
        task = await ada.creates()
        with psycopg.connect(make_conninfo(url, dbname="pgbouncer"), autocommit=True) as console:
            console.pgconn.exec_(b"PAUSE")
            began = time.monotonic()
            requests = [client.get(ada.path(task)) for _ in range(20)]
            requests += [client.patch(f"{ada.path(task)}/complete") for _ in range(20)]
            answers = [answer.status_code for answer in await asyncio.gather(*requests)]
            took = time.monotonic() - began
            console.pgconn.exec_(b"RESUME")
        print(f"{answers.count(503)} x 503 within {took:.2f} s")
        assert [503] * 40 == answers
        assert took < HEALING
        began = time.monotonic()
        assert task == (await client.get(ada.path(task))).json()
        assert time.monotonic() - began < HEALING


@pytest.mark.parametrize("prepare", [False, True])
async def test_statements_are_prepared_unless_the_setting_says_no(prepare: bool, settings: Settings) -> None:
    """Whether a session has prepared statements is what PREPARE_STATEMENTS decides."""
    app = create_app(msgspec.structs.replace(settings, pool_max_size=1, prepare_statements=prepare))
    prepared = Adhoc("select from pg_prepared_statements", (), tuple, repeatable=True)
    async with talking_to(app) as client:
        await make_user(client)
        assert prepare == bool(await app.state.queries.fetch_all(prepared))


@pytest.mark.parametrize(("prepare", "expected"), [("off", [201, 201]), ("on", [201, 500])])
def test_preparing_breaks_an_old_pooler(
    prepare: str, expected: list[int], new_database: NewDatabase, pooled: Pooled, tmp_path: Path
) -> None:
    """Two services on one server connection prepare under the same name, so one fails unless told not to."""
    url = pooled(new_database(), 1)
    if prepare == "on" and pgbouncer_version() >= (1, 21):
        pytest.skip("this PgBouncer keeps prepared statements apart: there is nothing to show")
    untimed = {"STATEMENT_TIMEOUT": "0", "LOCK_TIMEOUT": "0"}  # which the pooler would refuse
    variables = {"DATABASE_URL": url, "PREPARE_STATEMENTS": prepare, **untimed}
    with serving(tmp_path, **variables) as first, serving(tmp_path, **variables) as second:
        answers = [
            httpx.post(f"{service.url}/api/users", json={"email": f"{name}@example.org"}).status_code
            for service, name in ((first, "ada"), (second, "bob"))
        ]
    assert expected == answers
