"""The backend of a todo application: users and their tasks over HTTP, kept in PostgreSQL."""

from importlib import metadata
from pathlib import Path

VERSION = metadata.version("todo-api")

_PACKAGE = Path(__file__).parent


class OperatorError(Exception):
    """Something the operator can put right. The text says what, in one sentence, and holds no password."""


def folder(name: str) -> Path:
    """Where ``sql`` or ``migrations`` lies: inside an installed package, beside it in a checkout."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name
