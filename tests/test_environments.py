"""Every command in every broken environment: it does its work, or says in one sentence why not."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from io import BytesIO, TextIOWrapper
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from todo_api.commands import main
from todo_api.commands.errors import sentence as of
from todo_api.postgres import migrations
from todo_api.server import processes

from .databases import Databases, alter, as_login, waiting
from .service import COMMAND, environment
from .waiting import wait_until

# Each leaves what the next one finds broken as it was, or broken no more for the last.
COMMANDS = [
    ["serve"],
    ["users", "add", "ada@example.org"],
    ["users", "list"],
    ["users", "delete", "bob@example.org", "--yes"],
    ["explain", "tasks/get"],
    ["migrations"],
    ["rollback", "--yes"],
    ["migrate"],
    ["pg", "psql", "--command=select"],
]


class World:
    """What the environments below are built from."""

    def __init__(self, made: Databases, role: str | None, patch: pytest.MonkeyPatch, directory: Path) -> None:
        self.made, self.role, self.patch, self.directory = made, role, patch, directory

    def migrated(self) -> str:
        """A database with the current schema."""
        url = self.made("")
        migrations.apply(url, lambda _: None)
        return url

    def _no_schema(self) -> Mapping[str, str]:
        return {"DATABASE_URL": self.made("")}

    def _no_privileges(self) -> Mapping[str, str]:
        if self.role is None:
            pytest.skip("the login of TEST_DATABASE_URL may not make roles")
        return {"DATABASE_URL": as_login(self.migrated(), self.role)}

    def _read_only(self) -> Mapping[str, str]:
        url = self.migrated()
        alter(url, default_transaction_read_only="on")
        return {"DATABASE_URL": url}

    def _latin1(self) -> Mapping[str, str]:
        return {"DATABASE_URL": self.made("encoding 'LATIN1' locale_provider libc locale 'C'")}

    def _no_database(self) -> Mapping[str, str]:
        return {"DATABASE_URL": re.sub(r"/todo_test_\w+", "/no_such_database", self.made(""))}

    def _no_server(self) -> Mapping[str, str]:
        return {"DATABASE_URL": f"postgresql://ada:s3cret@/todo?host={self.directory}"}

    def _no_name(self) -> Mapping[str, str]:
        return {"DATABASE_URL": "postgresql://ada:s3cret@db..example.org/todo"}

    def _wrong_options(self) -> Mapping[str, str]:
        return {"DATABASE_URL": self.migrated(), "PGOPTIONS": "-c no_such_setting=1"}

    def _no_extra(self) -> Mapping[str, str]:
        def missing(name: str) -> None:
            raise metadata.PackageNotFoundError(name)

        self.patch.setattr(metadata, "distribution", missing)
        return {}

    def _no_data_directory(self) -> Mapping[str, str]:
        (self.directory / "file").touch()
        return {"DATA_DIR": str(self.directory / "file" / "data")}

    def _no_home(self) -> Mapping[str, str]:
        self._leave_home()
        return {"DATABASE_URL": self.migrated(), "DATA_DIR": ""}

    def _no_home_and_no_database(self) -> Mapping[str, str]:
        self._leave_home()
        return {"DATA_DIR": ""}

    def _no_temporary_directory(self) -> Mapping[str, str]:
        self.patch.setenv("TMPDIR", str(self.directory / "none"))
        self.patch.setattr(tempfile, "tempdir", None)
        self.patch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(self.directory / "none")])
        return {"DATABASE_URL": self.migrated(), "WORKERS": "2"}

    def _bad_file(self) -> Mapping[str, str]:
        (self.directory / ".env").write_text('DATABASE_URL="postgresql://ada:s3cret@db/todo\n')
        return {}

    def _only_migrations(self) -> Mapping[str, str]:
        return {"MIGRATIONS_DATABASE_URL": self.made("")}

    def _leave_home(self) -> None:
        def nobody(uid: int) -> None:
            raise KeyError(f"getpwuid(): uid not found: {uid}")

        for variable in ("HOME", "USER", "LOGNAME", "XDG_DATA_HOME"):
            self.patch.delenv(variable, raising=False)
        self.patch.setattr(pwd, "getpwuid", nobody)


WORKS = ""
BEHIND = "The schema is behind .database todo_test_.*, schema public lacks 0001.* run 'todo-api migrate'"
NO_TABLE = r"The schema is not current .relation .* does not exist.: run 'todo-api migrate'\."
PRIVILEGE = r"The role lacks a privilege .permission denied for .*: use the tables' owner, or grant todo_app"
READ_ONLY = (
    "The server takes no writes .cannot execute .* in a read-only transaction.: connect to the primary"
)
NO_EXTRA = r"There is no database: set DATABASE_URL, or install one by pip install 'todo-api\[embedded\]'\."


# What each of COMMANDS says in an environment; one sentence is that of all of them.
TABLE: dict[str, str | list[str]] = {
    "no_schema": [BEHIND, NO_TABLE, NO_TABLE, NO_TABLE, "tasks/get: " + NO_TABLE, *[WORKS] * 4],
    "no_privileges": [*[PRIVILEGE] * 4, "tasks/get: " + PRIVILEGE, *[PRIVILEGE] * 3, WORKS],
    "read_only": [
        WORKS,
        READ_ONLY,
        WORKS,
        "There is no user bob",
        WORKS,
        WORKS,
        "0005.*" + READ_ONLY,
        WORKS,
        WORKS,
    ],
    "latin1": [
        "encoding is LATIN1 and must be UTF8. .* create database NAME encoding 'UTF8'",
        *[NO_TABLE] * 3,
        "tasks/get: " + NO_TABLE,
        *["encoding is LATIN1 and must be UTF8"] * 3,
        WORKS,
    ],
    "no_database": 'database "no_such_database" does not exist',
    "no_server": "No such file or directory",
    "no_name": "The name of the database's host cannot be looked up",
    "wrong_options": 'unrecognized configuration parameter "no_such_setting"',
    "no_extra": NO_EXTRA,
    "no_data_directory": "PostgreSQL cannot run in .*Not a directory",
    "no_home": [*[WORKS] * 3, "There is no user bob", *[WORKS] * 5],
    "no_home_and_no_database": "There is no home directory: set DATA_DIR or DATABASE_URL",
    "no_temporary_directory": [
        "No usable temporary directory found in .*",
        *[WORKS] * 2,
        "There is no user bob",
        *[WORKS] * 5,
    ],
    "bad_file": ".env line 1 cannot be read: write NAME=value",
    "only_migrations": [
        *["MIGRATIONS_DATABASE_URL is set and DATABASE_URL is not: set both."] * 5,
        *[WORKS] * 4,
    ],
}


@pytest.mark.parametrize("name", TABLE)
def test_every_command_ends_in_a_sentence(
    name: str,
    made: Databases,
    application_role: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It does its work or says why not, after the database that it works on: no traceback, no password."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "run", lambda *_, **__: None)  # where serve would begin to serve
    expected = TABLE[name]
    sentences = [expected] * len(COMMANDS) if isinstance(expected, str) else expected
    with monkeypatch.context() as patch:
        world = World(made, application_role, patch, tmp_path)
        variables = {"DATA_DIR": str(tmp_path / "data"), "DATABASE_URL": "", "WORKERS": "1"}
        variables |= {"START_TIMEOUT": "0", **getattr(world, f"_{name}")()}
        url = variables["DATABASE_URL"]
        where = f"Database: {conninfo_to_dict(url)['dbname']} on " if url else ""
        for arguments, sentence in zip(COMMANDS, sentences, strict=True):
            for variable, value in variables.items():  # anew, as serve changes them
                patch.setenv(variable, value)
            patch.setattr(sys, "argv", ["todo-api", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
            output, told = capfd.readouterr()
            print(f"{name:24} {' '.join(arguments):40} {ended.value.code} {told.splitlines()[-1]}")
            assert "s3cret" not in output + told
            assert told.startswith(where)
            if sentence == WORKS:
                assert (0, False) == (ended.value.code or 0, "Error" in told), told
            else:
                assert ended.value.code in (1, 2)
                assert re.search(f"Error: .*{sentence}", told, re.DOTALL), told
                assert told.endswith(".\n")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("arguments", [["users", "add"], ["users", "delete"], ["explain"]])
def test_an_argument_that_is_no_text_is_refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes that are not UTF-8 come from a terminal of another encoding."""
    monkeypatch.setattr(sys, "argv", ["todo-api", *arguments, os.fsdecode(b"caf\xe9@example.org")])
    with pytest.raises(SystemExit):
        main()
    assert "Error: An argument is not text in UTF-8.\n" == capsys.readouterr().err


