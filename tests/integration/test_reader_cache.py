"""Promise 9: a cached answer is never older than the newest event recorded for its book (docs/adr/0006)."""

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from redis import Redis
from sqlalchemy import Engine

from common.books import Book
from common.cache import CLOCK_MARGIN_SECONDS, TICKET_KEY, TICKET_SECONDS, BookCache, Vacancy, entry_key
from common.errors import DatabaseUnavailableError
from common.settings import CacheSettings
from devstack.servers import free_port
from grpc_reader import ticket as ticket_module
from grpc_reader.generations import Generations, SupersededError
from grpc_reader.ticket import Ticket

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("patient_cache")]


def book(version: int) -> Book:
    now = datetime.now(UTC)
    return Book(
        id=1,
        title="Dune",
        author="Frank Herbert",
        publication_date="1965-08-01",
        version=version,
        created_at=now,
        updated_at=now,
    )


@pytest.fixture
def redis(cache_settings: CacheSettings) -> Iterator[Redis]:
    with Redis.from_url(cache_settings.cache_url.get_secret_value(), decode_responses=True) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def generations(reader_engine: Engine) -> Generations:
    made = Generations(reader_engine)
    made.prepare()
    return made


@pytest.fixture
def tickets(
    redis: Redis, cache_settings: CacheSettings, generations: Generations
) -> Iterator[Callable[[], Ticket]]:
    made: list[Ticket] = []

    def make(settings: CacheSettings = cache_settings) -> Ticket:
        made.append(Ticket(settings, generations))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def ticket(tickets: Callable[[], Ticket]) -> Ticket:
    made = tickets()
    made.take_over()
    assert made.held
    return made


@pytest.fixture
async def cache(redis: Redis, cache_settings: CacheSettings) -> AsyncIterator[BookCache]:
    made = BookCache(cache_settings)
    yield made
    await made.close()


async def filled(cache: BookCache, version: int) -> None:
    vacancy = await cache.look_up(1)
    assert isinstance(vacancy, Vacancy)
    assert await cache.fill(vacancy, book(version))


async def version_served(cache: BookCache) -> int | None:
    found = await cache.look_up(1)
    return found.version if isinstance(found, Book) else None


async def test_without_a_ticket_nobody_is_served_and_nobody_fills(cache: BookCache) -> None:
    assert await cache.look_up(1) is None


async def test_with_a_ticket_a_filled_book_is_served_until_it_is_evicted(
    cache: BookCache, ticket: Ticket
) -> None:
    await filled(cache, 1)
    assert await version_served(cache) == 1
    assert ticket.evict([1, 2]) == 0
    assert isinstance(await cache.look_up(1), Vacancy)


async def test_a_late_fill_cannot_bring_an_old_book_back(cache: BookCache, ticket: Ticket) -> None:
    vacancy = await cache.look_up(1)
    assert isinstance(vacancy, Vacancy)
    old = book(1)  # read from the database before the change
    assert ticket.evict([1]) == 0  # the change is about to be recorded
    assert not await cache.fill(vacancy, old)
    await filled(cache, 2)
    assert not await cache.fill(vacancy, old)
    assert await version_served(cache) == 2


async def test_a_flush_closes_the_cache_and_a_new_generation_opens_it(
    cache: BookCache, ticket: Ticket, redis: Redis
) -> None:
    await filled(cache, 1)
    before = redis.get(TICKET_KEY)
    redis.flushdb()
    assert await cache.look_up(1) is None
    assert ticket.evict([1]) == 0, "the script has seen that no ticket stands"
    assert not ticket.held
    assert ticket.evict([1]) > 0, "an older consumer's ticket may arrive yet"
    ticket.tend()
    assert ticket.held
    assert redis.get(TICKET_KEY) != before
    assert isinstance(await cache.look_up(1), Vacancy)


async def test_a_server_that_was_restarted_from_an_old_dump_serves_nobody(
    cache: BookCache, ticket: Ticket, redis: Redis
) -> None:
    await filled(cache, 1)
    run, generation = str(redis.get(TICKET_KEY)).split()
    redis.set(TICKET_KEY, f"{'0' * len(run)} {generation}")  # as the dump of another run would have it
    assert await cache.look_up(1) is None
    assert ticket.evict([1]) == 0
    assert not ticket.held
    assert redis.get(TICKET_KEY) is None
    ticket.tend()
    assert isinstance(await cache.look_up(1), Vacancy)


async def test_a_ticket_that_a_clock_stepped_back_has_prolonged_is_removed_by_whoever_finds_it(
    cache: BookCache, ticket: Ticket, redis: Redis
) -> None:
    await filled(cache, 1)
    redis.pexpire(TICKET_KEY, 60_000)  # its deadline stands while the clock goes back by 57 seconds
    assert await cache.look_up(1) is None
    assert redis.get(TICKET_KEY) is None
    assert ticket.evict([1]) == 0
    assert not ticket.held
    ticket.tend()
    assert ticket.held
    assert await version_served(cache) is None


