"""Opens the sockets that the service listens on, and prints its URL."""

import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from errno import EADDRNOTAVAIL, EAFNOSUPPORT
from ipaddress import ip_address

from todo_api import OperatorError

_BACKLOG = 2048

# Seconds after which Linux closes a connection whose client reads nothing of what waits for it.
STALL_LIMIT = 30

# Addresses that stand for all of a machine, and the one to use in the URL.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nothing is bound here


class ListenError(OperatorError):
    """Why the service cannot listen."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of ``host``, all with the same port; port 0 takes a free one.

    ``localhost`` means 127.0.0.1 and ::1 if the system has both, and ``::`` includes IPv4 if the system
    supports that. An IPv6 address may stand in brackets. Raises ListenError.
    """
    try:
        return _listen(_bare(host), port)
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        raise ListenError(f"Cannot listen on {host}, port {port}: {reason}.") from None


def announce(host: str, listeners: Sequence[socket.socket], say: Callable[[str], None]) -> None:
    """Print the URL of the documentation, and a warning if other machines can reach the service."""
    port = listeners[0].getsockname()[1]
    name = _LOOPBACK.get(_bare(host), _bare(host))
    say(f"Documentation: http://{f'[{name}]' if ':' in name else name}:{port}/schema")
    if not all(ip_address(listener.getsockname()[0]).is_loopback for listener in listeners):
        say("Warning: there is no authentication. Whoever reaches this port can read and change everything.")


def _bare(host: str) -> str:
    return host.removeprefix("[").removesuffix("]")


def _listen(name: str, port: int) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    absent: OSError | None = None
    with ExitStack() as opened:
        # getaddrinfo() lists an address once for each of its names.
        for address in dict.fromkeys(
            found[4] for found in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        ):
            try:
                listener = socket.create_server(
                    (address[0], port, *address[2:]),
                    family=socket.AF_INET6 if len(address) == 4 else socket.AF_INET,
                    backlog=_BACKLOG,
                    dualstack_ipv6=address[0] == "::" and socket.has_dualstack_ipv6(),
                )
            except OSError as error:
                if error.errno not in (EADDRNOTAVAIL, EAFNOSUPPORT):
                    raise
                absent = error  # the name has an address of a family that this machine does not use
            else:
                listeners.append(opened.enter_context(listener))
                if sys.platform == "linux":  # what it accepts inherits it
                    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * STALL_LIMIT)
                port = listener.getsockname()[1]
        if absent and not listeners:
            raise absent
        opened.pop_all()
    return listeners
