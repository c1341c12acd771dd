"""Cross-origin requests: which pages of other origins may read the answers."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from todo_api.app import create_app
from todo_api.settings import Settings

from .api import TASK, User, talking_to
from .test_routes import METHODS, allowed

ORIGIN = "https://app.example"
EXPOSED = {
    *("Accept-Patch", "Allow", "ETag", "Idempotency-Replayed"),
    *("Link", "Location", "Retry-After", "X-Request-Id"),
}


@pytest.fixture
async def cors(settings: Settings, request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service with CORS on, for two origins by default."""
    origins = getattr(request, "param", (ORIGIN, "http://localhost:3000"))
    async with talking_to(
        create_app(msgspec.structs.replace(settings, cors_allow_origins=origins))
    ) as client:
        yield client


def cross_origin(response: httpx.Response) -> dict[str, str]:
    """The headers of a response that a browser looks at before it shows it to another origin's page."""
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


async def test_other_origins_get_nothing_by_default(ada: User) -> None:
    """CORS is off until an origin is named."""
    for method, path in (("GET", ada.tasks), ("OPTIONS", ada.tasks), ("GET", "/nope")):
        headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
        response = await ada.client.request(method, path, headers=headers)
        assert {} == cross_origin(response)
        assert "vary" not in response.headers


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/{user_id}/tasks", None, 200),
        ("POST", "/api/{user_id}/tasks", {"title": "x"}, 201),
        ("POST", "/api/{user_id}/tasks", {"title": ""}, 422),
        ("GET", TASK, None, 404),
        ("GET", "/nope", None, 404),
        ("GET", "/api/x/tasks", None, 404),
        ("PUT", "/api/users", None, 405),
        ("POST", "/api/users", None, 400),
    ],
)
async def test_a_named_origin_sees_every_answer(
    cors: httpx.AsyncClient, ada: User, method: str, path: str, body: Any, status: int
) -> None:
    """Errors as well, with all the headers that the contract speaks of."""
    url = path.format(user_id=ada.id, task_id=uuid4())
    for origin in (ORIGIN, "http://localhost:3000"):
        response = await cors.request(method, url, json=body, headers={"Origin": origin})
        assert (status, origin) == (response.status_code, response.headers["access-control-allow-origin"])
        assert EXPOSED == set(response.headers["access-control-expose-headers"].split(", "))
        assert "Origin" == response.headers["vary"]


@pytest.mark.parametrize(
    "origin",
    [None, "https://evil.example", "null", ORIGIN + ".evil.example", ORIGIN + ":8443", "http://app.example"],
)
async def test_another_origin_sees_nothing(cors: httpx.AsyncClient, ada: User, origin: str | None) -> None:
    """Nor does a cache hand it what a named one was given."""
    headers = {} if origin is None else {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    for method in ("GET", "OPTIONS"):
        response = await cors.request(method, ada.tasks, headers=headers)
        assert "access-control-allow-origin" not in response.headers
        assert "Origin" == response.headers["vary"]


@pytest.mark.parametrize("cors", [("*",)], indirect=True)
async def test_any_origin_where_that_is_asked_for(cors: httpx.AsyncClient, ada: User) -> None:
    """One answer for all, so caches need not tell them apart."""
    response = await cors.get(ada.tasks, headers={"Origin": ORIGIN, "Cookie": "a=b"})
    assert "*" == response.headers["access-control-allow-origin"]
    assert not {"vary", "access-control-allow-credentials"} & set(response.headers)


async def test_a_preflight(cors: httpx.AsyncClient, ada: User) -> None:
    """Every method and header of the contract may be used; it is still an OPTIONS with Allow."""
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "if-match",
    }
    response = await cors.options(TASK.format(user_id=ada.id, task_id=uuid4()), headers=asked)
    assert 204 == response.status_code
    assert METHODS[TASK] | {"OPTIONS"} == allowed(response)
    given = cross_origin(response)
    assert ORIGIN == given["access-control-allow-origin"]
    assert {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} == set(
        given["access-control-allow-methods"].split(", ")
    )
    expected = {"content-type", "idempotency-key", "if-match", "if-none-match", "x-request-id"}
    expected |= {"traceparent", "tracestate"}
    assert expected <= set(given["access-control-allow-headers"].lower().split(", "))
    assert int(given["access-control-max-age"]) > 0


async def test_an_options_that_is_no_preflight(cors: httpx.AsyncClient, ada: User) -> None:
    """With an Origin, but without Access-Control-Request-Method, it asks what it always asks."""
    response = await cors.options(ada.tasks, headers={"Origin": ORIGIN})
    assert (204, METHODS["/api/{user_id}/tasks"] | {"OPTIONS"}) == (response.status_code, allowed(response))
    assert {"access-control-allow-origin", "access-control-expose-headers"} == set(cross_origin(response))
