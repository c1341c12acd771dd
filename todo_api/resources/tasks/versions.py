"""The versions of a task: its entity tag, and what preconditions say of it."""

from datetime import UTC, datetime

from todo_api.http.preconditions import Condition, Preconditions
from todo_api.http.timestamps import encode, with_microseconds


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
