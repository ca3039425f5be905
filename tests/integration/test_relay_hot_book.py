"""A book that is changed faster than its events can be sent, one for each answer of the broker."""

import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial

from amqp import Message
from sqlalchemy import Engine, text

from common.events import shard_of
from tests.fixtures.relay import Relaying, Tap, backlog, ring, versions_by_first_appearance, write
from tests.waiting import eventually

HOT = 1
SHARED = [book for book in range(2, 10_000) if shard_of(book) == shard_of(HOT)][:2]
APART = [book for book in range(20_000, 21_000) if shard_of(book) != shard_of(HOT)][:20]
NEIGHBOUR = SHARED[0]
ROUNDS = 30
SENT = text("SELECT COUNT(*) FROM sent_event WHERE book_id = :book AND book_version >= :version")


def sent(engine: Engine, book_id: int, version: int = 1) -> int:
    with engine.connect() as connection:
        return int(connection.execute(SENT, {"book": book_id, "version": version}).scalar_one())


def mark(tap: Tap, version: int) -> None:
    """Put a message into the tap that says: from here on the events of this version wait."""
    message = Message("", message_id=f"mark {version}")
    tap.connection.default_channel.basic_publish(message, "", routing_key=tap.queue)


def waits(tap: Tap) -> dict[int, list[int]]:
    """How many events of the hot book came between the mark and each event of the other books.

    Counted in the order in which the broker got them, so that neither clock nor commit is measured with them.
    """
    hot, marked, found = 0, dict[int, int](), defaultdict[int, list[int]](list)
    for event_id, body in tap.published():
        if event_id.startswith("mark "):
            marked[int(event_id.removeprefix("mark "))] = hot
            continue
        event = json.loads(body)
        if event["data"]["id"] == HOT:
            hot += 1
        else:
            found[event["data"]["id"]].append(hot - marked[event["bookversion"]])
    return found


def nine_in_ten(waits: dict[int, list[int]], books: list[int]) -> int:
    """The wait that nine in ten events of these books do not exceed."""
    found = sorted(wait for book in books for wait in waits[book])
    assert len(found) == ROUNDS * len(books)
    return found[len(found) * 9 // 10 - 1]


def test_book_with_ten_thousand_waiting_events_makes_no_other_wait_for_them(
    relay_engine: Engine, relaying: Relaying, tap: Callable[[], Tap]
) -> None:
    tapped = tap()
    write(relay_engine, [(HOT, version) for version in range(1, 10_001)])
    with relaying():
        eventually(lambda: sent(relay_engine, HOT) > 10)
        for version in range(1, ROUNDS + 1):
            write(relay_engine, [(book, version) for book in SHARED + APART])
            mark(tapped, version)
            ring(tapped)
            eventually(partial(sent, relay_engine, NEIGHBOUR, version))
        assert sent(relay_engine, HOT) < 10_000, "all the while the hot book had events waiting"
        eventually(lambda: all(sent(relay_engine, book, ROUNDS) for book in SHARED + APART))
    waited = waits(tapped)
    assert nine_in_ten(waited, APART) < 20
    assert nine_in_ten(waited, SHARED) < 500, "reading past the hot book's rows takes a little"


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