def test_a_terminal_that_lacks_a_letter_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be printed is not printed wrongly."""
    monkeypatch.setattr(sys, "argv", ["todo-api", "explain"])
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(BytesIO(), "latin-1"))
    with pytest.raises(SystemExit):
        main()
    assert "Error: The output's encoding, latin-1, lacks a letter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "/data"), "/data: Permission denied."),
        (OSError(28, "No space left on device"), "No space left on device."),
        (OSError("timed out"), "timed out."),
        (psycopg.OperationalError("connection failed: no route\nmore"), "No route."),
        (psycopg.OperationalError(), "OperationalError."),
        (ValueError("a defect"), None),
    ],
)
def test_a_fault_from_outside_is_passed_on(error: Exception, said: str | None) -> None:
    """In the words of the system or of libpq, with the file. A defect gets no sentence, but a traceback."""
    assert said == of(error)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="takes root and unshare to be process 1"
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_container_s_first_process_can_be_stopped(
    number: signal.Signals, made: Databases, tmp_path: Path
) -> None:
    """As process 1, migrate ends on a signal while it waits, and its statement with it."""
    url = made("")
    with (
        psycopg.connect(url, autocommit=True) as connection,
        (tmp_path / "log").open("wb") as log,
    ):
        connection.execute("select pg_advisory_lock(%s)", [migrations._LOCK])
        with subprocess.Popen(
            ["unshare", "--pid", "--fork", *COMMAND, "migrate"],
            env=environment(tmp_path, DATABASE_URL=url),
            stderr=log,
        ) as parent:
            wait_until(lambda: b"Waiting for another migration" in (tmp_path / "log").read_bytes())
            [first] = psutil.Process(parent.pid).children()
            first.send_signal(number)
            try:
                assert 1 == parent.wait(10)
            finally:  # or the end of the block would wait for it
                if first.is_running():
                    first.kill()
        wait_until(lambda: 0 == waiting(url))
    assert "Traceback" not in (tmp_path / "log").read_text()
