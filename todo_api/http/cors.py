"""Lets pages of other origins call the API (the Fetch standard, section 3.2).

Litestar's own middleware takes every OPTIONS with an Origin for a preflight, which then lacks Allow, and
refuses some in plain text.
"""

from collections.abc import Sequence

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_EXPOSED = b"ETag, Idempotency-Replayed, Link, Location, Retry-After, X-Request-Id"
_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-Id",
    ),
    (b"access-control-max-age", b"600"),
]


class Cors:
    """Adds headers to what the application answers, errors and OPTIONS included; it refuses nothing.

    An origin that is not among ``origins``, of which ``*`` means any, gets none, and so its
    browser keeps the answer from the page. There are no credentials, so none are allowed.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._any = "*" in origins
        self._origins = {origin.encode() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, with the headers that the request's origin is due."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        asked = dict(scope["headers"])
        headers = self._headers(asked.get(b"origin"))
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in asked:
            headers += _PREFLIGHT

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _headers(self, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        if self._any:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED)]
        headers = [
            (b"vary", b"Origin")
        ]  # also where the origin is another, or none, lest a cache mix them up
        if origin in self._origins:
            headers += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", _EXPOSED),
            ]
        return headers
