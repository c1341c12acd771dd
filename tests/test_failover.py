"""A pair of servers, of which the primary fails under load: the service finds the other by itself.

Replication is synchronous, so that what the primary acknowledged its standby has. The figures are printed:
``pytest -rP tests/test_failover.py``.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from signal import SIGKILL, SIGSTOP, Signals
from uuid import uuid4

import psycopg
import pytest

from todo_api.app import create_app
from todo_api.postgres import migrations
from todo_api.settings import Settings

from .conftest import User, assert_problem, make_user, talking_to
from .engines import Server, pair, urls

WRITERS = 8
# Seconds in which every request must be answered, one way or the other; the pool waits five.
ANSWERED = 15.0


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """A primary with the current schema and its standby."""
    with pair() as (primary, standby):
        migrations.apply(urls(primary, standby), lambda _: None)
        yield primary, standby


class Load:
    """Writers who note what becomes of each task."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.acknowledged: dict[str, float] = {}
        self.answers: Counter[int] = Counter()
        self.longest = 0.0
        self.over = False

    async def write(self) -> None:
        """Create one task after the other, each with a title of its own."""
        while not self.over:
            title, start = uuid4().hex, time.monotonic()
            async with asyncio.timeout(ANSWERED):
                response = await self.user.client.post(self.user.tasks, json={"title": title})
            now = time.monotonic()
            self.longest = max(self.longest, now - start)
            self.answers[response.status_code] += 1
            if response.status_code == 201:
                self.acknowledged[title] = now
            else:
                assert_problem(response, 503, "unavailable")
                assert response.headers["retry-after"]
                await asyncio.sleep(0.1)

    def since(self, moment: float) -> list[float]:
        """When tasks were acknowledged after a moment, in order."""
        return [at for at in self.acknowledged.values() if at > moment]


@pytest.mark.parametrize(("how", "bound"), [(SIGKILL, 15.0), (SIGSTOP, 40.0)], ids=["killed", "frozen"])
async def test_no_acknowledged_write_is_lost(
    servers: tuple[Server, Server], how: Signals, bound: float
) -> None:
    """The primary dies or freezes: 503 until the standby is promoted, which has all that was acknowledged."""
    primary, standby = servers
    async with talking_to(create_app(Settings(database_url=urls(primary, standby)))) as client:
        load = Load(await make_user(client))
        async with asyncio.TaskGroup() as writers:
            for _ in range(WRITERS):
                writers.create_task(load.write())
            await asyncio.sleep(1)
            failed = time.monotonic()
            await asyncio.to_thread(primary.signal, how)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(standby.promote)
            promoted = time.monotonic()
            while len(load.since(promoted)) < 100:
                assert time.monotonic() - promoted < bound, "the service did not come back"
                await asyncio.sleep(0.05)
            load.over = True
    with psycopg.connect(standby.url) as connection:
        stored = {title for (title,) in connection.execute("select title from tasks")}
    assert set() == load.acknowledged.keys() - stored
    assert load.acknowledged and {201, 503} >= load.answers.keys()
    last, first = max(at for at in load.acknowledged.values() if at <= failed), min(load.since(promoted))
    print(
        f"{how.name}: outage {first - last:.2f} s, of which {first - promoted:.2f} s after promotion; "
        f"answers {dict(load.answers)}, the slowest after {load.longest:.2f} s; "
        f"acknowledged {len(load.acknowledged)}, stored {len(stored)}"
    )


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
        deadline = time.monotonic() + ANSWERED
        path = ada.tasks if method == "POST" else "/health/ready"
        while (response := await client.request(method, path, json={"title": "after"})).status_code > 201:
            assert_problem(response, 503, "unavailable")
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        if method == "GET":
            await ada.creates("after")
        assert ["after", "before"] == [task["title"] for task in await ada.lists()]
