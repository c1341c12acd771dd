"""Ids in paths: only UUIDs in their canonical form, in either case."""

from typing import Any
from uuid import uuid4

import pytest

from .api import OPERATIONS, TASK, USER_OPERATIONS, User, assert_problem, on_routes

ODD_IDS = [
    "x",
    "7",
    "null",
    "{{{id}}}",
    "urn:uuid:{id}",
    "{hex}",
    "{id}%0A",
    "%0A{id}",
    "{id}%20",
    "%20{id}",
    "{id}%00",
]
ODD_IDS += [
    "%00",
    "%FF",
    "%C3%28",
    "{id}0",
    "{under}",
    "%7B{id}%7D",
    "{id};x",
    "%2e%2e",
    "{id}%C2%A0",
    "x" * 30000,
]
ODD_IDS += ["{id}%2F", "%2F{id}", "{id}%5C", "{id}'--", "\uff05", "{fullwidth}"]


@pytest.mark.parametrize(
    ("method", "path", "body", "odd"),
    on_routes(ODD_IDS, [*OPERATIONS, *USER_OPERATIONS], few=6),
    ids=lambda value: str(value)[:20],
)
async def test_an_id_that_is_no_uuid(ada: User, method: str, path: str, body: Any, odd: str) -> None:
    """404: only the canonical form is an id, so that a resource has one name."""
    for place in ("task_id", "user_id") if "task_id" in path else ("user_id",):
        ids = {"user_id": ada.id, "task_id": str(uuid4())}
        spelled = odd.format(
            id=ids[place],
            hex=ids[place].replace("-", ""),
            under=ids[place].replace("-", "_"),
            fullwidth=ids[place].replace("0", "\uff10").replace("1", "\uff11") + "\uff10",
        )
        url = path.format(**ids | {place: spelled})
        response = await ada.client.request(method, url, json=body)
        assert 404 == response.status_code, (url, response.text)
        assert method == "HEAD" or assert_problem(response, 404, "not-found")


@pytest.mark.parametrize(("path", "name"), [("/api/nope/tasks", "user_id"), ("/api/{id}/tasks/7", "task_id")])
async def test_a_malformed_id_is_named(ada: User, path: str, name: str) -> None:
    """The detail says which id is no UUID."""
    problem = assert_problem(await ada.client.get(path.format(id=ada.id)), 404, "not-found")
    assert problem["detail"].startswith(f"The {name} in the path ")


async def test_an_id_in_upper_case(ada: User) -> None:
    """Is the same id (RFC 9562, section 4), and is answered in lower case."""
    task = await ada.creates()
    path = TASK.format(user_id=ada.id.upper(), task_id=task["id"].upper())
    assert task == (await ada.client.get(path)).json()
    assert [task] == (await ada.client.get(f"/api/{ada.id.upper()}/tasks")).json()
    created = await ada.client.post(f"/api/{ada.id.upper()}/tasks", json={"title": "x"})
    assert created.headers["location"].startswith(f"/api/{ada.id}/tasks/")
    assert 204 == (await ada.client.delete(path)).status_code
