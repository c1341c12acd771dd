# /// script
# requires-python = ">=3.11"
# dependencies = ["msgspec==0.22.0", "psycopg[binary,pool]==3.3.9", "uvicorn[standard]==0.54.0"]
# ///
"""Bare ASGI over psycopg_pool: what uvicorn, psycopg, its pool and msgspec cost by themselves.

No framework, no validation but of types, no errors. Nobody would ship it.
"""

from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import uvicorn
from psycopg_pool import AsyncConnectionPool

STATEMENTS = {path.stem: path.read_text() for path in Path(__file__).parents[2].glob("sql/tasks/*.sql")}
ANY = dict.fromkeys(
    (
        "after",
        "completed",
        "q",
        "updated_since",
        "if_match",
        "if_none_match",
        "idempotency_key",
        "idempotency_digest",
    )
)

pool = AsyncConnectionPool("", min_size=10, max_size=10, open=False, kwargs={"autocommit": True})


class Task(msgspec.Struct):
    id: UUID
    user_id: UUID
    title: str
    description: str | None
    completed: bool
    created_at: datetime
    updated_at: datetime


class Payload(msgspec.Struct):
    title: str
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    completed: bool | None = None


async def run(statement: str, **parameters: Any) -> list[Task]:
    async with pool.connection() as connection:
        cursor = await connection.execute(STATEMENTS[statement], ANY | parameters)
        return [Task(*row[:7]) for row in await cursor.fetchall()]


async def respond(method: str, user_id: UUID, task_id: UUID | None, body: bytes) -> Task | list[Task]:
    key = {"user_id": user_id, "task_id": task_id}
    if method == "GET" and not task_id:
        return await run("list_newest_first", **key, page_size=100)
    if method == "GET":
        [task] = await run("get", **key)
    elif method == "PATCH":
        [task] = await run("complete", **key)
    else:
        payload = msgspec.json.decode(body, type=Payload)
        kept = payload.description is msgspec.UNSET
        description = None if kept else payload.description
        values: dict[str, Any] = {"title": payload.title, "description": description}
        if method == "PUT":
            completed = payload.completed
            [task] = await run("update", **key, **values, keep_description=kept, completed=completed)
        else:
            [task] = await run("create", **key, **values, completed=bool(payload.completed))
    return task


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        async with pool:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    _, _, user_id, _, *rest = scope["path"].split("/")
    body = (await receive())["body"]
    answer = await respond(scope["method"], UUID(user_id), UUID(rest[0]) if rest else None, body)
    content = msgspec.json.encode(answer)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    status = 201 if scope["method"] == "POST" else 200
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


if __name__ == "__main__":
    uvicorn.run(app, port=0, access_log=False)
