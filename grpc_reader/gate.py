from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grpc import aio

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
            raise _full(self._limit, self._what)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


class Shares:
    """So many places for each of those who call, by a name; whoever has them all is sent away at once.

    A call has its place until gRPC is rid of it, however it ends. When its handler has returned, or the
    caller is denied, an answer may still wait for ever to be read, and is in memory.
    """

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._taken: Counter[str] = Counter()

    def take(self, name: str, context: aio.ServicerContext[Any, Any]) -> None:
        """A place for the call; TooManyCallsError if `name` has no more."""
        if self._taken[name] >= self._limit:
            raise _full(self._limit, self._what)
        self._taken[name] += 1

        def give_back(_: aio.ServicerContext[Any, Any]) -> None:
            self._taken[name] -= 1
            if not self._taken[name]:
                del self._taken[name]

        context.add_done_callback(give_back)  # type: ignore[arg-type]  # no protocol in the stubs


def _full(limit: int, what: str) -> TooManyCallsError:
    return TooManyCallsError(f"{limit} {what} are under way, and no more are taken; try later.")
