"""Every command in every broken environment, and the service in odd ones that it has to stand."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import psutil
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from todo_api.app import create_app
from todo_api.commands import main
from todo_api.postgres import database, embedded, migrations
from todo_api.postgres.conninfo import connect, conninfo, describe
from todo_api.postgres.wheel import EmbeddedError
from todo_api.server import processes
from todo_api.settings import Settings

from .api import User, make_user, talking_to
from .databases import as_login
from .engines import pgbouncer, pooler
from .service import COMMAND, ROOT, environment, run, serving
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

Databases = Callable[[str], str]


@pytest.fixture
def made(postgres: str) -> Iterator[Databases]:
    """Makes databases with these options, such as another locale, dropped at the end."""
    names = []
    with psycopg.connect(postgres, autocommit=True) as connection:

        def make(options: str = "") -> str:
            names.append(f"todo_test_{uuid4().hex[:12]}")
            connection.execute(f"create database {names[-1]} template template0 {options}".encode())
            return re.sub(r"/[^/?]*(\?|$)", rf"/{names[-1]}\1", postgres, count=1)

        yield make
        for name in names:
            connection.execute(f"drop database if exists {name} with (force)".encode())


def alter(url: str, **settings: str) -> None:
    """Have every session of a database begin with these settings, as its administrator would."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        for setting, value in settings.items():
            change = sql.SQL("alter database {} set {} = {}")
            connection.execute(change.format(name, sql.SQL(setting), sql.Literal(value)))


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


def test_a_copy_of_the_data_that_lost_its_owner_is_refused(tmp_path: Path) -> None:
    """The sentence has the commands that put it right."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "PG_VERSION").write_text("18\n")
    if os.geteuid() != 0:  # who cannot give files away
        data.chmod(0o755)
    refused = rf"The data in {data} have lost their owner or mode.*: as root, run '(.+)' and '(.+)'\.$"
    with pytest.raises(EmbeddedError, match=refused) as why, embedded.running(tmp_path):
        pass
    found = re.search(refused, str(why.value))
    assert found
    for command in found.groups():
        subprocess.run(command.split(), check=True)
    with pytest.raises(EmbeddedError, match="PostgreSQL did not start"), embedded.running(tmp_path):
        pass


def test_a_service_of_libpq_is_named_as_what_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a command says it works on is what libpq connects to; another URL is not affected."""
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.delenv("PGSERVICE", raising=False)
    (tmp_path / "services").write_text("[prod]\nhost=db\nuser=ada\ndbname=todo\nconnect_timeout=40\n")
    assert "todo on db port 5432, as role ada" == describe("postgresql://?service=prod")
    assert "connect_timeout" not in conninfo_to_dict(conninfo("postgresql://?service=prod"))
    assert "todo on localhost port 5432, as role bob" == describe("postgresql://bob@localhost/todo")
    monkeypatch.setenv("PGSERVICE", "prod")
    assert "todo on db port 5432, as role bob" == describe("postgresql://bob@")


HOSTILE = {
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "timezone": "Asia/Kathmandu",
    "datestyle": "German",
}
NEEDED = {
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "timezone": "UTC",
    "datestyle": "ISO",
}
OPTIONS = " ".join(f"-c {name}={value}" for name, value in HOSTILE.items())


