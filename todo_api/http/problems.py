"""Problem types (RFC 9457): one exception class for each error that a client can get.

A resource adds the types of its own. `/problems` and the OpenAPI document list them all, by status.
"""

import re
from typing import ClassVar

import msgspec
import psycopg
from litestar.exceptions import HTTPException
from msgspec import UNSET, UnsetType

MEDIA_TYPE = "application/problem+json"

HEAD_LIMIT = 64 * 1024  # bytes of a request line and its headers
BODY_LIMIT = 64 * 1024  # bytes
ARRIVAL_LIMIT = 10  # seconds for a whole request to arrive
RETRY_SECONDS = 1  # what Retry-After says
_MOST_FAULTS = 32  # a body has room for thousands


class Fault(msgspec.Struct):
    """One invalid part of a request, and its location."""

    detail: str
    pointer: str | UnsetType = UNSET
    parameter: str | UnsetType = UNSET
    header: str | UnsetType = UNSET


class ProblemDetails(msgspec.Struct):
    """The body of every error response."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[Fault] | UnsetType = UNSET


class Problem(HTTPException):
    """The base of all problem types. Raise a subclass, and the client gets it as a response.

    The name of a subclass makes its ``type`` and title: TaskNotFound is /problems/task-not-found. Its
    docstring is the ``detail``, where ``{limit}`` stands for the argument ``limit``. ``remedy`` says on the
    page of the type what a client should do. ``violation`` is the class of the database error that means this
    problem, and the constraint's name.
    """

    uri: ClassVar[str]
    title: ClassVar[str]
    remedy: ClassVar[str]
    violations: ClassVar[dict[type[psycopg.Error], tuple[str, "type[Problem]"]]] = {}

    def __init_subclass__(
        cls,
        *,
        status: int,
        remedy: str,
        violation: tuple[type[psycopg.Error], str] | None = None,
        **limits: int,
    ) -> None:
        words = re.findall("[A-Z][a-z]+", cls.__name__)
        cls.uri = "/problems/" + "-".join(words).lower()
        cls.title = " ".join(words).capitalize()
        cls.status_code = status
        cls.detail = " ".join(str(cls.__doc__).split()).format(**limits)
        cls.remedy = remedy
        if violation:
            error, constraint = violation
            cls.violations[error] = constraint, cls

    def __init__(self, *errors: Fault, detail: str = "", headers: dict[str, str] | None = None) -> None:
        """`detail` replaces the sentence of the class."""
        super().__init__(detail=detail, headers=headers)
        self.errors = list(errors[:_MOST_FAULTS])

    def describe(self, instance: str, request_id: str) -> ProblemDetails:
        """Make the response's body. `instance` is the path of the request."""
        return ProblemDetails(
            self.uri, self.title, self.status_code, self.detail, instance, request_id, self.errors or UNSET
        )


def problem_types() -> list[type[Problem]]:
    """Every problem type that is imported, in order of status."""
    return sorted(Problem.__subclasses__(), key=lambda each: (each.status_code, each.uri))


class BadRequest(Problem, status=400, remedy="Send valid HTTP. If the connection broke, repeat the request."):
    """The request is not valid HTTP, or the connection ended before all of it arrived."""


class MalformedBody(Problem, status=400, remedy="Send valid JSON: one object, in UTF-8."):
    """The body is not valid JSON. Send one JSON object, in UTF-8."""


class Unauthorized(Problem, status=401, remedy="Send credentials."):
    """This request needs credentials. WWW-Authenticate says which kind."""


class Forbidden(Problem, status=403, remedy="Use credentials that allow the request."):
    """These credentials do not allow this request."""


class NotFound(Problem, status=404, remedy="Correct the path. An id in it must be a UUID with hyphens."):
    """There is nothing at this path. /schema lists the endpoints."""


class MethodNotAllowed(Problem, status=405, remedy="Use a method that the Allow header lists."):
    """This path does not support the method. The Allow header lists those that it does."""


class TooSlow(Problem, status=408, limit=ARRIVAL_LIMIT, remedy="Repeat the request."):
    """The request did not arrive within {limit} seconds."""


class PreconditionFailed(Problem, status=412, remedy="Read the current version, then decide."):
    """The current version does not meet If-Match or If-None-Match. Nothing was written."""


class BodyTooLarge(Problem, status=413, limit=BODY_LIMIT, remedy="Send a smaller body."):
    """A body can have at most {limit} bytes."""


class UnsupportedMediaType(
    Problem, status=415, remedy="Set Content-Type to application/json, and do not compress the body."
):
    """Send the body as application/json, in UTF-8."""


class InvalidRequest(
    Problem,
    status=422,
    remedy="Correct each part that `errors` names: a place in the body, a parameter or a header.",
):
    """The request is well-formed but not valid. The list `errors` says what to change, and where."""


class HeadTooLarge(
    Problem, status=431, limit=HEAD_LIMIT, remedy="Send fewer or shorter headers, or a shorter query."
):
    """The request line and the headers together can have at most {limit} bytes."""


class InternalError(
    Problem,
    status=500,
    remedy="Report the request_id to the operator. Repeat the request only if that is safe.",
):
    """The service has a defect. Report the request_id to its operator, whose log has the cause."""


class Unavailable(
    Problem,
    status=503,
    remedy="Wait at least Retry-After seconds. A write may have happened: repeat it only if that is safe, "
    "for instance with its Idempotency-Key.",
):
    """The database is not available, or too many requests are waiting. Try again after Retry-After."""


class TimedOut(Problem, status=503, remedy="Wait at least Retry-After seconds, then repeat the request."):
    """The database took too long, so the statement was stopped. Nothing was written. Try again."""


class SchemaBehind(Problem, status=503, remedy="Wait for the operator."):
    """The database schema is older than the service. The operator has to run `todo-api migrate`."""
