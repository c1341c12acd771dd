"""Engines besides the tests' own PostgreSQL: of other versions, in pairs, behind PgBouncer.

Each keeps its data and its socket in a directory of its own, so none needs a port, and stops with its
context; a shell stands between, which stops it also when the tests are killed.
"""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import Any, NamedTuple

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from todo_api.postgres import wheel
from todo_api.postgres.keeper import KEEPER

from .waiting import wait_until

IN_A_HURRY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
}

Command = Sequence[str | Path]

# What a standby calls itself.
STANDBY = "standby"

# Seconds in which a server ends, also on a machine that is busy.
LIMIT = 30.0

# The directories in ``_template``, until this is closed.
templates = ExitStack()


def newest() -> Path:
    """The programs of the PostgreSQL that the service brings along."""
    return wheel.find()[1]


def postgres15() -> Path | None:
    """The programs of a PostgreSQL 15 where Debian or Homebrew puts them, if they are there."""
    places = ["/usr/lib/postgresql/15", "/opt/homebrew/opt/postgresql@15", "/usr/local/opt/postgresql@15"]
    return next((Path(place, "bin") for place in places if Path(place, "bin/postgres").exists()), None)


def pgbouncer() -> str | None:
    """The program, if it is there; Debian puts it where ordinary users do not look."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def pgbouncer_version() -> tuple[int, ...]:
    """Its version, such as (1, 18, 0)."""
    said = subprocess.run([str(pgbouncer()), "--version"], capture_output=True, check=True, text=True).stdout
    return tuple(int(number) for number in said.split()[1].split("."))


class Server(NamedTuple):
    """A PostgreSQL that runs; everybody who gets at its socket is its superuser."""

    programs: Path
    directory: Path
    keeper: "subprocess.Popen[bytes]"
    port: str = "5432"

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return urls(self)

    def create(self, database: str) -> str:
        """Create a database and return its URL."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
        return self.url.replace("/postgres?", f"/{database}?")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to each of its processes."""
        noted = (self.directory / "data/postmaster.pid").read_text().partition("\n")[0]
        with suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(int(noted))
            for process in (postmaster, *postmaster.children()):
                process.send_signal(number)

    def promote(self) -> None:
        """Turn a standby into a primary; it takes writes when this returns."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            assert (True,) == connection.execute("select pg_promote()").fetchone()


def urls(*servers: Server) -> str:
    """The URL that names all of these servers."""
    hosts = ",".join(str(server.directory) for server in servers)
    writable = "&target_session_attrs=read-write" if len(servers) > 1 else ""
    ports = ",".join(server.port for server in servers)
    return f"postgresql://postgres@/postgres?host={hosts}&port={ports}{writable}"


@contextmanager
def postgresql(
    programs: Path,
    settings: Mapping[str, str] = IN_A_HURRY,
    *,
    locale: str = "C",
    primary: Server | None = None,
) -> Iterator[Server]:
    """Run a new PostgreSQL with a locale of the C library, or a standby of the given one."""
    with _home() as home:
        if primary:
            source = f"host={primary.directory} user=postgres application_name={STANDBY}"
            options = ["--pgdata=data", "--no-sync", "--write-recovery-conf", "--checkpoint=fast"]
            _run([programs / "pg_basebackup", *options, "--dbname", source], home)
        else:
            copy_data(_template(programs, locale), home)
        given = {"listen_addresses": "", **settings, "unix_socket_directories": str(home)}
        set_ = [f"--{name}={value}" for name, value in given.items()]
        with _running([programs / "postgres", "-D", "data", *set_], home) as keeper:
            new = Server(programs, home, keeper, settings.get("port", "5432"))
            wait_until(lambda: answers(new.url))
            try:
                yield new
            finally:
                if (home / "data/postmaster.pid").exists():
                    new.signal(signal.SIGCONT)


@cache
def _template(programs: Path, locale: str) -> Path:
    """A directory with new data, to be copied: initdb takes ten times as long."""
    home = templates.enter_context(_home())
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", f"--locale={locale}"]
    _run([programs / "initdb", "--pgdata=data", "--no-sync", *options], home)
    return home


def copy_data(source: Path, directory: Path) -> None:
    """Copy the data in a directory into another one, with their owner. No server may run on them."""
    directory.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["cp", "-a", source / "data", directory], check=True)


@contextmanager
def pair() -> Iterator[tuple[Server, Server]]:
    """Run a primary, for which a write is done when its standby has it on disk, too, and that standby."""
    synchronous = {**IN_A_HURRY, "synchronous_commit": "on", "synchronous_standby_names": STANDBY}
    with postgresql(newest(), synchronous) as primary, postgresql(newest(), primary=primary) as standby:
        replicating = "select from pg_stat_replication where sync_state = 'sync'"
        with psycopg.connect(primary.url, autocommit=True) as connection:
            wait_until(lambda: connection.execute(replicating).rowcount == 1)
        yield primary, standby


@contextmanager
def pooler(program: str, url: str, *, connections: int) -> Iterator[str]:
    """Run PgBouncer in transaction mode before the server of a URL and yield the URL by way of it."""
    target = conninfo_to_dict(url)
    socket = Path(str(target["host"]))
    owner = socket.stat().st_uid if socket.is_absolute() and os.geteuid() == 0 else None
    with _home(owner) as home:
        there = {name: target[name] for name in ("host", "port", "user", "password") if name in target}
        configuration = f"""
            [databases]
            * = {" ".join(f"{name}={value}" for name, value in there.items())}
            [pgbouncer]
            pool_mode = transaction
            default_pool_size = {connections}
            auth_type = any
            admin_users = {target["user"]}
            listen_addr =
            unix_socket_dir = {home}
            """
        (home / "ini").write_text(dedent(configuration))
        with _running([program, "-q", "ini"], home):
            pooled = f"postgresql://{target['user']}@/{target['dbname']}?host={home}&port=6432"
            wait_until(lambda: answers(pooled))
            yield pooled


def answers(url: str) -> bool:
    """Whether a server takes connections."""
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def _home(owner: int | None = None) -> Iterator[Path]:
    """A directory for a program that refuses to be root, owned by whom it will run as."""
    with TemporaryDirectory(prefix="todo-engine-", dir="/tmp", ignore_cleanup_errors=True) as home:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(home, owner or nobody.pw_uid, nobody.pw_gid)
        yield Path(home)


def _run(command: Command, home: Path) -> None:
    done = subprocess.run(command, capture_output=True, check=False, **_as_owner(home))
    assert 0 == done.returncode, done.stderr.decode()


@contextmanager
def _running(command: Command, home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with (home / "log").open("wb") as log:
        shell = ["/bin/sh", "-c", KEEPER, str(home / "scratch"), *command]
        keeper = subprocess.Popen(
            shell, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, **_as_owner(home)
        )
    try:
        yield keeper
    finally:
        try:
            keeper.communicate(b"\n", timeout=LIMIT)
        finally:
            if keeper.poll() is None:
                os.killpg(keeper.pid, signal.SIGKILL)


def _as_owner(home: Path) -> dict[str, Any]:
    owner = home.stat()
    changed = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    return {"cwd": home, "env": {"PATH": os.defpath, "LC_ALL": "C"}, **changed}
