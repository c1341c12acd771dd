"""uvicorn's HTTP/1.1 protocol with the checks and limits that it lacks.

A request that fails a check never reaches the application. It is answered here and its connection closed,
since the rest of the connection cannot be trusted. The application checks what can wait for a complete head,
such as the size of the body.

The module overrides undocumented parts of uvicorn. So pyproject.toml pins uvicorn's minor version, and a test
fails on any other than ``WRITTEN_FOR``. Delete the module once uvicorn ignores ``Upgrade``, checks ``Host``,
and limits the size of a head, the time in which a request has to arrive, and the requests that a client may
pipeline. uvicorn's other implementation, h11, ignores ``Upgrade``, but lacks the rest and is slower.
"""

import logging
from asyncio import TimerHandle, Transport

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from todo_api.http.problems import (
    ARRIVAL_LIMIT,
    HEAD_LIMIT,
    BadRequest,
    HeadTooLarge,
    Problem,
    TooSlow,
)
from todo_api.server.messages import is_valid, refusal

log = logging.getLogger(__name__)

WRITTEN_FOR = "0.54"  # uvicorn's minor version

SHUTDOWN_ARRIVAL_LIMIT = 4  # seconds that a request still has to arrive at SIGTERM

_HEAD_END = b"\r\n\r\n"


class _Flow(FlowControl):
    """Reads nothing more while data waits to be parsed."""

    held = b""  # read, but not parsed yet

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a head that is too large (431), and requests that are too slow (408) or malformed (400).

    A pipelined request is parsed only when the one before it has its response. Until then, the data read of
    it waits, and no more is read.
    """

    flow: _Flow
    _pending = 0  # bytes since the last part of a body, or since a head began
    _arriving = True  # a request has begun, or the first one is awaited
    _in_body = False  # the head of the arriving request is complete
    _deadline: TimerHandle | None = None  # for the arriving request

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # a stream's, as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._expect(ARRIVAL_LIMIT)

    def data_received(self, data: bytes) -> None:
        """Parse the data, once the requests before it have their responses."""
        self.flow.held += data
        self._parse()

    def _parse(self) -> None:
        """Parse in pieces that end where a head may end, so one piece begins at most two requests."""
        data, start = self.flow.held, 0
        while start < len(data) and not self._has_unanswered() and not self.transport.is_closing():
            end = data.find(_HEAD_END, start) + len(_HEAD_END)
            if end < len(_HEAD_END):
                end = len(data)
            self._feed(data[start:end])
            start = end
        self.flow.held = data[start:]
        if self.flow.held and not self.transport.is_closing():
            self.flow.pause_reading()
        if self._arriving and self._deadline is None and not self._has_unanswered():
            self._expect(ARRIVAL_LIMIT)

    def _has_unanswered(self) -> bool:
        """Whether a request is complete and its response is not."""
        cycle = self.cycle
        return cycle is not None and not (cycle.response_complete or (cycle.more_body and not self.pipeline))

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._arriving = True
        self._pending += len(data)
        if self._pending - (len(data) if self._in_body else 0) > HEAD_LIMIT:
            self._refuse(HeadTooLarge)
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(BadRequest)

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Ignore ``Upgrade`` (RFC 9110, section 7.8): parse the same head again without it, then the rest.

        httptools would take the body of such a request for the next request.
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._pending = 0
        for part in (b"\r\n".join(lines) + _HEAD_END, rest):
            if part and not self.transport.is_closing():
                self._feed(part)

    def on_message_begin(self) -> None:
        """Note that a request has begun, maybe behind the end of another one."""
        super().on_message_begin()
        self._arriving = True

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is not valid.

        White space around a header's value is no part of it (RFC 9110, section 5.5). The request gets its own
        list of headers, so that trailers are not added: a receiver may merge one only if it knows that this
        is safe (section 6.5.1).
        """
        version = self.parser.get_http_version()
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return  # _parse_without_upgrade follows
        self.scope["headers"] = headers = [(name, value.strip(b" \t")) for name, value in self.headers]
        if not is_valid(version, self.parser.get_method(), headers):
            raise ValueError  # the parser turns it into an error of its own
        if version == "1.0":
            self.expect_100_continue = False  # RFC 9110, section 10.1.1
        super().on_headers_complete()
        self._in_body = True
        self._pending = 0

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the arrival of a request."""
        if not self._in_body:
            return  # _parse_without_upgrade follows
        self._arriving = self._in_body = False
        self._pending = 0
        self._expect(None)
        super().on_message_complete()
        if self.cycle.response_complete:  # before its body was complete
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Parse the data that had to wait, and limit the time of a request that has begun."""
        super().on_response_complete()
        if self.flow.held or self._arriving:
            self._unset_keepalive_if_required()
            self._parse()
            self.flow.resume_reading()

    def shutdown(self) -> None:
        """Close the connection after the response under way, and wait less for an arriving request."""
        super().shutdown()
        if self._deadline:
            self._expect(SHUTDOWN_ARRIVAL_LIMIT)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the deadline, and data and requests that wait."""
        self._expect(None)
        self.flow.held = b""
        self.pipeline.clear()
        super().connection_lost(exc)

    def _expect(self, seconds: float | None) -> None:
        """Set the time in which the arriving request must be complete; None for no limit."""
        if self._deadline:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._refuse, TooSlow) if seconds else None

    def _refuse(self, kind: type[Problem]) -> None:
        """Answer and close the connection. A response under way is finished first, and is the only one."""
        if self.transport.is_closing():
            return
        log.info("Closed a connection: %s", kind.title)
        self._expect(None)
        self._arriving = False
        cycle = self.cycle
        if not self._in_body and cycle and not cycle.response_complete:
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if not self._in_body or not cycle.response_started:
            self.transport.write(refusal(kind))
        self.transport.close()
