"""Pages of the record for those who watch from the past: read once, for all who want the same one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select

from common.database import Database
from grpc_reader.errors import StreamEndedError
from grpc_reader.messages import EVENT_COLUMNS, StreamEvent, stream_event
from grpc_reader.tables import DeliveredEventRow

PAGE = 200
STOPPING = "The server is stopping; watch again from the last position seen."
_NO_END = 2**63 - 1
_KEPT_PAGES = 32
# The pool has sixteen connections. Those who watch leave the others to the calls, and wait for each other.
_READERS = 4
# Whoever wants one book and is no further behind than this looks through the pages of all books.
_NEAR = 10 * PAGE
_COLUMNS = DeliveredEventRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
# Built once: it is asked twice a second, and building it costs more than asking.
_PAGE_AFTER = (
    select(*EVENT_COLUMNS)
    .where(_COLUMNS.position > bindparam("after"), _COLUMNS.position <= bindparam("until"))
    .order_by(_COLUMNS.position)
    .limit(PAGE)
)
_PAGE_OF_BOOK_AFTER = _PAGE_AFTER.where(_COLUMNS.book_id == bindparam("book"))


@dataclass(frozen=True)
class Page:
    """Some events by position, and the position up to which they are all that there is."""

    events: Sequence[StreamEvent]
    end: int


async def read_page(database: Database, after: int, *, until: int = _NO_END, book_id: int = 0) -> Page:
    """At most 200 events after `after` up to `until`, of one book or, if `book_id` is 0, of all.

    Raises what `Database.read` does.
    """
    statement, values = _PAGE_AFTER, {"after": after, "until": until}
    if book_id:
        statement, values = _PAGE_OF_BOOK_AFTER, {**values, "book": book_id}
    async with database.read() as connection:
        rows: Sequence[DeliveredEventRow] = (await connection.execute(statement, values)).all()  # type: ignore[assignment]
    events = [stream_event(row) for row in rows]
    return Page(events, events[-1].position if len(events) == PAGE else until)


class _Read:
    """A page that is wanted: it waits for its turn, then is read."""

    def __init__(self, turns: asyncio.Semaphore, work: Callable[[], Awaitable[Page]]) -> None:
        self.waiting = 0
        self.has_begun = False
        self.task = asyncio.create_task(self._in_turn(turns, work))

    async def page(self) -> Page:
        """What is read. Whoever leaves takes nothing away from the others."""
        self.waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.waiting -= 1

    async def _in_turn(self, turns: asyncio.Semaphore, work: Callable[[], Awaitable[Page]]) -> Page:
        async with turns:
            self.has_begun = True
            return await work()


class RecordPages:
    """Keeps the pages that were read last; whoever asks for one that is being read waits for that.

    A read that all have left before its turn is not done, so that nobody waits for it. Pages of all books
    begin at multiples of 200, so that watchers meet in them wherever they have begun. A book's own begin
    where its watchers stand.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pages: dict[tuple[int, int], Page] = {}
        self._reads: dict[tuple[int, int], _Read] = {}
        self._turns = asyncio.Semaphore(_READERS)
        self._closed = False

    async def around(self, position: int, book_id: int, *, newest: int) -> Page:
        """A page that ends after `position`, which must be below `newest`, and has all after it up to there.

        It may have earlier events as well, and those of other books. Raises what `Database.read` does, and
        StreamEndedError after `close`.
        """
        key = (book_id, position)
        if not book_id or newest - position <= _NEAR:
            key = (0, position - position % PAGE)
        page = self._pages.get(key)
        # One that was read, or is being read, while the record was shorter may end before the position.
        while page is None or page.end <= position:
            read = self._reads.get(key) or self._begin(key, newest)
            try:
                page = await read.page()
            finally:
                self._leave(key, read)
        return page

    def close(self) -> None:
        """Begin no more reads."""
        self._closed = True

    async def finish(self) -> None:
        """Wait for the reads that have begun."""
        await asyncio.gather(*(read.task for read in self._reads.values()), return_exceptions=True)

    def _begin(self, key: tuple[int, int], newest: int) -> _Read:
        read = self._reads[key] = _Read(self._turns, lambda: self._page(*key, newest))
        read.task.add_done_callback(lambda _: self._keep(key, read))
        return read

    def _leave(self, key: tuple[int, int], read: _Read) -> None:
        # One that has begun takes no longer than a query may, and the next may want its page.
        if not read.waiting and not read.has_begun:
            # First, for it ends in a moment only, and whoever comes until then needs one of their own.
            self._forget(key, read)
            read.task.cancel()

    async def _page(self, book_id: int, after: int, newest: int) -> Page:
        if self._closed:
            raise StreamEndedError(STOPPING)
        until = newest if book_id else min(after + PAGE, newest)
        return await read_page(self._database, after, until=until, book_id=book_id)

    def _keep(self, key: tuple[int, int], read: _Read) -> None:
        self._forget(key, read)
        # An error is seen here too, for those who have asked may all have left.
        if not read.task.cancelled() and read.task.exception() is None:
            self._pages.pop(key, None)
            self._pages[key] = read.task.result()
            if len(self._pages) > _KEPT_PAGES:
                del self._pages[next(iter(self._pages))]

    def _forget(self, key: tuple[int, int], read: _Read) -> None:
        # A newer one may stand there.
        if self._reads.get(key) is read:
            del self._reads[key]
