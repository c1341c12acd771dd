"""Connections whose oldest statement is slow get no more, and what waits behind it is run elsewhere."""

import asyncio
from unittest.mock import create_autospec

import psycopg
import pytest

from todo_api.postgres import pipeline
from todo_api.postgres.pipeline import OverdueError

from .executor import opened


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that serves; most other tests run on asyncio's."""
    return "asyncio", {"use_uvloop": True}


async def test_a_stalled_connection_takes_no_new_statements(own_database: str) -> None:
    """While one waits for a lock, hundreds of others are answered at once on the other connection."""
    async with opened(own_database, timeout=60) as database:
        await database.run("create table things (id int)")
        await database.warm()
        async with await psycopg.AsyncConnection.connect(own_database) as other:
            await other.execute("lock table things")
            stuck = asyncio.create_task(database.run("select id from things"))
            await asyncio.sleep(0.1)
            async with asyncio.timeout(30):
                assert [[(1,)]] * 300 == await asyncio.gather(*(database.run("select 1") for _ in range(300)))
            assert not stuck.done()
        assert [] == await stuck


async def test_the_time_of_a_statement_begins_when_the_one_before_is_answered(own_database: str) -> None:
    """A connection that answers is not stalled, however many statements it still has to answer."""
    async with opened(own_database, size=1) as database:
        await database.warm()
        first, second = (asyncio.create_task(database.run("select pg_sleep(0.5)")) for _ in range(2))
        await asyncio.sleep(0.02)
        [shared] = database.connections._pipelines
        sent = shared.head_since
        shared.read()  # there is nothing yet
        assert sent == shared.head_since
        await first
        assert sent + 0.5 <= shared.head_since <= database.connections.time()
        await second


async def test_a_connection_that_was_idle_for_long_is_not_stalled(own_database: str) -> None:
    """It gets the next statement, rather than one that has answered lately and is busy."""
    async with opened(own_database) as database:
        await database.warm()
        await asyncio.sleep(0.2)
        slow = asyncio.create_task(database.run("select pg_sleep(1)"))
        await asyncio.sleep(0)
        assert [(1,)] == await database.run("select 1")
        assert not slow.done()
        await slow


async def test_a_read_does_not_wait_for_a_lock_of_others(own_database: str) -> None:
    """Even if statements that wait hold every connection: reads move to another, which the pool has spare."""
    async with opened(own_database, timeout=60) as database:
        await database.run("create table things (id int)")
        await database.warm()
        async with await psycopg.AsyncConnection.connect(own_database) as other:
            await other.execute("lock table things")
            runs = [database.run("insert into things values (1)") for _ in range(8)]
            stuck = [asyncio.create_task(run) for run in runs]
            await asyncio.sleep(0)
            reads = [database.run("select 1", repeatable=True) for _ in range(20)]
            async with asyncio.timeout(30):
                assert [[(1,)]] * 20 == await asyncio.gather(*reads)
        await asyncio.gather(*stuck)
        assert 8 == len(await database.run("select id from things"))


async def test_a_read_moves_to_a_connection_that_is_busy(own_database: str) -> None:
    """It has to answer, but it need not be idle."""
    async with opened(own_database, spare=0, timeout=60) as database:
        await database.run("create table things (id int)")
        await database.warm()

        async def keep_busy() -> None:
            while not over.is_set():
                await database.run("select pg_sleep(0.01)")

        over = asyncio.Event()
        async with await psycopg.AsyncConnection.connect(own_database) as other, asyncio.TaskGroup() as busy:
            await other.execute("lock table things")
            stuck = busy.create_task(database.run("insert into things values (1)"))
            for _ in range(4):
                busy.create_task(keep_busy())
            await asyncio.sleep(0)
            reads = [database.run("select 1", repeatable=True) for _ in range(20)]
            async with asyncio.timeout(20):
                assert [[(1,)]] * 20 == await asyncio.gather(*reads)
            assert not stuck.done()
            over.set()
            await other.rollback()


async def test_a_read_does_not_move_to_where_no_statement_can(own_database: str) -> None:
    """A connection that drains answers, but takes nothing new. When it is closed, there may be another."""
    async with opened(own_database, size=1, timeout=60) as database:
        await database.run("create table things (id int)")
        last = [asyncio.create_task(database.run("select pg_sleep(0.01)")) for _ in range(100)]
        await asyncio.sleep(0)
        database.connections.drain()
        async with await psycopg.AsyncConnection.connect(own_database) as other:
            await other.execute("lock table things")
            stuck = asyncio.create_task(database.run("insert into things values (1)"))
            await asyncio.sleep(0)
            async with asyncio.timeout(20):
                assert [(1,)] == await database.run("select 1", repeatable=True)
            assert not stuck.done()
        await asyncio.gather(stuck, *last)


async def test_a_read_leaves_a_slow_statement_at_the_second_look(
    own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look opens a connection for it. It does not wait for the slow one's end."""
    look = create_autospec(pipeline.Pipeline._ring, side_effect=pipeline.Pipeline._ring)
    monkeypatch.setattr(pipeline.Pipeline, "_ring", look)
    monkeypatch.setattr(pipeline, "_PATIENCE", 0.5)
    async with opened(own_database, size=1) as database:
        await database.warm()
        slow = asyncio.create_task(database.run("select pg_sleep(1.5)"))
        await asyncio.sleep(0)
        assert [(1,)] == await database.run("select 1", repeatable=True)
        assert not slow.done()
        await slow
    assert look.call_count < 20


async def test_who_waited_behind_an_overdue_statement_is_answered(own_database: str) -> None:
    """When its session is ended, only that statement fails: a read behind it is repeated elsewhere."""
    async with opened(own_database, size=1, timeout=2) as database:
        await database.run("create table things (id int)")
        async with await psycopg.AsyncConnection.connect(own_database) as other:
            await other.execute("lock table things")
            stuck = asyncio.create_task(database.run("select id from things"))
            await asyncio.sleep(0)
            assert [[(1,)]] * 20 == await asyncio.gather(
                *(database.run("select 1", repeatable=True) for _ in range(20))
            )
            with pytest.raises(OverdueError):
                await stuck
