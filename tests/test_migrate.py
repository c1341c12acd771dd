"""Migrations: applied once, whoever runs them and whatever kills them, and rolled back without a trace."""

import hashlib
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from todo_api.commands import cli
from todo_api.postgres import migrations

from .databases import NewDatabase
from .schema import HEADER, dump
from .service import COMMAND, ROOT, environment, run
from .waiting import wait_until

NAMES = migrations.known()


@pytest.fixture
def database(new_database: NewDatabase, as_owner: Callable[[str], str]) -> str:
    """A database of one's own with the current schema, for its owner."""
    return as_owner(new_database())


@pytest.fixture
def empty(empty_database: NewDatabase) -> str:
    """A database of one's own without a schema."""
    return empty_database()


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """A connection to the database with the current schema."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations that may be written to."""
    shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    monkeypatch.setattr(migrations, "folder", tmp_path.joinpath)
    return tmp_path / "migrations"


def silent(_: str) -> None:
    """Say nothing."""


def test_every_migration_has_a_rollback() -> None:
    """None is rolled back in name only."""
    assert [] == [name for name in NAMES if not (ROOT / "migrations" / f"{name}.rollback.sql").is_file()]


def test_up_down_up_makes_the_same_schema(empty: str) -> None:
    """Rolling all back leaves nothing, and applying all again makes what was there."""
    migrations.apply(empty, silent)
    first = dump(empty)
    migrations.roll_back(empty, NAMES, silent)
    assert HEADER.strip() == dump(empty).strip()
    migrations.apply(empty, silent)
    assert first == dump(empty)


def test_the_documented_schema_is_the_current_one(database: str, connection: psycopg.Connection) -> None:
    """docs/schema.sql is what the migrations make; 'make schema' writes it anew."""
    if connection.info.server_version < 180000:
        pytest.skip("docs/schema.sql is PostgreSQL 18's, which has uuidv7() built in")
    assert (ROOT / "docs" / "schema.sql").read_text() == dump(database)


