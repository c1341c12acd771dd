"""A pair of servers, of which the primary fails under load: the service finds the other by itself.

Replication is synchronous, so that what the primary acknowledged its standby has. The figures are printed:
``pytest -rP tests/test_failover.py``.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL, SIGSTOP, Signals

import psycopg
import pytest

from todo_api.app import create_app
from todo_api.postgres import migrations
from todo_api.settings import Settings

from .api import assert_problem, make_user, talking_to
from .engines import Server, pair, urls
from .load import Load
from .service import serving
from .waiting import eventually

# Seconds in which every request must be answered, one way or the other; the pool waits five.
ANSWERED = 15.0


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """A primary with the current schema and its standby."""
    with pair() as (primary, standby):
        migrations.apply(urls(primary, standby), lambda _: None)
        yield primary, standby


@pytest.mark.parametrize("how", [SIGKILL, SIGSTOP], ids=["killed", "frozen"])
def test_no_acknowledged_write_is_lost(servers: tuple[Server, Server], how: Signals, tmp_path: Path) -> None:
    """The primary dies or freezes: 503 until the standby is promoted, which has all that was acknowledged."""
    primary, standby = servers
    variables = {"DATABASE_URL": urls(primary, standby), "POOL_TIMEOUT": "3", "STATEMENT_TIMEOUT": "2"}
    with serving(tmp_path, **variables) as service, Load(service.url) as load:
        load.goes_on()
        primary.signal(how)
        time.sleep(0.5)
        standby.promote()
        load.goes_on()
    assert {201, 503} >= load.answers.keys()
    assert load.longest < ANSWERED
    load.assert_nothing_lost(standby.url)


@pytest.mark.parametrize("method", ["POST", "GET"], ids=["by a write", "by the probe alone"])
async def test_a_primary_that_takes_no_more_writes_is_left(
    method: str, servers: tuple[Server, Server]
) -> None:
    """Connections to a server that has become read-only are given up, and the new primary is found.

    A load balancer sends nothing but probes to a service that is not ready: they have to suffice.
    """
    primary, standby = servers
    async with talking_to(create_app(Settings(database_url=urls(primary, standby)))) as client:
        ada = await make_user(client)
        await ada.creates("before")
        with psycopg.connect(primary.url, autocommit=True) as connection:
            connection.execute("alter system set default_transaction_read_only = on")
            connection.execute("select pg_reload_conf()")
        await asyncio.to_thread(standby.promote)
        path = ada.tasks if method == "POST" else "/health/ready"

        async def healed() -> bool:
            response = await client.request(method, path, json={"title": "after"})
            return response.is_success or not assert_problem(response, 503, "unavailable")

        await eventually(healed)
        if method == "GET":
            await ada.creates("after")
        assert ["after", "before"] == [task["title"] for task in await ada.lists()]
