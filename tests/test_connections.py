"""Shared connections are replaced, left and closed in time, and statements find one that answers."""

import asyncio
from contextlib import suppress
from unittest.mock import AsyncMock, Mock

import psycopg
import pytest
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from todo_api.postgres import connections, pipeline
from todo_api.postgres.connections import _Terminate
from todo_api.postgres.database import make_connections
from todo_api.postgres.pipeline import OverdueError, Pipeline, UnansweredError
from todo_api.settings import Settings

from .databases import waiting
from .executor import SESSIONS, Shared, opened
from .relay import Relay
from .waiting import eventually, wait_until


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that serves; most other tests run on asyncio's."""
    return "asyncio", {"use_uvloop": True}


async def no_session_is_left(database: Shared) -> None:
    """Wait for that, since the server takes a moment to notice an end."""

    async def happened() -> bool:
        return await database.sessions() == 0

    await eventually(happened)


@pytest.mark.parametrize(("asked", "opens"), [(0, 0), (1, 1), (3, 3), (9, 4)])
async def test_connections_are_opened_at_the_start(asked: int, opens: int, own_database: str) -> None:
    """As many as are asked for, but no more than ever; those open without a statement for them."""
    async with opened(own_database, size=4, at_once=asked) as database:

        async def all_are_open() -> bool:
            return await database.sessions() >= opens

        await eventually(all_are_open)
        await asyncio.sleep(0.1)
        assert opens == await database.sessions()


async def test_what_a_broken_connection_carried_is_unanswered(own_database: str) -> None:
    """All of it fails at once, and the next statement succeeds."""
    async with opened(own_database) as database:
        await database.warm()
        tasks = [asyncio.create_task(database.run("select pg_sleep(30)")) for _ in range(100)]
        await asyncio.sleep(0.1)
        await database.cut()
        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {UnansweredError} == {type(outcome) for outcome in outcomes}
        assert [(1,)] == await database.run("select 1")


async def test_connections_cut_while_idle_cost_no_statement(own_database: str) -> None:
    """They are noticed when they end, and replaced when there is a statement for them, not before."""
    async with opened(own_database, size=4) as database:
        for _ in range(2):
            await database.warm()
            await database.cut()
            await asyncio.sleep(0.3)
            assert 0 == await database.sessions()
            assert [[(1,)]] * 20 == await asyncio.gather(*(database.run("select 1") for _ in range(20)))


async def test_all_connections_cut_unnoticed_cost_no_repeatable_statement(own_database: str) -> None:
    """A statement that finds one of them broken is not sent to the next broken one."""
    async with opened(own_database, size=4) as database:
        await database.warm()
        with psycopg.connect(own_database, autocommit=True) as connection:  # meanwhile the loop stands still
            connection.execute(f"select pg_terminate_backend(pid, 5000) {SESSIONS}".encode())
        runs = [database.run("select 1", repeatable=True) for _ in range(20)]
        assert [[(1,)]] * 20 == await asyncio.gather(*runs)


async def test_a_broken_connection_is_noticed_when_it_is_looked_at(own_database: str) -> None:
    """The event loop need not have seen it."""
    async with opened(own_database, size=4) as database:
        await database.warm()
        with psycopg.connect(own_database, autocommit=True) as connection:  # meanwhile the loop stands still
            connection.execute(f"select pg_terminate_backend(pid, 5000) {SESSIONS}".encode())
        database.connections.check()
        assert [] == database.connections._pipelines


async def test_a_frozen_connection_is_left_in_bounded_time(own_database: str) -> None:
    """Its statements are overdue within the time-out, and another one takes its place."""
    async with (
        Relay(own_database).listening() as relay,
        opened(relay.url, size=1, timeout=0.4) as database,
    ):
        assert [(1,)] == await database.run("select 1")
        relay.break_all("stall")
        async with asyncio.timeout(60):
            with pytest.raises(OverdueError):
                await database.run("select 1")
            replaced = False
            while not replaced:
                with suppress(psycopg.OperationalError):
                    replaced = [(2,)] == await database.run("select 2")


