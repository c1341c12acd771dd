"""Tasks: what they are and the six operations on them, each bound to its owner by one SQL file."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec
from litestar import Controller, delete, get, patch, post, put
from litestar.params import HeaderParameter, JSONBody
from msgspec import UNSET, Meta, UnsetType

from todo_api import conditional
from todo_api.conditional import content_tag, is_current, task_tag, versions
from todo_api.moments import encode, exact
from todo_api.openapi import MadeAt, MadeId, document
from todo_api.problems import KEY_REUSED, TASK_CHANGED, TASK_NOT_FOUND, USER_NOT_FOUND, ProblemError
from todo_api.queries import Queries, Statement
from todo_api.requests import (
    IDEMPOTENCY_KEY,
    JSON,
    MERGE_PATCH,
    Id,
    PathId,
    StrictRequest,
    read_idempotency_key,
    read_query,
    refuse_parameters,
)
from todo_api.responses import Answer

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


def _created(*columns: Any) -> Created:
    *task, created, same_payload = columns
    return Created(Task(*task), created, same_payload)


LIST = {
    sort: Statement(f"tasks/{name}", Task, repeatable=True, slow_with=("completed", "q", "updated_since"))
    for sort, name in [("-created_at", "list_newest_first"), ("created_at", "list_oldest_first")]
}
GET = Statement("tasks/get", Task, repeatable=True)
CREATE = Statement("tasks/create", Task)
CREATE_ONCE = Statement("tasks/create_once", _created, repeatable=True)
UPDATE = Statement("tasks/update", Task)
COMPLETE = Statement("tasks/complete", Task)
DELETE = Statement("tasks/delete", lambda task_id: task_id)
OWNER = Statement("users/get", lambda user_id, *_: user_id, repeatable=True)

IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="Change the task only in a version that has one of these tags, or * for any",
        schema_extra=conditional.SCHEMA,
    ),
]
IfNoneMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-None-Match",
        description="Answer 304 where what is current has one of these tags, or * for any",
        schema_extra=conditional.SCHEMA,
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

_MAY_REFUSE = (TASK_NOT_FOUND, TASK_CHANGED)


class TaskController(Controller):
    """The tasks of one user."""

    path = "/api/{user_id:str}/tasks"
    tags = ["Tasks"]
    before_request = staticmethod(refuse_parameters)

    @get(
        **document(
            "List a user's tasks", 200, list[Task], USER_NOT_FOUND, headers=("ETag", "Link"), query=Listing
        )
    )
    async def list_tasks(
        self,
        user_id: PathId,
        request: StrictRequest,
        if_none_match: IfNoneMatch = None,
    ) -> Answer:
        """A page of tasks, newest first. Where there are more, `Link` names the next page.

        Pages neither skip nor repeat a task while others are written, and cost the same at any depth.
        """
        listing = read_query(request, Listing)
        tasks = await request.queries.all(
            LIST[listing.sort],
            user_id=user_id,
            after=listing.after,
            completed=listing.completed,
            q=listing.q,
            updated_since=listing.updated_since,
            page_size=listing.limit + 1,
        )
        if not tasks and await request.queries.one(OWNER, user_id=user_id) is None:
            raise ProblemError(USER_NOT_FOUND)
        page, link = tasks[: listing.limit], ""
        if len(tasks) > listing.limit:
            link = f'<{_next(user_id, listing, page)}>; rel="next"'
        body = encode(page)
        if is_current(if_none_match, tag := content_tag(body, link.encode())):
            return Answer(status=304, etag=tag, link=link)
        return Answer(body, etag=tag, link=link)

    @post(
        **document(
            "Create a task",
            201,
            Task,
            USER_NOT_FOUND,
            KEY_REUSED,
            example={"title": "Buy milk", "description": "Two litres"},
            headers=("Location", "ETag", "Idempotency-Replayed"),
        )
    )
    async def create_task(
        self,
        user_id: PathId,
        data: JSONBody[NewTask],
        request: StrictRequest,
        idempotency_key: IdempotencyKey = None,
    ) -> Answer:
        """Create a task. With an `Idempotency-Key` it is safe to repeat: the task is created once."""
        data.title = data.title.strip()
        values = {"title": data.title, "description": data.description, "completed": data.completed}
        if idempotency_key is None:
            task = await request.queries.one(CREATE, user_id=user_id, **values)
            assert task is not None  # an insert returns its row or raises
            return _respond_created(task)
        outcome = await request.queries.one(
            CREATE_ONCE,
            user_id=user_id,
            idempotency_key=read_idempotency_key(idempotency_key),
            idempotency_digest=sha256(encode(data)).digest(),
            **values,
        )
        assert outcome is not None
        if not outcome.same_payload:
            raise ProblemError(KEY_REUSED)
        return _respond_created(outcome.task, idempotency_replayed="" if outcome.created else "true")

    @get("/{task_id:str}", **document("Read a task", 200, Task, TASK_NOT_FOUND, headers=("ETag",)))
    async def get_task(
        self,
        user_id: PathId,
        task_id: PathId,
        request: StrictRequest,
        if_none_match: IfNoneMatch = None,
    ) -> Answer:
        """Read one task."""
        task = await request.queries.one(GET, user_id=user_id, task_id=task_id)
        if task is None:
            raise ProblemError(TASK_NOT_FOUND)
        if is_current(if_none_match, tag := task_tag(task.updated_at)):
            return Answer(status=304, etag=tag)
        return _respond(task)

    @put(
        "/{task_id:str}",
        **document(
            "Replace a task",
            200,
            Task,
            *_MAY_REFUSE,
            example={"title": "Buy oat milk", "description": None, "completed": False},
            headers=("ETag",),
        ),
    )
    async def replace_task(
        self,
        user_id: PathId,
        task_id: PathId,
        data: JSONBody[TaskReplacement],
        request: StrictRequest,
        if_match: IfMatch = None,
    ) -> Answer:
        """Replace what is sent. A field left out keeps its value; `"description": null` clears it."""
        return await _update(request.queries, user_id, task_id, data, if_match)

    @patch(
        "/{task_id:str}",
        **document(
            "Change a task",
            200,
            Task,
            *_MAY_REFUSE,
            example={"description": "Three litres"},
            headers=("ETag",),
            body_types=(JSON, MERGE_PATCH),
        ),
    )
    async def patch_task(
        self,
        user_id: PathId,
        task_id: PathId,
        data: JSONBody[TaskPatch],
        request: StrictRequest,
        if_match: IfMatch = None,
    ) -> Answer:
        """Change any of the three fields, by JSON merge patch (RFC 7396)."""
        return await _update(request.queries, user_id, task_id, data, if_match)

    @patch(
        "/{task_id:str}/complete",
        **document("Toggle a task", 200, Task, *_MAY_REFUSE, example={"completed": True}, headers=("ETag",)),
    )
    async def complete_task(
        self,
        user_id: PathId,
        task_id: PathId,
        request: StrictRequest,
        data: JSONBody[Completion | None] = None,
        if_match: IfMatch = None,
    ) -> Answer:
        """Toggle `completed`, in one atomic step; or set it with a body, which is safe to repeat."""
        task = await request.queries.one(
            COMPLETE,
            user_id=user_id,
            task_id=task_id,
            completed=None if data is None else data.completed,
            if_match=versions(if_match),
        )
        if task is None:
            raise await _refusal(request.queries, user_id, task_id, if_match)
        return _respond(task)

    @delete("/{task_id:str}", **document("Delete a task", 204, None, *_MAY_REFUSE))
    async def delete_task(
        self,
        user_id: PathId,
        task_id: PathId,
        request: StrictRequest,
        if_match: IfMatch = None,
    ) -> None:
        """Delete a task. A second time it is not found."""
        deleted = await request.queries.one(
            DELETE, user_id=user_id, task_id=task_id, if_match=versions(if_match)
        )
        if deleted is None:
            raise await _refusal(request.queries, user_id, task_id, if_match)


async def _update(
    queries: Queries, user_id: str, task_id: str, data: TaskPatch, if_match: str | None
) -> Answer:
    task = await queries.one(
        UPDATE,
        user_id=user_id,
        task_id=task_id,
        title=None if data.title is UNSET else data.title.strip(),
        keep_description=data.description is UNSET,
        description=None if data.description is UNSET else data.description,
        completed=None if data.completed is UNSET else data.completed,
        if_match=versions(if_match),
    )
    if task is None:
        raise await _refusal(queries, user_id, task_id, if_match)
    return _respond(task)


async def _refusal(queries: Queries, user_id: str, task_id: str, if_match: str | None) -> ProblemError:
    """Why a change found no row: the task is not there, or not in a version that If-Match names."""
    if if_match is not None and await queries.one(GET, user_id=user_id, task_id=task_id) is not None:
        return ProblemError(TASK_CHANGED)
    return ProblemError(TASK_NOT_FOUND)


def _respond(task: Task) -> Answer:
    return Answer(encode(task), etag=task_tag(task.updated_at))


def _respond_created(task: Task, **headers: str) -> Answer:
    location = f"/api/{task.user_id}/tasks/{task.id}"
    return Answer(encode(task), status=201, location=location, etag=task_tag(task.updated_at), **headers)


def _next(user_id: str, listing: Listing, page: Sequence[Task]) -> str:
    """The address of the page behind this one, with every parameter kept."""
    given = {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode().strip('"')
        for name, value in msgspec.structs.asdict(listing).items()
        if value is not None
    }
    return f"/api/{user_id}/tasks?{urlencode(given | {'after': str(page[-1].id)})}"
