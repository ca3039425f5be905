from collections import deque

_SECONDS = 10.0


class Rate:
    """Events per second, over the last ten seconds."""

    def __init__(self) -> None:
        self._total = 0
        self._looks: deque[tuple[float, int]] = deque()

    def count(self) -> None:
        """One event more was sent."""
        self._total += 1

    def per_second(self, now: float) -> float:
        """The rate until `now`, a monotonic time in seconds; call it every second or so."""
        self._looks.append((now, self._total))
        while len(self._looks) > 1 and now - self._looks[0][0] > _SECONDS:
            self._looks.popleft()
        began, before = self._looks[0]
        return (self._total - before) / (now - began) if now > began else 0.0
