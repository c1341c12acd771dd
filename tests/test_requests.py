"""Bodies and paths that no sane client sends: nothing is guessed, and nothing is a 500."""

import asyncio
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from litestar import Litestar

from .api import OPERATIONS, TASK, USER_OPERATIONS, User, assert_problem

JSON = {"Content-Type": "application/json"}
ALL = [*OPERATIONS, *USER_OPERATIONS, ("POST", "/api/users", {"email": "a@example.org"})]
WITH_BODY = [
    ("POST", "/api/users"),
    ("POST", "/api/{user_id}/tasks"),
    ("PUT", TASK),
    ("PATCH", TASK),
    ("PATCH", TASK + "/complete"),
]

MALFORMED = {
    "white space": b" \n",
    "cut off": b'{"title":"x"',
    "trailing junk": b'{"title":"x"} x',
    "two values": b'{"title":"x"}{}',
    "single quotes": b"{'title':'x'}",
    "comment": b'{"title":"x"/**/}',
    "trailing comma": b'{"title":"x",}',
    "byte order mark": b'\xef\xbb\xbf{"title":"x"}',
    "utf-16": '{"title":"x"}'.encode("utf-16"),
    "latin-1": '{"title":"ä"}'.encode("latin-1"),
    "overlong": b'{"title":"\xc0\xaf"}',
    "surrogate in utf-8": b'{"title":"\xed\xa0\x80"}',
    "lone surrogate": rb'{"title":"\ud800"}',
    "wrong way round": rb'{"title":"\udc00\ud800"}',
    "control character": b'{"title":"\x01"}',
    "NaN": b'{"title":"x","completed":NaN}',
    "infinity": b'{"title":"x","completed":-Infinity}',
    "leading zero": b'{"title":"x","completed":01}',
    "deep unknown": b'{"title":"x","a":' + b"[" * 30000 + b"]" * 30000 + b"}",
    "deep root": b"[" * 60000,
    "form": b"title=x",
    "nul": b"\0",
}

NESTED = {
    "array": b'{"title":' + b"[" * 1000 + b"]" * 1000 + b"}",
    "object": b'{"title":' + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"}",
}
MISFITS = {
    "array": b'[{"title":"x"}]',
    "string": b'"x"',
    "number": b"7",
    "long number": b"1" * 5000,
    "long number in a field": b'{"title":' + b"1" * 5000 + b',"email":1,"completed":"x"}',
    "large number": b'{"title":1e999,"email":1,"completed":-1e999}',
    "long fraction": b'{"title":0.' + b"1" * 5000 + b',"email":1,"completed":"x"}',
    "escaped nul": rb'{"title":"\u0000","email":"\u0000","completed":"x"}',
    "escaped nul in a name": rb'{"\u0000":1}',
    "many unknown": json.dumps({f"x{n}": n for n in range(3000)}).encode(),
}


def on_routes(
    cases: Iterable[str | None], routes: Sequence[tuple[Any, ...]], few: int = 2
) -> list[tuple[Any, ...]]:
    """Every case on the first route, and the first few of them on every other."""
    return [
        (*route, case)
        for number, route in enumerate(routes)
        for case in (list(cases) if number == 0 else list(cases)[:few])
    ]


async def send(user: User, method: str, path: str, **request: Any) -> httpx.Response:
    """Send a request on a task that is there."""
    task = await user.creates("untouched")
    response = await user.client.request(method, path.format(user_id=user.id, task_id=task["id"]), **request)
    assert [task] == await user.lists()
    return response


@pytest.mark.parametrize(("method", "path", "name"), on_routes(MALFORMED, WITH_BODY[::-1]))
async def test_what_is_not_json(ada: User, method: str, path: str, name: str) -> None:
    """400, whatever the operation."""
    assert_problem(
        await send(ada, method, path, content=MALFORMED[name], headers=JSON), 400, "malformed-body"
    )


@pytest.mark.parametrize(("method", "path", "name"), on_routes(NESTED, WITH_BODY[::-1]))
async def test_a_thousand_levels(ada: User, method: str, path: str, name: str) -> None:
    """Too deep to be read by Python 3.11, and no task for those that can."""
    response = await send(ada, method, path, content=NESTED[name], headers=JSON)
    slug = {400: "malformed-body", 422: "invalid-request"}[response.status_code]
    assert_problem(response, response.status_code, slug)


