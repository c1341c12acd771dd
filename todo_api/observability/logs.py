"""Formats log lines, as JSON or for a terminal, and writes the one line of each request."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from logging import DEBUG, INFO, Formatter, LogRecord
from typing import Any

import msgspec

# The id of the current request. It is never reset, since each request has a task of its own.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_access = logging.getLogger("todo_api.access")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def config(level: str) -> dict[str, Any]:
    """The argument of ``logging.config.dictConfig`` for a level's name: one handler, on standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": FieldsFormatter, "form": _form()}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
    }


class AccessLog:
    """Writes the line of each request to standard error. A LogRecord would cost three times as much.

    It obeys the level of the logger ``todo_api.access``. A path names a user, so the line has it only at the
    level debug.
    """

    def __init__(self) -> None:
        self._form = _form()

    def write(self, method: str, route: str, status: int, seconds: float, raw_path: bytes) -> None:
        """Write the line. It is lost if standard error is closed or full."""
        if not _access.isEnabledFor(INFO):
            return
        fields = {"time": datetime.now(UTC), "level": "info", "logger": _access.name, "message": "request"}
        fields |= {
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1000, 2),
        }
        if _access.isEnabledFor(DEBUG):
            fields["path"] = raw_path.decode("latin-1")
        fields["request_id"] = request_id.get()
        with suppress(AttributeError, OSError, ValueError):  # never open, full, or closed
            sys.stderr.write(self._form(fields) + "\n")


class FieldsFormatter(Formatter):
    """Formats a record's time, level, logger, message, ``extra``, request id and stack in a form."""

    def __init__(self, form: Callable[[dict[str, Any]], str]) -> None:
        super().__init__()
        self._form = form

    def format(self, record: LogRecord) -> str:
        """Format the record."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        } | {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if about := request_id.get():
            fields["request_id"] = about
        if record.exc_info and record.exc_info[0]:
            fields["stack"] = self._stack(record.exc_info)
        return self._form(fields)

    def _stack(self, exc_info: Any) -> str:
        """The stack. In a request it lacks the exception's message, which may quote what a client sent."""
        kind, _, trace = exc_info
        if request_id.get() is None:
            return self.formatException(exc_info)
        return "".join([*traceback.format_tb(trace), kind.__name__])


def as_json(fields: dict[str, Any]) -> str:
    """One JSON object. A value that JSON cannot express becomes its Python text."""
    try:
        return msgspec.json.encode(fields, enc_hook=str).decode()
    except Exception:
        return msgspec.json.encode({name: ascii(value) for name, value in fields.items()}).decode()


def as_line(fields: dict[str, Any]) -> str:
    """A line for a terminal, with the stack below, in colours unless NO_COLOR is set."""
    names = ("time", "level", "logger", "message", "request_id", "stack")
    time, level, logger, text, about, stack = (fields.pop(name, "") for name in names)
    colour = _LEVEL.get(level, "")
    if logger == _access.name:
        level, colour = str(status := fields.pop("status")), _STATUS[status // 100]
        text = f"{fields.pop('method'):<7} {fields.pop('route'):<39} {fields.pop('duration_ms'):8.2f} ms"
    parts = [
        _paint(_DIM, f"{time.astimezone():%H:%M:%S}"),
        _paint(colour, f"{level:<7}"),
        _visible(text),
        *(_visible(f"{name}={value}") for name, value in fields.items()),
        *([_paint(_DIM, about)] if about else []),
    ]
    return " ".join(parts) + (f"\n{stack}" if stack else "")


_DIM = "2"
_RED, _GREEN, _YELLOW = "31", "32", "33"
_STATUS = {1: _DIM, 2: _GREEN, 3: _DIM, 4: _YELLOW, 5: _RED}
_LEVEL = {"debug": _DIM, "warning": _YELLOW, "error": _RED, "critical": _RED}


def _form() -> Callable[[dict[str, Any]], str]:
    return as_line if sys.stderr and sys.stderr.isatty() else as_json


def _paint(colour: str, text: str) -> str:
    return text if os.environ.get("NO_COLOR") else f"\x1b[{colour}m{text}\x1b[0m"


def _visible(text: str) -> str:
    """The text on one line, with control characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _message(record: LogRecord) -> str:
    try:
        return record.getMessage().strip()
    except Exception:  # its arguments do not fit; log the rest
        return str(record.msg)
