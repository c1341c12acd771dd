# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "fastapi==0.165.0", "psycopg[binary]==3.3.9", "sqlmodel==0.0.50", "uvicorn[standard]==0.54.0",
# ]
# ///
"""FastAPI with SQLModel, as their tutorials build it: functions in threads, a session a request.

The statements are the ORM's own: a change reads the row, writes it, commits, and reads it again.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import DateTime, text
from sqlmodel import Field, Session, SQLModel, col, create_engine, select

engine = create_engine("postgresql+psycopg://", pool_size=10)


def now() -> datetime:
    return datetime.now(UTC)


class TaskBase(SQLModel):
    title: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=1000)
    completed: bool = False


class Task(TaskBase, table=True):
    __tablename__ = "tasks"

    user_id: UUID = Field(primary_key=True)
    id: UUID | None = Field(
        default=None, primary_key=True, sa_column_kwargs={"server_default": text("uuidv7()")}
    )
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))


class TaskPublic(TaskBase):
    id: UUID
    user_id: UUID
    created_at: datetime
    updated_at: datetime


def session() -> Iterator[Session]:
    with Session(engine) as opened:
        yield opened


app = FastAPI()
AnySession = Annotated[Session, Depends(session)]


def find(database: Session, user_id: UUID, task_id: UUID) -> Task:
    task = database.get(Task, (user_id, task_id))
    if task is None:
        raise HTTPException(404)
    return task


def save(database: Session, task: Task) -> Task:
    database.add(task)
    database.commit()
    database.refresh(task)
    return task


@app.get("/api/{user_id}/tasks", response_model=list[TaskPublic])
def list_tasks(user_id: UUID, database: AnySession) -> Any:
    newest_first = select(Task).where(Task.user_id == user_id).order_by(col(Task.id).desc())
    return database.exec(newest_first.limit(100)).all()


@app.post("/api/{user_id}/tasks", response_model=TaskPublic, status_code=201)
def create_task(user_id: UUID, data: TaskBase, database: AnySession) -> Any:
    return save(database, Task(user_id=user_id, **data.model_dump()))


@app.get("/api/{user_id}/tasks/{task_id}", response_model=TaskPublic)
def get_task(user_id: UUID, task_id: UUID, database: AnySession) -> Any:
    return find(database, user_id, task_id)


@app.put("/api/{user_id}/tasks/{task_id}", response_model=TaskPublic)
def update_task(user_id: UUID, task_id: UUID, data: TaskBase, database: AnySession) -> Any:
    task = find(database, user_id, task_id)
    task.sqlmodel_update(data.model_dump(exclude_unset=True), update={"updated_at": now()})
    return save(database, task)


@app.patch("/api/{user_id}/tasks/{task_id}/complete", response_model=TaskPublic)
def toggle_task(user_id: UUID, task_id: UUID, database: AnySession) -> Any:
    task = find(database, user_id, task_id)
    task.completed = not task.completed
    task.updated_at = now()
    return save(database, task)


if __name__ == "__main__":
    uvicorn.run(app, port=0, access_log=False)
