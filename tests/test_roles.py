"""Who may do what: an owner who migrates, and a login for the service with what its statements need."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from pglast import parse_sql
from pglast.visitors import Visitor
from psycopg import errors, sql

from todo_api.postgres import explain, migrations

from .databases import as_login
from .planner import numbered
from .service import ROOT

GRANTED = """
select relname, verb, '' as column
from pg_class cross join unnest(array['select', 'delete', 'truncate', 'references', 'trigger']) as verb
where relnamespace = 'public'::regnamespace and relkind = 'r' and has_table_privilege(pg_class.oid, verb)
union all
select relname, verb, attname
from pg_class
inner join pg_attribute on attrelid = pg_class.oid and attnum > 0
cross join unnest(array['insert', 'update']) as verb
where
    relnamespace = 'public'::regnamespace and relkind = 'r'
    and has_column_privilege(pg_class.oid, attname, verb)
"""

Login = Callable[[], str]


@pytest.fixture
def service(database_url: str, application_role: str | None) -> Iterator[psycopg.Connection]:
    """A connection as the service has it."""
    if application_role is None:
        pytest.skip("the login of TEST_DATABASE_URL may not create roles")
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def test_the_service_may_do_what_its_statements_do_and_no_more(service: psycopg.Connection) -> None:
    """Its privileges are those that the files under sql/ need, but for the two of ``migrate``."""
    only_migrate = ("migrations/digests", "migrations/taken")
    texts = [file.text.decode() for file in explain.statements() if file.name not in only_migrate]
    assert {need for text in texts for need in _needs(text)} == set(service.execute(GRANTED).fetchall())


@pytest.mark.parametrize(
    "statement",
    [
        "create table mine (id int)",
        "create function mine() returns int language sql as 'select 1'",
        "drop table tasks",
        "alter table tasks disable trigger all",
        "truncate tasks",
        "update tasks set user_id = gen_random_uuid()",
        "insert into tasks (user_id, id, title) values (gen_random_uuid(), gen_random_uuid(), 'x')",
        "delete from _yoyo_migration",
    ],
)
def test_the_service_is_refused_what_it_does_not_need(service: psycopg.Connection, statement: str) -> None:
    """Not even its own defect could change the schema, or give a task to somebody else."""
    with pytest.raises(errors.InsufficientPrivilege):
        service.execute(statement.encode())


@pytest.fixture
def new_login(postgres: str) -> Iterator[Login]:
    """Makes logins that may do nothing special, dropped at the end."""
    names = []
    with psycopg.connect(postgres, autocommit=True) as connection:
        if connection.execute("show is_superuser").fetchone() != ("on",):
            pytest.skip(
                "the login of TEST_DATABASE_URL is no superuser, who alone may make any login an owner"
            )

        def make() -> str:
            names.append(f"todo_test_{uuid4().hex[:12]}")
            connection.execute(
                sql.SQL("create role {} login password {}").format(sql.Identifier(names[-1]), names[-1])
            )
            return names[-1]

        yield make
        for name in names:
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.fixture
def owned(postgres: str, new_login: Login) -> Iterator[str]:
    """The URL of an empty database for its owner, who is nobody special."""
    owner = new_login()
    name = sql.Identifier(owner)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {} owner {}").format(name, name))
        yield as_login(urlsplit(postgres)._replace(path=f"/{owner}").geturl(), owner)
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


def test_a_plain_owner_migrates_and_the_service_gets_its_privileges(
    owned: str, new_login: Login, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that comes after the schema gets them from the next ``migrate``, which applies nothing else."""
    shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    monkeypatch.setattr(migrations, "folder", tmp_path.joinpath)
    migrations.apply(owned, lambda _: None)
    role = new_login()
    service = as_login(owned, role)
    assert [] == _privileges(service)
    hook = tmp_path / "migrations" / "post-apply.sql"
    hook.write_text(hook.read_text().replace("todo_app", role))
    applied: list[str] = []
    migrations.apply(owned, applied.append)
    # A plain owner may not alter the role: what the administrator has to run is printed.
    [notice] = applied
    assert f"run: alter role {role} in database" in notice
    assert ("tasks", "select", "") in _privileges(service)
    assert [] == migrations.pending(service)


def test_the_service_s_login_is_refused_as_a_migrator(service: psycopg.Connection, database_url: str) -> None:
    """Where MIGRATIONS_DATABASE_URL was forgotten, the server's reason is reported."""
    with pytest.raises(errors.InsufficientPrivilege):
        migrations.apply(database_url, lambda _: None)


def _privileges(url: str) -> list[tuple[str, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(GRANTED).fetchall()


def _needs(statement: str) -> set[tuple[str, str, str]]:
    """What privileges a statement needs, as (table, verb, column where it matters)."""
    needs = _Needs()
    needs(parse_sql(numbered(statement)[0]))
    return needs.found


class _Needs(Visitor):
    def __init__(self) -> None:
        self.found: set[tuple[str, str, str]] = set()

    def visit_RangeVar(self, _: object, node: Any) -> None:
        self.found.add((node.relname, "select", ""))

    def visit_DeleteStmt(self, _: object, node: Any) -> None:
        self.found.add((node.relation.relname, "delete", ""))

    def visit_UpdateStmt(self, _: object, node: Any) -> None:
        self._each(node.relation, "update", node.targetList)

    def visit_InsertStmt(self, _: object, node: Any) -> None:
        self._each(node.relation, "insert", node.cols)
        if node.onConflictClause:
            self._each(node.relation, "update", node.onConflictClause.targetList or ())

    def _each(self, relation: Any, verb: str, targets: Any) -> None:
        self.found |= {(relation.relname, verb, target.name) for target in targets}
