"""Statements that share connections do not share anything else."""

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone
from unittest.mock import AsyncMock, Mock, create_autospec
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import OperationalError
from psycopg.conninfo import make_conninfo
from psycopg_pool import PoolTimeout

from todo_api.postgres.connections import Connections
from todo_api.postgres.pipeline import OverdueError, Pipeline, UnansweredError

from .executor import opened
from .relay import Relay


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that serves; most other tests run on asyncio's."""
    return "asyncio", {"use_uvloop": True}


async def test_values_go_out_and_rows_come_back_as_python_objects(own_database: str) -> None:
    """Every type goes both ways, whatever the session's time zone and date style."""
    key, moment = uuid4(), datetime(2024, 7, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))
    strange = make_conninfo(own_database, options="-c timezone=Asia/Kathmandu -c datestyle=German")
    async with opened(strange) as database:
        [row] = await database.run(
            "select $1::uuid, $2::text, $3::boolean, $4::bigint, $5::timestamptz, $6::text,"
            " $7::bytea = '\\x00275c'::bytea, ($8::timestamptz[])[2]",
            key, "naïve ' \\ %s", True, 2**40, moment, None, b"\x00'\\", [moment, moment + timedelta(days=1)],
        )  # fmt: skip
    assert (key, "naïve ' \\ %s", True, 2**40, moment, None, True, moment + timedelta(days=1)) == row
    assert type(row[0]) is UUID
    assert row[4].tzinfo is UTC


async def test_each_row_is_made_by_the_callers_function(own_database: str) -> None:
    """`make_row` gets each row's values; no rows make an empty list, and so does a statement without."""
    async with opened(own_database) as database:
        numbers = "select n, -n from generate_series(1, $1::int) n"
        assert [0, 0, 0] == await database.run(numbers, 3, row=sum)
        assert [] == await database.run(numbers, 0, row=sum)
        assert [] == await database.run("create table things (id int)")


async def test_errors_slowness_and_cancellation_stay_their_own(own_database: str) -> None:
    """Among hundreds of statements each gets its own answer, whatever becomes of its neighbours."""
    errors = psycopg.errors
    url = make_conninfo(own_database, options="-c statement_timeout=200ms")
    async with opened(url) as database:
        await database.run("create table things (id int primary key)")
        await database.run("insert into things values (0)")
        kinds: list[tuple[str, type[BaseException] | None]] = [
            ("select $1::int", None),
            ("insert into things values ($1) returning id", None),
            ("insert into things values ($1 * 0) returning id", errors.UniqueViolation),
            ("select 1 / ($1::int * 0)", errors.DivisionByZero),
            ("select $1::int from pg_sleep(0.002)", None),
            ("select id from nowhere where id = $1", errors.UndefinedTable),
            ("select $1::int, pg_sleep(0.001)", asyncio.CancelledError),
            ("insert into things values ($1::int) returning id", None),
        ]
        cases = [(*kinds[n % len(kinds)], n) for n in range(1, 801)]
        cases[333] = ("select $1::int from pg_sleep(60)", errors.QueryCanceled, 333)
        tasks = [asyncio.create_task(database.run(sql, n)) for sql, _, n in cases]
        await asyncio.sleep(0)  # all are sent, none is answered
        for task, (_, expected, _) in zip(tasks, cases, strict=True):
            if expected is asyncio.CancelledError:
                task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome, (_, expected, n) in zip(outcomes, cases, strict=True):
            assert outcome == [(n,)] if expected is None else type(outcome) is expected, (
                outcome,
                expected,
                n,
            )
        inserted = [(n,) for sql, expected, n in cases if sql.startswith("insert") and not expected]
        assert [(0,), *inserted] == await database.run("select id from things order by id")


async def test_a_cancelled_statement_runs_on_and_its_answer_is_dropped(own_database: str) -> None:
    """Those behind it get their own answers; what it wrote is written."""
    async with opened(own_database, size=1) as database:
        await database.run("create table things (id int)")
        left = asyncio.create_task(database.run("insert into things select 1 from pg_sleep(1) returning id"))
        await asyncio.sleep(0.05)
        left.cancel()
        assert [(2,)] == await database.run("select 2")
        assert left.cancelled()
        assert [(1,)] == await database.run("select id from things")


