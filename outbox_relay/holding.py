"""What becomes of events that did not get through: an outage of all is waited out, one book's is its own."""

import logging
import time
from collections.abc import Set as AbstractSet

from sqlalchemy import Engine

from common.errors import ContendedError, DatabaseUnavailableError, OutcomeUnknownError
from outbox_relay import holds
from outbox_relay.publisher import Answer

# A book whose event did not get through is left alone for this long; then it is tried beside the others.
_REST_SECONDS = 1.0
_PROBE_SECONDS = 0.2
_PROBES = 20
# With so many that did not get through, and none that did, it is useless to try more books.
_ENOUGH_RESTING = 200
_FORGET_SECONDS = 600.0
_TROUBLE = (DatabaseUnavailableError, ContendedError, OutcomeUnknownError)
_LOG = logging.getLogger(__name__)


class Holding:
    """Books that wait because of what the broker said of them.

    A returned or refused event is an attempt of its book only if an event that was published after the
    book's last failure got through: then it is not the broker, nor the lack of a queue, that keeps it. Until
    that is known the book rests, uses up no attempt, and is *doubtful*: it is tried again, a few at a time,
    beside the books that are not.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: set[int] = set()
        self._failed_at: dict[int, float] = {}
        self._resting: dict[int, float] = {}
        self._proof_at = 0.0
        self._next_probe = 0.0
        self.trouble = ""

    def refresh(self) -> None:
        """Learn which books are held back, and move the events of parked ones aside."""
        self._held = holds.held_ids(self._engine)
        if self._held:
            holds.move_aside(self._engine)
        long_ago = time.monotonic() - _FORGET_SECONDS
        self._failed_at = {book: at for book, at in self._failed_at.items() if at > long_ago}

    @property
    def resting(self) -> AbstractSet[int]:
        """Books that are to be left alone for the moment."""
        return self._resting.keys()

    @property
    def enough(self) -> bool:
        """Whether so many rest, and none gets through, that more books need not be read."""
        return len(self._resting) >= _ENOUGH_RESTING

    def doubts(self, book_id: int) -> bool:
        """Whether the book's last event did not get through."""
        return book_id in self._failed_at or book_id in self._held

    def confirmed(self, answer: Answer) -> bool:
        """An event got through: its book waits no more. Whether others had waited, and may be tried now."""
        book_id = answer.event.book_id
        self._failed_at.pop(book_id, None)
        if book_id in self._held:
            self._release(book_id)
        self._proof_at = max(self._proof_at, answer.published_at)
        # Whoever failed before this one was published may be tried at once: it is no outage, or over.
        news = bool(self.trouble or self._resting)
        self._resting.clear()
        self.trouble = ""
        return news

    def refused(self, answer: Answer) -> None:
        """An event came back, or a queue could not take it: its book waits."""
        book_id, now = answer.event.book_id, time.monotonic()
        if self._proof_at <= self._failed_at.get(book_id, now):
            self._failed_at.setdefault(book_id, now)
            self._rest(answer, now)
            return
        self._failed_at[book_id] = now
        facts = {"event_id": answer.event.event_id, "book_id": book_id, "reason": answer.reason}
        _LOG.warning("event held back", extra=facts)
        try:
            holds.hold(self._engine, answer.event, answer.reason)
            self._held.add(book_id)
        except _TROUBLE as error:
            _LOG.warning("hold not written down", extra={"book_id": book_id, "error": str(error)})
            self._rest(answer, now)

    def take_rested(self) -> bool:
        """Whether books have rested enough and may be read again; asked in vain more often than they may."""
        now = time.monotonic()
        if now < self._next_probe:
            return False
        rested = [book_id for book_id, until in self._resting.items() if until <= now]
        for book_id in rested:
            del self._resting[book_id]
        if rested:
            self._next_probe = now + _PROBE_SECONDS
        return bool(rested)

    def probes(self, tried: int) -> int:
        """How many doubtful books may be tried now, beside so many that have no answer yet."""
        return max(0, _PROBES - tried)

    def patience(self, longest: float) -> float:
        """Seconds until a book may be tried again, at most `longest`."""
        if not self._resting:
            return longest
        moment = max(min(self._resting.values()), self._next_probe)
        return max(0.0, min(longest, moment - time.monotonic()))

    def _rest(self, answer: Answer, now: float) -> None:
        if not self.trouble:
            facts = {"event_id": answer.event.event_id, "reason": answer.reason}
            _LOG.warning("event not taken, it waits", extra=facts)
        self.trouble = answer.reason
        self._resting[answer.event.book_id] = now + _REST_SECONDS

    def _release(self, book_id: int) -> None:
        try:
            holds.release(self._engine, [book_id])
            self._held.discard(book_id)
        except _TROUBLE as error:
            _LOG.warning("hold not taken back yet", extra={"book_id": book_id, "error": str(error)})
