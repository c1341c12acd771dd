"""The start, and all that can keep the service from it: one sentence, no password, no traceback."""

import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from todo_api.postgres import embedded

from .service import COMMAND, ROOT, environment, run
from .waiting import wait_until

PASSWORD = "s3cret-hunter2"


def refusal(result: "subprocess.CompletedProcess[str]") -> str:
    """Check that a command failed as it should, and return its one sentence of why."""
    assert 1 == result.returncode, result.stderr
    assert "" == result.stdout
    assert "Traceback" not in result.stderr
    assert not {"hunter2", "s3cret"} & set(re.split(r"\W", result.stderr))
    *progress, last = result.stderr.splitlines()
    assert all(line.startswith(("Database: ", "The database ")) for line in progress), result.stderr
    assert last.startswith("Error: ") and last.endswith("."), result.stderr
    return last.removeprefix("Error: ")


def test_an_unknown_database_is_not_waited_for(tmp_path: Path, database_url: str) -> None:
    """The server has answered, and it would answer the same a minute later."""
    url = urlunsplit(urlsplit(database_url)._replace(path="/no_such_database"))
    before = time.monotonic()
    sentence = refusal(run(tmp_path, "serve", DATABASE_URL=f"{url}&password={PASSWORD}", START_TIMEOUT="300"))
    assert 'database "no_such_database" does not exist' in sentence
    assert time.monotonic() - before < 60


@pytest.fixture
def locked_out(postgres: str) -> Iterator[str]:
    """The name of a role that may not log in."""
    name = f"todo_test_{uuid4().hex}"
    role = sql.Identifier(name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} nologin").format(role))
        yield name
        connection.execute(sql.SQL("drop role {}").format(role))


def test_a_refused_login_is_not_waited_for(tmp_path: Path, database_url: str, locked_out: str) -> None:
    """Nor does a role come to be let in by asking again."""
    parts = urlsplit(database_url)
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{locked_out}:{PASSWORD}@{host}"))
    sentence = refusal(run(tmp_path, "serve", DATABASE_URL=url, START_TIMEOUT="300"))
    assert f'role "{locked_out}" is not permitted to log in' in sentence


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_silent_host_is_waited_for_in_vain(command: str, tmp_path: Path) -> None:
    """Nobody listens: the wait is told of and ends."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url = f"postgresql://ada:{PASSWORD}@127.0.0.1:{nobody.getsockname()[1]}/todo"
        result = run(tmp_path, command, DATABASE_URL=url, START_TIMEOUT="1")
    assert "Connection refused" in refusal(result)
    assert 1 == result.stderr.count("does not answer; waiting for it, 1 s at most")


def test_an_unknown_host_is_waited_for_in_vain(tmp_path: Path) -> None:
    """A name may come to be known, as a container's does."""
    url = f"postgresql://ada:{PASSWORD}@no-such-host.invalid/todo"
    assert "no-such-host.invalid" in refusal(run(tmp_path, "serve", DATABASE_URL=url, START_TIMEOUT="0.1"))


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that has the same answer for everybody; yields a URL of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_all() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.settimeout(10)
                    while client.recv(4096)[4:8] != b"\0\3\0\0":
                        client.sendall(b"N")  # neither TLS nor GSSAPI
                    client.sendall(answer)

        thread = Thread(target=answer_all)
        thread.start()
        try:
            yield f"postgresql://ada:{PASSWORD}@127.0.0.1:{listener.getsockname()[1]}/todo"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def fatal(sqlstate: str, message: str) -> bytes:
    """What PostgreSQL sends before it hangs up."""
    fields = f"SFATAL\0VFATAL\0C{sqlstate}\0M{message}\0\0".encode()
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


def test_a_database_that_is_starting_up_is_waited_for(tmp_path: Path) -> None:
    """PostgreSQL answers 57P03 while it recovers from a crash; should that take longer, it is said."""
    with answering(fatal("57P03", "the database system is starting up")) as url:
        result = run(tmp_path, "serve", DATABASE_URL=url, START_TIMEOUT="1")
    assert "The database is starting; waiting for it, 1 s at most" in result.stderr
    assert "the database system is starting up" in refusal(result)


def test_a_wrong_password_is_not_waited_for(tmp_path: Path) -> None:
    """The sentence names the role, and not what was tried."""
    with answering(fatal("28P01", 'password authentication failed for user "ada"')) as url:
        result = run(tmp_path, "serve", DATABASE_URL=url, START_TIMEOUT="300")
    assert 'password authentication failed for user "ada"' in refusal(result)


def test_a_pooler_that_takes_no_time_outs_is_told_of(tmp_path: Path) -> None:
    """PgBouncer refuses the parameter that carries them; the sentence says what to do about it."""
    with answering(fatal("08P01", "unsupported startup parameter: options")) as url:
        assert "STATEMENT_TIMEOUT=0" in refusal(run(tmp_path, "serve", DATABASE_URL=url))


@pytest.mark.usefixtures("data_dir")
def test_a_database_that_comes_up_is_served_from(tmp_path: Path, short_path: Path) -> None:
    """The service starts by itself once the database it waits for is there."""
    url = f"postgresql://postgres@/postgres?host={short_path}/socket"
    with (
        (tmp_path / "log").open("w+") as log,
        subprocess.Popen(
            [*COMMAND, "serve", "--migrate"],
            env=environment(tmp_path, DATABASE_URL=url, START_TIMEOUT="120"),
            stderr=log,
        ) as service,
    ):
        try:
            wait_until(lambda: "waiting for it" in (tmp_path / "log").read_text())
            with embedded.running(tmp_path / "data") as real:
                (short_path / "socket").symlink_to(parse_qs(urlsplit(real).query)["host"][0])
                wait_until(lambda: "startup complete" in (tmp_path / "log").read_text())
        finally:
            service.terminate()
    assert 0 == service.returncode


def test_a_port_in_use_is_one_sentence(tmp_path: Path, database_url: str) -> None:
    """With one worker or several, a second server on a port says so and ends."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        for workers in ("1", "2"):
            result = run(tmp_path, "serve", DATABASE_URL=database_url, PORT=port, WORKERS=workers)
            assert f"Cannot listen on 127.0.0.1, port {port}: Address already in use." == refusal(result)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_worker_that_cannot_start_ends_the_service(workers: str, tmp_path: Path, database_url: str) -> None:
    """It is not tried for ever: the service ends, and its status and log tell that something is wrong."""
    # What only the serving process imports is broken in it, as by an installation that is half done.
    (tmp_path / "sitecustomize.py").write_text(BREAK_THE_APPLICATION)
    path = f"{tmp_path}:{ROOT}"
    result = run(tmp_path, "serve", DATABASE_URL=database_url, WORKERS=workers, PYTHONPATH=path)
    assert result.returncode not in (0, -signal.SIGTERM)
    assert "The application could not be created" in result.stderr


BREAK_THE_APPLICATION = """
import todo_api.app


def create_app():
    raise LookupError("the other half")


todo_api.app.create_app = create_app
"""
