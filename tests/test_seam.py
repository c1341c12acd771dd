"""Where authorization comes in: guards that stand before every resource, and before nothing else."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from httpx import AsyncClient
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from todo_api.app import create_app
from todo_api.settings import Settings

from .api import assert_problem, make_user, talking_to


def only_the_owner(connection: ASGIConnection, _handler: BaseRouteHandler) -> None:  # type: ignore[type-arg]  # any user, any auth, any state
    """Take a caller at their word, and keep them to their own tasks: what a real guard does with a token."""
    caller = connection.headers.get("X-Caller")
    if caller is None:
        raise NotAuthorizedException(headers={"WWW-Authenticate": "Caller"})
    if caller != str(connection.path_params.get("user_id", caller)):
        raise PermissionDeniedException(headers={"WWW-Authenticate": "Caller error=insufficient_scope"})


@pytest.fixture
async def guarded(settings: Settings) -> AsyncIterator[AsyncClient]:
    """A client of an application with that guard."""
    async with talking_to(create_app(settings, guards=[only_the_owner])) as client:
        yield client


async def test_a_guard_lets_the_owner_in(guarded: AsyncClient) -> None:
    """What the guard does not refuse is answered as ever."""
    guarded.headers["X-Caller"] = "anybody"
    ada = await make_user(guarded)
    guarded.headers["X-Caller"] = ada.id
    task = await ada.creates()
    assert [task] == await ada.lists()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_a_guard_can_ask_who_it_is(method: str, guarded: AsyncClient) -> None:
    """A caller who does not say is told how to, before their body is looked at."""
    response = await guarded.request(method, f"/api/{uuid4()}/tasks", content="not JSON")
    assert (401, "Caller") == (response.status_code, response.headers["www-authenticate"])
    if method != "HEAD":
        assert_problem(response, 401, "unauthorized")


ROUTES = [
    ("GET", "/api/users/{}"),
    ("GET", "/api/{}/tasks"),
    ("POST", "/api/{}/tasks"),
    ("GET", "/api/{}/tasks/{}"),
    ("PUT", "/api/{}/tasks/{}"),
    ("PATCH", "/api/{}/tasks/{}"),
    ("DELETE", "/api/{}/tasks/{}"),
    ("PATCH", "/api/{}/tasks/{}/complete"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_guard_can_refuse(method: str, path: str, guarded: AsyncClient) -> None:
    """It stands before every operation on what is somebody's, and knows whose."""
    response = await guarded.request(method, path.format(uuid4(), uuid4()), headers={"X-Caller": "mallory"})
    assert_problem(response, 403, "forbidden")
    assert "Caller error=insufficient_scope" == response.headers["www-authenticate"]


def test_resources_are_guarded_and_nothing_else(settings: Settings) -> None:
    """Each route under /api has the guard, those of tomorrow too; documentation and health stay open."""
    routes = [
        (route.path, handler.resolve_guards())
        for route in create_app(settings, guards=[only_the_owner]).routes
        for handler in getattr(route, "route_handlers", [])
    ]
    assert {"/api/users", "/schema"} <= {path for path, _ in routes}
    assert [] == [path for path, guards in routes if path.startswith("/api") != bool(guards)]
