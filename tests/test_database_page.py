"""The commands of docs/database.md and docs/citus.sql, run as written."""

import asyncio
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psycopg
import pytest
from psycopg import errors

from todo_api.app import create_app
from todo_api.postgres import migrations
from todo_api.settings import Settings

from .api import make_user, talking_to
from .engines import IN_A_HURRY, Server, newest, pgbouncer, pooler, postgres15, postgresql
from .executor import opened
from .pages import block
from .service import ROOT, run, serving

SETTINGS = "select unnest(setconfig) from pg_db_role_setting where setrole = 'todo_app'::regrole"

# What docs/citus.sql uses of Citus, which is not to be had for the tests.
STAND_IN = """
create table pg_dist_partition (logicalrel regclass);
create function create_reference_table(regclass) returns void
begin atomic insert into pg_dist_partition values ($1); end;
create function create_distributed_table(regclass, text) returns void
begin atomic insert into pg_dist_partition values ($1); end;
"""


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A PostgreSQL 18 with nothing in it, or a 15 if a test says so."""
    programs = postgres15() if getattr(request, "param", "18") == "15" else newest()
    if programs is None:
        pytest.skip("this machine has no PostgreSQL 15: install postgresql-15 where a package has it")
    with postgresql(programs) as new:
        yield new


def psql(url: str, text: str) -> None:
    """Type something into psql, which stops at the first error."""
    command = [str(newest() / "psql"), "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", url]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr


def at(server: Server, role: str, database: str = "todo") -> str:
    """The URL of a role at a server."""
    return f"postgresql://{role}@/{database}?host={server.directory}"


# What a role with CREATEROLE may do has changed since version 15.
@pytest.mark.parametrize(
    ("server", "administrator"),
    [("18", "postgres"), ("18", "administrator"), ("15", "administrator")],
    indirect=["server"],
)
async def test_the_roles_of_the_page_migrate_and_serve(
    administrator: str, server: Server, tmp_path: Path
) -> None:
    """Typed by a superuser or by a role with CREATEROLE and CREATEDB: the service works, and no more."""
    if administrator != "postgres":
        psql(server.url, f"create role {administrator} login createrole createdb")
    psql(at(server, administrator, "postgres"), block("database.md", "Roles"))
    psql(server.url, block("database.md", "The server's log"))
    migrated = run(tmp_path, "migrate", DATABASE_URL=at(server, "todo_owner"))
    assert 0 == migrated.returncode, migrated.stderr
    assert "PostgreSQL:" not in migrated.stderr, "the server has nothing to warn of"
    async with talking_to(create_app(Settings(database_url=at(server, "todo_app")))) as client:
        ada = await make_user(client)
        assert [await ada.creates()] == await ada.lists()
    with psycopg.connect(at(server, "todo_app"), autocommit=True) as connection:
        settings = {setting for (setting,) in connection.execute(SETTINGS)}
        assert {"statement_timeout=4s", "lock_timeout=2s", "log_min_messages=log"} < settings
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("create table mine (id int)")
    if program := pgbouncer():
        with (
            pooler(program, at(server, "todo_app"), connections=1) as pooled,
            psycopg.connect(pooled) as connection,
        ):
            assert ("4s",) == connection.execute("show statement_timeout").fetchone()


def test_migrate_prints_what_an_administrator_has_to_run(server: Server, tmp_path: Path) -> None:
    """Without the page's settings ``migrate`` says so each time, until what it prints is run."""
    lines = block("database.md", "Roles").splitlines()
    psql(server.url, "\n".join(line for line in lines if "alter role" not in line))
    owner = at(server, "todo_owner")
    said = run(tmp_path, "migrate", DATABASE_URL=owner).stderr
    [commands] = re.findall(r"run: (alter role .*)", said)
    assert commands in run(tmp_path, "migrate", DATABASE_URL=owner).stderr
    psql(server.url, commands)
    assert "alter role" not in run(tmp_path, "migrate", DATABASE_URL=owner).stderr


