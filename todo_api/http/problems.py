"""Problem types (RFC 9457): one exception class for each error that a client can get.

A resource adds the types of its own. `/problems` and the OpenAPI document list them all, by status.
"""

import re
from typing import ClassVar

import msgspec
import psycopg
from litestar.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"

HEAD_LIMIT = 64 * 1024  # bytes of a request line and its headers
BODY_LIMIT = 64 * 1024  # bytes
ARRIVAL_LIMIT = 10  # seconds for a whole request to arrive
RETRY_SECONDS = 1  # what Retry-After says
_MOST_FAULTS = 32  # a body of 64 KiB has room for ten thousand


class Fault(msgspec.Struct, omit_defaults=True):
    """One invalid part of a request, and its location."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None


class ProblemDetails(msgspec.Struct, omit_defaults=True):
    """The body of every error response."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[Fault] = []


class Problem(HTTPException):
    """The base of all problem types. Raise a subclass, and the client gets it as a response.

    A class attribute `violation` names the database error and the constraint that mean this problem.
    """

    uri: ClassVar[str]  # the `type`, made of the class's name: TaskNotFound is /problems/task-not-found
    title: ClassVar[str]
    violation: ClassVar[tuple[type[psycopg.Error], str] | None] = None

    def __init_subclass__(cls) -> None:
        cls.uri = "/problems/" + re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def __init__(self, *errors: Fault, detail: str = "", headers: dict[str, str] | None = None) -> None:
        """`detail` replaces the sentence that the class has."""
        super().__init__(detail=detail, headers=headers)
        self.errors = list(errors[:_MOST_FAULTS])

    def describe(self, instance: str, request_id: str) -> ProblemDetails:
        """Make the response's body. `instance` is the path of the request."""
        return ProblemDetails(
            self.uri, self.title, self.status_code, self.detail, instance, request_id, self.errors
        )


def problem_types() -> list[type[Problem]]:
    """Every problem type that is imported, in order of status."""
    return sorted(Problem.__subclasses__(), key=lambda each: (each.status_code, each.uri))


class BadRequest(Problem):
    """400."""

    status_code = 400
    title = "Bad request"
    detail = "The request is not valid HTTP, or the connection ended before all of it arrived."


class MalformedBody(Problem):
    """400."""

    status_code = 400
    title = "The body is not JSON"
    detail = "Send one JSON object, in UTF-8."


class Unauthorized(Problem):
    """401, where a guard asks who is calling."""

    status_code = 401
    title = "Not authenticated"
    detail = "This request needs credentials. WWW-Authenticate says which kind."


class Forbidden(Problem):
    """403, where a guard refuses."""

    status_code = 403
    title = "Forbidden"
    detail = "These credentials do not allow this request."


class NotFound(Problem):
    """404 where no route matches, or an id in the path is no UUID."""

    status_code = 404
    title = "Not found"
    detail = "There is nothing at this path. /schema lists the endpoints."


class MethodNotAllowed(Problem):
    """405."""

    status_code = 405
    title = "Method not allowed"
    detail = "This path does not support the method. The Allow header lists those that it does."


class TooSlow(Problem):
    """408."""

    status_code = 408
    title = "Request too slow"
    detail = f"The request did not arrive within {ARRIVAL_LIMIT} seconds."


class PreconditionFailed(Problem):
    """412."""

    status_code = 412
    title = "Precondition failed"
    detail = "The current version does not meet If-Match or If-None-Match. Nothing was written."


class BodyTooLarge(Problem):
    """413."""

    status_code = 413
    title = "Body too large"
    detail = f"A body can have at most {BODY_LIMIT} bytes."


class UnsupportedMediaType(Problem):
    """415 for a media type, charset or content coding that the route does not take."""

    status_code = 415
    title = "Unsupported media type"
    detail = "Send the body as application/json, in UTF-8."


class InvalidRequest(Problem):
    """422, with every fault that was found."""

    status_code = 422
    title = "Invalid request"
    detail = "The request is well-formed but not valid. The list `errors` says what to change, and where."


class HeadTooLarge(Problem):
    """431."""

    status_code = 431
    title = "Head too large"
    detail = f"The request line and the headers together can have at most {HEAD_LIMIT} bytes."


class InternalError(Problem):
    """500."""

    status_code = 500
    title = "Internal error"
    detail = "The service has a defect. Its log has the cause under this request_id."


class Unavailable(Problem):
    """503. A write that was under way may have happened."""

    status_code = 503
    title = "Service unavailable"
    detail = "The database is not available, or too many requests are waiting. Try again after Retry-After."


class TimedOut(Problem):
    """503, and nothing was written."""

    status_code = 503
    title = "Request timed out"
    detail = "The database took too long, so the statement was stopped. Nothing was written. Try again."


class SchemaBehind(Problem):
    """503."""

    status_code = 503
    title = "Schema behind"
    detail = "The database lacks migrations of this version. The operator has to run `todo-api migrate`."
