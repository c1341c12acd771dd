"""The operations on tasks, and what their table refuses."""

import asyncio
import re
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors

from .api import OPERATIONS, USER_OPERATIONS, User, assert_problem

MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
FIELDS = ["id", "user_id", "title", "description", "completed", "created_at", "updated_at"]


async def test_creating_a_task(ada: User) -> None:
    """A created task is answered whole, with its address and its tag, and is there from then on."""
    response = await ada.client.post(ada.tasks, json={"title": "  Buy milk\n"})
    assert 201 == response.status_code
    task = response.json()
    assert FIELDS == list(task)
    assert ("Buy milk", None, False) == (task["title"], task["description"], task["completed"])
    assert (ada.id, 7) == (task["user_id"], UUID(task["id"]).version)
    assert task["created_at"] == task["updated_at"]
    assert re.fullmatch(MOMENT, task["created_at"])
    assert f"{ada.tasks}/{task['id']}" == response.headers["location"]
    assert f'"{task["updated_at"]}"' == response.headers["etag"]
    read = await ada.client.get(response.headers["location"])
    assert (200, task) == (read.status_code, read.json())
    assert response.headers["etag"] == read.headers["etag"]


async def test_creating_with_every_field(ada: User) -> None:
    """Description and completed may come along."""
    sent: dict[str, Any] = {"title": "x" * 200, "description": "\t ü\n", "completed": True}
    task = await ada.creates(**sent)
    assert sent == {name: task[name] for name in sent}


@pytest.mark.parametrize(
    "title", ["x", " " * 500 + "x" * 200 + "\u2003\u00a0\x1f\n", "😀" * 200, "a b", "\u200b"]
)
async def test_what_is_a_title(ada: User, title: str) -> None:
    """1 to 200 code points after trimming white space, of whatever script."""
    assert title.strip() == (await ada.creates(title))["title"]
    task = await ada.creates()
    for method in ("PUT", "PATCH"):
        changed = await ada.client.request(method, ada.path(task), json={"title": title})
        assert title.strip() == changed.json()["title"]


BODIES: list[tuple[dict[str, Any], str]] = [
    ({"title": ""}, "/title"),
    ({"title": " \t\n\u2003\u00a0\x1f"}, "/title"),
    ({"title": "x" * 201}, "/title"),
    ({"title": " " + "😀" * 201}, "/title"),
    ({"title": "x\0y"}, "/title"),
    ({"title": "\0"}, "/title"),
    ({"title": None}, "/title"),
    ({"title": 7}, "/title"),
    ({"title": ["x"]}, "/title"),
    ({"title": "x", "description": "x" * 1001}, "/description"),
    ({"title": "x", "description": "x\0"}, "/description"),
    ({"title": "x", "description": False}, "/description"),
    ({"title": "x", "completed": None}, "/completed"),
    ({"title": "x", "completed": "true"}, "/completed"),
    ({"title": "x", "completed": 1}, "/completed"),
    ({"title": "x", "colour": "red"}, "/colour"),
    ({"title": "x", "a/b~c": 1}, "/a~1b~0c"),
    ({"title": "x", "": 1}, "/"),
]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(("body", "pointer"), BODIES)
async def test_what_is_wrong_in_a_body_is_pointed_at(ada: User, method: str, body: Any, pointer: str) -> None:
    """The same faults on each way in, by an RFC 6901 pointer; nothing is written."""
    task = await ada.creates()
    path = ada.tasks if method == "POST" else ada.path(task)
    problem = assert_problem(await ada.client.request(method, path, json=body), 422, "invalid-request")
    assert [pointer] == [fault["pointer"] for fault in problem["errors"]]
    assert all(re.fullmatch(r"[A-Z][^`$]+\.", fault["detail"]) for fault in problem["errors"])
    assert [task] == await ada.lists()


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_every_fault_is_named_at_once(ada: User, method: str) -> None:
    """A title is required, whatever else is wrong."""
    path = ada.tasks if method == "POST" else ada.path(await ada.creates())
    body = {"description": 1, "completed": 2, "colour": 3}
    problem = assert_problem(await ada.client.request(method, path, json=body), 422, "invalid-request")
    expected = {"/title", "/description", "/completed", "/colour"}
    assert expected == {fault["pointer"] for fault in problem["errors"]}


