"""Bodies that no sane client sends: nothing is guessed, and nothing is a 500."""

import asyncio
import json
from typing import Any

import pytest
from litestar import Litestar

from .api import JSON, WITH_BODY, User, assert_problem, on_routes

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


@pytest.mark.parametrize(("method", "path", "name"), on_routes(MALFORMED, WITH_BODY[::-1]))
async def test_what_is_not_json(ada: User, method: str, path: str, name: str) -> None:
    """400, whatever the operation."""
    assert_problem(
        await ada.tries(method, path, content=MALFORMED[name], headers=JSON), 400, "malformed-body"
    )


@pytest.mark.parametrize(("method", "path", "name"), on_routes(NESTED, WITH_BODY[::-1]))
async def test_a_thousand_levels(ada: User, method: str, path: str, name: str) -> None:
    """Refused: as malformed by Python 3.11, which cannot read so deep, and as invalid by later versions."""
    response = await ada.tries(method, path, content=NESTED[name], headers=JSON)
    slug = {400: "malformed-body", 422: "invalid-request"}[response.status_code]
    assert_problem(response, response.status_code, slug)


@pytest.mark.parametrize(("method", "path", "name"), on_routes(MISFITS, WITH_BODY))
async def test_json_that_does_not_fit(ada: User, method: str, path: str, name: str) -> None:
    """422 says where, in few words."""
    response = await ada.tries(method, path, content=MISFITS[name], headers=JSON)
    faults = assert_problem(response, 422, "invalid-request")["errors"]
    assert 1 <= len(faults) <= 32
    assert all(fault["detail"] and "pointer" in fault for fault in faults)


@pytest.mark.parametrize("headers", [{}, JSON])
@pytest.mark.parametrize(("method", "path"), WITH_BODY[:-1])
async def test_a_body_that_is_missing(ada: User, method: str, path: str, headers: dict[str, str]) -> None:
    """400 where one is needed, with or without a media type."""
    assert_problem(await ada.tries(method, path, headers=headers), 400, "malformed-body")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_a_body_beyond_64_kib(ada: User, method: str, path: str, chunked: bool) -> None:
    """413, whether its length is announced or not."""
    body = b'{"title":"x"' + b" " * (64 * 1024) + b"}"

    async def chunks() -> Any:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    response = await ada.tries(method, path, content=chunks() if chunked else body, headers=JSON)
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
    response = await ada.tries(method, path, content=body, headers=JSON)
    errors = assert_problem(response, 422, "invalid-request")["errors"]
    assert pointers == [fault["pointer"] for fault in errors]


async def test_a_title_may_contain_json(ada: User) -> None:
    """Only members of the body itself can be repeated."""
    title = '{"title":"x","title":"y"}'
    assert title == (await ada.creates(title, description="a:b:c:d"))["title"]


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
