"""Runs the application under uvicorn, in one process or several, and bounds how each of them ends."""

import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from threading import Thread

import uvicorn
from litestar import Litestar
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from todo_api.app import create_app
from todo_api.observability import logs
from todo_api.server.protocol import BoundedProtocol
from todo_api.settings import Settings

log = logging.getLogger(__name__)

# Seconds for what is in flight at SIGTERM; the rest of the ten, after which process managers kill, are for
# the connections to the database. What waits for it gives up sooner, so none but a client that is still
# sending its request is cut off.
DRAIN_LIMIT = 6


class ServerError(Exception):
    """Why the service does not serve, in one sentence for the operator."""


def run(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight.

    The processes read their settings from the environment, so ``settings`` must be what it holds.
    Raises ServerError where it cannot listen, or a worker cannot start.
    """
    listener = _listen(settings.host, settings.port)
    config = uvicorn.Config(
        "todo_api.server.processes:application",
        factory=True,
        workers=settings.workers,
        http=BoundedProtocol,
        ws="none",  # there is nothing to upgrade to
        log_config=logs.config(settings.log_level),
        access_log=False,
        proxy_headers=False,  # nothing here depends on the client's address or scheme
        root_path=settings.root_path,
        timeout_keep_alive=settings.keep_alive,
        server_header=False,
        date_header=False,  # the protocol has a more exact one
        timeout_graceful_shutdown=DRAIN_LIMIT,
    )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    say(f"Documentation: http://{host}:{listener.getsockname()[1]}/schema")
    if settings.workers == 1:
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listener])
    else:
        supervisor = _Supervisor(config, [listener])
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
        """Have the workers finish, and new connections refused: a socket open here would let them hang."""
        super().terminate_all()
        for listener in self.sockets:
            listener.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise ServerError(f"Cannot listen on {host}, port {port}: {reason}.") from None
