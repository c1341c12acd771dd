"""What a person reads in a browser: the interactive page at /schema, and a page for each problem."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Any

import msgspec
from litestar import Controller, MediaType, Request, Response, get
from litestar.params import FromPath
from litestar.response import File
from swagger_ui_bundle import swagger_ui_path

from todo_api.http import openapi
from todo_api.http.problems import NotFound, Problem, problem_types

_SCRIPT = 'SwaggerUIBundle({url: "/schema/openapi.json", dom_id: "#page", deepLinking: true})'
_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_PAGE = f"""<!doctype html>
<html lang="en">
<title>todo-api</title>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/schema/assets/favicon-32x32.png">
<link rel="stylesheet" href="/schema/assets/swagger-ui.css">
<div id="page"></div>
<script src="/schema/assets/swagger-ui-bundle.js"></script>
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
    """The OpenAPI document and the pages around it; they are no part of the API that it describes."""

    include_in_schema = False

    @get("/schema", media_type=MediaType.HTML)
    async def show_page(self) -> Response[str]:
        """Swagger UI, from files of this host only."""
        return Response(_PAGE, headers={"Content-Security-Policy": _POLICY})

    @get("/schema/assets/{name:str}")
    async def get_asset(self, name: FromPath[str]) -> File:
        """Send one of the files that the page is made of."""
        if name not in _ASSETS:
            raise NotFound
        return File(
            swagger_ui_path / name,
            media_type=_ASSETS[name],
            content_disposition_type="inline",
            headers={"Cache-Control": "max-age=86400"},
        )

    @get("/schema/openapi.json", media_type=MediaType.JSON)
    async def get_json(self, request: Request[Any, Any, Any]) -> bytes:
        """The OpenAPI document."""
        return msgspec.json.encode(openapi.build(request.app))

    @get("/schema/openapi.yaml", media_type="application/yaml")
    async def get_yaml(self, request: Request[Any, Any, Any]) -> bytes:
        """The same as YAML."""
        return msgspec.yaml.encode(openapi.build(request.app))

    @get("/problems", media_type=MediaType.HTML)
    async def list_problems(self) -> Response[str]:
        """Show every problem."""
        return _explain("Problems", *problem_types())

    @get("/problems/{slug:str}", media_type=MediaType.HTML)
    async def get_problem(self, slug: FromPath[str]) -> Response[str]:
        """Explain one problem, whose ``type`` is this page's address."""
        for kind in problem_types():
            if kind.uri == f"/problems/{slug}":
                return _explain(kind.title, kind)
        raise NotFound


def _explain(title: str, *kinds: type[Problem]) -> Response[str]:
    entries = "".join(
        f'<dt><a href="{kind.uri}">{escape(kind.title)}</a> ({kind.status_code})<dd>{escape(kind.detail)}'
        for kind in kinds
    )
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    page = f'{head}<h1>{escape(title)}</h1><dl>{entries}</dl><p><a href="/problems">Every problem</a></html>'
    return Response(page, headers={"Content-Security-Policy": "default-src 'none'"})
