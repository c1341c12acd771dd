"""Reads JSON bodies strictly: nothing is guessed, and every fault is reported with its location."""

import json
import typing
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any

import msgspec
from litestar import Request

from todo_api.http.headers import Fields
from todo_api.http.problems import (
    BODY_LIMIT,
    BadRequest,
    BodyTooLarge,
    Fault,
    InvalidRequest,
    MalformedBody,
    UnsupportedMediaType,
)

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON body is decoded once, strictly, into the type that its handler declares.

    A handler accepts other media types than ``application/json`` with ``body_types=``.
    Raises UnsupportedMediaType, BodyTooLarge, MalformedBody for what is not JSON, InvalidRequest for JSON
    that does not fit the type, and BadRequest if the client leaves before the end of the body.
    """

    _whole: bytes | None = None

    @property
    def fields(self) -> Fields:
        """The header fields, read once by the middleware."""
        fields: Fields = self.scope["state"]["fields"]
        return fields

    @property
    def root_path(self) -> str:
        """The path prefix that a proxy has removed."""
        root_path: str = self.scope["root_path"]
        return root_path

    async def body(self) -> bytes:
        """Check the headers that describe the body, then receive all of it."""
        if self._whole is None:
            # Check first: reading a body answers "Expect: 100-continue".
            length = int(self.fields.get(b"content-length", 0))
            if length > BODY_LIMIT:
                raise BodyTooLarge
            if length or b"transfer-encoding" in self.fields:
                self._check_headers()
            whole, more = b"", True
            while more:
                message: Any = await self.receive()
                if message["type"] == "http.disconnect":
                    raise BadRequest
                whole, more = whole + message["body"], message["more_body"]
                if len(whole) > BODY_LIMIT:
                    raise BodyTooLarge
            self._whole = whole
        return self._whole

    async def json(self) -> Any:
        """The body, as an instance of the type that the handler's ``data`` is annotated with."""
        field = self.route_handler.parsed_data_field
        assert field is not None  # Litestar reads the body only if the handler declares one
        return _decode(await self.body(), field.annotation)

    def _check_headers(self) -> None:
        accepted = self.route_handler.opt.get("body_types", (JSON,))
        if self.fields.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMediaType(
                detail="Send the body without a Content-Encoding.", headers={"Accept-Encoding": "identity"}
            )
        if not _is_accepted(self.fields.get(b"content-type", b""), accepted):
            raise UnsupportedMediaType(
                detail=f"Send the body as {' or '.join(accepted)}, in UTF-8.",
                headers={"Accept-Patch": ", ".join(accepted)} if self.method == "PATCH" else None,
            )


@lru_cache(maxsize=64)
def _is_accepted(content_type: bytes, accepted: tuple[str, ...]) -> bool:
    media_type, _, parameters = content_type.decode("latin-1").lower().partition(";")
    pairs = [parameter.strip().partition("=") for parameter in parameters.split(";")]
    charsets = {value.strip('" ') for name, _, value in pairs if name == "charset"}
    return media_type.strip() in accepted and charsets <= {"utf-8", "utf8"}


def _decode(body: bytes, into: Any) -> Any:
    try:
        try:
            decoded = msgspec.json.decode(body, type=into)
        except msgspec.ValidationError as error:
            with suppress(msgspec.ValidationError):  # a number out of range is JSON all the same
                msgspec.json.decode(body)  # msgspec stops at the first fault; the rest may not be JSON at all
            raise InvalidRequest(*_faults(body, struct_of(into), str(error))) from None
        if repeated := _repeated(body):
            raise InvalidRequest(*repeated)
        return decoded
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedBody from None


_read_members = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode
_read_pairs = json.JSONDecoder(object_pairs_hook=list, parse_int=str).decode


def _repeated(body: bytes) -> list[Fault]:
    """Faults for names that occur twice (RFC 8259, section 4). msgspec would keep the last value."""
    if body.count(b":") == len(_read_members(body) or ()):  # each name is followed by a colon
        return []
    names = [name for name, _ in _read_pairs(body.decode()) or ()]
    if len(names) == len(set(names)):
        return []
    repeated = (name for name in dict.fromkeys(names) if names.count(name) > 1)
    return [Fault("This field occurs more than once.", pointer=_pointer(name)) for name in repeated]


def _faults(body: bytes, into: type[msgspec.Struct], first: str) -> list[Fault]:
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return [Fault(_plain(first), pointer="")]
    faults = _repeated(body)
    for field in msgspec.structs.fields(into):
        member = members.pop(field.encode_name, None)
        if member is not None:
            try:
                msgspec.json.decode(member, type=field.type)
            except msgspec.ValidationError as error:
                faults.append(Fault(explain(error, field.type), pointer=_pointer(field.encode_name)))
        elif field.required:
            faults.append(Fault("This field is required.", pointer=_pointer(field.encode_name)))
    faults += [Fault("There is no field of this name.", pointer=_pointer(name)) for name in members]
    return faults


def _pointer(name: str) -> str:
    """The RFC 6901 pointer to a member of the body."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def explain(error: msgspec.ValidationError, annotation: Any) -> str:
    """Say what is valid: the description of the field up to its first semicolon, or msgspec's message."""
    for candidate in (annotation, *typing.get_args(annotation)):
        for note in getattr(candidate, "__metadata__", ()):
            if note.description:
                valid = note.description.partition(";")[0]
                return f"Must be {valid[0].lower()}{valid[1:]}."
    return _plain(str(error))


def _plain(message: str) -> str:
    return message.partition(" - at")[0].replace("`", "") + "."


@cache
def struct_of(annotation: Any) -> Any:
    """The Struct in ``T`` or ``T | None``."""
    return next(t for t in (*typing.get_args(annotation), annotation) if t is not type(None))
