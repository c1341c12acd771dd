"""No statement reaches a task but through its owner: PostgreSQL's parser and planner say so.

Every file under ``sql/`` is put to both. The parser's check sees what is written, whatever the planner could
infer; the planner's sees what would be done, whatever the parser's overlooks.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from pglast import ast, parse_sql
from pglast.enums import A_Expr_Kind, BoolExprType
from pglast.stream import RawStream
from pglast.visitors import Visitor

from todo_api.postgres import explain

from .planner import nodes, numbered, plan

# What a statement has to bind to a parameter, one of these for each table. No other table may be used.
OWNERS: dict[str, set[str]] = {
    "tasks": {"user_id"},
    "users": {"id", "lower(email)"},
    "_yoyo_migration": set(),
    "_yoyo_log": set(),
    "pg_class": set(),
}

# The operator's list of users is meant to read them all.
STATEMENTS = {file.name: file.text.decode() for file in explain.statements() if file.name != "users/list"}

WRONG = {
    "no owner": "select id from tasks where id = %(id)s",
    "no condition": "delete from tasks",
    "the short form": "table tasks",
    "either": "select id from tasks where user_id = %(user_id)s or completed",
    "either, inside": "select id from tasks where id = %(id)s and (user_id = %(user_id)s or completed)",
    "not the owner": "select id from tasks where not user_id = %(user_id)s",
    "another than the owner": "select id from tasks where user_id <> %(user_id)s",
    "any owner": "select id from tasks where user_id is not null and id = %(id)s",
    "its own owner": "select id from tasks where user_id = user_id and id = %(id)s",
    "a cast column": "select id from tasks where user_id::text = %(user_id)s and id = %(id)s",
    "a wider owner": "select id from tasks where user_id = coalesce(%(user_id)s, user_id)",
    "a sub-select": "select id from users where id = %(id)s and exists (select from tasks where completed)",
    "a select list": "select (select count(*) from tasks) from users where id = %(id)s",
    "a common table": "with t as (select * from tasks) select id from t where id = %(id)s",
    "a common table's name": "with tasks as (select * from tasks) select id from tasks",
    "one half": "select id from tasks where user_id = %(user_id)s union select id from tasks",
    "a join": "select t.id from users as u inner join tasks as t on true where u.id = %(id)s",
    "an outer join": "select t.id from users as u left join tasks as t on t.id = u.id where u.id = %(id)s",
    "another table's column": "select t.id from tasks as t, users as u where u.id = %(id)s and t.id = u.id",
    "an update": "update tasks set completed = true where id = %(id)s",
    "an update from": "update tasks set completed = true from users as u where u.id = %(id)s",
    "a delete using": "delete from tasks using users as u where u.id = %(id)s",
    "a delete inside": "with d as (delete from tasks where id = %(id)s returning id) select id from d",
}

WRONG_BY_ITS_TEXT = {
    "a constant": "select id from tasks where user_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff'",
    "several owners": "select id from tasks where user_id = any(%(user_ids)s)",
    "an inferred owner": "select t.id from tasks as t, users as u where t.user_id = u.id and u.id = %(id)s",
    "nobody's": "insert into tasks (title) values (%(title)s)",
    "somebody's": "insert into tasks (user_id, title) values (gen_random_uuid(), %(title)s)",
    "one somebody's": "insert into tasks (user_id, title) values (%(user_id)s, 'a'), (default, 'b')",
    "a user's": "insert into tasks (user_id, title) select id, 'a' from users where id = %(user_id)s",
    "a conflict with another's": "insert into tasks (user_id, id, title) values (%(user_id)s, %(id)s, 'a') "
    "on conflict (id) do update set title = 'b'",
    "a conflict that moves": "insert into tasks (user_id, id, title) values (%(user_id)s, %(id)s, 'a') "
    "on conflict (user_id, id) do update set user_id = %(other)s",
    "a new owner": "update tasks set user_id = %(other)s where user_id = %(user_id)s",
    "a merge": "merge into tasks using users on true when matched then delete",
    "a truncate": "truncate tasks",
    "an unknown table": "select oid from pg_proc",
}


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_each_statement_is_written_for_one_owner(statement: str) -> None:
    """Each WHERE binds the owner to a parameter, and each insert takes it from one."""
    assert [] == faults_of_text(statement)


@pytest.mark.parametrize("statement", (WRONG | WRONG_BY_ITS_TEXT).values(), ids=WRONG | WRONG_BY_ITS_TEXT)
def test_a_wrong_statement_is_refused_by_its_text(statement: str) -> None:
    """The parser's check bites."""
    assert faults_of_text(statement)


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_each_statement_is_planned_for_one_owner(statement: str, owner_url: str) -> None:
    """Each scan is one of an index, entered by an owner that is a parameter."""
    assert [] == faults_of_plan(statement, owner_url)


@pytest.mark.parametrize("statement", WRONG.values(), ids=WRONG)
def test_a_wrong_statement_is_refused_by_its_plan(statement: str, owner_url: str) -> None:
    """The planner's check bites."""
    assert faults_of_plan(statement, owner_url)


@pytest.fixture
def owner_url(database_url: str, as_owner: Callable[[str], str]) -> str:
    """For the owner, who may run every statement."""
    return as_owner(database_url)


