"""Idempotency-Key: a create that is safe to repeat."""

import asyncio
from collections import Counter
from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import psycopg
import pytest

from todo_api.resources.tasks.payloads import TaskCreation
from todo_api.resources.tasks.versions import idempotency_digest

from .api import OPERATIONS, User, assert_problem
from .waiting import eventually


async def create(user: User, key: str, body: Any = None) -> httpx.Response:
    """Create a task under a key."""
    return await user.client.post(
        user.tasks, json=body or {"title": "Buy milk"}, headers={"Idempotency-Key": key}
    )


@pytest.mark.parametrize(
    "key", ["k", "x" * 255, '"quoted"', r'"a\"b\\c"', "0f9b1d5e-6f0a-4c3b-9a53-8a6f5d0c2b71", "!#~'"]
)
async def test_a_repeated_request_creates_nothing(ada: User, key: str) -> None:
    """It gets the task of the first one, and is told so."""
    first, *others = [await create(ada, key) for _ in range(3)]
    assert 201 == first.status_code
    assert "idempotency-replayed" not in first.headers
    for other in others:
        assert (201, "true") == (other.status_code, other.headers["idempotency-replayed"])
        assert first.json() == other.json()
        assert [first.headers[name] for name in ("location", "etag")] == [
            other.headers[name] for name in ("location", "etag")
        ]
    assert [first.json()] == await ada.lists()


async def test_a_quoted_key_is_the_plain_one(ada: User) -> None:
    """A structured field's string is what stands between its quotes."""
    assert (await create(ada, r'"a\"b"')).json() == (await create(ada, 'a"b')).json()


async def test_the_same_payload_said_otherwise(ada: User) -> None:
    """Order, white space and defaults make no other payload."""
    await create(ada, "k", {"title": "x", "completed": False, "description": None})
    same = await create(ada, "k", {"description": None, "title": " x "})
    assert (201, "true") == (same.status_code, same.headers["idempotency-replayed"])


@pytest.mark.parametrize(
    ("payload", "digest"),
    [
        ({"title": "x"}, "8daa852d9c2f861eb0ee226e1195ae0de7d0a7d1069bf861af6119f0cb5ab8d2"),
        (
            {"title": "Buy milk", "description": "Two litres", "completed": True},
            "5ca1f2d41a852ebe457ef5ffbfa9e6fb86686cf120887600f033d1cb6a8a9f70",
        ),
        (
            {"title": 'Ünï "quoted" \\ 🥛', "description": ""},
            "48291e9e589f489f43968f8e8c9b651873fb9801a1123148f6710b038b7922c3",
        ),
    ],
)
async def test_digests_never_change(
    ada: User, database: psycopg.Connection, payload: dict[str, Any], digest: str
) -> None:
    """Every release stores the same digest of a payload, as the first one did, or keys in use would break."""
    task = (await create(ada, "k", payload)).json()
    query = "select encode(idempotency_digest, 'hex') from tasks where user_id = %s and id = %s"
    assert (digest,) == database.execute(query, [ada.id, task["id"]]).fetchone()


class LaterTask(TaskCreation, forbid_unknown_fields=True):
    """The payload of a later release."""

    priority: str = "normal"
    assignees: list[str] = []


@pytest.mark.parametrize("same", [{}, {"priority": "normal"}, {"assignees": [], "priority": "normal"}])
def test_an_optional_field_that_is_added_changes_no_digest(same: dict[str, Any]) -> None:
    """Whether a client that knows the new field sends its default or leaves it out."""
    payload: dict[str, Any] = {"title": "x", "description": "y"}
    later = msgspec.json.decode(msgspec.json.encode(payload | same), type=LaterTask)
    assert idempotency_digest(TaskCreation(**payload)) == idempotency_digest(later)


def test_an_added_field_that_is_used_changes_the_digest() -> None:
    """Each value differently, and the order of the Struct's fields does not matter."""
    later = LaterTask("x", priority="high", assignees=["ada"])
    digests = {
        idempotency_digest(task) for task in (later, LaterTask("x", priority="high"), TaskCreation("x"))
    }
    assert 3 == len(digests)
    reordered = b'{"title":"x","description":null,"completed":false,"assignees":["ada"],"priority":"high"}'
    assert sha256(reordered).digest() == idempotency_digest(later)


@pytest.mark.parametrize(
    "other", [{"title": "y"}, {"title": "x", "completed": True}, {"title": "x", "description": ""}]
)
async def test_another_payload_is_refused(ada: User, other: dict[str, Any]) -> None:
    """422, and the first task stays as it was."""
    task = (await create(ada, "k", {"title": "x"})).json()
    assert_problem(await create(ada, "k", other), 422, "idempotency-key-reused")
    assert [task] == await ada.lists()


async def test_a_replay_shows_the_task_as_it_is(ada: User) -> None:
    """The payload of the first request counts, not what has become of its task."""
    task = (await create(ada, "k", {"title": "x"})).json()
    changed = (await ada.client.patch(ada.path(task), json={"title": "y"})).json()
    again = await create(ada, "k", {"title": "x"})
    assert (201, changed) == (again.status_code, again.json())
    assert f'"{changed["updated_at"]}"' == again.headers["etag"]


async def test_of_16_equal_requests_at_once_one_creates(ada: User) -> None:
    """The others wait for it and get its task."""
    responses = await asyncio.gather(*(create(ada, "k") for _ in range(16)))
    assert [201] * 16 == [response.status_code for response in responses]
    assert {None: 1, "true": 15} == Counter(
        response.headers.get("idempotency-replayed") for response in responses
    )
    assert await ada.lists() == [responses[0].json()]
    assert 1 == len({response.text for response in responses})


