"""The OpenAPI 3.1 document, built from the routes: their decorators, type annotations and docstrings.

Litestar's own generator lacks links and the headers of errors, and its schemas are not what msgspec checks.

A route's decorator describes what its types do not: ``summary``, ``raises`` (problem types),
``response_headers``, and in ``opt`` ``request_headers``, ``query`` (the Struct of its parameters),
``body_types`` (media types) and ``example`` (of a body). The return annotation ``Annotated[Answer, Task]``
names the type of the body. A controller's ``opt["raises"]`` adds the problems that all its operations share.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from http import HTTPStatus
from importlib.metadata import metadata
from inspect import cleandoc, getdoc, getmodule
from typing import Annotated, Any, get_args, get_origin

import msgspec
from litestar import Litestar
from litestar.datastructures import ResponseHeader
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter
from litestar.routes import HTTPRoute

from todo_api.http.bodies import JSON, struct_of
from todo_api.http.headers import ACCEPT_PATCH, ALLOW, ETAG, REQUEST_ID, RETRY_AFTER
from todo_api.http.preconditions import IF_NONE_MATCH
from todo_api.http.problems import (
    MEDIA_TYPE,
    BodyTooLarge,
    InternalError,
    InvalidRequest,
    MalformedBody,
    NotFound,
    Problem,
    ProblemDetails,
    UnsupportedMediaType,
    problem_types,
)

Json = dict[str, Any]
Kinds = Iterable[type[Problem]]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_WITH_BODY = (MalformedBody, BodyTooLarge, UnsupportedMediaType, InvalidRequest)
_EXAMPLE_ID = "5f0c1ea2b4d94b0f8e1d7c3a6b9f2e10"

_INTRODUCTION = """\
{summary}

**Errors** are `application/problem+json` (RFC 9457). `type` identifies the kind of error and is the address
of a page that explains it. `detail` is a sentence for a person. `errors` lists every fault of a request, with
a `pointer` into the body (RFC 6901), a query `parameter` or a `header`. `request_id` finds the log line. A
method that a path does not support is a 405 with `Allow`.

| `type` | status | |
| --- | --- | --- |
{kinds}

**Conditional requests.** A task has a strong `ETag`. Send it in `If-None-Match` to get a 304 while the task
is unchanged. Send it in `If-Match` to change the task only if nobody else has: otherwise the answer is 412.

**Retries.** Send an `Idempotency-Key` and a retried create runs only once. After a 503, wait for the seconds
in `Retry-After`.

**Pages.** If a list has more tasks, `Link` with `rel="next"` is the address of the next page.

