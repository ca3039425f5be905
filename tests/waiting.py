import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(probe: Callable[[], T], *, within: float = 30, because: str = "") -> T:
    """The first true answer of `probe`; fails with the last one when none comes `within` seconds.

    The only place where a test waits. The default is patience with a machine whose disk or processors are
    busy for seconds; a test whose subject is a time says so.
    """
    pause = threading.Event()
    deadline = time.monotonic() + within
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within} s {because}: {answer!r}"
        pause.wait(0.02)
