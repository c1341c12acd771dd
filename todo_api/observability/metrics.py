"""Metrics for Prometheus, of one process or of several workers together."""

import asyncio
import fcntl
import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import BinaryIO, cast

import psycopg
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

from todo_api import VERSION
from todo_api.postgres.connections import Connections

log = logging.getLogger(__name__)

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own variable

Observe = Callable[[float], None]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10)

# A worker's files and their sizes in bytes. The worker locks the last one while it lives. That one has room
# for 400 series of requests, more than the routes can create.
_FILES = {"counter": 1 << 16, "gauge_livesum": 1 << 16, "histogram": 1 << 20}


class Metrics:
    """The metrics of this process, or of all workers if PROMETHEUS_MULTIPROC_DIR is set.

    Each label has a bounded number of values.
    """

    def __init__(self, connections: Connections) -> None:
        disable_created_metrics()
        self._connections = connections
        self._registry = CollectorRegistry()  # what /metrics shows
        Info("todo_api_build", "The version that runs", registry=self._registry).info({"version": VERSION})
        self._own: CollectorRegistry | None = None
        if SHARED in os.environ:
            self._registry.register(_Workers(Path(os.environ[SHARED])))
        else:
            self._own = self._registry
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
        # Its _count is the number of requests.
        self._requests = self._histogram(
            "http_request_duration_seconds", "Time until the response was sent", "method", "route", "status"
        )
        self.in_flight = 0
        self._in_flight = self._gauge("http_requests_in_flight", "Requests without a complete response")
        self._statements = self._histogram(
            "database_statement_duration_seconds",
            "Time of a statement, with its wait for a connection",
            "statement",
        )
        self.statements_in_flight = 0
        self._statements_in_flight = self._gauge(
            "database_statements_in_flight", "Statements without a result yet"
        )
        self.errors = self._counter(
            "database_errors",
            "Statements that failed, by SQLSTATE class; none if there was no answer",
            "sqlstate_class",
        )
        self._size = self._gauge("database_pool_connections", "Connections to the database")
        self._idle = self._gauge("database_pool_connections_idle", "Connections with no statement under way")
        self._waiting = self._gauge("database_pool_waiting", "Statements that wait for a connection now")
        self._acquisitions = self._counter("database_pool_acquisitions", "Attempts to open a connection")
        self._waited = self._counter("database_pool_acquisition_seconds", "Time spent opening connections")
        # Looking up a child by its labels costs more than counting.
        self._of_request: dict[tuple[str, str, int], Observe] = {}
        self._of_statement: dict[str, Observe] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count and time one request. Its method and route must come from bounded sets."""
        key = (method, route, status)
        observe = self._of_request.get(key)
        if observe is None:
            observe = self._of_request[key] = self._requests.labels(*key).observe
        observe(seconds)

    def statement(self, name: str) -> "_Timed":
        """Time the statement that runs in this context, and count it if it fails."""
        observe = self._of_statement.get(name)
        if observe is None:
            observe = self._of_statement[name] = self._statements.labels(name).observe
        return _Timed(self, observe)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Update the gauges every second, since another worker may have to report them."""

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
        """The text format, version 0.0.4. Raises OSError if the workers' files cannot be read."""
        self._read()
        # In a thread, since reading the files of many workers takes long.
        return await asyncio.to_thread(generate_latest, self._registry)

    def _read(self) -> None:
        self._in_flight.set(self.in_flight)
        self._statements_in_flight.set(self.statements_in_flight)
        stats = defaultdict(int, self._connections.statistics())  # this resets its counters
        self._size.set(stats["pool_size"])
        self._idle.set(stats["pool_available"])
        self._waiting.set(stats["requests_waiting"])
        self._acquisitions.inc(stats["requests_num"])
        self._waited.inc(stats["connections_ms"] / 1000)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self._own)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, registry=self._own, multiprocess_mode="livesum")

    def _histogram(self, name: str, documentation: str, *labels: str) -> Histogram:
        return Histogram(name, documentation, labels, registry=self._own, buckets=_SECONDS)


class _Workers:
    """Each worker keeps its metrics in files, so that any worker can add up those of all.

    A new worker takes over the files of one that has ended. So no count is lost, and the number of files is
    bounded. They have their full size from the start: on a full disk, writing to a sparse file would kill
    the worker.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock: BinaryIO | None = None
        values.ValueClass = values.MutexValue
        try:
            for file in directory.glob("histogram_*.db"):
                if lock := _locked(file):
                    break
            else:
                for kind, size in _FILES.items():
                    file = directory / f"{kind}_{os.getpid()}.db"
                    lock = _locked(file.with_suffix(".new"))
                    assert lock
                    lock.write(bytes(size))
                    lock.flush()
                    file.with_suffix(".new").rename(file)
            number = file.stem.rpartition("_")[2]
        except OSError as error:
            log.error("This worker cannot share its metrics, so /metrics is not available: %s", error)
        else:
            self._lock = lock
            values.ValueClass = values.MultiProcessValue(lambda: number)

    def collect(self) -> Iterable[Metric]:
        """Add up the counters of all workers, and the gauges of those that live. Raises OSError."""
        if not self._lock or not os.fstat(self._lock.fileno()).st_nlink:
            raise FileNotFoundError("the files could not be created, or were deleted")
        ended = set()
        for file in self._directory.glob("histogram_*.db"):
            if lock := _locked(file):
                lock.close()
                ended.add(file.stem.replace("histogram", "gauge_livesum"))
        files = [str(file) for file in self._directory.glob("*.db") if file.stem not in ended]
        return cast("Iterable[Metric]", MultiProcessCollector.merge(files))


def _locked(file: Path) -> BinaryIO | None:
    """The file, locked until it is closed, or None if a living worker has locked it."""
    opened = file.open("ab")
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        opened.close()
        return None
    return opened


class _Timed:
    """Times one statement. A context manager made of a generator would take three times as long."""

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
            self._metrics.errors.labels(error.sqlstate[:2] if error.sqlstate else "none").inc()