@pytest.mark.parametrize(("method", "path", "name"), on_routes(MISFITS, WITH_BODY))
async def test_json_that_does_not_fit(ada: User, method: str, path: str, name: str) -> None:
    """422 says where, in few words."""
    response = await send(ada, method, path, content=MISFITS[name], headers=JSON)
    faults = assert_problem(response, 422, "invalid-request")["errors"]
    assert 1 <= len(faults) <= 32
    assert all(fault["detail"] and "pointer" in fault for fault in faults)


@pytest.mark.parametrize("headers", [{}, JSON])
@pytest.mark.parametrize(("method", "path"), WITH_BODY[:-1])
async def test_a_body_that_is_missing(ada: User, method: str, path: str, headers: dict[str, str]) -> None:
    """400 where one is needed, with or without a media type."""
    assert_problem(await send(ada, method, path, headers=headers), 400, "malformed-body")


MEDIA_TYPES = [
    "",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "*/*",
]
MEDIA_TYPES += [
    "application/jsonp",
    "application/json-patch+json",
    "application/problem+json",
    "json",
    ";",
    "\xff",
]
MEDIA_TYPES += [
    "application/json; charset=latin-1",
    "application/json; charset=utf-16",
    "text/json",
    "a/b, a/b",
]


@pytest.mark.parametrize(("method", "path", "media_type"), on_routes([None, *MEDIA_TYPES], WITH_BODY))
async def test_a_body_that_is_not_said_to_be_json(
    ada: User, method: str, path: str, media_type: str | None
) -> None:
    """415 names what is taken."""
    headers = {} if media_type is None else {"Content-Type": media_type.encode("latin-1")}
    response = await send(ada, method, path, content=b'{"title":"x"}', headers=headers)
    assert "application/json" in assert_problem(response, 415, "unsupported-media-type")["detail"]


async def test_a_chunked_body_that_is_not_said_to_be_json(ada: User) -> None:
    """A body without a length is a body too."""

    async def chunks() -> Any:
        yield b'{"title":"x"}'

    response = await send(ada, "POST", ada.tasks, content=chunks(), headers={"Content-Type": "text/plain"})
    assert_problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize(("method", "path"), [*WITH_BODY[:3], WITH_BODY[4]])
async def test_only_patch_takes_a_merge_patch(ada: User, method: str, path: str) -> None:
    """The media type says what is meant, and elsewhere nothing means that."""
    headers = {"Content-Type": "application/merge-patch+json"}
    assert_problem(
        await send(ada, method, path, content=b"{}", headers=headers), 415, "unsupported-media-type"
    )


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON",
        'application/json;charset="UTF-8"',
        "application/json; charset=utf8",
        "application/json; v=1",
    ],
)
async def test_json_by_any_spelling(ada: User, media_type: str) -> None:
    """Names of media types and charsets have no case, and quotes mean nothing (RFC 9110, 8.3)."""
    response = await ada.client.post(
        ada.tasks, content=b'{"title":"x"}', headers={"Content-Type": media_type}
    )
    assert 201 == response.status_code


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_a_body_beyond_64_kib(ada: User, method: str, path: str, chunked: bool) -> None:
    """413, whether its length is announced or not."""
    body = b'{"title":"x"' + b" " * (64 * 1024) + b"}"

    async def chunks() -> Any:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    response = await send(ada, method, path, content=chunks() if chunked else body, headers=JSON)
    assert_problem(response, 413, "body-too-large")


async def test_a_body_of_64_kib(ada: User) -> None:
    """Is just small enough, and may hold white space around its title."""
    body = b'{"title":"' + b" " * (64 * 1024 - 13) + b'x"}'
    assert 64 * 1024 == len(body)
    response = await asyncio.wait_for(ada.client.post(ada.tasks, content=body, headers=JSON), 10)
    assert (201, "x") == (response.status_code, response.json()["title"])


