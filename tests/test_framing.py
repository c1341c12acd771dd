"""Where one request ends and the next begins: nothing in a body is ever taken for a request."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
import uvicorn

from todo_api.http.problems import HEAD_LIMIT
from todo_api.server.protocol import WRITTEN_FOR

JSON = "Host: test\r\nContent-Type: application/json\r\n"
LAST = "GET /health/live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"

UPGRADES = {
    "none": "",
    "h2c": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "WebSocket": "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "two lines": "Upgrade: a\r\nconnection: keep-alive\r\nupgrade: b\r\nConnection: UPGRADE\r\n",
    "no Connection": "Upgrade: h2c\r\n",
}


def sized(body: str) -> str:
    """The body behind its length."""
    return f"Content-Length: {len(body)}\r\n\r\n{body}"


def chunked(body: str) -> str:
    """The body in two chunks with an extension each, and a trailer."""
    half = len(body) // 2
    chunks = "".join(f"{len(part):x};a=b\r\n{part}\r\n" for part in (body[:half], body[half:]))
    return f"Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\nX-Request-Id: trailer\r\n\r\n"


Framing = Callable[[str], str]
FRAMINGS: list[Framing] = [sized, chunked]


def exchange(server: str, *segments: str, pause: float = 0) -> list[int]:
    """Send each segment by itself; return the statuses of the responses, once the connection is closed."""
    address = urlsplit(server)
    answer = b""
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):  # it is closed at the first fault
            for segment in segments:
                connection.sendall(segment.encode("latin-1"))
                time.sleep(pause)
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                answer += part
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]


class Todo:
    """A user with one task, and raw requests about it."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        user_id = http.post("/api/users", json={"email": f"{uuid4().hex}@example.org"}).json()["id"]
        self.tasks = f"/api/{user_id}/tasks"
        self.task = f"{self.tasks}/{http.post(self.tasks, json={'title': 'First'}).json()['id']}"
        self.delete = f"DELETE {self.task} HTTP/1.1\r\nHost: test\r\n\r\n"

    def create(self, upgrade: str, framing: Framing, body: str = '{"title": "Second"}') -> str:
        """A request that creates a task."""
        return f"POST {self.tasks} HTTP/1.1\r\n{JSON}{upgrade}{framing(body)}"

    def undo(self, upgrade: str, framing: Framing) -> str:
        """A request that marks the task as not completed, and would toggle it if its body were lost."""
        body = framing('{"completed": false}')
        return f"PATCH {self.task}/complete HTTP/1.1\r\n{JSON}{upgrade}{body}"

    def state(self) -> list[tuple[str, bool]]:
        """Title and completion of every task, oldest first."""
        tasks = self.http.get(self.tasks, params={"sort": "created_at"}).json()
        return [(task["title"], task["completed"]) for task in tasks]


@pytest.fixture
def todo(server: str) -> Iterator[Todo]:
    """A user with one task."""
    with httpx.Client(base_url=server, timeout=30) as http:
        yield Todo(http)


def test_uvicorn_is_the_one_that_the_protocol_was_written_for() -> None:
    """On another minor version, somebody reads uvicorn's changes to what the protocol overrides first."""
    assert WRITTEN_FOR == uvicorn.__version__.rpartition(".")[0]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES.keys())
def test_upgrade_is_ignored(server: str, todo: Todo, upgrade: str, framing: Framing) -> None:
    """The body counts, in one segment with the head, in its own or byte by byte; so does what follows."""
    stream = todo.undo(upgrade, framing) + todo.create(upgrade, framing) + LAST
    head, blank, body = stream.partition("\r\n\r\n")
    for segments in [stream], [head + blank, body], list(stream):
        assert [200, 201, 200] == exchange(server, *segments, pause=0.05 / len(segments))
    assert [("First", False)] + 3 * [("Second", False)] == todo.state()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES.keys())
