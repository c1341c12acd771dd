"""Entity tags and the conditions that clients put on them (RFC 9110, sections 8.8.3 and 13.1)."""

import re
from datetime import UTC, datetime
from hashlib import sha256

from todo_api.http.problems import INVALID, Fault, ProblemError
from todo_api.http.timestamps import encode, exact

_TAG = r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"'
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")
SCHEMA = {"anyOf": [{"const": "*"}, {"pattern": f"^{_TAGS.pattern}$"}]}


def task_tag(updated_at: datetime) -> str:
    """The strong tag of a task: its ``updated_at``, which grows with each change, as JSON shows it."""
    return encode(updated_at).decode()


def content_tag(*content: bytes) -> str:
    """A strong tag of exactly this content."""
    return f'"{sha256(b"".join(content)).hexdigest()[:32]}"'


def is_current(if_none_match: str | None, tag: str) -> bool:
    """Whether the client has this version already, by weak comparison (section 13.1.2)."""
    if if_none_match is None:
        return False
    if if_none_match in (tag, "*"):
        return True
    return tag in (f'"{opaque}"' for _, opaque in _parse("If-None-Match", if_none_match))


def versions(if_match: str | None) -> list[datetime] | None:
    """The values of ``updated_at`` that a change may be based on, None for any.

    A weak tag and a tag that no task ever had are left out: they match nothing (section 13.1.1).
    """
    if if_match is None or if_match.strip() == "*":
        return None
    found = []
    for weak, opaque in _parse("If-Match", if_match):
        try:
            updated_at = exact(datetime.fromisoformat(opaque).astimezone(UTC))
        except (ValueError, OverflowError):
            continue
        if not weak and task_tag(updated_at) == f'"{opaque}"':
            found.append(updated_at)
    return found


def _parse(name: str, value: str) -> list[tuple[str, str]]:
    if not _TAGS.fullmatch(value):
        fault = Fault('Expected: * or entity tags in double quotes, such as "abc", "def".', header=name)
        raise ProblemError(INVALID, fault)
    return re.findall(_TAG, value)
