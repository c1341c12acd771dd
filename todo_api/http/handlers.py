"""Reads what handlers declare, for the OpenAPI document."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter
from litestar.routes import HTTPRoute

Json = dict[str, Any]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")  # in the order of the document


def documented(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    """Each path, method and handler that the document describes."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if method in METHODS and handler.resolve_include_in_schema():
                    yield route.path_format, method, handler


def operation_id(handler: HTTPRouteHandler) -> str:
    """The handler's name in camel case, which generators convert to the style of their language."""
    return re.sub("_(.)", lambda letter: letter[1].upper(), handler.handler_name)


def response_model(handler: HTTPRouteHandler) -> Any:
    """The type of the body on success, if there is one: T of ``Annotated[Answer, T]``, or T."""
    annotation = handler.parsed_fn_signature.return_type.raw
    model = get_args(annotation)[1] if get_origin(annotation) is Annotated else annotation
    return None if model is type(None) else model


def shared_parameters(handler: HTTPRouteHandler) -> Iterator[Json]:
    """The parameters of the path and the headers that the handler reads."""
    for field in handler.parsed_fn_signature.parameters.values():
        place = field.kwarg_definition
        if isinstance(place, PathParameter):
            schema = {"type": "string", "pattern": place.pattern} | (place.schema_extra or {})
            yield describe_parameter(field.name, "path", place.description, schema, required=True)
    for header in handler.opt.get("request_headers", ()):
        yield describe_parameter(header.name, "header", header.description, header.schema)


def describe_parameter(
    name: str, place: str, description: str | None, schema: Json, *, required: bool = False
) -> Json:
    """A parameter object (OpenAPI 3.1, section 4.8.12)."""
    return {"name": name, "in": place, "description": description, "required": required, "schema": schema}
