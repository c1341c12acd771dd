"""A service that stops finishes what it has begun, with one worker and several; dead workers are replaced."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from .databases import NewDatabase, waiting
from .load import Load
from .service import Service, serving
from .waiting import wait_until

LIMIT = 10.0  # seconds, after which process managers kill


@contextmanager
def stopping(service: Service) -> Iterator[None]:
    """Send SIGTERM, and check that the service ends as it should while something else happens."""
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    yield
    assert 0 == service.process.wait(30), service.log
    took = time.monotonic() - began
    assert took < LIMIT
    print(f"stopped after {took:.1f} s")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_under_load_loses_nothing(workers: str, tmp_path: Path, new_database: NewDatabase) -> None:
    """SIGTERM under load: each answer is a 201, each acknowledged task is stored once, the port is closed."""
    database = new_database()
    with serving(tmp_path, DATABASE_URL=database, WORKERS=workers) as service, Load(service.url) as load:
        load.goes_on()
        with stopping(service):
            pass
        with pytest.raises(httpx.ConnectError):
            httpx.get(load.url)
    assert {201} == load.answers.keys()
    load.assert_nothing_lost(database)
    assert "Traceback" not in service.log
    assert "Cancel" not in service.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_is_in_flight_is_answered(workers: str, tmp_path: Path, new_database: NewDatabase) -> None:
    """A write that waits when SIGTERM comes is answered, on a port that takes no more connections."""
    database = new_database()
    with (
        serving(tmp_path, DATABASE_URL=database, WORKERS=workers, LOCK_TIMEOUT="4") as service,
        psycopg.connect(database) as other,
    ):
        load = Load(service.url)
        answers: list[httpx.Response] = []
        other.execute("lock table tasks")
        client = threading.Thread(
            target=lambda: answers.append(
                httpx.post(load.url + load.path, json={"title": "wait"}, timeout=30)
            )
        )
        client.start()
        wait_until(lambda: waiting(database) == 1)
        with stopping(service):
            wait_until(lambda: refuses(service))
            other.rollback()
            client.join()
        assert [201] == [answer.status_code for answer in answers]


def refuses(service: Service) -> bool:
    """Whether the port is closed: neither answering nor leaving a client to hang."""
    host, port = service.url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_waits_for_nobody_for_ever(workers: str, tmp_path: Path, new_database: NewDatabase) -> None:
    """Clients that send half a request, and requests stuck behind a lock, hold up the end a while only."""
    database = new_database()
    limits = "server.protocol.SHUTDOWN_ARRIVAL_LIMIT=1" if workers == "1" else ""
    with (
        serving(tmp_path, limits=limits, DATABASE_URL=database, WORKERS=workers) as service,
        psycopg.connect(database) as other,
    ):
        load = Load(service.url)
        other.execute("lock table tasks")
        host, port = service.url.removeprefix("http://").split(":")
        head = f"POST {load.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += "Content-Length: 100\r\n"
        halves = [head, f"{head}\r\n", f'{head}\r\n{{"title": ', ""]
        clients = [socket.create_connection((host, int(port))) for _ in halves]
        for client, half in zip(clients, halves, strict=True):
            client.sendall(half.encode())
        with Load(service.url) as load:
            wait_until(lambda: waiting(database) > 0)
            with stopping(service):
                pass
        for client, half in zip(clients, halves, strict=True):
            with client:
                answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 408 ") if "\r\n\r\n" in half else answer == b""
    assert {503} >= load.answers.keys()


@pytest.mark.usefixtures("data_dir")
def test_a_supervisor_takes_its_workers_along(tmp_path: Path) -> None:
    """SIGKILL to the supervisor: its workers stop by themselves, and so does the PostgreSQL of its own."""
    with serving(tmp_path, WORKERS="2") as service:
        family = psutil.Process(service.process.pid).children(recursive=True)
        assert 2 == len(service.workers)
        assert any("postgres" in process.name() for process in family)
        service.stop(signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=30)
        assert [] == alive


def test_a_killed_worker_is_replaced(tmp_path: Path, new_database: NewDatabase) -> None:
    """SIGKILL to a worker under load, twice: the other serves, and nothing acknowledged is lost."""
    database = new_database()
    with serving(tmp_path, DATABASE_URL=database, WORKERS="2") as service, Load(service.url) as load:
        for started in (2, 3):
            service.has_started(started)
            load.goes_on()
            service.workers[0].kill()
            load.goes_on()
        service.has_started(4)
        load.goes_on()
    assert {201} == load.answers.keys()
    load.assert_nothing_lost(database)
