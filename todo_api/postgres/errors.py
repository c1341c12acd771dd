"""Says in one sentence, to the operator, what PostgreSQL or libpq reports."""

import psycopg
from psycopg import errors


def sentence(error: psycopg.Error) -> str:
    """Return the reason and, where it is known, what to do. Holds no password, as libpq quotes none."""
    text = error.diag.message_primary or " ".join(str(error).split())
    text = text.removeprefix("connection failed: ").rstrip(".")
    match error:
        case errors.UndefinedTable() | errors.UndefinedColumn() | errors.UndefinedFunction():
            return f"The schema is not current ({text}): run 'todo-api migrate'."
        case errors.ReadOnlySqlTransaction():
            return f"The server takes no writes ({text}): connect to the primary."
        case errors.LockNotAvailable():
            return "A table stayed locked by others for too long; try again."
        case _ if "unsupported startup parameter" in text:
            return (
                "This pooler takes no time-outs from its clients: set STATEMENT_TIMEOUT=0 and "
                "LOCK_TIMEOUT=0, and give them to the role (docs/scaling.md)."
            )
    return text[:1].upper() + text[1:] + "."
