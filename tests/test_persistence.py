"""What was acknowledged is still there, however the service and its PostgreSQL ended."""

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import httpx
import psutil

from .service import Service, serving


def add_user(service: Service) -> str:
    """Add a user over HTTP and return the path of their tasks."""
    response = httpx.post(f"{service.url}/api/users", json={"email": f"{uuid4().hex}@example.org"})
    return f"/api/{response.json()['id']}/tasks"


def test_tasks_outlive_a_restart_of_service_and_server(tmp_path: Path) -> None:
    """Stop by SIGTERM, start again: the same tasks, on a database of the service's own."""
    with serving(tmp_path) as service:
        tasks = add_user(service)
        created = httpx.post(service.url + tasks, json={"title": "Buy milk"}).json()
        assert 0 == service.stop()
    with serving(tmp_path) as service:
        assert [created] == httpx.get(service.url + tasks).json()


def test_every_acknowledged_task_outlives_a_kill_of_everything(tmp_path: Path) -> None:
    """SIGKILL to the service and all of PostgreSQL in the middle of writes loses nothing acknowledged."""
    acknowledged: list[str] = []

    def write(url: str) -> None:
        with httpx.Client() as client:
            while True:
                try:
                    response = client.post(url, json={"title": uuid4().hex})
                except httpx.HTTPError:
                    return
                acknowledged.append(response.json()["id"])

    with serving(tmp_path) as service:
        tasks = add_user(service)
        writers = [threading.Thread(target=write, args=(service.url + tasks,)) for _ in range(4)]
        for writer in writers:
            writer.start()
        while len(acknowledged) < 100:
            writers[0].join(0.01)
        family = [service.process.pid, *postgres_processes(tmp_path)]
        for pid in family:
            with suppress(ProcessLookupError):  # it ended by itself
                os.kill(pid, signal.SIGKILL)
        for writer in writers:
            writer.join()
    with serving(tmp_path) as service:
        stored = {task["id"] for task in httpx.get(service.url + tasks, params={"limit": 1000}).json()}
    assert set(acknowledged) <= stored
    assert len(stored) <= len(acknowledged) + len(writers)


def postgres_processes(directory: Path) -> list[int]:
    """Every process of the PostgreSQL whose data lie under this directory."""
    pids = [int(path.read_text().split()[0]) for path in directory.rglob("postmaster.pid")]
    assert pids
    return [*pids, *(child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True))]
