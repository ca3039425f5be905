import random

_FIRST_SECONDS = 0.1
_LONGEST_SECONDS = 5.0


class Backoff:
    """Pauses that grow from a tenth of a second to five, each with jitter, until `reset`."""

    def __init__(self) -> None:
        self._seconds = _FIRST_SECONDS

    def next_pause(self) -> float:
        """Seconds to wait before the next attempt."""
        pause = self._seconds * random.uniform(0.5, 1)  # noqa: S311  nothing to guess here
        self._seconds = min(self._seconds * 2, _LONGEST_SECONDS)
        return pause

    def reset(self) -> None:
        """The next pause is the shortest again."""
        self._seconds = _FIRST_SECONDS
