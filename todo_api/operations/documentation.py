"""The documentation in a browser: the interactive page at /schema, and a page for each problem type."""

import gzip
import re
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import msgspec
from litestar import Controller, MediaType, Response, get
from litestar.params import FromPath
from litestar.response import Redirect
from swagger_ui_bundle import swagger_ui_path

from todo_api.http import openapi
from todo_api.http.bodies import StrictRequest
from todo_api.http.preconditions import content_tag, is_unchanged, read_preconditions
from todo_api.http.problems import Fault, InvalidRequest, NotFound, Problem, problem_types

_read = lru_cache(Path.read_bytes)
_OURS = Path(__file__).parent / "assets"
_ASSETS = {
    "swagger-ui.css": (swagger_ui_path, "text/css"),
    "swagger-ui-bundle.js": (swagger_ui_path, "text/javascript"),
    "favicon-32x32.png": (swagger_ui_path, "image/png"),
    "pages.css": (_OURS, "text/css"),
    "page.js": (_OURS, "text/javascript"),
}
_HTML = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{path}/assets/favicon-32x32.png">
<link rel="stylesheet" href="{path}/assets/pages.css">
{content}
</html>
"""
# Relative references survive a proxy that serves the page below a prefix.
_PAGE = _HTML.format(
    title="todo-api",
    path="schema",
    content="""<link rel="stylesheet" href="schema/assets/swagger-ui.css">
<script defer src="schema/assets/swagger-ui-bundle.js"></script>
<script defer src="schema/assets/page.js"></script>
<div id="page"></div>""",
)
_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "style-src 'self'; img-src 'self'"
)
_SWAGGER_POLICY = f"{_POLICY} data:; script-src 'self'; connect-src 'self'"


class DocumentationController(Controller):
    """The OpenAPI document and the pages around it. The document does not describe these routes."""

    include_in_schema = False

    @get("/")
    async def redirect_to_page(self, request: StrictRequest) -> Redirect:
        """Send a browser to the documentation."""
        return Redirect(f"{request.root_path}/schema")

    @get("/schema", media_type=MediaType.HTML)
    async def show_page(self, request: StrictRequest) -> Response[Any]:
        """Swagger UI. It loads files of this host only."""
        if request.scope["raw_path"].endswith(b"/"):
            return Redirect(f"{request.root_path}/schema")
        return Response(_PAGE, headers={"Content-Security-Policy": _SWAGGER_POLICY})

    @get(["/schema/assets/{name:str}", "/favicon.ico"])
    async def get_asset(
        self, request: StrictRequest, name: FromPath[str] = "favicon-32x32.png"
    ) -> Response[Any]:
        """One of the files that the pages need, or the icon that browsers ask for."""
        if name not in _ASSETS:
            raise NotFound
        directory, media_type = _ASSETS[name]
        return _file(_read(directory / name), media_type, request, "max-age=86400")

    @get(["/schema/openapi.json", "/schema/openapi.yaml"])
    async def get_document(self, request: StrictRequest) -> Response[Any]:
        """The OpenAPI document, as JSON or YAML."""
        document = openapi.build(request.app, request.root_path)
        if request.scope["path"].endswith(".yaml"):
            return _file(msgspec.yaml.encode(document), "application/yaml", request)
        return _file(msgspec.json.encode(document), "application/json", request)

    @get("/problems", media_type=MediaType.HTML)
    async def list_problems(self, request: StrictRequest) -> Response[str]:
        """Every problem type, by status."""
        root = request.root_path
        entries = "".join(
            f'<dt>{kind.status_code} <a href="{root}{kind.uri}">{kind.title}</a><dd>{_html(kind.detail)}\n'
            for kind in problem_types()
        )
        return _page("Problems", f"<dl>\n{entries}</dl>", root)

    @get("/problems/{slug:str}", media_type=MediaType.HTML)
    async def get_problem(self, slug: FromPath[str], request: StrictRequest) -> Response[str]:
        """Explain one problem type, whose URI is this page's path."""
        root = request.root_path
        for kind in problem_types():
            if kind.uri == f"/problems/{slug}":
                return _page(kind.title, _explanation(kind), root)
        raise NotFound


def _file(
    content: bytes, media_type: str, request: StrictRequest, caching: str = "no-cache"
) -> Response[Any]:
    """A response with an entity tag, compressed if the client accepts gzip."""
    accepted = request.fields.get(b"accept-encoding", b"")
    zipped = bool(re.search(rb"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", accepted))
    body, tag = _encoded(content, zipped)
    headers = {"ETag": tag, "Cache-Control": caching, "Vary": "Accept-Encoding"}
    if is_unchanged(read_preconditions(request.fields), tag):
        return Response(None, status_code=304, headers=headers)
    if zipped:
        headers["Content-Encoding"] = "gzip"
    return Response(body, media_type=media_type, headers=headers)


@lru_cache(maxsize=16)
def _encoded(content: bytes, zipped: bool) -> tuple[bytes, str]:
    body = gzip.compress(content, mtime=0) if zipped else content
    return body, content_tag(body)


def _explanation(kind: type[Problem]) -> str:
    """The cause, the remedy and an example, as HTML."""
    faults = [Fault("This field is required.", pointer="/title")] if kind is InvalidRequest else []
    details = kind(*faults).describe("/api/0f9b1d5e-6f0a-4c3b-9a53-8a6f5d0c2b71/tasks", "5f0c1ea2b4d94b0f")
    example = msgspec.json.format(msgspec.json.encode(details)).decode()
    return (
        f"<p>Status {kind.status_code}, type <code>{kind.uri}</code>\n"
        f"<h2>Cause</h2>\n<p>{_html(kind.detail)}\n"
        f"<h2>Remedy</h2>\n<p>{_html(kind.remedy)}\n"
        f"<h2>Example</h2>\n<pre>{escape(example)}</pre>\n"
    )


def _html(text: str) -> str:
    return re.sub("`(.+?)`", r"<code>\1</code>", escape(text))


def _page(title: str, content: str, root: str) -> Response[str]:
    links = f'<p><a href="{root}/problems">All problems</a> · <a href="{root}/schema">API documentation</a>'
    main = f"<main>\n<h1>{title}</h1>\n{content}{links}\n</main>"
    page = _HTML.format(title=title, path=f"{root}/schema", content=main)
    return Response(page, headers={"Content-Security-Policy": _POLICY})
