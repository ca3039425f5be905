import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kombu import Connection
from sqlalchemy.exc import DataError, IntegrityError

from common import fault_points
from common.errors import ContendedError, DatabaseUnavailableError, OutcomeUnknownError
from grpc_reader.arrival import Arrival, NotUnderstoodError, understand
from grpc_reader.backoff import Backoff
from grpc_reader.burial import Burials
from grpc_reader.metrics import ReaderMetrics
from grpc_reader.recorder import Recorded, Recorder
from grpc_reader.ticket import Ticket
from grpc_reader.topology import QUEUE, declare, renew_bindings

_PREFETCH = 500
_BATCH = 200
_IDLE_SECONDS = 0.25
_EVICTION_PAUSE_SECONDS = 0.05
_BINDINGS_SECONDS = 5
_LAST_CONFIRM_SECONDS = 2
TRANSIENT = (DatabaseUnavailableError, ContendedError, OutcomeUnknownError)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """An event in hand: it stays unacknowledged until its record is durable."""

    message: Any
    arrival: Arrival

    @property
    def tag(self) -> int:
        """The channel's number for it, ascending."""
        return int(self.message.delivery_tag)


class Intake:
    """Takes deliveries from one broker connection until it ends, records them, then acknowledges.

    Whatever is in hand when the connection ends comes again, to this consumer or to another.
    """

    def __init__(  # noqa: PLR0913  one part each
        self,
        connection: Connection,
        recorder: Recorder,
        ticket: Ticket,
        metrics: ReaderMetrics,
        *,
        stopping: threading.Event,
        on_recorded: Callable[[], None],
        cautious: bool = False,
    ) -> None:
        self._connection = connection
        self._recorder = recorder
        self._ticket = ticket
        self._metrics = metrics
        self._stopping = stopping
        self._on_recorded = on_recorded
        self._pending: deque[Delivery] = deque()
        self._beat_at = self._bind_at = 0.0
        declare(connection)
        self._burials = Burials(connection, self._buried)
        self._bindings = connection.channel()
        self._channel = connection.channel()
        self._left = _PREFETCH if cautious else None
        prefetch = 1 if cautious else _PREFETCH
        self._channel.basic_qos(0, prefetch, False)  # noqa: FBT003  py-amqp's order of arguments
        self._channel.basic_consume(QUEUE.name, callback=self._take)

    def run(self) -> None:
        """Record until told to stop. Raises BROKER_ERRORS or SupersededError, which end this connection.

        A cautious one has one delivery in hand at a time, so that only that one's failures count. It ends
        after as many as are in hand otherwise, or when one comes for the first time: the one that made the
        last connection fail, and those that were in hand with it, come again before that.
        """
        while not self._stopping.is_set() and self._left != 0:
            # A single event does not wait for company: what is there already makes the batch.
            if self._drain(_IDLE_SECONDS):
                while len(self._pending) < _BATCH and self._drain(0):
                    pass
            self._work_off()
            self._tend()
        end = time.monotonic() + _LAST_CONFIRM_SECONDS
        while self._burials.in_flight and time.monotonic() < end:
            self._drain(_IDLE_SECONDS)

    def _take(self, message: Any) -> None:  # noqa: ANN401  py-amqp has no types
        if self._left:
            self._left = self._left - 1 if message.delivery_info["redelivered"] else 0
        try:
            self._pending.append(Delivery(message, understand(message.body)))
        except NotUnderstoodError as error:
            self._burials.add(message, str(error))

    def _buried(self, tag: int) -> None:
        self._channel.basic_ack(tag)
        self._metrics.events.labels("dead").inc()

    def _drain(self, timeout: float) -> bool:
        """Take in one thing that the broker has sent; False when there was none within `timeout` seconds."""
        try:
            self._connection.drain_events(timeout=timeout)
        except TimeoutError:
            return False
        return True

    def _work_off(self) -> None:
        backoff = Backoff()
        while self._pending and not self._stopping.is_set():
            try:
                self._record(list(islice(self._pending, _BATCH)))
            except TRANSIENT as error:
                # Kept in hand: given back, it would come again at once and wear out its delivery limit.
                pause = backoff.next_pause()
                _LOG.warning("record postponed", extra={"error": str(error), "seconds": f"{pause:.1f}"})
                self._wait(pause)

    def _record(self, batch: list[Delivery]) -> bool:
        """Record what is first in hand; False when the wish to stop came before that."""
        self._ticket.take_over()
        book_ids = sorted({delivery.arrival.book_id for delivery in batch})
        while (seconds := self._ticket.evict(book_ids)) > 0:
            self._wait(min(seconds, _EVICTION_PAUSE_SECONDS))
            if self._stopping.is_set():
                return False
        fault_points.reach("reader.before-record")
        try:
            done = self._recorder.record([delivery.arrival for delivery in batch], self._ticket.ours)
        except (IntegrityError, DataError) as error:
            return self._isolate(batch, error)
        fault_points.reach("reader.after-record")
        for _ in batch:
            self._pending.popleft()
        rivals = [delivery for delivery in batch if delivery.arrival in done.plan.rivals]
        for delivery in rivals:
            self._burials.add(delivery.message, "another event has this version of its book, or its id")
        self._acknowledge([delivery for delivery in batch if delivery not in rivals])
        fault_points.reach("reader.after-acknowledge")
        self._on_recorded()
        self._report(done)
        return True

    def _acknowledge(self, batch: list[Delivery]) -> None:
        if not self._burials:
            self._channel.basic_ack(batch[-1].tag, multiple=True)
            return
        # Up to the last one there may be a dead letter that is not stored yet.
        for delivery in batch:
            self._channel.basic_ack(delivery.tag)

    def _isolate(self, batch: list[Delivery], error: Exception) -> bool:
        """Find the event that the tables refuse, an id that was used before, and let the others through."""
        if len(batch) > 1:
            return all(self._record([delivery]) for delivery in batch)
        self._pending.popleft()
        self._burials.add(batch[0].message, f"the tables refuse it: {type(error).__name__}")
        return True

    def _report(self, done: Recorded) -> None:
        counts = {
            "recorded": done.plan.recorded,
            "repeated": done.plan.repeated,
            "waiting": done.plan.waiting,
        }
        for outcome, arrivals in counts.items():
            self._metrics.events.labels(outcome).inc(len(arrivals))
        for arrival in done.plan.repeated:
            _LOG.debug("event repeated", extra=_names(arrival))
        for arrival in done.plan.waiting:
            # INFO, for one gap may hold back thousands; the gap itself is reported in gaps.py.
            _LOG.info("event waits for an earlier one of its book", extra=_names(arrival))
        for position, arrival in enumerate(done.plan.recorded, done.first_position):
            latency = (done.recorded_at - arrival.event.time).total_seconds()
            self._metrics.record_latency.observe(latency)
            facts = {"latency_ms": f"{latency * 1000:.1f}", "position": position}
            _LOG.info("event delivered", extra=_names(arrival) | facts)

    def _wait(self, seconds: float) -> None:
        """Let time pass without losing the connection; at most the prefetched events come in meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._stopping.is_set():
            self._drain(min(left, _IDLE_SECONDS))
            self._tend()

    def _tend(self) -> None:
        # The heartbeat comes first: whatever the database's silence costs below, the broker has heard us.
        if time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + 1
            self._connection.heartbeat_check()
        if time.monotonic() >= self._bind_at:
            self._bind_at = time.monotonic() + _BINDINGS_SECONDS
            renew_bindings(self._bindings)
        self._burials.tend()
        if not self._stopping.is_set():  # its statements may wait for locks, which a shutdown has no time for
            self._ticket.tend()


def _names(arrival: Arrival) -> dict[str, object]:
    return {
        "type": arrival.event.type,
        "book_id": arrival.book_id,
        "version": arrival.version,
        "event_id": str(arrival.event.id),
    }
