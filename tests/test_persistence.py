"""What was acknowledged is still there, however the service and its PostgreSQL ended."""

from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from .load import Load
from .service import serving


def test_tasks_outlive_a_restart_of_service_and_server(tmp_path: Path) -> None:
    """Stop by SIGTERM, start again: the same tasks, on a database of the service's own."""
    with serving(tmp_path) as service, Load(service.url) as load:
        created = httpx.post(service.url + load.path, json={"title": "Buy milk"}).json()
        load.goes_on()
        assert 0 == service.stop()
    with serving(tmp_path) as service:
        assert created == httpx.get(f"{service.url}{load.path}/{created['id']}").json()


@pytest.mark.usefixtures("data_dir")
def test_every_acknowledged_task_outlives_a_kill_of_everything(tmp_path: Path) -> None:
    """SIGKILL to the service and all of PostgreSQL in the middle of writes loses nothing acknowledged."""
    with serving(tmp_path) as service, Load(service.url) as load:
        load.goes_on()
        leader = psutil.Process(service.process.pid)
        family = [leader, *leader.children(recursive=True)]
        assert any("postgres" in process.name() for process in family)
        for process in family:
            with suppress(psutil.NoSuchProcess):  # it ended by itself
                process.kill()
    with serving(tmp_path) as service:
        stored = {task["title"] for task in httpx.get(service.url + load.path, params={"limit": 1000}).json()}
    assert load.acknowledged.keys() <= stored <= load.sent
