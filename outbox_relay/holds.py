"""Books that are held back because their first waiting event could not be sent; the others go on."""

import random
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, TextClause, bindparam, text

from common.database import transaction
from outbox_relay.lanes import WaitingEvent

ATTEMPTS_BEFORE_PARKING = 20
_LONGEST_WAIT_SECONDS = 60

# Parked is what no time is set for; the count decides in the same statement, so two relays cannot disagree.
_HOLD = text(
    "INSERT INTO held_book (book_id, event_id, attempts, last_error, held_at, next_try_at)"
    " VALUES (:book, :event, 1, :error, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL :first MICROSECOND)"
    " ON DUPLICATE KEY UPDATE attempts = attempts + 1, event_id = :event, last_error = :error,"
    " next_try_at = IF(attempts >= :most, NULL,"
    " UTC_TIMESTAMP(6) + INTERVAL LEAST(:cap, :first * POW(2, attempts - 1)) MICROSECOND)"
)
_COLUMNS = "id, shard, event_id, book_id, book_version, type, body, created_at"
_MOVED_AT_ONCE = 1000


def _of_books(statement: str) -> TextClause:
    return text(statement).bindparams(bindparam("books", expanding=True))


_RELEASE = _of_books("DELETE FROM held_book WHERE book_id IN :books")
_LOCK = _of_books("SELECT book_id FROM held_book WHERE book_id IN :books ORDER BY book_id FOR UPDATE")
# Skipping what another relay is moving, or an operator is releasing, at this moment.
_LOCK_PARKED = text("SELECT book_id FROM held_book WHERE next_try_at IS NULL FOR UPDATE SKIP LOCKED")
_ROWS_OF_PARKED = _of_books(
    f"SELECT id FROM outbox WHERE book_id IN :books ORDER BY id LIMIT {_MOVED_AT_ONCE}"
)
# A replay that meets a move may leave an event in both tables; wherever it is moved next, it is one again.
_MOVE_ASIDE = text(
    f"INSERT INTO parked_event ({_COLUMNS}) SELECT {_COLUMNS} FROM outbox o WHERE id IN :ids AND NOT EXISTS"
    " (SELECT 1 FROM parked_event p WHERE p.book_id = o.book_id AND p.book_version = o.book_version)"
).bindparams(bindparam("ids", expanding=True))
_TAKE_OUT = text("DELETE FROM outbox WHERE id IN :ids").bindparams(bindparam("ids", expanding=True))
_BRING_BACK = _of_books(
    f"INSERT IGNORE INTO outbox ({_COLUMNS}) SELECT {_COLUMNS} FROM parked_event WHERE book_id IN :books"
    " ORDER BY id"
)
# Only what stands in the outbox now: what was ignored there for any other reason is not lost.
_FORGET_PARKED = _of_books(
    "DELETE p FROM parked_event p JOIN outbox o ON o.book_id = p.book_id AND o.book_version = p.book_version"
    " WHERE p.book_id IN :books"
)


@dataclass(frozen=True)
class HeldBook:
    """`next_try_at` is None when the book is parked: nothing is tried until an operator says so."""

    book_id: int
    event_id: str
    attempts: int
    last_error: str
    held_at: datetime
    next_try_at: datetime | None
    waiting: int


def hold(engine: Engine, event: WaitingEvent, error: str) -> None:
    """Hold the event's book back for a time that doubles with each attempt, jittered; park it in the end."""
    first = int(random.uniform(0.5, 1.5) * 1_000_000)  # noqa: S311  spreads retries, guards nothing
    with transaction(engine) as connection:
        connection.execute(
            _HOLD,
            {
                "book": event.book_id,
                "event": event.event_id,
                "error": error[:500],
                "first": first,
                "cap": _LONGEST_WAIT_SECONDS * 1_000_000,
                "most": ATTEMPTS_BEFORE_PARKING,
            },
        )


def held_ids(engine: Engine) -> set[int]:
    """The books that are held back or were, and have not been sent since."""
    with transaction(engine) as connection:
        return set(connection.exec_driver_sql("SELECT book_id FROM held_book").scalars())


def release(engine: Engine, book_ids: Collection[int]) -> int:
    """Hold these books back no longer; their events go out in order. Returns how many were held.

    What was moved aside is back in the outbox, under its old row ids, which are older than any that came
    meanwhile, in the transaction that ends the hold.
    """
    if not book_ids:
        return 0
    books = {"books": sorted(book_ids)}
    with transaction(_transactional(engine)) as connection:
        held = connection.execute(_LOCK, books).scalars().all()
        connection.execute(_BRING_BACK, books)
        connection.execute(_FORGET_PARKED, books)
        connection.execute(_RELEASE, books)
    return len(held)


def move_aside(engine: Engine) -> int:
    """Move waiting events of parked books out of the outbox, so that they fill no window; returns how many.

    The lock on the hold keeps an operator's `release` and this apart: an event is in one of the tables.
    """
    with transaction(_transactional(engine)) as connection:
        parked = connection.execute(_LOCK_PARKED).scalars().all()
        if not parked:
            return 0
        ids = connection.execute(_ROWS_OF_PARKED, {"books": parked}).scalars().all()
        if ids:
            connection.execute(_MOVE_ASIDE, {"ids": ids})
            connection.execute(_TAKE_OUT, {"ids": ids})
    return len(ids)


def _transactional(engine: Engine) -> Engine:
    # The relay's engine is in autocommit, where each statement is a transaction of its own.
    return engine.execution_options(isolation_level="READ COMMITTED")


def list_held(engine: Engine) -> list[HeldBook]:
    """All held books, the parked ones first."""
    with transaction(engine) as connection:
        rows = connection.exec_driver_sql(
            "SELECT h.book_id, h.event_id, h.attempts, h.last_error, h.held_at, h.next_try_at,"
            " (SELECT COUNT(*) FROM outbox o WHERE o.book_id = h.book_id)"
            " + (SELECT COUNT(*) FROM parked_event p WHERE p.book_id = h.book_id) AS waiting"
            " FROM held_book h ORDER BY h.next_try_at IS NOT NULL, h.book_id"
        ).all()
    return [HeldBook(*row) for row in rows]
