"""The connection string that the program's connections are opened with."""

import os

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from todo_api.settings import Settings

# How long a silent host is waited for, where the URL does not say. A connection in vain ends before the
# request that waits for it does, so the next host's is still in time.
_PATIENCE: dict[str, int | str] = {
    "connect_timeout": 3,  # seconds a host
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "tcp_user_timeout": 15_000,  # milliseconds; Linux only, ignored elsewhere
}


def conninfo(url: str, settings: Settings) -> str:
    """The URL with the time-outs of its connections and sessions, of which those that it holds itself win.

    Sessions get none from here where statements are not prepared: that is for a pooler, and those refuse
    options. There the role brings them (``migrations/post-apply.sql``).
    """
    # A pooler refuses the options of a connection string; libpq sends these as parameters of their own.
    os.environ |= {"PGTZ": "UTC", "PGDATESTYLE": "ISO"}
    given = conninfo_to_dict(url)
    patience = {name: value for name, value in _PATIENCE.items() if name not in given}
    timeouts = {"statement_timeout": settings.statement_timeout, "lock_timeout": settings.lock_timeout}
    if settings.prepare_statements and any(timeouts.values()):
        options = [f"-c {name}={seconds * 1000:.0f}" for name, seconds in timeouts.items() if seconds]
        patience["options"] = " ".join([*options, str(given.get("options", ""))]).strip()
    return make_conninfo(url, **patience)
