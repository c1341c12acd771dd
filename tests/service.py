"""The service as its users run it: a process of its own, on a socket."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from .forks import Fork
from .waiting import wait_until

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "todo_api"]


def environment(directory: Path, **variables: str) -> dict[str, str]:
    """An environment with nothing of the caller's settings in it."""
    mine = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": str(ROOT)}
    return mine | {"PORT": "0", "DATA_DIR": str(directory / "data")} | variables


def run(directory: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of ``todo-api`` to its end, in ``directory``.

    A fork has the modules imported. Only a new interpreter heeds PYTHONPATH.
    """
    settings = environment(directory, **variables)
    if "PYTHONPATH" in variables:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=directory,
            env=settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    with TemporaryDirectory() as place:
        output, errors = Path(place, "stdout"), Path(place, "stderr")
        fork = Fork(arguments, directory, settings, output, errors)
        try:
            status = fork.wait(120)
        finally:
            fork.kill()
        return subprocess.CompletedProcess(arguments, status, output.read_text(), errors.read_text())


class Service:
    """A server process, which serves by now."""

    def __init__(self, process: "subprocess.Popen[bytes] | Fork", log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """All that it has printed."""
        return self._log.read_text()

    @property
    def url(self) -> str:
        """Where it listens."""
        found = re.search(r"http://[\d.]+:\d+", self.log)
        assert found, self.log
        return found[0]

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that serve, where there are several."""
        return [child for child in psutil.Process(self.process.pid).children() if _is_worker(child)]

    def has_started(self, workers: int) -> None:
        """Wait until so many workers have started to serve, from the beginning."""
        wait_until(lambda: self.log.count("startup complete") == workers)

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit status."""
        self.process.send_signal(signal_number)
        return self.process.wait(30)


def _is_worker(process: psutil.Process) -> bool:
    """Whether it serves, and lives."""
    with suppress(psutil.NoSuchProcess):  # a zombie is one, too
        return any("spawn_main" in part or "forkserver" in part for part in process.cmdline())
    return False


@contextmanager
def serving(
    directory: Path,
    *arguments: str,
    command: Sequence[str] | None = None,
    ready: str = "startup complete",
    limits: str = "",
    **variables: str,
) -> Iterator[Service]:
    """Run ``todo-api serve`` on a free port, and on its own PostgreSQL unless DATABASE_URL is given.

    ``limits`` are constants to be changed, such as ``server.processes.STOP_LIMIT=1``.
    Another ``command`` is one that serves too. It prints its URL before ``ready``, or right behind it.
    """
    log = directory / f"serve-{time.monotonic_ns()}.log"
    settings = environment(directory, **variables)
    process: subprocess.Popen[bytes] | Fork
    if command is None and "PYTHONPATH" not in variables:
        process = Fork(["serve", *arguments], directory, settings, log, limits=limits)
    else:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*(command or [*COMMAND, "serve"]), *arguments],
                cwd=directory,
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
    service = Service(process, log)
    try:
        while ready not in service.log:
            assert process.poll() is None, service.log
            time.sleep(0.02)
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
