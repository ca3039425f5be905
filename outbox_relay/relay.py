import logging
import random
import time

from sqlalchemy import Engine

from common import fault_points
from common.broker import BROKER_ERRORS
from common.errors import ContendedError, DatabaseUnavailableError, OutcomeUnknownError
from outbox_relay import outbox
from outbox_relay.holding import Holding
from outbox_relay.lanes import Lanes
from outbox_relay.leases import Leases
from outbox_relay.metrics import RelayMetrics
from outbox_relay.publisher import Outcome
from outbox_relay.rate import Rate
from outbox_relay.session import BrokerSession, SessionMaker
from outbox_relay.settlement import Settlement
from outbox_relay.stopping import Stop

SCAN_SECONDS = 1.0
CONFIRM_SECONDS = 10.0
# A database that is silent for longer is treated as gone; a relay that stops may have to wait for it twice.
STATEMENT_SECONDS = 4
_SENDING_PER_SEARCH = 4
_DATABASE_TROUBLE = (DatabaseUnavailableError, ContendedError, OutcomeUnknownError)
_LOG = logging.getLogger(__name__)


class Relay:
    """Moves events from the outbox to the broker, each book's in order (docs/architecture.md).

    An event leaves the backlog only after the broker has confirmed and routed it. Whatever breaks, the events
    in flight are sent again under the same id; none is lost and none overtakes another of its book.
    """

    def __init__(
        self, engine: Engine, leases: Leases, connect: SessionMaker, metrics: RelayMetrics, window: int
    ) -> None:
        self._engine = engine
        self._leases = leases
        self._connect = connect
        self._metrics = metrics
        self._window = window
        self._lanes = Lanes()
        self._settlement = Settlement(engine, self._lanes)
        self._holding = Holding(engine)
        self._rate = Rate()
        self._shards: frozenset[int] = frozenset()
        self._unfinished: frozenset[int] = frozenset()
        self._next_tend = self._next_scan = self._next_search = self._next_heartbeat = 0.0
        self.connected = False

    def run(self, stop: Stop) -> None:
        """Relay until `stop`, then give the shards back. Outages are waited out, for as long as they last."""
        while not stop.asked:
            try:
                with self._connect() as session:
                    self._serve(session, stop)
            except BROKER_ERRORS as error:
                _LOG.warning("relay lost broker", extra={"error": repr(error)})
            except Exception:  # the outermost loop: whatever it was, what is committed must go out
                _LOG.exception("relay failed, begins again")
            stop.wait(random.uniform(0.2, 1.0))  # noqa: S311  spreads reconnects, guards nothing
        if not self._settlement.settle():
            return
        try:
            self._leases.leave()
        except _DATABASE_TROUBLE as error:
            _LOG.warning("shards not given back, they run out", extra={"error": str(error)})

    def _serve(self, session: BrokerSession, stop: Stop) -> None:
        self.connected = True
        self._metrics.connects.inc()
        _LOG.info("relay connected to broker")
        try:
            self._forward(session, stop)
        finally:
            self.connected = False
            self._forget_in_flight(session)
            if not stop.asked:
                self._settlement.settle()

    def _forward(self, session: BrokerSession, stop: Stop) -> None:
        """One round after another, until asked to stop and what is in flight is answered.

        A database that fails is asked no more in the same round, and one settle is left for the end: a frozen
        one makes a relay that stops wait for the statement it is in, and for one more.
        """
        give_up_at = None
        while True:
            now = time.monotonic()
            if stop.asked:
                give_up_at = give_up_at or now + CONFIRM_SECONDS / 2
                if not session.publisher.in_flight or now > give_up_at:
                    return
            else:
                answers = self._tend(session, now) and (stop.asked or self._claim(session, now))
                if not stop.asked:
                    self._publish(session)
                if answers and not stop.asked:
                    self._settlement.settle_if_due(idle=not session.publisher.in_flight)
            session.wait(self._patience(session))
            self._take_answers(session)
            self._check(session)

    def _patience(self, session: BrokerSession) -> float:
        """How long nothing may come from the broker before the next round, in seconds."""
        if session.publisher.in_flight:
            return 0.2
        # A scan that is due and has no room is no reason to go round at once.
        now = time.monotonic()
        until_scan = self._next_scan - now if self._has_room() else SCAN_SECONDS
        # A ring puts the scan off, and must not put off what keeps the shards.
        return self._holding.patience(max(0.0, min(until_scan, self._next_tend - now)))

    def _has_room(self) -> bool:
        """Whether more work may be read."""
        return self._lanes.load <= self._window // 2 and not self._holding.enough

    def _tend(self, session: BrokerSession, now: float) -> bool:
        """Keep the shards, once a second; False when the database failed."""
        if now < self._next_tend:
            return True
        self._next_tend = now + SCAN_SECONDS
        try:
            shards = self._leases.tend(self._rate.per_second(now), self._holding.trouble)
            # What another relay has left there waits already, and nobody rings for it.
            self._unfinished |= shards - self._shards
            self._shards = shards
            self._holding.refresh()
        except _DATABASE_TROUBLE as error:
            _LOG.warning("relay cannot renew leases", extra={"error": str(error)})
            return False
        self._lanes.drop_other_shards(self._shards, session.publisher.books_in_flight())
        self._metrics.shards.set(len(self._shards))
        return True

    def _claim(self, session: BrokerSession, now: float) -> bool:
        """Read more work when there may be some: after a ring, every second, and where the last read ended.

        A shard that had more than was read is read on alone, so that one book with a thousand events is
        fetched in a few reads and not in fifty. A book that is deep is left out until it no longer is: the
        books behind it must not wait for it. False when the database failed.
        """
        if self._holding.take_rested():
            self._next_scan = now
        if not self._has_room():
            return True
        self._unfinished |= self._lanes.take_low()
        if session.take_ring() or now >= self._next_scan:
            self._unfinished, self._next_scan = self._shards, now + SCAN_SECONDS
        shards = self._unfinished & self._shards
        if now < self._next_search:
            shards -= {*self._lanes.deep.values()}
        if not shards:
            return True
        fault_points.reach("relay.before-claim")
        if not self._settlement.settle() or (work := self._read(shards)) is None:
            self._unfinished = frozenset()
            return False
        added = self._lanes.add(work.events, self._holding.doubts)
        # What is known already is no reason to look again at once.
        self._unfinished = self._unfinished - shards | (work.unfinished if added else frozenset())
        self._metrics.in_hand.set(len(self._lanes))
        if added:
            fault_points.reach("relay.after-claim")
        return True

    def _read(self, shards: frozenset[int]) -> outbox.Work | None:
        """What waits in these shards, or None when the database does not say."""
        deep, begun = self._lanes.deep, time.monotonic()
        leave_out = self._holding.resting | deep.keys()
        try:
            in_hand = self._lanes.count_by_shard()
            work = outbox.read_waiting(self._engine, shards, self._window, in_hand, leave_out=leave_out)
        except _DATABASE_TROUBLE as error:
            _LOG.warning("relay cannot read outbox", extra={"error": str(error)})
            return None
        if not shards.isdisjoint(deep.values()):
            # It went past all rows of the deep book, perhaps a million: most of the time is for sending.
            now = time.monotonic()
            self._next_search = now + _SENDING_PER_SEARCH * (now - begun)
        return work

    def _publish(self, session: BrokerSession) -> None:
        self._metrics.blocked.set(session.blocked)
        while self._may_publish(session) and (event := self._lanes.next_head()):
            session.publisher.publish(event)
            fault_points.reach("relay.after-publish")
        for _ in range(self._holding.probes(self._lanes.tried)):
            if session.blocked or (event := self._lanes.next_head(doubtful=True)) is None:
                return
            session.publisher.publish(event)

    def _may_publish(self, session: BrokerSession) -> bool:
        # Each publish takes in what the broker says meanwhile: that it blocks us is heeded at once.
        return not session.blocked and session.publisher.in_flight < self._window

    def _take_answers(self, session: BrokerSession) -> None:
        for answer in session.publisher.answers():
            self._metrics.answers.labels(answer.outcome.value).inc()
            if answer.outcome is Outcome.CONFIRMED:
                fault_points.reach("relay.after-confirm")
                self._rate.count()
                self._settlement.add(answer.event)
                self._lanes.confirm(answer.event)
                if self._holding.confirmed(answer):
                    self._lanes.trust()
                    self._next_scan = 0.0
            else:
                self._lanes.drop_book(answer.event.book_id)
                self._holding.refused(answer)

    def _check(self, session: BrokerSession) -> None:
        now = time.monotonic()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + 1
            session.heartbeat()
        oldest = session.publisher.oldest_published_at()
        if oldest is None or session.blocked:
            return
        # A broker that has blocked us answers only after it has let us go on.
        if now - max(oldest, session.unblocked_at) > CONFIRM_SECONDS:
            raise TimeoutError(f"no confirm within {CONFIRM_SECONDS} s")

    def _forget_in_flight(self, session: BrokerSession) -> None:
        """The fate of what was in flight is unknown: it is read and sent again, under the same ids."""
        self._take_answers(session)
        self._metrics.unknown.inc(session.publisher.in_flight)
        self._lanes.drop_all()
