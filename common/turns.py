import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

_PATIENCE_SECONDS = 3
_SENTENCE = "Too many lists with such filters are in work or wait already; try again shortly."


@dataclass
class _Own:
    free: asyncio.Semaphore
    inside: int = 0


class Turns:
    """Lets a few calls of each user, and of all users, do at once what may be dear; the others wait in order.

    Nobody waits longer than three seconds, and of one user no more than `waiting` do; the others get the
    error that `refused` makes of a sentence. So whoever asks for what is dear, and nothing else, keeps up
    neither what is not dear nor, alone, other users.
    """

    def __init__(
        self, *, each: int, together: int, waiting: int, refused: Callable[[str], Exception]
    ) -> None:
        self._each = each
        self._places = each + waiting
        self._free = asyncio.Semaphore(together)
        self._own: dict[str, _Own] = {}
        self._refused = refused

    @asynccontextmanager
    async def of(self, username: str) -> AsyncIterator[None]:
        """A turn of the user's, until the block ends."""
        own = self._own.setdefault(username, _Own(asyncio.Semaphore(self._each)))
        if own.inside >= self._places:
            raise self._refused(_SENTENCE)
        own.inside += 1
        try:
            async with AsyncExitStack() as turn:
                try:
                    async with asyncio.timeout(_PATIENCE_SECONDS):
                        await turn.enter_async_context(own.free)
                        await turn.enter_async_context(self._free)
                except TimeoutError:
                    raise self._refused(_SENTENCE) from None
                yield
        finally:
            own.inside -= 1
            if not own.inside:
                del self._own[username]


def turns_for_lists(refused: Callable[[str], Exception]) -> Turns:
    """At lists for which the database may walk along a whole table (docs/adr/0019).

    All of them have half of the connections of a `Database`, and one user a quarter.
    """
    return Turns(each=4, together=8, waiting=12, refused=refused)
