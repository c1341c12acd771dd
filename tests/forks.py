"""Runs ``todo-api`` and its workers in forks of a process that has imported the modules, to start sooner."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing import process
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from uvicorn import _subprocess

COMMANDS = ["serve", "migrations", "users", "explain", "pg", "settings", "openapi"]
MODULES = [__name__, "uvloop", "yoyo", *(f"todo_api.commands.{name}" for name in COMMANDS)]

multiprocessing.get_context("forkserver").set_forkserver_preload(MODULES)


def default_signals() -> None:
    """React to signals as a new interpreter does. Under nohup SIGHUP would be ignored."""
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Fork(ForkServerProcess):
    """A process of ``todo-api``, used like a Popen. ``limits`` are as in ``serving``."""

    def __init__(
        self,
        arguments: Sequence[str],
        directory: Path,
        variables: Mapping[str, str],
        output: Path,
        errors: Path | None = None,
        limits: str = "",
    ) -> None:
        super().__init__()
        self._arguments, self._directory, self._variables = arguments, directory, variables
        self._output, self._errors, self._limits = output, errors, limits
        for file in (output, errors):
            if file:
                file.touch()
        self.start()

    def run(self) -> None:
        """Become what a new interpreter would be."""
        setattr(process, "_parent_process", None)  # noqa: B010  # or serve would take itself for a worker
        default_signals()
        # Its workers are forks, too. uvicorn would spawn new interpreters.
        setattr(_subprocess, "spawn", multiprocessing.get_context("fork"))  # noqa: B010  # of another type
        os.register_at_fork(after_in_child=default_signals)
        for file, descriptor in [(Path(os.devnull), 0), (self._output, 1), (self._errors or self._output, 2)]:
            os.dup2(os.open(file, os.O_RDWR | os.O_APPEND), descriptor)
        sys.stdin = os.fdopen(0)
        os.environ.clear()
        os.environ.update(self._variables)
        os.chdir(self._directory)
        for limit in self._limits.split():
            module, constant, value = re.split(r"\.(?=\w+=)|=", limit)
            setattr(import_module(f"todo_api.{module}"), constant, json.loads(value))
        sys.argv = ["todo-api", *self._arguments]
        import_module("todo_api.commands").main()

    def poll(self) -> int | None:
        """The exit status, as a Popen has it, or None."""
        return self.exitcode

    def wait(self, seconds: float) -> int:
        """The exit status once it has ended."""
        self.join(seconds)
        if self.exitcode is None:
            raise subprocess.TimeoutExpired(self.name, seconds)
        return self.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.pid and self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.Signals(number))
