import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from common.errors import BookstoreError


class AbandonedReads:
    """Ends what the server still works at for callers who have left, for no server notices that by itself.

    One after another, on one connection: however many leave at once, the server is not flooded for it.
    Whatever cannot be ended so within `within` seconds is ended by the server's own limit
    (common/time_limits.py), and its connection's number may be another's soon: it is forgotten.
    """

    def __init__(
        self, read: Callable[[], AbstractAsyncContextManager[AsyncConnection]], *, within: float
    ) -> None:
        self._read = read
        self._within = within
        # With the times until which they may be ended, the first one first.
        self._numbers: dict[int, float] = {}
        self._work: asyncio.Task[None] | None = None
        self._closed = False

    def end(self, number: int) -> None:
        """End the statement of the connection with this number, soon."""
        self._forget()
        self._numbers.pop(number, None)
        self._numbers[number] = time.monotonic() + self._within
        if not self._closed and (self._work is None or self._work.done()):
            self._work = asyncio.create_task(self._end_all())

    async def close(self) -> None:
        """Leave the rest to the server's limit."""
        self._closed = True
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    async def _end_all(self) -> None:
        try:
            while self._numbers:
                async with self._read() as connection:
                    self._forget()
                    if self._numbers:
                        await self._end_next(connection)
        except (BookstoreError, SQLAlchemyError):
            # The server is away, or too busy for us; one that starts anew gives the numbers to others.
            self._numbers.clear()

    async def _end_next(self, connection: AsyncConnection) -> None:
        number = next(iter(self._numbers))
        del self._numbers[number]
        # It may be at its end already.
        with contextlib.suppress(DBAPIError):
            # Not the connection: if another has that number by now, it loses least by this.
            await connection.exec_driver_sql(f"KILL QUERY {number}")

    def _forget(self) -> None:
        now = time.monotonic()
        while self._numbers:
            number, ends = next(iter(self._numbers.items()))
            if ends > now:
                return
            del self._numbers[number]
