"""The payloads of tasks: rows, request bodies and the query of a list."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from todo_api.http.parameters import Id
from todo_api.http.patterns import NO_NUL, SOLID, matching
from todo_api.http.timestamps import Timestamp, with_microseconds

_TITLE_LENGTH = 200
Title = Annotated[
    str,
    matching(
        rf"^[^{SOLID}\x00]*[{SOLID}]([^\x00]{{0,{_TITLE_LENGTH - 2}}}[{SOLID}])?[^{SOLID}\x00]*$",
        description=f"1 to {_TITLE_LENGTH} characters without U+0000, not counting white space at both ends; "
        "white space is Unicode's White_Space and U+001C to U+001F, and is removed",
    ),
]
Description = (
    Annotated[
        str,
        matching(
            NO_NUL,
            max_length=1000,
            description="At most {max_length} characters without U+0000, or null; null clears it",
        ),
    ]
    | None
)
Ignored = Annotated[object, Meta(description="Ignored, so you can send back a task as you received it")]


class Task(msgspec.Struct, gc=False):
    """A task of a user."""

    id: UUID
    user_id: UUID
    title: str
    description: str | None
    completed: bool
    created_at: Timestamp
    updated_at: Timestamp

    def __post_init__(self) -> None:
        if not (self.created_at.microsecond and self.updated_at.microsecond):
            self.created_at, self.updated_at = (
                with_microseconds(self.created_at),
                with_microseconds(self.updated_at),
            )


class TaskCreation(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of a new task."""

    title: Title
    description: Description = None
    completed: bool = False


class TaskPatch(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A JSON merge patch (RFC 7396): a field left out keeps its value."""

    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    completed: bool | UnsetType = UNSET
    id: Ignored = UNSET
    user_id: Ignored = UNSET
    created_at: Ignored = UNSET
    updated_at: Ignored = UNSET


class TaskReplacement(TaskPatch):
    """The new content of a task. `description` and `completed` keep their values if they are left out."""

    title: Title


class Completion(msgspec.Struct, forbid_unknown_fields=True):
    """The new value of `completed`."""

    completed: bool


class Listing(msgspec.Struct):
    """The query of a list."""

    limit: Annotated[
        int,
        Meta(ge=1, le=1000, description="An integer from 1 to 1000; the maximum number of tasks on a page"),
    ] = 100
    after: (
        Annotated[
            Id,
            Meta(description="The id of a task; the page starts after it, even if it was deleted"),
        ]
        | None
    ) = None
    completed: Annotated[bool, Meta(description="true or false; lists only tasks with this value")] | None = (
        None
    )
    q: (
        Annotated[
            str,
            matching(
                NO_NUL,
                min_length=1,
                max_length=200,
                description="{min_length} to {max_length} characters; lists only tasks with this text in "
                "title or description, in upper or lower case",
            ),
        ]
        | None
    ) = None
    updated_since: (
        Annotated[
            datetime,
            Meta(
                tz=True,
                description="A timestamp (RFC 3339, with + as %2B); lists only tasks changed then or later",
            ),
        ]
        | None
    ) = None
    sort: Annotated[
        Literal["-created_at", "created_at"],
        Meta(
            description="-created_at or created_at; newest or oldest first",
            extra_json_schema={"type": "string"},
        ),
    ] = "-created_at"

    def query(self, after: UUID) -> str:
        """The query string of the page that starts after an id, with every other parameter kept."""
        given = {
            name: value if isinstance(value, str) else msgspec.json.encode(value).decode().strip('"')
            for name, value in msgspec.structs.asdict(self).items()
            if value is not None
        }
        return urlencode(given | {"after": str(after)})


class Listed(msgspec.Struct, gc=False):
    """A row of a list statement. The header of its file explains the flags."""

    task: Task
    matches: bool
    stopped: bool


def listed(
    id: UUID,
    user_id: UUID,
    title: str,
    description: str | None,
    completed: bool,
    created_at: datetime,
    updated_at: datetime,
    matches: bool,
    stopped: bool,
) -> Listed:
    """Make a Listed of a row's columns."""
    # Named columns cost half as much as unpacked ones, and a list makes many rows.
    task = Task(id, user_id, title, description, completed, created_at, updated_at)
    return Listed(task, matches, stopped)


def page(rows: Sequence[Listed], limit: int) -> tuple[list[Task], UUID | None]:
    """The tasks of a page, and the id after which the next page starts, or None if this is the last page.

    ``rows`` are the result of a list statement with one row more than ``limit``. If the statement stopped
    early, a page that is not the last has fewer tasks than ``limit``, or none.
    """
    tasks = [row.task for row in rows[:limit] if row.matches]
    if not rows or not (len(rows) > limit or rows[-1].stopped):
        return tasks, None
    return tasks, tasks[-1].id if rows[-1].matches else rows[-1].task.id


class Created(msgspec.Struct, gc=False):
    """A row of tasks/create. The header of that file explains the flags."""

    task: Task
    created: bool
    same_payload: bool


def created(*columns: Any) -> Created:
    """Make a Created of a row's columns."""
    *task, created, same_payload = columns
    return Created(Task(*task), created, same_payload)
