"""A TCP proxy on loopback whose line to a server can be made as bad as a network can be.

For faults that last; to cut at a certain word that a client says there is tests/fixtures/wire.py.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
_BLOCK_BYTES = 65_536
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Line:
    """What the line does with bytes. What it holds back it delivers when it is whole again, as TCP does."""

    forth: bool = True
    back: bool = True
    delay_seconds: float = 0.0
    bytes_per_second: float = float("inf")


WHOLE = Line()
HALF_OPEN = Line(back=False)
BLACK_HOLE = Line(forth=False, back=False)


class Proxy:
    """Listens on `port` and leads to a server on loopback, in a loop and thread of its own.

    `troubles` counts the blocks of bytes and the connections that have met a line that was not whole.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.troubles = 0
        self._target_port = target_port
        self._line: Line | None = WHOLE
        self._changed = asyncio.Event()
        self._ends: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._call(self._listen())

    def set(self, line: Line) -> None:
        """From now on the line is like that, for connections old and new."""
        self._call(self._set(line))

    def cut(self) -> None:
        """Reset every connection, and each new one, until `set`."""
        self._call(self._set(None))

    def close(self) -> None:
        """Reset every connection and listen no more."""
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _set(self, line: Line | None) -> None:
        self._line = line
        self._changed.set()
        self._changed = asyncio.Event()
        if line is None:
            for end in list(self._ends):
                self.troubles += 1
                _reset(end)

    async def _stop(self) -> None:
        self._server.close()
        await self._set(None)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _lead(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._line is None:
            self.troubles += 1
            _reset(client)
            return
        self._ends.add(client)
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            _reset(client)
            self._ends.discard(client)
            return
        self._ends.add(server)
        await asyncio.gather(self._pump(reader, server, "forth"), self._pump(answers, client, "back"))
        self._ends -= {client, server}

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: str) -> None:
        with contextlib.suppress(OSError):
            while block := await source.read(_BLOCK_BYTES):
                await self._pass(block, sink, way)
        sink.close()

    async def _pass(self, block: bytes, sink: asyncio.StreamWriter, way: str) -> None:
        while block:
            if (line := self._line) is None:
                return
            self.troubles += line != WHOLE
            if not getattr(line, way):
                await self._changed.wait()
                continue
            # In a tenth of a second a slow line takes a tenth of what it takes in a second.
            size = int(max(1, min(len(block), line.bytes_per_second / 10)))
            await asyncio.sleep(line.delay_seconds + size / line.bytes_per_second)
            sink.write(block[:size])
            await sink.drain()
            block = block[size:]


def _reset(end: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.transport.abort()


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """A whole line to a server on 127.0.0.1, until the block ends."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
