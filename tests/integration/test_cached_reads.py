"""The API's reads through the cache; tests/integration/test_reader_cache.py tells how it stays fresh."""

from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import SecretStr
from redis import Redis
from sqlalchemy import Engine, make_url, text

from api.books import commands, queries
from common.books import Book, NewBook
from common.cache import TICKET_KEY, BookCache, Vacancy
from common.database import Database
from common.settings import CacheSettings, DatabaseSettings
from tests.fixtures.wire import Wire, wire_to

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("patient_cache")]
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
DUNE = NewBook.model_validate({"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"})


@pytest.fixture
async def database(fresh_settings: DatabaseSettings) -> AsyncIterator[Database]:
    database = Database(fresh_settings, pool_size=2)
    yield database
    await database.close()


@pytest.fixture
async def book(database: Database) -> Book:
    return await commands.add_book(database, DUNE, TRACE)


@pytest.fixture
def redis(cache_settings: CacheSettings) -> Iterator[Redis]:
    with Redis.from_url(cache_settings.cache_url.get_secret_value(), decode_responses=True) as redis:
        yield redis


@pytest.fixture
def ticket(redis: Redis) -> Iterator[None]:
    """What the consumer holds while it records."""
    redis.set(TICKET_KEY, f"{redis.info('server')['run_id']} abc")
    yield
    redis.flushdb()


@pytest.fixture
def wire(cache_settings: CacheSettings) -> Iterator[Wire]:
    with wire_to(make_url(cache_settings.cache_url.get_secret_value()).port or 0) as wire:
        yield wire


@pytest.fixture
async def cache(wire: Wire) -> AsyncIterator[BookCache]:
    cache = BookCache(CacheSettings(cache_url=SecretStr(f"redis://127.0.0.1:{wire.port}/0")))
    yield cache
    await cache.close()


def rename(engine: Engine, title: str) -> None:
    """Behind everybody's back, so that a cached book is told from one that was read."""
    with engine.connect() as connection:
        connection.execute(text("UPDATE book SET title = :title"), {"title": title})


@pytest.mark.usefixtures("ticket")
async def test_a_book_is_read_once_and_then_served_from_the_cache_until_it_is_evicted(
    database: Database, relay_engine: Engine, cache: BookCache, book: Book
) -> None:
    assert await queries.get_book(database, cache, book.id) == book
    rename(relay_engine, "another")
    assert await queries.get_book(database, cache, book.id) == book
    await cache.evict(book.id)
    assert (await queries.get_book(database, cache, book.id)).title == "another"


@pytest.mark.usefixtures("ticket")
async def test_a_cache_that_is_lost_on_the_way_only_costs_speed(
    database: Database, cache: BookCache, wire: Wire, book: Book
) -> None:
    vacancy = await cache.look_up(book.id)
    assert isinstance(vacancy, Vacancy)
    wire.cut()
    assert await cache.fill(vacancy, book) is False
    await cache.evict(book.id)
    assert await queries.get_book(database, cache, book.id) == book


@pytest.mark.usefixtures("ticket")
async def test_who_could_not_evict_a_book_does_not_serve_it_from_the_cache_until_that_is_done(
    database: Database, relay_engine: Engine, cache: BookCache, wire: Wire, book: Book
) -> None:
    assert await queries.get_book(database, cache, book.id) == book
    rename(relay_engine, "another")
    wire.cut()
    await cache.evict(book.id)
    assert (await queries.get_book(database, cache, book.id)).title == "another"
    wire.mend()
    assert (await queries.get_book(database, cache, book.id)).title == "another"
    rename(relay_engine, "a third")
    assert (await queries.get_book(database, cache, book.id)).title == "another", "from the cache again"


@pytest.mark.usefixtures("ticket")
async def test_a_book_that_may_be_changing_is_not_trusted_sooner_because_the_cache_was_away(
    cache: BookCache, wire: Wire, book: Book
) -> None:
    cache.distrust(book.id)
    assert await cache.look_up(book.id) is None
    wire.cut()
    assert await cache.look_up(book.id) is None, "the eviction failed, and is owed from now on"
    wire.mend()
    for _ in range(2):
        assert await cache.look_up(book.id) is None


@pytest.mark.usefixtures("ticket")
async def test_what_is_no_text_in_the_cache_is_as_if_it_were_not_there(
    database: Database, redis: Redis, cache: BookCache, book: Book
) -> None:
    vacancy = await cache.look_up(book.id)
    assert isinstance(vacancy, Vacancy)
    redis.set(vacancy.key, b"\xff{}")
    assert await queries.get_book(database, cache, book.id) == book
    redis.delete(vacancy.key)
    assert isinstance(await cache.look_up(book.id), Vacancy), "the next answer is read as it comes"


async def test_without_a_ticket_nothing_is_served_from_the_cache(
    database: Database, cache: BookCache, book: Book
) -> None:
    assert await queries.get_book(database, cache, book.id) == book
    assert await cache.look_up(book.id) is None
