"""Statements that share connections do not share anything else."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from todo_api.postgres.pipeline import OverdueError, Pipelines, UnansweredError
from todo_api.queries import Statement

from .conftest import NewDatabase

Rows = list[tuple[Any, ...]]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def database_url(empty_database: NewDatabase) -> str:
    """A database of the test's own, where nobody else's connections are."""
    return empty_database()


@dataclass(frozen=True)
class Adhoc:
    """What the pipelines need to know of a statement."""

    name: str
    positional: bytes


def adhoc(sql: str) -> Statement[Any]:
    """A statement that is no file, under itself as its name."""
    return cast("Statement[Any]", Adhoc(sql, sql.encode()))


class Database:
    """Pipelines over a pool, and a connection of one's own beside them."""

    def __init__(self, pool: AsyncConnectionPool, pipelines: Pipelines, url: str, connections: int) -> None:
        self.pool, self.pipelines, self.url, self.connections = pool, pipelines, url, connections

    async def run(self, sql: str, *values: object) -> Rows:
        """Run SQL through the pipelines, under itself as its name."""
        return await self.pipelines.execute(adhoc(sql), values, tuple)

    async def admin(self, sql: str) -> Rows:
        """Run SQL outside of pipelines and pool."""
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            cursor = await connection.execute(sql)
            return await cursor.fetchall() if cursor.description else []

    async def warm(self) -> None:
        """Bring every connection into service."""
        async with asyncio.timeout(60):
            pids: list[Rows] = []
            while len({pid for ((pid,),) in pids}) < self.connections:
                pids = await asyncio.gather(*(self.run("select pg_backend_pid()") for _ in range(9)))

    async def cut(self) -> None:
        """Have the server end every connection of the pool."""
        await self.admin(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )


@asynccontextmanager
async def opened(
    url: str,
    connections: int = 2,
    max_queue: int = 1000,
    timeout: float = 10,  # noqa: ASYNC109 (it is the pipelines')
    **pool_options: Any,
) -> AsyncIterator[Database]:
    """Open a pool and pipelines over it, and close both."""
    options = {"min_size": connections, "max_size": connections, **pool_options}
    async with AsyncConnectionPool(url, kwargs={"autocommit": True}, open=False, **options) as pool:
        pipelines = Pipelines(pool, connections, max_queue=max_queue, timeout=timeout)
        try:
            yield Database(pool, pipelines, url, connections)
        finally:
            await pipelines.close()


@asynccontextmanager
async def relayed(url: str) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """Stand between clients and the server: a URL, and what freezes the connections made so far."""
    server = conninfo_to_dict(url)
    host, port = str(server["host"]), int(str(server.get("port", 5432)))

    def connect() -> Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        if host.startswith("/"):
            return asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return asyncio.open_connection(host, port)

    links: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await connect()
        links.extend(map(asyncio.create_task, (carry(reader, back), carry(there, writer))))
        writers.extend((writer, back))

    def freeze() -> None:
        for task in links:
            task.cancel()

    listener = await asyncio.start_server(link, "127.0.0.1")
    try:
        yield make_conninfo(url, host="127.0.0.1", port=listener.sockets[0].getsockname()[1]), freeze
    finally:
        freeze()
        listener.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def test_values_go_out_and_rows_come_back_as_python_objects(database_url: str) -> None:
    """Every type goes both ways, whatever the session's time zone and date style."""
    key, moment = uuid4(), datetime(2024, 7, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))
    strange = make_conninfo(database_url, options="-c timezone=Asia/Kathmandu -c datestyle=German")
    async with opened(strange) as database:
        [row] = await database.run(
            "select $1::uuid, $2::text, $3::boolean, $4::bigint, $5::timestamptz, $6::text,"
            " $7::bytea = '\\x00275c'::bytea, ($8::timestamptz[])[2]",
            key, "naïve ' \\ %s", True, 2**40, moment, None, b"\x00'\\", [moment, moment + timedelta(days=1)],
        )  # fmt: skip
    assert (key, "naïve ' \\ %s", True, 2**40, moment, None, True, moment + timedelta(days=1)) == row
    assert type(row[0]) is UUID
    assert row[4].tzinfo is UTC