async def test_errors_are_what_a_cursor_would_raise(own_database: str) -> None:
    """Class, SQLSTATE, message and constraint are the same."""
    sql = "insert into things values (1)"
    async with opened(own_database) as database:
        await database.run("create table things (id int constraint things_positive check (id < 0))")
        with pytest.raises(psycopg.errors.CheckViolation) as shared:
            await database.run(sql)
        with pytest.raises(psycopg.errors.CheckViolation) as alone:
            await database.admin(sql)
        assert str(alone.value) == str(shared.value)
        assert "things_positive" == shared.value.diag.constraint_name
        assert alone.value.sqlstate == shared.value.diag.sqlstate


async def test_a_commit_that_fails_fails_its_statement(own_database: str) -> None:
    """A deferred constraint speaks up after the rows: the caller gets the error and not the rows."""
    async with opened(own_database, size=1) as database:
        await database.run("create table things (id int unique deferrable initially deferred)")
        insert = "insert into things values ($1) returning id"
        outcomes = await asyncio.gather(*(database.run(insert, n) for n in (1, 1, 2)), return_exceptions=True)
        assert [[(1,)], [(2,)]] == outcomes[::2]
        assert isinstance(outcomes[1], psycopg.errors.UniqueViolation)
        assert [(1,), (2,)] == await database.run("select id from things order by id")


async def test_what_may_be_repeated_is_repeated_once(own_database: str) -> None:
    """A statement that ends its own session is sent twice if it is repeatable, and else once."""
    async with opened(own_database, size=1) as database:
        await database.run("create sequence attempts")
        suicide = "select pg_terminate_backend(pg_backend_pid()) where nextval('attempts') > 0"
        for repeatable, attempts in ((False, 1), (True, 3)):
            with pytest.raises(UnansweredError):
                await database.run(suicide, repeatable=repeatable)
            assert [(attempts,)] == await database.run("select last_value from attempts")


async def test_a_repetition_stays_where_it_is(own_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it moved from behind a slow statement, as the first attempt may, it would fail.

    Before it, the other connections are looked at: they may be broken, too.
    """
    send, check = AsyncMock(side_effect=UnansweredError), Mock()
    monkeypatch.setattr(Pipeline, "send", send)
    monkeypatch.setattr(Connections, "check", check)
    async with opened(own_database, size=1) as database:
        with pytest.raises(UnansweredError):
            await database.run("select 1", repeatable=True)
    assert [True, False] == [call.kwargs["movable"] for call in send.await_args_list]
    check.assert_called_once()


async def test_what_is_overdue_is_not_repeated(own_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is over."""
    monkeypatch.setattr(Pipeline, "send", AsyncMock(side_effect=[OverdueError, UnansweredError]))
    async with opened(own_database, size=1) as database:
        with pytest.raises(OverdueError):
            await database.run("select 1", repeatable=True)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [("08006", 2), ("55P03", 1), ("57014", 1), ("53300", 1), ("40P01", 1), ("23505", 1), ("25006", 1)],
)
async def test_what_is_too_slow_or_too_busy_is_not_repeated(
    error: str, attempts: int, own_database: str
) -> None:
    """Only a connection that was lost is a reason to run a repeatable statement once more."""
    async with opened(own_database) as database:
        await database.run("create sequence attempts")
        await database.run(
            "create function fail() returns int language plpgsql as"
            f" 'begin perform nextval(''attempts''); raise sqlstate ''{error}''; end'"
        )
        with pytest.raises(psycopg.Error) as raised:
            await database.run("select fail()", repeatable=True)
        assert error == raised.value.sqlstate
        assert [(attempts,)] == await database.run("select last_value from attempts")


async def test_one_time_out_bounds_all_waits_of_a_statement(own_database: str) -> None:
    """Waiting for an answer, ending the session and the repetition share it."""
    async with Relay(own_database).listening() as relay, opened(relay.url, timeout=2) as database:
        await database.warm()
        relay.refuses = True
        relay.break_all("stall")
        began = asyncio.get_running_loop().time()
        runs = [database.run("select 1", repeatable=True) for _ in range(20)]
        outcomes = await asyncio.gather(*runs, return_exceptions=True)
        assert {OverdueError, PoolTimeout} >= {type(outcome) for outcome in outcomes}
        assert asyncio.get_running_loop().time() - began < 2.6


