import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

# A supervisor that is killed cannot stop its children; the kernel then does. A preexec_fn could ask for that
# too, but makes Popen call fork, whose handlers (gRPC's, for one) crash the child beside busy threads.
_END_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM")


@dataclass
class Process:
    """A child in a process group of its own, so that what it starts ends with it.

    Its output goes to `log`, or to the pipe `output` when `log` is None.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None
    grace_seconds: float = 15
    _child: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> IO[bytes]:
        """What the child prints."""
        assert self._child is not None  # noqa: S101  asked for after start only
        assert self._child.stdout is not None  # noqa: S101  likewise, without a log only
        return self._child.stdout

    @property
    def pid(self) -> int:
        """The id of the running (or last) child."""
        assert self._child is not None  # noqa: S101  asked for after start only
        return self._child.pid

    def start(self) -> None:
        """Start the child; call it from the main thread, which the child's life is tied to."""
        sink = subprocess.PIPE if self.log is None else self.log.open("ab")
        try:
            self._child = subprocess.Popen(
                [*_END_WITH_PARENT, *self.command],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            if not isinstance(sink, int):
                sink.close()

    def exit_code(self) -> int | None:
        """None while the child runs."""
        return None if self._child is None else self._child.poll()

    @property
    def running(self) -> bool:
        """Whether there is a child that has not ended."""
        return self._child is not None and self._child.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the child and all that it has started."""
        if self._child is not None:
            try:
                os.killpg(self._child.pid, number)
            except ProcessLookupError:
                return

    def stop(self) -> None:
        """End the child and all that it has started: politely, and after the grace period for certain."""
        if self._child is None:
            return
        if self.running:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(self.grace_seconds)
        self.signal(signal.SIGKILL)
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
