"""What the protocol checks in a head and sends by itself."""

import re
from email.utils import formatdate
from http import HTTPStatus
from secrets import token_hex
from time import time

import msgspec

from todo_api.http.problems import (
    BAD_REQUEST,
    HEAD_TOO_LARGE,
    MEDIA_TYPE,
    TOO_SLOW,
    Kind,
    ProblemError,
    describe,
)

__all__ = ["BAD_REQUEST", "DATE", "HEAD_TOO_LARGE", "TOO_SLOW", "Kind", "fault", "refusal"]

# RFC 3986, section 3.2.2, and a port. An empty Host is valid (RFC 9110, section 7.2).
_HOST = re.compile(rb"(?:\[[\w.:~!$&'()*+,;=-]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")


def fault(version: str, method: bytes, headers: list[tuple[bytes, bytes]]) -> str | None:
    """What makes a head unsound that the parser accepts."""
    names = [name for name, _ in headers]
    hosts = [value for name, value in headers if name == b"host"]
    if version not in ("1.0", "1.1"):
        return "version"
    if method == b"CONNECT":
        return "method"  # a proxy's, which makes a tunnel of the connection
    if len(hosts) > 1 or (version == "1.1" and not hosts) or not all(map(_HOST.fullmatch, hosts)):
        return "Host"  # RFC 9112, section 3.2
    if version == "1.0" and b"transfer-encoding" in names:
        return "Transfer-Encoding"  # RFC 9112, section 6.1
    return None


class _Date(list[tuple[bytes, bytes]]):
    """The headers that uvicorn puts before those of each response: ``Date``, as the response begins.

    uvicorn's own is renewed every second or so, and can be earlier than the ``created_at`` in the body.
    """

    _second = 0
    _value = b""

    def __add__(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:  # type: ignore[override]
        second = int(time())
        if second != self._second:
            self._second = second
            self._value = formatdate(second, usegmt=True).encode()
        return [(b"date", self._value), *headers]


DATE = _Date()


def refusal(kind: Kind) -> bytes:
    """The bytes of a response that refuses a request."""
    request_id = token_hex(16)
    body = msgspec.json.encode(describe(ProblemError(kind), "", request_id))
    head = (
        f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}\r\n"
        f"date: {formatdate(usegmt=True)}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\ncache-control: no-cache\r\nx-content-type-options: nosniff\r\n"
        f"x-request-id: {request_id}\r\n\r\n"
    )
    return head.encode() + body
