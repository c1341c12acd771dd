"""The operations on the tasks of a user. Every statement is scoped to that user."""

from typing import Annotated, NoReturn

from litestar import Controller, delete, get, patch, post, put
from litestar.params import JSONBody
from msgspec import UNSET

from todo_api.http import headers
from todo_api.http.answers import Answer
from todo_api.http.bodies import JSON, MERGE_PATCH
from todo_api.http.parameters import PathId, read_query, refuse_parameters
from todo_api.http.preconditions import BOTH, Preconditions, content_tag, is_unchanged, read_preconditions
from todo_api.http.problems import PreconditionFailed
from todo_api.http.timestamps import encode
from todo_api.queries import Queries, Statement
from todo_api.resources.problems import (
    SHARED,
    IdempotencyKeyReused,
    TaskChanged,
    TaskNotFound,
    UserNotFound,
)
from todo_api.resources.request import ResourceRequest
from todo_api.resources.tasks.payloads import (
    Completion,
    Listing,
    Task,
    TaskCreation,
    TaskPatch,
    TaskReplacement,
    created,
    listed,
    page,
)
from todo_api.resources.tasks.versions import completion, idempotency_digest, task_tag, version_parameters

LIST = {
    sort: Statement(f"tasks/{name}", listed, repeatable=True)
    for sort, name in [("-created_at", "list_newest_first"), ("created_at", "list_oldest_first")]
}
GET = Statement("tasks/get", Task, repeatable=True)
CREATE = Statement("tasks/create", created)  # without a key
CREATE_ONCE = Statement("tasks/create", created, repeatable=True)  # with one
UPDATE = Statement("tasks/update", Task)
COMPLETE = Statement("tasks/complete", Task)
DELETE = Statement("tasks/delete", lambda task_id: task_id)
OWNER = Statement("users/get", lambda user_id, *_: user_id, repeatable=True)

_REFUSALS = (TaskNotFound, TaskChanged, PreconditionFailed)


