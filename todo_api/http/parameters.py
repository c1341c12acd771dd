"""Reads ids in paths and query strings strictly: every fault is reported."""

import re
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from litestar.params import PathParameter
from msgspec import Meta

from todo_api.http.bodies import explain
from todo_api.http.problems import Fault, InvalidRequest

T = TypeVar("T", bound=msgspec.Struct)

_UUID = r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
_LENGTH = 36  # which also refuses the newline that Python's $ lets through
_CANONICAL = "A UUID in its canonical form (RFC 9562, section 4)"

Id = Annotated[
    str,
    Meta(pattern=_UUID, max_length=_LENGTH, description=_CANONICAL, extra_json_schema={"format": "uuid"}),
]
PathId = Annotated[  # Litestar overlooks a Meta inside FromPath
    str,
    PathParameter(pattern=_UUID, max_length=_LENGTH, description=_CANONICAL, schema_extra={"format": "uuid"}),
]


def read_query(request: Request[Any, Any, Any], into: type[T]) -> T:
    """Read the query string into a Struct whose fields are the parameters of the operation.

    Raises InvalidRequest, with a fault for every parameter that is unknown, repeated or wrong.
    """
    text = request.scope["query_string"]
    if not text:
        return into()
    escaped = "surrogateescape"  # bytes that are not UTF-8 become surrogates, which are reported below
    pairs = parse_qsl(text.decode(errors=escaped), keep_blank_values=True, errors=escaped)
    fields = {field.encode_name: field for field in msgspec.structs.fields(into)}
    values: dict[str, Any] = {}
    faults = []
    for name, value in pairs:
        if name not in fields:
            known = f" The parameters are {', '.join(fields)}." if fields else ""
            shown = name.encode(errors="replace").decode()
            faults.append(Fault(f"There is no parameter of this name.{known}", parameter=shown))
        elif name in values:
            faults.append(Fault("This parameter may occur only once.", parameter=name))
        else:
            values[name] = None
            try:
                value.encode()
                values[name] = _convert(value, fields[name].type)
            except UnicodeEncodeError:
                faults.append(Fault("Must be UTF-8, percent-encoded.", parameter=name))
            except msgspec.ValidationError as error:
                faults.append(Fault(explain(error, fields[name].type), parameter=name))
    if faults:
        raise InvalidRequest(*faults)
    return into(**values)


class NoParameters(msgspec.Struct):
    """The query of an operation that has no parameters."""


async def refuse_parameters(request: Request[Any, Any, Any]) -> None:
    """Refuse a query string before the handler runs, unless its decorator has `query=`: then it reads it."""
    if "query" not in request.route_handler.opt:
        read_query(request, NoParameters)


_LITERAL = re.compile(r"true|false|0|-?[1-9][0-9]{0,17}", re.ASCII)


def _convert(text: str, annotation: Any) -> object:
    """Convert a parameter, taking numbers and booleans only as JSON writes them: not 1.0, +1, 01 or TRUE."""
    try:
        return msgspec.convert(text, annotation)
    except msgspec.ValidationError:
        if not _LITERAL.fullmatch(text):
            raise
        return msgspec.convert(msgspec.json.decode(text), annotation)
