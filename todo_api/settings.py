"""Reads the settings from the environment and an optional ``.env`` file, and checks all of them."""

import difflib
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from dotenv.parser import Binding, parse_stream
from msgspec import Meta, inspect
from platformdirs import user_data_path
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from todo_api import OperatorError

_NO_HOME = Path("~")
_SWITCH = {"on": "true", "off": "false"}


class SettingsError(OperatorError):
    """Names each wrong setting on a line of its own, and quotes no URL, since it may hold a password."""


def _data_dir() -> Path:
    try:
        return user_data_path("todo-api")
    except RuntimeError:  # no home directory: a fault only if DATA_DIR is needed
        return _NO_HOME


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is read from the variable of the same name in upper case. ``.env.example`` explains each."""

    database_url: str | None = None
    migrations_database_url: str | None = None
    data_dir: Path = msgspec.field(default_factory=_data_dir)
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    root_path: str = ""
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    keep_alive: Annotated[int, Meta(ge=1, le=3600)] = 75
    pool_min_size: Annotated[int, Meta(ge=0, le=1000)] = 2
    pool_max_size: Annotated[int, Meta(ge=1, le=1000)] = 10
    prepare_statements: bool = True
    pool_timeout: Annotated[float, Meta(gt=0, le=300)] = 5.0
    statement_timeout: Annotated[float, Meta(ge=0, le=300)] = 4.0
    lock_timeout: Annotated[float, Meta(ge=0, le=300)] = 2.0
    start_timeout: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = True
    opentelemetry: bool = False
    cors_allow_origins: tuple[str, ...] = ()


FIELDS = {field.name.upper(): field for field in msgspec.structs.fields(Settings)}


class Found(msgspec.Struct):
    """Values by field, the source of each by variable, and what is wrong (faults) or ignored (warnings)."""

    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    faults: list[str] = []
    warnings: list[str] = []

    def settings(self) -> Settings:
        """Return the settings, or raise SettingsError with all faults."""
        if self.faults:
            faults = "\n  ".join(self.faults)
            raise SettingsError(f"Wrong settings ('todo-api settings' shows all):\n  {faults}")
        return Settings(**self.values)


def load(environment: Mapping[str, str] = os.environ, env_file: Path = Path(".env")) -> Settings:
    """Read the settings, or raise SettingsError with all faults."""
    return read(environment, env_file).settings()


def read(environment: Mapping[str, str] = os.environ, env_file: Path = Path(".env")) -> Found:
    """Read the settings that are given. The environment wins over ``env_file``.

    An empty variable counts as absent. ``${X}`` is not expanded. A line of ``env_file`` that cannot be read
    is a fault; a name that is not a setting is a warning.
    """
    found = Found()
    texts: dict[str, tuple[str, str]] = {}
    for binding in _bindings(env_file, found.faults):
        name, source = binding.key or "", f"{env_file} line {_line(binding)}"
        if binding.error or (name and (binding.value is None or not re.fullmatch(r"[\w.-]+", name))):
            found.faults.append(f"{source} cannot be read: write NAME=value, and close each quote.")
        elif name in FIELDS:
            texts[name] = str(binding.value), source
        elif name:
            close = difflib.get_close_matches(name.upper(), FIELDS, 1, 0.75)
            hint = f"; did you mean {close[0]}?" if close else "."
            found.warnings.append(f"{source}: {name} is not a setting and has no effect{hint}")
    texts |= {name: (environment[name], "the environment") for name in FIELDS if name in environment}
    for name, field in FIELDS.items():
        text, source = texts.get(name, ("", ""))
        if text := text.strip():
            found.sources[name] = source
            try:
                found.values[field.name] = _parse(field, text)
            except ValueError as fault:
                found.faults.append(f"{name} (from {source}) {fault}.")
    if not found.faults:
        _check(Settings(**found.values), found.faults)
    return found


def allowed(field: msgspec.structs.FieldInfo) -> str:
    """The allowed values of a setting, in words; empty if its type does not limit them."""
    match inspect.type_info(field.type):
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=low, le=high):
            return f"a whole number from {low} to {high}"
        case inspect.FloatType(gt=None, ge=low, le=high):
            return f"a number of seconds from {low} to {high}"
        case inspect.FloatType(le=high):
            return f"a number of seconds above 0, at most {high}"
        case inspect.LiteralType():
            return "one of " + ", ".join(get_args(field.type))
    return ""


def _bindings(env_file: Path, faults: list[str]) -> list[Binding]:
    try:
        with env_file.open(encoding="utf-8") as stream:
            return list(parse_stream(stream))
    except FileNotFoundError:
        pass  # it is optional
    except UnicodeDecodeError:
        faults.append(f"{env_file} is not text in UTF-8.")
    except OSError as error:
        faults.append(f"{env_file} cannot be read: {error.strerror}.")
    return []


def _line(binding: Binding) -> int:
    """The line on which a binding begins. python-dotenv gives that of the blank lines before it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _check(settings: Settings, faults: list[str]) -> None:
    """Check what concerns more than one setting."""
    if settings.pool_min_size > settings.pool_max_size:
        faults.append("POOL_MIN_SIZE must not be above POOL_MAX_SIZE.")
    if settings.opentelemetry and find_spec("opentelemetry") is None:
        faults.append("OPENTELEMETRY needs its packages: pip install 'todo-api[opentelemetry]'.")
    if (
        not (settings.database_url or settings.migrations_database_url)
        and _NO_HOME.name in settings.data_dir.parts
    ):
        faults.append("There is no home directory: set DATA_DIR or DATABASE_URL.")


