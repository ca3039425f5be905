import select
import signal
import socket
from types import FrameType


class Stop:
    """A wish to stop, which wakes whoever waits on `wake_up`; SIGTERM and SIGINT can express it."""

    def __init__(self) -> None:
        self.asked = False
        self.wake_up, self._waker = socket.socketpair()
        self._waker.setblocking(False)  # noqa: FBT003  a method of the standard library

    def listen(self) -> None:
        """Take SIGTERM and SIGINT for the wish to stop. A second one changes nothing."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def ask(self) -> None:
        """Wish to stop."""
        if not self.asked:
            self.asked = True
            self._waker.send(b"!")

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until somebody asks; whether somebody did."""
        if not self.asked:
            select.select([self.wake_up], [], [], seconds)
        return self.asked

    def close(self) -> None:
        """Let go of the sockets, and of signals: one that comes while the interpreter ends is harmless."""
        if signal.getsignal(signal.SIGTERM) == self._on_signal:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
        self.wake_up.close()
        self._waker.close()

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        self.ask()
