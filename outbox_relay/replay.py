"""Past events sent again, under their old ids, so that consumers recognise them."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine, TextClause, text

from common.database import transaction
from common.events import SHARDS, EventType

_AT_ONCE = 1000
_SHARD = f"CRC32(s.book_id) % {SHARDS}"
# Within a book, times do not fall and versions rise, so this order is each book's own.
_ORDER = "s.created_at, s.book_id, s.book_version"
_BEGINNING = {"after_time": "1000-01-01", "after_book": 0, "after_version": 0}


@dataclass(frozen=True)
class Selection:
    """Which sent events: those that meet all conditions given.

    `since` and `until` are aware times of the change; `until` itself is excluded.
    """

    book_ids: tuple[int, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    event_type: EventType | None = None


def replay(engine: Engine, selection: Selection, *, dry_run: bool = False) -> int:
    """Put sent events back into the outbox, each book's in order, with their old ids; returns how many.

    Consumers recognise them by the id. An event that waits already, in the outbox or parked, is left alone.
    A replay that is interrupted has put back the oldest ones.
    """
    conditions, values = _conditions(selection)
    if dry_run:
        with transaction(engine) as connection:
            statement = text(f"SELECT COUNT(*) FROM sent_event s WHERE {conditions}")
            return int(connection.execute(statement, values).scalar_one())
    total = 0
    after: dict[str, object] = dict(_BEGINNING)
    while True:
        with transaction(engine) as connection:
            found = connection.execute(_page(conditions), {**values, **after}).all()
            if not found:
                return total
            last = found[-1]
            upto = {"upto_time": last[0], "upto_book": last[1], "upto_version": last[2]}
            total += connection.execute(_put_back(conditions), {**values, **after, **upto}).rowcount
        after = {"after_time": last[0], "after_book": last[1], "after_version": last[2]}


def _conditions(selection: Selection) -> tuple[str, dict[str, object]]:
    conditions, values = ["TRUE"], dict[str, object]()
    if selection.book_ids:
        conditions.append(f"s.book_id IN ({', '.join(str(int(book_id)) for book_id in selection.book_ids)})")
    if selection.since is not None:
        conditions.append("s.created_at >= :since")
        values["since"] = selection.since.astimezone(UTC).replace(tzinfo=None)
    if selection.until is not None:
        conditions.append("s.created_at < :until")
        values["until"] = selection.until.astimezone(UTC).replace(tzinfo=None)
    if selection.event_type is not None:
        conditions.append("s.type = :type")
        values["type"] = selection.event_type
    return " AND ".join(conditions), values


def _page(conditions: str) -> TextClause:
    return text(
        f"SELECT {_ORDER} FROM sent_event s WHERE {conditions} AND s.created_at >= :after_time"
        f" AND ({_ORDER}) > (:after_time, :after_book, :after_version) ORDER BY {_ORDER} LIMIT {_AT_ONCE}"
    )


def _put_back(conditions: str) -> TextClause:
    return text(
        "INSERT IGNORE INTO outbox (shard, event_id, book_id, book_version, type, body, created_at)"
        f" SELECT {_SHARD}, s.event_id, s.book_id, s.book_version, s.type, s.body, s.created_at"
        f" FROM sent_event s WHERE {conditions} AND s.created_at BETWEEN :after_time AND :upto_time"
        f" AND ({_ORDER}) > (:after_time, :after_book, :after_version)"
        f" AND ({_ORDER}) <= (:upto_time, :upto_book, :upto_version)"
        " AND NOT EXISTS (SELECT 1 FROM parked_event p WHERE p.book_id = s.book_id"
        f" AND p.book_version = s.book_version) ORDER BY {_ORDER}"
    )
