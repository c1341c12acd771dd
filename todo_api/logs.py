"""How log lines look: JSON, or for a person at a terminal."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

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


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, whatever ``extra`` brought, and the stack."""

    def format(self, record: logging.LogRecord) -> str:
        """Encode the record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class LineFormatter(logging.Formatter):
    """The same for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Put the record on a line, and its stack on those below."""
        extra = [f"{name}={value}" for name, value in vars(record).items() if name not in _STANDARD]
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        line = " ".join([time, f"{record.levelname.lower():7}", record.getMessage(), *extra])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
