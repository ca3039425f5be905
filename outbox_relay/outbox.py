"""The outbox table as the relay works on it. Every statement is a transaction of its own."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine, bindparam, text

from common import fault_points
from common.database import transaction
from outbox_relay.lanes import WaitingEvent

# The index is named: with the statistics of a table that was empty just now, a server may read all of it for
# every shard.
_BRANCH = (
    "(SELECT o.id, o.shard, o.event_id, o.book_id, o.type, o.body FROM outbox o FORCE INDEX (ix_outbox_shard)"
    " LEFT JOIN held_book h ON h.book_id = o.book_id"
    " AND (h.next_try_at IS NULL OR h.next_try_at > UTC_TIMESTAMP(6))"
    " WHERE o.shard = {shard} AND h.book_id IS NULL{others} ORDER BY o.id LIMIT {limit})"
)
_LEAST_OF_A_SHARD = 20
_KEEP = text(
    "INSERT IGNORE INTO sent_event (created_at, event_id, book_id, book_version, type, body, sent_at)"
    " SELECT created_at, event_id, book_id, book_version, type, body, UTC_TIMESTAMP(6)"
    " FROM outbox WHERE id IN :ids"
).bindparams(bindparam("ids", expanding=True))
_SETTLE = text("DELETE FROM outbox WHERE id IN :ids").bindparams(bindparam("ids", expanding=True))
_OLDEST = (
    "SELECT MIN(created_at) FROM ((SELECT created_at FROM outbox ORDER BY id LIMIT 1)"
    " UNION ALL (SELECT created_at FROM parked_event ORDER BY id LIMIT 1)) oldest"
)


@dataclass(frozen=True)
class Backlog:
    """How many events wait, and for how many seconds the oldest has (null when none does)."""

    rows: int
    oldest_unsent_seconds: float | None


@dataclass(frozen=True)
class Work:
    """Waiting events, each book's in order, and the shards that may have more behind them."""

    events: list[WaitingEvent]
    unfinished: frozenset[int]


def read_waiting(
    engine: Engine,
    shards: Collection[int],
    limit: int,
    in_hand: Mapping[int, int] | None = None,
    *,
    leave_out: Collection[int] = (),
) -> Work:
    """The first waiting events of each shard, about `limit` in all besides those that are `in_hand`.

    `in_hand` says how many of a shard's events the caller has already; it gets them again, at the front.
    Events of the books in `leave_out` are not read.
    One plain read, one branch a shard: its plan does not depend on statistics, and rows of other shards or
    events already sent cost nothing. A book's rows are seen without gaps, because each was committed before
    the next one's transaction could take the book's lock; books that are held back are left out.
    """
    if not shards:
        return Work([], frozenset())
    each = max(_LEAST_OF_A_SHARD, limit // len(shards))
    limits = {int(shard): each + (in_hand or {}).get(shard, 0) for shard in sorted(shards)}
    others = f" AND o.book_id NOT IN ({', '.join(str(int(book)) for book in leave_out)})" if leave_out else ""
    query = " UNION ALL ".join(
        _BRANCH.format(shard=shard, others=others, limit=most) for shard, most in limits.items()
    )
    with transaction(engine) as connection:
        rows = connection.exec_driver_sql(query).all()
    # UNION ALL promises no order between or within branches.
    events = [WaitingEvent(*row) for row in sorted(rows)]
    found = Counter(event.shard for event in events)
    return Work(events, frozenset(shard for shard, most in limits.items() if found[shard] == most))


def settle(engine: Engine, row_ids: Collection[int]) -> None:
    """Move confirmed events from the outbox to the history of sent ones.

    Two statements, each of its own, the history first: a relay that stops between them holds no lock that
    the others would wait for, and the event, sent again, finds its own row in the history. So a repeat is
    harmless, and an event is always in one of the two.
    """
    if not row_ids:
        return
    ids = {"ids": sorted(row_ids)}
    with transaction(engine) as connection:
        connection.execute(_KEEP, ids)
    fault_points.reach("relay.inside-settle")
    with transaction(engine) as connection:
        connection.execute(_SETTLE, ids)


def read_backlog(engine: Engine) -> Backlog:
    """How much waits now; an event that is parked waits, too."""
    with transaction(engine) as connection:
        rows = connection.exec_driver_sql(
            "SELECT (SELECT COUNT(*) FROM outbox) + (SELECT COUNT(*) FROM parked_event)"
        ).scalar_one()
        oldest = connection.exec_driver_sql(_OLDEST).scalar()
    if oldest is None:
        return Backlog(rows, None)
    age = datetime.now(UTC) - oldest.replace(tzinfo=UTC)
    return Backlog(rows, round(max(0.0, age.total_seconds()), 3))
