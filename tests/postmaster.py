"""The embedded PostgreSQL from outside: its processes, its files, and what is in it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from todo_api.postgres import embedded

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# The watching thread runs no code that a forked child needs.
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

SERVICE = """
import sys, time
from pathlib import Path
from todo_api.postgres.embedded import running
with running(Path(sys.argv[1])) as url:
    try:
        print(url, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        import psycopg
        psycopg.connect(url).close()
        print("drained", flush=True)
"""


def start_service(directory: Path) -> subprocess.Popen[str]:
    """A process of its own, as the leader of its process group, that runs the server in ``directory``."""
    command = [sys.executable, "-c", SERVICE, str(directory)]
    source = {"PYTHONPATH": os.pathsep.join([str(Path(embedded.__file__).parents[1]), *sys.path])}
    return subprocess.Popen(
        command, env={**os.environ, **source}, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def url_of(service: subprocess.Popen[str]) -> str:
    """The URL that the service has printed first."""
    assert service.stdout is not None
    url = service.stdout.readline().strip()
    assert url, "the service did not start"
    return url


def ask(url: str, query: str) -> Any:
    """The first column of the first row."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row and row[0]


def write(url: str, word: str) -> None:
    """Put a word into the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table if not exists words (word text)")
        connection.execute("insert into words values (%s)", [word])


def words(url: str) -> str:
    """Every word in the database."""
    return str(ask(url, "select string_agg(word, ' ' order by word) from words"))


def socket_directory(url: str) -> Path:
    """Where the server's socket is."""
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def postmaster(directory: Path) -> int:
    """The pid in the pid file."""
    return int((directory / "data/postmaster.pid").read_text().split()[0])


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def as_server(directory: Path) -> dict[str, Any]:
    """What makes a child process the same user as the server with these data."""
    owner = (directory / "data").stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def private_umask() -> Iterator[None]:
    """A umask that shuts out everybody else."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def names_in(directory: Path) -> list[str]:
    """What a directory holds."""
    return sorted(path.name for path in directory.iterdir())


def mode(path: Path) -> int:
    """Who may do what with a file."""
    return path.stat().st_mode & 0o777


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk, and here not even root")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