def faults_of_text(statement: str) -> list[str]:
    """Where a statement is not bound to an owner, as PostgreSQL's parser reads it."""
    check = _Check()
    check(parse_sql(numbered(statement)[0]))
    return check.faults()


class _Check(Visitor):
    """Visits every statement inside a statement."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._reads: list[tuple[list[Any], set[str]]] = []
        self._common: set[str] = set()

    def faults(self) -> list[str]:
        return self._faults + [
            fault for tables, bound in self._reads for fault in self._unbound(tables, bound)
        ]

    def _unbound(self, tables: list[Any], bound: set[str]) -> Iterator[str]:
        for table in tables:
            name = table.alias.aliasname if table.alias else table.relname
            if (owners := OWNERS.get(table.relname)) is not None:
                # Among several tables, a column's name alone does not say whose it is.
                wanted = {f"{name}.{owner}" for owner in owners} | (owners if len(tables) == 1 else set())
                if wanted and not wanted & bound:
                    yield f"{name} is not read by {' or '.join(sorted(owners))}"
            elif table.relname not in self._common:
                yield f"nothing is known of the owners of {table.relname}"

    def visit_RawStmt(self, _: object, node: Any) -> None:
        if not isinstance(node.stmt, ast.SelectStmt | ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt):
            self._faults.append(f"{type(node.stmt).__name__} is none of select, insert, update and delete")

    def visit_CommonTableExpr(self, _: object, node: Any) -> None:
        self._common.add(node.ctename)

    def visit_SelectStmt(self, _: object, node: Any) -> None:
        self._read(node.fromClause, node.whereClause)

    def visit_DeleteStmt(self, _: object, node: Any) -> None:
        self._read([node.relation, *(node.usingClause or ())], node.whereClause)

    def visit_UpdateStmt(self, _: object, node: Any) -> None:
        self._read([node.relation, *(node.fromClause or ())], node.whereClause)
        self._stays(node.targetList)

    def visit_InsertStmt(self, _: object, node: Any) -> None:
        if node.relation.relname != "tasks":
            return
        columns = [column.name for column in node.cols or ()]
        rows = node.selectStmt.valuesLists or [()]
        if "user_id" not in columns or not all(
            len(row) == len(columns) and isinstance(row[columns.index("user_id")], ast.ParamRef)
            for row in rows
        ):
            self._faults.append("an inserted row has its owner from elsewhere than a parameter")
        if (conflict := node.onConflictClause) and conflict.targetList:
            self._stays(conflict.targetList)
            if "user_id" not in [element.name for element in conflict.infer.indexElems]:
                self._faults.append("a conflict may be with another owner's row")

    def _read(self, sources: Any, condition: Any) -> None:
        self._reads.append((list(_tables(sources)), set(_bound(condition))))

    def _stays(self, assignments: Any) -> None:
        if "user_id" in [assignment.name for assignment in assignments]:
            self._faults.append("a row changes its owner")


def _tables(sources: Any) -> Iterator[Any]:
    """The tables of a FROM; a sub-select there is visited for itself."""
    for source in sources or ():
        if isinstance(source, ast.RangeVar):
            yield source
        elif isinstance(source, ast.JoinExpr):
            yield from _tables([source.larg, source.rarg])


def _bound(condition: Any) -> Iterator[str]:
    """What equals a parameter wherever the condition holds: ``user_id``, ``t.user_id``, ``lower(email)``."""
    if isinstance(condition, ast.BoolExpr) and condition.boolop == BoolExprType.AND_EXPR:
        for part in condition.args or ():
            yield from _bound(part)
    # One operator, and not the = of "= any", nor that of "is not distinct from".
    elif isinstance(condition, ast.A_Expr) and condition.kind == A_Expr_Kind.AEXPR_OP:
        column, separator, value = RawStream()(condition).partition(" = ")
        if separator and re.fullmatch(r"\$\d+|lower\(\$\d+\)", value):
            yield column


def faults_of_plan(statement: str, url: str) -> list[str]:
    """Where PostgreSQL would scan a table otherwise than through an index, entered by its owner.

    The plan is the generic one, in which a parameter shows as one. On tables as empty as these it costs least
    to read them whole; what counts is whether an index can be used, hence the settings. That it is used on
    large ones is what ``tests/plans.py`` shows.
    """
    with psycopg.connect(url, options="-c enable_seqscan=off -c enable_bitmapscan=off") as connection:
        explained = plan(connection, statement, {}, "generic", "verbose")
    return [fault for node in nodes(explained["Plan"]) for fault in _faults_of_scan(node)]


def _faults_of_scan(node: dict[str, Any]) -> Iterator[str]:
    table = node.get("Relation Name")
    if table is None or node["Node Type"] == "ModifyTable":
        return
    condition = node.get("Index Cond", "").replace(f"{node['Alias']}.", "")
    owners = "|".join(re.escape(owner) for owner in OWNERS[table])
    if owners and not re.search(rf"\(({owners}) = (\$\d+|lower\(\$\d+\))\)", condition):
        yield f"{node['Node Type']} of {table} by {condition or 'nothing'}"
