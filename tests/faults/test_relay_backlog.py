"""A relay that comes back to a great backlog: it works it off in order, and needs no more memory for it.

`python -m pytest tests/faults/test_relay_backlog.py -m long -s` prints the figures of docs/reliability.md.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date

import psutil
import pytest
from amqp import Message
from kombu import Connection, Queue
from sqlalchemy import Engine, text

from common.books import Book
from common.broker import EVENTS
from common.events import BookEvent
from common.settings import BrokerSettings
from tests.fixtures.relay import NOW, TRACE, backlog
from tests.fixtures.relays import RunningRelay
from tests.waiting import eventually

BOOKS = 5000
# Of the whole, after which the memory is looked at.
WARM_AT = 0.05
_ID = "00000000-0000-4000-8000-"
_ROWS_AT_ONCE = 10_000
_FILL = text("""
    INSERT INTO outbox (shard, event_id, book_id, book_version, type, body, created_at)
    WITH
        digits AS (
            SELECT 0 n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
            UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9
        ),
        numbers AS (
            SELECT :first + a.n + 10 * b.n + 100 * c.n + 1000 * d.n n
            FROM digits a, digits b, digits c, digits d
        ),
        events AS (
            SELECT LPAD(n, 12, '0') serial, n % :books + 1 book, n DIV :books + 1 version
            FROM numbers WHERE n < :end
        )
    SELECT CRC32(book) % 64, CONCAT(:id, serial), book, version, 'bookstore.book.updated.v1',
        REPLACE(REPLACE(REPLACE(:body, '777777777777', serial), '777777', book), '888888', version), :now
    FROM events ORDER BY serial
    """)


def fill(engine: Engine, events: int) -> None:
    """Event number n, from 0, is of book `n % BOOKS + 1`, and its id ends with n."""
    book = {"id": 777777, "title": "t" * 30, "author": "a" * 20, "publication_date": date(2000, 1, 1)}
    book |= {"version": 888888, "created_at": NOW, "updated_at": NOW}
    event = BookEvent.of("bookstore.book.updated.v1", Book.model_validate(book), NOW, TRACE)
    body = event.model_copy(update={"id": f"{_ID}{'7' * 12}"}).model_dump_json(warnings=False)
    fixed = {"body": body, "now": NOW.replace(tzinfo=None), "id": _ID, "books": BOOKS}
    with engine.connect() as connection:
        for first in range(0, events, _ROWS_AT_ONCE):
            end = min(events, first + _ROWS_AT_ONCE)
            connection.execute(_FILL, {**fixed, "first": first, "end": end})


class Follower:
    """Takes from a queue as fast as it can; knows of each book which version must appear next."""

    def __init__(self) -> None:
        self.versions = [0] * BOOKS
        self.appeared = self.repeated = 0
        self.disorder: list[str] = []

    def take(self, message: Message) -> None:
        """One more message, which says in its id what it is."""
        number = int(message.properties["message_id"][len(_ID) :])
        book, version = number % BOOKS, number // BOOKS + 1
        if version == self.versions[book] + 1:
            self.versions[book] = version
            self.appeared += 1
        elif version <= self.versions[book]:
            self.repeated += 1
        else:
            self.disorder.append(f"book {book + 1}: version {version} after {self.versions[book]}")


@contextmanager
def following(broker: BrokerSettings) -> Iterator[Follower]:
    """A queue that wants the events, and somebody who follows it while the block lasts."""
    follower, stopping = Follower(), threading.Event()
    # Without heartbeats, for somebody who only listens sends none.
    with Connection(broker.broker_url.get_secret_value(), heartbeat=0) as connection:
        channel = connection.default_channel
        EVENTS(channel).declare()
        Queue("tap", EVENTS, routing_key="book.#", queue_arguments={"x-queue-type": "quorum"})(
            channel
        ).declare()
        channel.basic_consume("tap", no_ack=True, callback=follower.take)

        def follow() -> None:
            while not stopping.is_set():
                try:
                    connection.drain_events(timeout=0.2)
                except TimeoutError:
                    continue

        thread = threading.Thread(target=follow, name="follower")
        thread.start()
        try:
            yield follower
        finally:
            stopping.set()
            thread.join()


def drained(engine: Engine, relay: RunningRelay, follower: Follower, events: int, within: float) -> list[int]:
    """Until all has appeared and nothing is left; the relay's memory meanwhile, in bytes, once it is warm."""
    process, found = psutil.Process(relay.process.pid), list[int]()

    def look() -> bool:
        if follower.appeared >= WARM_AT * events:
            found.append(process.memory_info().rss)
        return follower.appeared >= events

    eventually(look, within=within, because="all events appear")
    eventually(lambda: backlog(engine) == 0, because="all are settled")
    found.append(process.memory_info().rss)
    return found


@pytest.mark.parametrize(
    ("events", "share"),
    [
        (20_000, 0.04),  # as much as would show if the relay kept what it has sent
        pytest.param(500_000, 0.1, marks=[pytest.mark.long, pytest.mark.timeout(1200)]),
    ],
)
def test_great_backlog_goes_out_in_order_and_the_memory_of_the_relay_stays_flat(
    events: int,
    share: float,
    relay_engine: Engine,
    fresh_broker: BrokerSettings,
    start_relay: Callable[[], RunningRelay],
) -> None:
    fill(relay_engine, events)
    assert backlog(relay_engine) == events
    with following(fresh_broker) as follower:
        begun = time.monotonic()
        relay = start_relay()
        eventually(relay.connected)
        idle = psutil.Process(relay.process.pid).memory_info().rss
        memory = drained(relay_engine, relay, follower, events, within=1000)
        seconds = time.monotonic() - begun
    sys.stdout.write(
        f"\n{events} events in {seconds:.0f} s ({events / seconds:.0f} a second); memory"
        f" {memory[0] / 1e6:.1f} MB, then {min(memory) / 1e6:.1f} to {max(memory) / 1e6:.1f} MB\n"
    )
    assert follower.disorder == []
    assert (follower.appeared, len(memory) > 10) == (events, True)
    assert all(abs(bytes_ - memory[0]) <= share * memory[0] for bytes_ in memory)
    assert max(memory) < 2 * idle, "it holds a window of the backlog, and not the backlog"
