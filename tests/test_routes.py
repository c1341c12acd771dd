"""Which paths and methods exist, and how the service answers all others."""

from uuid import uuid4

import httpx
import pytest

from .api import TASK, User, assert_problem

METHODS = {
    "/api/users": {"POST"},
    "/api/users/{user_id}": {"GET", "HEAD"},
    "/api/{user_id}/tasks": {"GET", "HEAD", "POST"},
    TASK: {"GET", "HEAD", "PUT", "PATCH", "DELETE"},
    TASK + "/complete": {"PATCH"},
    "/schema/openapi.json": {"GET", "HEAD"},
    "/schema/openapi.yaml": {"GET", "HEAD"},
    "/schema": {"GET", "HEAD"},
    "/problems": {"GET", "HEAD"},
}
ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "LOCK", "X-OWN"]
ID = "0f9b1d5e-6f0a-4c3b-9a53-8a6f5d0c2b71"
NOWHERE = [
    "/api",
    "/api/",
    "/nope",
    "/api/users/1/2",
    "/API/users",
    "/api/users/",
    "//api/users",
    "/api//users",
]
NOWHERE += ["/api%2fusers", "/schema//", f"/api/{ID}/tasks/", f"/api/{ID}%2Ftasks", f"/api/{ID}/tasks/{ID}/"]
NOWHERE += [f"/api/{ID}/tasks/{ID}/complete/", f"/api/{ID}/tasks/{ID}/x", "/%00", "/*", "/%C3%A9", "/%ff"]


def allowed(response: httpx.Response) -> set[str]:
    """What Allow names, each once."""
    names = response.headers["allow"].split(", ")
    assert len(names) == len(set(names))
    return set(names)


@pytest.mark.parametrize("path", METHODS)
async def test_each_path_tells_its_methods(client: httpx.AsyncClient, path: str) -> None:
    """OPTIONS answers 204 with Allow, and 405 has the same Allow for whatever else is tried."""
    url = path.format(user_id=uuid4(), task_id=uuid4())
    response = await client.options(url)
    assert (204, b"") == (response.status_code, response.content)
    assert METHODS[path] | {"OPTIONS"} == allowed(response)
    for method in ANY:
        if method not in METHODS[path]:
            refused = await client.request(method, url)
            assert 405 == refused.status_code
            assert method == "HEAD" or assert_problem(refused, 405, "method-not-allowed")
            assert allowed(response) == allowed(refused)


@pytest.mark.parametrize("path", NOWHERE)
async def test_what_is_not_there_is_not_there_for_any_method(client: httpx.AsyncClient, path: str) -> None:
    """404, before any method is looked at; a trailing slash is not another name."""
    for method in ("GET", "POST", "OPTIONS", "DELETE", "X-OWN"):
        url = httpx.URL("http://test").copy_with(raw_path=path.encode())
        assert_problem(await client.request(method, url), 404, "not-found")


async def test_an_escaped_letter_is_that_letter(ada: User) -> None:
    """Escaping what needs none makes no other name (RFC 3986, section 6.2.2.2)."""
    for path in (f"/api/%75sers/{ada.id}", f"/api/users/%{ord(ada.id[0]):02x}{ada.id[1:]}"):
        assert 200 == (await ada.client.get(path)).status_code
