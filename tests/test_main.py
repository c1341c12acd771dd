"""The command line, as an operator types it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import click
import httpx
import psycopg
import pytest
from click.testing import CliRunner, Result

from todo_api.commands import cli, pg
from todo_api.postgres import migrations, wheel
from todo_api.server import processes
from todo_api.settings import FIELDS

from .databases import NewDatabase, as_login
from .service import COMMAND, ROOT, environment, run, serving
from .waiting import wait_until

COMMANDS = [
    [],
    ["serve"],
    ["migrate"],
    ["rollback"],
    ["migrations"],
    ["users"],
    ["users", "add"],
    ["users", "list"],
    ["users", "delete"],
    ["explain"],
    ["pg"],
    ["settings"],
    ["openapi"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    """--help says what a command does, without a database; -h is short for it."""
    result = CliRunner().invoke(cli, [*command, "-h"])
    assert 0 == result.exit_code
    assert re.search(r"^  [A-Z].+", result.stdout, re.MULTILINE)
    assert result.stdout == CliRunner().invoke(cli, [*command, "--help"]).stdout


def test_help_names_every_variable_and_its_default() -> None:
    """Nobody has to look for the settings elsewhere."""
    shown = dict(re.findall(r"^  ([A-Z_]+) +(.+)$", CliRunner().invoke(cli, ["--help"]).stdout, re.MULTILINE))
    assert [*FIELDS] == [*shown]
    assert "default: 8000; a whole number from 0 to 65535" == shown["PORT"]


def test_the_version_waits_for_nothing() -> None:
    """--version imports none of the large libraries, whose import takes longer than all the rest."""
    code = "import sys, todo_api.commands as c; sys.argv[1:] = ['--version']\n"
    code += "try: c.main()\nfinally: print(*{'litestar', 'psycopg', 'uvicorn', 'yoyo'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"[\d.]+\n\n", done.stdout)


def test_the_shell_completes_commands(tmp_path: Path) -> None:
    """Click's own completion works as --help says."""
    assert 'eval "$(_TODO_API_COMPLETE=bash_source todo-api)"' in CliRunner().invoke(cli, ["--help"]).stdout
    asked = {"_TODO_API_COMPLETE": "bash_complete", "COMP_WORDS": "todo-api users l", "COMP_CWORD": "2"}
    program = Path(sys.executable).with_name("todo-api")
    done = subprocess.run([program], env=environment(tmp_path, **asked), capture_output=True, check=True)
    assert b"plain,list\n" == done.stdout


Command = Callable[..., Result]


