"""Entity tags, If-Match and If-None-Match (RFC 9110, sections 8.8.3, 13.1 and 13.2.2)."""

import re
from hashlib import sha256
from typing import NamedTuple

from todo_api.http.headers import Fields, RequestHeader
from todo_api.http.problems import Fault, InvalidRequest, PreconditionFailed, Problem

_TAG = r'(W/)?"[!#-~\x80-\xff]*"'
_LIST = rf"^(\*|[ \t,]*{_TAG}([ \t]*,[ \t,]*{_TAG})*[ \t,]*)$"
_SCHEMA = {"type": "string", "pattern": _LIST}

IF_MATCH = RequestHeader(
    "If-Match", "Proceed only if the current version has one of these tags, or any version with `*`", _SCHEMA
)
IF_NONE_MATCH = RequestHeader(
    "If-None-Match", "Proceed only if the current version has none of these tags; `*` means any tag", _SCHEMA
)

BOTH = (IF_MATCH, IF_NONE_MATCH)


class Condition:
    """The tags that one of the two headers lists; `*` stands for all."""

    def __init__(self, header: RequestHeader, value: str) -> None:
        """Parse a header's value. Raises InvalidRequest.

        Weak tags count as strong ones. For If-Match this deviates from RFC 9110: the service sends strong
        tags, but a proxy that compresses weakens them, and every conditional write behind it would fail.
        """
        value = value.strip(" \t")
        self.is_any = value == "*"
        if not re.fullmatch(_LIST, value):
            fault = Fault(
                'Must be * or entity tags in double quotes, such as "abc", "def".', header=header.name
            )
            raise InvalidRequest(fault)
        self.tags = re.findall(r'"[^"]*"', value)

    def names(self, tag: str) -> bool:
        """Whether a tag is in the list."""
        return self.is_any or tag in self.tags


class Preconditions(NamedTuple):
    """The conditions of a request; None where the header is not sent."""

    if_match: Condition | None
    if_none_match: Condition | None


NO_PRECONDITIONS = Preconditions(None, None)


def read_preconditions(fields: Fields) -> Preconditions:
    """Parse both headers. Raises InvalidRequest."""
    if_match, if_none_match = fields.get(b"if-match"), fields.get(b"if-none-match")
    if if_match is None and if_none_match is None:
        return NO_PRECONDITIONS
    return Preconditions(
        None if if_match is None else Condition(IF_MATCH, if_match.decode("latin-1")),
        None if if_none_match is None else Condition(IF_NONE_MATCH, if_none_match.decode("latin-1")),
    )


def content_tag(*content: bytes) -> str:
    """A strong tag for exactly this content."""
    return f'"{sha256(b"".join(content)).hexdigest()[:32]}"'


def is_unchanged(conditions: Preconditions, tag: str, failed: type[Problem] = PreconditionFailed) -> bool:
    """Whether to answer a GET or HEAD with 304. Raises `failed` if If-Match does not list the tag."""
    if conditions.if_match and not conditions.if_match.names(tag):
        raise failed
    return conditions.if_none_match is not None and conditions.if_none_match.names(tag)