async def test_a_renewal_does_not_keep_a_ticket_that_a_clock_stepped_back_has_prolonged(
    ticket: Ticket, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis.pexpire(TICKET_KEY, 60_000)
    monkeypatch.setattr(ticket, "_next", 0)
    ticket.tend()
    assert not ticket.held
    assert redis.get(TICKET_KEY) is None


async def test_a_consumer_that_takes_over_replaces_the_ticket_and_stops_the_old_one(
    cache: BookCache, ticket: Ticket, tickets: Callable[[], Ticket], monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(cache, 1)
    successor = tickets()
    successor.take_over()
    assert successor.evict([1]) == 0
    await filled(cache, 2)
    monkeypatch.setattr(ticket, "_next", 0)
    with pytest.raises(SupersededError):
        ticket.tend()
    assert not ticket.held
    ticket.release()
    assert await version_served(cache) == 2
    assert successor.held


async def test_a_ticket_put_late_by_a_superseded_consumer_is_removed_at_the_next_eviction(
    cache: BookCache, ticket: Ticket, redis: Redis
) -> None:
    run, _ = str(redis.get(TICKET_KEY)).split()
    redis.set(TICKET_KEY, f"{run} {'a' * 32}", px=3000)
    await filled(cache, 1)
    assert ticket.evict([1]) == 0
    assert await cache.look_up(1) is None


async def test_a_renewal_that_arrives_late_does_not_prolong_the_ticket(ticket: Ticket, redis: Redis) -> None:
    seconds, _ = redis.time()
    past = (seconds - 1) * 1000
    ticket._extend(keys=[TICKET_KEY], args=[ticket._generation, past])  # noqa: SLF001
    assert redis.get(TICKET_KEY) is None


async def test_a_ticket_lasts_three_seconds_and_is_renewed_for_three(
    ticket: Ticket, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 2000 < redis.pttl(TICKET_KEY) <= 3000
    redis.pexpire(TICKET_KEY, 1000)
    monkeypatch.setattr(ticket, "_next", 0)
    ticket.tend()
    assert 2000 < redis.pttl(TICKET_KEY) <= 3000


async def test_a_consumer_that_cannot_evict_waits_until_the_ticket_is_over(
    cache: BookCache, tickets: Callable[[], Ticket], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticket_module, "_TIMEOUT_SECONDS", 0.5)
    ticket = tickets()
    ticket.take_over()
    await filled(cache, 1)
    redis.client_pause(10_000, all=False)  # whatever may write waits, and so do scripts
    wait = ticket.evict([1])
    assert redis.pttl(TICKET_KEY) / 1000 < wait <= TICKET_SECONDS + 0.1
    assert not ticket.held
    assert 0 < ticket.evict([1]) <= wait, "a second call asks Redis nothing"
    redis.client_unpause()
    ticket.tend()
    assert ticket.evict([1]) == 0, "a new generation has replaced the ticket"
    assert isinstance(await cache.look_up(1), Vacancy)


async def test_a_consumer_without_a_cache_waits_once_and_then_records_on(
    tickets: Callable[[CacheSettings], Ticket], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(ticket_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    alone = tickets(CacheSettings(cache_url=SecretStr(f"redis://127.0.0.1:{free_port()}/0")))
    alone.take_over()
    now[0] += TICKET_SECONDS
    assert alone.evict([1]) > 0, "a predecessor's ticket may stand"
    now[0] += CLOCK_MARGIN_SECONDS
    assert alone.evict([1]) == 0
    alone.tend()
    assert alone.evict([1]) == 0


async def test_while_the_database_cannot_be_asked_the_ticket_runs_out(
    cache: BookCache, ticket: Ticket, redis: Redis, monkeypatch: pytest.MonkeyPatch, reader_engine: Engine
) -> None:
    """Else a consumer cut off from the database could go on answering for what its successor records."""
    before = redis.pttl(TICKET_KEY)

    def unavailable() -> str:
        raise DatabaseUnavailableError("down")

    monkeypatch.setattr(ticket._generations, "current", unavailable)  # noqa: SLF001
    monkeypatch.setattr(ticket, "_next", 0)
    ticket.tend()
    assert redis.pttl(TICKET_KEY) <= before


async def test_an_idle_consumer_takes_the_ticket_that_nobody_has(
    cache: BookCache, tickets: Callable[[], Ticket]
) -> None:
    idle = tickets()
    idle.tend()
    assert idle.held
    assert isinstance(await cache.look_up(1), Vacancy)


async def test_an_idle_consumer_leaves_the_ticket_to_the_one_who_renews_it(
    ticket: Ticket, tickets: Callable[[], Ticket], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = tickets()
    for _ in range(10):
        monkeypatch.setattr(idle, "_next", 0)
        idle.tend()
    assert not idle.held
    redis.delete(TICKET_KEY)
    for looks in range(ticket_module._LOOKS):  # noqa: SLF001
        assert not idle.held, f"after {looks} looks"
        monkeypatch.setattr(idle, "_next", 0)
        idle.tend()
    assert idle.held, "the one who had it is gone"


async def test_a_released_ticket_can_be_taken_at_once(
    cache: BookCache, ticket: Ticket, tickets: Callable[[], Ticket], generations: Generations
) -> None:
    ticket.release()
    assert await cache.look_up(1) is None
    assert generations.current() == "nobody"
    successor = tickets()
    successor.tend()
    assert successor.held


async def test_entries_are_kept_apart_by_generation(cache: BookCache, ticket: Ticket, redis: Redis) -> None:
    await filled(cache, 1)
    _, generation = str(redis.get(TICKET_KEY)).split()
    assert redis.exists(entry_key(generation, 1))
