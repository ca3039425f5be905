"""A load that does not depend on how fast it is answered, and what was seen of its rate."""

import contextlib
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.faults.rest_client import RestClient

# Forty changes a second, however long one takes, up to half a second.
_WRITERS = 20
_PERIOD_SECONDS = 0.5


class SteadyLoad:
    """Writers that each change a book of their own twice a second; what is late is left out.

    `acknowledged` are the times of the answers that said so, in seconds since the epoch.
    """

    def __init__(self, new_client: Callable[[], RestClient]) -> None:
        self.acknowledged: list[float] = []
        self._new_client = new_client
        self._stopping = threading.Event()
        pauses = [number * _PERIOD_SECONDS / _WRITERS for number in range(_WRITERS)]
        self._threads = [threading.Thread(target=self._write, args=[pause]) for pause in pauses]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def go_on(self, seconds: float) -> None:
        """Return after so many seconds."""
        self._stopping.wait(seconds)

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _write(self, pause: float) -> None:
        with contextlib.closing(self._new_client()) as client:
            book_id = client.create().book_id
            assert book_id is not None
            due = time.monotonic() + pause
            while not self._stopping.wait(due - time.monotonic()):
                if client.change(book_id).outcome == "acknowledged":
                    self.acknowledged.append(time.time())
                due = max(due + _PERIOD_SECONDS, time.monotonic())


@contextmanager
def steady(load: SteadyLoad) -> Iterator[SteadyLoad]:
    """The load lasts as long as the block."""
    load.start()
    try:
        yield load
    finally:
        load.stop()


def rate(times: Sequence[float], begin: float, seconds: float) -> float:
    """How many a second, of ascending times, in so many seconds from `begin` on."""
    return (bisect_left(times, begin + seconds) - bisect_left(times, begin)) / seconds


def seconds_until(times: Sequence[float], wanted: float, since: float, window: float) -> float:
    """When, in tenths of a second after `since`, the rate of the window that begins then is as wanted.

    Infinite when it never is.
    """
    tenths = range(int((times[-1] - since) * 10)) if times else range(0)
    return next((at / 10 for at in tenths if rate(times, since + at / 10, window) >= wanted), float("inf"))
