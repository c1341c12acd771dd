"""What an operator sees at /metrics, from one process and from several."""

import asyncio
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import psutil
import psycopg
from prometheus_client.parser import text_string_to_metric_families

from todo_api.app import create_app
from todo_api.settings import Settings

from .conftest import NewDatabase, assert_problem, make_user, talking_to
from .service import serving

T = TypeVar("T")


class Figures:
    """The answer of /metrics, read as Prometheus reads it."""

    def __init__(self, response: httpx.Response) -> None:
        assert 200 == response.status_code
        assert response.headers["content-type"].startswith("text/plain")
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


async def test_requests_are_counted_by_route(settings: Settings) -> None:
    """Requests are counted by method, route and status, and timed by route; no id becomes a label."""
    async with talking_to(create_app(settings)) as client:
        ada = await make_user(client)
        await ada.creates()
        await ada.creates()
        await client.get(f"{ada.tasks}/{ada.id}")
        figures = Figures(await client.get("/metrics"))
    tasks = {"route": "/api/{user_id}/tasks"}
    assert 2 == figures("http_requests_total", method="POST", status=201, **tasks)
    assert 2 == figures("http_request_duration_seconds_count", **tasks)
    assert 0 < figures("http_request_duration_seconds_sum", **tasks)
    assert 1 == figures("http_requests_total", status=404, route="/api/{user_id}/tasks/{task_id}")
    assert 1 == figures("http_requests_in_flight")  # the one that asks
    assert ada.id not in figures.text


async def test_what_clients_make_up_becomes_no_label(settings: Settings) -> None:
    """All unknown paths are one route, and all unknown methods one method."""
    async with talking_to(create_app(settings)) as client:
        for made_up in ("/a", "/b/c", "/api/users/", "/%2f"):
            await client.get(made_up)
        for made_up in ("BREW", "WHEN"):
            await client.request(made_up, "/api/users")
        figures = Figures(await client.get("/metrics"))
    assert 4 == figures("http_requests_total", method="GET", route="unmatched", status=404)
    assert 2 == figures("http_requests_total", method="other", status=405)
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


async def test_the_pool_is_watched(settings: Settings) -> None:
    """Size, free connections, callers that wait, and how long they waited."""
    async with talking_to(create_app(settings)) as client:
        await make_user(client)
        figures = Figures(await client.get("/metrics"))
    assert 1 <= figures("database_pool_connections")
    assert figures("database_pool_connections_idle") <= figures("database_pool_connections")
    assert 1 <= figures("database_pool_acquisitions_total")
    assert {"database_pool_waiting", "database_pool_acquisition_seconds_total"} <= figures.names


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


def test_any_worker_tells_the_figures_of_all(database_url: str, tmp_path: Path) -> None:
    """Two workers answer with the same sums; one that is killed takes none of its counts along."""
    variables = {
        "DATABASE_URL": database_url,
        "TMPDIR": str(tmp_path),
        "POOL_MIN_SIZE": "1",
        "POOL_MAX_SIZE": "1",
    }
    with serving(tmp_path, "--workers", "2", **variables) as service:
        live: list[httpx.Response] = []
        workers = eventually(lambda: two_workers(live, service.url + "/health/live"))
        told: list[httpx.Response] = []
        eventually(lambda: two_workers(told, service.url + "/metrics") == workers)
        for answer in told:
            assert len(live) == Figures(answer)("http_requests_total", route="/health/live")

        def connections() -> float:
            return Figures(get(service.url + "/metrics"))("database_pool_connections")

        eventually(lambda: connections() == 2)
        doomed = next(
            p for p in psutil.Process(service.process.pid).children() if "spawn_main" in str(p.cmdline())
        )
        doomed.send_signal(signal.SIGKILL)
        eventually(lambda: not doomed.is_running())
        figures = Figures(eventually(lambda: attempt(service.url + "/metrics")))
        assert len(live) == figures("http_requests_total", route="/health/live")
        eventually(lambda: connections() == 2)  # of the other and of the new one
        assert list(tmp_path.glob("todo-api-metrics-*"))
        service.stop()
    assert not list(tmp_path.glob("todo-api-metrics-*"))


def test_metrics_that_were_deleted_are_missed(database_url: str, tmp_path: Path) -> None:
    """A program that tidies temporary directories up makes them unavailable, not wrong; all else goes on."""
    with serving(tmp_path, "--workers", "2", DATABASE_URL=database_url, TMPDIR=str(tmp_path)) as service:
        assert 200 == get(f"{service.url}/metrics").status_code
        [directory] = tmp_path.glob("todo-api-metrics-*")
        for tidy_up in (empty, shutil.rmtree):
            tidy_up(directory)
            problem = assert_problem(get(f"{service.url}/metrics"), 503, "unavailable")
            assert "restart" in problem["detail"]
            assert 200 == get(f"{service.url}/health/ready").status_code


def empty(directory: Path) -> None:
    """Delete all files of a directory."""
    for file in directory.iterdir():
        file.unlink()


def eventually(ask: Callable[[], T | None]) -> T:
    """The first answer that is true, within a minute."""
    deadline = time.monotonic() + 60
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def get(url: str) -> httpx.Response:
    """The answer of whichever worker takes a fresh connection."""
    return httpx.get(url, timeout=30)


def attempt(url: str) -> httpx.Response | None:
    """The same, or None where the worker died with the connection."""
    try:
        return get(url)
    except httpx.TransportError:
        return None


def two_workers(answers: list[httpx.Response], url: str) -> set[str]:
    """Ask some more at once, and tell by the ids that they give, which begin alike, who answered so far."""
    with ThreadPoolExecutor(8) as threads:
        answers += threads.map(get, [url] * 16)
    workers = {answer.headers["x-request-id"][:16] for answer in answers}
    return workers if len(workers) == 2 else set()