@pytest.mark.parametrize("name", ["id", "user_id", "created_at", "updated_at"])
async def test_what_is_read_only_cannot_be_created(ada: User, name: str) -> None:
    """A client that picks its own id learns that it does not get it."""
    problem = assert_problem(
        await ada.client.post(ada.tasks, json={"title": "x", name: "x"}), 422, "invalid-request"
    )
    assert [f"/{name}"] == [fault["pointer"] for fault in problem["errors"]]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_what_was_read_can_be_sent_back(ada: User, method: str) -> None:
    """The read-only fields are accepted and ignored, whatever they hold."""
    task = await ada.creates(description="d", completed=True)
    same = await ada.client.request(method, ada.path(task), json=task)
    assert (200, task | {"updated_at": same.json()["updated_at"]}) == (same.status_code, same.json())
    others = {"id": None, "user_id": 7, "created_at": [1], "updated_at": {"a": 1}}
    moved = await ada.client.request(method, ada.path(task), json={"title": "x"} | others)
    assert (task["id"], ada.id, task["created_at"], "x") == tuple(
        moved.json()[name] for name in ("id", "user_id", "created_at", "title")
    )


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    "change",
    [{}, {"description": "other"}, {"description": None}, {"description": ""}, {"completed": False}],
)
async def test_what_is_left_out_keeps_its_value(ada: User, method: str, change: dict[str, Any]) -> None:
    """Neither PUT nor PATCH wipes a field by accident; null clears a description."""
    task = await ada.creates("before", description="d", completed=True)
    change = {"title": "after"} | change
    response = await ada.client.request(method, ada.path(task), json=change)
    assert 200 == response.status_code
    assert task | change | {"updated_at": response.json()["updated_at"]} == response.json()
    assert f'"{response.json()["updated_at"]}"' == response.headers["etag"]
    assert response.json() == (await ada.client.get(ada.path(task))).json()


@pytest.mark.parametrize("media_type", ["application/json", "application/merge-patch+json; charset=utf-8"])
async def test_a_merge_patch(ada: User, media_type: str) -> None:
    """PATCH takes JSON merge patches by either name, an empty one too (RFC 7396)."""
    task = await ada.creates(description="d")
    for patch, expected in ((b"{}", "d"), (b'{"description":null}', None)):
        response = await ada.client.patch(ada.path(task), content=patch, headers={"Content-Type": media_type})
        assert (200, expected) == (response.status_code, response.json()["description"])


async def test_deleting(ada: User) -> None:
    """Gone once, not found from then on."""
    task = await ada.creates()
    response = await ada.client.delete(ada.path(task))
    assert (204, b"") == (response.status_code, response.content)
    assert not {"content-type", "content-length"} & set(response.headers)
    assert_problem(await ada.client.delete(ada.path(task)), 404, "task-not-found")
    assert_problem(await ada.client.get(ada.path(task)), 404, "task-not-found")
    assert [] == await ada.lists()


async def test_the_toggle(ada: User) -> None:
    """Without a body it turns completed round; with one it sets it, and may be repeated."""
    path = ada.path(await ada.creates()) + "/complete"
    steps: list[tuple[Any, bool]] = [(None, True), (None, False), (True, True), (True, True), (None, False)]
    for sent, expected in steps:
        response = await ada.client.patch(path, json=None if sent is None else {"completed": sent})
        assert (200, expected) == (response.status_code, response.json()["completed"])
        assert f'"{response.json()["updated_at"]}"' == response.headers["etag"]


