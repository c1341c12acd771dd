"""Whether a server answers as the service does: with the same fields, and with what the database holds."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import psycopg

BODY = {"title": "Buy milk", "description": "two litres, whole, from the shop on the corner"}

TASKS = """
select to_json(task) from (
    select id, user_id, title, description, completed, created_at, updated_at
    from tasks where user_id = %s order by id desc
) as task
"""

Task = dict[str, Any]


def parsed(task: Task) -> Task:
    """The task with its times as such, however they are written."""
    return {
        name: datetime.fromisoformat(value) if name.endswith("_at") else value for name, value in task.items()
    }


def differences(tasks: list[Task], wanted: list[Task]) -> Iterator[str]:
    """Each field of a task that is not as it should be."""
    if len(tasks) != len(wanted):
        yield f"{len(tasks)} tasks, not {len(wanted)}"
    for task, right in zip(map(parsed, tasks), map(parsed, wanted), strict=False):
        for name in task | right:
            has, should = task.get(name, "missing"), right.get(name, "missing")
            if has != should:
                yield f"{name} is {has}, not {should}"


def faults(client: httpx.Client, database: psycopg.Connection, user: str, task: str) -> Iterator[str]:
    """What is wrong with the operations on a task of a user, field by field.

    An answer must be what the database holds. The database must hold what it held before, with the change
    that the operation is for.
    """

    def rows() -> dict[str, Task]:
        return {row["id"]: row for (row,) in database.execute(TASKS, (user,))}

    tasks, one = f"/api/{user}/tasks", f"/api/{user}/tasks/{task}"
    toggled = {"completed": not rows()[task]["completed"]}
    operations: dict[str, tuple[str, str, Task | None, int, Task]] = {
        "get": ("GET", one, None, 200, {}),
        "list": ("GET", tasks, None, 200, {}),
        "create": ("POST", tasks, BODY, 201, BODY | {"completed": False}),
        "update": ("PUT", one, BODY, 200, BODY),
        "toggle": ("PATCH", f"{one}/complete", None, 200, toggled),
    }
    for operation, (method, path, body, status, change) in operations.items():
        before = rows()
        response = client.request(method, path, json=body)
        after = rows()
        key = next(iter(after)) if operation == "create" else task
        if response.status_code != status:
            yield f"{operation}: status {response.status_code}, not {status}"
            continue
        answer = response.json() if operation == "list" else [response.json()]
        found = differences(answer, list(after.values()) if operation == "list" else [after[key]])
        yield from (f"{operation}: {fault}" for fault in found)
        held = before if key in before else {key: after[key]} | before
        moved = {"updated_at": after[key]["updated_at"]} if change else {}
        found = differences(list(after.values()), list((held | {key: held[key] | change | moved}).values()))
        yield from (f"{operation}, in the database: {fault}" for fault in found)
        if operation in ("update", "toggle") and after[key]["updated_at"] == before[key]["updated_at"]:
            yield f"{operation}, in the database: updated_at stays"