FOREIGN = [
    "create table users (id serial, email text, name text); insert into users (email) values ('x')",
    "create view users as select 1 as id",
    "create materialized view tasks as select 1 as id",
    "create sequence tasks",
    "create table other (email text); create index users_email_key on other (email)",
    "create table other (key text); create index tasks_idempotency_key on other (key)",
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_another_application_s_relation_is_refused(empty: str, foreign: str) -> None:
    """It is named, and neither it nor anything else is changed, by migrate or by rollback."""
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(foreign.encode())
        before = dump(empty)
        with pytest.raises(migrations.MigrationError, match=r"^There is a \w.* (users|tasks)\w* already"):
            migrations.apply(empty, silent)
        assert NAMES == migrations.pending(empty)
        assert before == dump(empty)
        assert [(None,)] == connection.execute("select to_regclass('_yoyo_migration')").fetchall()


@pytest.mark.parametrize("schema", ["app", '"$user"'])
def test_another_schema_s_tables_are_nobody_s_concern(
    empty: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema is made wherever search_path leads first, whoever has tables elsewhere."""
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("create table users (id int)")
        name = schema.strip('"').replace("$user", connection.info.user)
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(name)))
        monkeypatch.setenv("PGOPTIONS", f"-c search_path={schema},public")
        migrations.apply(empty, silent)
        assert migrations.where(empty).endswith(f"schema {name}")
        assert [] == migrations.pending(empty)
        migrations.roll_back(empty, NAMES, silent)
        assert [(None,)] != connection.execute("select to_regclass('public.users')").fetchall()


@pytest.mark.parametrize(("table", "name"), [("users", "0002.create-users"), ("tasks", "0003.create-tasks")])
def test_rollback_drops_only_what_its_migration_created(
    database: str, connection: psycopg.Connection, table: str, name: str
) -> None:
    """A release that did not look first could mark another application's table as migrated: it stays."""
    migrations.roll_back(database, NAMES[NAMES.index("0003.create-tasks") :], silent)
    if table == "users":
        connection.execute("alter table users drop constraint users_email_form")
    else:
        connection.execute("create table tasks (id int primary key)")
        marks = "migration_hash, migration_id, applied_at_utc"
        of_name = hashlib.sha256(name.encode()).hexdigest()
        connection.execute(
            f"insert into _yoyo_migration ({marks}) values (%s, %s, now())".encode(), [of_name, name]
        )
    refusal = f"{name}: The table {table} was not made by todo-api and stays"
    with pytest.raises(migrations.MigrationError, match=refusal):
        migrations.roll_back(database, [name], silent)
    assert connection.execute(f"select to_regclass('{table}') is not null".encode()).fetchone() == (True,)
    assert name not in migrations.pending(database)


def test_a_function_of_another_application_stays(empty: str) -> None:
    """A uuidv7() that was there before the first migration outlives the last rollback."""
    with psycopg.connect(empty, autocommit=True) as connection:
        body = "returns uuid language sql as 'select gen_random_uuid()'"
        connection.execute(f"create function public.uuidv7() {body}".encode())
        migrations.apply(empty, silent)
        migrations.roll_back(empty, NAMES, silent)
        assert connection.execute("select to_regprocedure('public.uuidv7()') is not null").fetchone() == (
            True,
        )


def test_a_migration_without_a_rollback_is_not_rolled_back(folder: Path, empty: str) -> None:
    """It is refused before anything is changed, and stays marked."""
    (folder / "9999.new.sql").write_text("create table new (id int);")
    migrations.apply(empty, silent)
    with pytest.raises(migrations.MigrationError, match=r"^9999\.new has no \.rollback\.sql"):
        migrations.roll_back(empty, [*NAMES, "9999.new"], silent)
    assert [] == migrations.pending(empty)


def test_the_server_s_notices_are_passed_on(folder: Path, empty: str) -> None:
    """Whoever runs a migration sees its notices, for instance how long it may take."""
    limits = ["lock_timeout", "statement_timeout", "client_connection_check_interval"]
    values = ", ".join(f"current_setting('{name}')" for name in limits)
    (folder / "9999.tell.sql").write_text(f"do $$ begin raise notice 'limits: % % %', {values}; end $$;")
    said: list[str] = []
    migrations.apply(empty, said.append)
    assert "PostgreSQL: limits: 10s 15min 1s" in said


def test_rows_that_no_timestamp_can_express_stop_the_validation(
    database: str, connection: psycopg.Connection
) -> None:
    """The migration names the constraint; once the row is mended, the next run goes through."""
    migrations.roll_back(database, NAMES[NAMES.index("0004.bound-timestamps") :], silent)
    connection.execute("insert into users (email, created_at) values ('ada@example.org', 'infinity')")
    with pytest.raises(
        migrations.MigrationError, match=r'^0005\.validate-timestamps: .*"users_created_at_range"'
    ):
        migrations.apply(database, silent)
    connection.execute("update users set created_at = now()")
    migrations.apply(database, silent)
    assert [] == migrations.pending(database)


def test_a_run_that_is_killed_in_the_middle_blocks_nobody(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    """After a SIGKILL amid a statement, nothing of it is left, and the next run does it all."""
    before = dump(database)
    late = NAMES[NAMES.index("0003.create-tasks") :]
    migrations.roll_back(database, late, silent)
    with connection.transaction():
        connection.execute("lock table users")  # which the foreign key of tasks needs
        with subprocess.Popen(
            [*COMMAND, "migrate"], env=environment(tmp_path, DATABASE_URL=database), stderr=subprocess.DEVNULL
        ) as process:
            wait_for(connection, "wait_event_type = 'Lock' and query like 'create table%'")
            process.send_signal(signal.SIGKILL)
        wait_for(connection, "application_name like 'todo-api/% migrate'", False)
    assert late == migrations.pending(database)
    assert 0 == run(tmp_path, "migrate", DATABASE_URL=database).returncode
    assert before == dump(database)


def wait_for(connection: psycopg.Connection, condition: str, expected: bool = True) -> None:
    """Wait until a session of this database is, or none is any more, as the condition says."""
    query = f"select from pg_stat_activity where datname = current_database() and {condition}"

    def happened() -> bool:
        connection.execute("select pg_stat_clear_snapshot()")  # which a transaction keeps
        return expected == (connection.execute(query.encode()).rowcount > 0)

    wait_until(happened)


def test_two_runs_at_once_make_the_schema_once(empty: str, tmp_path: Path) -> None:
    """Both succeed; each migration is applied by one of them."""
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: run(tmp_path, "migrate", DATABASE_URL=empty), range(2)))
    assert [0, 0] == [process.returncode for process in both]
    printed = both[0].stderr + both[1].stderr
    assert [1] * len(NAMES) == [printed.count(f"Applying {name}") for name in NAMES]


def test_a_run_waits_for_another_one(empty: str) -> None:
    """It says so, and changes nothing until the other one has ended."""
    said: list[str] = []
    with ThreadPoolExecutor() as pool, psycopg.connect(empty, autocommit=True) as other:
        other.execute("select pg_advisory_lock(1953457263)")  # as other releases do, too
        waiting = pool.submit(migrations.apply, empty, said.append)
        wait_for(other, "wait_event_type = 'Lock'")
        assert ["Waiting for another migration to end"] == said
        assert NAMES == migrations.pending(empty)
    waiting.result()
    assert [] == migrations.pending(empty)


def test_a_table_that_stays_locked_is_not_waited_for_long(
    database: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody else would queue behind us; the run ends with a sentence instead, and nothing is changed."""
    monkeypatch.setattr(migrations, "_LIMITS", migrations._LIMITS.replace("10s", "50ms"))
    with connection.transaction():
        connection.execute("select from tasks")
        with pytest.raises(
            migrations.MigrationError, match=r"^0004\.bound-timestamps: A table stayed locked by others"
        ):
            migrations.roll_back(database, ["0004.bound-timestamps"], silent)
    assert [] == migrations.pending(database)


def test_a_file_that_was_edited_after_it_was_applied_is_refused(folder: Path, empty: str) -> None:
    """The schema would differ from one database to the next, unseen; so the file is named."""
    migrations.apply(empty, silent)
    edited = folder / "0002.create-users.sql"
    edited.write_text(edited.read_text().replace("320", "321"))
    with pytest.raises(migrations.MigrationError, match=r"^0002\.create-users\.sql has changed since"):
        migrations.apply(empty, silent)
    # Rolled back, it may be written anew: so one works on a migration that nobody else has yet.
    migrations.roll_back(empty, NAMES[1:], silent)
    for _ in range(2):
        migrations.apply(empty, silent)
    assert "321" in dump(empty)


def test_what_was_done_is_in_the_log_of_yoyo_once(database: str, connection: psycopg.Connection) -> None:
    """A DBA reads there what was applied or rolled back, and in which order."""
    migrations.roll_back(database, NAMES[-1:], silent)
    rows = connection.execute("select migration_id, operation from _yoyo_log order by created_at_utc")
    assert rows.fetchall() == [*((name, "apply") for name in NAMES), (NAMES[-1], "rollback")]


def test_a_migration_without_a_digest_is_taken_as_it_is(
    database: str, connection: psycopg.Connection
) -> None:
    """The command of yoyo applies files too, and notes none."""
    connection.execute("update _yoyo_log set comment = null")
    migrations.apply(database, silent)


def test_a_migration_may_do_without_a_transaction(folder: Path, empty: str) -> None:
    """An index on a large table is made while others write."""
    (folder / "9999.index-completed.sql").write_text(
        "-- transactional: false\n"
        "create index concurrently if not exists tasks_completed on tasks (user_id, completed);"
    )
    said: list[str] = []
    migrations.apply(empty, said.append)
    assert [f"Applying {name}" for name in migrations.known()] == said
    assert [] == migrations.pending(empty)
    assert "tasks_completed" in dump(empty)


@pytest.mark.parametrize(
    ("fails", "reason"),
    [("select 1 / 0", r"Division by zero\.$"), ("drop table _yoyo_log", "The schema is not")],
)
def test_a_migration_that_fails_is_named_and_leaves_nothing(
    fails: str, reason: str, folder: Path, empty: str
) -> None:
    """What came before it stays. The second one cannot be marked, so it is not to have happened either."""
    (folder / "9999.fail.sql").write_text(f"create table half (id int); {fails};")
    with pytest.raises(migrations.MigrationError, match=rf"^9999\.fail: {reason}"):
        migrations.apply(empty, silent)
    assert ["9999.fail"] == migrations.pending(empty)
    assert "half" not in dump(empty)


def test_a_newer_version_s_schema_serves_this_one_too(
    database: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    """While versions replace one another, the old one goes on, whatever migrations it does not know."""
    columns = "migration_hash, migration_id, applied_at_utc"
    connection.execute(f"insert into _yoyo_migration ({columns}) values ('', '9999.new', now())".encode())
    assert [] == migrations.pending(database)
    listed = run(tmp_path, "migrations", DATABASE_URL=database)
    assert 0 == listed.returncode
    assert "UTC, by a newer version" in listed.stdout.splitlines()[-1]


def test_the_command_line_applies_lists_and_takes_back(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step says where it works and what it did; rollback asks first, unless --yes is given."""
    monkeypatch.chdir(tmp_path)  # where no .env is

    def command(*arguments: str, status: int = 0, answer: str = "") -> str:
        env = {"DATABASE_URL": empty, "MIGRATIONS_DATABASE_URL": ""}
        result = CliRunner().invoke(cli, arguments, answer, env)
        assert status == result.exit_code, result.output
        where, _, rest = result.output.partition("\n")
        assert where.startswith("Database: ") and urlsplit(empty).path.strip("/") in where
        return rest

    assert [f"{name:32} pending" for name in NAMES] == command("migrations").splitlines()
    *applied, last = command("migrate").splitlines()
    assert [f"Applying {name}" for name in NAMES] == applied
    assert last.startswith("The schema is current, in database ") and last.endswith(", schema public.")
    assert f"{last}\n" == command("migrate")
    assert all(line.endswith("UTC") for line in command("migrations").splitlines())
    for answer in ("", "\n", "n\n"):
        assert "Aborted!" in command("rollback", status=1, answer=answer)
    assert "No applied migration is named 'nix'" in command("rollback", "nix", status=1)
    assert [] == migrations.pending(empty)
    assert f"Rolling back {NAMES[-1]}\n" == command("rollback", "--yes")
    assert NAMES[-1:] == migrations.pending(empty)
    command("rollback", "--yes", NAMES[0])
    assert NAMES[1:] == migrations.pending(empty)
    command("rollback", "--yes")
    assert "There is nothing to roll back.\n" == command("rollback", "--yes")
