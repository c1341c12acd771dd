"""The command line, as an operator types it."""

import os
import re
import signal
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from click.testing import CliRunner

from todo_api.commands import cli

from .conftest import NewDatabase
from .service import run, serving, wait_until

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
    ["settings"],
    ["openapi"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    """--help says what a command does, without a database."""
    result = CliRunner().invoke(cli, [*command, "--help"])
    assert 0 == result.exit_code
    assert re.search(r"^  [A-Z].+", result.stdout, re.MULTILINE)


def test_users_are_added_listed_and_deleted(tmp_path: Path, new_database: NewDatabase) -> None:
    """The operator adds users, sees them, and removes them by id or email."""
    database = {"DATABASE_URL": new_database()}
    ada = run(tmp_path, "users", "add", "ada@example.org", **database).stdout.strip()
    bob = run(tmp_path, "users", "add", "bob@example.org", **database).stdout.strip()
    assert 4 == UUID(ada).version
    listed = run(tmp_path, "users", "list", **database).stdout.splitlines()
    assert [(ada, "ada@example.org"), (bob, "bob@example.org")] == [
        (f.split()[0], f.split()[-1]) for f in listed
    ]
    assert 0 == run(tmp_path, "users", "delete", ada, "--yes", **database).returncode
    assert 0 == run(tmp_path, "users", "delete", "BOB@example.org", "--yes", **database).returncode
    assert "" == run(tmp_path, "users", "list", **database).stdout


def test_deleting_a_user_asks_first(tmp_path: Path, new_database: NewDatabase) -> None:
    """Without --yes and without an answer, nobody is deleted."""
    database = {"DATABASE_URL": new_database()}
    ada = run(tmp_path, "users", "add", "ada@example.org", **database).stdout.strip()
    refused = run(tmp_path, "users", "delete", ada, **database)
    assert 1 == refused.returncode
    assert "" == refused.stdout
    assert "Delete ada@example.org" in refused.stderr
    assert ada in run(tmp_path, "users", "list", **database).stdout


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


def test_a_taken_email_is_refused(tmp_path: Path, database_url: str) -> None:
    """Two users cannot have one email, whatever its case."""
    email = f"{uuid4().hex}@example.org"
    assert 0 == run(tmp_path, "users", "add", email, DATABASE_URL=database_url).returncode
    again = run(tmp_path, "users", "add", email.upper(), DATABASE_URL=database_url)
    assert (1, f"Error: {email.upper()} is taken.") == (again.returncode, again.stderr.splitlines()[-1])


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
    """While serve runs on a PostgreSQL of its own, the other commands work on the same one."""
    with serving(tmp_path):
        added = run(tmp_path, "users", "add", "ada@example.org")
        assert (0, 4) == (added.returncode, UUID(added.stdout.strip()).version)
        assert "pending" not in run(tmp_path, "migrations").stdout
        second = run(tmp_path, "serve")
        assert (1, 1) == (second.returncode, second.stderr.count("in use"))
    assert "ada@example.org" in run(tmp_path, "users", "list").stdout
