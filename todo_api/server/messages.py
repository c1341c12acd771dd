"""Checks the head of a request, and builds the response that refuses one."""

import re
from http import HTTPStatus
from secrets import token_hex

import msgspec

from todo_api.http.problems import MEDIA_TYPE, Problem
from todo_api.http.timestamps import http_date

# RFC 3986, section 3.2.2, and a port. An empty Host is valid (RFC 9110, section 7.2).
_PLAIN = rb"[\w.~!$&'()*+,;=-]*"
_HOST = re.compile(
    rb"(?:\[[\w.:~!$&'()*+,;=-]+\]|" + _PLAIN + rb"(?:%[0-9A-Fa-f]{2}" + _PLAIN + rb")*)(?::[0-9]*)?"
)


def is_valid(version: str, method: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a head that the parser accepts is valid HTTP/1.1 or HTTP/1.0 for a server that is no proxy."""
    hosts = [value for name, value in headers if name == b"host"]
    if version == "1.1":  # RFC 9112, section 3.2
        is_framed = len(hosts) == 1
    else:  # RFC 9112, section 6.1
        is_framed = version == "1.0" and b"transfer-encoding" not in dict(headers) and len(hosts) < 2
    return is_framed and method != b"CONNECT" and all(map(_HOST.fullmatch, hosts))


def refusal(kind: type[Problem]) -> bytes:
    """The bytes of a response that refuses a request."""
    request_id = token_hex(16)
    body = msgspec.json.encode(kind().describe("", request_id))
    head = (
        f"HTTP/1.1 {kind.status_code} {HTTPStatus(kind.status_code).phrase}\r\n"
        f"date: {http_date().decode()}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\ncache-control: no-cache\r\nx-content-type-options: nosniff\r\n"
        f"x-request-id: {request_id}\r\n\r\n"
    )
    return head.encode() + body