`HEAD` works wherever `GET` does, and `OPTIONS` lists the methods of a path. Send an `X-Request-Id` of 1 to
128 visible ASCII characters to choose the request's id. Timestamps are RFC 3339, in UTC.
"""


def build(app: Litestar, root_path: str = "") -> Json:
    """The document of every route without ``include_in_schema=False``. Its server has the path prefix."""
    return _build(app) | {"servers": [{"url": root_path or "/"}]}


@lru_cache(maxsize=1)
def _build(app: Litestar) -> Json:
    return _Builder(app).document


class _Builder:
    def __init__(self, app: Litestar) -> None:
        self.schemas: Json = {}
        self.responses: Json = {}
        self.examples: Json = {}
        self.headers: Json = {}
        self.tags: dict[str, str] = {}
        paths: dict[str, Json] = {}
        routes = sorted(_documented(app), key=lambda each: (each[0], _METHODS.index(each[1])))
        for path, method, handler in routes:
            paths.setdefault(path, {})[method.lower()] = self.operation(path, method, handler)
        _link(paths)
        about = metadata("todo-api")
        kinds = "\n".join(
            f"| [{kind.uri}]({kind.uri}) | {kind.status_code} | {kind.title}. {kind.detail} |"
            for kind in problem_types()
        )
        self.document = {
            "openapi": "3.1.0",
            "info": {
                "title": about["Name"],
                "version": about["Version"],
                "description": _INTRODUCTION.format(summary=about["Summary"], kinds=kinds),
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [],
            "tags": [{"name": name, "description": text} for name, text in self.tags.items()],
            "paths": paths,
            "components": {
                name: dict(sorted(getattr(self, name).items()))
                for name in ("schemas", "responses", "examples", "headers")
            },
        }

    def operation(self, path: str, method: str, handler: HTTPRouteHandler) -> Json:
        """One operation, with the problems that its declaration names or implies."""
        tags = handler.resolve_tags()
        self.tags |= dict.fromkeys(tags, _controller_docstring(handler))
        parameters = [
            *_path_parameters(handler),
            *_header_parameters(handler),
            *self.query_parameters(handler),
        ]
        described: Json = {
            "tags": tags,
            "summary": handler.summary,
            "description": cleandoc(handler.fn.__doc__ or ""),
            "operationId": handler.handler_name,
            "parameters": parameters,
        }
        kinds = [*(handler.raises or ()), *handler.opt.get("raises", ()), InternalError]
        if any(parameter["in"] == "path" for parameter in parameters):
            kinds.append(NotFound)
        if handler.parsed_data_field:
            described["requestBody"] = self.body(handler)
            kinds += _WITH_BODY
        responses = {handler.status_code: self.success(handler)}
        if method == "GET" and IF_NONE_MATCH in handler.opt.get("request_headers", ()):
            responses[304] = {"description": HTTPStatus(304).phrase, "headers": self.header_refs(ETAG)}
        for status in {kind.status_code for kind in kinds}:
            responses[status] = self.problem(path, method, status, kinds)
        return described | {"responses": {str(status): responses[status] for status in sorted(responses)}}

    def query_parameters(self, handler: HTTPRouteHandler) -> Iterator[Json]:
        """The fields of the Struct that the handler reads its query into."""
        query = handler.opt.get("query")
        for parameter in msgspec.structs.fields(query) if query else ():
            schema = self.schema(parameter.type)
            schema = dict(schema.get("anyOf", [schema])[0])  # a parameter is left out, never null
            default = {} if parameter.default is None else {"default": parameter.default}
            yield {
                "name": parameter.encode_name,
                "in": "query",
                "description": schema.pop("description"),
                "schema": schema | default,
            }

    def body(self, handler: HTTPRouteHandler) -> Json:
        """The request body, which is optional if the handler has a default for it."""
        field = handler.parsed_data_field
        assert field is not None
        content = {"schema": self.schema(struct_of(field.annotation)), "example": handler.opt["example"]}
        media_types = handler.opt.get("body_types", (JSON,))
        return {"required": field.is_required, "content": dict.fromkeys(media_types, content)}

    def success(self, handler: HTTPRouteHandler) -> Json:
        """The response that is no problem."""
        response: Json = {
            "description": HTTPStatus(handler.status_code).phrase,
            "headers": self.header_refs(*handler.resolve_response_headers()),
        }
        if (model := _model(handler)) is not None:
            media_type = "text/plain" if model is str else JSON
            response["content"] = {media_type: {"schema": self.schema(model)}}
        return response

    def problem(self, path: str, method: str, status: int, kinds: Kinds) -> Json:
        """The response of one status, with an example of each problem type that it can be."""
        found = {kind.uri.rpartition("/")[2]: kind for kind in kinds if kind.status_code == status}
        for slug, kind in found.items():
            example = msgspec.to_builtins(kind().describe(path, _EXAMPLE_ID))
            self.examples.setdefault(slug, {"summary": kind.title, "value": example})
        headers = {405: [ALLOW], 415: [ACCEPT_PATCH] if method == "PATCH" else [], 503: [RETRY_AFTER]}
        name = "-or-".join(found) + ("-of-patch" if status == 415 and method == "PATCH" else "")
        self.responses[name] = {
            "description": "; ".join(f"{kind.title} (`{kind.uri}`)" for kind in found.values()),
            "headers": self.header_refs(*headers.get(status, [])),
            "content": {
                MEDIA_TYPE: {
                    "schema": self.schema(ProblemDetails),
                    "examples": {slug: {"$ref": f"#/components/examples/{slug}"} for slug in found},
                }
            },
        }
        return {"$ref": f"#/components/responses/{name}"}

    def header_refs(self, *headers: ResponseHeader) -> Json:
        """References to the headers of a response; every response has the request's id."""
        for header in (*headers, REQUEST_ID):
            self.headers[header.name] = {
                "description": header.description,
                "required": header.required,
                "schema": {"type": "string"},
            }
        names = sorted(header.name for header in (*headers, REQUEST_ID))
        return {name: {"$ref": f"#/components/headers/{name}"} for name in names}

    def schema(self, annotation: Any) -> Json:
        """The schema that msgspec checks by. The schemas that it refers to become components."""
        (schema,), components = msgspec.json.schema_components(
            [annotation], ref_template="#/components/schemas/{name}"
        )
        self.schemas |= components
        return schema


def _documented(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if method in _METHODS and handler.resolve_include_in_schema():
                    yield route.path_format, method, handler


def _controller_docstring(handler: HTTPRouteHandler) -> str:
    controller = getattr(getmodule(handler.fn), handler.fn.__qualname__.partition(".")[0])
    return getdoc(controller) or ""


def _model(handler: HTTPRouteHandler) -> Any:
    """The type of the body on success: T of ``Annotated[Answer, T]``, or the plain annotation."""
    annotation = handler.parsed_fn_signature.return_type.raw
    return get_args(annotation)[1] if get_origin(annotation) is Annotated else annotation


def _path_parameters(handler: HTTPRouteHandler) -> Iterator[Json]:
    for field in handler.parsed_fn_signature.parameters.values():
        place = field.kwarg_definition
        if isinstance(place, PathParameter):
            schema = {"type": "string", "pattern": place.pattern} | (place.schema_extra or {})
            yield _parameter(field.name, "path", place.description, schema, required=True)


def _header_parameters(handler: HTTPRouteHandler) -> Iterator[Json]:
    for header in handler.opt.get("request_headers", ()):
        yield _parameter(header.name, "header", header.description, header.schema, required=False)


def _parameter(name: str, place: str, description: str | None, schema: Json, *, required: bool) -> Json:
    return {"name": name, "in": place, "description": description, "required": required, "schema": schema}


def _link(paths: Json) -> None:
    """Link each creation to every operation on the new resource: its id is ``<model>_id`` in their paths."""
    for path, item in paths.items():
        if created := item.get("post", {"responses": {}})["responses"].get("201"):
            id_name = created["content"][JSON]["schema"]["$ref"].rpartition("/")[2].lower() + "_id"
            values = {name: f"$request.path.{name}" for name in _names(path)} | {
                id_name: "$response.body#/id"
            }
            created["links"] = {
                operation["operationId"]: {
                    "operationId": operation["operationId"],
                    "parameters": {name: values[name] for name in _names(other)},
                }
                for other, operations in paths.items()
                if id_name in _names(other) and values.keys() >= set(_names(other))
                for operation in operations.values()
            }


def _names(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)
