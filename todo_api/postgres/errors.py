"""Says in one sentence, for the operator, what PostgreSQL or libpq reports."""

import re

import psycopg
from psycopg import errors


def reason(error: psycopg.Error) -> str:
    """Return the reason and, if known, what to do. It holds no password, since libpq quotes none."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    text = re.sub(r"^connection (failed|is bad): |\.$", "", " ".join(text.split()))
    match error:
        case errors.UndefinedTable() | errors.UndefinedColumn() | errors.UndefinedFunction():
            return f"The schema is not current ({text}): run 'todo-api migrate'."
        case errors.InsufficientPrivilege():
            return (
                f"The role lacks a privilege ({text}): use the tables' owner, or grant todo_app to the role."
            )
        case errors.ReadOnlySqlTransaction():
            return f"The server takes no writes ({text}): connect to the primary."
        case errors.LockNotAvailable():
            return "A table stayed locked by others for too long. Try again."
        case _ if "unsupported startup parameter" in text:
            return (
                "This pooler accepts no time-outs from its clients: set STATEMENT_TIMEOUT=0 and "
                "LOCK_TIMEOUT=0, and set the time-outs of the role (docs/scaling.md)."
            )
    return text[:1].upper() + text[1:] + "."