async def test_each_row_is_made_by_the_callers_function(database_url: str) -> None:
    """`make_row` gets each row's values; no rows make an empty list, and so does a statement without."""
    async with opened(database_url) as database:
        numbers = adhoc("select n, -n from generate_series(1, $1::int) n")
        assert [0, 0, 0] == await database.pipelines.execute(numbers, [3], sum)
        assert [] == await database.pipelines.execute(numbers, [0], sum)
        assert [] == await database.run("create table things (id int)")


async def test_errors_slowness_and_cancellation_stay_their_own(database_url: str) -> None:
    """Among hundreds of statements each gets its own answer, whatever becomes of its neighbours."""
    errors = psycopg.errors
    url = make_conninfo(database_url, options="-c statement_timeout=200ms")
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


async def test_a_cancelled_statement_runs_on_and_its_answer_is_dropped(database_url: str) -> None:
    """Those behind it get their own answers; what it wrote is written."""
    async with opened(database_url, connections=1) as database:
        await database.run("create table things (id int)")
        left = asyncio.create_task(database.run("insert into things select 1 from pg_sleep(1) returning id"))
        await asyncio.sleep(0.05)
        left.cancel()
        assert [(2,)] == await database.run("select 2")
        assert left.cancelled()
        assert [(1,)] == await database.run("select id from things")


async def test_errors_are_what_a_cursor_would_raise(database_url: str) -> None:
    """Class, SQLSTATE, message and constraint are the same."""
    sql = "insert into things values (1)"
    async with opened(database_url) as database:
        await database.run("create table things (id int constraint things_positive check (id < 0))")
        with pytest.raises(psycopg.errors.CheckViolation) as shared:
            await database.run(sql)
        with pytest.raises(psycopg.errors.CheckViolation) as alone:
            await database.admin(sql)
        assert str(alone.value) == str(shared.value)
        assert "things_positive" == shared.value.diag.constraint_name
        assert alone.value.sqlstate == shared.value.diag.sqlstate


async def test_a_commit_that_fails_fails_its_statement(database_url: str) -> None:
    """A deferred constraint speaks up after the rows: the caller gets the error and not the rows."""
    async with opened(database_url, connections=1) as database:
        await database.run("create table things (id int unique deferrable initially deferred)")
        insert = "insert into things values ($1) returning id"
        outcomes = await asyncio.gather(*(database.run(insert, n) for n in (1, 1, 2)), return_exceptions=True)
        assert [[(1,)], [(2,)]] == outcomes[::2]
        assert isinstance(outcomes[1], psycopg.errors.UniqueViolation)
        assert [(1,), (2,)] == await database.run("select id from things order by id")


async def test_what_a_broken_connection_carried_is_unanswered(database_url: str) -> None:
    """All of it fails at once, the pool replaces the connections, and the next statement succeeds."""
    async with opened(database_url) as database:
        await database.warm()
        tasks = [asyncio.create_task(database.run("select pg_sleep(30)")) for _ in range(100)]
        await asyncio.sleep(0.1)
        await database.cut()
        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {UnansweredError} == {type(outcome) for outcome in outcomes}
        assert [(1,)] == await database.run("select 1")
        assert 1 <= database.pool.get_stats()["returns_bad"]


async def test_connections_cut_while_idle_cost_no_statement(database_url: str) -> None:
    """Neither those in use nor those that the pool still keeps."""
    async with opened(database_url, connections=2, min_size=4, max_size=4) as database:
        await database.warm()
        for _ in range(2):
            await database.cut()
            await asyncio.sleep(0.05)
            assert [[(1,)]] * 20 == await asyncio.gather(*(database.run("select 1") for _ in range(20)))


async def test_a_frozen_connection_is_left_in_bounded_time(database_url: str) -> None:
    """Its statements are overdue after the time-out; at twice that another one takes its place."""
    async with relayed(database_url) as (url, freeze), opened(url, connections=1, timeout=0.4) as database:
        assert [(1,)] == await database.run("select 1")
        freeze()
        async with asyncio.timeout(60):
            with pytest.raises(OverdueError):
                await database.run("select 1")
            replaced = False
            while not replaced:
                with suppress(psycopg.OperationalError):
                    replaced = [(2,)] == await database.run("select 2")


