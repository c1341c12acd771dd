"""Every file under sql/: known to PostgreSQL, in step with its Struct, and in use."""

import importlib
import pkgutil
import re
from typing import Any

import msgspec
import psycopg
import pytest

import todo_api
from todo_api import folder
from todo_api.queries import Statement
from todo_api.resources.tasks.controller import CREATE_ONCE, LIST
from todo_api.resources.tasks.payloads import Created, Listed, Task
from todo_api.resources.users import User


def _statements() -> dict[str, Statement[Any]]:
    modules = [
        importlib.import_module(found.name) for found in pkgutil.walk_packages(todo_api.__path__, "todo_api.")
    ]
    values = [value for module in modules for value in vars(module).values()]
    values += [nested for value in values if isinstance(value, dict) for nested in value.values()]
    return {value.name: value for value in values if isinstance(value, Statement)}


STATEMENTS = _statements()
NAMES = sorted(
    path.relative_to(folder("sql")).with_suffix("").as_posix() for path in folder("sql").rglob("*.sql")
)


def _columns(database: psycopg.Connection, statement: Statement[Any]) -> list[str]:
    """PREPARE the statement and tell which columns it will return."""
    numbered = {name: f"${number}" for number, name in enumerate(statement.parameters, 1)}
    text = re.sub(r"%\((\w+)\)s", lambda found: numbered[found[1]], statement.text.decode())
    connection = database.pgconn
    prepared = connection.prepare(b"", text.encode())
    assert psycopg.pq.ExecStatus.COMMAND_OK == prepared.status, prepared.error_message.decode()
    described = connection.describe_prepared(b"")
    assert len(statement.parameters) == described.nparams
    return [(described.fname(column) or b"").decode() for column in range(described.nfields)]


def test_every_file_is_used() -> None:
    """No statement lies about that nothing runs."""
    assert NAMES == sorted(STATEMENTS)


@pytest.mark.parametrize("name", NAMES)
def test_postgresql_takes_the_file(database: psycopg.Connection, name: str) -> None:
    """PostgreSQL can PREPARE it, and it returns rows, without which nobody could tell what happened."""
    assert _columns(database, STATEMENTS[name])


@pytest.mark.parametrize("name", [name for name in NAMES if STATEMENTS[name].row in (Task, User)])
def test_columns_are_the_fields(database: psycopg.Connection, name: str) -> None:
    """Columns come in the order of the Struct's fields, into which they are put by position."""
    row: Any = STATEMENTS[name].row
    assert list(row.__struct_fields__) == _columns(database, STATEMENTS[name])


@pytest.mark.parametrize(
    ("statement", "row"),
    [(CREATE_ONCE, Created), (LIST["created_at"], Listed), (LIST["-created_at"], Listed)],
)
def test_columns_of_a_task_with_flags(
    database: psycopg.Connection, statement: Statement[Any], row: type[msgspec.Struct]
) -> None:
    """The columns of a task come first, then the flags."""
    _, *flags = row.__struct_fields__
    assert [*Task.__struct_fields__, *flags] == _columns(database, statement)


@pytest.mark.parametrize("name", NAMES)
def test_the_header_names_each_parameter(name: str) -> None:
    """The comment on top says what the statement does, and names each parameter."""
    statement = STATEMENTS[name]
    header = "".join(re.findall(r"^--.*\n", (folder("sql") / f"{name}.sql").read_text(), re.MULTILINE))
    assert header
    assert [*statement.parameters] == [
        p for p in statement.parameters if re.search(rf"^--   {p}  +\S", header, re.M)
    ]


def test_a_missing_file_stops_the_start() -> None:
    """A statement is read when its module is imported, not when the first request needs it."""
    with pytest.raises(FileNotFoundError):
        Statement("tasks/nowhere", Task)
