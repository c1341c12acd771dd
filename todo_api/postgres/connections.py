"""The connections that all requests of a process share."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from math import inf
from random import uniform
from typing import Any

from psycopg import AsyncConnection, Error
from psycopg_pool import AsyncNullConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from todo_api.postgres.pipeline import Pipeline

log = logging.getLogger(__name__)

Pool = AsyncNullConnectionPool[AsyncConnection[Any]]

# A connection whose oldest statement has waited so many seconds longer than another's gets no more. It may
# wait for a lock, and what is sent after it would wait as well.
_STALLED = 0.05

_PAUSE = 0.2  # seconds between two attempts to connect


def _ignore(_: Pipeline) -> None:
    """For the session that ends another one, which needs no callback: its opener closes it."""


class _Terminate:
    """Ends a session of this process. Behind a pooler it finds none, since the id is the pooler's own."""

    name = "terminate"
    positional = (
        b"select pg_terminate_backend(pid) from pg_stat_activity"
        b" where pid = $1 and application_name = current_setting('application_name')"
    )


class Connections:
    """Up to ``size`` connections in pipeline mode, opened when there are statements for them.

    A connection whose oldest statement waits, for a lock say, gets no more. If all of them wait, another one
    is opened, if the pool's limit allows it. Repeatable statements behind such a statement move elsewhere.

    A connection that breaks is forgotten, and the next statement opens another. So an idle service never
    wakes a database that suspends itself. The pool opens, counts and limits the connections, and keeps none
    idle. At most ``max_queue`` statements wait at a time. A session that does not answer in time is
    terminated, and has ``reaction`` seconds to end.
    """

    def __init__(self, pool: Pool, size: int, *, max_queue: int, reaction: float) -> None:
        self._pool, self._size, self._max_queue, self._reaction = pool, size, max_queue, reaction
        self._loop: asyncio.AbstractEventLoop
        self._pipelines: list[Pipeline] = []  # all that are not closed
        self._opening: asyncio.Task[None] | None = None
        self._returning: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._failure = ""  # why no connection could be opened the last time
        self._closed = False

    @asynccontextmanager
    async def opened(self, count: int) -> AsyncIterator[None]:
        """Begin to open ``count`` connections. Does not wait for them: the database may come later.

        At the end, refuse new statements, wait for the answers that are due, and close.
        """
        self._loop = asyncio.get_running_loop()
        await self._pool.open()
        if count:
            self._opening = asyncio.create_task(self._connect(min(count, self._size)))
        try:
            yield
        finally:
            await self._close()

    def time(self) -> float:
        """The event loop's time in seconds. Looking up the running loop each time would be a system call."""
        return self._loop.time()

    def least_busy(self) -> Pipeline | None:
        """Of the connections that are not stalled, the one with the fewest unanswered statements.

        None if no connection is open. Raises TooManyRequests, and PoolClosed after the end.
        """
        if self._closed:
            raise PoolClosed("the connections are closed")
        queued = self._waiting + sum([len(pipeline.unanswered) for pipeline in self._pipelines])
        if queued >= self._max_queue:
            raise TooManyRequests(f"{queued} statements are waiting already")
        serving = [pipeline for pipeline in self._pipelines if pipeline.state == "serving"]
        if not serving or len(self._pipelines) < self._size:
            self._open_another()
        latest = max([pipeline.head_since for pipeline in serving], default=inf)
        moving = [pipeline for pipeline in serving if pipeline.head_since >= latest - _STALLED]
        return min(moving, key=lambda pipeline: len(pipeline.unanswered), default=None)

    async def first(self, deadline: float) -> Pipeline:
        """Wait for a connection. Raises PoolTimeout at the deadline."""
        while (pipeline := self.least_busy()) is None:
            assert self._opening is not None
            self._waiting += 1
            try:
                done, _ = await asyncio.wait([self._opening], timeout=deadline - self.time())
            finally:
                self._waiting -= 1
            if not done:
                raise PoolTimeout(f"no connection in time: {self._failure}")
        return pipeline

    def check(self) -> None:
        """Notice other connections that broke: where one is cut, more may be."""
        for pipeline in tuple(self._pipelines):
            pipeline.read()

    def drain(self) -> None:
        """Send nothing more over the present connections. Each closes after its last answer."""
        for pipeline in tuple(self._pipelines):
            pipeline.drain()

    def statistics(self) -> dict[str, int]:
        """The pool's figures since the last call, with those that only this class knows."""
        return {
            **self._pool.pop_stats(),
            "pool_available": sum(not pipeline.unanswered for pipeline in self._pipelines),
            "requests_waiting": self._waiting,
        }

    async def _close(self) -> None:
        self._closed = True
        if self._opening:
            self._opening.cancel()
            self._opening = None  # its traceback would keep a half-open connection's socket
        self.drain()
        if owed := [answer for pipeline in self._pipelines for answer, *_ in pipeline.unanswered]:
            await asyncio.wait(owed)  # their deadlines bound it
        while tasks := self._ending | self._returning:
            await asyncio.wait(tasks)
        await self._pool.close()

    async def _connect(self, count: int) -> None:
        """Open ``count`` more connections. Try again as long as statements wait for one."""
        while True:
            try:
                # The pool would queue us, and after an outage let minutes pass between its own attempts.
                if len(self._pipelines) >= self._pool.max_size:
                    raise PoolTimeout("all connections that are allowed are in use")
                self._add(await self._pool.getconn())
                break
            except Exception as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                if reason != self._failure:
                    log.warning("Cannot connect to the database: %s", reason)
                self._failure = reason
                await asyncio.sleep(_PAUSE)
                if not self._waiting:
                    return
        self._failure = ""
        if count > 1:
            self._opening = asyncio.create_task(self._connect(count - 1))

    def _add(self, connection: AsyncConnection[Any]) -> None:
        lifetime = self._pool.max_lifetime * uniform(0.9, 1)  # noqa: S311 (so that not all end at once)
        try:
            self._pipelines.append(
                Pipeline(connection, lifetime, stuck=self._relieve, overdue=self._end, closed=self._forget)
            )
        except BaseException:
            self._return(connection)
            raise

    def _open_another(self) -> None:
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._connect(1))

    def _relieve(self, stuck: Pipeline) -> None:
        """Move what waits behind a slow statement, once there is a connection without one."""
        stalled_before = self.time() - _STALLED
        for pipeline in self._pipelines:
            if pipeline.state == "serving" and pipeline.head_since >= stalled_before:
                stuck.move()
                return
        self._open_another()

    def _forget(self, pipeline: Pipeline) -> None:
        self._pipelines.remove(pipeline)
        self._return(pipeline.connection)

    def _return(self, connection: AsyncConnection[Any]) -> None:
        self._in_background(self._returning, self._pool.putconn(connection))

    def _end(self, pipeline: Pipeline) -> None:
        self._in_background(self._ending, self._end_session(pipeline))

    async def _end_session(self, pipeline: Pipeline) -> None:
        """Have the server end a session with an overdue answer, then close the connection in any case.

        What the server has not answered when its session ends had no effect. Closing alone is not enough: the
        server may have read a statement already, and begin it later. If the server does not react, or a
        pooler is in between, the running statement is cancelled.
        """
        with suppress(Error, OSError, TimeoutError):
            async with asyncio.timeout(self._reaction):
                await self._terminate(pipeline.connection.pgconn.backend_pid)
                if owed := [answer for answer, *_ in pipeline.unanswered]:
                    await asyncio.wait(owed)
        if pipeline.state != "closed":
            cancelling = asyncio.create_task(pipeline.connection.cancel_safe(timeout=1))
            await asyncio.sleep(0)  # it has begun, and needs the connection no longer
            pipeline.close("no answer in time")
            with suppress(Error, OSError):
                await cancelling

    async def _terminate(self, process_id: int) -> None:
        """Run pg_terminate_backend on a connection of its own, since those of the pool may all be stuck.

        A pipeline, because a cursor would react to a cancellation by sending a cancel and waiting for that.
        """
        assert isinstance(self._pool.conninfo, str)
        assert isinstance(self._pool.kwargs, dict)
        connection = await AsyncConnection.connect(self._pool.conninfo, **self._pool.kwargs)
        pipeline = Pipeline(connection, self._reaction, stuck=_ignore, overdue=_ignore, closed=_ignore)
        try:
            await pipeline.send(_Terminate(), [b"%d" % process_id], None, inf, prepare=False)
        finally:
            pipeline.close("done")

    @staticmethod
    def _in_background(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        tasks.add(task := asyncio.create_task(work))
        task.add_done_callback(tasks.discard)
