"""What an operator sees at /metrics, from one process and from several."""

import asyncio
import math
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import psutil
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from todo_api import VERSION
from todo_api.app import create_app
from todo_api.commands import serve
from todo_api.observability.metrics import SHARED
from todo_api.settings import Settings

from .api import assert_problem, make_user, talking_to
from .databases import NewDatabase
from .service import ROOT, Service, serving
from .waiting import wait_until


class Figures:
    """The answer of /metrics, read as Prometheus reads it."""

    def __init__(self, response: httpx.Response) -> None:
        assert 200 == response.status_code
        assert "text/plain; version=0.0.4; charset=utf-8" == response.headers["content-type"]
        self.text = response.text
        self.samples = [
            sample for family in text_string_to_metric_families(self.text) for sample in family.samples
        ]

    @property
    def names(self) -> set[str]:
        """What is told at all."""
        return {sample.name for sample in self.samples}

    def __call__(self, name: str, **labels: Any) -> float:
        """The sum of the samples of a name that have these labels."""
        wanted = {label: str(value) for label, value in labels.items()}.items()
        return sum(s.value for s in self.samples if s.name == name and wanted <= s.labels.items())


async def test_requests_are_counted_and_timed_by_route(settings: Settings) -> None:
    """Each method, route and status has a series of its own; no id becomes a label."""
    began = time.monotonic()
    async with talking_to(create_app(settings)) as client:
        ada = await make_user(client)
        await ada.creates()
        await ada.creates()
        await ada.lists()
        await client.get(f"{ada.tasks}/{ada.id}")
        figures = Figures(await client.get("/metrics"))
    took = time.monotonic() - began
    tasks = {"route": "/api/{user_id}/tasks"}
    assert 2 == figures("http_request_duration_seconds_count", method="POST", status=201, **tasks)
    assert 1 == figures("http_request_duration_seconds_count", method="GET", status=200, **tasks)
    assert 1 == figures(
        "http_request_duration_seconds_count", status=404, route=tasks["route"] + "/{task_id}"
    )
    # The list had tasks, so nothing looked for the user.
    assert 0 == figures("database_statement_duration_seconds_count", statement="users/get")
    assert 0 < figures("http_request_duration_seconds_sum") < took
    assert 0 < figures("database_statement_duration_seconds_sum") < took
    assert 1 == figures("http_requests_in_flight")  # the one that asks
    assert ada.id not in figures.text


async def test_the_process_and_its_version_are_seen(client: httpx.AsyncClient) -> None:
    """By the names that dashboards for any Python service use."""
    figures = Figures(await client.get("/metrics"))
    assert 1 == figures("todo_api_build_info", version=VERSION)
    assert 1 == figures("python_info", version=platform.python_version())
    assert psutil.Process().memory_info().rss / 2 < figures("process_resident_memory_bytes")
    assert 0 < figures("process_cpu_seconds_total")
    assert not [name for name in figures.names if name.endswith("_created")], "they are of no use"


async def test_durations_are_told_as_finely_as_the_page_says(client: httpx.AsyncClient) -> None:
    """docs/operations.md names the limits of the buckets, which queries and alert rules depend on."""
    [named] = re.findall(
        "^The limits of the buckets are (.*) s", (ROOT / "docs/operations.md").read_text(), re.M
    )
    await client.get("/health/live")
    limits = [s.labels["le"] for s in Figures(await client.get("/metrics")).samples if "le" in s.labels]
    assert {*map(float, re.findall(r"[\d.]+", named)), math.inf} == {*map(float, limits)}


async def test_what_clients_make_up_becomes_no_label(settings: Settings) -> None:
    """All unknown paths are one route, and all unknown methods one method."""
    async with talking_to(create_app(settings)) as client:
        for made_up in ("/a", "/b/c", "/api/users/", "/%2f"):
            await client.get(made_up)
        for made_up in ("BREW", "WHEN"):
            await client.request(made_up, "/api/users")
        figures = Figures(await client.get("/metrics"))
    assert 4 == figures("http_request_duration_seconds_count", method="GET", route="unmatched", status=404)
    assert 2 == figures("http_request_duration_seconds_count", method="other", status=405)
    assert {"GET", "other"} == {s.labels["method"] for s in figures.samples if "method" in s.labels}


async def test_statements_are_timed_by_their_file(settings: Settings) -> None:
    """Each statement is timed under its file's name, and a failed one counted by SQLSTATE class."""
    async with talking_to(create_app(settings)) as client:
        ada = await make_user(client)
        email = (await client.get(f"/api/users/{ada.id}")).json()["email"]
        assert 409 == (await client.post("/api/users", json={"email": email})).status_code
        figures = Figures(await client.get("/metrics"))
    assert 2 == figures("database_statement_duration_seconds_count", statement="users/add")
    assert 1 == figures("database_statement_duration_seconds_count", statement="users/get")
    assert 1 == figures("database_errors_total", sqlstate_class="23")
    assert 1 == figures("database_errors_total")


