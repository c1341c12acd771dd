"""What every request gets, also those that no route takes: an id, safe headers, a log line, a count."""

import re
from itertools import count
from secrets import token_hex
from time import perf_counter

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from todo_api.observability import logs
from todo_api.observability.metrics import Metrics

_SANE = re.compile(rb"[\x21-\x7e]{1,128}")
_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"])
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_NO_CACHE = (b"cache-control", b"no-cache")


class Edge:
    """Wraps the whole application, since middleware does not see a 404 or 405 of the router.

    ``unmatched`` stands for the route that they lack, and ``other`` for a method that RFC 9110 and
    RFC 5789 do not know: what clients make up becomes no label and no log field.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, access_log: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._access_log = access_log
        # Unique without asking the kernel for each: random for this process, then counted.
        self._prefix = token_hex(8)
        self._count = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the request an id, its response the headers, and tell of it once it has ended."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _SANE.fullmatch(value):
                request_id = value.decode("ascii")
                break
        else:
            request_id = f"{self._prefix}{next(self._count):016x}"
        scope["state"]["request_id"] = request_id
        logs.request_id.set(request_id)
        if _has_another_name(scope["path"], scope["raw_path"]):
            scope["path"] = "/\0"  # routes nowhere
        status = 500  # what the server answers where no response began

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], _NOSNIFF, (b"x-request-id", request_id.encode())]
                for name, _ in headers:
                    if name == b"cache-control":
                        break
                else:
                    headers.append(_NO_CACHE)
                message["headers"] = headers
            await send(message)

        self._metrics.in_flight += 1
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._metrics.in_flight -= 1
            seconds = perf_counter() - started
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = scope.get("path_template") or "unmatched"
            self._metrics.request(method, route, status, seconds)
            if self._access_log:
                logs.access(method, route, status, seconds, scope["raw_path"])


def _has_another_name(path: str, raw_path: bytes) -> bool:
    """Whether the router would take the path for that of a resource that has a plainer name."""
    return (path.endswith("/") and path != "/") or "//" in path or b"%2f" in raw_path.lower()
