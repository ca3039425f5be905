"""SIGTERM and SIGINT before a process has anything in hand, and after it has finished everything."""

import os
import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def end_at_once() -> None:
    """From now on a signal ends the process, with 0: nothing is in hand yet that had to be finished.

    A service says so before its imports, which take a second. The interpreter itself needs some hundredths
    before it can say anything; a signal that comes still earlier ends the process as the system does it.
    """
    for number in SIGNALS:
        signal.signal(number, _end)


def ignore() -> None:
    """From now on a signal does nothing: all is done, and the interpreter would die of one while it ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end(_: int, __: FrameType | None) -> None:
    # Not SystemExit, which is swallowed where it meets a callback or a destructor.
    os._exit(0)
