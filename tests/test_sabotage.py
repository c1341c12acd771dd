"""A connection breaks at every step of its life: the next statement works, and nothing is left behind."""

import asyncio
import gc
import operator
import random
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import psutil
import psycopg
import pytest

from todo_api.postgres.pipeline import Pipeline

from .databases import NewDatabase
from .executor import Shared, opened
from .relay import ACTS, STEPS, Relay
from .waiting import HEALING

OPENING = STEPS[:2]  # which a new connection goes through
INSERT = "insert into things values ($1::int) returning id"


@pytest.fixture(scope="module")
def own_database(empty_database: NewDatabase) -> Iterator[str]:
    """A database of this module's own. What is in memory by now need not be looked through each time."""
    gc.freeze()
    yield empty_database()
    gc.unfreeze()


@pytest.fixture
def database_url(own_database: str) -> str:
    """The same, with a table for things and nothing in it."""
    with psycopg.connect(own_database) as connection:
        connection.execute("drop table if exists things")
        connection.execute("create table things (id int)")
    return own_database


class Footprint(NamedTuple):
    """What the process holds."""

    descriptors: int
    readers: int
    tasks: int
    pipelines: int
    pending_futures: int


def footprint() -> Footprint:
    """Count it. uvloop does not tell its readers; each has a descriptor, which is counted.

    A future that a task awaits goes with its task: the tests' shared application has one that changes.
    """
    gc.collect()
    selector = getattr(asyncio.get_running_loop(), "_selector", None)
    objects = gc.get_objects()
    awaited = {id(getattr(task, "_fut_waiter", None)) for task in asyncio.all_tasks()}
    futures = [each for each in objects if isinstance(each, asyncio.Future) and id(each) not in awaited]
    return Footprint(
        psutil.Process().num_fds(),
        len(selector.get_map()) if selector else 0,
        len(asyncio.all_tasks()),
        sum(type(each) is Pipeline for each in objects),
        sum(not each.done() for each in futures),
    )


async def assert_nothing_is_left(before: Footprint) -> None:
    """The process holds no more than before, once what is on its way has ended."""
    for _ in range(50):
        await asyncio.sleep(0.04)
        if all(map(operator.le, after := footprint(), before)):
            return
    assert before == after


async def works(database: Shared) -> None:
    """The first statement from now on is answered in time."""
    began = time.monotonic()
    assert [(1,)] == await database.run("select 1", repeatable=True)
    assert time.monotonic() - began < HEALING


async def attempt(database: Shared, number: int) -> bool:
    """Insert a row: True if that is acknowledged, False if it may have failed. Nothing else can happen."""
    try:
        return [(number,)] == await database.run(INSERT, number)
    except psycopg.OperationalError:
        return False


async def assert_written_as_told(database: Shared, told: dict[int, bool]) -> None:
    """What was acknowledged is there once, anything else once at most."""
    rows = [number for (number,) in await database.admin("select id from things")]
    assert len(rows) == len(set(rows))
    assert {number for number, acknowledged in told.items() if acknowledged} <= set(rows) <= told.keys()


def drained(database: Shared) -> None:
    """What happens when the primary becomes read-only, or at the end of a connection's life."""
    database.connections.drain()


# The end of a stream looks different to each loop; draining differs once there are statements.
CASES = [
    *(("asyncio", None, step, act) for step in STEPS for act in ACTS),
    *((("asyncio", {"use_uvloop": True}), None, step, act) for step in STEPS for act in ACTS[:2]),
    *(("asyncio", drained, step, act) for step in ("statement", "half an answer") for act in ACTS),
]


