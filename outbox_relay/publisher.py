import enum
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from kombu import Connection

from common.events import CONTENT_TYPE, EXCHANGE, routing_key
from outbox_relay.lanes import WaitingEvent

_PERSISTENT = 2


class Outcome(enum.Enum):
    """What the broker said of a publish."""

    CONFIRMED = "confirmed"  # stored by every queue that wants it, of which there is at least one
    RETURNED = "returned"  # no queue wants it
    REFUSED = "refused"  # a queue that wants it could not take it


@dataclass(frozen=True, slots=True)
class Answer:
    """The broker's answer for one event."""

    event: WaitingEvent
    outcome: Outcome
    reason: str
    published_at: float


@dataclass(frozen=True, slots=True)
class _InFlight:
    event: WaitingEvent
    published_at: float


class Publisher:
    """Publishes on one channel with confirms and mandatory, and says for each event what became of it.

    Every event that is published has exactly one answer, or is still in `in_flight` when the channel ends;
    then its fate is unknown and it must be sent again. Times are those of the monotonic clock, in seconds.
    """

    def __init__(self, connection: Connection) -> None:
        self._channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)
        self._last_tag = 0
        self._in_flight: dict[int, _InFlight] = {}
        self._returned: dict[str, str] = {}
        self._answers: deque[Answer] = deque()

    @property
    def in_flight(self) -> int:
        """How many events have no answer yet."""
        return len(self._in_flight)

    def books_in_flight(self) -> set[int]:
        """The books whose event has no answer yet."""
        return {flight.event.book_id for flight in self._in_flight.values()}

    def oldest_published_at(self) -> float | None:
        """When the event that waits longest for its answer was published."""
        first = next(iter(self._in_flight.values()), None)
        return None if first is None else first.published_at

    def publish(self, event: WaitingEvent) -> None:
        """Send the event; its answer comes later. Raises the transport's errors."""
        # The tag is written down first: an ack may be read as soon as the frame has left.
        self._last_tag += 1
        self._in_flight[self._last_tag] = _InFlight(event, time.monotonic())
        message = self._channel.prepare_message(
            event.body.encode(),
            content_type=CONTENT_TYPE,
            content_encoding="utf-8",
            properties={"message_id": event.event_id, "delivery_mode": _PERSISTENT},
        )
        self._channel.basic_publish(
            message, exchange=EXCHANGE, routing_key=routing_key(event.type), mandatory=True
        )

    def answers(self) -> list[Answer]:
        """The answers that have come since the last call."""
        answers = list(self._answers)
        self._answers.clear()
        return answers

    def _on_return(self, error: Exception, exchange: str, key: str, message: Any) -> None:  # noqa: ANN401, ARG002
        # A return always comes before the ack of the same message (RabbitMQ, "Publisher Confirms").
        self._returned[message.properties["message_id"]] = str(error)

    def _on_ack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  py-amqp's signature
        for flight in self._resolve(tag, multiple=multiple):
            reason = self._returned.pop(flight.event.event_id, None)
            outcome = Outcome.CONFIRMED if reason is None else Outcome.RETURNED
            self._answers.append(Answer(flight.event, outcome, reason or "", flight.published_at))

    def _on_nack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001  py-amqp's signature
        for flight in self._resolve(tag, multiple=multiple):
            self._returned.pop(flight.event.event_id, None)
            answer = Answer(flight.event, Outcome.REFUSED, "the broker refused it", flight.published_at)
            self._answers.append(answer)

    def _resolve(self, tag: int, *, multiple: bool) -> list[_InFlight]:
        """What the tag speaks of; with `multiple` all up to it that have no answer yet."""
        if not multiple:
            flight = self._in_flight.pop(tag, None)
            return [] if flight is None else [flight]
        resolved = []
        # Tags are given in ascending order and a dict keeps the order of insertion.
        while self._in_flight and (first := next(iter(self._in_flight))) <= tag:
            resolved.append(self._in_flight.pop(first))
        return resolved
