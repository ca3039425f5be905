from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, delete, func, insert, select, tuple_
from sqlalchemy.dialects.mysql import insert as mysql_insert

from common import fault_points
from common.database import transaction
from common.errors import DatabaseUnavailableError
from grpc_reader import generations, waiting
from grpc_reader.arrival import Arrival
from grpc_reader.sequence import Key, Plan, plan
from grpc_reader.tables import DeliveredEventRow, WaitingEventRow

_DELIVERED = DeliveredEventRow.__table__  # type: ignore[attr-defined]  # SQLModel does not declare it
_WAITING = WaitingEventRow.__table__  # type: ignore[attr-defined]
_POSITION_MAX = 2**63 - 1


@dataclass(frozen=True)
class Recorded:
    """What one transaction did. Positions run from `first_position`, in the order of `plan.recorded`."""

    plan: Plan
    first_position: int
    recorded_at: datetime


class Recorder:
    """Writes events down once, each book's in the order of its versions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def record(self, batch: Sequence[Arrival], ours: Collection[str]) -> Recorded:
        """Record a batch in one transaction; when this returns it is durable.

        `ours` are the generations under which this consumer may record: SupersededError if another one has
        taken over. Raises what `common.database.transaction` raises; repeating the call is always safe.
        """
        book_ids = sorted({arrival.book_id for arrival in batch})
        with transaction(self._engine) as connection:
            last_position = generations.lock(connection, ours)
            fault_points.reach("reader.inside-record")
            last = _last_versions(connection, book_ids)
            first = waiting.first_versions(connection, book_ids)
            ready = waiting.ready(connection, batch, last, first)
            known = _ids_recorded(connection, batch, last) | waiting.ids_among(connection, batch, first)
            found = plan(batch, last, ready, known)
            recorded_at = datetime.now(UTC)
            if found.recorded:
                if last_position + len(found.recorded) > _POSITION_MAX:
                    # No event's fault: the table would refuse each of them as it does one that is broken.
                    raise DatabaseUnavailableError("The record has no more positions to give.")
                connection.execute(insert(_DELIVERED), _rows(found.recorded, last_position + 1, recorded_at))
                generations.advance(connection, last_position + len(found.recorded))
            _refuse_used_ids(connection, found)
            if found.waiting:
                rows = [_waiting_row(arrival, recorded_at) for arrival in found.waiting]
                connection.execute(mysql_insert(_WAITING).prefix_with("IGNORE"), rows)
            if found.settled:
                keys = [(arrival.book_id, arrival.version) for arrival in found.settled]
                columns = tuple_(_WAITING.c.book_id, _WAITING.c.book_version)
                connection.execute(delete(_WAITING).where(columns.in_(keys)))
            fault_points.reach("reader.before-commit")
        return Recorded(found, last_position + 1, recorded_at)


def _last_versions(connection: Connection, book_ids: list[int]) -> dict[int, int]:
    columns = _DELIVERED.c
    statement = (
        select(columns.book_id, func.max(columns.book_version))
        .where(columns.book_id.in_(book_ids))
        .group_by(columns.book_id)
    )
    rows = connection.execute(statement).all()
    return {row[0]: row[1] for row in rows}


def _ids_recorded(
    connection: Connection, batch: Sequence[Arrival], last: Mapping[int, int]
) -> dict[Key, str]:
    keys = {
        (arrival.book_id, arrival.version)
        for arrival in batch
        if arrival.version <= last.get(arrival.book_id, 0)
    }
    if not keys:
        return {}
    columns = (_DELIVERED.c.book_id, _DELIVERED.c.book_version)
    statement = select(*columns, _DELIVERED.c.event_id).where(tuple_(*columns).in_(keys))
    return {(row[0], row[1]): row[2] for row in connection.execute(statement)}


def _refuse_used_ids(connection: Connection, found: Plan) -> None:
    """Let none wait that never could be recorded: with its turn would come that of a good one before it."""
    if not found.waiting:
        return
    ids = [str(arrival.event.id) for arrival in found.waiting]
    statement = select(_DELIVERED.c.event_id).where(_DELIVERED.c.event_id.in_(ids))
    if used := set(connection.execute(statement).scalars()):
        found.rivals += [arrival for arrival in found.waiting if str(arrival.event.id) in used]
        found.waiting = [arrival for arrival in found.waiting if str(arrival.event.id) not in used]


def _rows(recorded: Sequence[Arrival], first_position: int, recorded_at: datetime) -> list[dict[str, object]]:
    return [
        {
            "position": position,
            "event_id": str(arrival.event.id),
            "type": arrival.event.type,
            "book_id": arrival.book_id,
            "book_version": arrival.version,
            "event_time": arrival.event.time,
            "record_time": recorded_at,
            "body": arrival.body,
        }
        for position, arrival in enumerate(recorded, first_position)
    ]


def _waiting_row(arrival: Arrival, received_at: datetime) -> dict[str, object]:
    return {
        "book_id": arrival.book_id,
        "book_version": arrival.version,
        "event_id": str(arrival.event.id),
        "body": arrival.body,
        "received_at": received_at,
    }