@pytest.mark.parametrize("title", ["x" * 65000, " " * 65000, "x" * 150 + " " * 64000 + "x", "x " * 32000])
async def test_a_title_of_64_kib_is_refused_in_no_time(ada: User, title: str) -> None:
    """The pattern of a title does not search for long."""
    response = await asyncio.wait_for(ada.client.post(ada.tasks, json={"title": title}), 10)
    assert_problem(response, 422, "invalid-request")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (b'{"title":"x","title":"y"}', ["/title"]),
        (b'{"title":1,"title":"y"}', ["/title"]),
        (b'{"title":"x","t\\u0069tle":"y"}', ["/title"]),
        (b'{"title":"x","completed":true,"title":"x","completed":true}', ["/title", "/completed"]),
    ],
)
@pytest.mark.parametrize(("method", "path"), WITH_BODY[1:4])
async def test_a_repeated_member_is_refused(
    ada: User, method: str, path: str, body: bytes, pointers: list[str]
) -> None:
    """Readers of JSON disagree about which one counts (RFC 8259, section 4), so neither does."""
    response = await send(ada, method, path, content=body, headers=JSON)
    errors = assert_problem(response, 422, "invalid-request")["errors"]
    assert pointers == [fault["pointer"] for fault in errors]


async def test_a_title_may_contain_json(ada: User) -> None:
    """Only members of the body itself can be repeated."""
    title = '{"title":"x","title":"y"}'
    assert title == (await ada.creates(title, description="a:b:c:d"))["title"]


@pytest.mark.parametrize(
    ("method", "path", "coding"), on_routes(["gzip", "br", "identity, gzip", "x"], WITH_BODY)
)
async def test_an_encoded_body_is_refused(ada: User, method: str, path: str, coding: str) -> None:
    """415 says in Accept-Encoding that a body must not be encoded (RFC 9110, 12.5.3)."""
    headers = JSON | {"Content-Encoding": coding}
    response = await send(ada, method, path, content=b'{"title":"x","email":"a@b"}', headers=headers)
    assert_problem(response, 415, "unsupported-media-type")
    assert "identity" == response.headers["accept-encoding"]


async def test_a_body_that_is_said_not_to_be_encoded(ada: User) -> None:
    """`identity` means no encoding, in any case."""
    headers = JSON | {"Content-Encoding": "Identity"}
    assert 201 == (await ada.client.post(ada.tasks, content=b'{"title":"x"}', headers=headers)).status_code


async def test_patch_says_what_it_takes(ada: User) -> None:
    """Accept-Patch names the media types on OPTIONS and on a 415 of PATCH, and nowhere else (RFC 5789)."""
    both = "application/json, application/merge-patch+json"
    task = await ada.creates()
    for path, expected in {ada.path(task): both, ada.path(task) + "/complete": "application/json"}.items():
        assert expected == (await ada.client.options(path)).headers["accept-patch"]
        refused = await ada.client.patch(path, content="x", headers={"Content-Type": "text/plain"})
        assert (415, expected) == (refused.status_code, refused.headers["accept-patch"])
    assert "accept-patch" not in (await ada.client.options(ada.tasks)).headers
    refused = await ada.client.post(ada.tasks, content="x", headers={"Content-Type": "text/plain"})
    assert "accept-patch" not in refused.headers


@pytest.mark.parametrize("prefix", ["/todo", "/api"])
async def test_options_behind_a_prefix(app: Litestar, prefix: str) -> None:
    """With ROOT_PATH, OPTIONS finds what PATCH takes."""
    transport = httpx.ASGITransport(cast("Any", app), root_path=prefix)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://test{prefix}") as client:
        response = await client.options(TASK.format(user_id=uuid4(), task_id=uuid4()))
    assert "application/json, application/merge-patch+json" == response.headers["accept-patch"]


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


@pytest.mark.parametrize(("method", "path", "body"), ALL)
async def test_only_lists_have_parameters(ada: User, method: str, path: str, body: Any) -> None:
    """A parameter that nothing reads is a mistake that is told of, whatever the operation."""
    response = await send(ada, method, path + "?colour=red&%FF", json=body)
    assert 422 == response.status_code
    if method != "HEAD":
        faults = assert_problem(response, 422, "invalid-request")["errors"]
        assert ["colour", "?"] == [fault["parameter"] for fault in faults]
        detail = r"There is no parameter of this name\.( The parameters are limit, .+\.)?"
        assert all(re.fullmatch(detail, fault["detail"]) for fault in faults)


async def test_a_client_that_leaves_in_mid_body(
    app: Litestar, ada: User, caplog: pytest.LogCaptureFixture
) -> None:
    """Is no defect of the service, and nothing is written."""
    events = [
        {"type": "http.request", "body": b'{"title":"x"}', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return events.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": ada.tasks,
        "raw_path": ada.tasks.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"host", b"test")],
        "client": None,
        "server": None,
        "state": {},
    }
    await app(scope, receive, send)
    assert 400 == sent[0]["status"]
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]
    assert [] == await ada.lists()


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
