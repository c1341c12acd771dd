"""Opens every connection of this program, with the session settings that the statements need.

They need UTF-8, UTC, ISO dates, read committed and standard strings, whatever the role, the database, the
``PG*`` variables or the URL say. All other options of the operator are kept.
"""

import os
from collections.abc import Mapping

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from todo_api import VERSION
from todo_api.settings import Settings

# How long to wait for a silent host, unless the URL or a variable such as PGCONNECT_TIMEOUT says otherwise.
# Shorter than a request waits, so that there is time for the next host.
_PATIENCE: dict[str, int | str] = {
    "connect_timeout": 2,  # seconds for each host
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "tcp_user_timeout": 15_000,  # milliseconds; Linux only, ignored elsewhere
}

# libpq sends these, like the client encoding, as parameters that poolers accept.
_VARIABLES = {"PGTZ": "UTC", "PGDATESTYLE": "ISO"}

_SESSION = {"standard_conforming_strings": "on", "default_transaction_isolation": "read committed"}


def conninfo(url: str, settings: Settings | None = None) -> str:
    """Return the connection string for a URL. The URL's parameters win, except over what the statements need.

    With ``settings`` it has the time-outs and the rest of the session settings, as ``options``. A pooler
    refuses ``options``, so there are none if statements are not prepared or no time-out is set. The role then
    has to have them (``migrations/post-apply.sql``).
    """
    os.environ |= _VARIABLES
    given = _completed(url)
    added = {name: value for name, value in _PATIENCE.items() if name not in given}
    added["client_encoding"] = "UTF8"
    if settings is not None and settings.prepare_statements:
        times = {"statement_timeout": settings.statement_timeout, "lock_timeout": settings.lock_timeout}
        limits = {name: f"{seconds * 1000:.0f}" for name, seconds in times.items() if seconds}
        if limits:  # the last wins: the operator's over our limits, _SESSION over theirs
            options = [_options(limits), given.get("options", ""), _options(_SESSION)]
            added["options"] = " ".join(filter(None, options))
    return make_conninfo(url, **added)


def open_connection(url: str, purpose: str, settings: Settings | None = None) -> psycopg.Connection:
    """Open an autocommitting connection. The server's views call it ``todo-api/0.1.0 purpose``."""
    connection = psycopg.connect(
        conninfo(url, settings),
        autocommit=True,
        application_name=f"todo-api/{VERSION} {purpose}",
    )
    # By a statement, since a pooler refuses options.
    connection.execute("; ".join(f"set {name} = '{value}'" for name, value in _SESSION.items()).encode())
    return connection


def variables(url: str) -> dict[str, str]:
    """The URL as ``PG*`` variables, for a program: everybody could read a password in its arguments."""
    options = Conninfo.parse(url.encode())
    return {os.fsdecode(each.envvar): os.fsdecode(each.val) for each in options if each.envvar and each.val}


def describe(url: str) -> str:
    """Name the host, port, database and role that libpq will use, without the password."""
    given = _completed(url)
    hosts = (given.get("host") or given.get("hostaddr") or "the local socket").split(",")
    ports = given["port"].split(",") * len(hosts)
    places = ", ".join(f"{host} port {port or 5432}" for host, port in zip(hosts, ports, strict=False))
    user = given.get("user", "unknown")
    return f"{given.get('dbname', user)} on {places}, as role {user}"


def _completed(url: str) -> dict[str, str]:
    """A URL's parameters, completed by its service, the ``PG*`` variables and libpq's defaults."""
    given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    before = os.environ.get("PGSERVICE")
    os.environ |= {"PGSERVICE": given["service"]} if "service" in given else {}
    options = Conninfo.get_defaults()  # libpq takes the service from PGSERVICE only
    if before is None:
        os.environ.pop("PGSERVICE", None)
    else:
        os.environ["PGSERVICE"] = before
    return {option.keyword.decode(): os.fsdecode(option.val) for option in options if option.val} | given


def _options(settings: Mapping[str, str]) -> str:
    return " ".join("-c {}={}".format(name, value.replace(" ", r"\ ")) for name, value in settings.items())
