"""Every file under sql/: known to PostgreSQL, in step with its Struct, and in use."""

import ast
import importlib
import inspect
import operator
import pkgutil
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import psycopg
import pytest

import todo_api
from todo_api import folder
from todo_api.http.timestamps import encode
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


class Call(NamedTuple):
    """A call of ``fetch_one`` or ``fetch_all``: where, which statement, and the keywords that it passes."""

    where: str
    statement: Statement[Any]
    keywords: set[str]


def _calls() -> Iterator[Call]:
    for found in pkgutil.walk_packages(todo_api.__path__, "todo_api."):
        module = importlib.import_module(found.name)
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="fetch_one" | "fetch_all"), args=[named], keywords=given
                ):
                    keywords = {name for keyword in given for name in _names(module, keyword)}
                    for statement in _named(module, named):
                        yield Call(f"{found.name}:{node.lineno} {statement.name}", statement, keywords)


def _named(module: ModuleType, node: ast.expr) -> list[Statement[Any]]:
    """The statements that an expression may stand for."""
    match node:
        case ast.IfExp(body=body, orelse=orelse):
            return _named(module, body) + _named(module, orelse)
        case ast.Subscript(value=value):
            return list(operator.attrgetter(ast.unparse(value))(module).values())
    return [operator.attrgetter(ast.unparse(node))(module)]


def _names(module: ModuleType, keyword: ast.keyword) -> set[str]:
    """The keyword, or those of the dictionary that a function returns."""
    if keyword.arg:
        return {keyword.arg}
    assert isinstance(keyword.value, ast.Call)
    function = operator.attrgetter(ast.unparse(keyword.value.func))(module)
    returned = [
        {ast.literal_eval(key) for key in node.value.keys if key}
        for node in ast.walk(ast.parse(inspect.getsource(function)))
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict)
    ]
    assert returned and all(keys == returned[0] for keys in returned)
    return returned[0]


CALLS = list(_calls())


@pytest.mark.parametrize("call", CALLS, ids=[call.where for call in CALLS])
def test_each_call_passes_what_its_file_takes(call: Call) -> None:
    """Neither a missing nor a surplus parameter waits for a request to be noticed."""
    assert set(call.statement.parameters) == call.keywords


@pytest.mark.parametrize("call", CALLS, ids=[call.where for call in CALLS])
def test_only_what_may_run_twice_is_repeatable(call: Call) -> None:
    """Every read, and the create with a key; any other write could write twice."""
    reads = call.statement.text.startswith(b"select ")
    assert call.statement.repeatable == (reads or call.statement is CREATE_ONCE)


def test_no_served_statement_escapes() -> None:
    """Each statement of a resource or a probe is in a call that is compared, but for the command line's."""
    for_operators = {"users/delete", "users/find", "users/list", "migrations/digests", "migrations/taken"}
    served = set(NAMES) - for_operators
    assert served == {call.statement.name for call in CALLS}


@pytest.mark.parametrize("row", [Task, User])
def test_every_timestamp_of_a_row_has_microseconds(row: type[msgspec.Struct]) -> None:
    """Even at a whole second, where the encoder alone would omit the fraction."""
    fields = msgspec.structs.fields(row)
    timestamps = [field.name for field in fields if "datetime" in str(field.type)]
    at = datetime(2026, 1, 1, tzinfo=UTC)
    encoded = msgspec.json.decode(
        encode(row(*(at if field.name in timestamps else None for field in fields)))
    )
    assert timestamps
    assert {"2026-01-01T00:00:00.000000Z"} == {encoded[name] for name in timestamps}
