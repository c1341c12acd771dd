"""The statements under ``sql/``, one a file, and how one is run."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from todo_api import folder

Row = TypeVar("Row")
_PARAMETER = re.compile(r"%\((\w+)\)s")
_HEADER_AND_VERB = re.compile(r"\A(?:--.*\n|\s)*(\w+)")


class Statement(Generic[Row]):
    """One file of ``sql/`` and what makes a row of its columns, in their order.

    ``name`` is the file's path, ``tasks/get``. A missing file raises ``FileNotFoundError``
    as soon as the module that names it is imported, so it stops the start.

    ``text`` is what psycopg is given: the statement without its header, and with its name
    (``select /* tasks/get */ id, …``), by which ``pg_stat_activity`` and ``pg_stat_statements`` show it.
    ``positional`` is the same as libpq takes it, with ``$1`` for the first of ``parameters``.

    ``repeatable`` says that to run it twice is to run it once.
    """

    def __init__(self, name: str, row: Callable[..., Row], *, repeatable: bool = False) -> None:
        text = (folder("sql") / f"{name}.sql").read_text(encoding="utf-8")
        self.name = name
        self.row = row
        self.make_row: Callable[[Sequence[Any]], Row] = lambda values: row(*values)
        self.repeatable = repeatable
        # PostgreSQL 18 cuts off what stands before a statement, hence the name behind its first word.
        text = _HEADER_AND_VERB.sub(rf"\1 /* {name} */", text)
        self.text = text.encode()
        self.parameters = tuple(dict.fromkeys(_PARAMETER.findall(text)))
        numbers = {parameter: f"${number}" for number, parameter in enumerate(self.parameters, start=1)}
        self.positional = _PARAMETER.sub(lambda found: numbers[found[1]], text).replace("%%", "%").encode()


class Executor(Protocol):
    """Runs a statement in a transaction of its own, in one round trip."""

    async def run(self, statement: Statement[Row], parameters: Mapping[str, object]) -> Sequence[Row]:
        """Return every row; raise ``psycopg.Error`` as the database meant it."""
        ...


class Queries:
    """Runs statements and returns their rows as Structs.

    The keywords are the statement's parameters. A test compares every call with its file.
    """

    def __init__(self, executor: Executor) -> None:
        self._run = executor.run

    async def fetch_all(self, statement: Statement[Row], **parameters: object) -> Sequence[Row]:
        """Every row, in the statement's order."""
        return await self._run(statement, parameters)

    async def fetch_one(self, statement: Statement[Row], **parameters: object) -> Row | None:
        """The row, or None where no row qualifies."""
        rows = await self._run(statement, parameters)
        return rows[0] if rows else None
