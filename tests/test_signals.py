"""What signals do: the service ends in time, or replaces its workers, and says what ended one."""

import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from .databases import NewDatabase
from .load import Load
from .service import COMMAND, Service, serving
from .test_deploys import LIMIT
from .waiting import wait_until


def assert_ends(service: Service, family: list[psutil.Process]) -> None:
    """The service ends in time with status 0, and nothing of it is left."""
    began = time.monotonic()
    assert 0 == service.process.wait(30), service.log
    assert time.monotonic() - began < LIMIT
    wait_until(lambda: not any(map(runs, family)), 5)


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended, reaped or not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def hang_up(service: Service) -> None:
    """Send what each process of a terminal gets when that is closed."""
    processes = [psutil.Process(service.process.pid), *service.workers]
    for process in processes:
        process.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("stopped", [1, 2])
def test_stopped_workers_do_not_hold_up_the_end(stopped: int, tmp_path: Path, database_url: str) -> None:
    """STOP_LIMIT after SIGTERM all is over, also for workers that do not run."""
    limits = "server.processes.STOP_LIMIT=1"
    with serving(tmp_path, limits=limits, DATABASE_URL=database_url, WORKERS="2") as service:
        service.has_started(2)
        workers = service.workers
        for worker in workers[:stopped]:
            worker.suspend()
        time.sleep(0.7)  # the supervisor is now waiting for the first of them to answer
        service.process.send_signal(signal.SIGTERM)
        assert_ends(service, workers)


@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_closed_terminal_ends_the_service(workers: str, tmp_path: Path) -> None:
    """SIGHUP, which every process of the terminal gets, ends it as Ctrl-C does, with its PostgreSQL."""
    with serving(tmp_path, WORKERS=workers) as service:
        service.has_started(int(workers))
        family = psutil.Process(service.process.pid).children(recursive=True)
        hang_up(service)
        assert_ends(service, family)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_nohup_is_respected(workers: str, tmp_path: Path, database_url: str) -> None:
    """Where SIGHUP was ignored from the start, it stays so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        variables = {"DATABASE_URL": database_url, "WORKERS": workers}
        with serving(tmp_path, command=[*COMMAND, "serve"], **variables) as service:
            service.has_started(int(workers))
            hang_up(service)
            time.sleep(1)
            assert 200 == httpx.get(f"{service.url}/health/live").status_code
            assert int(workers) == service.log.count("startup complete")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_sigusr2_replaces_the_workers(tmp_path: Path, new_database: NewDatabase) -> None:
    """One after the other, under load: every answer is a 201, and nothing acknowledged is lost."""
    database = new_database()
    with serving(tmp_path, DATABASE_URL=database, WORKERS="2") as service, Load(service.url) as load:
        service.has_started(2)
        before = set(service.workers)
        load.goes_on()
        service.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: len(service.workers) == 2 and before.isdisjoint(service.workers))
        load.goes_on()
    assert {201} == load.answers.keys()
    load.assert_nothing_lost(database)


def test_sigterm_ends_a_replacement_under_way(tmp_path: Path, database_url: str) -> None:
    """Also while one of the old workers waits for half a request, and the other one hangs."""
    limits = "server.processes.STOP_LIMIT=1"
    with (
        serving(tmp_path, limits=limits, DATABASE_URL=database_url, WORKERS="2") as service,
        ExitStack() as clients,
    ):
        service.has_started(2)
        _, second = service.workers
        host, port = service.url.removeprefix("http://").split(":")
        head = "POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        for _ in range(16):
            client = clients.enter_context(socket.create_connection((host, int(port))))
            client.sendall(f"{head}Content-Length: 9\r\n\r\n{{".encode())
        service.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: "Waiting for child process" in service.log)
        second.suspend()
        family = psutil.Process(service.process.pid).children()
        service.process.send_signal(signal.SIGTERM)
        assert_ends(service, family)
        assert "Traceback" not in service.log


def test_sigusr2_leaves_a_single_worker_alone(tmp_path: Path, database_url: str) -> None:
    """There is nobody to serve meanwhile."""
    with serving(tmp_path, DATABASE_URL=database_url) as service:
        service.process.send_signal(signal.SIGUSR2)
        assert 200 == httpx.get(f"{service.url}/health/live").status_code


def test_what_ended_a_worker_is_logged(tmp_path: Path, database_url: str) -> None:
    """With its signal, each time, and at once: also if its supervisor waits for it to answer."""
    limits = "server.processes.START_LIMIT=1000"
    with serving(tmp_path, limits=limits, DATABASE_URL=database_url, WORKERS="2") as service:
        for number, name, hangs in [(signal.SIGBUS, "Bus error", False), (signal.SIGKILL, "Killed", True)]:
            service.has_started(3 if hangs else 2)
            worker = service.workers[0]
            if hangs:
                worker.suspend()
                time.sleep(0.7)
            worker.send_signal(number)
            line = f"Worker {worker.pid} ended with signal {number.value}, {name}"
            wait_until(lambda line=line: line in service.log)  # type: ignore[misc]
