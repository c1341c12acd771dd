"""The examples of the OpenAPI document: what the service answers, with ids and times that stay the same.

`python -m tests.examples` writes them anew, on a PostgreSQL of its own.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import AsyncMock, Mock

import httpx
import msgspec
import psycopg
from litestar import Litestar

from todo_api.app import create_app
from todo_api.http import openapi
from todo_api.postgres import embedded, migrations
from todo_api.settings import Settings

from .api import talking_to
from .service import ROOT

FILE = ROOT / "todo_api" / "http" / "examples.json"
USER, TASK = "0f9b1d5e-6f0a-4c3b-9a53-8a6f5d0c2b71", "019b8c1e-7a40-7d3c-8e21-5b6f9c0d1e2f"
TIMES = "2026-01-05T09:30:00.123456Z", "2026-01-05T10:15:00.654321Z"
NOBODY = "00000000-0000-4000-8000-000000000000"
KEY = {"Idempotency-Key": "milk-2026-01-05"}

Json = dict[str, Any]

FAILURES: dict[str, Any] = {
    "internal-error": RuntimeError(),
    "unavailable": psycopg.OperationalError(),
    "timed-out": psycopg.errors.QueryCanceled(),
    "schema-behind": [[], [], []],  # no migration, no task to lock, no temporary file
}


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Each path, method and operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def example_of(operation: Json) -> Any:
    """The body that the document shows for a request."""
    [content] = operation.get("requestBody", {"content": {"": {}}})["content"].values()
    return content.get("example")


def problems_of(operation: Json) -> list[str]:
    """The problem types that an operation names, by the last part of their URI."""
    described = [
        response["description"]
        for response in operation["responses"].values()
        if "application/problem+json" in response.get("content", {})
    ]
    return [title.lower().replace(" ", "-") for title in re.findall(r"\d{3} ([\w ]+)", "; ".join(described))]


def provocation(problem: str, path: str, method: str, body: Any) -> Json:
    """What to change in a request so that its response is this problem."""
    match problem:
        case "not-found":
            return {"url": re.sub(r"{\w+}(?!.*{)", "7", path)}
        case "user-not-found":
            return {"url": path.replace("{user_id}", NOBODY)}
        case "task-not-found":
            return {"url": path.replace("{task_id}", NOBODY)}
        case "task-changed":
            return {"headers": {"If-Match": f'"{TIMES[0]}"'}}
        case "precondition-failed" if method == "get":
            return {"headers": {"If-Match": '"an-earlier-page"'}}
        case "precondition-failed":
            return {"headers": {"If-None-Match": "*"}}
        case "idempotency-key-reused":
            return {"json": body | {"title": "Buy bread"}, "headers": KEY}
        case "invalid-request" if body:  # misspelt
            return {"json": {name[:-1]: value for name, value in body.items()}}
        case "invalid-request":
            return {"params": {"limit": "0"}}
        case "malformed-body":
            return {"content": b"{", "headers": {"Content-Type": "application/json"}, "json": None}
        case "body-too-large":
            return {"json": body | {"padding": " " * 65536}}
        case "unsupported-media-type":
            return {"content": b"Buy milk", "headers": {"Content-Type": "text/plain"}, "json": None}
    return {}


@asynccontextmanager
async def failing(app: Litestar, problem: str) -> AsyncIterator[None]:
    """Let every statement, and the metrics, fail in a way that has this problem as its consequence."""
    healthy = dict(app.state)
    if problem in FAILURES:
        statement = AsyncMock(side_effect=FAILURES[problem])
        app.state["queries"] = Mock(fetch_one=statement, fetch_all=statement)
        text = AsyncMock(side_effect=FileNotFoundError if problem == "unavailable" else RuntimeError)
        app.state["metrics"] = Mock(text=text)
    yield
    app.state.update(healthy)


async def capture(app: Litestar, client: httpx.AsyncClient) -> dict[str, Json]:
    """Send each operation's example, then provoke each of its problems. The database has no users yet."""
    client.headers["X-Request-Id"] = "5f0c1ea2b4d94b0f8e1d7c3a6b9f2e10"
    captured: dict[str, Json] = {}
    document = openapi.build(app)
    create = document["paths"]["/api/{user_id}/tasks"]["post"]
    user = task = {"id": NOBODY}

    async def send(method: str, url: str, **request: Any) -> httpx.Response:
        url = url.replace("{user_id}", user["id"]).replace("{task_id}", task["id"])
        return await client.request(method, url, **{name: each for name, each in request.items() if each})

    for path, method, operation in operations(document):
        body = example_of(operation)
        found = captured[operation["operationId"]] = {}
        if "{user_id}/tasks" in path:
            created = await send("post", "/api/{user_id}/tasks", json=example_of(create), headers=KEY)
            task = created.json()
        for problem in problems_of(operation):
            if problem == "email-taken":
                continue  # until there is a user
            request = {"url": path, "json": body} | provocation(problem, path, method, body)
            async with failing(app, problem):
                response = await send(method, **request)
            if response.status_code >= 400:
                found[problem] = response
        response = await send(method, path, json=body)
        assert response.is_success, response.text
        if response.headers.get("content-type") == "application/json":
            found[str(response.status_code)] = response
        if operation["operationId"] == "createUser":
            user = response.json()
            found["email-taken"] = await send(method, path, json=body)
        ids = {user["id"]: USER, task["id"]: TASK}
        if method == "post" and "tasks" in path:
            ids[response.json()["id"]] = TASK
        captured[operation["operationId"]] = {name: settled(each, ids) for name, each in found.items()}
        for each in (await send("get", "/api/{user_id}/tasks")).json() if "{user_id}" in path else ():
            await send("delete", f"/api/{{user_id}}/tasks/{each['id']}")
    return captured


def settled(response: httpx.Response, ids: dict[str, str]) -> Any:
    """The body of a response, with fixed ids and times."""
    text = response.text
    for old, new in ids.items():
        text = text.replace(old, new)
    times = sorted(set(re.findall(r"\d{4}-[\d-]+T[\d:.]+Z", text)))
    for old, new in zip(times, TIMES, strict=False):
        text = text.replace(old, new)
    return json.loads(text)


async def main() -> None:
    """Write the file."""
    logging.disable()  # of the errors that are provoked
    with TemporaryDirectory() as directory, embedded.running(Path(directory)) as url:
        migrations.apply(url, lambda _: None)
        app = create_app(Settings(database_url=url))
        async with talking_to(app) as client:
            captured = await capture(app, client)
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(captured), indent=1) + b"\n")


if __name__ == "__main__":
    asyncio.run(main())
