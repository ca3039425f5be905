"""Gaps in the record, reported while they last: which book waits for which version, and since when."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from common.database import Database
from common.errors import BookstoreError
from grpc_reader.consumer import Consumer
from grpc_reader.metrics import ReaderMetrics
from grpc_reader.tables import DeliveredEventRow, WaitingEventRow

REMINDER_SECONDS = 60.0
_POLL_SECONDS = 1.0
# So many are told apart in the log; the numbers count all.
_BOOKS = 1000
_WAITING = WaitingEventRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
_DELIVERED = DeliveredEventRow.__table__.c  # type: ignore[attr-defined]
_LOG = logging.getLogger(__name__)


# The book, and its first version that is missing.
GapKey = tuple[int, int]
_TOTAL = select(func.count(), func.min(_WAITING.received_at))
_LAST = select(func.max(_DELIVERED.book_version)).where(_DELIVERED.book_id == _WAITING.book_id)
# One statement, so that an event which is recorded meanwhile is seen either waiting or recorded.
_GAPS = (
    select(_WAITING.book_id, _LAST.scalar_subquery(), func.count(), func.min(_WAITING.received_at))
    .group_by(_WAITING.book_id)
    .order_by(func.min(_WAITING.received_at))
    .limit(_BOOKS)
)


@dataclass(frozen=True)
class Gap:
    """So many events have been waiting for the missing one, the first of them since `begun_at`."""

    waiting: int
    begun_at: datetime


class Gaps:
    """Looks at the table of waiting events once a second, for as long as it is not closed.

    Every reader shows the numbers; the one that records also logs each gap: at its beginning, once a minute
    while it lasts, and at its end.
    """

    def __init__(self, database: Database, consumer: Consumer, metrics: ReaderMetrics) -> None:
        self._database = database
        self._consumer = consumer
        self._metrics = metrics
        self._events = 0
        self._oldest_at: datetime | None = None
        self._known: dict[GapKey, Gap] = {}
        self._remind_at = 0.0
        self._closing = asyncio.Event()

    async def facts(self) -> Mapping[str, Any]:
        """For `/readyz`: the number of waiting events, and the age of the oldest."""
        return {"waiting": {"events": self._events, "oldest_seconds": _age_seconds(self._oldest_at)}}

    def close(self) -> None:
        """End `run`."""
        self._closing.set()

    async def run(self) -> None:
        """Look until `close`; while the table cannot be read, the last numbers stand."""
        readable = True
        while not self._closing.is_set():
            try:
                await self._look()
                readable = True
            except (BookstoreError, SQLAlchemyError) as error:
                if readable:
                    _LOG.warning("gaps not seen", extra={"error": str(error)})
                readable = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._closing.wait()

    async def _look(self) -> None:
        found: dict[GapKey, Gap] = {}
        async with self._database.read() as connection:
            self._events, self._oldest_at = (await connection.execute(_TOTAL)).one()
            if self._events:
                rows = (await connection.execute(_GAPS)).all()
                found = {(row[0], (row[1] or 0) + 1): Gap(row[2], row[3]) for row in rows}
        self._metrics.waiting_events.set(self._events)
        self._metrics.waiting_oldest_seconds.set(_age_seconds(self._oldest_at) or 0)
        if self._consumer.recording:
            self._report(found)
        else:
            self._known = {}

    def _report(self, found: dict[GapKey, Gap]) -> None:
        for key in found.keys() - self._known.keys():
            _LOG.warning("gap begins", extra=_facts(key, found[key]))
        for key in self._known.keys() - found.keys():
            _LOG.info("gap closed", extra=_facts(key, self._known[key]))
        if not self._known:
            self._remind_at = time.monotonic() + REMINDER_SECONDS
        elif time.monotonic() >= self._remind_at:
            self._remind_at = time.monotonic() + REMINDER_SECONDS
            for key in found.keys() & self._known.keys():
                _LOG.warning("gap lasts", extra=_facts(key, found[key]))
        self._known = found


def _age_seconds(moment: datetime | None) -> float | None:
    return None if moment is None else max(0.0, (datetime.now(UTC) - moment).total_seconds())


def _facts(key: GapKey, gap: Gap) -> dict[str, object]:
    return {
        "book_id": key[0],
        "missing_version": key[1],
        "waiting": gap.waiting,
        "seconds": f"{_age_seconds(gap.begun_at):.0f}",
    }
