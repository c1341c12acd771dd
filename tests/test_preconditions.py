"""Entity tags, If-Match and If-None-Match (RFC 9110, section 13)."""

import asyncio
from typing import Any

import httpx
import pytest

from .api import OPERATIONS, User, assert_problem

CHANGES = [operation for operation in OPERATIONS if operation[0] not in ("GET", "HEAD")]
MALFORMED = ["", "abc", '"', '"a', "W/", 'w/"a"', '"a" "b"', '*, "a"', '"a", *', '"a b"', "''", '"a"x']


def of(task: dict[str, Any]) -> str:
    """The tag of a task as the client has it."""
    return f'"{task["updated_at"]}"'


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("condition", ["{}", "W/{}", '"x", {}', 'W/"a,b" ,\t, W/{} ,', "*"])
async def test_what_the_client_has_is_not_sent_again(ada: User, method: str, condition: str) -> None:
    """304 without a body, for a task and for a list, by weak comparison."""
    task = await ada.creates()
    for path in (ada.path(task), ada.tasks):
        tag = (await ada.client.get(path)).headers["etag"]
        assert tag.startswith('"')
        headers = {"If-None-Match": condition.format(tag)}
        response = await ada.client.request(method, path, headers=headers)
        assert (304, b"", tag) == (response.status_code, response.content, response.headers["etag"])
        assert "content-type" not in response.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_has_changed_is_sent(ada: User, method: str) -> None:
    """An old tag gets the new task and the new list."""
    task = await ada.creates()
    before = {path: (await ada.client.get(path)).headers["etag"] for path in (ada.path(task), ada.tasks)}
    await ada.client.patch(ada.path(task), json={})
    for path, tag in before.items():
        response = await ada.client.request(method, path, headers={"If-None-Match": f'"x", {tag}'})
        assert 200 == response.status_code
        assert tag != response.headers["etag"]


async def test_a_list_changes_with_its_link(ada: User) -> None:
    """The same tasks with another Link are another answer."""
    await ada.creates()
    whole = await ada.client.get(ada.tasks, params={"limit": 1, "sort": "created_at"})
    await ada.creates()
    part = await ada.client.get(
        ada.tasks, params={"limit": 1, "sort": "created_at"}, headers={"If-None-Match": whole.headers["etag"]}
    )
    assert (200, whole.json()) == (part.status_code, part.json())
    again = await ada.client.get(
        ada.tasks, params={"limit": 1, "sort": "created_at"}, headers={"If-None-Match": part.headers["etag"]}
    )
    assert (304, part.headers["link"]) == (again.status_code, again.headers["link"])


async def test_a_list_of_nothing_has_a_tag(ada: User) -> None:
    """Polling an empty list is as cheap as another."""
    tag = (await ada.client.get(ada.tasks)).headers["etag"]
    assert 304 == (await ada.client.get(ada.tasks, headers={"If-None-Match": tag})).status_code


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
@pytest.mark.parametrize("condition", ["{}", "W/{}", '"x", {}', ', "a,b",\t{} ,', "*", " * "])
async def test_a_change_of_what_the_client_has(
    ada: User, method: str, path: str, body: Any, condition: str
) -> None:
    """A write whose If-Match names the current version is done, also if a proxy has made its tag weak."""
    task = await ada.creates()
    response = await ada.client.request(
        method,
        path.format(user_id=ada.id, task_id=task["id"]),
        json=body,
        headers={"If-Match": condition.format(of(task))},
    )
    assert (204 if method == "DELETE" else 200) == response.status_code
    assert [task] != await ada.lists()


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
@pytest.mark.parametrize(
    "condition",
    [
        '"x"',
        'W/"x"',
        '"", "2026", "2026-01-01T00:00:00.000000Z"',
        '{0:.20}Z"',
        '{0:.27}"',
        '{0:.27}+00:00"',
        '"0001-01-01T00:00:00.000000+14:00"',
        '"2026-01-01T00:00:00.000000+00:00"',
    ],
)
async def test_a_change_of_what_the_client_has_not(
    ada: User, method: str, path: str, body: Any, condition: str
) -> None:
    """412 where another version is there, and nothing is written."""
    task = await ada.creates()
    response = await ada.client.request(
        method,
        path.format(user_id=ada.id, task_id=task["id"]),
        json=body,
        headers={"If-Match": condition.format(of(task))},
    )
    assert_problem(response, 412, "task-changed")
    assert [task] == await ada.lists()


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_a_change_of_what_is_not_there(ada: User, bob: User, method: str, path: str, body: Any) -> None:
    """404, not 412: also for a task of another user, whatever its tag."""
    task = await ada.creates()
    for condition in (of(task), '"x"', "*"):
        response = await bob.client.request(
            method,
            path.format(user_id=bob.id, task_id=task["id"]),
            json=body,
            headers={"If-Match": condition},
        )
        assert_problem(response, 404, "task-not-found")
    assert [task] == await ada.lists()


