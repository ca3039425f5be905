"""A book that is changed faster than its events can be sent, one for each answer of the broker."""

from bisect import bisect
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Engine, text

from common.events import shard_of
from tests.fixtures.relay import Relaying, Tap, backlog, ring, versions_by_first_appearance, write
from tests.waiting import eventually

HOT = 1
NEIGHBOUR = next(book for book in range(2, 10_000) if shard_of(book) == shard_of(HOT))
OTHERS = [NEIGHBOUR, *range(20_000, 20_020)]
ROUNDS = 30
SENT = text("SELECT COUNT(*) FROM sent_event WHERE book_id = :book AND book_version >= :version")
HOT_SENT = text("SELECT sent_at FROM sent_event WHERE book_id = :hot ORDER BY sent_at")
WAITS = text("SELECT created_at, sent_at FROM sent_event WHERE book_id <> :hot")


def waits(engine: Engine) -> list[int]:
    """How many events of the hot book were sent while each of the others waited, the fewest first.

    A machine that has much else to do slows both.
    """
    with engine.connect() as connection:
        hot = connection.execute(HOT_SENT, {"hot": HOT}).scalars().all()
        others = connection.execute(WAITS, {"hot": HOT}).all()
    return sorted(bisect(hot, sent_at) - bisect(hot, created_at) for created_at, sent_at in others)


def sent(engine: Engine, book_id: int, version: int = 1) -> int:
    with engine.connect() as connection:
        return int(connection.execute(SENT, {"book": book_id, "version": version}).scalar_one())


def test_book_with_ten_thousand_waiting_events_makes_no_other_wait_for_them(
    relay_engine: Engine, relaying: Relaying, tap: Callable[[], Tap]
) -> None:
    tapped = tap()
    write(relay_engine, [(HOT, version) for version in range(1, 10_001)])
    with relaying():
        eventually(lambda: sent(relay_engine, HOT) > 10)
        for version in range(1, ROUNDS + 1):
            write(relay_engine, [(book, version) for book in OTHERS], at=datetime.now(UTC))
            ring(tapped)
            eventually(partial(sent, relay_engine, NEIGHBOUR, version))
        assert sent(relay_engine, HOT) < 10_000, "all the while the hot book had events waiting"
        eventually(lambda: len(waits(relay_engine)) == ROUNDS * len(OTHERS))
        assert waits(relay_engine)[ROUNDS * len(OTHERS) * 9 // 10] < 60


def test_book_that_is_read_in_parts_is_sent_whole_and_in_order(
    relay_engine: Engine, relaying: Relaying, tap: Callable[[], Tap]
) -> None:
    tapped = tap()
    write(relay_engine, [(HOT, version) for version in range(1, 1001)])
    write(relay_engine, [(NEIGHBOUR, version) for version in range(1, 301)])
    with relaying():
        eventually(lambda: sent(relay_engine, HOT, 100))
        write(relay_engine, [(book, version) for version in range(1001, 1101) for book in (HOT, 20_000)])
        eventually(lambda: backlog(relay_engine) == 0, within=60, because="no row is left behind")
    assert versions_by_first_appearance(tapped) == {
        HOT: [*range(1, 1101)],
        NEIGHBOUR: [*range(1, 301)],
        20_000: [*range(1001, 1101)],
    }