@pytest.mark.parametrize(("anyio_backend", "meanwhile", "step", "act"), CASES)
async def test_the_next_statement_works(
    step: str, act: str, meanwhile: Callable[[Shared], None] | None, database_url: str
) -> None:
    """Whatever happens to a connection, at whichever step of its life."""
    async with Relay(database_url).listening() as relay:
        before = footprint()
        async with opened(relay.url, size=1, timeout=4 if step in OPENING else 1) as database:
            if step not in OPENING:
                await works(database)
            relay.step, relay.act = step, act
            writing = asyncio.create_task(attempt(database, 1))
            await asyncio.sleep(0.005)
            if meanwhile:
                meanwhile(database)
            told = {1: await writing}
            await works(database)
            assert "" == relay.step, "the connection never came to this step"
        relay.break_all("reset")
        await assert_nothing_is_left(before)
        await assert_written_as_told(Shared(database.database, database.connections, database_url, 1), told)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("step", STEPS)
async def test_closing_ends(step: str, act: str, database_url: str) -> None:
    """The set closes in bounded time and leaves nothing, whatever the last statement's connection does."""
    async with Relay(database_url).listening() as relay:
        before = footprint()
        async with opened(relay.url, size=1, timeout=4 if step in OPENING else 1) as database:
            if step not in OPENING:
                await works(database)
            relay.step, relay.act = step, act
            writing = asyncio.create_task(attempt(database, 1))
            await asyncio.sleep(0.005)
            began = time.monotonic()
        assert time.monotonic() - began < HEALING
        await writing
        relay.break_all("reset")
        await assert_nothing_is_left(before)


@pytest.mark.parametrize("act", ["refuse", *ACTS])
async def test_all_connections_break_at_once(act: str, database_url: str) -> None:
    """While statements are on their way, and for a while no new connection is to be had."""
    async with Relay(database_url).listening() as relay:
        before = footprint()
        async with opened(relay.url, size=4, timeout=1) as database:
            await database.warm()
            writing = [asyncio.create_task(attempt(database, number)) for number in range(200)]
            await asyncio.sleep(0.002)
            relay.refuses = act == "refuse"
            relay.break_all("reset" if act == "refuse" else act)
            told = dict(enumerate(await asyncio.gather(*writing)))
            relay.refuses = False
            await works(database)
        relay.break_all("reset")
        await assert_nothing_is_left(before)
        await assert_written_as_told(Shared(database.database, database.connections, database_url, 1), told)


async def test_many_faults_leave_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets, readers, tasks and futures are as many as before, and each write is there as was told."""
    monkeypatch.setattr("todo_api.postgres.connections._PAUSE", 0.005)
    chance, told, faults = random.Random(1), dict[int, bool](), 0
    async with Relay(database_url).listening() as relay, opened(relay.url, timeout=5) as database:
        await database.warm()
        before = footprint()
        while faults < 300:
            relay.act = chance.choice(ACTS[:2])
            if chance.random() < 0.1:
                relay.break_all(relay.act)
            else:
                relay.step = chance.choice(STEPS)
            numbers = range(len(told), len(told) + chance.randrange(1, 4))
            told |= zip(numbers, await asyncio.gather(*(attempt(database, n) for n in numbers)), strict=True)
            faults += not relay.step
        relay.step = ""
        await works(database)
        await database.warm()
        await assert_nothing_is_left(before)
    await assert_written_as_told(Shared(database.database, database.connections, database_url, 1), told)
    print(f"{faults} faults, {len(told)} writes, {sum(told.values())} acknowledged; {before} before")


async def test_cancelled_callers_leave_nothing(database_url: str) -> None:
    """Neither while they wait for a connection nor for an answer."""

    async def call_and_cancel(database: Shared, pause: float) -> None:
        """A function, since the errors of the last callers would keep their connections alive."""
        runs = [asyncio.create_task(database.run("select pg_sleep(0.001)")) for _ in range(10)]
        await asyncio.sleep(pause)
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    async with Relay(database_url).listening() as relay, opened(relay.url) as database:
        await database.warm()
        before = footprint()
        for round_ in range(50):
            if round_ % 2:
                relay.break_all("reset")
            await call_and_cancel(database, 0.001 * (round_ % 5))
        await database.warm()
        await assert_nothing_is_left(before)
