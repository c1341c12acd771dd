"""What every response has, also those that no route made: an id, and headers that make it safe."""

import re
from uuid import uuid4

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_SANE = re.compile(rb"[\x21-\x7e]{1,128}")
_ALWAYS = [(b"x-content-type-options", b"nosniff")]
_NO_CACHE = (b"cache-control", b"no-cache")


class Edge:
    """Wraps the whole application, since middleware does not see a 404 or 405 of the router."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the request an id, and its response the headers."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = sent if _SANE.fullmatch(sent) else uuid4().hex.encode()
        scope["state"]["request_id"] = request_id.decode()
        if _has_another_name(scope["path"], scope["raw_path"]):
            scope["path"] = "/\0"  # routes nowhere

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], *_ALWAYS, (b"x-request-id", request_id)]
                if all(name != b"cache-control" for name, _ in message["headers"]):
                    headers.append(_NO_CACHE)
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _has_another_name(path: str, raw_path: bytes) -> bool:
    """Whether the router would take the path for that of a resource that has a plainer name."""
    return (path.endswith("/") and path != "/") or "//" in path or b"%2f" in raw_path.lower()
