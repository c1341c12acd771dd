"""What a DBA sees of the service: the plan of each file by one command, and names in the server's views."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import scalar_row

from todo_api import VERSION
from todo_api.commands import main

from .api import User
from .service import ROOT

Explain = Callable[..., tuple[int, str]]


@pytest.fixture
def explained(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Explain:
    """Runs ``todo-api explain`` on the shared database; gives its exit status and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path)  # where no .env is
        monkeypatch.setenv("DATABASE_URL", database_url)
        monkeypatch.setattr(sys, "argv", ["todo-api", "explain", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    return run


def test_explain_lists_every_file_with_its_parameters(explained: Explain) -> None:
    """Whoever does not know the names is told them."""
    status, printed = explained()
    lines = printed.splitlines()
    files = [path.relative_to(ROOT / "sql").with_suffix("") for path in (ROOT / "sql").rglob("*.sql")]
    assert 0 == status
    assert sorted(map(str, files)) == sorted(line.split()[0] for line in lines)
    assert "tasks/get user_id=… task_id=…" in lines


async def test_explain_shows_the_plan_with_real_parameters(explained: Explain, ada: User) -> None:
    """The plan is measured, and binds what was given."""
    status, printed = explained("tasks/get", f"user_id={ada.id}", f"task_id={uuid4()}")
    assert 0 == status
    for part in ("on tasks", f"user_id = '{ada.id}'::uuid", "Buffers: ", "actual time="):
        assert part in printed


async def test_explain_undoes_what_it_executes(explained: Explain, ada: User) -> None:
    """A statement that writes is measured, and nothing is written."""
    task = await ada.creates()
    status, printed = explained("tasks/delete", f"user_id={ada.id}", f"task_id={task['id']}")
    assert 0 == status
    assert "Delete on tasks" in printed
    assert [task] == await ada.lists()


@pytest.mark.parametrize("name", ["tasks/get.sql", "sql/tasks/get.sql", "sql/tasks/get"])
def test_a_statement_may_be_named_as_a_file(explained: Explain, name: str) -> None:
    """A path that a shell completed will do."""
    assert 0 == explained(name)[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tasks/nix"], "There is no statement 'tasks/nix': see 'todo-api explain'."),
        (["tasks/get", "task_id"], "'task_id' is not of the form PARAMETER=VALUE."),
        (["tasks/get", "limit=3"], "tasks/get takes no limit: tasks/get user_id=… task_id=…"),
        (["tasks/get", "user_id=3"], 'tasks/get: Invalid input syntax for type uuid: "3".'),
        (
            ["users/add", "email=@"],
            'users/add: New row for relation "users" violates check constraint "users_email_form".',
        ),
    ],
)
def test_a_mistake_is_told_in_one_sentence(explained: Explain, arguments: list[str], sentence: str) -> None:
    """What is wrong, and where the right names are."""
    status, printed = explained(*arguments)
    assert (1, f"Error: {sentence}") == (status, printed.splitlines()[-1])


async def test_the_server_sees_which_file_and_which_worker_runs(
    ada: User, database_url: str, as_owner: Callable[[str], str]
) -> None:
    """pg_stat_activity tells the statement by its file, and the session by service, version and worker."""
    await ada.lists()
    with psycopg.connect(as_owner(database_url), row_factory=scalar_row) as connection:
        worker = f"todo-api/{VERSION} worker {os.getpid()}"
        query = (
            "select query from pg_stat_activity where datname = current_database() and application_name = %s"
        )
        last = connection.execute(query, [worker]).fetchall()
    assert any(text.startswith("select /* users/get */") for text in last)
