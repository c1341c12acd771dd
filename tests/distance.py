"""A database that is far away, on one machine."""

import asyncio
import selectors
import threading
from contextlib import suppress

from psycopg.conninfo import conninfo_to_dict


class Distance:
    """Carries bytes between a TCP port and a database's socket, each of them ``delay`` seconds late.

    ``delay`` may change at any time, and is 0 at first. ``url`` leads through here. A connection is opened
    without delay. It works as long as the program does.
    """

    def __init__(self, url: str) -> None:
        near = conninfo_to_dict(url)
        self.delay = 0.0
        self._path = f"{near['host']}/.s.PGSQL.{near['port']}"
        # Of the selectors, this one waits to the microsecond: the others' unit is a millisecond.
        loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        threading.Thread(target=loop.run_forever, daemon=True).start()
        starting = asyncio.start_server(self._connect, "127.0.0.1", 0)
        port = asyncio.run_coroutine_threadsafe(starting, loop).result().sockets[0].getsockname()[1]
        self.url = f"postgresql://{near['user']}@127.0.0.1:{port}/{near['dbname']}"

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._path)
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                loop.call_later(self.delay, writer.write, data)
        loop.call_later(self.delay, writer.close)
