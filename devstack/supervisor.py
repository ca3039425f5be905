import math
import time
from dataclasses import dataclass

from devstack.console import ShownOutput, say
from devstack.process import Process
from devstack.servers import Server, SetupError

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0
# A process that has run for this long was well; its next failure is the first again.
_WELL_SECONDS = 30.0
# A line may still be on its way when its process has ended; a child that lives on keeps the way open.
_LAST_LINE_SECONDS = 1.0


@dataclass
class _Watched:
    process: Process
    started_at: float
    shown: ShownOutput | None = None
    ends: int = 0
    pause: float = _FIRST_PAUSE_SECONDS
    start_at: float | None = None

    def note_end(self, now: float, most_ends: float) -> None:
        """Plan the next start; SetupError instead, if it has ended that many times in a row."""
        if now - self.started_at > _WELL_SECONDS:
            self.ends, self.pause = 0, _FIRST_PAUSE_SECONDS
        self.ends += 1
        code = self.process.exit_code()
        if self.ends >= most_ends:
            raise SetupError(
                f"The {self._title()} ended {self.ends} times in a row (exit code {code}){self._hint()}."
            )
        self.start_at = now + self.pause
        say(f"{self.process.name} ended (exit code {code}), starts again in {self.pause:g} s")
        self.pause = min(self.pause * 2, _LONGEST_PAUSE_SECONDS)

    def start_again(self, now: float) -> None:
        # What it had started may have outlived it, and would be in the way.
        self.process.stop()
        self.start()
        self.started_at, self.start_at = now, None

    def start(self) -> None:
        self.process.start()
        if self.process.log is None:
            self.shown = ShownOutput(self.process.name, self.process.output)

    def _title(self) -> str:
        return self.process.name if self.process.log else f"service {self.process.name}"

    def _hint(self) -> str:
        if self.shown is None:
            return f"; see {self.process.log}"
        self.shown.join(_LAST_LINE_SECONDS)
        return f": {self.shown.last_line.rstrip('.') or 'it said nothing'}"


class Supervisor:
    """Starts again what dies, after a pause that doubles each time; stops everything in reverse order.

    Not thread-safe: it belongs to the main thread, which the lives of the children are tied to.
    """

    def __init__(self) -> None:
        self._watched: list[_Watched] = []

    def watch(self, server: Server) -> None:
        """Keep a server that runs already running."""
        now = time.monotonic()
        self._watched += [_Watched(process, now) for process in server.processes]

    def start(self, service: Process) -> None:
        """Start a service, show its output, keep it running."""
        watched = _Watched(service, time.monotonic())
        watched.start()
        self._watched.append(watched)

    def look(self, most_ends: float = math.inf) -> None:
        """Start again what has died and has paused long enough; call it several times a second.

        SetupError, with its last line or its log, for what has ended `most_ends` times in a row.
        """
        now = time.monotonic()
        for watched in self._watched:
            if watched.process.running:
                continue
            if watched.start_at is None:
                watched.note_end(now, most_ends)
            elif now >= watched.start_at:
                watched.start_again(now)

    def stop(self) -> None:
        """Stop everything, the last first."""
        for watched in reversed(self._watched):
            watched.process.stop()
