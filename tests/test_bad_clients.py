"""Clients that send garbage, half of what they promised, or nothing: the others do not notice."""

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil
import pytest

from todo_api.http.problems import HEAD_LIMIT

from .service import ROOT, Service, serving
from .waiting import wait_until

MEGABYTE = 1 << 20
CROWD = 60  # of each kind
POST = b"POST /api/users HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
GET = b"GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n"

GARBAGE = {
    "noise": bytes(range(256)) * 16,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "a strange method": b"FROBNICATE / HTTP/1.1\r\nHost: test\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\nHost: test\r\n: value\r\n\r\n",
    "a chunk without a size": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
}

UNFINISHED = {
    "silence": b"",
    "half a method": b"PO",
    "half a head": POST,
    "no body": POST + b"Content-Length: 100\r\n\r\n",
    "half a body": POST + b'Content-Length: 100\r\n\r\n{"email": "',
    "half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n40\r\n{",
    "no last chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
}


# A service with less patience than the real one, so that the tests need less. It is no fork, whose memory
# seems to grow when it first uses pages that it shares.
IMPATIENCE = """
import todo_api.server.addresses
import todo_api.server.protocol

todo_api.server.protocol.ARRIVAL_LIMIT = 2
todo_api.server.addresses.STALL_LIMIT = 3
"""


