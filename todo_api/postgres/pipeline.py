"""Many requests share a connection: libpq's pipeline mode on connections of the psycopg pool.

With a cursor a connection carries one statement a round trip. Here a statement leaves as soon as it
is asked for, and answers come back in order; each statement has a sync of its own and so stays a
transaction of its own, as under autocommit. `AsyncPipeline.sync()` waits for its answer, hence the
layer below, `psycopg.pq`.

Gained over pool and cursor, in requests over HTTP by 32 clients: 2.2 times (lists, updates) to 2.6
times (reads) as many a second at less than half of the process's CPU and three quarters of the server's.
At 5 ms of round trip a pool of four carries 3,300 to 4,600 a second, where taking turns ends at 800.
"""

import asyncio
import os
import select
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from typing import Any

from psycopg import AsyncConnection, Error, OperationalError
from psycopg.abc import Buffer
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import DiagnosticField, ExecStatus, Format
from psycopg.pq.abc import PGresult
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from todo_api.queries import Row, Statement

Params = tuple[Sequence[Buffer | None], Sequence[int] | None]

ABORTED, SYNC = ExecStatus.PIPELINE_ABORTED.value, ExecStatus.PIPELINE_SYNC.value
DONE, ROWS, FAILED = ExecStatus.COMMAND_OK.value, ExecStatus.TUPLES_OK.value, ExecStatus.FATAL_ERROR.value
BINARY, SQLSTATE = Format.BINARY, DiagnosticField.SQLSTATE
AS_BINARY, AS_TEXT = PyFormat.BINARY, PyFormat.TEXT
# As text PostgreSQL refuses a datetime whose offset is 16 hours or more, which RFC 3339 allows.
_BINARY_TYPES = (bytes, datetime)
REACTION = 1.0  # seconds in which a server that is not frozen does as it is told
STALE = {b"0A000", b"26000"}  # prepared for other result types, or not in this session after all


class UnansweredError(OperationalError):
    """The statement was sent but its connection broke: it may have been executed."""


class OverdueError(UnansweredError):
    """The statement was sent but not answered in time: it may have been executed."""


