r"""Patterns that JSON Schema, ECMA-262, RE2, Java and Python read alike (JSON Schema 2020-12, section 6.4).

White space means Unicode's ``White_Space`` and U+001C to U+001F: what ``str.strip`` removes, and at least
what ``\s`` matches in PostgreSQL under any locale. ``\s`` differs between the languages, so the classes below
list characters. They list what is not white space: a JavaScript ``/…/`` cannot contain U+2028.
"""

import re
from typing import Any

from msgspec import Meta

_BEYOND_C1 = (
    "\xa1-\u167f\u1681-\u1fff\u200b-\u2027\u202a-\u202e\u2030-\u205e\u2060-\u2fff\u3001-\U0010ffff"
    "\u3001-\ufffd"  # for engines that read UTF-16, to which U+10FFFF is two surrogates
)
SOLID = r"\x01-\x08\x0e-\x1b!-\x84\x86-\x9f" + _BEYOND_C1  # no white space, no U+0000
SOLID_BUT_AT = "!-?A-~" + _BEYOND_C1  # no control characters and no @ either
NO_NUL = r"^[^\x00]*$"


def matching(pattern: str, description: str, **limits: Any) -> Meta:
    r"""A constraint by a pattern, which ends in ``$``. The description may name the limits: ``{max_length}``.

    Python's ``$`` also matches before a final newline. What JSON Schema calls ``$`` is ``\Z`` in Python.
    """
    pattern = pattern.removesuffix("$") + r"\Z"
    return Meta(pattern=pattern, description=description.format(**limits), **limits)


def publish(schema: Any) -> Any:
    """A schema for the document: with JSON Schema's ``$``, and without ``default``.

    Generators treat a field with a default as always present.
    """
    if isinstance(schema, dict):
        if isinstance(pattern := schema.get("pattern"), str):
            schema = schema | {"pattern": re.sub(r"\\Z$", "$", pattern)}
        return {name: publish(each) for name, each in schema.items() if name != "default"}
    return [publish(each) for each in schema] if isinstance(schema, list) else schema
