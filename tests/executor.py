"""Shared connections to a database, as the executor uses them, for statements that are no files."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg_pool import AsyncNullConnectionPool

from todo_api.postgres.connections import Connections
from todo_api.postgres.database import Database
from todo_api.queries import Statement

Rows = list[tuple[Any, ...]]

# The sessions of the shared connections, seen from another session of their database.
SESSIONS = "from pg_stat_activity where datname = current_database() and application_name = 'todo-api test'"


@dataclass(frozen=True)
class Adhoc:
    """What the executor needs to know of a statement."""

    name: str
    parameters: tuple[str, ...]
    make_row: Callable[[Any], Any]
    repeatable: bool

    @property
    def positional(self) -> bytes:
        """The statement is its own name."""
        return self.name.encode()


class Shared:
    """An executor on shared connections, and a connection of one's own beside them."""

    def __init__(self, database: Database, connections: Connections, url: str, size: int) -> None:
        self.database, self.connections, self.url, self.size = database, connections, url, size

    async def run(
        self, sql: str, *values: object, row: Callable[[Any], Any] = tuple, repeatable: bool = False
    ) -> list[Any]:
        """Run SQL with ``$1`` for the first value."""
        parameters = {str(number): value for number, value in enumerate(values)}
        statement = Adhoc(sql, tuple(parameters), row, repeatable)
        return await self.database.run(cast("Statement[Any]", statement), parameters)

    async def admin(self, sql: str) -> Rows:
        """Run SQL on a connection of its own."""
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            cursor = await connection.execute(sql)
            return await cursor.fetchall() if cursor.description else []

    async def warm(self) -> None:
        """Bring every connection into service."""
        async with asyncio.timeout(60):
            pids: list[Rows] = []
            while len({pid for ((pid,),) in pids}) < self.size:
                pids = await asyncio.gather(*(self.run("select pg_backend_pid()") for _ in range(9)))

    async def sessions(self) -> int:
        """How many the server has."""
        return len(await self.admin(f"select pid {SESSIONS}"))

    async def cut(self) -> None:
        """Have the server end them, and wait until it has."""
        await self.admin(f"select pg_terminate_backend(pid, 60000) {SESSIONS}")


@asynccontextmanager
async def opened(
    url: str,
    size: int = 2,
    *,
    max_queue: int = 1000,
    timeout: float = 10,  # noqa: ASYNC109 (it is the executor's)
    prepare: bool = True,
    max_lifetime: float = 3600,
    at_once: int = 0,
    spare: int = 1,
) -> AsyncIterator[Shared]:
    """Open so many shared connections, ``at_once`` or for the first statements, and close them.

    There may be ``spare`` ones more where these are stuck.
    """
    pool: AsyncNullConnectionPool[Any] = AsyncNullConnectionPool(
        url,
        open=False,
        max_size=size + spare,
        max_lifetime=max_lifetime,
        timeout=1,
        kwargs={"application_name": "todo-api test"},
    )
    connections = Connections(pool, size, max_queue=max_queue, reaction=timeout * 0.15)
    database = Database(connections, lambda _name: nullcontext(), timeout=timeout, prepare=prepare)
    async with connections.opened(at_once):
        yield Shared(database, connections, url, size)
