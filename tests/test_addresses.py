"""Where the service listens, and at which URL it says that it is."""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from todo_api.server.addresses import ListenError, announce, listen


def has_ipv6() -> bool:
    """Whether this machine has the loopback address of IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@contextmanager
def listening(host: str) -> Iterator[tuple[int, list[str]]]:
    """Listen and yield the port and what is said of it."""
    said: list[str] = []
    listeners = listen(host, 0)
    try:
        announce(host, listeners, said.append)
        [port] = {listener.getsockname()[1] for listener in listeners}
        yield port, said
    finally:
        for listener in listeners:
            listener.close()


def answers(address: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((address, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "answering", "silent", "url"),
    [
        ("127.0.0.1", ["127.0.0.1"], ["127.0.0.2"], "http://127.0.0.1:"),
        ("0.0.0.0", ["127.0.0.1", "127.0.0.2"], [], "http://127.0.0.1:"),
        pytest.param("localhost", ["127.0.0.1"], ["127.0.0.2"], "http://localhost:"),
        pytest.param("::1", ["::1"], ["127.0.0.1"], "http://[::1]:", marks=ipv6),
        pytest.param("[::1]", ["::1"], ["127.0.0.1"], "http://[::1]:", marks=ipv6),
        pytest.param("::", ["::1", "127.0.0.1"], [], "http://[::1]:", marks=ipv6),
    ],
)
def test_a_host_is_every_address_that_it_names(
    host: str, answering: list[str], silent: list[str], url: str
) -> None:
    """All of them have one port; the URL that is shown can be opened."""
    with listening(host) as (port, said):
        assert [True] * len(answering) == [answers(address, port) for address in answering]
        assert [False] * len(silent) == [answers(address, port) for address in silent]
        assert f"Documentation: {url}{port}/schema" == said[0]


@ipv6
def test_localhost_is_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser may try either first."""
    resolve(monkeypatch, "::1", "127.0.0.1", "127.0.0.1")
    with listening("localhost") as (port, _):
        assert answers("127.0.0.1", port) and answers("::1", port)


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_an_address_that_others_reach_is_a_warning(host: str, warned: bool) -> None:
    """There is no authentication, and whoever starts the service is told so."""
    with listening(host) as (_, said):
        assert ["Warning: there is no authentication"] * warned == [line[:35] for line in said[1:]]


def test_a_family_that_the_machine_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with an address that cannot be had serves at its others."""
    resolve(monkeypatch, "::1", "127.0.0.1")
    refuse(monkeypatch, "::1", errno.EADDRNOTAVAIL)
    with listening("localhost") as (port, _):
        assert answers("127.0.0.1", port)


def test_a_port_that_is_taken_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only the second of a name's addresses has it taken; nothing stays open."""
    resolve(monkeypatch, "127.0.0.1", "127.0.0.2")
    refuse(monkeypatch, "127.0.0.2", errno.EADDRINUSE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(
        ListenError, match=f"^Cannot listen on localhost, port {port}: Address already in use.$"
    ):
        listen("localhost", port)
    assert not answers("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "300.1.1.1", "192.0.2.1"])
def test_a_host_that_is_none_is_one_sentence(host: str) -> None:
    """A name that nobody knows, or an address of somebody else."""
    with pytest.raises(ListenError, match=r"^Cannot listen on .+, port 8000: (?!None).+\.$"):
        listen(host, 8000)


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name stand for these addresses."""
    real = socket.getaddrinfo

    def found(_host: str, *rest: Any, **options: Any) -> list[Any]:
        return [entry for address in addresses for entry in real(address, *rest, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def refuse(monkeypatch: pytest.MonkeyPatch, address: str, number: int) -> None:
    """Have the system refuse to listen on an address."""
    real: Callable[..., socket.socket] = socket.create_server

    def create_server(place: tuple[Any, ...], **options: Any) -> socket.socket:
        if place[0] == address:
            raise OSError(number, errno.errorcode[number].replace("EADDRINUSE", "Address already in use"))
        return real(place, **options)

    monkeypatch.setattr(socket, "create_server", create_server)
