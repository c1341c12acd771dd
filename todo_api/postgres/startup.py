"""Waits at the start for the database, and refuses one that the service cannot serve from."""

import re
import time
from collections.abc import Callable

import psycopg
from psycopg.pq import PGconn, Ping

from todo_api.postgres.conninfo import connect, conninfo
from todo_api.postgres.errors import sentence
from todo_api.settings import Settings

_CREATE = "create database NAME encoding 'UTF8' locale 'C.UTF-8' template template0"


class StartError(Exception):
    """Why there is no database, in one sentence for the operator that holds no password."""


def wait_for_database(
    url: str, seconds: float, say: Callable[[str], None], settings: Settings | None = None
) -> None:
    """Return once the database takes a connection; with ``settings``, one like those of the pool.

    A database that does not answer or is starting up is waited for, which ``say`` is told now and then. Any
    other refusal is final, such as a wrong password, an unknown database or a failed TLS handshake. An
    encoding other than UTF-8 is refused as well. A locale that does not fold the case of all letters is a
    warning.

    Raises StartError.
    """
    deadline = time.monotonic() + seconds
    pause = 0.5
    while (answer := PGconn.ping(conninfo(url).encode())) in (Ping.REJECT, Ping.NO_RESPONSE):
        left = deadline - time.monotonic()
        if left <= 0 or _refuses_tls(url):
            break
        what = "is starting" if answer == Ping.REJECT else "does not answer"
        say(f"The database {what}; waiting for it, {left:.0f} s at most")
        time.sleep(min(pause, left))
        pause = min(2 * pause, 4)
    try:
        with connect(url, "start", settings) as connection:
            encoding = connection.info.parameter_status("server_encoding")
            if encoding != "UTF8":
                raise StartError(
                    f"The database's encoding is {encoding} and must be UTF8. Make another one by: {_CREATE}."
                )
            folded = connection.execute("select lower('ÉI') = 'éi'").fetchone()
    except psycopg.Error as error:
        raise StartError(f"There is no database to use: {sentence(error)}") from None
    if folded != (True,):
        say(
            "Warning: the locale of this database does not know the case of all letters. Emails that differ "
            "in the case of such a letter belong to different users, and searches miss it. To avoid that, "
            f"make the database by: {_CREATE}."
        )


def _refuses_tls(url: str) -> bool:
    """Whether a connection fails for the certificates or the server's lack of TLS, which no waiting changes.

    libpq's ping does not tell this from silence, and its message has no code.
    """
    try:
        psycopg.connect(conninfo(url)).close()
    except psycopg.OperationalError as error:
        return re.search("certificate|does not support SSL", str(error)) is not None
    return False