async def test_of_16_different_requests_at_once_one_creates(ada: User) -> None:
    """The others are told that the key is taken."""
    responses = await asyncio.gather(*(create(ada, "k", {"title": f"{number}"}) for number in range(16)))
    assert {201: 1, 422: 15} == Counter(response.status_code for response in responses)
    assert 1 == len(await ada.lists())


WRITES = [operation for operation in OPERATIONS if operation[0] not in ("GET", "HEAD")]
CREATE = ("POST", "/api/{user_id}/tasks", {"title": "x"})


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        (*CREATE, {"Idempotency-Key": "k"}, 201),
        ("GET", "/api/{user_id}/tasks", None, {}, 200),
        *((*write, {}, 503) for write in [CREATE, *WRITES]),
    ],
)
async def test_only_reads_and_creates_with_a_key_are_tried_again(
    ada: User, database_url: str, method: str, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    """If the connection breaks before the answer: another try of any other write could write twice."""
    task = await ada.creates()
    url = path.format(user_id=ada.id, task_id=task["id"])
    stuck = "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with await psycopg.AsyncConnection.connect(database_url) as other:

        async def found() -> list[tuple[int]]:
            await other.execute("select pg_stat_clear_snapshot()")
            return await (await other.execute(stuck)).fetchall()

        await other.execute("lock table tasks")
        request = asyncio.create_task(ada.client.request(method, url, json=body, headers=headers))
        await other.execute("select pg_terminate_backend(%s)", (await eventually(found))[0])
        await asyncio.sleep(0.1)  # a second try waits for the lock by now
        await other.rollback()
        assert status == (await request).status_code
    assert (status == 201) + 1 == len(await ada.lists())
    assert task in await ada.lists()


async def test_a_failed_request_burns_no_key(ada: User) -> None:
    """What was refused may be sent again, mended, under its key."""
    assert_problem(await create(ada, "k", {"title": ""}), 422, "invalid-request")
    response = await create(ada, "k", {"title": "x"})
    assert 201 == response.status_code
    assert "idempotency-replayed" not in response.headers


async def test_a_key_lives_as_long_as_its_task(ada: User) -> None:
    """After that it is free again, for another payload too."""
    task = (await create(ada, "k", {"title": "x"})).json()
    await ada.client.delete(ada.path(task))
    again = await create(ada, "k", {"title": "y"})
    assert 201 == again.status_code
    assert "idempotency-replayed" not in again.headers
    assert task["id"] != again.json()["id"]


async def test_keys_belong_to_the_user(ada: User, bob: User) -> None:
    """Nobody sees another's task, or that there is one, by guessing its key."""
    await create(ada, "k", {"title": "ada's"})
    response = await create(bob, "k", {"title": "bob's"})
    assert (201, bob.id) == (response.status_code, response.json()["user_id"])
    assert "idempotency-replayed" not in response.headers
    nobody = User(ada.client, str(uuid4()))
    assert_problem(await create(nobody, "k"), 404, "user-not-found")


@pytest.mark.parametrize("body", [None, b"null"])
async def test_a_toggle_takes_no_key(ada: User, body: bytes | None) -> None:
    """Its repetition would undo it: 422 says what to send instead, and nothing is written."""
    task = await ada.creates()
    path, key = f"{ada.path(task)}/complete", {"Idempotency-Key": "k", "Content-Type": "application/json"}
    problem = assert_problem(await ada.client.patch(path, content=body, headers=key), 422, "invalid-request")
    [fault] = problem["errors"]
    assert "Idempotency-Key" == fault["header"]
    assert '{"completed": true}' in fault["detail"]
    assert [task] == await ada.lists()
    for _ in range(2):
        response = await ada.client.patch(path, json={"completed": True}, headers=key)
        assert (200, True) == (response.status_code, response.json()["completed"])


async def test_a_user_takes_no_key(client: httpx.AsyncClient) -> None:
    """422 says why, and no user is made; without the key a repeated request is a 409."""
    user = {"email": f"{uuid4().hex}@example.org"}
    response = await client.post("/api/users", json=user, headers={"Idempotency-Key": "k"})
    problem = assert_problem(response, 422, "invalid-request")
    assert ["Idempotency-Key"] == [fault["header"] for fault in problem["errors"]]
    assert [201, 409] == [(await client.post("/api/users", json=user)).status_code for _ in range(2)]


async def test_without_a_key_each_request_creates(ada: User) -> None:
    """Two equal tasks are no mistake."""
    assert (await ada.creates("x"))["id"] != (await ada.creates("x"))["id"]


@pytest.mark.parametrize(
    "key",
    [
        "",
        '""',
        "x" * 256,
        f'"{"x" * 256}"',
        "a b",
        '"a b"',
        '"a',
        '"a"b"',
        r'"a\b"',
        '"a";b=1',
        "ä",
        "a\x7f",
        '"a\\"',
    ],
)
async def test_what_is_no_key(ada: User, key: str) -> None:
    """422 names the header, and nothing is created."""
    response = await ada.client.post(
        ada.tasks, json={"title": "x"}, headers={b"Idempotency-Key": key.encode("latin-1")}
    )
    problem = assert_problem(response, 422, "invalid-request")
    assert ["Idempotency-Key"] == [fault["header"] for fault in problem["errors"]]
    assert [] == await ada.lists()