async def test_more_than_the_queue_holds_is_refused(database_url: str) -> None:
    """Both when answers are awaited and when a connection is; what was accepted is not disturbed."""
    async with opened(database_url, max_queue=10) as database:
        for _ in range(2):  # the first time there is no connection yet
            tasks = [asyncio.create_task(database.run("select 1 from pg_sleep(0.05)")) for _ in range(50)]
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert {True, False} == {isinstance(outcome, TooManyRequests) for outcome in outcomes}
            assert 10 <= outcomes.count([(1,)]) <= 12


async def test_no_connection_in_time_is_a_pool_timeout(database_url: str) -> None:
    """When cursors hold all of the pool, a statement waits for one no longer than the time-out."""
    async with opened(database_url, connections=1, timeout=0.2) as database:
        async with database.pool.connection():
            async with asyncio.timeout(60):
                outcomes = await asyncio.gather(
                    *(database.run("select 1") for _ in range(9)), return_exceptions=True
                )
        assert {PoolTimeout} == {type(outcome) for outcome in outcomes}
        assert [(1,)] == await database.run("select 1")


async def test_a_statement_behind_a_lock_is_overdue(database_url: str) -> None:
    """Its caller gets an error in bounded time; others go by another connection or wait their turn."""
    async with opened(database_url, timeout=0.4) as database:
        await database.run("create table things (id int)")
        await database.warm()
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute("lock table things")
            stuck = asyncio.create_task(database.run("select id from things"))
            await asyncio.sleep(0.05)
            assert [[(1,)]] * 50 == [await database.run("select 1") for _ in range(50)]
            with pytest.raises(OverdueError):
                await stuck
        assert [] == await database.run("select id from things")


async def test_large_statements_and_answers_flow_both_ways(database_url: str) -> None:
    """Far more than the buffers between hold, in both directions at once."""
    text = "x" * 300_000
    async with opened(database_url) as database:
        echoes = await asyncio.gather(*(database.run("select $1::text", text) for _ in range(100)))
        assert [[(text,)]] * 100 == echoes


async def test_a_statement_is_prepared_once_in_each_connection(database_url: str) -> None:
    """However many of it run at once."""
    listing = "select statement from pg_prepared_statements"
    async with opened(database_url, connections=1) as database:
        await asyncio.gather(*(database.run("select $1::int", n) for n in range(50)))
        assert [("select $1::int",), (listing,)] == sorted(await database.run(listing))


async def test_statements_outlive_a_change_of_plan(database_url: str) -> None:
    """A column of another type and a session that forgot what it prepared are noticed by no one."""
    async with opened(database_url) as database:
        await database.run("create table things as select 7 as id")
        for change in ("select", "alter table things alter id type text", "deallocate all"):
            await asyncio.gather(*(database.run(change) for _ in range(2)))
            rows = await asyncio.gather(*(database.run("select id from things") for _ in range(50)))
            assert 1 == len({str(row) for row in rows})
        assert [[("7",)]] * 50 == rows


async def test_connections_go_back_as_they_came(database_url: str) -> None:
    """Closing waits for answers, refuses what comes later, and leaves cursors a clean connection."""
    async with opened(database_url) as database:
        await database.warm()
        last = asyncio.create_task(database.run("select 1 from pg_sleep(0.1)"))
        await asyncio.sleep(0)
        await database.pipelines.close()
        assert [(1,)] == await last
        with pytest.raises(PoolClosed):
            await database.run("select 1")
        for _ in range(4):
            async with database.pool.connection() as connection:
                assert (2,) == await (await connection.execute("select 2")).fetchone()
        assert 2 == database.pool.get_stats()["connections_num"]


async def test_connections_are_renewed_at_the_end_of_their_life(database_url: str) -> None:
    """The pool's `max_lifetime` holds for shared connections too, and costs no statement."""
    async with opened(database_url, timeout=1, max_lifetime=0.3) as database:
        pids = set()
        for _ in range(60):
            pids |= {*await database.run("select pg_backend_pid()")}
            await asyncio.sleep(0.02)
        assert 2 < len(pids)