def test_a_request_in_a_body_is_not_executed(server: str, todo: Todo, upgrade: str, framing: Framing) -> None:
    """Whenever that body arrives; it is not JSON, that is all."""
    stream = todo.create(upgrade, framing, todo.delete) + LAST
    head, blank, body = stream.partition("\r\n\r\n")
    for segments in [stream], [head + blank, body], [head, blank + body], list(stream):
        assert [400, 200] == exchange(server, *segments, pause=0.05 / len(segments))
    assert [("First", False)] == todo.state()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_every_split_is_the_same_to_the_service(server: str, todo: Todo, framing: Framing) -> None:
    """Two segments, wherever the second begins: with Upgrade, a body that holds a request, and a next one."""
    upgrade = UPGRADES["h2c"]
    stream = todo.undo(upgrade, framing) + todo.create(upgrade, framing, todo.delete) + LAST
    for split in range(1, len(stream)):
        answers = exchange(server, stream[:split], stream[split:], pause=0.001)
        assert [200, 400, 200] == answers, stream[:split]
    assert [("First", False)] == todo.state()


@pytest.mark.parametrize("body", ["", "x" * 100])
def test_the_limits_hold_with_upgrade(server: str, body: str) -> None:
    """A head that is too large is refused, before or behind the header; one within the limit is not."""
    line = f"POST /nowhere HTTP/1.1\r\nHost: test\r\n{UPGRADES['h2c']}"
    for filling, statuses in (HEAD_LIMIT + 1, [431]), (HEAD_LIMIT // 2, [404, 200]):
        large = f"X-Large: {'x' * filling}\r\n{sized(body)}"
        stream = line + large + LAST
        assert statuses == exchange(server, stream)
        assert statuses == exchange(server, *(stream[i : i + 20_000] for i in range(0, len(stream), 20_000)))


def test_only_an_unfinished_head_counts(server: str) -> None:
    """Small requests whose sum exceeds the limit are answered, though they end within a head."""
    one = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    count = HEAD_LIMIT // len(one) + 100
    assert [200] * (count + 2) == exchange(server, one * count + one[:20], one[20:] + LAST, pause=0.1)


def test_a_trailer_does_not_count_for_the_next_head(server: str) -> None:
    """Both are within the limit, and their sum is not."""
    filling = "x" * (HEAD_LIMIT // 2)
    body = post("Transfer-Encoding: chunked", "2\r\n{}\r\n")
    stream = f"0\r\nX-Large: {filling}\r\n\r\n"
    stream += f"GET /health/live HTTP/1.1\r\nHost: a\r\nX-Large: {filling}\r\n\r\n"
    assert [422, 200, 200] == exchange(server, body, stream + LAST, pause=0.1)


def post(headers: str, body: str = "{}") -> str:
    """A request whose framing is in ``headers``."""
    return f"POST /api/users HTTP/1.1\r\n{JSON}{headers}\r\n\r\n{body}"


def test_a_faulty_body_costs_no_answer_before_it(server: str, todo: Todo) -> None:
    """Requests that are sent at once are answered in turn, up to the one that is refused."""
    faulty = post("Transfer-Encoding: chunked", "zz\r\n")
    assert [201, 201, 400] == exchange(server, 2 * todo.create("", sized) + faulty + LAST)


CHUNKS = "2\r\n{}\r\n0\r\n\r\n"

UNSOUND = {
    "no Host": "GET /health/live HTTP/1.1\r\n\r\n",
    "two Hosts": "GET /health/live HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "two Hosts, 1.0": "GET /health/live HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
    "Hosts in a list": "GET /health/live HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "Host with a path": "GET /health/live HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with a user": "GET /health/live HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "Host with a space": "GET /health/live HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Host with a wrong port": "GET /health/live HTTP/1.1\r\nHost: a:b\r\n\r\n",
    "Host with half an escape": "GET /health/live HTTP/1.1\r\nHost: a%2\r\n\r\n",
    "Host in Latin-1": "GET /health/live HTTP/1.1\r\nHost: \xe4\r\n\r\n",
    "HTTP/2.0": "GET /health/live HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/0.9": "GET /health/live\r\n\r\n",
    "CONNECT": "CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n",
    "CONNECT with a body": "CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\nContent-Length: 2\r\n\r\n{}",
    "CONNECT to a path": "CONNECT /health/live HTTP/1.1\r\nHost: test\r\n\r\n",
    "length and chunks": post("Content-Length: 2\r\nTransfer-Encoding: chunked", CHUNKS),
    "chunks and length": post("Transfer-Encoding: chunked\r\nContent-Length: 2", CHUNKS),
    "Upgrade, length and chunks": post(
        f"{UPGRADES['h2c']}Content-Length: 2\r\nTransfer-Encoding: chunked", CHUNKS
    ),
    "chunks in HTTP/1.0": f"POST /api/users HTTP/1.0\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{CHUNKS}",
    "chunks twice": post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKS),
    "chunks before another coding": post("Transfer-Encoding: chunked, gzip", CHUNKS),
    "an unknown coding": post("Transfer-Encoding: identity"),
    "a coding behind a vertical tab": post("Transfer-Encoding:\x0bchunked", CHUNKS),
    "a length that is no number": post("Content-Length: x"),
    "a negative length": post("Content-Length: -1"),
    "two lengths": post("Content-Length: 2\r\nContent-Length: 3"),
    "the same length twice": post("Content-Length: 2\r\nContent-Length: 2"),
    "lengths in a list": post("Content-Length: 2, 2"),
    "a length with a sign": post("Content-Length: +2"),
    "a length in hexadecimal": post("Content-Length: 0x2"),
    "a length without end": post("Content-Length: 99999999999999999999999"),
    "a chunk's size with a prefix": post("Transfer-Encoding: chunked", "0x2\r\n{}\r\n0\r\n\r\n"),
    "a chunk's size with a space": post("Transfer-Encoding: chunked", "2 \r\n{}\r\n0\r\n\r\n"),
    "a chunk's size without end": post("Transfer-Encoding: chunked", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
    "a chunk that is longer": post("Transfer-Encoding: chunked", "1\r\n{}\r\n0\r\n\r\n"),
    "a newline in an extension": post("Transfer-Encoding: chunked", "2;a\n=b\r\n{}\r\n0\r\n\r\n"),
    "a length in a trailer": post("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\nContent-Length: 2\r\n\r\n"),
    "a space before the colon": "GET /health/live HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n",
    "a folded line": "GET /health/live HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
    "a header before the first": "GET /health/live HTTP/1.1\r\n X-A: b\r\nHost: a\r\n\r\n",
    "a bare CR": "GET /health/live HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n",
    "bare LFs": "GET /health/live HTTP/1.1\nHost: a\n\n",
    "a NUL": "GET /health/live HTTP/1.1\r\nHost: a\r\nX-A: \0\r\n\r\n",
    "a tab in the request line": "GET\t/health/live\tHTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("request_", UNSOUND.values(), ids=UNSOUND.keys())
def test_what_is_unsound_is_refused(server: str, request_: str) -> None:
    """With 400, in one segment or byte by byte, and nothing behind it is executed."""
    assert [400] == exchange(server, request_ + LAST)
    assert exchange(server, *request_, LAST) in ([400], [])  # a reset may overtake the answer


SOUND = {
    "HTTP/1.0": ("GET /health/live HTTP/1.0\r\n\r\n", [200]),
    "an empty Host": ("GET /health/live HTTP/1.1\r\nHost:\r\n\r\n", [200, 200]),
    "Host with a port": ("GET /health/live HTTP/1.1\r\nHost: a_b.example:8000\r\n\r\n", [200, 200]),
    "an IPv6 Host": ("GET /health/live HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", [200, 200]),
    "white space around Host": ("GET /health/live HTTP/1.1\r\nHost: \t a \t\r\n\r\n", [200, 200]),
    "an absolute target": ("GET http://a/health/live HTTP/1.1\r\nHost: b\r\n\r\n", [200, 200]),
    "empty lines before it": ("\r\n\r\nGET /health/live HTTP/1.1\r\nHost: a\r\n\r\n", [200, 200]),
    "an empty chunked body": (post("Transfer-Encoding: chunked", "0\r\n\r\n"), [400, 200]),
    "Transfer-Encoding in another case": (post("transfer-encoding: CHUNKED ", CHUNKS), [422, 200]),
    "an unread body": (post("Content-Length: 3", "GET").replace("/api/users", "/nowhere"), [404, 200]),
    "Connection: close before another": (
        "GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        [200],
    ),
}


@pytest.mark.parametrize(("request_", "statuses"), SOUND.values(), ids=SOUND.keys())
def test_what_is_sound_is_answered(server: str, request_: str, statuses: list[int]) -> None:
    """In one segment or byte by byte, and so is the request behind it, unless the first closes."""
    assert statuses == exchange(server, request_ + LAST)
    assert statuses == exchange(server, *(request_ + LAST if len(statuses) > 1 else request_), pause=0.0005)
