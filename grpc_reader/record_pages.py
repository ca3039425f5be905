"""Pages of the record for those who watch from the past: read once, for all who want the same one."""

import asyncio
from collections.abc import Sequence
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


class RecordPages:
    """Keeps the pages that were read last; whoever asks for one that is being read waits for that.

    Pages of all books begin at multiples of 200, so that watchers meet in them wherever they have begun. A
    book's own begin where its watchers stand.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pages: dict[tuple[int, int], Page] = {}
        self._reads: dict[tuple[int, int], asyncio.Task[Page]] = {}
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
            read = self._reads.get(key)
            if read is None:
                read = self._reads[key] = asyncio.create_task(self._read(*key, newest))
                read.add_done_callback(lambda done: self._keep(key, done))
            # Whoever leaves takes nothing away from the others.
            page = await asyncio.shield(read)
        return page

    def close(self) -> None:
        """Begin no more reads."""
        self._closed = True

    async def finish(self) -> None:
        """Wait for the reads that have begun."""
        await asyncio.gather(*self._reads.values(), return_exceptions=True)

    async def _read(self, book_id: int, after: int, newest: int) -> Page:
        async with self._turns:
            if self._closed:
                raise StreamEndedError(STOPPING)
            until = newest if book_id else min(after + PAGE, newest)
            return await read_page(self._database, after, until=until, book_id=book_id)

    def _keep(self, key: tuple[int, int], read: asyncio.Task[Page]) -> None:
        del self._reads[key]
        # An error is seen here too, for those who have asked may all have left.
        if not read.cancelled() and read.exception() is None:
            self._pages.pop(key, None)
            self._pages[key] = read.result()
            if len(self._pages) > _KEPT_PAGES:
                del self._pages[next(iter(self._pages))]
