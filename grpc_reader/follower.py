"""The newest recorded events in memory, for all watchers of the process: one query loop, not one for each."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import islice

from sqlalchemy import bindparam, func, select
from sqlalchemy.exc import SQLAlchemyError

from common.database import Database
from common.errors import BookstoreError
from grpc_reader.errors import StreamEndedError
from grpc_reader.messages import EVENT_COLUMNS, event_message
from grpc_reader.tables import DeliveredEventRow
from protos.bookstore.v1.events_pb2 import DeliveredEvent

_PAGE = 200
_POLL_SECONDS = 0.5
_LOG = logging.getLogger(__name__)
_COLUMNS = DeliveredEventRow.__table__.c  # type: ignore[attr-defined]
# Built once: it is asked twice a second, and building it costs more than asking.
_PAGE_AFTER = (
    select(*EVENT_COLUMNS)
    .where(_COLUMNS.position > bindparam("after"), _COLUMNS.position <= bindparam("until"))
    .order_by(_COLUMNS.position)
    .limit(_PAGE)
)
_PAGE_OF_BOOK_AFTER = _PAGE_AFTER.where(_COLUMNS.book_id == bindparam("book"))
_NO_END = 2**63 - 1


class Follower:
    """Gives every watcher each event after its position, in order and without gaps, then live.

    Positions become visible in order and without holes, for the recording transactions are serialised by
    the counter row: a query for what comes after a position misses nothing, and two that meet leave no gap.
    A watcher that is further behind than `remembered` events reads pages from the database until it has
    caught up. A slow one holds one page and delays nobody.
    """

    def __init__(self, database: Database, *, remembered: int = 2000) -> None:
        self._database = database
        self._recent: deque[DeliveredEvent] = deque(maxlen=remembered)
        self._last = 0
        self._woken = asyncio.Event()
        self._news = asyncio.Event()
        self._closed = False

    def wake(self) -> None:
        """Look for new events now. From another thread, call it through `loop.call_soon_threadsafe`."""
        self._woken.set()

    def close(self) -> None:
        """End `run` and, with StreamEndedError, all watchers."""
        self._closed = True
        self._woken.set()
        self._tell()

    async def run(self) -> None:
        """Follow the table until `close`; other processes may record too, so it also looks unasked.

        Whatever the database answers, a table that is locked or gone included, it looks again.
        """
        started, readable = False, True
        while not self._closed:
            try:
                if not started:
                    self._last = await self._newest()
                    started = True
                    self._tell()
                while await self._take_page() == _PAGE:
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

    async def after(self, position: int, book_id: int) -> AsyncIterator[DeliveredEvent]:
        """Every event after `position`, of one book or, if `book_id` is 0, of all, for ever.

        Raises StreamEndedError when the server stops, and what `Database.read` does while catching up.
        """
        while True:
            news = self._news
            if self._closed:
                raise StreamEndedError("The server is stopping; watch again from the last position seen.")
            if position >= self._last:
                await news.wait()
                continue
            events, position = await self._next(position, book_id)
            for event in events:
                yield event

    async def _next(self, position: int, book_id: int) -> tuple[list[DeliveredEvent], int]:
        """Some events after the position, and the position up to which they are complete."""
        first = self._recent[0].position if self._recent else self._last + 1
        if position + 1 >= first:
            page = list(islice(self._recent, position + 1 - first, position + 1 - first + _PAGE))
            wanted = [event for event in page if book_id in {0, event.book_id}]
            return wanted, page[-1].position
        end = self._last
        found = await self._select(position, end, book_id)
        return found, found[-1].position if len(found) == _PAGE else end

    async def _take_page(self) -> int:
        events = await self._select(self._last, _NO_END, 0)
        if events:
            self._recent.extend(events)
            self._last = events[-1].position
            self._tell()
        return len(events)

    async def _newest(self) -> int:
        async with self._database.read() as connection:
            return (await connection.execute(select(func.max(_COLUMNS.position)))).scalar() or 0

    async def _select(self, after: int, until: int, book_id: int) -> list[DeliveredEvent]:
        statement, values = _PAGE_AFTER, {"after": after, "until": until}
        if book_id:
            statement, values = _PAGE_OF_BOOK_AFTER, {**values, "book": book_id}
        async with self._database.read() as connection:
            rows: Sequence[DeliveredEventRow] = (await connection.execute(statement, values)).all()  # type: ignore[assignment]
        return [event_message(row) for row in rows]

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
