"""What tasks are made of, over HTTP and in a row, and what a client may say of them."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar.params import HeaderParameter
from msgspec import UNSET, Meta, UnsetType

from todo_api.http import preconditions
from todo_api.http.openapi import MadeAt, MadeId
from todo_api.http.requests import IDEMPOTENCY_KEY, Id
from todo_api.http.timestamps import exact

Title = Annotated[
    str,
    Meta(
        pattern=r"^\s*[^\s\x00]([^\x00]{0,198}[^\s\x00])?\s*$",
        description="1 to 200 characters after trimming white space at both ends, none of them U+0000",
        examples=["Buy milk"],
    ),
]
Description = (
    Annotated[
        str,
        Meta(
            max_length=1000,
            pattern=r"^[^\x00]*$",
            description="At most 1000 characters, none of them U+0000, or null",
            examples=["Two litres"],
        ),
    ]
    | None
)
ReadOnly = Annotated[
    object,
    Meta(description="Ignored, so that what was read can be sent back", extra_json_schema={"readOnly": True}),
]


class Task(msgspec.Struct):
    """Something that a user means to do."""

    id: MadeId
    user_id: MadeId
    title: Title
    description: Description
    completed: bool
    created_at: MadeAt
    updated_at: MadeAt

    def __post_init__(self) -> None:
        if not (self.created_at.microsecond and self.updated_at.microsecond):
            self.created_at, self.updated_at = exact(self.created_at), exact(self.updated_at)


class NewTask(msgspec.Struct, forbid_unknown_fields=True):
    """What it takes to create a task."""

    title: Title
    description: Description = None
    completed: bool = False


class TaskPatch(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A JSON merge patch (RFC 7396): a field left out keeps its value."""

    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    completed: bool | UnsetType = UNSET
    id: ReadOnly = UNSET
    user_id: ReadOnly = UNSET
    created_at: ReadOnly = UNSET
    updated_at: ReadOnly = UNSET


class TaskReplacement(TaskPatch, forbid_unknown_fields=True, kw_only=True):
    """A task as it shall be; description and completed keep their values where they are left out."""

    title: Title


class Completion(msgspec.Struct, forbid_unknown_fields=True):
    """Whether the task is done; without it, the toggle turns it round."""

    completed: bool


class Listing(msgspec.Struct, frozen=True):
    """Which tasks to list, and how many of them."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="How many tasks at most, from 1 to 1000")] = 100
    after: (
        Annotated[Id, Meta(description="The id of a task, there or not: the page continues behind it")] | None
    ) = None
    completed: (
        Annotated[bool, Meta(description="true or false: only those that are or are not done")] | None
    ) = None
    q: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=200,
                pattern=r"^[^\x00]*$",
                description="A text of 1 to 200 characters in title or description, without regard to case",
            ),
        ]
        | None
    ) = None
    updated_since: (
        Annotated[
            datetime,
            Meta(tz=True, description="A moment (RFC 3339, + sent as %2B): only those changed then or later"),
        ]
        | None
    ) = None
    sort: Annotated[
        Literal["-created_at", "created_at"],
        Meta(
            description="-created_at for newest first, created_at for oldest",
            extra_json_schema={"type": "string"},
        ),
    ] = "-created_at"


class Created(msgspec.Struct):
    """What tasks/create_once says besides the task."""

    task: Task
    created: bool
    same_payload: bool


def created(*columns: Any) -> Created:
    """Make it of a row of tasks/create_once."""
    *task, created, same_payload = columns
    return Created(Task(*task), created, same_payload)


IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="Change the task only in a version that has one of these tags, or * for any",
        schema_extra=preconditions.SCHEMA,
    ),
]
IfNoneMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-None-Match",
        description="Answer 304 where what is current has one of these tags, or * for any",
        schema_extra=preconditions.SCHEMA,
    ),
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="A name for this request, in visible ASCII, plain or quoted, so that it can be repeated",
        schema_extra={"pattern": IDEMPOTENCY_KEY},
    ),
]