async def test_a_connection_that_drains_is_replaced_at_once(
    own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement waits neither for its last answer nor until it is found slow."""
    monkeypatch.setattr(pipeline, "_PATIENCE", 60)
    async with opened(own_database, size=1) as database:
        await database.warm()
        slow = asyncio.create_task(database.run("select pg_sleep(1)"))
        await asyncio.sleep(0)
        database.connections.drain()
        assert [(1,)] == await database.run("select 1")
        assert not slow.done()
        await slow


async def test_more_than_the_queue_holds_is_refused(own_database: str) -> None:
    """Both when answers are awaited and when a connection is; what was accepted is not disturbed."""
    async with opened(own_database, max_queue=10) as database:
        for _ in range(2):  # the first time there is no connection yet
            tasks = [asyncio.create_task(database.run("select 1 from pg_sleep(0.05)")) for _ in range(50)]
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert {True, False} == {isinstance(outcome, TooManyRequests) for outcome in outcomes}
            assert 10 == outcomes.count([(1,)])


async def test_a_worker_takes_a_thousand_statements_at_a_time(own_database: str) -> None:
    """That is a tenth of a second's work. What comes on top is refused at once."""
    shared = make_connections(Settings(database_url=own_database))
    async with shared.opened(0):
        outcomes = await asyncio.gather(
            *(shared.first(shared.time() + 60) for _ in range(1100)), return_exceptions=True
        )
    assert 100 == sum(isinstance(outcome, TooManyRequests) for outcome in outcomes)


async def test_no_connection_in_time_is_a_pool_timeout(own_database: str) -> None:
    """A statement waits for half of its time, with a few attempts, and the error says why they failed."""
    async with Relay(own_database).listening() as relay, opened(relay.url, timeout=2) as database:
        relay.refuses = True
        async with asyncio.timeout(3):
            runs = [database.run("select 1") for _ in range(9)]
            outcomes = await asyncio.gather(*runs, return_exceptions=True)
        assert {PoolTimeout} == {type(outcome) for outcome in outcomes}
        assert "connection" in str(outcomes[0])
        assert 1 < relay.attempts_to_connect < 20
        assert database.connections._opening
        async with asyncio.timeout(20):
            await database.connections._opening  # it ends, as nobody waits any more
        relay.refuses = False
        await asyncio.sleep(0.3)
        assert [(1,)] == await database.run("select 1")


async def test_a_statement_behind_a_lock_is_overdue(own_database: str) -> None:
    """Its session is ended, so that it does not write once the lock is gone."""
    async with opened(own_database, timeout=0.8) as database:
        await database.run("create table things (id int)")
        await database.warm()
        async with await psycopg.AsyncConnection.connect(own_database) as other:
            await other.execute("lock table things")
            with pytest.raises(OverdueError):
                await database.run("insert into things values (1)")
        assert [] == await database.run("select id from things")


async def test_what_is_sent_behind_an_overdue_statement_is_not_executed(own_database: str) -> None:
    """The server has read it, and would begin it if only the statement before it were cancelled."""
    async with opened(own_database, size=1, timeout=0.8) as database:
        await database.run("create table things (id int)")
        await database.run("create table others (id int)")
        async with await psycopg.AsyncConnection.connect(own_database) as other:
            await other.execute("lock table things")
            runs = [database.run("select id from things"), database.run("insert into others values (1)")]
            outcomes = await asyncio.gather(*runs, return_exceptions=True)
            assert [OverdueError, UnansweredError] == [type(outcome) for outcome in outcomes]
        assert [] == await database.run("select id from others")


@pytest.mark.parametrize("how", ["terminated", "cancelled"])
async def test_an_overdue_statement_does_not_wait_on(
    how: str, own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is terminated, or, as behind a pooler, where its process is another, it is cancelled."""
    cancel = AsyncMock()
    if how == "terminated":
        monkeypatch.setattr(psycopg.AsyncConnection, "cancel_safe", cancel)
    else:
        monkeypatch.setattr(_Terminate, "positional", b"select $1::int")
    async with opened(own_database, size=1, timeout=4) as database:
        await database.run("create table things (id int)")
        async with await psycopg.AsyncConnection.connect(own_database) as other:
            await other.execute("lock table things")
            with pytest.raises(OverdueError):
                async with asyncio.timeout(4.3):
                    await database.run("insert into things values (1)")
            await asyncio.to_thread(wait_until, lambda: waiting(own_database) == 0)
        assert [] == await database.run("select id from things")
    cancel.assert_not_called()


async def test_a_server_that_does_not_react_is_left_in_time(own_database: str) -> None:
    """Where not even a session opens that is to end the other one, or to cancel its statement."""
    async with (
        Relay(own_database).listening() as relay,
        asyncio.timeout(10),
        opened(relay.url, size=1, timeout=0.4) as database,
    ):
        assert [(1,)] == await database.run("select 1")
        relay.break_all("stall")
        relay.is_silent = True
        with pytest.raises(OverdueError):
            await database.run("select 1")


async def test_closing_waits_for_answers_and_leaves_no_session(own_database: str) -> None:
    """What was sent is answered, what comes later is refused."""
    async with opened(own_database) as database:
        await database.warm()
        last = asyncio.create_task(database.run("select 1 from pg_sleep(0.1)"))
        await asyncio.sleep(0)
    assert last.done() and [(1,)] == last.result()
    with pytest.raises(PoolClosed):
        await database.run("select 1")
    await no_session_is_left(database)


async def test_closing_ends_an_attempt_to_connect(own_database: str) -> None:
    """Nobody would close the connection."""
    async with opened(own_database, at_once=1) as database:
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    await no_session_is_left(database)


async def test_nobody_waits_in_the_queue_of_the_pool(own_database: str) -> None:
    """After an outage the pool lets more and more time pass between its attempts to connect for it."""
    async with opened(own_database, size=1) as database:
        await database.warm()
        slow = asyncio.create_task(database.run("select pg_sleep(1)"))
        await asyncio.sleep(0)
        database.connections.drain()
        await database.warm()
        slower = asyncio.create_task(database.run("select pg_sleep(1.5)"))
        await asyncio.sleep(0)
        database.connections.drain()
        assert [(1,)] == await database.run("select 1")  # when one of the two that are allowed is closed
        await asyncio.gather(slow, slower)
        for one in tuple(database.connections._pipelines):
            one.close("here")
        assert [(1,)] == await database.run("select 1")  # when the pool has got one back
        assert 0 == database.connections.statistics().get("requests_queued", 0)


async def test_a_connection_that_cannot_be_used_is_given_back(
    own_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the pool would count it for ever."""
    made = Mock(side_effect=[OSError("no files"), OSError("no files"), TimeoutError(), Pipeline])
    monkeypatch.setattr(connections, "Pipeline", lambda *args, **kwargs: made()(*args, **kwargs))
    async with opened(own_database, size=1) as database:
        assert [(1,)] == await database.run("select 1")
    said = "Cannot connect to the database:"
    assert [f"{said} no files", f"{said} TimeoutError"] == caplog.messages


async def test_each_outage_is_logged_once(own_database: str, caplog: pytest.LogCaptureFixture) -> None:
    """However many attempts to connect there are."""
    async with Relay(own_database).listening() as relay, opened(relay.url, size=1, timeout=1) as database:
        for outages in (1, 2):
            assert [(1,)] == await database.run("select 1")
            relay.refuses = True
            relay.break_all("reset")
            await asyncio.sleep(0.1)
            with pytest.raises(PoolTimeout):
                await database.run("select 1")
            relay.refuses = False
            assert outages == len(caplog.messages)
    assert all(text.startswith("Cannot connect to the database: connection ") for text in caplog.messages)


async def test_connections_do_not_end_all_at_once(own_database: str) -> None:
    """The lifetime of each is a little shorter than the limit."""
    async with opened(own_database, size=4, max_lifetime=1000) as database:
        await database.warm()
        ends = [one._expiry.when() for one in database.connections._pipelines]
        assert max(ends) - min(ends) > 1
        left = [moment - database.connections.time() for moment in ends]
        assert 890 < min(left) < max(left) < 1000


async def test_connections_are_renewed_at_the_end_of_their_life(own_database: str) -> None:
    """The pool's `max_lifetime` holds, and costs no statement."""
    async with opened(own_database, timeout=1, max_lifetime=0.3) as database:
        pids = set()
        for _ in range(60):
            pids |= {*await database.run("select pg_backend_pid()")}
            await asyncio.sleep(0.02)
        assert 2 < len(pids)
