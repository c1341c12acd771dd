"""What a session is like, whatever the URL, the environment and the database say."""

import re
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from todo_api import VERSION
from todo_api.app import create_app
from todo_api.postgres import database, migrations
from todo_api.postgres.conninfo import conninfo, describe, open_connection, variables
from todo_api.settings import Settings

from .api import make_user, talking_to
from .databases import Databases, alter
from .engines import pgbouncer, pooler
from .service import ROOT, run, serving

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
    with open_connection(url, "test") as command, psycopg.connect(conninfo(url, Settings())) as pooled:
        for name, value in NEEDED.items():
            for connection in (command, pooled):
                [[shown]] = connection.execute(f"show {name}".encode()).fetchall()
                assert value == shown.removesuffix(", MDY").removesuffix(", DMY")
        assert (f"todo-api/{VERSION} test",) == command.execute("show application_name").fetchone()


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
        with open_connection(pooled, "test") as command:
            assert ("UTF8",) == command.execute("show client_encoding").fetchone()
    with psycopg.connect(url, client_encoding="UTF8") as connection:
        assert (400,) == connection.execute("select max(octet_length(title)) from tasks").fetchone()


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


def test_the_operator_s_patience_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent host is waited for as long as the URL or a variable says, everywhere; else for 2 seconds."""
    url = "postgresql://ada@db/todo"
    patience = {"connect_timeout": "2", "keepalives_idle": "30", "keepalives_interval": "5"}
    assert (patience | {"tcp_user_timeout": "15000"}).items() <= conninfo_to_dict(conninfo(url)).items()
    assert "40" == conninfo_to_dict(conninfo(f"{url}?connect_timeout=40", Settings()))["connect_timeout"]
    for served, seconds in {url: 2, f"{url}?connect_timeout=40": 40, f"{url}?connect_timeout=0": 5}.items():
        assert seconds == database.make_connections(Settings(database_url=served))._pool.timeout
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "40")
    assert "connect_timeout" not in conninfo_to_dict(conninfo(url))
    assert 5 == database.make_connections(Settings(database_url=url))._pool.timeout


def test_a_service_of_libpq_is_named_as_what_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a command says it works on is what libpq connects to; another URL is not affected."""
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.delenv("PGSERVICE", raising=False)
    (tmp_path / "services").write_text("[prod]\nhost=db\nuser=ada\ndbname=todo\nconnect_timeout=40\n[test]\n")
    assert "todo on db port 5432, as role ada" == describe("postgresql://?service=prod")
    assert "connect_timeout" not in conninfo_to_dict(conninfo("postgresql://?service=prod"))
    assert "todo on localhost port 5432, as role bob" == describe("postgresql://bob@localhost/todo")
    assert "todo on the local socket port 5432, as role bob" == describe("postgresql://bob@/todo")
    assert "todo on a port 1, b port 2, as role bob" == describe("postgresql://bob@a:1,b:2/todo")
    assert "todo on ::1 port 7, as role bob" == describe("postgresql://bob@:7/todo?hostaddr=::1")
    monkeypatch.setenv("PGSERVICE", "prod")
    assert "todo on here port 5432, as role bob" == describe("postgresql://bob@here/todo?service=test")
    assert "todo on db port 5432, as role bob" == describe("postgresql://bob@")


def test_a_url_as_variables() -> None:
    """Parameters for which libpq has no variable, such as those of TCP, are left to its defaults."""
    url = "postgresql://ada:secret@db:7/todo?keepalives_idle=9&connect_timeout=5"
    expected = {"PGHOST": "db", "PGPORT": "7", "PGUSER": "ada", "PGPASSWORD": "secret", "PGDATABASE": "todo"}
    assert expected | {"PGCONNECT_TIMEOUT": "5"} == variables(url)


def test_every_connection_is_opened_in_one_way() -> None:
    """One that is opened otherwise lacks what the statements rely on."""
    opening = re.compile(r"(?:\.connect|ConnectionPool(?:\[.*\])?)\((?!\s*(?:self\._pool\.)?conninfo\b).*")
    package = ROOT / "todo_api"
    found = {path: opening.findall(path.read_text()) for path in package.rglob("*.py")}
    found.pop(package / "postgres" / "conninfo.py")
    assert {} == {path.name: calls for path, calls in found.items() if calls}


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
