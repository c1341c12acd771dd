"""The embedded PostgreSQL's end and its service's: stopped, killed, crashed, and started over."""

import multiprocessing
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.pq import PGconn, Ping

from todo_api.postgres import embedded, wheel
from todo_api.postgres.embedded import running
from todo_api.postgres.wheel import EmbeddedError

from .postmaster import (
    alive,
    as_server,
    ask,
    forks,
    names_in,
    postmaster,
    root_only,
    small_disk,
    socket_directory,
    start_service,
    url_of,
    words,
    write,
)
from .waiting import wait_until


def test_a_second_service_is_turned_away(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data in use are left alone: one sentence names the process, and the first service goes on."""
    monkeypatch.setattr(embedded, "LOCK_LIMIT", 0.1)
    with running(data_dir) as url:
        with pytest.raises(EmbeddedError, match=f"in use by another.*{postmaster(data_dir)}"):
            running(data_dir).__enter__()
        assert 1 == ask(url, "select 1")


@pytest.mark.parametrize("death", [signal.SIGTERM, signal.SIGKILL])
def test_it_does_not_outlive_its_service(data_dir: Path, death: signal.Signals) -> None:
    """However the service ends, the server stops cleanly, and a new service may start at once."""
    service = start_service(data_dir)
    url = url_of(service)
    write(url, "kept")
    server = postmaster(data_dir)
    service.send_signal(death)
    with service, running(data_dir) as new_url:
        assert not alive(server)
        assert "not properly shut down" not in (data_dir / "log").read_text()
        assert "kept" == words(new_url)
    assert not socket_directory(url).exists()


def test_ctrl_c_lets_the_service_drain(data_dir: Path) -> None:
    """An interrupt of the whole foreground group leaves the server up until the service is done."""
    with start_service(data_dir) as service:
        url_of(service)
        os.killpg(service.pid, signal.SIGINT)
        assert service.stdout is not None
        assert "drained\n" == service.stdout.read()
    assert 0 == service.returncode


@forks
def test_a_forked_worker_does_not_hold_it_up(data_dir: Path) -> None:
    """Workers use the URL; one that lives on does not keep the server running."""
    with running(data_dir) as url:
        server = postmaster(data_dir)
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=[60])
        worker.start()
        asked = multiprocessing.get_context("spawn").Process(target=ask, args=[url, "select 1"])
        asked.start()
        asked.join()
    assert 0 == asked.exitcode
    assert not alive(server)
    worker.kill()
    worker.join()


def kill_everything(service: subprocess.Popen[str], directory: Path) -> None:
    """What a power cut does: the server and its keeper are one process group, the backends follow."""
    os.killpg(os.getpgid(postmaster(directory)), signal.SIGKILL)
    service.kill()


@pytest.mark.parametrize("noted", ["of an innocent", "lost"])
def test_it_recovers_from_a_crash(data_dir: Path, noted: str) -> None:
    """Commits are there whatever the old pid file says; who now has that pid is not touched."""
    with start_service(data_dir) as service:
        write(url_of(service), "kept")
        kill_everything(service, data_dir)
    note = data_dir / "data/postmaster.pid"
    with subprocess.Popen(["sleep", "60"], **as_server(data_dir)) as innocent:
        _, _, rest = note.read_text().partition("\n")
        note.write_text(f"{innocent.pid}\n{rest}" if noted == "of an innocent" else "")
        with running(data_dir) as url:
            assert "not properly shut down" in (data_dir / "log").read_text()
            assert "kept" == words(url)
        assert innocent.poll() is None
        innocent.kill()


@pytest.mark.parametrize("moment", ["initialising/data/base", "data/PG_VERSION", "data/postmaster.pid"])
def test_a_start_that_is_killed_leaves_no_server(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start need not wait long, whether the one before was still at initdb or nearly up."""
    monkeypatch.setattr(embedded, "LOCK_LIMIT", 60)  # for a machine that is busy: initdb ends by itself
    with start_service(tmp_path) as service:
        wait_until((tmp_path / moment).exists)
        service.kill()
    with running(tmp_path) as url:
        assert 1 == ask(url, "select 1")
    assert ["data", "log"] == names_in(tmp_path)


@pytest.mark.parametrize("whole", [True, False], ids=["with its keeper", "alone"])
def test_a_server_that_is_killed_is_started_again(
    data_dir: Path, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """While the service runs, it has a database: at the same URL, with all that was committed, and logged."""
    with running(data_dir) as url:
        write(url, "kept")
        killed = postmaster(data_dir)
        if whole:
            os.killpg(os.getpgid(killed), signal.SIGKILL)
        else:
            os.kill(killed, signal.SIGKILL)
        wait_until(lambda: PGconn.ping(url.encode()) == Ping.OK and killed != postmaster(data_dir))
        assert "kept" == words(url)
        assert "The embedded PostgreSQL ended: " in caplog.text
        restarted = postmaster(data_dir)
    assert not alive(restarted)


def test_a_server_that_cannot_come_back_does_not_hold_the_end_up(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Attempts are further and further apart, and end with the service."""
    pauses: list[float] = []
    real = threading.Event.wait

    def wait(event: threading.Event, seconds: float | None = None) -> bool:
        pauses.append(seconds or 0)
        return real(event, min(seconds or 0, 0.01))

    with running(data_dir):
        monkeypatch.setattr(embedded, "KEEPER", "echo FATAL:  no more >&2; exit 1")
        monkeypatch.setattr(threading.Event, "wait", wait)
        os.killpg(os.getpgid(postmaster(data_dir)), signal.SIGKILL)
        wait_until(lambda: 30 in pauses)
    assert [1, 2, 4, 8, 16, 30] == pauses[: pauses.index(30) + 1]
    assert f"ended: no more (more in {data_dir}/log). It restarts in 30 s" in caplog.text


@root_only
def test_a_server_whose_disk_was_full_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It ends when it cannot write; once there is room it serves again, with all that was committed."""
    with small_disk(tmp_path / "disk", 120) as disk, running(disk) as url:
        write(url, "kept")
        filler = disk / "filler"
        with filler.open("wb") as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with suppress(psycopg.Error), psycopg.connect(url, autocommit=True) as connection:
            while True:
                connection.execute("select pg_logical_emit_message(false, 'x', repeat('x', 100000), true)")
        filler.unlink()
        wait_until(lambda: PGconn.ping(url.encode()) == Ping.OK)
        write(url, "later")
        assert "kept later" == words(url)


def test_a_server_started_by_hand_is_respected(data_dir: Path) -> None:
    """A PostgreSQL that somebody else runs on the data is neither joined nor stopped."""
    with running(data_dir):
        _, programs = wheel.find()
    data = "/proc/self/cwd" if os.geteuid() == 0 else str(data_dir / "data")
    note = data_dir / "data/postmaster.pid"
    command = [
        f"{programs}/postgres",
        "-D",
        data,
        "-c",
        "listen_addresses=",
        "-c",
        "unix_socket_directories=.",
    ]
    with subprocess.Popen(
        command, cwd=data_dir / "data", stderr=subprocess.DEVNULL, **as_server(data_dir)
    ) as by_hand:
        wait_until(lambda: note.exists() and "ready" in note.read_text())
        with pytest.raises(EmbeddedError, match=r"shared memory block .* is still in use"):
            running(data_dir).__enter__()
        assert by_hand.poll() is None
        by_hand.send_signal(signal.SIGINT)
    with running(data_dir):
        pass
