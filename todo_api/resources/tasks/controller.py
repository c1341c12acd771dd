"""The six operations on tasks, each bound to its owner by one SQL file."""

from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import urlencode

import msgspec
from litestar import Controller, delete, get, patch, post, put
from litestar.params import JSONBody
from msgspec import UNSET

from todo_api.http.answers import Answer
from todo_api.http.openapi import document
from todo_api.http.preconditions import content_tag, is_current, task_tag, versions
from todo_api.http.problems import KEY_REUSED, TASK_CHANGED, TASK_NOT_FOUND, USER_NOT_FOUND, ProblemError
from todo_api.http.requests import (
    JSON,
    MERGE_PATCH,
    PathId,
    StrictRequest,
    read_idempotency_key,
    read_query,
    refuse_parameters,
)
from todo_api.http.timestamps import encode
from todo_api.queries import Queries, Statement
from todo_api.resources.tasks.payloads import (
    Completion,
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    Listing,
    NewTask,
    Task,
    TaskPatch,
    TaskReplacement,
    created,
)

LIST = {
    sort: Statement(f"tasks/{name}", Task, repeatable=True)
    for sort, name in [("-created_at", "list_newest_first"), ("created_at", "list_oldest_first")]
}
GET = Statement("tasks/get", Task, repeatable=True)
CREATE = Statement("tasks/create", Task)
CREATE_ONCE = Statement("tasks/create_once", created, repeatable=True)
UPDATE = Statement("tasks/update", Task)
COMPLETE = Statement("tasks/complete", Task)
DELETE = Statement("tasks/delete", lambda task_id: task_id)
OWNER = Statement("users/get", lambda user_id, *_: user_id, repeatable=True)

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
        tasks = await request.queries.fetch_all(
            LIST[listing.sort],
            user_id=user_id,
            after=listing.after,
            completed=listing.completed,
            q=listing.q,
            updated_since=listing.updated_since,
            page_size=listing.limit + 1,
        )
        if not tasks and await request.queries.fetch_one(OWNER, user_id=user_id) is None:
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
            task = await request.queries.fetch_one(CREATE, user_id=user_id, **values)
            assert task is not None  # an insert returns its row or raises
            return _respond_created(task)
        outcome = await request.queries.fetch_one(
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
        task = await request.queries.fetch_one(GET, user_id=user_id, task_id=task_id)
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
        task = await request.queries.fetch_one(
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
        deleted = await request.queries.fetch_one(
            DELETE, user_id=user_id, task_id=task_id, if_match=versions(if_match)
        )
        if deleted is None:
            raise await _refusal(request.queries, user_id, task_id, if_match)


async def _update(
    queries: Queries, user_id: str, task_id: str, data: TaskPatch, if_match: str | None
) -> Answer:
    task = await queries.fetch_one(
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
    if if_match is not None and await queries.fetch_one(GET, user_id=user_id, task_id=task_id) is not None:
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
