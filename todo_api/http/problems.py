"""Every error, wherever it arises, as ``application/problem+json`` (RFC 9457)."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
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
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from psycopg import errors

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Fault(msgspec.Struct, omit_defaults=True):
    """One thing that is wrong with a request, and where."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of every error response."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[Fault] = []


class Kind(NamedTuple):
    """What stays the same from one occurrence of a problem to the next."""

    type: str
    status: int
    title: str
    detail: str


def _kind(slug: str, status: int, title: str, detail: str) -> Kind:
    return Kind(f"/problems/{slug}", status, title, detail)


BAD_REQUEST = _kind(
    "bad-request", 400, "Bad request", "The request is not sound HTTP, or ended before all of it had come."
)
MALFORMED = _kind("malformed-body", 400, "The body is not JSON", "Send one JSON object, in UTF-8.")
UNAUTHORIZED = _kind(
    "unauthorized", 401, "Not authenticated", "WWW-Authenticate says how to show who is asking."
)
FORBIDDEN = _kind("forbidden", 403, "Forbidden", "Whoever is asking may not do this.")
NOT_FOUND = _kind(
    "not-found", 404, "No such resource", "No resource has this path; GET /schema shows those that there are."
)
USER_NOT_FOUND = _kind("user-not-found", 404, "User not found", "There is no user with this id.")
TASK_NOT_FOUND = _kind("task-not-found", 404, "Task not found", "This user has no task with this id.")
METHOD_NOT_ALLOWED = _kind(
    "method-not-allowed", 405, "Method not allowed", "The header Allow names the methods of this resource."
)
EMAIL_TAKEN = _kind(
    "email-taken", 409, "Email taken", "Another user has this email, perhaps in another case."
)
TOO_SLOW = _kind("too-slow", 408, "Request too slow", "All of a request must arrive within ten seconds.")
TASK_CHANGED = _kind(
    "task-changed",
    412,
    "Task changed",
    "The task is not as If-Match has it; nothing was written. Read it again.",
)
TOO_LARGE = _kind("body-too-large", 413, "Body too large", "A body may have 65536 bytes at most.")
UNSUPPORTED = _kind(
    "unsupported-media-type", 415, "Unsupported media type", "Send the body as application/json."
)
INVALID = _kind(
    "invalid-request", 422, "Invalid request", "What was sent does not fit; errors says where and why."
)
HEAD_TOO_LARGE = _kind(
    "head-too-large", 431, "Head too large", "Request line and headers may have 65536 bytes at most."
)
KEY_REUSED = _kind(
    "idempotency-key-reused",
    422,
    "Idempotency key reused",
    "This user's request with the same Idempotency-Key had another payload; nothing was created.",
)
DEFECT = _kind(
    "internal-error", 500, "Internal error", "Something went wrong here; it is logged under request_id."
)
UNAVAILABLE = _kind(
    "unavailable",
    503,
    "Service unavailable",
    "The database does not answer, or too many requests wait. Try again.",
)
TIMED_OUT = _kind(
    "timed-out", 503, "Request timed out", "The database took too long and was stopped; nothing was written."
)
SCHEMA_BEHIND = _kind(
    "schema-behind", 503, "Schema behind", "Migrations are pending: run `todo-api migrate`."
)

KINDS = [kind for kind in list(globals().values()) if isinstance(kind, Kind)]


_MOST_FAULTS = 32  # a body of 64 KiB has room for ten thousand


class ProblemError(Exception):
    """Raised where something is known to be wrong; answered as the problem that it names."""

    def __init__(
        self, kind: Kind, *faults: Fault, detail: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(kind.title)
        self.kind = kind
        self.faults = list(faults[:_MOST_FAULTS])
        self.detail = detail or kind.detail
        self.headers = dict(headers or {})


def respond(request: Request[Any, Any, Any], error: Exception) -> Response[Problem | None]:
    """The application's one exception handler; it also answers OPTIONS, which no route does."""
    if isinstance(error, MethodNotAllowedException) and request.method == "OPTIONS":
        return Response(None, status_code=204, headers={"Allow": _allowed(error)})
    known = translate(error)
    kind, request_id = known.kind, request.scope["state"]["request_id"]
    if kind.status >= 500:
        _log(error, kind, request_id)
    body = describe(known, request.scope["raw_path"].decode("latin-1"), request_id)
    headers = known.headers | ({"Retry-After": "1"} if kind.status == 503 else {})
    return Response[Problem | None](body, status_code=kind.status, media_type=MEDIA_TYPE, headers=headers)


def describe(error: ProblemError, instance: str, request_id: str) -> Problem:
    """The body of the response that tells of an error; ``instance`` is the request's path."""
    return Problem(
        type=error.kind.type,
        title=error.kind.title,
        status=error.kind.status,
        detail=error.detail,
        instance=instance,
        request_id=request_id,
        errors=error.faults,
    )


def _log(error: BaseException, kind: Kind, request_id: str) -> None:
    if isinstance(error, ProblemError):
        error = error.__cause__ or error
    sqlstate = getattr(error, "sqlstate", None)
    log.log(
        logging.ERROR if kind is DEFECT else logging.WARNING,
        "%s: %s%s",
        kind.title,
        type(error).__name__,
        f" {sqlstate}" if sqlstate else "",
        extra={"request_id": request_id},
        # The stack, not the message: that may quote what a client sent, or a row.
        exc_info=(type(error), RuntimeError("message withheld"), error.__traceback__)
        if kind is DEFECT
        else None,
    )


def _allowed(error: MethodNotAllowedException) -> str:
    return f"{(error.headers or {})['allow']}, OPTIONS"


def translate(error: Exception) -> ProblemError:
    """What a client is told of an error; whatever is not known here is a defect."""
    match error:
        case ProblemError():
            return error
        case psycopg.Error():
            return _of_database(error)
        case NotFoundException() | ValidationException(extra=[{"source": "path"}, *_]):
            return ProblemError(NOT_FOUND)
        case MethodNotAllowedException():
            return ProblemError(METHOD_NOT_ALLOWED, headers={"Allow": _allowed(error)})
        case NotAuthorizedException():
            return ProblemError(UNAUTHORIZED, headers=error.headers)
        case PermissionDeniedException():
            return ProblemError(FORBIDDEN, headers=error.headers)
        case RequestEntityTooLarge():
            return ProblemError(TOO_LARGE)
        case ValidationException():
            return ProblemError(MALFORMED)
        case ClientException():
            return ProblemError(BAD_REQUEST)
    return ProblemError(DEFECT)


# Of each of these a client can cause but one. The constraint's name only makes sure that it is
# that one, where the engine gives it: Citus does not.
_VIOLATIONS: dict[type[Exception], tuple[str, Kind]] = {
    errors.UniqueViolation: ("users_email_key", EMAIL_TAKEN),
    errors.ForeignKeyViolation: ("tasks_user_id_fkey", USER_NOT_FOUND),
}


def _of_database(error: psycopg.Error) -> ProblemError:
    constraint, kind = _VIOLATIONS.get(type(error), (None, DEFECT))
    if constraint and (error.diag.constraint_name or constraint).startswith(constraint):
        return ProblemError(kind)
    match error:
        case errors.QueryCanceled() | errors.LockNotAvailable():
            return ProblemError(TIMED_OUT)
        case psycopg.OperationalError() | errors.ReadOnlySqlTransaction():
            return ProblemError(UNAVAILABLE)
    return ProblemError(DEFECT)
