"""Runs the application under uvicorn, in one process or several.

SIGTERM, SIGINT and SIGHUP (when the terminal closes, unless nohup ignores it) end the service after the
requests under way, in bounded time. With several workers, SIGUSR2 replaces them one by one.
"""

import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread, Timer
from types import FrameType

import uvicorn
from litestar import Litestar
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import ChangeReload, Multiprocess

from todo_api import OperatorError, folder
from todo_api.app import create_app
from todo_api.observability import logs
from todo_api.server import addresses
from todo_api.server.protocol import BoundedProtocol
from todo_api.settings import Settings

log = logging.getLogger(__name__)

# Seconds for the requests under way at SIGTERM. Those that wait for the database, or for a client that still
# sends, end sooner, so this cuts off only clients that do not read. The rest of STOP_LIMIT is for closing the
# database connections.
DRAIN_LIMIT = 6
START_LIMIT = 30  # seconds until a worker must answer its supervisor, its start included
STOP_LIMIT = 8  # seconds until workers that have not ended are killed; Docker kills after ten


def run(settings: Settings, say: Callable[[str], None], *, reload: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests under way.

    With ``reload``, restart when a file changes. Workers read their settings from the environment, so
    ``settings`` must come from there too. Raises ListenError if it cannot listen, and OperatorError if a
    worker cannot start.
    """
    listeners = addresses.listen(settings.host, settings.port)
    config = uvicorn.Config(
        "todo_api.server.processes:application",
        factory=True,
        workers=settings.workers,
        http=BoundedProtocol,
        ws="none",  # there is nothing to upgrade to
        log_config=logs.config(settings.log_level),
        access_log=False,
        proxy_headers=False,  # nothing uses the client's address or scheme
        root_path=settings.root_path,
        timeout_keep_alive=settings.keep_alive,
        server_header=False,
        date_header=False,  # the application sends its own, which is exact to the second
        timeout_graceful_shutdown=DRAIN_LIMIT,
        timeout_worker_healthcheck=START_LIMIT,
        reload=reload,
        reload_dirs=[str(Path(__file__).parents[1]), str(folder("sql"))] if reload else None,
        reload_includes=["*.sql"] if reload else None,
    )
    addresses.announce(settings.host, listeners, say)
    say("Stop: Ctrl-C")
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGINT))
    if reload:
        ChangeReload(config, uvicorn.Server(config).run, listeners).run()
    elif settings.workers == 1:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(listeners)
    else:
        supervisor = _Supervisor(config, listeners)
        supervisor.run()
        if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
            raise OperatorError("A worker could not start. The log says why.")


def application() -> Litestar:
    """The application that each process serves. A worker also stops when its supervisor is gone."""
    if supervisor := parent_process():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor gets it as well, and sends SIGTERM

        def follow() -> None:
            supervisor.join()
            os.kill(os.getpid(), signal.SIGTERM)

        Thread(target=follow, daemon=True).start()
    try:
        app = create_app()
    except Exception:
        log.exception("The application could not be created")
        sys.exit(STARTUP_FAILURE)  # tells the supervisor not to try again
    # The objects made so far live on, and a request leaves no cycles. Searching for cycles would cost 3 % of
    # the time, and 40 ms for each search through all objects.
    gc.set_threshold(50_000)
    gc.freeze()
    return app


class _Supervisor(Multiprocess):
    """uvicorn's supervisor, which also limits how long workers take to end, and logs what ended one."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        hang_up = signal.getsignal(signal.SIGHUP)
        super().__init__(config, sockets)
        signal.signal(signal.SIGHUP, hang_up)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, self._end_wait)

    def _end_wait(self, _signal: int, _frame: FrameType | None) -> None:
        """End the main loop's wait for the answer of a worker that has just ended."""
        for worker in self.processes:
            if wait([worker.process.sentinel], 0):
                with suppress(OSError):
                    worker.child_conn.send(False)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Stop the workers now, whatever the main loop waits for, and kill those that do not end in time."""
        if self.should_exit.is_set():
            return
        self.should_exit.set()
        for worker in self.processes:
            worker.process.terminate()
            with suppress(OSError):  # the main loop may be waiting for an answer that never comes
                worker.child_conn.send(False)
        timer = Timer(STOP_LIMIT, self._kill)
        timer.daemon = True
        timer.start()

    def _kill(self) -> None:
        for worker in self.processes:
            worker.process.kill()

    def terminate_all(self) -> None:
        """Stop the workers, and close the sockets: on an open one, new connections would hang."""
        super().terminate_all()
        for listener in self.sockets:
            listener.close()

    def keep_subprocess_alive(self) -> None:
        """Replace the workers that have ended, and log what ended each."""
        before = list(self.processes)
        super().keep_subprocess_alive()
        for worker in set(before).difference(self.processes):
            status = worker.exitcode or 0
            cause = (
                f"signal {-status}, {signal.strsignal(-status)}" if status < 0 else f"exit status {status}"
            )
            log.error("Worker %s ended with %s; another one replaces it", worker.pid, cause)

    def handle_usr2(self) -> None:
        """Replace the workers one by one. Each stops when its successor serves."""
        self.restart_all()
