"""Waits for the database at the start, and refuses one that the service cannot use."""

import re
import time
from collections.abc import Callable

import psycopg
from psycopg.pq import PGconn, Ping

from todo_api import OperatorError
from todo_api.postgres.conninfo import conninfo, open_connection
from todo_api.postgres.errors import reason
from todo_api.settings import Settings

_PAUSE = 2.0  # seconds between two attempts

_CREATE = "create database NAME encoding 'UTF8' locale 'C.UTF-8' template template0"


def wait_for_database(
    url: str, seconds: float, say: Callable[[str], None], settings: Settings | None = None
) -> None:
    """Return once the database accepts a connection; with ``settings``, one like those of the pool.

    Waits up to ``seconds`` while the database does not answer or is starting, and reports that to ``say``.
    Any other refusal raises OperatorError at once: a wrong password, an unknown database, a failed TLS
    handshake, an encoding other than UTF-8. A locale that does not know the case of all letters is a warning.
    """
    deadline = time.monotonic() + seconds
    while (answer := PGconn.ping(conninfo(url).encode())) in (Ping.REJECT, Ping.NO_RESPONSE):
        left = deadline - time.monotonic()
        if left <= 0 or _refuses_tls(url):
            break
        what = "is starting" if answer == Ping.REJECT else "does not answer"
        say(f"The database {what}; waiting for it, {left:.0f} s at most")
        time.sleep(min(_PAUSE, left))
    try:
        with open_connection(url, "start", settings) as connection:
            encoding = connection.info.parameter_status("server_encoding")
            if encoding != "UTF8":
                raise OperatorError(
                    f"The database's encoding is {encoding} and must be UTF8. Create another: {_CREATE}."
                )
            folded = connection.execute("select lower('ÉI') = 'éi'").fetchone()
    except psycopg.Error as error:
        raise OperatorError(f"There is no database to use: {reason(error)}") from None
    if folded != (True,):
        say(
            "Warning: the locale of this database does not know the case of all letters. Two emails that "
            "differ only in the case of such a letter belong to two users, and a search finds one case only. "
            f"To avoid that, create the database like this: {_CREATE}."
        )


def _refuses_tls(url: str) -> bool:
    """Whether TLS fails for a reason that lasts: a certificate, or a server without TLS.

    libpq's ping reports this like silence, and the error has no code, so its text decides.
    """
    try:
        psycopg.connect(conninfo(url)).close()
    except psycopg.OperationalError as error:
        return re.search("certificate|does not support SSL", str(error)) is not None
    return False
