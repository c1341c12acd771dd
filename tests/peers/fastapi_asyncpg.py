# /// script
# requires-python = ">=3.11"
# dependencies = ["asyncpg==0.32.0", "fastapi==0.165.0", "uvicorn[standard]==0.54.0"]
# ///
"""FastAPI over asyncpg, with statements in SQL and no ORM: the usual choice where speed matters."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, StringConstraints

PARAMETER = re.compile(r"%\((\w+)\)s")


def read(name: str) -> tuple[str, list[str]]:
    """A statement with $1 for its first parameter, and the names of its parameters in that order."""
    text = (Path(__file__).parents[2] / "sql" / "tasks" / f"{name}.sql").read_text()
    names = list(dict.fromkeys(PARAMETER.findall(text)))
    return PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text), names


LIST, GET, CREATE, UPDATE, COMPLETE = map(read, ("list_newest_first", "get", "create", "update", "complete"))


class Task(BaseModel):
    id: UUID
    user_id: UUID
    title: str
    description: str | None
    completed: bool
    created_at: datetime
    updated_at: datetime


class Payload(BaseModel):
    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    description: Annotated[str, StringConstraints(max_length=1000)] | None = None
    completed: bool | None = None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(min_size=10, max_size=10) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


async def rows(statement: tuple[str, list[str]], **parameters: Any) -> list[dict[str, Any]]:
    text, names = statement
    return [dict(row) for row in await app.state.pool.fetch(text, *map(parameters.get, names))]


async def one(statement: tuple[str, list[str]], **parameters: Any) -> dict[str, Any]:
    for row in await rows(statement, **parameters):
        return row
    raise HTTPException(404)


@app.get("/api/{user_id}/tasks", response_model=list[Task])
async def list_tasks(user_id: UUID) -> Any:
    return await rows(LIST, user_id=user_id, page_size=100)


@app.post("/api/{user_id}/tasks", response_model=Task, status_code=201)
async def create_task(user_id: UUID, data: Payload) -> Any:
    completed = bool(data.completed)
    return await one(
        CREATE, user_id=user_id, title=data.title, description=data.description, completed=completed
    )


@app.get("/api/{user_id}/tasks/{task_id}", response_model=Task)
async def get_task(user_id: UUID, task_id: UUID) -> Any:
    return await one(GET, user_id=user_id, task_id=task_id)


@app.put("/api/{user_id}/tasks/{task_id}", response_model=Task)
async def update_task(user_id: UUID, task_id: UUID, data: Payload) -> Any:
    kept = "description" not in data.model_fields_set
    return await one(UPDATE, user_id=user_id, task_id=task_id, keep_description=kept, **data.model_dump())


@app.patch("/api/{user_id}/tasks/{task_id}/complete", response_model=Task)
async def toggle_task(user_id: UUID, task_id: UUID) -> Any:
    return await one(COMPLETE, user_id=user_id, task_id=task_id)


if __name__ == "__main__":
    uvicorn.run(app, port=0, access_log=False)
