"""What only a server shows: HEAD, bodies and request lines as they are sent."""

import asyncio
import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import pytest

from .api import TASK, User, assert_problem


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
        "GET /api/0f9b1d5e-6f0a-4c3b-9a53-8a6f5d0c2b71/tasks?\xff=1 HTTP/1.1",
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
async def test_no_request_line_is_a_defect(server: str, request_line: str) -> None:
    """Whatever it holds, a refusal is the client's."""
    answer = await ask(server, f"{request_line}\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert re.match(r"HTTP/1\.[01] 4\d\d ", answer), answer
    assert not re.search(r"traceback|uvicorn|python", answer, re.I)


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
    head = f"POST {ada.tasks} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n"
    head += f"Expect: 100-continue\r\n{headers}\r\n\r\n"
    answer = await ask(server, head + ('{"title":"x"}' if version == "1.0" else ""))
    assert answer.startswith(f"HTTP/1.1 {status} "), answer
