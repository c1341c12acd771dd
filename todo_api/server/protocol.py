"""uvicorn's HTTP/1.1 with bounds where it has none: how large a head may be, and how long a request may take.

A request beyond them, or one that is not sound HTTP, never reaches the application: it is answered here.
"""

import logging
from asyncio import TimerHandle, Transport
from http import HTTPStatus
from secrets import token_hex

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from todo_api.http.problems import (
    ARRIVAL_LIMIT,
    HEAD_LIMIT,
    MEDIA_TYPE,
    BadRequest,
    HeadTooLarge,
    Problem,
    TooSlow,
)

log = logging.getLogger(__name__)

LAST_CALL = 4  # seconds that remain of them at SIGTERM


class BoundedProtocol(HttpToolsProtocol):
    """Refuses what is too large with 431, too slow with 408 and garbled with 400, as problems."""

    _arriving = True  # something is still to come
    _head: int | None = 0  # bytes of a head that is not whole; None while its body arrives
    _deadline: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # a stream's, as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        self._expect(ARRIVAL_LIMIT)

    def data_received(self, data: bytes) -> None:
        """Take what has come: mostly all of a request at once."""
        self._arriving = True
        super().data_received(data)
        if self._arriving:
            if self._deadline is None:
                self._expect(ARRIVAL_LIMIT)
            if self._head is not None:
                self._head += len(data)
                if self._head > HEAD_LIMIT:
                    self._refuse(HeadTooLarge)

    def on_message_begin(self) -> None:
        """Take the first byte of a request."""
        self._arriving = True
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Have the application take it from here."""
        super().on_headers_complete()
        self._head = None

    def on_message_complete(self) -> None:
        """Take the last byte of a request."""
        self._arriving = False
        self._head = 0
        self._expect(None)
        super().on_message_complete()

    def shutdown(self) -> None:
        """Hang up when the request under way is answered, and do not wait long for the rest of it."""
        super().shutdown()
        if self._deadline:
            self._expect(LAST_CALL)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._expect(None)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser does not understand."""
        self._refuse(BadRequest)

    def _expect(self, seconds: float | None) -> None:
        if self._deadline:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._refuse, TooSlow) if seconds else None

    def _refuse(self, kind: type[Problem]) -> None:
        """Answer, unless an answer is under way, and hang up, once earlier requests have theirs."""
        log.info("%s: a client is hung up on", kind.title)
        cycle = self.cycle
        if self._head is not None and cycle and not cycle.response_complete:
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if self._head is not None or not (cycle.response_started or self.pipeline):
            self.transport.write(_answer(kind, *self.server_state.default_headers))
        self.transport.close()


def _answer(kind: type[Problem], *headers: tuple[bytes, bytes]) -> bytes:
    request_id = token_hex(16)
    body = msgspec.json.encode(kind().describe("", request_id))
    head = (
        f"HTTP/1.1 {kind.status_code} {HTTPStatus(kind.status_code).phrase}\r\n"
        f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
        f"x-content-type-options: nosniff\r\nx-request-id: {request_id}\r\ncache-control: no-cache\r\n"
    )
    return head.encode() + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n" + body
