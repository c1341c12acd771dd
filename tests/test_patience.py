"""How long a stop, and the supervisor, wait for those who do not answer."""

import signal
import socket
from pathlib import Path

from todo_api.server import processes, protocol

from .service import serving
from .test_deploys import LIMIT, stopping
from .waiting import wait_until

ASSET = b"GET /schema/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: test\r\n\r\n"


def test_the_waits_of_a_stop_end_one_after_the_other() -> None:
    """A slow client gets its answer, then connections are cut, then workers are killed, all in time."""
    assert protocol.SHUTDOWN_ARRIVAL_LIMIT < processes.DRAIN_LIMIT < processes.STOP_LIMIT < LIMIT


def test_a_client_that_does_not_read_holds_up_no_stop(tmp_path: Path, database_url: str) -> None:
    """Its connection is cut, long before a service that goes on would hang up."""
    with serving(tmp_path, limits="server.processes.DRAIN_LIMIT=1", DATABASE_URL=database_url) as service:
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as deaf:
            deaf.sendall(ASSET * 20)
            assert deaf.recv(1)
            with stopping(service):
                pass


def test_a_worker_that_does_not_answer_is_replaced(tmp_path: Path, database_url: str) -> None:
    """As soon as its time is over."""
    limits, variables = "server.processes.START_LIMIT=1", {"DATABASE_URL": database_url, "WORKERS": "2"}
    with serving(tmp_path, limits=limits, **variables) as service:
        service.has_started(2)
        service.workers[0].suspend()
        killed = f"ended with signal {signal.SIGKILL.value}, Killed; another one replaces it"
        wait_until(lambda: killed in service.log)
