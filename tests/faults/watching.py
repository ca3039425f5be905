"""A thousand watchers in a process of their own: `python -m tests.faults.watching PORT EVERYTHING SECONDS`.

Takes TOKEN from the environment. Each of the 1,000 books has a watcher, but EVERYTHING of them watch all, and
one more never reads. All begin at 0; prints `ready` when each has had one event, and at the end how late the
later ones were.
"""

import asyncio
import json
import os
import sys
import time

from grpc import aio

from protos.bookstore.v1.events_pb2 import WatchDeliveredEventsRequest, WatchDeliveredEventsResponse
from protos.bookstore.v1.events_pb2_grpc import EventServiceStub

WATCHERS = 1000
_CONNECTIONS = 20


class Watchers:
    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)
        self.counts = [0] * WATCHERS
        self.lags: list[float] = []

    async def watch(self, stub: EventServiceStub, number: int, book_id: int) -> None:
        request = WatchDeliveredEventsRequest(book_id=book_id)
        async for answer in stub.WatchDeliveredEvents(request, metadata=self._metadata):
            self._take(number, answer)

    def never_read(self, stub: EventServiceStub) -> object:
        return stub.WatchDeliveredEvents(WatchDeliveredEventsRequest(), metadata=self._metadata)

    def _take(self, number: int, answer: WatchDeliveredEventsResponse) -> None:
        self.counts[number] += 1
        if answer.event.book_version > 1:
            self.lags.append(time.time() - answer.event.record_time.ToNanoseconds() / 1e9)


async def main(port: str, everything: int, seconds: float) -> None:
    own = [("grpc.use_local_subchannel_pool", 1)]
    channels = [aio.insecure_channel(f"127.0.0.1:{port}", own) for _ in range(_CONNECTIONS)]
    stubs = [EventServiceStub(channel) for channel in channels]  # type: ignore[no-untyped-call]
    watchers = Watchers(os.environ["TOKEN"])
    idle = watchers.never_read(stubs[0])
    tasks = [
        asyncio.create_task(
            watchers.watch(stubs[number % _CONNECTIONS], number, 0 if number < everything else number + 1)
        )
        for number in range(WATCHERS)
    ]
    while not all(watchers.counts):  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(0.05)
    print("ready", flush=True)  # noqa: T201  what it is for
    before = sum(watchers.counts)
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    lags = sorted(watchers.lags) or [0.0]
    result = {
        "ended": len(done),
        "all": [min(watchers.counts[:everything]), max(watchers.counts[:everything])],
        "own": sum(watchers.counts[everything:]),
        "messages": sum(watchers.counts) - before,
        "lag_ms": {share: round(lags[int(len(lags) * share / 100)] * 1000, 1) for share in (50, 95, 99)},
    }
    print(json.dumps(result), flush=True)  # noqa: T201
    del idle
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
