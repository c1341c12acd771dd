"""Says in one sentence what went wrong, unless it is a defect of the program."""

import psycopg

from todo_api import OperatorError
from todo_api.postgres.errors import reason


def sentence(error: Exception) -> str | None:
    """Return the sentence, or None for a defect, which needs its traceback."""
    match error:
        case OperatorError():
            return str(error)
        case psycopg.Error():
            return reason(error)
        case UnicodeEncodeError(encoding="utf-8"):
            return "An argument is not text in UTF-8."
        case UnicodeEncodeError():
            return f"The output's encoding, {error.encoding}, lacks a letter: set PYTHONIOENCODING=utf-8."
        case UnicodeError():  # raised by the resolver
            return "The name of the database's host cannot be looked up: it is no valid name."
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            return f"{place}{error.strerror or error}."
    return None
