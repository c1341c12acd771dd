"""Lets pages of other origins call the API (the Fetch standard, section 3.2).

Litestar's own CORS treats every OPTIONS with an Origin as a preflight, and answers it without `Allow`. It
also refuses some preflights in plain text.
"""

from collections.abc import Sequence

from litestar.types import ASGIApp, Message, Receive, Scope, Send

_EXPOSED = b"Accept-Patch, Allow, ETag, Idempotency-Replayed, Link, Location, Retry-After, X-Request-Id"
_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-Id, traceparent, tracestate",
    ),
    (b"access-control-max-age", b"600"),
]


class Cors:
    """Adds CORS headers to every response, errors and OPTIONS included. It refuses nothing.

    ``origins`` may contain ``*`` for any origin. The response to another origin has no such headers, so a
    browser hides it from the page. Credentials are not allowed, since the service has none.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._any = "*" in origins
        self._origins = {origin.encode() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, and add the headers for the request's origin."""
        fields = scope["state"]["fields"]
        origin = fields.get(b"origin")
        # `Vary` is on every response, or a cache would mix up origins.
        headers = [] if self._any else [(b"vary", b"Origin")]
        if self._any or origin in self._origins:
            headers.append((b"access-control-allow-origin", b"*" if self._any else origin))
            headers.append((b"access-control-expose-headers", _EXPOSED))
        if b"access-control-request-method" in fields:  # a browser sends that with OPTIONS only
            headers += _PREFLIGHT

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)
