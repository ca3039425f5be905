"""The queue for pages of the past: who has left is ahead of nobody in it, whenever they leave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from common.database import Database
from common.settings import DatabaseSettings
from grpc_reader.record_pages import _NEAR, _READERS, Page, RecordPages
from tests.waiting import eventually

Test = Callable[["Asked"], Awaitable[None]]


class Asked(RecordPages):
    """Pages that are asked for by book, and for which of them the database was asked, in order."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.books: list[int] = []

    def ask(self, book_id: int) -> asyncio.Task[Page]:
        """All of a book's events, far enough back for a query of its own."""
        return asyncio.create_task(self.around(0, book_id, newest=_NEAR + 1))

    def note(self, *words: Any) -> None:  # noqa: ANN401  SQLAlchemy's own
        statement, values = words[2], words[3]
        if "FROM delivered_event" in statement:
            self.books.append(values[2])

    @asynccontextmanager
    async def turns_taken(self) -> AsyncIterator[None]:
        """While the block lasts, nobody else has a turn, unless one is given back."""
        for _ in range(_READERS):
            await self._turns.acquire()
        yield
        for _ in range(_READERS):
            self._turns.release()


def run(settings: DatabaseSettings, test: Test) -> None:
    async def go() -> None:
        database = Database(settings)
        pages = Asked(database)
        engine = database._reads.sync_engine  # noqa: SLF001  its connections
        event.listen(engine, "before_cursor_execute", pages.note)
        try:
            await test(pages)
            assert not pages._reads  # noqa: SLF001
            assert pages._turns._value == _READERS  # noqa: SLF001
        finally:
            await database.close()

    asyncio.run(go())


async def waits(pages: Asked, count: int) -> None:
    """Until so many reads are in the queue for a turn."""
    await asyncio.to_thread(eventually, lambda: len(pages._turns._waiters or ()) == count)  # noqa: SLF001


async def leave(*asking: asyncio.Task[Page]) -> None:
    for each in asking:
        each.cancel()
    await asyncio.wait(asking)
    assert all(each.cancelled() for each in asking)


def test_a_thousand_who_have_left_are_not_ahead_of_one_who_stays(
    fresh_settings: DatabaseSettings, reader_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those who have begun wait for the table all the while.
    monkeypatch.setattr("common.database._IMPATIENT", "SET time_zone = '+00:00'")

    async def test(pages: Asked) -> None:
        first = [*range(1, _READERS + 1)]
        with reader_engine.connect() as locking:
            locking.exec_driver_sql("LOCK TABLES delivered_event WRITE")
            begun = [pages.ask(book_id) for book_id in first]
            leaving = [pages.ask(book_id) for book_id in range(101, 1101)]
            await waits(pages, len(leaving))
            await leave(*leaving)
            staying = pages.ask(2000)
            await waits(pages, 1)
            assert len(pages._reads) == _READERS + 1  # noqa: SLF001
            locking.exec_driver_sql("UNLOCK TABLES")
        await asyncio.gather(*begun, staying)
        assert sorted(pages.books) == [*first, 2000]

    run(fresh_settings, test)


def test_a_read_is_done_while_anybody_still_wants_it(fresh_settings: DatabaseSettings) -> None:
    async def test(pages: Asked) -> None:
        async with pages.turns_taken():
            asking = [pages.ask(1) for _ in range(3)]
            await waits(pages, 1)
            await leave(asking[0], asking[2])
        assert (await asking[1]).end == _NEAR + 1
        assert pages.books == [1]

    run(fresh_settings, test)


def test_who_comes_while_a_read_is_given_up_has_one_of_their_own(fresh_settings: DatabaseSettings) -> None:
    """And the end of the first one takes nothing away from those who come after both."""

    async def test(pages: Asked) -> None:
        async with pages.turns_taken():
            leaving = pages.ask(1)
            await waits(pages, 1)
            [given_up] = pages._reads.values()  # noqa: SLF001
            leaving.cancel()
            # The loop takes it up next, between the two ends.
            coming = [pages.ask(1)]
            await asyncio.wait([leaving])
            await asyncio.wait([given_up.task])
            assert given_up.task.cancelled()
            coming.append(pages.ask(1))
            await waits(pages, 1)
        assert [page.end for page in await asyncio.gather(*coming)] == [_NEAR + 1] * 2
        assert pages.books == [1]

    run(fresh_settings, test)


def test_who_leaves_in_the_moment_of_their_turn_gives_it_to_the_next(
    fresh_settings: DatabaseSettings,
) -> None:
    async def test(pages: Asked) -> None:
        async with pages.turns_taken():
            leaving, staying = pages.ask(1), pages.ask(2)
            await waits(pages, 2)
            leaving.cancel()
            # It has the turn, and does not know it yet when it is given up.
            pages._turns.release()  # noqa: SLF001
            await staying
            assert pages.books == [2]
            await pages._turns.acquire()  # noqa: SLF001

    run(fresh_settings, test)


def test_what_the_database_is_at_goes_on_for_whoever_asks_next(
    fresh_settings: DatabaseSettings, reader_engine: Engine
) -> None:
    async def test(pages: Asked) -> None:
        with reader_engine.connect() as locking:
            locking.exec_driver_sql("LOCK TABLES delivered_event WRITE")
            leaving = pages.ask(1)
            await asyncio.to_thread(eventually, lambda: pages.books)
            await leave(leaving)
            next_one = pages.ask(1)
            await asyncio.sleep(0)
            locking.exec_driver_sql("UNLOCK TABLES")
        assert (await next_one).end == _NEAR + 1
        assert pages.books == [1]

    run(fresh_settings, test)
