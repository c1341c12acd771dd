"""Reads the header fields of a request, and describes headers for the OpenAPI document."""

import re
from typing import Any, NamedTuple

from litestar.datastructures import ResponseHeader

from todo_api.http.problems import Fault, InvalidRequest

Fields = dict[bytes, bytes]


class RequestHeader(NamedTuple):
    """A header that an operation reads, as the OpenAPI document describes it."""

    name: str
    description: str
    schema: dict[str, Any]


def combine(lines: list[tuple[bytes, bytes]]) -> Fields:
    """The value of each field by its name, with several lines of a field joined by commas (RFC 9110, 5.3).

    The reader of a field that may occur only once refuses such a value.
    """
    fields = dict(lines)
    if len(fields) < len(lines):
        fields = {}
        for name, value in lines:
            fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


_KEY = r'^([!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}")$'

IDEMPOTENCY_KEY = RequestHeader(
    "Idempotency-Key",
    "Makes the request safe to repeat: 1 to 255 visible ASCII characters, plain or quoted",
    {"type": "string", "pattern": _KEY},
)


def read_idempotency_key(fields: Fields) -> str | None:
    """The key, sent plain or as the string of a structured field (RFC 9651, 3.3.3); None if there is none.

    Raises InvalidRequest.
    """
    if (field := fields.get(b"idempotency-key")) is None:
        return None
    value = field.decode("latin-1")
    if not re.fullmatch(_KEY, value):
        raise InvalidRequest(
            Fault("Must be 1 to 255 visible ASCII characters, plain or quoted.", header=IDEMPOTENCY_KEY.name)
        )
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def refuse_idempotency_key(fields: Fields, reason: str) -> None:
    """Raise InvalidRequest if a request has a key that would have no effect."""
    if b"idempotency-key" in fields:
        raise InvalidRequest(Fault(reason, header=IDEMPOTENCY_KEY.name))


def _response_header(name: str, description: str, *, always: bool = True) -> ResponseHeader:
    return ResponseHeader(name=name, description=description, required=always, documentation_only=True)


ETAG = _response_header("ETag", "The version of the content, for `If-None-Match` and `If-Match`")
LOCATION = _response_header("Location", "The path of the new resource")
LINK = _response_header(
    "Link", 'The next page, as `</…>; rel="next"` (RFC 8288). The last page has none', always=False
)
RETRY_AFTER = _response_header("Retry-After", "Seconds to wait before trying again")
IDEMPOTENCY_REPLAYED = _response_header(
    "Idempotency-Replayed", "`true` if an earlier request with this key created the task", always=False
)
ACCEPT_PATCH = _response_header(
    "Accept-Patch", "The media types that PATCH accepts at this path (RFC 5789)", always=False
)
REQUEST_ID = _response_header(
    "X-Request-Id", "The id of the request, which the log lines of the service have too"
)

HEADER_TYPES = {RETRY_AFTER.name: "integer", IDEMPOTENCY_REPLAYED.name: "boolean"}  # the others are strings