@pytest.mark.parametrize("source", ["the environment", "the database", "the URL"])
def test_the_session_is_what_the_statements_need(
    source: str, made: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is set where: text survives, constraints mean what they say, sessions are alike."""
    url = made("")
    variables: dict[str, str] = {}
    if source == "the environment":
        variables = {"PGCLIENTENCODING": "LATIN1", "PGTZ": "Asia/Kathmandu", "PGDATESTYLE": "German"}
        variables["PGOPTIONS"] = OPTIONS
    elif source == "the database":
        alter(url, **HOSTILE)
    else:
        url += f"{'&' if '?' in url else '?'}client_encoding=latin1&options={quote(OPTIONS)}"
    variables["DATABASE_URL"] = url
    migrated = run(tmp_path, "migrate", **variables)
    assert 0 == migrated.returncode, migrated.stderr
    zoe = run(tmp_path, "users", "add", "Zoë@example.org", **variables).stdout.strip()
    assert "Zoë@example.org" in run(tmp_path, "users", "list", **variables).stdout
    with serving(tmp_path, **variables) as service, httpx.Client(base_url=service.url) as client:
        assert 200 == client.get("/health/ready").status_code
        titles = ["stop", "buses", "café", "é" * 200]
        for title in titles:
            answer = client.post(f"/api/{zoe}/tasks", json={"title": title, "description": title})
            assert (201, title) == (answer.status_code, answer.json().get("title"))
            assert answer.json() == client.get(answer.headers["location"]).json()
        assert titles[::-1] == [task["title"] for task in client.get(f"/api/{zoe}/tasks").json()]
        assert "Zoë@example.org" == client.get(f"/api/users/{zoe}").json()["email"]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with connect(url, "test") as command, psycopg.connect(conninfo(url, Settings())) as pooled:
        for name, value in NEEDED.items():
            for connection in (command, pooled):
                [[shown]] = connection.execute(f"show {name}".encode()).fetchall()
                assert value == shown.removesuffix(", MDY").removesuffix(", DMY")


def test_options_of_the_environment_reach_the_pool(made: Databases, tmp_path: Path) -> None:
    """A schema that PGOPTIONS or the URL names is migrated, checked and served from alike."""
    for number, source in enumerate(["PGOPTIONS", "DATABASE_URL"]):
        url = made("")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("create schema app; create table public.users (id int)")
        variables = {"DATABASE_URL": url, "PGOPTIONS": "-c search_path=app"}
        if source == "DATABASE_URL":
            separator = "&" if "?" in url else "?"
            variables = {"DATABASE_URL": f"{url}{separator}options=-csearch_path%3Dapp"}
        with serving(tmp_path, "--migrate", **variables) as service:
            assert 200 == httpx.get(f"{service.url}/health/ready").status_code
            body = {"email": f"{number}@example.org"}
            assert 201 == httpx.post(f"{service.url}/api/users", json=body).status_code


def test_the_operator_s_patience_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent host is waited for as long as the URL or a variable says, everywhere; else for 2 seconds."""
    url = "postgresql://ada@db/todo"
    patience = {"connect_timeout": "2", "keepalives_idle": "30", "keepalives_interval": "5"}
    assert (patience | {"tcp_user_timeout": "15000"}).items() <= conninfo_to_dict(conninfo(url)).items()
    assert "40" == conninfo_to_dict(conninfo(f"{url}?connect_timeout=40", Settings()))["connect_timeout"]
    for served, seconds in {url: 2, f"{url}?connect_timeout=40": 40}.items():
        assert seconds == database.connect(Settings(database_url=served))._pool.timeout
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "40")
    assert "connect_timeout" not in conninfo_to_dict(conninfo(url))


@pytest.mark.parametrize(
    ("options", "settings", "expected"),
    [
        ("", Settings(), ("4s", "2s")),
        ("", Settings(statement_timeout=0.25, lock_timeout=0), ("250ms", "0")),
        ("-c statement_timeout=7s", Settings(), ("7s", "2s")),
        ("", Settings(prepare_statements=False), ("0", "0")),
    ],
)
def test_the_server_ends_statements_in_time(
    options: str, settings: Settings, expected: tuple[str, str], made: Databases
) -> None:
    """By the time-outs of the settings, unless the URL has others, or a pooler would refuse them."""
    url = conninfo(make_conninfo(made(""), options=options), settings)
    with psycopg.connect(url) as connection:
        shown = [
            connection.execute(f"show {name}_timeout".encode()).fetchone() for name in ("statement", "lock")
        ]
    assert [(value,) for value in expected] == shown


def test_every_connection_is_opened_in_one_way() -> None:
    """One that is opened otherwise lacks what the statements rely on."""
    opening = re.compile(r"(?:\.connect|ConnectionPool(?:\[.*\])?)\((?!\s*(?:self\._pool\.)?conninfo\b).*")
    package = ROOT / "todo_api"
    found = {path: opening.findall(path.read_text()) for path in package.rglob("*.py")}
    found.pop(package / "postgres" / "conninfo.py")
    assert {} == {path.name: calls for path, calls in found.items() if calls}


