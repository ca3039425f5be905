import contextlib
import math
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from common.database import transaction
from common.errors import BookstoreError

_COUNTS = text(
    "SELECT (SELECT COUNT(*) FROM outbox) + (SELECT COUNT(*) FROM parked_event),"
    " (SELECT COALESCE(MAX(position), 0) FROM delivered_event),"
    " (SELECT event_time FROM delivered_event ORDER BY position DESC LIMIT 1)"
)


@dataclass(frozen=True)
class Sample:
    """At `second`: how many events wait, how many have been recorded, and how old the last of these is."""

    second: float
    backlog: int
    recorded: int
    age_seconds: float


@dataclass(frozen=True)
class Mark:
    """A fault, from `begin` to `end`, and how long all took to be ready, sent and recorded again; in seconds.

    The recovery is infinite when the wait for it was given up.
    """

    name: str
    begin: float
    end: float
    recovery: float

    @property
    def recovered(self) -> bool:
        """Whether all was well again in time."""
        return math.isfinite(self.recovery)


@dataclass
class Timeline:
    """What happened when, in seconds since the beginning; a thread takes a sample each second."""

    engine: Engine
    samples: list[Sample] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def start(self) -> None:
        """Begin to take samples."""
        threading.Thread(target=self._run, name="timeline", daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(1):
            # While the database is away there is nothing to see.
            with contextlib.suppress(BookstoreError, SQLAlchemyError), transaction(self.engine) as connection:
                backlog, recorded, last = connection.execute(_COUNTS).one()
                age = (datetime.now(UTC).replace(tzinfo=None) - last).total_seconds() if last else 0.0
                self.samples.append(Sample(self.now(), int(backlog), int(recorded), age))
