import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_LOCK = threading.Lock()


def say(text: str = "") -> None:
    """One or more lines for the user, never mixed with others'."""
    with _LOCK:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


class Step:
    """What a step has found out; shown on its line when it is done."""

    detail = ""


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Show a line for the step, with the time it took, when it is done."""
    begun = time.monotonic()
    current = Step()
    yield current
    say(f"  {name:<10} {current.detail:<52} {time.monotonic() - begun:5.1f} s")


class ShownOutput(threading.Thread):
    """Shows what a service prints, each line with the service's name, until it ends."""

    def __init__(self, name: str, output: IO[bytes]) -> None:
        super().__init__(name=f"output of {name}", daemon=True)
        self.last_line = ""
        self._prefix, self._output = f"{name:<6} | ", output
        self.start()

    def run(self) -> None:
        """Show line after line."""
        try:
            for line in self._output:
                self.last_line = line.decode(errors="replace").rstrip()
                say(self._prefix + self.last_line)
        except ValueError:  # the pipe was closed under us, for the service has ended
            return
