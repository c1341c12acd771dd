"""A PostgreSQL whose life a test controls."""

import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil

from todo_api.postgres import embedded

# Ends every session of the service.
CUT = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'todo-api%'"


class Server:
    """A PostgreSQL that dies and comes back, at an address that stays."""

    def __init__(self, directory: Path, address: Path) -> None:
        self.url = f"postgresql://postgres@/postgres?host={address}"
        self._directory = directory
        self._address = address
        self._life = ExitStack()

    def start(self) -> None:
        """Start, or start again, and return when it answers."""
        socket_ = parse_qs(urlsplit(self._life.enter_context(embedded.running(self._directory))).query)[
            "host"
        ]
        self._address.unlink(missing_ok=True)
        self._address.symlink_to(socket_[0])

    def stop(self) -> None:
        """Stop it with good manners."""
        self._life.close()

    def kill(self) -> None:
        """SIGKILL to each of its processes."""
        self.signal(signal.SIGKILL)
        self._life.close()

    def signal(self, number: int) -> None:
        """Send a signal to each of its processes."""
        pid = int((self._directory / "data/postmaster.pid").read_text().split()[0])
        for process in [psutil.Process(pid), *psutil.Process(pid).children()]:
            with suppress(psutil.NoSuchProcess):  # it ended by itself
                process.send_signal(number)
