"""Versions of tasks for conditional requests, the toggle, and the digests behind Idempotency-Key."""

from datetime import UTC, datetime
from hashlib import sha256

from msgspec.structs import asdict

from todo_api.http.headers import Fields, refuse_idempotency_key
from todo_api.http.preconditions import Condition, Preconditions
from todo_api.http.timestamps import encode, with_microseconds
from todo_api.resources.tasks.payloads import Completion, TaskCreation

# Part of the digest even with their default values, as in the digests that are stored already.
_ALWAYS = ("title", "description", "completed")


def task_tag(updated_at: datetime) -> str:
    """The strong tag of a task: its ``updated_at`` as in JSON, which grows with each change."""
    return encode(updated_at).decode()


def version_parameters(conditions: Preconditions) -> dict[str, list[datetime] | None]:
    """The parameters ``if_match`` and ``if_none_match`` of the statements that write."""
    if_match, if_none_match = conditions
    if if_none_match and if_none_match.is_any:  # no existing version meets that condition
        return {"if_match": [], "if_none_match": None}
    return {
        "if_match": None if if_match is None or if_match.is_any else _versions(if_match),
        "if_none_match": None if if_none_match is None else _versions(if_none_match),
    }


def _versions(condition: Condition) -> list[datetime]:
    """The values of ``updated_at`` that a condition lists. A tag that no task can have is left out."""
    versions = []
    for tag in condition.tags:
        try:
            updated_at = with_microseconds(datetime.fromisoformat(tag[1:-1]).astimezone(UTC))
        except (ValueError, OverflowError):
            continue
        if task_tag(updated_at) == tag:
            versions.append(updated_at)
    return versions


def completion(data: Completion | None, fields: Fields) -> bool | None:
    """The new value of ``completed``; None toggles it. Raises InvalidRequest for a toggle with a key."""
    if data is None:
        refuse_idempotency_key(
            fields,
            'A toggle takes no key. Send {"completed": true} or {"completed": false} to set it safely.',
        )
        return None
    return data.completed


def idempotency_digest(task: TaskCreation) -> bytes:
    """SHA-256 of a new task: the same for every payload that means the same. The title must be trimmed.

    It covers JSON with the fields in ``_ALWAYS``, then the other fields by name if they differ from their
    defaults. So a release that adds an optional field does not change the digests of earlier requests. Never
    change the name of a field, its default, or how its value is written as JSON.
    """
    given, defaults = asdict(task), asdict(type(task)(task.title))
    names = [*_ALWAYS, *sorted(name for name in given.keys() - _ALWAYS if given[name] != defaults[name])]
    return sha256(encode({name: given[name] for name in names})).digest()
