"""The documentation in a browser: the interactive page at /schema, and a page for each problem type."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape
from typing import Any

import msgspec
from litestar import Controller, MediaType, Request, Response, get
from litestar.params import FromPath
from litestar.response import Redirect
from swagger_ui_bundle import swagger_ui_path

from todo_api.http import openapi
from todo_api.http.bodies import StrictRequest
from todo_api.http.preconditions import content_tag, is_unchanged, read_preconditions
from todo_api.http.problems import NotFound, Problem, problem_types

_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
# Relative references survive a proxy that serves the page below a prefix.
_SCRIPT = 'SwaggerUIBundle({url: "schema/openapi.json", dom_id: "#page", deepLinking: true})'
_PAGE = f"""<!doctype html>
<html lang="en">
<title>todo-api</title>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="schema/assets/favicon-32x32.png">
<link rel="stylesheet" href="schema/assets/swagger-ui.css">
<div id="page"></div>
<script src="schema/assets/swagger-ui-bundle.js"></script>
<script>{_SCRIPT}</script>
</html>
"""
_DIGEST = b64encode(sha256(_SCRIPT.encode()).digest()).decode()
_POLICY = "; ".join([
    "default-src 'none'",
    f"script-src 'self' 'sha256-{_DIGEST}'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
])  # fmt: skip


class DocumentationController(Controller):
    """The OpenAPI document and the pages around it. The document does not describe these routes."""

    include_in_schema = False

    @get("/")
    async def redirect_to_page(self, request: StrictRequest) -> Redirect:
        """Send a browser to the documentation."""
        return Redirect(f"{request.scope['root_path']}/schema")

    @get("/schema", media_type=MediaType.HTML)
    async def show_page(self, request: StrictRequest) -> Response[Any]:
        """Swagger UI, with files of this host only."""
        if request.scope["raw_path"].endswith(b"/"):
            return Redirect(f"{request.scope['root_path']}/schema")
        return Response(_PAGE, headers={"Content-Security-Policy": _POLICY})

    @get("/schema/assets/{name:str}")
    async def get_asset(self, name: FromPath[str], request: StrictRequest) -> Response[Any]:
        """One of the files that the page needs."""
        return _file(name, request)

    @get("/favicon.ico")
    async def get_icon(self, request: StrictRequest) -> Response[Any]:
        """The icon that browsers ask for on every page."""
        return _file("favicon-32x32.png", request)

    @get("/schema/openapi.json", media_type=MediaType.JSON)
    async def get_json(self, request: Request[Any, Any, Any]) -> bytes:
        """The OpenAPI document."""
        return msgspec.json.encode(openapi.build(request.app, request.scope["root_path"]))

    @get("/schema/openapi.yaml", media_type="application/yaml")
    async def get_yaml(self, request: Request[Any, Any, Any]) -> bytes:
        """The same document as YAML."""
        return msgspec.yaml.encode(openapi.build(request.app, request.scope["root_path"]))

    @get("/problems", media_type=MediaType.HTML)
    async def list_problems(self, request: Request[Any, Any, Any]) -> Response[str]:
        """Every problem type."""
        return _explain("Problems", request.scope["root_path"], *problem_types())

    @get("/problems/{slug:str}", media_type=MediaType.HTML)
    async def get_problem(self, slug: FromPath[str], request: Request[Any, Any, Any]) -> Response[str]:
        """Explain one problem type, whose URI is this page's path."""
        for kind in problem_types():
            if kind.uri == f"/problems/{slug}":
                return _explain(kind.title, request.scope["root_path"], kind)
        raise NotFound


def _file(name: str, request: StrictRequest) -> Response[Any]:
    if name not in _ASSETS:
        raise NotFound
    content, tag = _read(name)
    headers = {"ETag": tag, "Cache-Control": "max-age=86400"}
    if is_unchanged(read_preconditions(request.fields), tag):
        return Response(None, status_code=304, headers=headers)
    return Response(content, media_type=_ASSETS[name], headers=headers)


@cache
def _read(name: str) -> tuple[bytes, str]:
    content = (swagger_ui_path / name).read_bytes()
    return content, content_tag(content)


def _explain(title: str, root_path: str, *kinds: type[Problem]) -> Response[str]:
    entries = "".join(
        f'<dt><a href="{root_path}{kind.uri}">{escape(kind.title)}</a> ({kind.status_code})'
        f"<dd>{escape(kind.detail)}"
        for kind in kinds
    )
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    end = f'<p><a href="{root_path}/problems">Every problem</a></html>'
    page = f"{head}<h1>{escape(title)}</h1><dl>{entries}</dl>{end}"
    return Response(page, headers={"Content-Security-Policy": "default-src 'none'"})
