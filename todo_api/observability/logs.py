"""How log lines look, as JSON or for a person at a terminal, and the one line of each request."""

import logging
import os
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from logging import INFO, Formatter, LogRecord
from typing import Any

import msgspec

# The id of the current request. It is never reset, since each request has a task of its own.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_access = logging.getLogger("todo_api.access")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def config(level: str) -> dict[str, Any]:
    """The argument of ``logging.config.dictConfig`` for a level's name: one handler, on standard error."""
    formatter = LineFormatter if sys.stderr.isatty() else JSONFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
    }


def skip_unused_fields() -> None:
    """Switch off what no line shows: the caller, thread and process (Logging HOWTO, "Optimization")."""
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def access(method: str, route: str, status: int, seconds: float, raw_path: bytes) -> None:
    """Log a request by its route. Its path names users, so it is logged at the level debug only."""
    if _access.isEnabledFor(INFO):
        fields = {"method": method, "route": route, "status": status, "duration_ms": round(seconds * 1000, 2)}
        if _access.isEnabledFor(logging.DEBUG):
            fields["path"] = raw_path.decode("latin-1")
        _access.info("request", extra=fields)


class JSONFormatter(Formatter):
    """One JSON object a line: time, level, logger, message, what ``extra`` brought, request id, stack."""

    def format(self, record: LogRecord) -> str:
        """Encode the record. A value that has no form in JSON becomes its Python text."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        line |= _extra(record)
        if record.exc_info:
            line["stack"] = _stack(self, record)
        try:
            return msgspec.json.encode(line, enc_hook=str).decode()
        except Exception:
            return msgspec.json.encode({name: ascii(value) for name, value in line.items()}).decode()


class LineFormatter(Formatter):
    """The same fields on a line for a terminal, in colours unless NO_COLOR is set."""

    def format(self, record: LogRecord) -> str:
        """Put the record on a line, and its stack on those below."""
        extra = _extra(record)
        about = str(extra.pop("request_id", ""))
        if record.name == _access.name:
            status, duration = extra.pop("status"), f"{extra.pop('duration_ms'):8.2f} ms"
            level = _paint(_STATUS[status // 100], f"{status:<7}")
            text = f"{extra.pop('method'):<7} {extra.pop('route'):<36} {duration}"
        else:
            level = _paint(_LEVEL.get(record.levelno, ""), f"{record.levelname.lower():<7}")
            text = _visible(_message(record))
        parts = [
            _paint(_DIM, datetime.fromtimestamp(record.created).strftime("%H:%M:%S")),
            level,
            text,
            *(_visible(f"{name}={value}") for name, value in extra.items()),
            *([_paint(_DIM, about)] if about else []),
        ]
        line = " ".join(parts)
        return f"{line}\n{_stack(self, record)}" if record.exc_info else line


_DIM = "2"
_RED, _GREEN, _YELLOW = "31", "32", "33"
_STATUS = {1: _DIM, 2: _GREEN, 3: _DIM, 4: _YELLOW, 5: _RED}
_LEVEL = {logging.DEBUG: _DIM, logging.WARNING: _YELLOW, logging.ERROR: _RED, logging.CRITICAL: _RED}


def _paint(colour: str, text: str) -> str:
    return text if not colour or os.environ.get("NO_COLOR") else f"\x1b[{colour}m{text}\x1b[0m"


def _visible(text: str) -> str:
    """The text on one line, with control characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _message(record: LogRecord) -> str:
    try:
        return record.getMessage().strip()
    except Exception:  # its arguments do not fit; log the rest
        return str(record.msg)


def _extra(record: LogRecord) -> dict[str, Any]:
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    if about := request_id.get():
        extra["request_id"] = about
    return extra


def _stack(formatter: Formatter, record: LogRecord) -> str:
    """The stack. During a request it lacks the exception's message, which may quote what a client sent."""
    if not record.exc_info or not record.exc_info[0]:
        return ""
    if request_id.get() is None:
        return formatter.formatException(record.exc_info)
    kind, _, trace = record.exc_info
    return "".join([*traceback.format_tb(trace), kind.__name__])
