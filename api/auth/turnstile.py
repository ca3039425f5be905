import asyncio
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import HTTPException

Result = TypeVar("Result")
_BUSY = "Too many logins at once; try again shortly."


class Turnstile:
    """Runs blocking calls in threads, a few at once; a few more may wait, the rest are sent away with 503.

    A hundred logins at once then cost neither the memory of a hundred Argon2 checks nor the threads that
    others need. Nobody waits for a thread longer than `patience_seconds`: calls that hang, because the
    database does, send those behind them away too.
    """

    def __init__(self, *, at_once: int, waiting: int, patience_seconds: float = 3) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._limiter = CapacityLimiter(at_once)
        self._patience_seconds = patience_seconds
        self._places = at_once + waiting
        self._inside = 0

    async def run(self, function: Callable[..., Result], *arguments: object) -> Result:
        """What `function(*arguments)` returns or raises. A caller that leaves does not interrupt it."""
        if self._inside >= self._places:
            raise HTTPException(503, _BUSY)
        self._inside += 1
        try:
            await self._wait_for_a_thread()
            try:
                return await to_thread.run_sync(function, *arguments, limiter=self._limiter)
            finally:
                self._free.release()
        finally:
            self._inside -= 1

    async def _wait_for_a_thread(self) -> None:
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise HTTPException(503, _BUSY) from None
