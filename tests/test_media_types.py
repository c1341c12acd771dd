"""What a body is said to be: its media type, its charset and its encoding."""

from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from litestar import Litestar

from .api import JSON, TASK, WITH_BODY, User, assert_problem, on_routes

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
    response = await ada.tries(method, path, content=b'{"title":"x"}', headers=headers)
    assert "application/json" in assert_problem(response, 415, "unsupported-media-type")["detail"]


async def test_a_chunked_body_that_is_not_said_to_be_json(ada: User) -> None:
    """A body without a length is a body too."""

    async def chunks() -> Any:
        yield b'{"title":"x"}'

    response = await ada.tries("POST", ada.tasks, content=chunks(), headers={"Content-Type": "text/plain"})
    assert_problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize(("method", "path"), [*WITH_BODY[:3], WITH_BODY[4]])
async def test_only_patch_takes_a_merge_patch(ada: User, method: str, path: str) -> None:
    """The media type says what is meant, and elsewhere nothing means that."""
    headers = {"Content-Type": "application/merge-patch+json"}
    assert_problem(
        await ada.tries(method, path, content=b"{}", headers=headers), 415, "unsupported-media-type"
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


@pytest.mark.parametrize(
    ("method", "path", "coding"), on_routes(["gzip", "br", "identity, gzip", "x"], WITH_BODY)
)
async def test_an_encoded_body_is_refused(ada: User, method: str, path: str, coding: str) -> None:
    """415 says in Accept-Encoding that a body must not be encoded (RFC 9110, 12.5.3)."""
    headers = JSON | {"Content-Encoding": coding}
    response = await ada.tries(method, path, content=b'{"title":"x","email":"a@b"}', headers=headers)
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
