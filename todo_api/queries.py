"""The statements under ``sql/``, one a file, and how one is run."""

import re
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from todo_api import folder

Row = TypeVar("Row")
_PARAMETER = re.compile(r"%\((\w+)\)s")


class Statement(Generic[Row]):
    """One file of ``sql/`` and what makes a row of its columns, in their order.

    ``name`` is the file's path, ``tasks/get``. A missing file raises ``FileNotFoundError``
    as soon as the module that names it is imported, so it stops the start.
    """

    def __init__(self, name: str, row: Callable[..., Row]) -> None:
        text = (folder("sql") / f"{name}.sql").read_text(encoding="utf-8")
        self.name = name
        self.row = row
        self.text = text.encode()
        self.parameters = tuple(dict.fromkeys(_PARAMETER.findall(text)))


class Executor(Protocol):
    """Runs a statement in a transaction of its own, in one round trip."""

    async def execute(self, statement: Statement[Row], parameters: dict[str, object]) -> Sequence[Row]:
        """Return every row; raise ``psycopg.Error`` as the database meant it."""
        ...


class Queries:
    """What a handler asks of the database."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def all(self, statement: Statement[Row], **parameters: object) -> Sequence[Row]:
        """Every row, in the statement's order."""
        return await self._executor.execute(statement, parameters)

    async def one(self, statement: Statement[Row], **parameters: object) -> Row | None:
        """The row, or None where no row qualifies."""
        rows = await self._executor.execute(statement, parameters)
        return rows[0] if rows else None
