"""Turns every exception into a response, in one place."""

import logging
from errno import EMFILE
from typing import Any

import psycopg
from litestar import Request, Response
from litestar.exceptions import (
    ClientException,
    MethodNotAllowedException,
    NotAuthorizedException,
    NotFoundException,
    PermissionDeniedException,
    ValidationException,
)
from psycopg import errors

from todo_api.http.methods import allow, answer_options
from todo_api.http.problems import (
    MEDIA_TYPE,
    RETRY_SECONDS,
    BadRequest,
    Forbidden,
    InternalError,
    MalformedBody,
    MethodNotAllowed,
    NotFound,
    Problem,
    TimedOut,
    Unauthorized,
    Unavailable,
)

log = logging.getLogger(__name__)


def respond(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Turn an exception into a response. This is the application's only exception handler."""
    if isinstance(error, MethodNotAllowedException) and request.method == "OPTIONS":
        return answer_options(request, error)
    problem = translate(error)
    state = request.scope["state"]
    if problem.status_code >= 500:
        _log(error, problem, state["request_id"])
    return Response(
        problem.describe(request.scope["raw_path"].decode("latin-1"), state["request_id"]),
        status_code=problem.status_code,
        media_type=MEDIA_TYPE,
        headers=(problem.headers or {})
        | ({"Retry-After": str(RETRY_SECONDS)} if problem.status_code == 503 else {}),
    )


def translate(error: Exception) -> Problem:
    """The problem that an exception means. An unknown exception is an InternalError."""
    match error:
        case Problem():
            return error
        case psycopg.Error():
            return _from_database(error)
        case ValidationException(extra=[{"source": "path", "key": name}, *_]):
            return NotFound(detail=f"The {name} in the path is not a UUID in its canonical form.")
        case NotFoundException():
            return NotFound()
        case MethodNotAllowedException():
            return MethodNotAllowed(headers=allow(error))
        case NotAuthorizedException():
            return Unauthorized(headers=error.headers)
        case PermissionDeniedException():
            return Forbidden(headers=error.headers)
        case ValidationException():
            return MalformedBody()
        case ClientException():
            return BadRequest()
        case OSError() if error.errno == EMFILE:
            return Unavailable(detail="The service has too many open connections and files.")
    return InternalError()


def _from_database(error: psycopg.Error) -> Problem:
    if known := Problem.violations.get(type(error)):
        constraint, kind = known
        # Citus appends a shard's number to the constraint's name, or reports no name. Then the class decides:
        # a client can cause only one violation of each.
        if (error.diag.constraint_name or constraint).startswith(constraint):
            return kind()
    match error:
        case errors.QueryCanceled() | errors.LockNotAvailable():
            return TimedOut()
        # While a dump is restored, tables are missing for a moment, and then lack their privileges.
        case (
            psycopg.OperationalError()
            | errors.ReadOnlySqlTransaction()
            | errors.UndefinedTable()
            | errors.InsufficientPrivilege()
        ):
            return Unavailable()
    return InternalError()


def _log(error: BaseException, problem: Problem, request_id: str) -> None:
    if isinstance(error, Problem):
        error = error.__cause__ or error
    sqlstate = getattr(error, "sqlstate", None)
    is_defect = isinstance(problem, InternalError)
    log.log(
        logging.ERROR if is_defect else logging.WARNING,
        "%s: %s%s",
        problem.title,
        type(error).__name__,
        f" {sqlstate}" if sqlstate else "",
        extra={"request_id": request_id},
        # Without the message: it may quote what a client sent, or a row.
        exc_info=(type(error), RuntimeError("message withheld"), error.__traceback__) if is_defect else None,
    )
