"""Starts a server, restarts it when it ends by itself, and stops it when this process ends."""

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import IO

logger = logging.getLogger(__name__)

# The log is checked every so many seconds, and emptied above so many bytes.
LOOK_INTERVAL = 60.0
LOG_LIMIT = 10_000_000

# Arguments: the socket's directory, then the server's command. The server runs in the foreground, because a
# shell lets background jobs ignore INT. INT is sent twice: a forked shell that is about to become the server
# loses the first.
KEEPER = """
trap 'rm -rf "$0"; kill -KILL 0' EXIT
trap exit INT
exec 3<&0
{ read -r _ <&3; kill -INT 0; sleep 1; kill -INT 0; } &
"$@" </dev/null 3<&-
"""


class Keeper:
    """A server that is restarted when it ends by itself: after 1 s, 2 s, 4 s and so on, up to 30 s."""

    def __init__(self, start: Callable[[], subprocess.Popen[str]], log: IO[str]) -> None:
        self._start, self._log = start, log
        self.process = start()
        self._thread = Thread(target=self._watch, daemon=True)
        self._stopping = Event()
        self._changing = Lock()  # held during a start, so that none follows stop()

    def begin(self) -> None:
        """Begin to watch the server."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the server for good."""
        with self._changing:
            self._stopping.set()
        self.process.communicate("\n")
        if self._thread.is_alive():
            self._thread.join()  # it may read the log, which is closed next

    def _watch(self) -> None:
        pause = 1
        while True:
            try:
                self.process.wait(LOOK_INTERVAL)
            except subprocess.TimeoutExpired:
                pause = 1
                if os.fstat(self._log.fileno()).st_size > LOG_LIMIT:
                    self._log.truncate(0)
                continue
            if self._stopping.is_set():
                return
            reason = last_words(self._log)
            logger.error("The embedded PostgreSQL ended: %s. It restarts in %d s", reason, pause)
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, 30)
            with self._changing, suppress(OSError):  # such as a full disk: the next round tries again
                if not self._stopping.is_set():
                    ended, self.process = self.process, self._start()
                    ended.communicate()  # closes its stdin


def last_words(log: IO[str]) -> str:
    """Why the server ended: the error at the end of the log, or a full disk that leaves no room for one."""
    log.seek(0)
    end = "".join(log.readlines()[-10:])  # earlier lines are about sessions, not the server
    full = shutil.disk_usage(Path(log.name).parent).free < 1_000_000
    reason = "there is no space left on the disk" if full else "it did not say why"
    return f"{error_in(end) or reason} (more in {log.name})"


def error_in(text: str) -> str:
    """The first error, which caused the others, or else the last line. Empty if there is neither.

    Skips the server's messages, and the errors of clients that connect before it is ready.
    """
    skipped = re.compile("LOG: |FATAL:  the database system is ")
    lines = [line for line in text.splitlines() if not skipped.search(line)]
    errors = re.findall(r"(?:FATAL|PANIC|error): +(.+)", "\n".join(lines))
    return str((errors or lines[-1:] or [""])[0])
