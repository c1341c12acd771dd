"""Waits, at the start, for a database that may yet come up, and says why one never will."""

import time
from collections.abc import Callable

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping


class StartError(Exception):
    """Why there is no database, in one sentence for the operator that holds no password."""


def wait_for_database(conninfo: str, seconds: float, say: Callable[[str], None]) -> None:
    """Return once the database takes a connection.

    One that does not answer, or is starting up, is waited for, telling ``say`` of it now and then. What
    an answer says will not change by waiting: a wrong password, an unknown database.

    Raises StartError.
    """
    deadline = time.monotonic() + seconds
    pause = 0.5
    # Of a host that does not answer at all, libpq would learn after minutes.
    hasty = make_conninfo(conninfo, connect_timeout=3)
    while (answer := PGconn.ping(hasty.encode())) in (Ping.REJECT, Ping.NO_RESPONSE):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        what = "is starting" if answer == Ping.REJECT else "does not answer"
        say(f"The database {what}; waiting for it, {left:.0f} s at most")
        time.sleep(min(pause, left))
        pause = min(2 * pause, 4)
    try:
        psycopg.connect(hasty, application_name="todo-api start").close()
    except psycopg.Error as error:
        raise StartError(f"There is no database to serve from: {_reason(error)}") from None


def _reason(error: psycopg.Error) -> str:
    """What libpq says, in one line. It quotes hosts, users and databases, and no passwords."""
    text = str(error)
    if "unsupported startup parameter" in text:
        return (
            "this pooler takes no time-outs from its clients: set STATEMENT_TIMEOUT=0 and LOCK_TIMEOUT=0, "
            "and give them to the role, as .env.example shows."
        )
    first = text.splitlines()[0].removeprefix("connection failed: ")
    return first.rstrip(".") + "."
