"""What the machine runs out of: files, disks and speed. The service says so, and goes on afterwards."""

import sys
from contextlib import suppress
from itertools import count
from pathlib import Path

import httpx
import psutil
import pytest

from todo_api.app import create_app
from todo_api.postgres import migrations
from todo_api.postgres.embedded import running
from todo_api.settings import Settings

from .api import assert_problem, make_user, talking_to
from .engines import IN_A_HURRY
from .postmaster import root_only, small_disk
from .service import ROOT, serving
from .waiting import wait_until

SLOW_WORKER = """
import sys, time
if any("spawn_main" in part for part in sys.orig_argv):
    time.sleep(6)
"""


def test_a_worker_may_start_slowly(tmp_path: Path, database_url: str) -> None:
    """On a machine that takes its time a worker is not killed before it serves."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_WORKER)
    variables = {"DATABASE_URL": database_url, "WORKERS": "2", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with serving(tmp_path, **variables) as service:
        wait_until(lambda: service.log.count("startup complete") == 2)
        assert "ended with" not in service.log


SERVED = ["/health/ready", "/metrics", "/schema", "/schema/openapi.json", "/schema/assets/swagger-ui.css"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the files of a running process")
def test_no_request_needs_a_file_twice(tmp_path: Path, database_url: str) -> None:
    """Open connections are served even if the process cannot open another file."""
    with (
        serving(tmp_path, DATABASE_URL=database_url) as service,
        httpx.Client(base_url=service.url, timeout=30) as http,
    ):
        wait_until(lambda: all(http.get(path).status_code == 200 for path in SERVED))
        process = psutil.Process(service.process.pid)
        open_files = {int(path.name) for path in Path(f"/proc/{process.pid}/fd").iterdir()}
        first_free = next(number for number in count() if number not in open_files)
        process.rlimit(psutil.RLIMIT_NOFILE, (first_free, process.rlimit(psutil.RLIMIT_NOFILE)[1]))
        assert [200] * len(SERVED) == [http.get(path).status_code for path in SERVED]
        assert '"level":"error"' not in service.log


@root_only
async def test_on_a_full_disk_it_is_not_ready(tmp_path: Path) -> None:
    """Writes are answered 503 and so is the probe, while reads are served; then all is well again."""
    with small_disk(tmp_path / "disk", 120) as disk, running(disk, settings=IN_A_HURRY) as url:
        migrations.apply(url, lambda _: None)
        async with talking_to(create_app(Settings(database_url=url))) as client:
            ada = await make_user(client)
            assert 200 == (await client.get("/health/ready")).status_code
            with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
                while True:
                    filler.write(bytes(4096))
            task = {"title": "x", "description": "y" * 1000}
            while (created := await client.post(ada.tasks, json=task)).status_code == 201:
                pass  # there was room in a page
            assert_problem(created, 503, "unavailable")
            problem = assert_problem(await client.get("/health/ready"), 503, "unavailable")
            assert "The database's disk is full." == problem["detail"]
            assert 200 == (await client.get(ada.tasks)).status_code
            (disk / "filler").unlink()
            assert 200 == (await client.get("/health/ready")).status_code
            await ada.creates()
