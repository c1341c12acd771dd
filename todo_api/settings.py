"""The environment and an optional ``.env`` file, checked all at once, as one frozen Struct."""

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from dotenv import dotenv_values
from msgspec import Meta
from platformdirs import user_data_path
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1, le=1000)]

_SWITCH = {"on": "true", "off": "false"}


class SettingsError(Exception):
    """Names every wrong setting in one sentence each, never a value that may hold a password."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is read from the variable of its name in upper case; ``.env.example`` explains each."""

    database_url: str | None = None
    migrations_database_url: str | None = None
    data_dir: Path = msgspec.field(default_factory=lambda: user_data_path("todo-api"))
    host: str = "127.0.0.1"
    port: Port = 8000
    root_path: str = ""
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    keep_alive: Annotated[int, Meta(ge=1, le=3600)] = 75
    pool_min_size: Annotated[int, Meta(ge=0, le=1000)] = 2
    pool_max_size: Count = 10
    prepare_statements: bool = True
    pool_timeout: Annotated[float, Meta(gt=0, le=300)] = 5.0
    statement_timeout: Annotated[float, Meta(ge=0, le=300)] = 4.0
    lock_timeout: Annotated[float, Meta(ge=0, le=300)] = 2.0
    start_timeout: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = True
    opentelemetry: bool = False
    cors_allow_origins: tuple[str, ...] = ()


def load(environment: Mapping[str, str] = os.environ, env_file: Path = Path(".env")) -> Settings:
    """Read the settings; a variable of the environment wins over the same one in ``env_file``.

    An empty variable counts as absent. Raises SettingsError, naming all that is wrong.
    """
    try:
        known = {**dotenv_values(env_file), **environment}
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{env_file} cannot be read as text in UTF-8.") from None
    values: dict[str, Any] = {}
    faults = []
    for field in msgspec.structs.fields(Settings):
        variable = field.name.upper()
        if text := (known.get(variable) or "").strip():
            try:
                values[field.name] = _parse(field, text)
            except ValueError as fault:
                faults.append(f"{variable} {fault}")
    settings = Settings(**values)
    if settings.pool_min_size > settings.pool_max_size:
        faults.append("POOL_MIN_SIZE must not be above POOL_MAX_SIZE")
    if settings.opentelemetry and find_spec("opentelemetry") is None:
        faults.append("OPENTELEMETRY needs its packages: pip install 'todo-api[opentelemetry]'")
    if faults:
        raise SettingsError("; ".join(faults) + ". See .env.example for what each setting takes.")
    return settings


def _parse(field: msgspec.structs.FieldInfo, text: str) -> object:
    if field.name.endswith("database_url"):
        return _database_url(text)
    if field.name == "cors_allow_origins":
        return tuple(_origin(origin.strip()) for origin in text.split(",") if origin.strip())
    if field.name == "root_path" and not re.fullmatch(r"(/[\w.~-]+)+", text, re.ASCII):
        raise ValueError(f"is {text!r}, which is no path such as /todo")
    if field.type is Path:
        return Path(text).expanduser()
    if field.name == "log_level":
        text = text.lower()
    if field.type is bool:
        text = _SWITCH.get(text.lower(), text)
    try:
        return msgspec.convert(text, field.type, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"is {text!r}: {str(error).replace('`', '').lower()}") from None


def _database_url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a URL that begins with postgresql://")
    try:
        parts = conninfo_to_dict(text)
    except ProgrammingError:  # whose message may quote the password
        raise ValueError("is no connection URL that PostgreSQL understands") from None
    if "@" in str(parts.get("host")):  # of a password, which would be quoted as a part of the host's name
        raise ValueError("holds a second @: %40 is how to write one in a name or password")
    ports = str(parts.get("port") or "").split(",")
    if not all(re.fullmatch(r"[0-9]{0,5}", port) and int(port or 0) <= 65535 for port in ports):
        raise ValueError("holds a port that is no number from 0 to 65535")
    return text


def _origin(text: str) -> str:
    if not re.fullmatch(r"\*|https?://([^][/?#@:\s\\]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?", text):
        raise ValueError(f"holds {text!r}, which is no origin such as https://app.example.org")
    return text
