"""The OpenAPI 3.1 document, built from the routes: from their decorators, types and docstrings.

Litestar's own generator is not asked: it knows neither links nor the headers of an error, and
shows other schemas than msgspec checks.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from http import HTTPStatus
from importlib.metadata import metadata
from inspect import getdoc, getmodule
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.params import HeaderParameter, PathParameter
from litestar.routes import HTTPRoute
from msgspec import Meta

from todo_api.http import problems
from todo_api.http.problems import KINDS, Kind, Problem
from todo_api.http.requests import JSON, struct_of

Json = dict[str, Any]

_WITH_BODY = (problems.MALFORMED, problems.TOO_LARGE, problems.UNSUPPORTED, problems.INVALID)
# What only the service writes.
MadeId = Annotated[UUID, Meta(extra_json_schema={"readOnly": True})]
MadeAt = Annotated[
    datetime,
    Meta(tz=True, description="In UTC, with microseconds", extra_json_schema={"readOnly": True}),
]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REQUEST_ID = "X-Request-Id"

_ABOUT = """\
{summary}

**Errors.** Each is `application/problem+json` (RFC 9457). `type` stays the same from one occurrence to
the next and is the address of a page that explains it; `detail` is a sentence for a person; `errors` says
what is wrong with a request and where: a `pointer` into the body (RFC 6901), a `parameter` of the query or
a `header`. `request_id` finds the log line. A method that a path does not have is a 405 with `Allow`.

| `type` | status | |
| --- | --- | --- |
{kinds}

**Conditional requests.** A task has a strong `ETag`. Send it as `If-None-Match` to be answered 304 while
nothing has changed, and as `If-Match` to change the task only as you know it: 412 where somebody else was
faster.

**Retries.** `Idempotency-Key` makes the creation of a task safe to repeat. A 503 says in `Retry-After` when
to try again.

**Pages.** A list that goes on names its next page in `Link` with `rel="next"`; follow it as it is.

`HEAD` answers wherever `GET` does, `OPTIONS` names the methods of a path. Times are RFC 3339, in UTC.
"""

# Those that a response may lack are told by False.
_HEADERS = {
    "ETag": ("The version of what is answered, for `If-None-Match` and `If-Match`", True),
    "Location": ("The path of what was created", True),
    "Link": ('The next page, as `</…>; rel="next"` (RFC 8288); the last page has none', False),
    "Retry-After": ("After how many seconds to try again", True),
    "Idempotency-Replayed": (
        "`true` where the request was repeated, so that nothing was created again",
        False,
    ),
    _REQUEST_ID: ("The request's id, which its log lines have too", True),
}


class Operation(NamedTuple):
    """What a decorator says of its handler's answers."""

    summary: str
    status: int
    model: Any
    kinds: tuple[Kind, ...]
    example: Json | None
    headers: tuple[str, ...]


def document(
    summary: str,
    status: int,
    model: Any,
    *kinds: Kind,
    example: Json | None = None,
    headers: tuple[str, ...] = (),
    **options: Any,
) -> Json:
    """The keyword arguments of a route decorator that document its handler.

    ``model`` is the type of the body on success, ``kinds`` are the problems that neither the
    parameters nor the body of a request imply, ``example`` is one of such a body, ``headers`` are
    those of the success. Any further option is handed on.
    """
    return {
        "status_code": status,
        "operation": Operation(summary, status, model, kinds, example, headers),
        **options,
    }


@lru_cache(maxsize=1)
def build(app: Litestar) -> Json:
    """The document of every route that does not opt out by ``include_in_schema=False``; made once."""
    return _Builder(app).document


