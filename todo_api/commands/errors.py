"""Turns every error that is not a defect of ours into a sentence for the operator."""

import psycopg

from todo_api.postgres.errors import sentence as of_database
from todo_api.postgres.explain import ExplainError
from todo_api.postgres.migrations import MigrationError
from todo_api.postgres.startup import StartError
from todo_api.postgres.wheel import EmbeddedError
from todo_api.server.addresses import ListenError
from todo_api.server.processes import ServerError
from todo_api.settings import SettingsError

_OURS = (EmbeddedError, ExplainError, ListenError, MigrationError, ServerError, SettingsError, StartError)


def sentence(error: Exception) -> str | None:
    """Return the sentence, or None for a defect, whose traceback is wanted."""
    match error:
        case _ if isinstance(error, _OURS):
            return str(error)
        case psycopg.Error():
            return of_database(error)
        case UnicodeEncodeError(encoding="utf-8"):
            return "An argument is not text in UTF-8."
        case UnicodeEncodeError():
            return (
                f"The output is to be in {error.encoding}, which lacks a letter: set PYTHONIOENCODING=utf-8."
            )
        case UnicodeError():  # which the resolver raises
            return "The name of the database's host is not one that can be looked up."
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            return f"{place}{error.strerror or error}."
    return None
