"""The connections to PostgreSQL, and how a statement gets to run on one."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

from psycopg import AsyncConnection, OperationalError
from psycopg.errors import QueryCanceled, ReadOnlySqlTransaction
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from todo_api import VERSION
from todo_api.postgres.conninfo import conninfo
from todo_api.postgres.pipeline import OverdueError, Pipelines
from todo_api.queries import Row, Statement
from todo_api.settings import Settings

Pool = AsyncConnectionPool[AsyncConnection]

# Seconds in which a pool without work closes its connections above the minimum: before Neon, which suspends
# a database after five idle minutes, cuts them.
_IDLE = 240

# Connections that requests share. PostgreSQL runs the statements of one in turn, so more of them use more of
# its processors and commit together; fewer carry more statements in one go. Eight write a fifth more a second
# than four, and read as much.
_SHARED = 8

# Statements that may wait, per worker: at some 10,000 a second, a tenth of a second's.
_QUEUE = 1000


def _make_pool(settings: Settings) -> Pool:
    """A pool of autocommitting connections, not yet open.

    Each tells the server what it belongs to: ``todo-api/0.1.0 worker 4711``, the worker by its process id.
    """
    assert settings.database_url is not None
    return AsyncConnectionPool(
        conninfo(settings.database_url, settings),
        open=False,
        min_size=settings.pool_min_size,
        max_size=settings.pool_max_size,
        timeout=settings.pool_timeout,
        max_waiting=_QUEUE,
        # Attempts come 1, 2, 4, … s apart; given up after the first, they start anew with the next request.
        reconnect_timeout=1,
        # The pool closes one connection each time this passes.
        max_idle=_IDLE / settings.pool_max_size,
        kwargs={
            "autocommit": True,
            "application_name": f"todo-api/{VERSION} worker {os.getpid()}",
            "prepare_threshold": 5 if settings.prepare_statements else None,
        },
        name="todo-api",
    )


class Database:
    """Runs statements: most of them on a few connections that all requests share, slow ones on their own."""

    def __init__(self, settings: Settings) -> None:
        self.pool = _make_pool(settings)
        shared = max(1, min(_SHARED, settings.pool_max_size - 1))
        self._pipelines = Pipelines(self.pool, shared, max_queue=_QUEUE, timeout=settings.pool_timeout)
        self._shares_all = settings.pool_max_size == 1
        self._shares_none = not settings.prepare_statements

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the pool without waiting for a database, which may come later, and close it at the end."""
        await self.pool.open()
        try:
            yield
        finally:
            await self._pipelines.close()
            await self.pool.close()

    async def execute(self, statement: Statement[Row], parameters: Mapping[str, object]) -> Sequence[Row]:
        """Run one statement, in a transaction of its own.

        What may be repeated is, once, where its connection broke before the answer came. Raises
        ``psycopg.OperationalError`` where the database is away, too busy or too slow.
        """
        is_slow = statement.slow_with and any(parameters[name] is not None for name in statement.slow_with)
        run = self._run_alone if self._shares_none or (is_slow and not self._shares_all) else self._run_shared
        try:
            return await run(statement, parameters)
        except (OverdueError, PoolTimeout, TooManyRequests, QueryCanceled):
            raise
        except ReadOnlySqlTransaction:  # this is no longer the primary: look for it anew
            await self.pool.drain()
            self._pipelines.drain()
            raise
        except OperationalError:
            if not statement.repeatable:
                raise
            if run == self._run_alone:
                await self.pool.check()  # the next connection may be just as dead
            return await run(statement, parameters)

    async def _run_shared(self, statement: Statement[Row], parameters: Mapping[str, object]) -> list[Row]:
        values = [parameters[name] for name in statement.parameters]
        return await self._pipelines.execute(statement, values, statement.make_row)

    async def _run_alone(self, statement: Statement[Row], parameters: Mapping[str, object]) -> list[Row]:
        async with self.pool.connection() as connection:
            with _answered_within(self.pool.timeout, connection):
                cursor = await connection.execute(statement.text, parameters)
                return [statement.row(*values) for values in await cursor.fetchall()]


@contextmanager
def _answered_within(seconds: float, connection: AsyncConnection) -> Iterator[None]:
    """Hang up, and raise OverdueError, when time is up.

    A server that is frozen, and not dead, keeps its connections open, and would be waited for to cancel, too.
    """

    def hang_up() -> None:
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)

    loop = asyncio.get_running_loop()
    timer = loop.call_later(seconds, hang_up)
    try:
        yield
    except OperationalError:
        if loop.time() >= timer.when():
            raise OverdueError(f"no answer within {seconds} s") from None
        raise
    finally:
        timer.cancel()
