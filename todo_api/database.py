"""The connection pool and its lifespan."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from todo_api import VERSION
from todo_api.queries import Row, Statement
from todo_api.settings import Settings

Pool = AsyncConnectionPool[AsyncConnection]


def make_pool(settings: Settings) -> Pool:
    """A pool of autocommitting connections, not yet open. Sessions speak UTC, so times do too.

    Each tells the server what it belongs to: ``todo-api/0.1.0 worker 4711``, the worker by its process id.
    """
    assert settings.database_url is not None
    # A pooler refuses the options of a connection string; libpq sends this one as a parameter of its own.
    os.environ["PGTZ"] = "UTC"
    return AsyncConnectionPool(
        settings.database_url,
        open=False,
        min_size=settings.pool_min_size,
        max_size=settings.pool_max_size,
        timeout=settings.pool_timeout,
        kwargs={"autocommit": True, "application_name": f"todo-api/{VERSION} worker {os.getpid()}"},
        name="todo-api",
    )


class PooledExecutor:
    """Runs each statement on a pool connection of its own."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def execute(self, statement: Statement[Row], parameters: dict[str, object]) -> Sequence[Row]:
        """Run one statement, in a transaction of its own."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement.text, parameters)
            return [statement.row(*values) for values in await cursor.fetchall()]


@asynccontextmanager
async def opened(pool: Pool) -> AsyncIterator[None]:
    """Open the pool without waiting for a database, which may come later, and close it at the end."""
    await pool.open()
    try:
        yield
    finally:
        await pool.close()
