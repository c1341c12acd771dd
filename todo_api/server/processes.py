"""Runs the application under uvicorn, in one process or several, and bounds how each of them ends."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from threading import Thread
from time import monotonic

import uvicorn
from litestar import Litestar
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from todo_api.app import create_app
from todo_api.observability import logs
from todo_api.server import addresses
from todo_api.server.protocol import BoundedProtocol
from todo_api.settings import Settings

log = logging.getLogger(__name__)

# Seconds for what is in flight at SIGTERM; the rest of the ten, after which process managers kill, are for
# the connections to the database. What waits for it gives up sooner, so none but a client that is still
# sending its request is cut off.
DRAIN_LIMIT = 6

# Seconds for a worker to answer its supervisor, and for all workers to end. Together they are the ten.
HEALTH_CHECK_LIMIT = 2
STOP_LIMIT = 8


class ServerError(Exception):
    """Why the service does not serve, in one sentence for the operator."""


def run(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight.

    The processes read their settings from the environment, so ``settings`` must be what it holds.
    Raises ListenError where it cannot listen, ServerError where a worker cannot start.
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
        proxy_headers=False,  # nothing here depends on the client's address or scheme
        server_header=False,
        date_header=False,  # the application's own is right to the second
        timeout_worker_healthcheck=HEALTH_CHECK_LIMIT,
        timeout_graceful_shutdown=DRAIN_LIMIT,
    )
    addresses.announce(settings.host, listeners, say)
    if settings.workers == 1:
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(listeners)
    else:
        supervisor = _Supervisor(config, listeners)
        supervisor.run()
        if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
            raise ServerError("A worker could not start; what it logged says why.")


def application() -> Litestar:
    """What each process serves. A worker, moreover, stops when its supervisor is gone, however it went."""
    if supervisor := parent_process():

        def follow() -> None:
            supervisor.join()
            os.kill(os.getpid(), signal.SIGTERM)

        Thread(target=follow, daemon=True).start()
    logs.skip_unused_fields()
    try:
        app = create_app()
    except Exception:
        log.exception("The application could not be made")
        sys.exit(STARTUP_FAILURE)  # by which a supervisor knows that it is no use to try again
    # What is here will stay, and a request leaves no cycles: to look for some costs 3 % of the time, and
    # 40 ms whenever it is through everything.
    gc.set_threshold(50_000)
    gc.freeze()
    return app


class _Supervisor(Multiprocess):
    def terminate_all(self) -> None:
        """Make the workers finish. Close the sockets, or new connections would wait here for ever."""
        super().terminate_all()
        for listener in self.sockets:
            listener.close()

    def join_all(self) -> None:
        """Wait for the workers, and kill those that do not end in time, such as stopped ones."""
        deadline = monotonic() + STOP_LIMIT
        for worker in self.processes:
            worker.process.join(max(0.0, deadline - monotonic()))
            if worker.process.is_alive():
                log.warning("Worker %s did not end within %s s and is killed", worker.pid, STOP_LIMIT)
                worker.kill()
                worker.join()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have ended, and report how they ended."""
        for worker in self.processes:
            if worker.exitcode:
                how = (
                    f"by {signal.Signals(-worker.exitcode).name}" if worker.exitcode < 0 else "with an error"
                )
                log.error("Worker %s ended %s (exit status %s)", worker.pid, how, worker.exitcode)
        super().keep_subprocess_alive()

    def handle_hup(self) -> None:
        """End when the terminal is closed."""
        self.handle_term()

    def handle_usr1(self) -> None:
        """Restart the workers one after the other."""
        self.restart_all()
