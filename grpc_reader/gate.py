from collections.abc import Iterator
from contextlib import contextmanager

from grpc_reader.errors import TooManyCallsError


class Gate:
    """Lets so many in and sends the others away at once, for a queue would only make them all late."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._inside = 0

    @contextmanager
    def passage(self) -> Iterator[None]:
        """For as long as the block lasts; TooManyCallsError if there is no room."""
        if self._inside >= self._limit:
            raise TooManyCallsError(
                f"{self._limit} {self._what} are under way, and no more are taken; try later."
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
