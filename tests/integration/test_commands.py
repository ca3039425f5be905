import asyncio
import json
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Engine, text

from api.books import commands, queries
from api.books.queries import Filters
from common.books import Book, NewBook
from common.database import Database
from common.errors import BookNotFoundError, ContendedError, DatabaseUnavailableError, StaleVersionError
from common.settings import DatabaseSettings

pytestmark = pytest.mark.anyio
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
DUNE = NewBook.model_validate({"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"})


@pytest.fixture
async def database(fresh_settings: DatabaseSettings) -> AsyncIterator[Database]:
    database = Database(fresh_settings, pool_size=8)
    yield database
    await database.close()


def outbox(engine: Engine) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT book_id, book_version, type, body, shard FROM outbox ORDER BY id")
        )
        return [{**row, "body": json.loads(row["body"])} for row in rows.mappings()]


def count(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        found: int = connection.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one()  # noqa: S608
    return found


async def test_added_book_and_its_event_are_committed_together(
    database: Database, relay_engine: Engine
) -> None:
    book = await commands.add_book(database, DUNE, TRACE)
    [event] = outbox(relay_engine)
    assert (event["book_id"], event["book_version"], event["type"]) == (
        book.id,
        1,
        "bookstore.book.created.v1",
    )
    assert event["body"]["data"] == json.loads(book.model_dump_json())
    assert event["body"]["traceparent"] == TRACE


async def test_book_whose_event_cannot_be_written_is_not_stored(
    database: Database, relay_engine: Engine
) -> None:
    with pytest.raises(Exception, match="Unable to serialize"):
        await commands.add_book(database, DUNE, object())  # type: ignore[arg-type]  # makes the event fail
    assert (count(relay_engine, "book"), count(relay_engine, "outbox")) == (0, 0)


async def test_whole_batch_is_stored_with_ids_in_its_order(database: Database, relay_engine: Engine) -> None:
    batch = [DUNE.model_copy(update={"title": f"Dune {number}"}) for number in range(600)]
    added, others = await asyncio.gather(
        commands.add_books(database, batch, TRACE), commands.add_books(database, batch, TRACE)
    )
    for books in (added, others):
        for number, book in enumerate(books):
            stored = await queries.read_book(database, book.id)
            assert stored.title == f"Dune {number}"
    assert count(relay_engine, "outbox") == 1200


async def test_change_counts_the_version_up_and_announces_the_new_state(
    database: Database, relay_engine: Engine
) -> None:
    book = await commands.add_book(database, DUNE, TRACE)
    changed = await commands.change_book(database, book.id, {"title": "Dune Messiah"}, None, TRACE)
    assert (changed.version, changed.title, changed.author) == (2, "Dune Messiah", "Frank Herbert")
    assert changed.updated_at >= changed.created_at == book.created_at
    assert outbox(relay_engine)[1]["body"]["data"] == json.loads(changed.model_dump_json())


async def test_change_that_changes_nothing_keeps_version_and_announces_nothing(
    database: Database, relay_engine: Engine
) -> None:
    book = await commands.add_book(database, DUNE, TRACE)
    assert await commands.change_book(database, book.id, dict(DUNE), None, TRACE) == book
    assert await commands.change_book(database, book.id, {}, None, TRACE) == book
    assert count(relay_engine, "outbox") == 1


async def test_difference_of_case_alone_is_a_change(database: Database) -> None:
    book = await commands.add_book(database, DUNE, TRACE)
    changed = await commands.change_book(database, book.id, {"title": "DUNE"}, None, TRACE)
    assert (changed.version, changed.title) == (2, "DUNE")


async def test_deletion_announces_the_last_state_one_version_up(
    database: Database, relay_engine: Engine
) -> None:
    book = await commands.add_book(database, DUNE, TRACE)
    await commands.delete_book(database, book.id, [1], TRACE)
    assert count(relay_engine, "book") == 0
    event = outbox(relay_engine)[1]
    assert (event["book_version"], event["type"]) == (2, "bookstore.book.deleted.v1")
    assert (event["body"]["data"]["title"], event["body"]["data"]["version"]) == ("Dune", 2)
    with pytest.raises(BookNotFoundError):
        await commands.delete_book(database, book.id, None, TRACE)


async def test_stale_version_changes_nothing(database: Database, relay_engine: Engine) -> None:
    book = await commands.add_book(database, DUNE, TRACE)
    with pytest.raises(StaleVersionError, match="version 1"):
        await commands.change_book(database, book.id, {"title": "x"}, [2, 3], TRACE)
    with pytest.raises(StaleVersionError):
        await commands.delete_book(database, book.id, [], TRACE)
    assert count(relay_engine, "outbox") == 1


async def test_racing_writers_of_one_version_get_exactly_one_success(
    database: Database, relay_engine: Engine
) -> None:
    book = await commands.add_book(database, DUNE, TRACE)
    answers = await asyncio.gather(
        *(commands.change_book(database, book.id, {"title": f"{n}"}, [1], TRACE) for n in range(8)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Book) for answer in answers) == 1
    assert sum(isinstance(answer, StaleVersionError) for answer in answers) == 7
    assert count(relay_engine, "outbox") == 2


async def test_racing_changes_are_announced_in_the_order_of_their_versions(
    database: Database, relay_engine: Engine
) -> None:
    book = await commands.add_book(database, DUNE, TRACE)
    for turn in range(5):  # as many at once as there are connections
        titles = [{"title": f"{turn} {number}"} for number in range(8)]
        await asyncio.gather(*(commands.change_book(database, book.id, each, None, TRACE) for each in titles))
    assert [event["book_version"] for event in outbox(relay_engine)] == list(range(1, 42))


async def test_deadlocked_transaction_is_run_again_as_a_whole(database: Database) -> None:
    first, second = [await commands.add_book(database, DUNE, TRACE) for _ in range(2)]
    both_locked = asyncio.Barrier(2)
    tries = []

    @commands._again  # noqa: SLF001  the very layer that the commands use
    async def swap(one: int, other: int) -> None:
        tries.append(one)
        async with database.begin() as transaction:
            await transaction.execute(text(f"UPDATE book SET version = version + 1 WHERE id = {one}"))  # noqa: S608
            if len(tries) <= 2:
                await both_locked.wait()
            await transaction.execute(text(f"UPDATE book SET version = version + 1 WHERE id = {other}"))  # noqa: S608

    await asyncio.gather(swap(first.id, second.id), swap(second.id, first.id))
    assert len(tries) == 3
    for book in (first, second):
        assert (await queries.read_book(database, book.id)).version == 3


async def test_cancelled_command_leaves_no_connection_inside_a_transaction(
    database: Database, relay_engine: Engine
) -> None:
    book = await commands.add_book(database, DUNE, TRACE)
    locked = asyncio.Event()

    async def hold_the_row() -> None:
        async with database.begin() as transaction:
            await transaction.execute(text("UPDATE book SET version = version + 1"))
            locked.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold_the_row())
    await locked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    changed = await asyncio.wait_for(commands.change_book(database, book.id, {"title": "x"}, [1], TRACE), 3)
    assert changed.version == 2


