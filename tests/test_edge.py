"""What holds on every route: methods, names, request ids, headers, and origins."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import msgspec
import pytest

from todo_api.app import create_app
from todo_api.settings import Settings

from .conftest import OPERATIONS, TASK, USER_OPERATIONS, User, assert_problem, talking_to

METHODS = {
    "/api/users": {"POST"},
    "/api/users/{user_id}": {"GET", "HEAD"},
    "/api/{user_id}/tasks": {"GET", "HEAD", "POST"},
    TASK: {"GET", "HEAD", "PUT", "PATCH", "DELETE"},
    TASK + "/complete": {"PATCH"},
    "/schema/openapi.json": {"GET", "HEAD"},
    "/schema/openapi.yaml": {"GET", "HEAD"},
    "/schema": {"GET", "HEAD"},
}
ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "LOCK", "X-OWN"]
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
NOWHERE += [
    f"/api/{uuid4()}/tasks/",
    f"/api/{uuid4()}/tasks/{uuid4()}/",
    f"/api/{uuid4()}%2Ftasks",
    "/api%2fusers",
    "/schema//",
]
NOWHERE += [
    f"/api/{uuid4()}/tasks/{uuid4()}/complete/",
    f"/api/{uuid4()}/tasks/{uuid4()}/x",
    "/%00",
    "/*",
    "/%C3%A9",
    "/%ff",
]


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
        assert "server" not in response.headers


ORIGIN = "https://app.example"
EXPOSED = {
    *("Accept-Patch", "Allow", "ETag", "Idempotency-Replayed"),
    *("Link", "Location", "Retry-After", "X-Request-Id"),
}


@pytest.fixture
async def cors(settings: Settings, request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service with CORS on, for two origins unless told otherwise."""
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


# From here on over a socket: what only a server shows.


