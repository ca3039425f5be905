"""Load on the API at a rate that does not wait for its answers, over connections that stay open."""

import asyncio
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_READ_SECONDS = 20


@dataclass
class Figures:
    """What came of the calls: seconds by status, and how many got no answer."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    lost: int = 0

    def count(self, status: int, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)

    @property
    def answers(self) -> int:
        return sum(map(len, self.seconds.values()))

    def percentile(self, share: float, *statuses: int) -> float:
        """Of the seconds to an answer with one of these statuses."""
        found = sorted(each for status in statuses for each in self.seconds.get(status, ()))
        return found[min(len(found) - 1, int(share * len(found)))]


@dataclass(frozen=True)
class Load:
    """Calls with one request, `rate` in a second, each over the next of so many connections.

    A connection whose answer is late sends its next one as soon as it has it.
    """

    url: str
    request: bytes
    connections: int

    def run(self, seconds: float, rate: float) -> Figures:
        """Blocks for so many seconds, and until the last answers are there."""
        figures = Figures()
        asyncio.run(self._run(seconds, rate, figures))
        return figures

    async def _run(self, seconds: float, rate: float, figures: Figures) -> None:
        begin = time.monotonic() + 0.5
        pause = self.connections / rate
        lanes = [
            self._lane(begin + number / rate, begin + seconds, pause, figures)
            for number in range(self.connections)
        ]
        await asyncio.gather(*lanes)

    async def _lane(self, due: float, end: float, pause: float, figures: Figures) -> None:
        address = urlsplit(self.url)
        writer = None
        while due < end:
            await asyncio.sleep(max(0, due - time.monotonic()))
            due = max(due + pause, time.monotonic())
            begun = time.monotonic()
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(address.hostname, address.port)
                writer.write(self.request)
                async with asyncio.timeout(_READ_SECONDS):
                    status = await self._answer(reader)
                figures.count(status, time.monotonic() - begun)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                figures.lost += 1
                if writer is not None:
                    writer.close()
                writer = None
        if writer is not None:
            writer.close()

    @staticmethod
    async def _answer(reader: asyncio.StreamReader) -> int:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        [length] = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
        await reader.readexactly(length)
        return int(head[9:12])
