"""A response whose body is already encoded."""

from litestar.types import Receive, Scope, Send


class Answer:
    """One JSON response, or one without a body, as an ASGI application.

    Litestar's own ``ASGIResponse`` keeps its headers in a mutable structure, which costs a sixth of the
    framework's time per request.
    """

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, body: bytes = b"", *, status: int = 200, **headers: str) -> None:
        """Write ``-`` in a header's name as ``_``. A header with an empty value is left out."""
        self._status = status
        self._body = body
        self._headers = [
            (name.replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in headers.items()
            if value
        ]
        if body:
            self._headers.append((b"content-type", b"application/json"))
            self._headers.append((b"content-length", b"%d" % len(body)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})