class TaskController(Controller):
    """The tasks of a user."""

    path = "/api/{user_id:str}/tasks"
    tags = ["Tasks"]
    before_request = staticmethod(refuse_parameters)
    opt = {"raises": SHARED, "request_headers": BOTH}

    @get(
        summary="List a user's tasks",
        raises=[UserNotFound, PreconditionFailed],
        query=Listing,
        response_headers=[headers.ETAG, headers.LINK],
    )
    async def list_tasks(self, user_id: PathId, request: ResourceRequest) -> Annotated[Answer, list[Task]]:
        """List a page of tasks, newest first unless `sort` says otherwise.

        If there are more tasks, `Link` has the address of the next page. Follow it unchanged until a page has
        no `Link`. A request looks at 10,000 tasks at most, so a page can be shorter than `limit`, or empty,
        and still have a `Link`. A page costs the same at any depth.

        Following `Link` shows each task that existed when you read the first page exactly once. Tasks that
        are deleted meanwhile, or changed so that they no longer match, may be missing.

        To poll for changes, use `updated_since`. To poll for new tasks, use `sort=created_at` and `after`. A
        change can become visible some seconds after its `updated_at`, so overlap your requests: start 10
        seconds before the newest `updated_at` that you have seen, or after a task that is 10 seconds older
        than the newest. Drop what you have seen already, by `id` and `updated_at`. Deleted tasks are not
        reported: list all tasks again to find out which are gone.
        """
        listing = read_query(request, Listing)
        conditions = read_preconditions(request.fields)
        rows = await request.queries.fetch_all(
            LIST[listing.sort],
            user_id=user_id,
            after=listing.after,
            completed=listing.completed,
            q=listing.q,
            updated_since=listing.updated_since,
            page_size=listing.limit + 1,
        )
        if not rows and await request.queries.fetch_one(OWNER, user_id=user_id) is None:
            raise UserNotFound
        tasks, after = page(rows, listing.limit)
        link = (
            f'<{request.root_path}/api/{user_id}/tasks?{listing.query(after)}>; rel="next"' if after else ""
        )
        body = encode(tasks)
        if is_unchanged(conditions, tag := content_tag(body, link.encode())):
            return Answer(status=304, etag=tag, link=link)
        return Answer(body, etag=tag, link=link)

    @post(
        summary="Create a task",
        raises=[UserNotFound, IdempotencyKeyReused],
        example={"title": "Buy milk", "description": "Two litres"},
        request_headers=[headers.IDEMPOTENCY_KEY],
        response_headers=[headers.LOCATION, headers.ETAG, headers.IDEMPOTENCY_REPLAYED],
    )
    async def create_task(
        self, user_id: PathId, data: JSONBody[TaskCreation], request: ResourceRequest
    ) -> Annotated[Answer, Task]:
        """Create a task. Send an `Idempotency-Key` and a retried create runs only once."""
        key = headers.read_idempotency_key(request.fields)
        data.title = data.title.strip()
        outcome = await request.queries.fetch_one(
            CREATE if key is None else CREATE_ONCE,
            user_id=user_id,
            title=data.title,
            description=data.description,
            completed=data.completed,
            idempotency_key=key,
            idempotency_digest=None if key is None else idempotency_digest(data),
        )
        assert outcome is not None  # the statement returns its row or raises
        if not outcome.same_payload:
            raise IdempotencyKeyReused
        task = outcome.task
        location = f"{request.root_path}/api/{task.user_id}/tasks/{task.id}"
        replayed = "" if outcome.created else "true"
        return _answer(task, status=201, location=location, idempotency_replayed=replayed)

    @get(
        "/{task_id:str}",
        summary="Read a task",
        raises=[TaskNotFound, TaskChanged],
        response_headers=[headers.ETAG],
    )
    async def get_task(
        self, user_id: PathId, task_id: PathId, request: ResourceRequest
    ) -> Annotated[Answer, Task]:
        """Read one task."""
        conditions = read_preconditions(request.fields)
        task = await request.queries.fetch_one(GET, user_id=user_id, task_id=task_id)
        if task is None:
            raise TaskNotFound
        if is_unchanged(conditions, tag := task_tag(task.updated_at), TaskChanged):
            return Answer(status=304, etag=tag)
        return Answer(encode(task), etag=tag)

    @put(
        "/{task_id:str}",
        summary="Replace a task",
        raises=_REFUSALS,
        example={"title": "Buy oat milk", "description": None, "completed": False},
        response_headers=[headers.ETAG],
    )
    async def replace_task(
        self, user_id: PathId, task_id: PathId, data: JSONBody[TaskReplacement], request: ResourceRequest
    ) -> Annotated[Answer, Task]:
        """Replace the fields sent. A field left out keeps its value; `"description": null` clears it."""
        return await _update(request, user_id, task_id, data)

    @patch(
        "/{task_id:str}",
        summary="Change a task",
        raises=_REFUSALS,
        example={"description": "Three litres"},
        body_types=(JSON, MERGE_PATCH),
        response_headers=[headers.ETAG],
    )
    async def update_task(
        self, user_id: PathId, task_id: PathId, data: JSONBody[TaskPatch], request: ResourceRequest
    ) -> Annotated[Answer, Task]:
        """Change any of the three fields with a JSON merge patch (RFC 7396)."""
        return await _update(request, user_id, task_id, data)

    @patch(
        "/{task_id:str}/complete",
        summary="Toggle a task",
        raises=_REFUSALS,
        example={"completed": True},
        response_headers=[headers.ETAG],
    )
    async def toggle_task(
        self,
        user_id: PathId,
        task_id: PathId,
        request: ResourceRequest,
        data: JSONBody[Completion | None] = None,
    ) -> Annotated[Answer, Task]:
        """Toggle `completed` in one atomic step. With a body, set it instead, which is safe to retry."""
        conditions = read_preconditions(request.fields)
        task = await request.queries.fetch_one(
            COMPLETE,
            user_id=user_id,
            task_id=task_id,
            completed=completion(data, request.fields),
            **version_parameters(conditions),
        )
        if task is None:
            await _refuse(request.queries, user_id, task_id, conditions)
        return _answer(task)

    @delete("/{task_id:str}", summary="Delete a task", raises=_REFUSALS)
    async def delete_task(self, user_id: PathId, task_id: PathId, request: ResourceRequest) -> None:
        """Delete a task. Deleting it again gets a 404."""
        conditions = read_preconditions(request.fields)
        deleted = await request.queries.fetch_one(
            DELETE, user_id=user_id, task_id=task_id, **version_parameters(conditions)
        )
        if deleted is None:
            await _refuse(request.queries, user_id, task_id, conditions)


async def _update(request: ResourceRequest, user_id: str, task_id: str, data: TaskPatch) -> Answer:
    conditions = read_preconditions(request.fields)
    task = await request.queries.fetch_one(
        UPDATE,
        user_id=user_id,
        task_id=task_id,
        title=None if data.title is UNSET else data.title.strip(),
        keep_description=data.description is UNSET,
        description=None if data.description is UNSET else data.description,
        completed=None if data.completed is UNSET else data.completed,
        **version_parameters(conditions),
    )
    if task is None:
        await _refuse(request.queries, user_id, task_id, conditions)
    return _answer(task)


async def _refuse(queries: Queries, user_id: str, task_id: str, conditions: Preconditions) -> NoReturn:
    """Raise the reason why a write found no row: there is no such task, or a precondition failed."""
    if (
        not any(conditions)
        or (task := await queries.fetch_one(GET, user_id=user_id, task_id=task_id)) is None
    ):
        raise TaskNotFound
    if conditions.if_match and not conditions.if_match.names(task_tag(task.updated_at)):
        raise TaskChanged
    raise PreconditionFailed


def _answer(task: Task, *, status: int = 200, **headers: str) -> Answer:
    return Answer(encode(task), status=status, etag=task_tag(task.updated_at), **headers)
