"""HEAD and OPTIONS on every route.

Litestar 2 does not answer HEAD, and its own OPTIONS handler names only the first method of a path.
"""

from typing import Any

from litestar import Request, Response
from litestar.exceptions import MethodNotAllowedException
from litestar.plugins import ReceiveRoutePlugin
from litestar.routes import BaseRoute, HTTPRoute

from todo_api.http.bodies import JSON


class CompleteMethods(ReceiveRoutePlugin):
    """Answers HEAD wherever GET is answered, and leaves OPTIONS to the exception handler."""

    def receive_route(self, route: BaseRoute) -> None:
        """Complete the methods of a route that was just registered."""
        if isinstance(route, HTTPRoute):
            handlers = route.route_handler_map
            handlers.pop("OPTIONS")
            if "GET" in handlers:
                handlers["HEAD"] = handlers["GET"]


def allow(error: MethodNotAllowedException) -> dict[str, str]:
    """The header `Allow` with every method of the path."""
    return {"Allow": f"{(error.headers or {})['allow']}, OPTIONS"}


def answer_options(request: Request[Any, Any, Any], error: MethodNotAllowedException) -> Response[Any]:
    """Answer OPTIONS with `Allow`, and with `Accept-Patch` (RFC 5789, section 3.1) where PATCH is allowed."""
    headers = allow(error)
    if "PATCH" in headers["Allow"]:
        path = request.scope["path"].removeprefix(request.scope["root_path"])
        _, handler, *_ = request.app.asgi_router.handle_routing(path=path, method="PATCH")
        headers["Accept-Patch"] = ", ".join(handler.opt.get("body_types", (JSON,)))
    return Response(None, status_code=204, headers=headers)
