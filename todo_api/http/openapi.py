"""The OpenAPI 3.1 document, built from the routes: their decorators, type annotations and docstrings.

Litestar's own generator lacks links and the headers of errors, and its schemas are not what msgspec checks.

A route's decorator takes what its types do not say: ``summary``, ``raises`` (problem types),
``response_headers``, ``request_headers``, ``query`` (the Struct of the query string), ``body_types`` (media
types; the first is documented) and ``example`` (a request body). The return annotation
``Annotated[Answer, Task]`` names the type of the response body. A controller's ``opt["raises"]`` lists the
problems that all its operations share. ``python -m tests.examples`` writes real responses to
``examples.json``.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from http import HTTPStatus
from importlib.metadata import metadata
from inspect import getdoc
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar
from litestar.datastructures import ResponseHeader
from litestar.handlers import HTTPRouteHandler

from todo_api.http.bodies import JSON, struct_of
from todo_api.http.handlers import (
    METHODS,
    describe_parameter,
    documented,
    operation_id,
    response_model,
    shared_parameters,
)
from todo_api.http.headers import ACCEPT_PATCH, HEADER_TYPES, REQUEST_ID, RETRY_AFTER
from todo_api.http.patterns import publish
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
)

Json = dict[str, Any]

_WITH_BODY = (MalformedBody, BodyTooLarge, UnsupportedMediaType, InvalidRequest)
_EXPECTED = {404, 409, 412, 422, 503}  # each gets a response of its own; all others share `default`

_INTRODUCTION = """\
{summary}