@pytest.mark.parametrize("body", ["{}", "[]", "true", '{"completed":null}', '{"completed":"true"}'])
async def test_a_wrong_body_toggles_nothing(ada: User, body: str) -> None:
    """Only an absent body, or `null`, toggles."""
    task = await ada.creates()
    headers = {"Content-Type": "application/json"}
    response = await ada.client.patch(ada.path(task) + "/complete", content=body, headers=headers)
    assert assert_problem(response, 422, "invalid-request")["errors"]
    assert [task] == await ada.lists()


async def test_null_is_no_body(ada: User) -> None:
    """Generated clients send `null` where they mean no body, and so it toggles."""
    task = await ada.creates()
    response = await ada.client.patch(
        ada.path(task) + "/complete", content="null", headers={"Content-Type": "application/json"}
    )
    assert (200, True) == (response.status_code, response.json()["completed"])


async def test_no_toggle_is_lost(ada: User) -> None:
    """Of 15 toggles at once each counts."""
    path = ada.path(await ada.creates()) + "/complete"
    responses = await asyncio.gather(*(ada.client.patch(path) for _ in range(15)))
    assert [200] * 15 == [response.status_code for response in responses]
    assert 15 == len({response.headers["etag"] for response in responses})
    assert (await ada.lists())[0]["completed"]


@pytest.mark.parametrize(("method", "path", "body"), OPERATIONS)
async def test_updated_at_grows(
    ada: User, database: psycopg.Connection, method: str, path: str, body: dict[str, Any] | None
) -> None:
    """With each change, even where the clock stands behind the last one."""
    task = await ada.creates()
    database.execute("update tasks set updated_at = '2999-01-01' where id = %s", [task["id"]])
    await ada.client.request(method, path.format(user_id=ada.id, task_id=task["id"]), json=body)
    found = [task["updated_at"] for task in await ada.lists()]
    expected = {"GET": ["2999-01-01T00:00:00.000000Z"], "DELETE": []}
    expected["HEAD"] = expected["GET"]
    assert expected.get(method, ["2999-01-01T00:00:00.000001Z"]) == found


@pytest.mark.parametrize(("method", "path", "body"), OPERATIONS)
async def test_another_users_task_is_not_there(
    ada: User, bob: User, method: str, path: str, body: dict[str, Any] | None
) -> None:
    """Byte for byte the answer that a task which never was gets, but for its id."""
    task = await ada.creates()
    answers = []
    for task_id in (task["id"], str(uuid4())):
        response = await bob.client.request(
            method, path.format(user_id=bob.id, task_id=task_id), json=body, headers={"X-Request-Id": "same"}
        )
        if method == "HEAD":
            assert 404 == response.status_code
        else:
            assert_problem(response, 404, "task-not-found")
        answers.append((response.content.replace(task_id.encode(), b"ID"), response.headers.raw))
    assert answers[1] == answers[0]
    assert [task] == await ada.lists()


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(("method", "path", "body"), [*OPERATIONS, *USER_OPERATIONS])
async def test_a_user_who_is_not_there(ada: User, own: bool, method: str, path: str, body: Any) -> None:
    """404 on each operation, also where the task is somebody's."""
    task_id = (await ada.creates())["id"] if own else uuid4()
    response = await ada.client.request(method, path.format(user_id=uuid4(), task_id=task_id), json=body)
    if method == "HEAD":
        assert 404 == response.status_code
    else:
        assert_problem(response, 404, "task-not-found" if "task_id" in path else "user-not-found")


@pytest.mark.parametrize(
    "fractions",
    [("", ".5"), (".25", ""), ("", ""), (".000001", ".999999")],
    ids=["first", "second", "both", "none"],
)
async def test_a_whole_second_has_microseconds_too(
    ada: User, database: psycopg.Connection, fractions: tuple[str, str]
) -> None:
    """Six digits always, and a tag that matches, also of a row that was typed by hand."""
    task = await ada.creates()
    typed = [f"2026-01-01 01:00:00{fraction}+01" for fraction in fractions]
    database.execute("update tasks set created_at = %s, updated_at = %s where id = %s", [*typed, task["id"]])
    read = await ada.client.get(ada.path(task))
    expected = [f"2026-01-01T00:00:00.{fraction[1:]:0<6}Z" for fraction in fractions]
    assert expected == [read.json()["created_at"], read.json()["updated_at"]]
    assert [read.json()] == await ada.lists()
    assert f'"{expected[1]}"' == read.headers["etag"]
    patched = await ada.client.patch(ada.path(task), json={}, headers={"If-Match": read.headers["etag"]})
    assert 200 == patched.status_code