@pytest.fixture
async def remote(server: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server process."""
    async with httpx.AsyncClient(base_url=server, timeout=30) as client:
        yield client


async def ask(server: str, text: str | bytes) -> str:
    """Send bytes as they are, and return all that comes back until the server closes or falls silent."""
    url = urlsplit(server)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(text.encode("latin-1") if isinstance(text, str) else text)
    await writer.drain()
    answer = b""
    try:
        while part := await asyncio.wait_for(reader.read(65536), 1):
            answer += part
    except TimeoutError:
        pass
    finally:
        writer.close()
    return answer.decode("latin-1")


@pytest.mark.parametrize(
    "path",
    [
        "/api/{user_id}/tasks",
        TASK,
        "/api/users/{user_id}",
        "/nope",
        "/api/users",
        "/api/x/tasks",
        "/api/{user_id}/tasks?limit=0",
    ],
)
async def test_head_is_get_without_a_body(remote: httpx.AsyncClient, ada: User, path: str) -> None:
    """Same status, same headers, the length of what GET would send included."""
    task = await ada.creates()
    await ada.creates()
    url = path.format(user_id=ada.id, task_id=task["id"])
    answers = []
    for method in ("GET", "HEAD"):
        response = await remote.request(method, url, headers={"X-Request-Id": "same"})
        headers = {name: value for name, value in response.headers.items() if name != "date"}
        answers.append((response.status_code, headers))
        assert (b"" == response.content) == (method == "HEAD")
    assert answers[0] == answers[1]
    assert "content-length" in headers
    assert "server" not in headers


async def test_a_304_and_a_204_have_no_body(remote: httpx.AsyncClient, ada: User) -> None:
    """Nor any word of one, and the connection goes on."""
    task = await ada.creates()
    tag = f'"{task["updated_at"]}"'
    for response in (
        await remote.get(ada.path(task), headers={"If-None-Match": tag}),
        await remote.options(ada.path(task)),
        await remote.delete(ada.path(task)),
    ):
        assert response.status_code in (204, 304)
        assert not {"content-length", "content-type", "transfer-encoding"} & set(response.headers)
    assert_problem(await remote.get(ada.path(task)), 404, "task-not-found")


@pytest.mark.parametrize("length", ["Content-Length: 200000\r\n", "Transfer-Encoding: chunked\r\n"])
async def test_too_large_a_body_over_the_wire(server: str, ada: User, length: str) -> None:
    """413 in our format, announced or chunked, and nothing is written."""
    body = " " * 200000
    if "chunked" in length:
        body = "".join(f"3e8\r\n{body[:1000]}\r\n" for _ in range(200)) + "0\r\n\r\n"
    head = f"POST {ada.tasks} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{length}\r\n"
    answer = await ask(server, head + body)
    assert answer.startswith("HTTP/1.1 413 ")
    assert "application/problem+json" in answer
    assert [] == await ada.lists()


async def test_a_chunked_body(remote: httpx.AsyncClient, ada: User) -> None:
    """Is as good as another."""

    async def chunks() -> AsyncIterator[bytes]:
        for part in (b'{"ti', b'tle":"', "ü".encode()[:1], "ü".encode()[1:], b'"}'):
            yield part

    response = await remote.post(ada.tasks, content=chunks(), headers={"Content-Type": "application/json"})
    assert (201, "ü") == (response.status_code, response.json()["title"])


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /api/users/.. HTTP/1.1",
        "GET /api/users/. HTTP/1.1",
        "GET /./api/users HTTP/1.1",
        "GET /api/users/%zz HTTP/1.1",
        "GET /api/users/%ff%fe HTTP/1.1",
        "GET /api/users/\xff\xfe HTTP/1.1",
        "GET /\xc3\xa9 HTTP/1.1",
        "GET http://elsewhere.example/nope HTTP/1.1",
        "GET //elsewhere.example/nope HTTP/1.1",
        "GET /nope#fragment HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET nope HTTP/1.1",
        f"GET /{'x' * 60000} HTTP/1.1",
        f"GET /api/users?{'x' * 60000} HTTP/1.1",
        "GET /nope HTTP/1.0",
        "GET /nope HTTP/9.9",
        "GET /no pe HTTP/1.1",
        "G(T /nope HTTP/1.1",
        "get /nope HTTP/1.1",
        "CONNECT a:1 HTTP/1.1",
        "QUERY /api/users HTTP/1.1",
        "\x16\x03\x01",
    ],
    ids=lambda line: line[:30].encode("unicode_escape").decode(),
)
@pytest.mark.parametrize(
    "host", ["Host: a\r\n", "", "Host: a b\r\n", "Host: a\r\nHost: b\r\n", "Host: \xff\r\n"]
)
async def test_no_request_line_is_a_defect(server: str, request_line: str, host: str) -> None:
    """Whatever it holds, a refusal is the client's."""
    answer = await ask(server, f"{request_line}\r\n{host}Connection: close\r\n\r\n")
    assert re.match(r"HTTP/1\.[01] 4\d\d ", answer), answer
    assert not re.search(r"traceback|uvicorn|python", answer, re.I)


@pytest.mark.parametrize(
    "length",
    [
        "Content-Length: x",
        "Content-Length: -1",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip",
    ],
)
async def test_no_framing_is_a_defect(server: str, ada: User, length: str) -> None:
    """A body whose length cannot be told is refused, and nothing is written."""
    head = f"POST {ada.tasks} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
    answer = await ask(server, head + '{"title":"x"}')
    assert answer == "" or re.match(r"HTTP/1\.1 4\d\d ", answer), answer
    assert [] == await ada.lists()


@pytest.mark.parametrize(
    ("version", "headers", "status"),
    [
        ("1.1", "Content-Type: application/json\r\nContent-Length: 200000", "413"),
        ("1.1", "Content-Type: text/plain\r\nContent-Length: 13", "415"),
        ("1.1", "Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 13", "415"),
        ("1.1", "Content-Type: application/json\r\nContent-Length: 13", "100"),
        ("1.0", "Content-Type: application/json\r\nContent-Length: 13", "201"),
    ],
)
async def test_a_body_is_asked_for_only_if_it_is_wanted(
    server: str, ada: User, version: str, headers: str, status: str
) -> None:
    """`Expect: 100-continue` gets a final status at once if the head shows it; HTTP/1.0 gets no 100."""
    head = f"POST {ada.tasks} HTTP/{version}\r\nHost: a\r\nExpect: 100-continue\r\n{headers}\r\n\r\n"
    answer = await ask(server, head + ('{"title":"x"}' if version == "1.0" else ""))
    assert answer.startswith(f"HTTP/1.1 {status} "), answer