class _Wire:
    """One connection in pipeline mode, and the answers it owes in order."""

    serial = count(1)

    def __init__(self, connection: AsyncConnection[Any], broken: Callable[["_Wire"], None]) -> None:
        self.connection, self.pgconn, self.broken = connection, connection.pgconn, broken
        self.loop = asyncio.get_running_loop()
        self.since = self.loop.time()
        self.owed: deque[tuple[asyncio.Future[PGresult], float]] = deque()
        self.outcome: PGresult | None = None
        self.prepared: dict[str, bytes] = {}
        self.socket = -1
        self.ending = False

    def open(self) -> asyncio.Future[PGresult]:
        """Enter pipeline mode and ask for a sign of life."""
        # A duplicate, since libpq closes its own as soon as it finds the connection broken, be it
        # in mid-send, and the number may be another socket's the next moment.
        self.socket = os.dup(self.pgconn.socket)
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        self.readable = poll.poll
        # A TLS record is up to 16 KiB, of which libpq may leave half in a buffer that no poll can see.
        self.reads = range(3 if self.pgconn.ssl_in_use else 1)
        self.loop.add_reader(self.socket, self.read)
        self.pgconn.enter_pipeline_mode()
        return self.sync()

    def send(
        self, statement: Statement[Any], params: Params, prepare: bool = True
    ) -> asyncio.Future[PGresult]:
        """Send a statement; a plain OperationalError if the connection is known to be broken."""
        pgconn, (values, formats) = self.pgconn, params
        if not prepare:
            pgconn.send_query_params(statement.positional, values, None, formats, BINARY)
        else:
            if (name := self.prepared.get(statement.name)) is None:
                # Numbered, as the session may know the name from an earlier wire or plan.
                name = f"{statement.name}/{next(self.serial)}".encode()
                pgconn.send_prepare(name, statement.positional)
                self.prepared[statement.name] = name
            pgconn.send_query_prepared(name, values, formats, BINARY)
        return self.sync()

    def sync(self) -> asyncio.Future[PGresult]:
        """End the transaction; the answer is its statement's result, if there was one."""
        answer: asyncio.Future[PGresult] = self.loop.create_future()
        self.owed.append((answer, self.loop.time()))
        try:
            self.pgconn.pipeline_sync()
            if self.pgconn.flush():
                self.loop.add_writer(self.socket, self.write)
        except OperationalError as error:
            self.fail(error)
        return answer

    def write(self) -> None:
        """Send what the socket had no room for."""
        try:
            if not self.pgconn.flush():
                self.loop.remove_writer(self.socket)
            self.read()  # a flush that finds no room reads instead, unseen by the loop
        except OperationalError as error:
            self.fail(error)

    def read(self) -> None:
        """Hand out the answers that have come; the end of the stream is noticed even when idle."""
        pgconn, owed = self.pgconn, self.owed
        try:
            while True:
                for _ in self.reads:
                    pgconn.consume_input()
                while owed and not pgconn.is_busy():
                    if (result := pgconn.get_result()) is None:
                        continue
                    if (status := result.status) == SYNC:  # not before it: the commit itself could fail
                        answer, _ = owed.popleft()
                        if not answer.done():
                            answer.set_result(self.outcome or result)
                        self.outcome = None
                    elif status != ABORTED:
                        self.outcome = result
                if not self.readable(0):  # uvloop tells only once of a reset connection
                    break
        except OperationalError as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Close the connection and leave unanswered what it owes."""
        self.unwatch()
        self.pgconn.finish()
        kind = OverdueError if self.ending else UnansweredError
        while self.owed:
            answer, _ = self.owed.popleft()
            if not answer.done():
                answer.set_exception(kind(str(error)))
        self.broken(self)

    async def abandon(self) -> None:
        """Close the connection and cancel what it runs."""
        cancellation = asyncio.create_task(self.connection.cancel_safe(timeout=1))
        await asyncio.sleep(0)  # it is on its way, without need of this connection
        self.fail(TimeoutError("no answer in time"))
        with suppress(Error):
            await cancellation

    def unwatch(self) -> None:
        """Take the socket from the loop."""
        if self.socket >= 0:
            self.loop.remove_reader(self.socket)
            self.loop.remove_writer(self.socket)
            os.close(self.socket)
            self.socket = -1


class Pipelines:
    """Runs statements over at most `connections` of the pool's, each taken when it is needed.

    At most `max_queue` statements wait at a time, none longer than `timeout` seconds: one that is not
    answered by then costs all that share its connection theirs, so the server's `statement_timeout`
    should be shorter. What is known to be slow belongs on a cursor.

    Sessions must use UTF-8; timestamps come in UTC whatever their time zone.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[AsyncConnection[Any]],
        connections: int,
        *,
        max_queue: int,
        timeout: float,
    ) -> None:
        self._pool, self._connections = pool, connections
        self._max_queue, self._timeout = max_queue, timeout
        self._wires: list[_Wire] = []
        self._spent: list[_Wire] = []  # not in service: to be proved, drained or handed back
        self._mending: asyncio.Task[OperationalError | None] | None = None
        self._waiting = 0
        self._closed = False
        self._background: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._transformer = Transformer()  # of no connection: one brings its session's time zone

    async def execute(
        self, statement: Statement[Row], values: Sequence[object], make_row: Callable[[Sequence[Any]], Row]
    ) -> list[Row]:
        """Run a statement in a transaction of its own and return its rows.

        Raises what a cursor would, with two more cases. UnansweredError: it may have been executed; any
        other error (PoolTimeout, TooManyRequests, PoolClosed among them): it had no effect. If the
        caller is cancelled the statement runs on, and its answer is dropped.
        """
        transformer = self._transformer
        formats = [AS_BINARY if type(value) in _BINARY_TYPES else AS_TEXT for value in values]
        params = transformer.dump_sequence(values, formats), transformer.formats
        while (wire := self._emptiest()) is None:
            await self._mended()
        result = await wire.send(statement, params)
        status = result.status
        if status == FAILED and result.error_field(SQLSTATE) in STALE:
            wire.prepared.pop(statement.name, None)
            result = await wire.send(statement, params, prepare=False)
            status = result.status
        if status == ROWS:
            transformer.set_pgresult(result)
            return transformer.load_rows(0, result.ntuples, make_row)
        if status == DONE:
            return []
        raise error_from_result(result)

    def drain(self) -> None:
        """Use the present connections no more, but for what was sent; go along with the pool's own drain."""
        for wire in tuple(self._wires):
            self._drop(wire)

    async def close(self) -> None:
        """Wait for the answers still owed, within their time-out, and give the connections back."""
        self._closed = True
        self._spent += self._wires
        self._wires.clear()
        if self._mending:
            self._mending.cancel()
            await asyncio.wait([self._mending])
        await asyncio.gather(*map(self._hand_back, tuple(self._spent)))
        if self._timer:
            self._timer.cancel()

    def _emptiest(self) -> _Wire | None:
        emptiest, owed = None, self._max_queue
        for wire in self._wires:
            if (owes := len(wire.owed)) < owed:
                emptiest, owed = wire, owes
        if len(self._wires) < self._connections:
            self._mender()
        queued = owed * len(self._wires) if self._wires else self._waiting
        if queued >= self._max_queue:
            raise TooManyRequests(f"{queued} statements are waiting already")
        return emptiest

    def _mender(self) -> asyncio.Task[OperationalError | None]:
        if self._closed:
            raise PoolClosed("the pipelines are closed")
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._mend())
        return self._mending

    async def _mended(self) -> None:
        """Wait for a connection to come into service; raise what prevented it."""
        self._waiting += 1
        try:
            done, _ = await asyncio.wait([self._mender()], timeout=self._timeout)
        finally:
            self._waiting -= 1
        if not done:
            raise PoolTimeout(f"no connection within {self._timeout} s")
        if not self._closed and (error := done.pop().result()):
            raise type(error)(*error.args)  # a new one for each that waited

    async def _mend(self) -> OperationalError | None:
        """Bring one more connection into service, or return what prevented it.

        Spent ones go back to the pool here, when there is demand, and not as they break: the pool
        replaces them at once, which would wake a database that suspends itself when idle.
        """
        if self._timer is None:
            self._sweep()
        try:
            for _ in range(self._pool.max_size):  # each of the pool's may have died while idle
                while self._spent:
                    await self._hand_back(self._spent[0])
                wire = _Wire(await self._pool.getconn(self._timeout), self._drop)
                self._spent.append(wire)
                try:
                    await wire.open()
                except (OSError, OperationalError) as error:
                    wire.fail(error)
                    continue
                self._spent.remove(wire)
                self._wires.append(wire)
                return None
        except OperationalError as error:
            return error
        return PoolTimeout("no connection of the pool answered")

    async def _hand_back(self, wire: _Wire) -> None:
        """Return a connection to the pool: as it came, once it has answered all, or else closed."""
        try:
            await wire.sync()
            wire.unwatch()
            wire.pgconn.exit_pipeline_mode()
        except OperationalError as error:
            wire.fail(error)
        self._spent.remove(wire)
        await self._pool.putconn(wire.connection)

    async def _end(self, wire: _Wire) -> None:
        """Have the server end the session: what it has not answered when the stream ends had no effect.

        To close the connection is not enough: the server may have read what was sent, and begin it still.
        It is what remains where the server does not react, or a pooler stands between. This takes a
        connection of its own, as those of the pool may all be stuck.
        """
        conninfo = self._pool.conninfo
        assert isinstance(conninfo, str)
        with suppress(Error, TimeoutError):
            async with (
                asyncio.timeout(REACTION),
                await AsyncConnection.connect(conninfo, autocommit=True) as connection,
            ):
                await connection.execute("select pg_terminate_backend(%s)", [wire.pgconn.backend_pid])
                if owed := [answer for answer, _ in wire.owed]:
                    await asyncio.wait(owed)
        if wire.owed:
            await wire.abandon()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        self._background.add(task := asyncio.create_task(work))
        task.add_done_callback(self._background.discard)

    def _drop(self, wire: _Wire) -> None:
        if wire in self._wires:
            self._wires.remove(wire)
            self._spent.append(wire)

    def _sweep(self) -> None:
        """Give up what is overdue, retire what passed the pool's `max_lifetime`, see that it connects."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        interval = self._timeout / 8
        for wire in (*self._wires, *self._spent):
            if wire.owed and now - wire.owed[0][1] > self._timeout - 2 * interval and not wire.ending:
                wire.ending = True
                self._in_background(self._end(wire))
            elif now - wire.since > self._pool.max_lifetime:
                self._drop(wire)
        if self._waiting:  # the pool may have given up, and not notice that somebody still waits
            self._in_background(self._pool.check())
        self._timer = loop.call_later(interval, self._sweep)
