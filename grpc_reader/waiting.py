"""Reads the table of waiting events, of which one book may have very many: no more than a batch needs."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from sqlalchemy import Connection, func, select, tuple_

from grpc_reader.arrival import Arrival, understand
from grpc_reader.sequence import Key
from grpc_reader.tables import WaitingEventRow

_PAGE = 200
_COLUMNS = WaitingEventRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it


def first_versions(connection: Connection, book_ids: Collection[int]) -> dict[int, int]:
    """The first version that waits, of each of the books that has one."""
    statement = (
        select(_COLUMNS.book_id, func.min(_COLUMNS.book_version))
        .where(_COLUMNS.book_id.in_(book_ids))
        .group_by(_COLUMNS.book_id)
    )
    return {row[0]: row[1] for row in connection.execute(statement)}


def ready(
    connection: Connection, batch: Sequence[Arrival], last: Mapping[int, int], first: Mapping[int, int]
) -> Iterator[Arrival]:
    """The waiting events that need not wait after this batch.

    `last` has the last recorded versions, `first` the first ones that wait.
    """
    coming = {(arrival.book_id, arrival.version) for arrival in batch}
    for book_id, version in first.items():
        recorded = last.get(book_id, 0)
        if version <= _next_missing(coming, book_id, recorded + 1):
            yield from _run(connection, coming, book_id, recorded)


def ids_among(connection: Connection, batch: Sequence[Arrival], first: Mapping[int, int]) -> dict[Key, str]:
    """The ids of those that wait already under a book and version of the batch."""
    keys = {(arrival.book_id, arrival.version) for arrival in batch if arrival.book_id in first}
    if not keys:
        return {}
    columns = (_COLUMNS.book_id, _COLUMNS.book_version)
    statement = select(*columns, _COLUMNS.event_id).where(tuple_(*columns).in_(keys))
    return {(row[0], row[1]): row[2] for row in connection.execute(statement)}


def _run(connection: Connection, coming: Collection[Key], book_id: int, recorded: int) -> Iterator[Arrival]:
    after, missing = recorded, recorded + 1
    while page := _page(connection, book_id, after):
        for arrival in page:
            missing = _next_missing(coming, book_id, missing)
            if arrival.version > missing:
                return
            yield arrival
            missing = max(missing, arrival.version + 1)
            after = arrival.version


def _next_missing(coming: Collection[Key], book_id: int, version: int) -> int:
    while (book_id, version) in coming:
        version += 1
    return version


def _page(connection: Connection, book_id: int, after: int) -> list[Arrival]:
    statement = (
        select(_COLUMNS.body)
        .where(_COLUMNS.book_id == book_id, _COLUMNS.book_version > after)
        .order_by(_COLUMNS.book_version)
        .limit(_PAGE)
    )
    return [understand(body) for body in connection.execute(statement).scalars()]