- **Errors** are `application/problem+json` (RFC 9457). `type` is the path of a page about the error. \
[List of all errors](problems).
- **Retries:** with an `Idempotency-Key`, a create runs only once. After a 503, wait `Retry-After` seconds.
- **Updates:** a task has an `ETag`. With `If-Match`, a write runs only if nobody has changed the task since.
- **Pages:** as long as a list has more tasks, `Link` has the address of the next page.
- **Methods:** `HEAD` works wherever `GET` does, and `OPTIONS` lists the methods of a path.
- **Tracing:** if you send an `X-Request-Id`, the response and the service's log lines have it too.
"""


def build(app: Litestar, root_path: str = "") -> Json:
    """The document of every route without ``include_in_schema=False``. ``root_path`` is its server."""
    return _build(app) | {"servers": [{"url": root_path or "/"}]}


@lru_cache(maxsize=1)
def _build(app: Litestar) -> Json:
    return _Builder(app).document


class _Builder:
    def __init__(self, app: Litestar) -> None:
        self.components: dict[str, Json] = {"schemas": {}, "parameters": {}, "headers": {}}
        self.examples = msgspec.json.decode((Path(__file__).parent / "examples.json").read_bytes())
        self.tags: Json = {}
        paths: dict[str, Json] = {}
        routes = sorted(documented(app), key=lambda each: (each[0], METHODS.index(each[1])))
        for path, method, handler in routes:
            paths.setdefault(path, {})[method.lower()] = self.operation(method, handler)
        _link(paths)
        about = metadata("todo-api")
        self.document = {
            "openapi": "3.1.0",
            "info": {
                "title": about["Name"],
                "version": about["Version"],
                "description": _INTRODUCTION.format(summary=about["Summary"]),
                "contact": {"name": "The operator of this service"},
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "tags": [{"name": name, "description": text} for name, text in self.tags.items()],
            "paths": paths,
            "components": {name: dict(sorted(each.items())) for name, each in self.components.items()},
        }

    def operation(self, method: str, handler: HTTPRouteHandler) -> Json:
        """One operation, with the problems that its declaration names or implies."""
        tags = handler.resolve_tags()
        controller = handler.fn.__globals__[handler.fn.__qualname__.partition(".")[0]]
        self.tags |= dict.fromkeys(tags, getdoc(controller))
        shared = list(shared_parameters(handler))
        described: Json = {
            "tags": tags,
            "summary": handler.summary,
            "description": getdoc(handler.fn),
            "operationId": operation_id(handler),
            "parameters": [*map(self.shared, shared), *self.query_parameters(handler)],
        }
        kinds = [*(handler.raises or ()), *handler.opt.get("raises", ()), InternalError]
        if any(parameter["in"] == "path" for parameter in shared):
            kinds.append(NotFound)
        if handler.parsed_data_field:
            described["requestBody"] = self.body(handler)
            kinds += _WITH_BODY
        examples = self.examples.get(described["operationId"], {})
        status = str(handler.status_code)
        responses = {status: self.success(handler, examples.get(status))}
        if method == "GET" and IF_NONE_MATCH in handler.opt.get("request_headers", ()):
            headers = self.header_refs(*handler.resolve_response_headers())
            responses["304"] = {"description": HTTPStatus(304).phrase, "headers": headers}
        headers_of = {"503": [RETRY_AFTER], "default": [ACCEPT_PATCH] if method == "PATCH" else []}
        by_status = defaultdict(list)
        for kind in kinds:
            by_status[str(kind.status_code) if kind.status_code in _EXPECTED else "default"].append(kind)
        for status, group in by_status.items():
            responses[status] = self.problem(group, examples, *headers_of.get(status, ()))
        described["responses"] = dict(sorted(responses.items()))
        return described

    def query_parameters(self, handler: HTTPRouteHandler) -> Iterator[Json]:
        """The fields of the Struct that the handler reads its query into."""
        query = handler.opt.get("query")
        for parameter in msgspec.structs.fields(query) if query else ():
            schema = self.schema(parameter.type)
            schema = dict(schema.get("anyOf", [schema])[0])  # a parameter is left out, never null
            default = {} if parameter.default is None else {"default": parameter.default}
            description = schema.pop("description")
            yield describe_parameter(parameter.encode_name, "query", description, schema | default)

    def shared(self, parameter: Json) -> Json:
        """A reference to a parameter that several operations have."""
        self.components["parameters"][parameter["name"]] = parameter
        return {"$ref": f"#/components/parameters/{parameter['name']}"}

    def body(self, handler: HTTPRouteHandler) -> Json:
        """The request body, which is optional if the handler has a default for it.

        Only one media type is documented: from two, generators make the type ``Task | Task``.
        """
        field = handler.parsed_data_field
        assert field is not None
        content = {"schema": self.schema(struct_of(field.annotation)), "example": handler.opt["example"]}
        media_type, *_ = handler.opt.get("body_types", (JSON,))
        return {"required": field.is_required, "content": {media_type: content}}

    def success(self, handler: HTTPRouteHandler, example: Any) -> Json:
        """The response on success."""
        response: Json = {
            "description": HTTPStatus(handler.status_code).phrase,
            "headers": self.header_refs(*handler.resolve_response_headers()),
        }
        if (model := response_model(handler)) is not None:
            media_type = "text/plain" if model is str else JSON
            content = {"schema": self.schema(model)} | ({} if example is None else {"example": example})
            response["content"] = {media_type: content}
        return response

    def problem(self, kinds: Iterable[type[Problem]], examples: Json, *headers: ResponseHeader) -> Json:
        """The response for some problem types, with an example of each."""
        found = {kind.uri.rpartition("/")[2]: kind for kind in kinds}
        shown = {
            slug: {"summary": kind.title, "value": examples[slug]}
            for slug, kind in found.items()
            if slug in examples
        }
        return {
            "description": "; ".join(f"{kind.status_code} {kind.title}" for kind in found.values()),
            "headers": self.header_refs(*headers),
            "content": {MEDIA_TYPE: {"schema": self.schema(ProblemDetails), "examples": shown}},
        }

    def header_refs(self, *headers: ResponseHeader) -> Json:
        """References to the headers of a response; every response has the request's id."""
        for header in (*headers, REQUEST_ID):
            self.components["headers"][header.name] = {
                "description": header.description,
                "required": header.required,
                "schema": {"type": HEADER_TYPES.get(header.name, "string")},
            }
        names = sorted(header.name for header in (*headers, REQUEST_ID))
        return {name: {"$ref": f"#/components/headers/{name}"} for name in names}

    def schema(self, annotation: Any) -> Json:
        """The schema that msgspec checks by. The schemas that it refers to become components."""
        (schema,), components = msgspec.json.schema_components(
            [annotation], ref_template="#/components/schemas/{name}"
        )
        self.components["schemas"] |= publish(components)
        published: Json = publish(schema)
        return published


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