@pytest.fixture
def command(new_database: NewDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs commands in this process, on a database of their own."""
    monkeypatch.chdir(tmp_path)  # where no .env is
    monkeypatch.setenv("DATABASE_URL", new_database())
    monkeypatch.delenv("MIGRATIONS_DATABASE_URL", raising=False)
    return lambda *arguments: CliRunner().invoke(cli, arguments)


def test_users_are_added_listed_and_deleted(command: Command) -> None:
    """The operator adds users, sees them, and removes them by id or email."""
    ada = command("users", "add", "ada@example.org").stdout.strip()
    bob = command("users", "add", "bob@example.org").stdout.strip()
    assert 4 == UUID(ada).version
    plain, as_json = command("users", "list"), command("users", "list", "--json")
    assert "CREATED (UTC)" in plain.stderr and "CREATED (UTC)" not in as_json.stderr
    listed = plain.stdout.splitlines()
    assert [(ada, "ada@example.org"), (bob, "bob@example.org")] == [
        (f.split()[0], f.split()[-1]) for f in listed
    ]
    assert listed[:1] == command("users", "list", "--limit", "1").stdout.splitlines()
    first, second = map(json.loads, as_json.stdout.splitlines())
    assert (ada, "bob@example.org") == (first["id"], second["email"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first["created_at"])
    assert 0 == command("users", "delete", ada, "--yes").exit_code
    assert 0 == command("users", "delete", "BOB@example.org", "--yes").exit_code
    assert "" == command("users", "list").stdout


def test_deleting_a_user_asks_first(command: Command) -> None:
    """Without --yes and without an answer, nobody is deleted."""
    ada = command("users", "add", "ada@example.org").stdout.strip()
    refused = command("users", "delete", ada)
    assert 1 == refused.exit_code
    assert "" == refused.stdout
    assert "Delete ada@example.org" in refused.stderr
    assert ada in command("users", "list").stdout


def test_users_are_read_a_page_at_a_time(
    tmp_path: Path, new_database: NewDatabase, as_owner: Callable[[str], str]
) -> None:
    """While nobody reads the list on, the rest of it stays on the server."""
    url = as_owner(new_database())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into users (email) select n || '@example.org' from generate_series(1, 5000) n"
        )
        with subprocess.Popen(
            [*COMMAND, "users", "list"],
            env=environment(tmp_path, DATABASE_URL=url),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as listing:
            fetching = "select from pg_stat_activity where datname = current_database() "
            fetching += "and state = 'idle in transaction' and query like 'FETCH%1000%'"
            try:
                wait_until(lambda: 1 == connection.execute(fetching.encode()).rowcount)
            finally:  # or the end of the block would wait for it
                listing.kill()


def test_programs_of_postgresql_find_the_database(
    tmp_path: Path, new_database: NewDatabase, as_owner: Callable[[str], str]
) -> None:
    """A dump is made and restored, by the server's version, on the database that migrate would use."""
    url = new_database()
    asked = {"DATABASE_URL": as_login(url, "nobody_of_that_name"), "MIGRATIONS_DATABASE_URL": as_owner(url)}
    with psycopg.connect(as_owner(url), autocommit=True) as connection:
        connection.execute("insert into users (email) values ('ada@example.org')")
        version = connection.info.server_version // 10000
        assert 0 == run(tmp_path, "pg", "pg_dump", "-Fc", "--file=dump", **asked).returncode
        connection.execute("drop table tasks, users")
    assert 0 == run(tmp_path, "pg", "pg_restore", "--clean", "--if-exists", "dump", **asked).returncode
    (tmp_path / "query.sql").write_text("select email from users; \\echo :VERSION_NUM\nselect 1 / 0;")
    read = run(tmp_path, "pg", "psql", "-v", "ON_ERROR_STOP=1", "-Atf", "query.sql", **asked)
    email, client = read.stdout.splitlines()
    assert ("ada@example.org", version) == (email, int(client) // 10000)
    assert 3 == read.returncode, "the program's own status"
    (tmp_path / "end.sql").write_text("\\! kill $PPID")
    assert 128 + signal.SIGTERM == run(tmp_path, "pg", "psql", "-f", "end.sql", **asked).returncode


@pytest.mark.parametrize(("server", "expected"), [(94, 94), (95, 96), (97, 98), (99, None)])
def test_a_program_of_the_right_version_is_chosen(
    server: int, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own version, else the next newer one: pg_dump refuses a newer server.

    This needs no embedded PostgreSQL, and passes by one that does not tell its version.
    """

    def missing() -> None:
        raise wheel.EmbeddedError

    monkeypatch.setattr(wheel, "find", missing)
    places = [tmp_path / name for name in ("none", "98", "94", "96")]
    for place in places:
        place.mkdir()
        (place / "pg_dump").write_text(
            f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {place.name}.6' && test {place.name} != none"
        )
        (place / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, places)))
    if expected:
        assert f"{tmp_path}/{expected}/pg_dump" == pg._program("pg_dump", server * 10000 + 6)
    else:
        with pytest.raises(click.ClickException, match="There is no pg_dump of PostgreSQL 99 or newer"):
            pg._program("pg_dump", server * 10000 + 6)


def test_a_change_is_served_at_once(tmp_path: Path, database_url: str) -> None:
    """With --reload, a file that is edited makes the service start anew, on the same port."""
    for name in ("todo_api", "sql", "migrations"):
        shutil.copytree(ROOT / name, tmp_path / name)
    with serving(tmp_path, "--reload", DATABASE_URL=database_url, PYTHONPATH=str(tmp_path)) as service:
        (tmp_path / "sql/tasks/get.sql").write_text("-- None.\nselect from tasks limit 0")
        wait_until(lambda: 2 == service.log.count("startup complete"))
        assert 200 == httpx.get(f"{service.url}/health/ready").status_code
        assert 0 == service.stop()


@pytest.mark.parametrize("answer", ["\n", "n\n", "y\n"])
def test_a_no_is_a_no(answer: str, new_database: NewDatabase) -> None:
    """Only a yes deletes."""
    env = {"DATABASE_URL": new_database()}

    def users(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["users", *arguments], answer, env)

    ada = users("add", "ada@example.org").stdout.strip()
    users("delete", ada)
    assert (answer != "y\n") == (ada in users("list").stdout)


@pytest.mark.parametrize("command", [["migrate"], ["serve", "--migrate"]])
def test_migrations_go_where_they_are_sent(
    command: list[str], empty_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MIGRATIONS_DATABASE_URL is migrated, and the database of DATABASE_URL is left alone."""
    monkeypatch.setattr(processes, "run", lambda *_: None)  # where serve would begin to serve
    other, meant = empty_database(), empty_database()
    env = {"DATABASE_URL": other, "MIGRATIONS_DATABASE_URL": meant}
    CliRunner().invoke(cli, command, env=env)
    assert ([], migrations.known()) == (migrations.pending(meant), migrations.pending(other))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["users", "add", "nobody"], "'nobody' is not an email address."),
        (["users", "delete", "nobody@example.org", "--yes"], "There is no user nobody@example.org."),
        (["users", "delete", str(UUID(int=0)), "--yes"], f"There is no user {UUID(int=0)}."),
        (["rollback", "0000.nothing", "--yes"], "No applied migration is named '0000.nothing'"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, database_url: str
) -> None:
    """A mistake is reported on standard error, after the database, and fails the command."""
    result = run(tmp_path, *arguments, DATABASE_URL=database_url)
    assert 1 == result.returncode
    database, error = result.stderr.splitlines()
    assert database.startswith("Database: ")
    assert error.startswith(f"Error: {sentence}")


def test_a_taken_email_is_refused(command: Command) -> None:
    """Two users cannot have one email, whatever its case."""
    assert 0 == command("users", "add", "ada@example.org").exit_code
    again = command("users", "add", "Ada@Example.org")
    assert (1, "Error: Ada@Example.org is taken.") == (again.exit_code, again.stderr.splitlines()[-1])


def test_serve_refuses_a_schema_that_is_behind(tmp_path: Path, empty_database: NewDatabase) -> None:
    """On a database of the operator's, serve applies no migration unasked; with --migrate it does."""
    database = {"DATABASE_URL": empty_database()}
    refused = run(tmp_path, "serve", **database)
    assert 1 == refused.returncode
    assert "run 'todo-api migrate'" in refused.stderr
    migrations = {"MIGRATIONS_DATABASE_URL": database["DATABASE_URL"]}
    with serving(tmp_path, "--migrate", **database, **migrations) as service:
        first, second, *_ = service.log.splitlines()
        assert first.replace("Database: ", "Migrations: ") == second


def test_wrong_settings_are_named_at_once(tmp_path: Path) -> None:
    """Each wrong setting has a line, with exit status 2 and without the password."""
    wrong = {"PORT": "99999", "LOG_LEVEL": "loud", "DATABASE_URL": "mysql://ada:s3cret@db/todo"}
    result = run(tmp_path, "serve", **wrong)
    assert 2 == result.returncode
    _, *faults = result.stderr.splitlines()
    assert sorted(wrong) == sorted(fault.split()[0] for fault in faults)
    assert "s3cret" not in result.stderr
    assert "Traceback" not in result.stderr


def test_settings_come_from_a_file_too(tmp_path: Path, database_url: str) -> None:
    """A .env in the current directory is read; the environment wins over it."""
    (tmp_path / ".env").write_text(f"DATABASE_URL={database_url}\nWORKERS=none\n")
    assert 2 == run(tmp_path, "serve").returncode
    with serving(tmp_path, WORKERS="1") as service:
        assert "embedded" not in service.log


@pytest.mark.usefixtures("data_dir")
def test_serve_outlives_a_crash_of_its_database(tmp_path: Path) -> None:
    """An embedded PostgreSQL that is killed comes back, and the service with it, without a restart."""
    with serving(tmp_path) as service:
        email = {"email": "ada@example.org"}
        assert 201 == httpx.post(f"{service.url}/api/users", json=email).status_code
        pid = int((tmp_path / "data/data/postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "The embedded PostgreSQL ended" in service.log)
        wait_until(lambda: 200 == httpx.get(f"{service.url}/health/ready").status_code)
        assert 409 == httpx.post(f"{service.url}/api/users", json=email).status_code


def test_commands_reach_the_data_that_serve_is_using(tmp_path: Path) -> None:
    """While serve runs on a PostgreSQL of its own, so do the other commands, whatever PG* variables say."""
    elsewhere = {"PGHOSTADDR": "203.0.113.1", "PGSERVICE": "none", "PGREQUIREAUTH": "scram-sha-256"}
    with serving(tmp_path, **elsewhere) as service:
        assert re.search("^Database: .*\n(.*\n)*Documentation: .*\nStop: Ctrl-C\n", service.log)
        added = run(tmp_path, "users", "add", "ada@example.org", **elsewhere)
        assert (0, 4) == (added.returncode, UUID(added.stdout.strip()).version)
        assert "pending" not in run(tmp_path, "migrations").stdout
        second = run(tmp_path, "serve")
        assert (1, 1) == (second.returncode, second.stderr.count("in use"))
    assert "ada@example.org" in run(tmp_path, "users", "list").stdout
