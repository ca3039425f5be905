"""Code that stands still at named points and goes on when it is told to, all in one thread.

What is stepped is the product's own loop, unchanged: it runs in a greenlet, and gives control back where it
says that it has reached a point, or where it would wait for the broker.
"""

import contextlib
from collections.abc import Callable

from greenlet import getcurrent, greenlet

# Where a loop waits for something to come; it passes there once a round.
WAITS = "waits"
# A point that is not reached in so many rounds is not reached.
_ROUNDS = 3


class KilledError(BaseException):
    """As SIGKILL: nothing may catch it and go on."""


class Stepper(greenlet):  # type: ignore[misc]  # it has no types
    """Work that begins with the first `go`. What it raises, `go` raises, and then it is dead."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(self._work)
        self._work_to_do = work
        self._destination = WAITS
        self._rounds = 0
        self._killed = False

    def go(self, destination: str) -> None:
        """On to that point, or for some rounds if it is not on the way."""
        if not self.dead:
            self._destination, self._rounds = destination, 1 if destination == WAITS else _ROUNDS
            self.switch()

    def kill(self) -> None:
        """Let it do nothing more."""
        self._killed = True
        if self:
            self.throw(KilledError)

    def reach(self, point: str) -> None:
        """It is there."""
        if self._killed:
            raise KilledError  # while it unwinds
        self._rounds -= point == WAITS
        if point == self._destination or self._rounds == 0:
            assert self.parent is not None
            self.parent.switch()

    def _work(self) -> None:
        with contextlib.suppress(KilledError):
            self._work_to_do()


def reach(point: str) -> None:
    """Whoever runs is there; others than steppers do not mind."""
    current = getcurrent()
    if isinstance(current, Stepper):
        current.reach(point)