def _parse(field: msgspec.structs.FieldInfo, text: str) -> object:
    if "\n" in text:
        raise ValueError("runs over several lines: close its quote")
    if "\0" in text or text != text.encode(errors="replace").decode():
        raise ValueError("is not text in UTF-8, or has a NUL")
    if field.name.endswith("database_url"):
        return _database_url(text)
    if field.name == "cors_allow_origins":
        return tuple(_origin(origin.strip()) for origin in text.split(",") if origin.strip())
    if field.name == "root_path" and not re.fullmatch(r"(/[\w.~-]+)+", text, re.ASCII):
        raise ValueError(f"must be a path such as /todo, and is {text!r}")
    if field.type is Path:
        return Path(os.path.expanduser(text))  # noqa: PTH111  # Path.expanduser() raises without a home
    if field.name == "log_level":
        text = text.lower()
    if field.type is bool:
        text = _SWITCH.get(text.lower(), text)
    try:
        return msgspec.convert(text, field.type, strict=False)
    except msgspec.ValidationError:
        raise ValueError(f"must be {allowed(field)}, and is {text!r}") from None


def _database_url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a URL that begins with postgresql://")
    try:
        parts = conninfo_to_dict(text)
    except ProgrammingError:  # its message may quote the password
        raise ValueError("is not a URL that PostgreSQL understands") from None
    if "@" in str(parts.get("host")):  # libpq reads the rest of the password as a host's name
        raise ValueError("has a second @: write %40 for one in a name or password")
    ports = str(parts.get("port") or "").split(",")
    if not all(re.fullmatch(r"[0-9]{0,5}", port) and int(port or 0) <= 65535 for port in ports):
        raise ValueError("has a port that is not a number from 0 to 65535")
    return text


def _origin(text: str) -> str:
    """An origin as browsers send it (RFC 6454, section 6.2), of any scheme, or ``null`` or ``*``."""
    origin = r"\*|null|[a-z][a-z0-9+.-]*://([^][/?#@:\s\\]+|\[[0-9a-f:.]+\])(:[0-9]+)?"
    if not re.fullmatch(origin, text.lower()):
        raise ValueError(f"has {text!r}, which is not an origin such as https://app.example.org")
    return text.lower()
