"""How every connection of this program is opened, so that the statements find the session they rely on.

They rely on UTF-8, UTC, ISO dates, read committed and standard strings, whatever the role, the database, the
``PG*`` variables or the URL say. Everything else is the operator's: their options are kept.
"""

import os
from collections.abc import Mapping

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from todo_api import VERSION
from todo_api.settings import Settings

# How long a silent host is waited for, unless the URL or a variable such as PGCONNECT_TIMEOUT says otherwise.
# It is shorter than the wait of a request, so that the next host can still be tried in time.
_PATIENCE: dict[str, int | str] = {
    "connect_timeout": 2,  # seconds a host
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "tcp_user_timeout": 15_000,  # milliseconds; Linux only, ignored elsewhere
}

# What libpq sends as parameters of their own, which poolers accept; the client encoding is another.
_VARIABLES = {"PGTZ": "UTC", "PGDATESTYLE": "ISO"}

_SESSION = {"standard_conforming_strings": "on", "default_transaction_isolation": "read committed"}


def conninfo(url: str, settings: Settings | None = None) -> str:
    """Return the connection string for a URL; its own parameters win, except over what the statements need.

    With ``settings`` it also brings the time-outs and the rest of the session's settings, as ``options``.
    A pooler refuses options, so there are none where statements are not prepared or no time-out is set. There
    the role brings them (``migrations/post-apply.sql``).
    """
    os.environ |= _VARIABLES
    given = _completed(url)
    added = {name: value for name, value in _PATIENCE.items() if name not in given}
    added["client_encoding"] = "UTF8"
    if settings is not None and settings.prepare_statements:
        times = {"statement_timeout": settings.statement_timeout, "lock_timeout": settings.lock_timeout}
        limits = {name: f"{seconds * 1000:.0f}" for name, seconds in times.items() if seconds}
        if limits:  # the last one wins: the operator's over our limits, our session over theirs
            options = [_options(limits), given.get("options", ""), _options(_SESSION)]
            added["options"] = " ".join(filter(None, options))
    return make_conninfo(url, **added)


def connect(url: str, purpose: str, settings: Settings | None = None) -> psycopg.Connection:
    """Open an autocommitting connection, named ``todo-api/0.1.0 purpose`` in the server's views."""
    connection = psycopg.connect(
        conninfo(url, settings),
        autocommit=True,
        application_name=f"todo-api/{VERSION} {purpose}",
        prepare_threshold=None,
    )
    # By statements, since a pooler would refuse them as options.
    connection.execute("; ".join(f"set {name} = '{value}'" for name, value in _SESSION.items()).encode())
    return connection


def variables(url: str) -> dict[str, str]:
    """What a URL says, as ``PG*`` variables for a program of PostgreSQL: its arguments are no secret."""
    options = Conninfo.parse(url.encode())
    return {os.fsdecode(each.envvar): os.fsdecode(each.val) for each in options if each.envvar and each.val}


def describe(url: str) -> str:
    """Name the host, port, database and role that libpq will use; never the password."""
    given = _completed(url)
    hosts = (given.get("host") or given.get("hostaddr") or "the local socket").split(",")
    ports = given["port"].split(",") * len(hosts)
    places = ", ".join(f"{host} port {port or 5432}" for host, port in zip(hosts, ports, strict=False))
    user = given.get("user", "unknown")
    return f"{given.get('dbname', user)} on {places}, as role {user}"


def _completed(url: str) -> dict[str, str]:
    """The parameters of a URL, with those of its service, of ``PG*`` variables and libpq's own defaults."""
    given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    before = os.environ.get("PGSERVICE")
    os.environ |= {"PGSERVICE": given["service"]} if "service" in given else {}
    options = Conninfo.get_defaults()  # libpq looks there, and nowhere else, for the service of its defaults
    if before is None:
        os.environ.pop("PGSERVICE", None)
    else:
        os.environ["PGSERVICE"] = before
    return {option.keyword.decode(): os.fsdecode(option.val) for option in options if option.val} | given


def _options(settings: Mapping[str, str]) -> str:
    return " ".join("-c {}={}".format(name, value.replace(" ", r"\ ")) for name, value in settings.items())
