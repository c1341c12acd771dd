"""Rows that somebody types by hand: each that the constraints let in can be read and changed."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from .api import User

# The ends of what each column may hold.
ODD_TIMES = ["0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00", "1969-12-31 23:59:59.000001+00"]
ODD_TEXTS = [
    "a",
    "\U0010ffff" * 200,
    "\u202e\u200b\ufeffx",
    "\x01\x7f",
    "e\u0301" * 100,
    "'\"\\;--%s${x}",
    "\ufffe\uffff",
]
REFUSED_TIMES = ["infinity", "-infinity", "0001-12-31 BC", "10000-01-01 00:00:00+00", "9999-12-31 23:00-02"]


async def test_a_row_typed_by_hand_can_be_read_and_changed(ada: User, database: psycopg.Connection) -> None:
    """Whatever the constraints let through, no operation answers 500."""
    rows: list[tuple[Any, ...]] = [
        (uuid4(), ODD_TEXTS[n % len(ODD_TEXTS)], ODD_TEXTS[-n], ODD_TIMES[n % 3], ODD_TIMES[n % 2])
        for n in range(len(ODD_TEXTS))
    ]
    rows += [(UUID(int=0), "nil", "", *ODD_TIMES[:2]), (UUID(int=2**128 - 2), "last", None, *ODD_TIMES[1:])]
    for row in rows:
        columns = "user_id, id, title, description, created_at, updated_at"
        database.execute(
            f"insert into tasks ({columns}) values (%s, %s, %s, %s, %s, %s)".encode(), [ada.id, *row]
        )
    database.execute("update users set created_at = %s where id = %s", [ODD_TIMES[0], ada.id])
    assert (
        "0001-01-01T00:00:00.000000Z" == (await ada.client.get(f"/api/users/{ada.id}")).json()["created_at"]
    )
    tasks = {task["id"]: task for task in await ada.lists()}
    assert {str(row[0]): row[1] for row in rows} == {key: task["title"] for key, task in tasks.items()}
    for query in ({"q": "\u202e"}, {"updated_since": "9999-12-31T23:59:59.999999Z"}, {"sort": "created_at"}):
        assert await ada.lists(**query)
    for task in tasks.values():
        read = await ada.client.get(ada.path(task))
        assert (200, task) == (read.status_code, read.json())
        only = {"If-Match": read.headers["etag"]}
        patched = await ada.client.patch(ada.path(task), json={"completed": True}, headers=only)
        toggled = await ada.client.patch(f"{ada.path(task)}/complete")
        assert [200, 200] == [patched.status_code, toggled.status_code]
        assert task["updated_at"] <= patched.json()["updated_at"] <= toggled.json()["updated_at"]
        assert 204 == (await ada.client.delete(ada.path(task))).status_code


@pytest.mark.parametrize("time", REFUSED_TIMES)
@pytest.mark.parametrize(
    ("table", "column"), [("users", "created_at"), ("tasks", "created_at"), ("tasks", "updated_at")]
)
async def test_a_moment_that_no_timestamp_expresses_is_refused(
    ada: User, database: psycopg.Connection, table: str, column: str, time: str
) -> None:
    """RFC 3339 has four digits for the year, and no infinity."""
    await ada.creates()
    key = "id" if table == "users" else "user_id"
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        database.execute(f"update {table} set {column} = %s where {key} = %s".encode(), [time, ada.id])
    assert f"{table}_{column}_range" == refused.value.diag.constraint_name
