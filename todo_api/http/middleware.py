"""Gives every request, even one that matches no route, a request id, safe headers, a log line and metrics."""

import re
from itertools import count
from secrets import token_hex
from time import perf_counter

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from todo_api.http.headers import combine
from todo_api.http.timestamps import http_date
from todo_api.observability import logs
from todo_api.observability.metrics import Metrics

_SANE = re.compile(rb"[\x21-\x7e]{1,128}")
_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"])
_SLASHED = ("/", "/schema/")  # paths that may end in a slash
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_NO_CACHE = (b"cache-control", b"no-cache")


class RequestMiddleware:
    """Wraps the whole application: Litestar's own middleware runs after routing and misses its 404 and 405.

    In logs and metrics, ``unmatched`` stands for the route of a request that matches none, and ``other`` for
    a method that RFC 9110 and RFC 5789 do not define. So clients cannot create labels.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, access_log: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._access_log = logs.AccessLog() if access_log else None
        # Unique ids without a system call for each: a random prefix of this process, and a counter.
        self._prefix = token_hex(8)
        self._count = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the headers, answer, and record the request when the response has ended."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        fields = combine(list(scope["headers"]))
        sent = fields.get(b"x-request-id")
        if sent is not None and _SANE.fullmatch(sent):
            request_id = sent.decode("ascii")
        else:
            request_id = f"{self._prefix}{next(self._count):016x}"
        scope["state"]["fields"] = fields
        scope["state"]["request_id"] = request_id
        logs.request_id.set(request_id)
        if _is_alias(scope):
            scope["path"] = "/\0"  # matches no route
        status = 500  # what the server answers if no response begins

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [
                    (b"date", http_date()),
                    *message["headers"],
                    _NOSNIFF,
                    (b"x-request-id", request_id.encode()),
                ]
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
                self._access_log.write(method, route, status, seconds, scope["raw_path"])


def _is_alias(scope: HTTPScope) -> bool:
    """Whether a path is another spelling of a route's path, which Litestar would match too."""
    path, raw_path = scope["path"], scope["raw_path"]
    if path.endswith("/") and path.removeprefix(scope["root_path"]) not in _SLASHED:
        return True
    return "//" in path or (b"%" in raw_path and b"%2f" in raw_path.lower())