async def test_an_answer_that_a_flush_has_read_is_handed_out(own_database: str) -> None:
    """Where it finds no room to send, libpq reads, and the event loop does not see that an answer came."""
    async with opened(own_database, size=1, timeout=60) as database:
        await database.run("select 1")
        [shared] = database.connections._pipelines
        answer = asyncio.create_task(database.run("select 2"))
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251 (the loop must not see it first)
        shared.connection.pgconn.consume_input()
        shared._write()
        async with asyncio.timeout(20):
            assert [(2,)] == await answer


async def test_a_connection_that_sends_nothing_more_is_closed(own_database: str) -> None:
    """Both if that is noticed as a statement is to be sent, and as its rest is."""
    async with opened(own_database, size=1) as database:
        for failing in ("pipeline_sync", "flush"):
            await database.run("select 1")
            [shared] = database.connections._pipelines
            shared._pgconn = Mock(wraps=shared._pgconn, **{f"{failing}.side_effect": OperationalError})
            if failing == "flush":
                shared._write()
            else:
                with pytest.raises(UnansweredError):
                    await database.run("select 1")
            assert "closed" == shared.state


async def test_large_statements_and_answers_flow_both_ways(
    own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far more than the buffers between hold, alone and in both directions at once."""
    text = "x" * 300_000
    write = create_autospec(Pipeline._write, side_effect=Pipeline._write)
    monkeypatch.setattr(Pipeline, "_write", write)
    async with opened(own_database) as database:
        assert [(30_000_000,)] == await database.run("select length($1)", text * 100)
        echoes = await asyncio.gather(*(database.run("select $1::text", text) for _ in range(100)))
        assert [[(text,)]] * 100 == echoes
        written = write.call_count
        await asyncio.sleep(0.1)
        assert 0 < written == write.call_count  # there is no more to write


async def test_a_connection_that_is_closed_has_nothing_to_write(own_database: str) -> None:
    """However much it had."""
    async with opened(own_database, size=1) as database:
        await database.run("select 1")
        [shared] = database.connections._pipelines
        large = asyncio.create_task(database.run("select length($1)", "x" * 30_000_000))
        await asyncio.sleep(0)
        shared.close("here")
        with pytest.raises(UnansweredError):
            await large
        assert not asyncio.get_running_loop().remove_writer(shared._socket)


async def test_a_statement_is_prepared_once_in_each_connection(own_database: str) -> None:
    """However many of it run at once; not at all where statements are not to be prepared."""
    listing = "select statement from pg_prepared_statements"
    async with opened(own_database, size=1) as database:
        await asyncio.gather(*(database.run("select $1::int", n) for n in range(50)))
        assert [("select $1::int",), (listing,)] == sorted(await database.run(listing))
    async with opened(own_database, size=1, prepare=False) as database:
        await asyncio.gather(*(database.run("select $1::int", n) for n in range(50)))
        assert [] == await database.run(listing)


async def test_statements_outlive_a_change_of_plan(own_database: str) -> None:
    """A column of another type and a session that forgot what it prepared are noticed by no one."""
    async with opened(own_database) as database:
        await database.run("create table things as select 7 as id")
        for change in ("select", "alter table things alter id type text", "deallocate all"):
            await asyncio.gather(*(database.run(change) for _ in range(2)))
            rows = await asyncio.gather(*(database.run("select id from things") for _ in range(50)))
            assert 1 == len({str(row) for row in rows})
        assert [[("7",)]] * 50 == rows


async def test_a_stale_statement_is_prepared_anew(own_database: str) -> None:
    """It is not sent unprepared ever after."""
    async with opened(own_database, size=1) as database:
        await database.run("create table things as select 7 as id")
        for change in ("select", "alter table things alter id type text"):
            await database.run(change)
            for _ in range(2):
                await database.run("select id from things")
        prepared = await database.run("select statement from pg_prepared_statements")
        assert 2 == prepared.count(("select id from things",))