async def test_the_pool_is_watched(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics count connections, idle connections, opened connections, and the seconds spent opening."""
    connect = psycopg.AsyncConnection.connect

    async def connect_late(*arguments: Any, **options: Any) -> Any:
        await asyncio.sleep(0.05)
        return await connect(*arguments, **options)

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connect_late)
    began = time.monotonic()
    async with talking_to(create_app(settings)) as client:
        await make_user(client)
        figures = Figures(await client.get("/metrics"))
    opened = figures("database_pool_acquisitions_total")
    assert 1 <= figures("database_pool_connections")
    assert figures("database_pool_connections_idle") <= figures("database_pool_connections")
    assert 1 <= opened
    took = figures("database_pool_acquisition_seconds_total")
    assert 0.049 <= took <= opened * (time.monotonic() - began)


async def test_statements_that_wait_for_a_connection_are_counted_until_they_are_answered(
    settings: Settings,
) -> None:
    """While the database is away they wait, and none is left afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"postgresql://127.0.0.1:{nobody.getsockname()[1]}/away"
    away = msgspec.structs.replace(settings, database_url=url, pool_timeout=1)
    async with talking_to(create_app(away)) as client:
        waiting = [asyncio.create_task(client.get(f"/api/users/{uuid4()}")) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert 3 == Figures(await client.get("/metrics"))("database_pool_waiting")
        assert [503, 503, 503] == [(await each).status_code for each in waiting]
        figures = Figures(await client.get("/metrics"))
        assert 0 == figures("database_pool_waiting")
        assert 3 == figures("database_errors_total", sqlstate_class="none")


async def test_what_is_under_way_is_seen(
    new_database: NewDatabase, settings: Settings, as_owner: Callable[[str], str]
) -> None:
    """Requests and statements that are not answered yet are counted until they are."""
    url = new_database()
    async with talking_to(create_app(msgspec.structs.replace(settings, database_url=url))) as client:
        ada = await make_user(client)
        with psycopg.connect(as_owner(url)) as connection:
            connection.execute("lock table users")
            stuck = [asyncio.create_task(client.get(f"/api/users/{ada.id}")) for _ in range(3)]
            for _ in range(1000):
                figures = Figures(await client.get("/metrics"))
                if figures("database_statements_in_flight") == 3:
                    break
                await asyncio.sleep(0.01)
        assert [200, 200, 200] == [(await each).status_code for each in stuck]
        assert 3 == figures("database_statements_in_flight")
        assert 4 == figures("http_requests_in_flight")
        figures = Figures(await client.get("/metrics"))
        assert 0 == figures("database_statements_in_flight")
        assert 1 == figures("http_requests_in_flight")


@contextmanager
def two_workers(
    database_url: str, directory: Path, temporary: Path | None = None, **variables: str
) -> Iterator[tuple[Service, httpx.Client, httpx.Client]]:
    """A service with two workers, and a connection to each."""
    variables = {"DATABASE_URL": database_url, "TMPDIR": str(temporary or directory)} | variables
    with serving(directory, "--workers", "2", **variables) as service, ExitStack() as connections:
        wait_until(lambda: service.log.count("startup complete") == 2)
        clients: dict[str, httpx.Client] = {}
        while len(clients) < 2:
            client = connections.enter_context(httpx.Client(base_url=service.url, timeout=30))
            # The ids that a worker gives begin alike.
            clients.setdefault(client.get("/health/live").headers["x-request-id"][:16], client)
        one, other = clients.values()
        yield service, one, other


LIVE = {"route": "/health/live"}


def test_any_worker_tells_the_figures_of_all(database_url: str, tmp_path: Path) -> None:
    """Two workers answer with the same sums; what one measures is known to the other within seconds."""
    with two_workers(database_url, tmp_path, POOL_MIN_SIZE="0") as (service, one, other):
        count = "http_request_duration_seconds_count"
        before = Figures(one.get("/metrics"))
        assert before(count, **LIVE) == Figures(other.get("/metrics"))(count, **LIVE) >= 2
        for _ in range(5):
            other.get("/health/live")
        figures = Figures(one.get("/metrics"))
        assert before(count, **LIVE) + 5 == figures(count, **LIVE)
        assert 0 == figures("database_pool_connections")
        assert 1 == figures("todo_api_build_info", version=VERSION)
        other.get("/health/ready")
        wait_until(lambda: Figures(one.get("/metrics"))("database_pool_connections") > 0, 20)
        service.stop()
    assert not list(tmp_path.glob("todo-api-metrics-*"))


def test_a_worker_that_ends_leaves_its_counts_and_takes_along_what_it_measured(
    database_url: str, tmp_path: Path
) -> None:
    """Its successor takes over its files, so they become no more."""
    with two_workers(database_url, tmp_path, POOL_MIN_SIZE="1", POOL_MAX_SIZE="1") as (service, one, other):
        count = "http_request_duration_seconds_count"

        def figures() -> Figures:
            return Figures(httpx.get(f"{service.url}/metrics", timeout=30))

        wait_until(lambda: figures()("database_pool_connections") == 2)
        one.get("/health/live")
        other.get("/health/live")
        before = figures()(count, **LIVE)
        service.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: service.log.count("startup complete") == 4)
        wait_until(lambda: len(service.workers) == 2)
        wait_until(lambda: figures()("database_pool_connections") == 2, 20)
        service.workers[0].kill()
        wait_until(lambda: service.log.count("startup complete") == 5)
        wait_until(lambda: figures()("database_pool_connections") == 2, 20)
        assert before == figures()(count, **LIVE)
        [directory] = tmp_path.glob("todo-api-metrics-*")
        assert 3 * 3 == len(list(directory.glob("*.db")))  # of two, and of one more while they are replaced


@pytest.mark.skipif(not os.access(serve.MEMORY, os.W_OK), reason="only Linux has this directory")
@pytest.mark.parametrize("chosen", ["", "/tmp"])
def test_workers_share_their_metrics_in_memory(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a full disk does not harm them, unless the operator has chosen a directory on one."""
    monkeypatch.setenv("TMPDIR", chosen)
    monkeypatch.setenv(SHARED, "")
    monkeypatch.setattr(tempfile, "tempdir", None)
    with serve._shared_metrics(2):
        assert Path(chosen or serve.MEMORY) == Path(os.environ[SHARED]).parent


def test_metrics_that_were_deleted_are_missed(database_url: str, tmp_path: Path) -> None:
    """A program that tidies temporary directories up makes them unavailable, not wrong; all else goes on."""
    with two_workers(database_url, tmp_path) as (service, one, other):
        assert 200 == one.get("/metrics").status_code
        [directory] = tmp_path.glob("todo-api-metrics-*")
        for tidy_up in (empty, shutil.rmtree):
            tidy_up(directory)
            for client in (one, other):
                problem = assert_problem(client.get("/metrics"), 503, "unavailable")
                assert "restart" in problem["detail"]
                assert 200 == client.get("/health/ready").status_code
        service.workers[0].kill()
        wait_until(lambda: service.log.count("startup complete") == 3)
        assert service.log.count("cannot share its metrics") == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(directory)]
    if os.getuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a file system, and not in every container")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_temporary_directory_that_fills_up_ends_no_worker(
    database_url: str, small_disk: Path, tmp_path: Path
) -> None:
    """Workers reserve what they will write. One that starts and cannot do so serves all but metrics."""
    with two_workers(database_url, tmp_path, small_disk) as (service, one, other):
        with suppress(OSError), (small_disk / "filling").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        for number in range(50):
            one.request(("GET", "PUT", "POST", "DELETE")[number % 4], f"/{number}")
            other.get("/health/live?unknown=1")
        figures = Figures(one.get("/metrics"))
        assert 50 == figures("http_request_duration_seconds_count", route="unmatched")
        service.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: service.log.count("startup complete") == 4)
        assert 1 == service.log.count("No space left on device")
        assert 200 == httpx.get(f"{service.url}/health/ready", timeout=30).status_code
        assert "another one replaces it" not in service.log


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only Linux limits another process")
def test_without_a_free_descriptor_the_metrics_are_no_defect(database_url: str, tmp_path: Path) -> None:
    """Where no more files can be opened, the sums of all workers are unavailable for as long."""
    with two_workers(database_url, tmp_path) as (service, one, other):
        Figures(one.get("/metrics"))
        limits = {worker: worker.rlimit(psutil.RLIMIT_NOFILE) for worker in service.workers}
        for worker, (_, hard) in limits.items():
            worker.rlimit(psutil.RLIMIT_NOFILE, (worker.num_fds() // 2, hard))
        assert_problem(one.get("/metrics"), 503, "unavailable")
        for worker, limit in limits.items():
            worker.rlimit(psutil.RLIMIT_NOFILE, limit)
        Figures(other.get("/metrics"))


def empty(directory: Path) -> None:
    """Delete all files of a directory."""
    for file in directory.iterdir():
        file.unlink()
