"""Stands between a client and PostgreSQL, and breaks a connection at a chosen step of its life."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from psycopg.conninfo import conninfo_to_dict, make_conninfo

READY = b"Z\x00\x00\x00\x05I"  # ReadyForQuery: the answer to a sync, and the end of the handshake

STEPS = ("connecting", "handshake", "statement", "answer", "half an answer", "before the sync")
ACTS = ("reset", "hang up", "stall")


class Relay:
    """Carries connections to a server. The next one that reaches ``step`` suffers ``act``, and only that one.

    ``step`` is one of STEPS, or empty for none. New connections are closed at once if it ``refuses``, and
    never answered if it ``is_silent``.
    """

    def __init__(self, server: str) -> None:
        target = conninfo_to_dict(server)
        self._host, self._port = str(target["host"]), int(str(target.get("port", 5432)))
        self._links: dict[asyncio.Task[None], _Link] = {}
        self.url = server
        self.step = self.act = ""
        self.refuses = self.is_silent = False
        self.attempts_to_connect = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Relay"]:
        """Listen on a port of its own, and end every connection afterwards."""
        listener = await asyncio.start_server(self._accept, "127.0.0.1")
        self.url = make_conninfo(self.url, host="127.0.0.1", port=listener.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            listener.close()
            self.break_all("reset")
            if self._links:
                await asyncio.wait(self._links)

    def break_all(self, act: str) -> None:
        """Do this to all connections that there are."""
        for task, link in tuple(self._links.items()):
            if act == "stall":
                link.stalls = True
            else:
                _act(link.client, act)
                task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts_to_connect += 1
        if self.refuses:
            _act(writer, "reset")
            return
        if self._host.startswith("/"):
            there, back = await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
        else:
            there, back = await asyncio.open_connection(self._host, self._port)
        task = asyncio.current_task()
        assert task is not None
        link = self._links[task] = _Link(self, writer, back)
        link.stalls = self.is_silent
        task.add_done_callback(self._links.pop)
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(link.upwards(reader), link.downwards(there))
        writer.close()
        back.close()


class _Link:
    def __init__(self, relay: Relay, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._relay, self.client, self._server = relay, client, server
        self._ready = False
        self.stalls = False

    async def upwards(self, source: asyncio.StreamReader) -> None:
        while data := await source.read(65536):
            await self._break_at("statement" if self._ready else "connecting")
            self._server.write(data)
        self._server.close()

    async def downwards(self, source: asyncio.StreamReader) -> None:
        while data := await source.read(65536):
            if self._ready:
                await self._break_at("answer")
                await self._break_at("half an answer", data[: len(data) // 2])
                await self._break_at("before the sync", data.removesuffix(READY))
            else:
                await self._break_at("handshake", data[: len(data) // 2])
                self._ready = data.endswith(READY)
            self.client.write(data)
        self.client.close()

    async def _break_at(self, step: str, passed_on: bytes = b"") -> None:
        """Pass on a part and break the connection, if this is the step at which to do so."""
        relay = self._relay
        if relay.step == step:
            relay.step = ""
            self.client.write(passed_on)
            await asyncio.sleep(0.01)  # the client reads the part before it notices the end
            if relay.act != "stall":
                _act(self.client, relay.act)
                raise ConnectionError
            self.stalls = True
        if self.stalls:
            await asyncio.Event().wait()


def _act(writer: asyncio.StreamWriter, act: str) -> None:
    if act == "reset":
        with suppress(OSError):
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        writer.transport.abort()
    elif act == "hang up":
        writer.close()