async def test_pool_that_is_exhausted_is_an_unavailable_database(fresh_settings: DatabaseSettings) -> None:
    small = Database(fresh_settings, pool_size=1)
    try:
        async with small.read():
            with pytest.raises(DatabaseUnavailableError, match="busy"):
                async with small.read():
                    pass
    finally:
        await small.close()


async def test_foreign_lock_ends_in_contention_not_in_waiting_for_ever(database: Database) -> None:
    book = await commands.add_book(database, DUNE, TRACE)
    async with database.begin() as other:
        await other.execute(text(f"SELECT * FROM book WHERE id = {book.id} FOR UPDATE"))  # noqa: S608
        with pytest.raises(ContendedError):
            await _lock_all(database)


async def _lock_all(database: Database) -> None:
    async with database.begin() as transaction:
        await transaction.execute(text("SET innodb_lock_wait_timeout = 1"))
        await transaction.execute(text("UPDATE book SET version = 9"))


async def test_dates_at_both_ends_of_the_calendar_come_back_as_they_went(database: Database) -> None:
    for day in (date.min, date.max):
        book = await commands.add_book(database, DUNE.model_copy(update={"publication_date": day}), TRACE)
        assert (await queries.read_book(database, book.id)).publication_date == day


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), [0, 1, 2, 3]),
        (Filters(title="du"), [0, 1]),
        (Filters(title="100%"), [2]),
        (Filters(title="_"), [3]),
        (Filters(title="!"), []),
        (Filters(author="FRANK"), [0, 1]),
        (Filters(published_from=date(1965, 8, 1), published_to=date(1965, 8, 1)), [0]),
        (Filters(published_from=date(2000, 1, 1)), [2, 3]),
        (Filters(title="\\"), []),
    ],
)
async def test_filters_are_beginnings_and_wildcards_are_letters(
    database: Database, filters: Filters, expected: list[int]
) -> None:
    rows = [
        ("Dune", "Frank Herbert", date(1965, 8, 1)),
        ("Dune Messiah", "frank herbert", date(1969, 1, 1)),
        ("100% Wolf", "Jayne Lyons", date(2008, 1, 1)),
        ("_underscore_", "x", date(2010, 1, 1)),
    ]
    new = [NewBook(title=title, author=author, publication_date=day) for title, author, day in rows]
    added = await commands.add_books(database, new, TRACE)
    found = await queries.list_books(database, filters, "id", after=None, limit=10)
    assert [book.id for book in found] == [added[index].id for index in expected]
