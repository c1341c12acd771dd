"""Clients that send garbage, half of what they promised, or nothing: the others do not notice."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil
import pytest

from todo_api.requests import BODY_TIMEOUT

from .service import Service, serving

MEGABYTE = 1 << 20
CROWD = 60  # of each kind
POST = b"POST /api/users HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"

GARBAGE = {
    "noise": bytes(range(256)) * 16,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "a strange method": b"FROBNICATE / HTTP/1.1\r\nHost: test\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\nHost: test\r\n: value\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : test\r\n\r\n",
    "a NUL in a header": b"GET / HTTP/1.1\r\nHost: te\0st\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: test\r\nX-A: 1\r\n 2\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}",
    "a length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "a chunk without a size": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "a chunk longer than it says": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
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


@pytest.fixture(scope="module")
def service(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that all of them come to."""
    with serving(tmp_path_factory.mktemp("bad"), DATABASE_URL=database_url) as service:
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
    """It is answered by a 4xx, or not at all, and nothing that follows on its connection is listened to."""
    with client(service, garbage) as bad:
        with suppress(OSError):  # it may have hung up already
            bad.sendall(b"GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n")
            bad.shutdown(socket.SHUT_WR)
        answer = everything(bad)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer
    assert 1 >= answer.count(b"HTTP/1.1 ")
    assert_others_are_served(service)


def test_a_crowd_that_never_finishes_is_borne(service: Service) -> None:
    """Hundreds of unfinished requests cost others nothing, and little memory; bodies are given up."""
    before = memory(service)
    with ExitStack() as crowd:
        clients = [
            (name, crowd.enter_context(client(service, sent)))
            for _ in range(CROWD)
            for name, sent in UNFINISHED.items()
        ]
        began = time.monotonic()
        assert_others_are_served(service)
        for name, bad in clients:
            if "body" in name or "chunk" in name:
                head, _, body = everything(bad).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 400 ") and b"connection: close" in head.lower()
                assert f"did not arrive within {BODY_TIMEOUT} s".encode() in body
        assert time.monotonic() - began < 6 * BODY_TIMEOUT
        assert_others_are_served(service)
        assert memory(service) - before < 100 * MEGABYTE
    assert_others_are_served(service)


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


def test_a_large_head_concerns_nobody_else(service: Service) -> None:
    """A megabyte of headers, of one header or of URL is answered or refused; others are served meanwhile."""
    large = b"x" * MEGABYTE
    heads = [
        b"GET /nowhere HTTP/1.1\r\nHost: test\r\nX-Large: " + large,
        b"GET /nowhere HTTP/1.1\r\nHost: test\r\n" + b"X-Large: large\r\n" * (MEGABYTE // 16) + b"X: ",
        b"GET /" + large,
    ]
    for head in heads:
        with client(service, head) as bad:
            assert_others_are_served(service)
            end = b"\r\n\r\n" if b"\r\n" in head else b" HTTP/1.1\r\nHost: test\r\n\r\n"
            bad.sendall(end)
            assert bad.recv(65536).startswith(b"HTTP/1.1 4")


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
    """Those who have been answered and keep their connection are hung up on after some seconds."""
    before = memory(service)
    with ExitStack() as crowd:
        request = b"GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n"
        idle = [crowd.enter_context(client(service, request)) for _ in range(5 * CROWD)]
        assert_others_are_served(service)
        assert memory(service) - before < 50 * MEGABYTE
        assert all(everything(one).startswith(b"HTTP/1.1 404 ") for one in idle)
