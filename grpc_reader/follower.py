"""The newest recorded events in memory, for all watchers of the process: one query loop, not one for each."""

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator
from operator import attrgetter

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from common.database import Database
from common.errors import BookstoreError
from grpc_reader.errors import StreamEndedError
from grpc_reader.messages import StreamEvent
from grpc_reader.record_pages import PAGE, STOPPING, Page, RecordPages, read_page
from grpc_reader.tables import DeliveredEventRow

_POLL_SECONDS = 0.5
# What a watcher that does not read keeps from being forgotten, and one event more.
_SLICE_BYTES = 65_536
_LOG = logging.getLogger(__name__)
_POSITION = DeliveredEventRow.__table__.c.position  # type: ignore[attr-defined]  # SQLModel does not declare it


class Follower:
    """Gives every watcher each event after its position, in order and without gaps, then live.

    Positions become visible in order and without holes, for the recording transactions are serialised by
    the counter row: a query for what comes after a position misses nothing, and two that meet leave no gap.
    An event wakes those who wait for it and nobody else. A watcher that is further behind than what is
    remembered, `remembered` events at least, has pages of the record until it has caught up. A slow one holds
    a slice of 64 KiB and delays nobody.
    """

    def __init__(self, database: Database, *, remembered: int = 2000) -> None:
        self._database = database
        self._pages = RecordPages(database)
        self._remembered = remembered
        # All events after `_forgotten`, up to `_last`.
        self._recent: list[StreamEvent] = []
        self._forgotten = 0
        self._last = 0
        self._woken = asyncio.Event()
        # By the book that they wait for, 0 for any. Each is told the position before the one that came.
        self._waiters: dict[int, set[asyncio.Future[int]]] = {}
        self._closed = False

    def wake(self) -> None:
        """Look for new events now. From another thread, call it through `loop.call_soon_threadsafe`."""
        self._woken.set()

    def close(self) -> None:
        """End `run` and, with StreamEndedError, all watchers."""
        self._closed = True
        self._pages.close()
        self._woken.set()
        self._tell_all()

    async def run(self) -> None:
        """Follow the table until `close`; other processes may record too, so it also looks unasked.

        Whatever the database answers, a table that is locked or gone included, it looks again.
        """
        started, readable = False, True
        while not self._closed:
            try:
                if not started:
                    self._last = self._forgotten = await self._newest()
                    started = True
                    self._tell_all()
                while await self._take_page() == PAGE:
                    pass
                readable = True
            except (BookstoreError, SQLAlchemyError) as error:
                if readable:
                    _LOG.warning("record not followed", extra={"error": str(error)})
                readable = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._woken.wait()
            self._woken.clear()
        await self._pages.finish()

    async def after(self, position: int, book_id: int) -> AsyncIterator[StreamEvent]:
        """Every event after `position`, of one book or, if `book_id` is 0, of all, for ever.

        Raises StreamEndedError when the server stops, and what `Database.read` does while catching up.
        """
        while not self._closed:
            if position >= self._last:
                position = max(position, await self._news(book_id))
                continue
            events, position = await self._next(position, book_id)
            for event in events:
                yield event
        raise StreamEndedError(STOPPING)

    async def _next(self, position: int, book_id: int) -> tuple[list[StreamEvent], int]:
        """Some events after the position, and the position up to which they are complete."""
        if position >= self._forgotten:
            return _slice(Page(self._recent, self._last), position, book_id)
        page = await self._pages.around(position, book_id, newest=self._last)
        return _slice(page, position, book_id)

    async def _news(self, book_id: int) -> int:
        """Wait for the next event; the position before it."""
        waiter = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(book_id, set())
        waiters.add(waiter)
        try:
            return int(await waiter)
        finally:
            waiters.discard(waiter)
            if not waiters and self._waiters.get(book_id) is waiters:
                del self._waiters[book_id]

    async def _take_page(self) -> int:
        events = (await read_page(self._database, self._last)).events
        if events:
            self._recent.extend(events)
            self._last = events[-1].position
            self._forget()
            for event in events:
                self._tell(event.book_id, event.position - 1)
                self._tell(0, event.position - 1)
        return len(events)

    def _forget(self) -> None:
        surplus = len(self._recent) - self._remembered
        # Not one by one, for those behind move up each time.
        if surplus >= min(PAGE, self._remembered):
            self._forgotten = self._recent[surplus - 1].position
            del self._recent[:surplus]

    async def _newest(self) -> int:
        async with self._database.read() as connection:
            return (await connection.execute(select(func.max(_POSITION)))).scalar() or 0

    def _tell(self, book_id: int, position: int) -> None:
        for waiter in self._waiters.pop(book_id, ()):
            if not waiter.done():
                waiter.set_result(position)

    def _tell_all(self) -> None:
        for book_id in list(self._waiters):
            self._tell(book_id, 0)


def _slice(page: Page, position: int, book_id: int) -> tuple[list[StreamEvent], int]:
    """What is wanted of the page, up to some size, and the position up to which that is all."""
    found: list[StreamEvent] = []
    size = 0
    first = bisect_right(page.events, position, key=attrgetter("position"))
    for number in range(first, len(page.events)):
        event = page.events[number]
        if book_id in {0, event.book_id}:
            found.append(event)
            size += len(event.message)
            if size >= _SLICE_BYTES:
                return found, event.position
    return found, page.end