@pytest.mark.parametrize("value", MALFORMED)
async def test_what_is_no_tag(ada: User, value: str) -> None:
    """422 names the header, for a task and for a list; nothing is written."""
    task = await ada.creates()
    for method, path, header in (
        *(
            (method, path, header)
            for method, path in [
                *((method, path) for method, path, _ in CHANGES),
                ("GET", ada.path(task)),
                ("GET", ada.tasks),
            ]
            for header in ("If-Match", "If-None-Match")
        ),
    ):
        response = await ada.client.request(
            method,
            path.format(user_id=ada.id, task_id=task["id"]),
            json={"title": "x", "completed": True}
            if method in ("PUT", "PATCH") and "complete" not in path
            else None,
            headers={header: value},
        )
        problem = assert_problem(response, 422, "invalid-request")
        assert [header] == [fault["header"] for fault in problem["errors"]]
    assert [task] == await ada.lists()


async def test_a_tag_of_thousands_of_bytes_is_read_in_no_time(ada: User) -> None:
    """No header makes the parser search for long."""
    task = await ada.creates()
    for value in ('"a",' * 8000 + "x", ", " * 16000 + "x", '"' + "a" * 32000):
        response = await asyncio.wait_for(
            ada.client.get(ada.path(task), headers={"If-None-Match": value}), 10
        )
        assert_problem(response, 422, "invalid-request")


async def test_of_32_writers_one_wins(ada: User) -> None:
    """Clients that write at once with the same tag do not overwrite one another."""
    task = await ada.creates()

    async def write(number: int) -> httpx.Response:
        return await ada.client.patch(
            ada.path(task), json={"title": f"writer {number}"}, headers={"If-Match": of(task)}
        )

    responses = await asyncio.gather(*(write(number) for number in range(32)))
    assert [200] + [412] * 31 == sorted(response.status_code for response in responses)
    winner = next(response for response in responses if response.status_code == 200)
    assert [winner.json()] == await ada.lists()


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
@pytest.mark.parametrize("condition", ["{}", "W/{}", '"x", {}', "*"])
async def test_a_change_only_of_another_version(
    ada: User, method: str, path: str, body: Any, condition: str
) -> None:
    """A write whose If-None-Match names the current version is a 412, and nothing is written."""
    task = await ada.creates()
    url = path.format(user_id=ada.id, task_id=task["id"])
    headers = {"If-None-Match": condition.format(of(task))}
    refused = await ada.client.request(method, url, json=body, headers=headers)
    assert_problem(refused, 412, "precondition-failed")
    assert [task] == await ada.lists()
    passed = await ada.client.request(method, url, json=body, headers={"If-None-Match": '"x"'})
    assert (204 if method == "DELETE" else 200) == passed.status_code


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_if_match_is_evaluated_first(ada: User, method: str, path: str, body: Any) -> None:
    """Both conditions must hold; the reason given is that of If-Match (RFC 9110, 13.2.2)."""
    task = await ada.creates()
    url = path.format(user_id=ada.id, task_id=task["id"])
    for if_match, if_none_match, slug in [
        ('"x"', of(task), "task-changed"),
        (of(task), of(task), "precondition-failed"),
        ("*", "*", "precondition-failed"),
    ]:
        headers = {"If-Match": if_match, "If-None-Match": if_none_match}
        assert_problem(await ada.client.request(method, url, json=body, headers=headers), 412, slug)
    assert [task] == await ada.lists()
    headers = {"If-Match": of(task), "If-None-Match": '"x"'}
    assert (await ada.client.request(method, url, json=body, headers=headers)).is_success


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_reading_a_certain_version(ada: User, method: str) -> None:
    """If-Match on a read: 412 where another version is current, also if If-None-Match would give a 304."""
    task = await ada.creates()
    for path, slug in {ada.path(task): "task-changed", ada.tasks: "precondition-failed"}.items():
        tag = (await ada.client.get(path)).headers["etag"]
        headers = {"If-Match": '"x"', "If-None-Match": tag}
        refused = await ada.client.request(method, path, headers=headers)
        assert 412 == refused.status_code
        assert method == "HEAD" or assert_problem(refused, 412, slug)
        for if_match in (tag, f"W/{tag}", "*"):
            assert 200 == (await ada.client.request(method, path, headers={"If-Match": if_match})).status_code
        headers = {"If-Match": tag, "If-None-Match": tag}
        assert 304 == (await ada.client.request(method, path, headers=headers)).status_code


async def test_several_lines_are_one_list(ada: User) -> None:
    """Each line of If-Match and If-None-Match counts (RFC 9110, 5.3)."""
    task = await ada.creates()
    lines = [("If-None-Match", '"x"'), ("If-None-Match", of(task))]
    assert 304 == (await ada.client.get(ada.path(task), headers=lines)).status_code
    lines = [("If-Match", '"x"'), ("If-Match", of(task)), ("If-Match", '"y"')]
    assert 200 == (await ada.client.patch(ada.path(task), json={}, headers=lines)).status_code
