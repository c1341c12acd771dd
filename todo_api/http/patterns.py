r"""Patterns that JSON Schema, ECMA-262, RE2, Java and Python read alike (JSON Schema 2020-12, section 6.4).

White space here is Unicode's ``White_Space`` and U+001C to U+001F: what ``str.strip`` removes. It covers what
``\s`` means to PostgreSQL under any locale. Each of the languages means something else by ``\s``, so the
classes below list characters, as ranges of what is allowed: JavaScript has no U+2028 in ``/…/``.
"""

from typing import Any

from msgspec import Meta

# U+FFFF ends a range of its own for engines that see UTF-16: to them U+10FFFF is two surrogates.
_BEYOND_C1 = "\xa1-\u167f\u1681-\u1fff\u200b-\u2027\u202a-\u202e\u2030-\u205e\u2060-\u2fff\u3001-\uffff\u3001-\U0010ffff"
SOLID = r"\x01-\x08\x0e-\x1b!-\x84\x86-\x9f" + _BEYOND_C1  # no white space, no U+0000
SOLID_BUT_AT = "!-?A-~" + _BEYOND_C1  # no control characters and no @ either
NO_NUL = r"^[^\x00]*$"


def matching(pattern: str, **constraints: Any) -> Meta:
    r"""Check by a pattern and publish it. It ends in ``$``.

    Python's own ``$`` matches before a final newline too, and no other ``$`` does, hence ``\Z``.
    """
    return Meta(pattern=pattern[:-1] + r"\Z", extra_json_schema={"pattern": pattern}, **constraints)