class _Builder:
    def __init__(self, app: Litestar) -> None:
        self.schemas: Json = {}
        self.responses: Json = {}
        self.examples: Json = {}
        self.tags: dict[str, str | None] = {}
        paths: dict[str, Json] = {}
        for path, method, handler in sorted(
            _documented(app), key=lambda each: (each[0], _METHODS.index(each[1]))
        ):
            paths.setdefault(path, {})[method.lower()] = self.operation(path, handler)
        _link(paths)
        about = metadata("todo-api")
        kinds = "\n".join(
            f"| [{kind.type}]({kind.type}) | {kind.status} | {kind.title}. {kind.detail} |" for kind in KINDS
        )
        self.document = {
            "openapi": "3.1.0",
            "info": {
                "title": about["Name"],
                "version": about["Version"],
                "description": _ABOUT.format(summary=about["Summary"], kinds=kinds),
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": name, "description": text} for name, text in self.tags.items()],
            "paths": paths,
            "components": {
                "schemas": dict(sorted(self.schemas.items())),
                "responses": dict(sorted(self.responses.items())),
                "examples": dict(sorted(self.examples.items())),
                "headers": {
                    name: {"description": text, "required": always, "schema": {"type": "string"}}
                    for name, (text, always) in _HEADERS.items()
                },
                "parameters": {
                    _REQUEST_ID: {
                        "name": _REQUEST_ID,
                        "in": "header",
                        "description": "An id for the request: 1 to 128 visible ASCII characters are "
                        "sent back, anything else is replaced",
                        "schema": {"type": "string"},
                    }
                },
            },
        }

    def operation(self, path: str, handler: HTTPRouteHandler) -> Json:
        """One operation; its responses include all that its parameters and its body imply."""
        operation: Operation = handler.opt["operation"]
        tags = handler.resolve_tags()
        self.tags |= dict.fromkeys(tags, _about_controller(handler))
        parameters = list(self.parameters(handler))
        described: Json = {
            "tags": tags,
            "summary": operation.summary,
            "description": getdoc(handler.fn),
            "operationId": handler.handler_name,
            "parameters": [*parameters, {"$ref": f"#/components/parameters/{_REQUEST_ID}"}],
        }
        kinds = [*operation.kinds, problems.DEFECT]
        if "request" in handler.parsed_fn_signature.parameters:  # by which it asks the database
            kinds += (problems.UNAVAILABLE, problems.TIMED_OUT)
        places = {parameter["in"] for parameter in parameters}
        if "path" in places:
            kinds.append(problems.NOT_FOUND)
        if handler.resolve_before_request():  # it refuses parameters that there are not
            kinds.append(problems.INVALID)
        if handler.parsed_data_field:
            described["requestBody"] = self.body(handler, operation.example)
            kinds += _WITH_BODY
        responses = {operation.status: self.success(operation)}
        if any(parameter["name"] == "If-None-Match" for parameter in parameters):
            responses[304] = {"description": "What the client has is current", "headers": _headers("ETag")}
        responses |= {status: self.problem(path, status, kinds) for status in {kind.status for kind in kinds}}
        return described | {"responses": {str(status): responses[status] for status in sorted(responses)}}

    def parameters(self, handler: HTTPRouteHandler) -> Iterator[Json]:
        """Path and header parameters from the signature, those of the query from its Struct."""
        for field in handler.parsed_fn_signature.parameters.values():
            place = field.kwarg_definition
            if isinstance(place, PathParameter | HeaderParameter):
                pattern = {"pattern": place.pattern} if place.pattern else {}
                yield {
                    "name": place.name or field.name,
                    "in": place.param_type.value,
                    "description": place.description,
                    "required": field.is_required,
                    "schema": {"type": "string"} | pattern | (place.schema_extra or {}),
                }
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

    def body(self, handler: HTTPRouteHandler, example: Json | None) -> Json:
        """The request body, which may be left out where the handler has a default for it."""
        field = handler.parsed_data_field
        assert field is not None and example is not None
        content = {"schema": self.schema(struct_of(field.annotation)), "example": example}
        media_types = handler.opt.get("body_types", (JSON,))
        return {"required": field.is_required, "content": dict.fromkeys(media_types, content)}

    def success(self, operation: Operation) -> Json:
        """The one response that is no problem."""
        response: Json = {
            "description": HTTPStatus(operation.status).phrase,
            "headers": _headers(*operation.headers),
        }
        if operation.model is not None:
            media_type = "text/plain" if operation.model is str else JSON
            response["content"] = {media_type: {"schema": self.schema(operation.model)}}
        return response

    def problem(self, path: str, status: int, kinds: Iterable[Kind]) -> Json:
        """The response of one status, with an example of each problem that it may stand for."""
        found = {kind.type.rpartition("/")[2]: kind for kind in kinds if kind.status == status}
        for slug, kind in found.items():
            body = Problem(
                kind.type, kind.title, status, kind.detail, path, "5f0c1ea2b4d94b0f8e1d7c3a6b9f2e10"
            )
            self.examples.setdefault(slug, {"summary": kind.title, "value": msgspec.to_builtins(body)})
        name = "-or-".join(found)
        self.responses[name] = {
            "description": "; ".join(f"{kind.title} (`{kind.type}`)" for kind in found.values()),
            "headers": _headers(*(["Retry-After"] if status == 503 else [])),
            "content": {
                problems.MEDIA_TYPE: {
                    "schema": self.schema(Problem),
                    "examples": {slug: {"$ref": f"#/components/examples/{slug}"} for slug in found},
                }
            },
        }
        return {"$ref": f"#/components/responses/{name}"}

    def schema(self, annotation: Any) -> Json:
        """The schema that msgspec checks by; what it refers to goes to the components."""
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


def _about_controller(handler: HTTPRouteHandler) -> str | None:
    return getdoc(getattr(getmodule(handler.fn), handler.fn.__qualname__.partition(".")[0]))


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, _REQUEST_ID)}


def _link(paths: Json) -> None:
    """Link each creation to every operation on what was created: its id is ``<model>_id`` in their paths."""
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
