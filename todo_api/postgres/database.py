"""Runs statements for the query module, on the connections that all requests share."""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from psycopg import OperationalError
from psycopg.adapt import PyFormat, Transformer
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ReadOnlySqlTransaction, error_from_result
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg_pool import AsyncNullConnectionPool

from todo_api import VERSION
from todo_api.postgres.connections import Connections
from todo_api.postgres.conninfo import conninfo
from todo_api.postgres.pipeline import OverdueError, UnansweredError
from todo_api.queries import Row, Statement
from todo_api.settings import Settings

Observer = Callable[[str], AbstractContextManager[object]]

# Connections that all requests share. PostgreSQL runs the statements of one connection in turn. More
# connections use more of its processors and commit together. Fewer send more statements at once. Measured:
# eight write a fifth more a second than four, and read as much.
_SHARED = 8

# Statements of a worker that may wait: a tenth of a second's work, at some 10,000 a second.
_QUEUE = 1000

# Shares of a statement's time: the wait for a connection, and, at the end, the ending of its session on the
# server. By then PostgreSQL's own statement time-out has passed, so its error comes first.
_WAIT, _REACTION = 0.5, 0.15

_ROWS, _DONE = ExecStatus.TUPLES_OK.value, ExecStatus.COMMAND_OK.value
# As text, PostgreSQL refuses datetimes with an offset of 16 hours or more, which RFC 3339 allows.
_BINARY = (bytes, datetime)
_STALE = {b"0A000", b"26000"}  # the prepared statement has other result types, or is unknown to the session


def make_connections(settings: Settings) -> Connections:
    """The connections of this process, none of them open yet.

    The server's views name each ``todo-api/0.1.0 worker 4711``, with the worker's process id.
    """
    assert settings.database_url is not None
    source = conninfo(settings.database_url, settings)
    pool: AsyncNullConnectionPool[Any] = AsyncNullConnectionPool(
        conninfo=source,
        open=False,
        max_size=settings.pool_max_size,
        # The pool uses this for each attempt to connect, and ignores the connection string's own.
        timeout=int(conninfo_to_dict(source).get("connect_timeout") or 0) or settings.pool_timeout,
        kwargs={"application_name": f"todo-api/{VERSION} worker {os.getpid()}"},
        name="todo-api",
    )
    size = min(_SHARED, settings.pool_max_size)
    return Connections(pool, size, max_queue=_QUEUE, reaction=settings.pool_timeout * _REACTION)


class Database:
    """Runs each statement in a transaction of its own and in one round trip.

    A statement has ``timeout`` seconds, with all waits and repetitions. ``observe`` gets its name and returns
    a context manager that surrounds it.
    """

    def __init__(self, connections: Connections, observe: Observer, *, timeout: float, prepare: bool) -> None:
        self._connections, self._observe = connections, observe
        self._timeout, self._prepare = timeout, prepare
        self._transformer = Transformer()  # without a connection, whose time zone it would use

    async def run(self, statement: Statement[Row], parameters: Mapping[str, object]) -> list[Row]:
        """Run a statement and return its rows.

        A repeatable statement runs once more if its connection breaks before the answer, or if it waits
        behind a slow one. Raises what a cursor would raise, and OperationalError if the database is away or
        busy. The statement may have been executed only if that is an UnansweredError. If the caller is
        cancelled, the statement runs on.
        """
        with self._observe(statement.name):
            start = self._connections.time()
            try:
                return await self._attempt(statement, parameters, start, movable=statement.repeatable)
            except ReadOnlySqlTransaction:  # no longer the primary: the next connection finds the new one
                self._connections.drain()
                raise
            except OperationalError as error:
                if not statement.repeatable or not _lost(error):
                    raise
            self._connections.check()
            try:
                # The connection gets a later deadline: it should not end because this one statement is late.
                async with asyncio.timeout_at(start + self._timeout):
                    return await self._attempt(statement, parameters, start + self._timeout)
            except TimeoutError:
                raise OverdueError("no answer in time, after a connection broke") from None

    async def _attempt(
        self,
        statement: Statement[Row],
        parameters: Mapping[str, object],
        start: float,
        *,
        movable: bool = False,
    ) -> list[Row]:
        transformer = self._transformer
        values = [parameters[name] for name in statement.parameters]
        kinds = [PyFormat.BINARY if type(value) in _BINARY else PyFormat.TEXT for value in values]
        dumped, formats = transformer.dump_sequence(values, kinds), transformer.formats
        deadline = start + self._timeout * (1 - _REACTION)
        for prepare in (self._prepare, False):
            connection = self._connections.least_busy()
            if connection is None:
                connection = await self._connections.first(start + self._timeout * _WAIT)
            result = await connection.send(
                statement, dumped, formats, deadline, prepare=prepare, movable=movable
            )
            status = result.status
            if status == _ROWS:
                transformer.set_pgresult(result)
                return transformer.load_rows(0, result.ntuples, statement.make_row)
            if status == _DONE:
                return []
            if result.error_field(DiagnosticField.SQLSTATE) not in _STALE:
                break
            connection.forget(statement)
        raise error_from_result(result)


def _lost(error: OperationalError) -> bool:
    """Whether ours or, with class 08, a server's own connection broke. Being too slow does not count."""
    return not isinstance(error, OverdueError) and (
        isinstance(error, UnansweredError) or (error.sqlstate or "").startswith("08")
    )
