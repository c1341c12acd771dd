"""What an operator counts and times, as Prometheus reads it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import perf_counter

import psycopg
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from todo_api.postgres.connections import Connections

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own variable, read when it is imported

Observe = Callable[[float], None]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10)


class Metrics:
    """The figures of this process; of all workers together where PROMETHEUS_MULTIPROC_DIR is set.

    There each worker keeps its figures in files of that directory: any worker can add up those of
    all, and what a dead one counted is not lost. The values of every label are bounded.
    """

    def __init__(self, connections: Connections) -> None:
        disable_created_metrics()
        self._connections = connections
        self._registry = CollectorRegistry()
        self._requests = self._counter("http_requests", "Requests answered", "method", "route", "status")
        self._durations = self._histogram("http_request_duration_seconds", "Until the answer ended", "route")
        self.in_flight = 0
        self._in_flight = self._gauge("http_requests_in_flight", "Requests not answered yet")
        self._statements = self._histogram(
            "database_statement_duration_seconds", "Waiting for a connection included", "statement"
        )
        self.statements_in_flight = 0
        self._statements_in_flight = self._gauge(
            "database_statements_in_flight", "Statements not answered yet"
        )
        self._errors = self._counter(
            "database_errors", "Statements that failed; none: for lack of an answer", "sqlstate_class"
        )
        self._size = self._gauge("database_pool_connections", "Connections to the database")
        self._idle = self._gauge("database_pool_connections_idle", "Connections that owe no answer")
        self._waiting = self._gauge("database_pool_waiting", "Statements that wait for a connection now")
        self._acquisitions = self._counter("database_pool_acquisitions", "Attempts to open a connection")
        self._waited = self._counter("database_pool_acquisition_seconds", "Time spent opening connections")
        # Opens the last of this process's files, as their directory may be deleted later.
        self._durations.labels("unmatched")
        # To look a child up among prometheus_client's labels costs more than to count.
        self._of_request: dict[tuple[str, str, int], tuple[Callable[[], None], Observe]] = {}
        self._of_statement: dict[str, Observe] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. Its method and route must come from bounded sets."""
        key = (method, route, status)
        found = self._of_request.get(key)
        if found is None:
            found = self._requests.labels(*key).inc, self._durations.labels(route).observe
            self._of_request[key] = found
        count, observe = found
        count()
        observe(seconds)

    def statement(self, name: str) -> "_Timed":
        """Time the statement that runs in this context, and count it if it fails."""
        observe = self._of_statement.get(name)
        if observe is None:
            observe = self._of_statement[name] = self._statements.labels(name).observe
        return _Timed(self, observe)

    def error(self, error: psycopg.Error) -> None:
        """Count a statement that failed."""
        self._errors.labels(error.sqlstate[:2] if error.sqlstate else "none").inc()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep what is read now and then at most a second old: another worker may be asked for it."""

        async def keep() -> None:
            while True:
                self._read()
                await asyncio.sleep(1)

        task = asyncio.create_task(keep())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def text(self) -> bytes:
        """The text format, version 0.0.4; raises FileNotFoundError where the workers' files were deleted."""
        self._read()
        if SHARED not in os.environ:
            return generate_latest(self._registry)
        # As many files as there are workers, and more: not while others wait.
        return await asyncio.to_thread(_text_of_all, Path(os.environ[SHARED]))

    def _read(self) -> None:
        self._in_flight.set(self.in_flight)
        self._statements_in_flight.set(self.statements_in_flight)
        stats = self._connections.statistics()  # and its counters begin anew
        self._size.set(stats.get("pool_size", 0))
        self._idle.set(stats.get("pool_available", 0))
        self._waiting.set(stats.get("requests_waiting", 0))
        self._acquisitions.inc(stats.get("requests_num", 0))
        self._waited.inc(stats.get("connections_ms", 0) / 1000)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self._registry)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, registry=self._registry, multiprocess_mode="livesum")

    def _histogram(self, name: str, documentation: str, *labels: str) -> Histogram:
        return Histogram(name, documentation, labels, registry=self._registry, buckets=_SECONDS)


def _text_of_all(directory: Path) -> bytes:
    if not (directory / f"counter_{os.getpid()}.db").exists():
        raise FileNotFoundError(f"{directory} was emptied")
    for file in directory.glob("gauge_*.db"):
        worker = int(file.stem.rpartition("_")[2])
        try:
            os.kill(worker, 0)
        except OSError:  # gone, or the number is another's by now
            mark_process_dead(worker, str(directory))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))
    return generate_latest(registry)


class _Timed:
    """A class, since a generator takes three times as long to enter and leave."""

    __slots__ = ("_metrics", "_observe", "_started")

    def __init__(self, metrics: Metrics, observe: Observe) -> None:
        self._metrics = metrics
        self._observe = observe

    def __enter__(self) -> None:
        self._started = perf_counter()
        self._metrics.statements_in_flight += 1

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        self._metrics.statements_in_flight -= 1
        self._observe(perf_counter() - self._started)
        if isinstance(error, psycopg.Error):
            self._metrics.error(error)
