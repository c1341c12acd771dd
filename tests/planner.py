"""Asks PostgreSQL's planner about a statement as the service runs it: prepared."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

_PARAMETER = re.compile(r"%\((\w+)\)s")


def numbered(statement: str) -> tuple[str, list[str]]:
    """A statement with its parameters as PostgreSQL has them, ``$1``, and their names."""
    names = list(dict.fromkeys(_PARAMETER.findall(statement)))
    return _PARAMETER.sub(lambda name: f"${names.index(name[1]) + 1}", statement), names


def plan(
    connection: psycopg.Connection, statement: str, values: Mapping[str, object], mode: str, options: str
) -> dict[str, Any]:
    """The plan that EXPLAIN gives with these options, undone if it was executed.

    A parameter without a value is null. ``mode`` is ``generic`` for the plan that serves any values, or
    ``custom`` for the one that is made for these: a prepared statement gets the one that PostgreSQL thinks
    cheaper. An error leaves the connection of no further use.
    """
    text, names = numbered(statement)
    arguments = sql.SQL(", ").join([sql.Literal(values.get(name)) for name in names])
    call = sql.SQL("execute statement({})" if names else "execute statement").format(arguments)
    with connection.transaction(force_rollback=True):
        connection.execute(f"set local plan_cache_mode = force_{mode}_plan".encode())
        connection.execute(f"prepare statement as {text}".encode())
        rows = connection.execute(sql.SQL(f"explain ({options}, format json) {{}}").format(call)).fetchall()
        connection.execute("deallocate statement")
    explained: dict[str, Any] = rows[0][0][0]
    return explained


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node of a plan, and all those under it."""
    yield node
    for part in node.get("Plans", ()):
        yield from nodes(part)
