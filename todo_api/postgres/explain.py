"""Shows how PostgreSQL runs a statement of ``sql/``."""

from collections.abc import Mapping

import psycopg

from todo_api import OperatorError, folder
from todo_api.postgres.errors import reason
from todo_api.queries import Statement


def statements() -> list[Statement[tuple[object, ...]]]:
    """Every file of ``sql/``, by name."""
    root = folder("sql")
    names = sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.sql"))
    return [Statement(name, lambda *columns: columns) for name in names]


def plan(
    connection: psycopg.Connection, statement: Statement[tuple[object, ...]], values: Mapping[str, str]
) -> list[str]:
    """Execute the statement, roll it back, and return the lines of its plan, with times and buffers.

    ``values`` are PostgreSQL literals (``{2026-01-01}`` for an array); a parameter without one is null.
    Raises OperatorError if a name is wrong or the statement fails.
    """
    if unknown := values.keys() - set(statement.parameters):
        raise OperatorError(f"{statement.name} takes no {' or '.join(sorted(unknown))}: {usage(statement)}")
    command = b"explain (analyze, buffers, settings) " + statement.text
    try:
        with connection.transaction(force_rollback=True):
            rows = connection.execute(command, dict.fromkeys(statement.parameters) | dict(values))
            return [line for (line,) in rows]
    except psycopg.Error as error:
        raise OperatorError(f"{statement.name}: {reason(error)}") from None


def usage(statement: Statement[tuple[object, ...]]) -> str:
    """The statement's name and parameters, on one line."""
    return " ".join([statement.name, *(f"{name}=…" for name in statement.parameters)])