@pytest.mark.parametrize(
    ("server", "option"), [("18", "--single-transaction"), ("15", "")], indirect=["server"]
)
def test_a_restore_under_the_running_service(option: str, server: Server, tmp_path: Path) -> None:
    """Dump and restore as on the page: no request fails. Without a single transaction some are 503."""
    psql(server.url, block("database.md", "Roles"))
    owner = at(server, "todo_owner")
    assert 0 == run(tmp_path, "migrate", DATABASE_URL=owner).returncode
    shell = {"PATH": f"{server.programs}:{os.environ['PATH']}", "MIGRATIONS_DATABASE_URL": owner}
    commands = block("database.md", "Backups", "sh").replace("--single-transaction", option)
    with serving(tmp_path, DATABASE_URL=at(server, "todo_app")) as service:
        users = f"{service.url}/api/users"
        ada = httpx.post(users, json={"email": "ada@example.org"}).json()
        for _ in range(2):
            seen = set()
            with subprocess.Popen(["sh", "-ec", commands], cwd=tmp_path, env=shell) as typed:
                while typed.poll() is None:
                    seen.add(httpx.get(f"{users}/{ada['id']}").status_code)
                    time.sleep(0.005)
            assert 0 == typed.returncode
            assert seen <= ({200} if option else {200, 404, 503})
        assert ada == httpx.get(f"{users}/{ada['id']}").json()


def test_a_table_that_citus_does_not_distribute_is_reported(server: Server) -> None:
    """``migrate`` warns until docs/citus.sql is run, and after a rollback. Citus is a stand-in."""
    psql(server.url, block("database.md", "Roles"))
    psql(at(server, "postgres"), f"set role todo_owner; {STAND_IN}")
    owner, page = at(server, "todo_owner"), (ROOT / "docs" / "citus.sql").read_text()

    def said() -> list[str]:
        lines: list[str] = []
        migrations.apply(owner, lines.append)
        return [line for line in lines if "docs/citus.sql" in line]

    for _ in range(2):
        assert 1 == len(said())
        psql(owner, page)
        assert [] == said()
        psql(owner, page)
        with psycopg.connect(at(server, "todo_app"), autocommit=True) as connection:
            connection.execute("insert into users (id, email, created_at) values (default, 'a@b', default)")
        migrations.roll_back(owner, migrations.known(), lambda _: None)
        psql(owner, "delete from pg_dist_partition where logicalrel::text !~ 'yoyo'")


@pytest.fixture(scope="module")
def certificates() -> Iterator[Path]:
    """A directory that the server can enter, too."""
    with TemporaryDirectory(prefix="todo-test-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="module")
def encrypted(certificates: Path) -> Iterator[str]:
    """The URL of a server with a certificate of its own, up to the name of that file."""
    programs, openssl = postgres15(), shutil.which("openssl")
    if programs is None or openssl is None:  # the embedded PostgreSQL is built without TLS
        pytest.skip("this machine lacks PostgreSQL 15 or openssl")
    for name in ("server", "stranger"):
        command = f"{openssl} req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.crt"
        subject = "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
        make = f"{command} {subject}".split()
        subprocess.run(make, cwd=certificates, capture_output=True, check=True)
    key = certificates / "server.key"
    if os.geteuid() == 0:  # the server runs as nobody
        shutil.chown(key, group=pwd.getpwnam("nobody").pw_gid)
        key.chmod(0o640)
    with socket.create_server(("localhost", 0)) as free:
        port = str(free.getsockname()[1])
    tls = {"ssl": "on", "ssl_cert_file": f"{certificates}/server.crt", "ssl_key_file": str(key)}
    with postgresql(programs, {**IN_A_HURRY, **tls, "listen_addresses": "localhost", "port": port}):
        yield f"postgresql://postgres@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={certificates}"


async def test_large_answers_come_through_tls(encrypted: str) -> None:
    """A part of a record may wait where the event loop cannot see it; every answer is read all the same."""
    async with opened(f"{encrypted}/server.crt") as database, asyncio.timeout(30):
        for size in (10, 16_000, 300_000):
            echoes = await asyncio.gather(*(database.run("select $1::text", "x" * size) for _ in range(50)))
            assert [[("x" * size,)]] * 50 == echoes


def test_tls_takes_the_file_that_the_url_names(encrypted: str, tmp_path: Path) -> None:
    """A root certificate that is wrong, missing, or the system's, fails at once with the reason."""
    assert 0 == run(tmp_path, "migrate", DATABASE_URL=f"{encrypted}/server.crt").returncode
    system = encrypted.partition("&sslrootcert")[0] + "&sslrootcert=system"
    for url, reason in [
        (f"{encrypted}/stranger.crt", "certificate verify failed"),
        (f"{encrypted}/missing.crt", "missing.crt.* does not exist"),
        (system, "certificate verify failed"),
    ]:
        failed = run(tmp_path, "migrate", DATABASE_URL=url, START_TIMEOUT="300")
        assert 1 == failed.returncode
        assert re.search(f"Error: .*{reason}", failed.stderr)
        assert "waiting" not in failed.stderr
