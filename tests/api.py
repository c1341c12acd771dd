"""The API as its clients use it, in sentences that read like prose."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import uuid4

import httpx
from litestar import Litestar

TASK = "/api/{user_id}/tasks/{task_id}"

# Every operation on what a user has: method, path, body.
OPERATIONS: list[tuple[str, str, Any]] = [
    ("GET", TASK, None),
    ("HEAD", TASK, None),
    ("PUT", TASK, {"title": "Buy tea", "description": None, "completed": True}),
    ("PATCH", TASK, {"title": "Buy tea"}),
    ("DELETE", TASK, None),
    ("PATCH", TASK + "/complete", None),
    ("PATCH", TASK + "/complete", {"completed": True}),
]
USER_OPERATIONS: list[tuple[str, str, Any]] = [
    ("GET", "/api/users/{user_id}", None),
    ("HEAD", "/api/users/{user_id}", None),
    ("GET", "/api/{user_id}/tasks", None),
    ("HEAD", "/api/{user_id}/tasks", None),
    ("POST", "/api/{user_id}/tasks", {"title": "Buy milk"}),
]

# The operations that take a body: method and path.
WITH_BODY = [
    ("POST", "/api/users"),
    ("POST", "/api/{user_id}/tasks"),
    ("PUT", TASK),
    ("PATCH", TASK),
    ("PATCH", TASK + "/complete"),
]
JSON = {"Content-Type": "application/json"}


def on_routes(
    cases: Iterable[str | None], routes: Sequence[tuple[Any, ...]], few: int = 2
) -> list[tuple[Any, ...]]:
    """Every case on the first route, and the first few of them on every other."""
    return [
        (*route, case)
        for number, route in enumerate(routes)
        for case in (list(cases) if number == 0 else list(cases)[:few])
    ]


@asynccontextmanager
async def talking_to(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """Start the application and talk to it."""
    transport = httpx.ASGITransport(cast("Any", app), raise_app_exceptions=False)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


class User:
    """Somebody who uses the API."""

    def __init__(self, client: httpx.AsyncClient, id: str) -> None:
        self.client = client
        self.id = id
        self.tasks = f"/api/{id}/tasks"

    async def creates(self, title: str = "Buy milk", **fields: Any) -> dict[str, Any]:
        """Create a task and return it."""
        response = await self.client.post(self.tasks, json={"title": title, **fields})
        assert 201 == response.status_code, response.text
        task: dict[str, Any] = response.json()
        return task

    async def lists(self, **parameters: Any) -> list[dict[str, Any]]:
        """List a page of tasks."""
        response = await self.client.get(self.tasks, params=parameters)
        assert 200 == response.status_code, response.text
        tasks: list[dict[str, Any]] = response.json()
        return tasks

    async def tries(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request on a task that is there, and check that it changes nothing."""
        task = await self.creates("untouched")
        path = path.format(user_id=self.id, task_id=task["id"])
        response = await self.client.request(method, path, **request)
        assert [task] == await self.lists()
        return response

    def path(self, task: dict[str, Any]) -> str:
        """The path of a task, as this user would ask for it."""
        return f"{self.tasks}/{task['id']}"


async def make_user(client: httpx.AsyncClient) -> User:
    """Add a user nobody else knows of."""
    response = await client.post("/api/users", json={"email": f"{uuid4().hex}@example.org"})
    assert 201 == response.status_code, response.text
    return User(client, response.json()["id"])


def assert_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Check that a response is this problem, whole, and return it."""
    assert status == response.status_code, response.text
    assert "application/problem+json" == response.headers["content-type"]
    problem: dict[str, Any] = response.json()
    assert f"/problems/{slug}" == problem["type"]
    assert status == problem["status"]
    assert problem["title"] and problem["detail"]
    assert response.request.url.raw_path.split(b"?")[0].decode() == problem["instance"]
    assert response.headers["x-request-id"] == problem["request_id"]
    return problem
