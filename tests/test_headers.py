"""Headers on every answer: the request's id, the media type, and what keeps it safe."""

import re
from typing import Any
from uuid import uuid4

import httpx
import pytest

from .api import JSON, OPERATIONS, TASK, USER_OPERATIONS, User, assert_problem


@pytest.mark.parametrize("accept", ["text/html", "application/xml;q=1, */*;q=0", "application/json", "x", ""])
async def test_whatever_is_accepted_gets_json(ada: User, accept: str) -> None:
    """There is but one format, errors included."""
    task = await ada.creates()
    response = await ada.client.get(ada.path(task), headers={"Accept": accept})
    assert (200, "application/json") == (response.status_code, response.headers["content-type"])
    assert_problem(await ada.client.get("/nope", headers={"Accept": accept}), 404, "not-found")


@pytest.mark.parametrize("sent", ["a", "x" * 128, "!~", "0af7651916cd43dd8448eb211c80319c-00"])
async def test_a_sane_request_id_is_echoed(client: httpx.AsyncClient, sent: str) -> None:
    """On success and on every error, in header and body."""
    for method, path in (
        ("GET", "/nope"),
        ("PATCH", "/api/users"),
        ("OPTIONS", "/api/users"),
        ("POST", "/api/users"),
    ):
        response = await client.request(method, path, headers={"X-Request-Id": sent})
        assert [sent] == response.headers.get_list("x-request-id")
        assert method == "OPTIONS" or sent == response.json()["request_id"]


@pytest.mark.parametrize("sent", [None, "", "x" * 129, "a b", "a\tb", "ä", "a\x7f", "\u2028"])
async def test_another_request_id_is_made_anew(client: httpx.AsyncClient, sent: str | None) -> None:
    """Also where none came, and each time another."""
    headers = {} if sent is None else {b"X-Request-Id": sent.encode()}
    made = {(await client.get("/nope", headers=headers)).headers["x-request-id"] for _ in range(3)}
    assert 3 == len(made)
    assert all(re.fullmatch(r"[0-9a-f]{32}", request_id) for request_id in made)


@pytest.mark.parametrize(
    ("method", "path", "body"), [*OPERATIONS, *USER_OPERATIONS, ("OPTIONS", TASK, None), ("X", TASK, None)]
)
async def test_every_answer_is_safe_to_show(ada: User, method: str, path: str, body: Any) -> None:
    """Good and bad ones alike: not sniffed, not kept unasked, with an id."""
    task = await ada.creates()
    for user_id in (ada.id, uuid4(), "x"):
        response = await ada.client.request(
            method, path.format(user_id=user_id, task_id=task["id"]), json=body
        )
        assert ["nosniff"] == response.headers.get_list("x-content-type-options")
        assert ["no-cache"] == response.headers.get_list("cache-control")
        assert 1 == len(response.headers.get_list("x-request-id"))
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", response.headers["date"])
        assert "server" not in response.headers


@pytest.mark.parametrize(
    ("name", "status", "slug"),
    [("Idempotency-Key", 422, "invalid-request"), ("Content-Type", 415, "unsupported-media-type")],
)
async def test_a_header_that_may_come_once(ada: User, name: str, status: int, slug: str) -> None:
    """Two lines of it are refused, even if they are equal, and nothing is created."""
    value = {"Idempotency-Key": "k", "Content-Type": "application/json"}[name]
    others = [item for item in JSON.items() if item[0] != name]
    headers = [*others, (name, value), (name, value)]
    assert_problem(await ada.client.post(ada.tasks, content=b'{"title":"x"}', headers=headers), status, slug)
    assert [] == await ada.lists()