def _insert(database: psycopg.Connection, owner: User, **columns: Any) -> None:
    row = {"user_id": owner.id, "title": "x"} | columns
    names = ", ".join(row)
    values = ", ".join(f"%({name})s" for name in row)
    database.execute(f"insert into tasks ({names}) values ({values})".encode(), row)


ROWS: list[tuple[dict[str, Any], str]] = [
    ({"title": ""}, "tasks_title_length"),
    ({"title": "x" * 201}, "tasks_title_length"),
    *(
        ({"title": f"x{space}"}, "tasks_title_trimmed")
        for space in " \t\n\r\x0b\x0c\u1680\u2003\u2028\u205f\u3000"
    ),
    ({"title": "\nx"}, "tasks_title_trimmed"),
    ({"description": "x" * 1001}, "tasks_description_length"),
    ({"idempotency_key": "", "idempotency_digest": b""}, "tasks_idempotency_key_form"),
    ({"idempotency_key": "a b", "idempotency_digest": b""}, "tasks_idempotency_key_form"),
    ({"idempotency_key": "a\n", "idempotency_digest": b""}, "tasks_idempotency_key_form"),
    ({"idempotency_key": "x" * 256, "idempotency_digest": b""}, "tasks_idempotency_key_form"),
    ({"idempotency_key": "x"}, "tasks_idempotency_pair"),
    ({"idempotency_digest": b"x"}, "tasks_idempotency_pair"),
]


@pytest.mark.parametrize(("columns", "constraint"), ROWS)
async def test_the_table_refuses_the_same(
    ada: User, database: psycopg.Connection, columns: dict[str, Any], constraint: str
) -> None:
    """A row typed by hand obeys the limits of the API, by a constraint whose name says which."""
    with pytest.raises(errors.CheckViolation) as caught:
        _insert(database, ada, **columns)
    assert constraint == caught.value.diag.constraint_name


async def test_the_table_takes_the_limits(ada: User, database: psycopg.Connection) -> None:
    """What is just long enough is in."""
    _insert(
        database,
        ada,
        title="😀" * 200,
        description="😀" * 1000,
        idempotency_key="x" * 255,
        idempotency_digest=b"",
    )
    assert 1 == len(await ada.lists())


@pytest.mark.parametrize("column", ["user_id", "id", "title", "completed", "created_at", "updated_at"])
async def test_the_table_refuses_null(ada: User, database: psycopg.Connection, column: str) -> None:
    """Only a description may be missing."""
    with pytest.raises(errors.NotNullViolation):
        _insert(database, ada, **{column: None})


async def test_the_table_needs_an_owner_and_follows_them(ada: User, database: psycopg.Connection) -> None:
    """No task without a user, and none outlives theirs."""
    with pytest.raises(errors.ForeignKeyViolation) as caught:
        _insert(database, ada, user_id=uuid4())
    assert "tasks_user_id_fkey" == caught.value.diag.constraint_name
    task = await ada.creates()
    database.execute("delete from users where id = %s", [ada.id])
    assert [] == database.execute("select from tasks where id = %s", [task["id"]]).fetchall()


def test_postgresql_trims_no_more_than_python(database: psycopg.Connection) -> None:
    """What passes the API passes the table: no character is white space to PostgreSQL alone."""
    found = database.execute(
        "select n from generate_series(1, 1114111) as n"
        " where n not between 55296 and 57343 and chr(n) ~ '[\\s[:cntrl:]]'"
    )
    theirs = {chr(number) for (number,) in found}
    assert {" ", "\n", "\u3000"} < theirs
    assert [] == [character for character in theirs if not re.match(r"[\s\x00-\x1f\x7f-\x9f]", character)]