@pytest.fixture(scope="module")
def service(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that all of them come to."""
    directory = tmp_path_factory.mktemp("bad")
    (directory / "sitecustomize.py").write_text(IMPATIENCE)
    variables = {"KEEP_ALIVE": "2", "PYTHONPATH": f"{directory}:{ROOT}"}
    with serving(directory, DATABASE_URL=database_url, **variables) as service:
        yield service


@contextmanager
def client(service: Service, *sends: bytes) -> Iterator[socket.socket]:
    """Somebody on a connection of their own, who has sent this."""
    address = urlsplit(service.url)
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=60) as client:
        for part in sends:
            client.sendall(part)
        yield client


def everything(client: socket.socket) -> bytes:
    """What comes until the service hangs up, be it by a reset."""
    received = b""
    with suppress(ConnectionResetError):
        while part := client.recv(65536):
            received += part
    return received


def problem(answer: bytes) -> dict[str, Any]:
    """The problem that a raw response tells of."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert "application/problem+json" == headers["content-type"]
    assert ("close", "nosniff") == (headers["connection"], headers["x-content-type-options"])
    assert headers["date"].endswith(" gmt")
    found: dict[str, Any] = json.loads(body)
    assert found["request_id"] == headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", found["request_id"])
    assert status.startswith(f"HTTP/1.1 {found['status']} ")
    return found


def memory(service: Service) -> int:
    """What the service has in memory, in bytes."""
    return int(psutil.Process(service.process.pid).memory_info().rss)


def assert_others_are_served(service: Service) -> None:
    """Somebody with good manners is served, several times and soon."""
    with httpx.Client(base_url=service.url, timeout=30) as other:
        for _ in range(10):
            created = other.post("/api/users", json={"email": f"{uuid4().hex}@example.org"})
            assert 201 == created.status_code
            assert created.json() == other.get(created.headers["location"]).json()


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_refused(garbage: bytes, service: Service) -> None:
    """It is answered by a problem, and nothing that follows on its connection is listened to."""
    with client(service, garbage) as bad:
        answer = everything(bad)
        with suppress(OSError):  # it has hung up already
            bad.sendall(GET)
            answer += everything(bad)
    assert problem(answer)["status"] in (400, 404)  # HTTP/0.9 knew no versions
    assert 1 == answer.count(b"HTTP/1.1 ")
    assert_others_are_served(service)


def test_garbage_behind_a_request_does_not_cost_its_answer(service: Service) -> None:
    """What came before is answered first, then the garbage is refused and the connection closed."""
    for garbage in (b"\0\0\0\0", b"GET / HTTP/1.1\r\nHost : test\r\n\r\n"):
        with client(service, GET + GET + garbage + GET) as bad:
            answer = everything(bad)
        assert [b"404", b"404", b"400"] == re.findall(rb"HTTP/1.1 (\d+) ", answer)
    with client(service, POST + b"Content-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\nHost : test\r\n\r\n") as bad:
        assert [b"422"] == re.findall(rb"HTTP/1.1 (\d+) ", everything(bad))


def test_a_crowd_that_never_finishes_is_borne(service: Service) -> None:
    """Hundreds of unfinished requests cost others nothing, and little memory; then they are given up."""
    before = memory(service)
    with ExitStack() as crowd:
        clients = [
            (name, crowd.enter_context(client(service, sent)))
            for _ in range(CROWD)
            for name, sent in UNFINISHED.items()
        ]
        assert_others_are_served(service)
        for name, bad in clients:
            assert 408 == problem(everything(bad))["status"], name
        assert_others_are_served(service)
        assert memory(service) - before < 100 * MEGABYTE
    assert_others_are_served(service)


@pytest.mark.parametrize("rest", [POST + b"Content-Length: 2\r\n\r\n", POST, b"G"])
def test_a_request_behind_another_has_a_limit(rest: bytes, service: Service) -> None:
    """Also one whose first part came together with the end of the request before."""
    with client(service, POST + b"Content-Length: 2\r\n\r\n{}" + rest) as bad:
        assert [b"422", b"408"] == re.findall(rb"HTTP/1.1 (\d+) ", everything(bad))


def test_a_body_without_an_end_takes_no_room(service: Service) -> None:
    """A body over the limit is refused while it arrives, chunked or not, and is not kept."""
    before = memory(service)
    for head in (b"Content-Length: 1000000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
        with client(service, POST + head) as bad:
            chunk = f"{MEGABYTE:x}\r\n".encode() + bytes(MEGABYTE) + b"\r\n"
            for _ in range(50):
                bad.sendall(chunk)
            assert bad.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert memory(service) - before < 30 * MEGABYTE
    assert_others_are_served(service)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /nowhere HTTP/1.1\r\nHost: test\r\nX-Large: " + b"x" * MEGABYTE,
        b"GET /nowhere HTTP/1.1\r\nHost: test\r\n" + b"X-Large: large\r\n" * (MEGABYTE // 16),
        b"GET /" + b"x" * MEGABYTE,
        POST + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"x" * MEGABYTE,
        POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Large: " + b"x" * MEGABYTE,
    ],
    ids=["one header", "many headers", "the URL", "a chunk's extension", "a trailer"],
)
def test_a_head_without_an_end_takes_no_room(head: bytes, service: Service) -> None:
    """A head or a trailer over the limit is refused while it arrives, and is not kept."""
    before = memory(service)
    with client(service) as bad:
        with suppress(OSError):  # it hangs up while this is under way
            bad.sendall(head)
            for _ in range(60):
                bad.sendall(head[-MEGABYTE:])
        answer = everything(bad)
        assert answer == b"" or 431 == problem(answer)["status"]  # a reset may overtake it
    assert memory(service) - before < 10 * MEGABYTE
    assert_others_are_served(service)


def test_a_large_head_is_told_its_limit(service: Service) -> None:
    """Whoever waits for an answer gets one."""
    with client(service, b"GET /nowhere HTTP/1.1\r\nHost: test\r\nX-Large: ") as bad:
        for _ in range(HEAD_LIMIT // 1000):
            bad.sendall(bytes(1000).replace(b"\0", b"x"))
        bad.sendall(b"x" * 1000)
        refusal = problem(everything(bad))
    assert 431 == refusal["status"]
    assert str(HEAD_LIMIT) in refusal["detail"]


def test_those_who_leave_early_are_no_defect(service: Service) -> None:
    """Whoever hangs up in the middle of a request leaves no error and no traceback in the log."""
    leaves = [*UNFINISHED.values(), POST + b'Content-Length: 15\r\n\r\n{"email": "a@"}']
    for sent in leaves:
        with client(service, sent):
            pass
    assert_others_are_served(service)
    assert "Traceback" not in service.log
    assert '"level":"error"' not in service.log


def test_many_idle_connections_are_borne(service: Service) -> None:
    """Those who keep their connection are hung up on after some seconds, whatever they began to send."""
    before = memory(service)
    with ExitStack() as crowd:
        idle = [
            (afterwards, crowd.enter_context(client(service, GET)))
            for _ in range(CROWD)
            for afterwards in (b"", b"\r\n", POST)
        ]
        for afterwards, one in idle:
            answer = b""
            while not answer.endswith(b"}"):
                answer += one.recv(65536)
            assert answer.startswith(b"HTTP/1.1 404 ")
            one.sendall(afterwards)
        assert_others_are_served(service)
        assert memory(service) - before < 50 * MEGABYTE
        for afterwards, one in idle:
            last = everything(one)
            assert last == b"" if not afterwards else 408 == problem(last)["status"]


def test_an_unread_body_keeps_no_connection(service: Service) -> None:
    """Also where a body arrives after its answer, the connection is idle from then on."""
    with client(service, GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n")) as early:
        assert early.recv(65536).startswith(b"HTTP/1.1 404 ")
        early.sendall(b"abc")
        assert not re.search(rb"HTTP/1.1 ", everything(early))


@pytest.fixture
def tasks(service: Service) -> str:
    """The path of a user's tasks."""
    user = httpx.post(f"{service.url}/api/users", json={"email": f"{uuid4().hex}@example.org"}).json()
    return f"/api/{user['id']}/tasks"


def requests(kind: str, tasks: str) -> bytes:
    """As many requests as the service may read at once, and more."""
    body = b'{"title": "x"}'
    post = f"POST {tasks} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n".encode()
    post += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    return {"reads": GET, "writes": post}[kind] * 8000


@contextmanager
def sending(clients: list[socket.socket], stream: bytes) -> Iterator[list[Thread]]:
    """Have each client send the stream over and over, until the block ends or the service hangs up."""

    def send(client: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client.sendall(stream)

    senders = [Thread(target=send, args=[client]) for client in clients]
    for sender in senders:
        sender.start()
    try:
        yield senders
    finally:
        for client in clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for sender in senders:
            sender.join()


@pytest.mark.parametrize("kind", ["reads", "writes"])
def test_pipelining_takes_no_room(kind: str, service: Service, tasks: str) -> None:
    """Requests are read as fast as they are answered, also for a client that sends them without a pause."""
    before = memory(service)
    with client(service) as eager, sending([eager], requests(kind, tasks)):
        ends = time.monotonic() + 2
        while time.monotonic() < ends:
            assert eager.recv(MEGABYTE)
        assert_others_are_served(service)
        assert memory(service) - before < 30 * MEGABYTE


ASSET = b"GET /schema/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits how long a client may not read")
def test_clients_that_do_not_read_are_hung_up_on(service: Service) -> None:
    """What they send and do not read takes little room, others are served meanwhile, and they do not stay."""
    before = memory(service)
    with ExitStack() as crowd:
        clients = [crowd.enter_context(client(service)) for _ in range(10)]
        senders = crowd.enter_context(sending(clients, ASSET * 4000))
        assert_others_are_served(service)
        assert memory(service) - before < 60 * MEGABYTE
        wait_until(lambda: not any(sender.is_alive() for sender in senders), 40)  # they would give up later


def test_a_client_may_read_slowly(service: Service) -> None:
    """Who reads a part now and then gets everything, however long it takes."""
    size = int(httpx.head(f"{service.url}/schema/assets/swagger-ui-bundle.js").headers["content-length"])
    with client(service, ASSET * 20) as slow:
        received = 0
        while received < 20 * size:
            if received < 15 * MEGABYTE:
                time.sleep(0.3)  # in all, longer than nothing may be read
            part = slow.recv(MEGABYTE)
            assert part, "hung up on"
            received += len(part)