async def test_behind_a_pooler_text_is_text(made: Databases) -> None:
    """PgBouncer takes no options, and yet the service's encoding holds where the database has another."""
    program = pgbouncer()
    if program is None:
        pytest.skip("this machine has no PgBouncer: install the package pgbouncer")
    url = made("")
    alter(url, **HOSTILE)
    migrations.apply(url, lambda _: None)
    with pooler(program, url, connections=1) as pooled:
        settings = Settings(database_url=pooled, prepare_statements=False)
        async with talking_to(create_app(settings)) as client:
            ada = await make_user(client)
            for title in ("café", "é" * 200, "buses"):
                task = await ada.creates(title)
                assert title == task["title"] == (await client.get(ada.path(task))).json()["title"]
            assert task["created_at"].endswith("Z")
        with connect(pooled, "test") as command:
            assert ("UTF8",) == command.execute("show client_encoding").fetchone()
    with psycopg.connect(url, client_encoding="UTF8") as connection:
        assert (400,) == connection.execute("select max(octet_length(title)) from tasks").fetchone()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("encoding 'UTF8' locale 'C.UTF-8'", True),
        ("encoding 'UTF8' locale_provider libc locale 'C'", False),
        ("encoding 'UTF8' locale_provider icu icu_locale 'tr-TR' locale 'C.UTF-8'", False),
    ],
)
def test_a_locale_that_does_not_fold_case_is_a_warning(
    options: str, expected: bool, made: Databases, tmp_path: Path
) -> None:
    """The start and migrate say what it means for emails and searches, and how to make another database."""
    try:
        url = made(options)
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this PostgreSQL was built without ICU")
    migrated = run(tmp_path, "migrate", DATABASE_URL=url)
    with serving(tmp_path, DATABASE_URL=url) as service:
        for said in (migrated.stderr, service.log):
            assert expected == ("Warning: the locale of this database" not in said)
            assert expected == ("create database NAME encoding 'UTF8'" not in said)


# The ends of what each column may hold.
ODD_TIMES = ["0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00", "1969-12-31 23:59:59.000001+00"]
ODD_TEXTS = [
    "a",
    "\U0010ffff" * 200,
    "\u202e\u200b\ufeffx",
    "\x01\x7f",
    "e\u0301" * 100,
    "'\"\\;--%s${x}",
    "\ufffe\uffff",
]
REFUSED_TIMES = ["infinity", "-infinity", "0001-12-31 BC", "10000-01-01 00:00:00+00", "9999-12-31 23:00-02"]


async def test_a_row_typed_by_hand_can_be_read_and_changed(ada: User, database: psycopg.Connection) -> None:
    """Whatever the constraints let through, no operation answers 500."""
    rows: list[tuple[Any, ...]] = [
        (uuid4(), ODD_TEXTS[n % len(ODD_TEXTS)], ODD_TEXTS[-n], ODD_TIMES[n % 3], ODD_TIMES[n % 2])
        for n in range(len(ODD_TEXTS))
    ]
    rows += [(UUID(int=0), "nil", "", *ODD_TIMES[:2]), (UUID(int=2**128 - 2), "last", None, *ODD_TIMES[1:])]
    for row in rows:
        columns = "user_id, id, title, description, created_at, updated_at"
        database.execute(
            f"insert into tasks ({columns}) values (%s, %s, %s, %s, %s, %s)".encode(), [ada.id, *row]
        )
    database.execute("update users set created_at = %s where id = %s", [ODD_TIMES[0], ada.id])
    assert (
        "0001-01-01T00:00:00.000000Z" == (await ada.client.get(f"/api/users/{ada.id}")).json()["created_at"]
    )
    tasks = {task["id"]: task for task in await ada.lists()}
    assert {str(row[0]): row[1] for row in rows} == {key: task["title"] for key, task in tasks.items()}
    for query in ({"q": "\u202e"}, {"updated_since": "9999-12-31T23:59:59.999999Z"}, {"sort": "created_at"}):
        assert await ada.lists(**query)
    for task in tasks.values():
        read = await ada.client.get(ada.path(task))
        assert (200, task) == (read.status_code, read.json())
        only = {"If-Match": read.headers["etag"]}
        assert (
            200
            == (await ada.client.patch(ada.path(task), json={"completed": True}, headers=only)).status_code
        )
        assert 200 == (await ada.client.patch(f"{ada.path(task)}/complete")).status_code
        assert 204 == (await ada.client.delete(ada.path(task))).status_code


@pytest.mark.parametrize("time", REFUSED_TIMES)
@pytest.mark.parametrize(
    ("table", "column"), [("users", "created_at"), ("tasks", "created_at"), ("tasks", "updated_at")]
)
async def test_a_moment_that_no_timestamp_expresses_is_refused(
    ada: User, database: psycopg.Connection, table: str, column: str, time: str
) -> None:
    """RFC 3339 has four digits for the year, and no infinity."""
    await ada.creates()
    key = "id" if table == "users" else "user_id"
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        database.execute(f"update {table} set {column} = %s where {key} = %s".encode(), [time, ada.id])
    assert f"{table}_{column}_range" == refused.value.diag.constraint_name


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
        waiting = "select from pg_stat_activity where application_name like '%% migrate'"
        wait_until(lambda: 0 == connection.execute(waiting).rowcount)
    assert "Traceback" not in (tmp_path / "log").read_text()
