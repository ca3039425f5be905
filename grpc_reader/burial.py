"""Dead letters: what cannot be recorded, with the reason, on its way to the dead-letter exchange."""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from amqp import Message
from kombu import Connection

from grpc_reader.backoff import Backoff
from grpc_reader.deadline import cut_after
from grpc_reader.topology import DEAD_LETTERS, declare_dead_queue

REASON, TIME = "x-bookstore-reason", "x-bookstore-time"
EXCHANGE, ROUTING_KEY, MESSAGE_ID = (
    "x-bookstore-exchange",
    "x-bookstore-routing-key",
    "x-bookstore-message-id",
)
# Longer than the broker takes for a reason, in a header frame that must stay below its frame size.
_REASON_CHARACTERS = 1000
_PERSISTENT = 2
_LOG = logging.getLogger(__name__)


@dataclass
class _Burial:
    message: Any
    reason: str
    time: datetime
    due_at: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)


class Burials:
    """Publishes dead letters one after another; `on_buried` hears the tag of each that the broker has stored.

    One that the broker does not take is tried again, with growing pauses, for as long as the connection
    lasts. Until it is stored its delivery stays unacknowledged, so it comes again after whatever happens.
    """

    def __init__(self, connection: Connection, on_buried: Callable[[int], None]) -> None:
        self._connection = connection
        self._on_buried = on_buried
        self._waiting: deque[_Burial] = deque()
        self._in_flight: _Burial | None = None
        self._return: str | None = None
        self._channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)

    def __len__(self) -> int:
        """How many deliveries are in hand."""
        return len(self._waiting) + self.in_flight

    @property
    def in_flight(self) -> bool:
        """Whether one has been published and has no answer yet."""
        return self._in_flight is not None

    def add(self, message: Any, reason: str) -> None:  # noqa: ANN401  py-amqp has no types
        """Take a delivery in hand. Nothing is sent yet, for this may be called while frames are read."""
        self._waiting.append(_Burial(message, reason, datetime.now(UTC)))

    def tend(self) -> None:
        """Publish the next one that is due, unless one is on its way; call it often."""
        if self._return is not None and self._in_flight is None:
            self._return = None
            with cut_after(self._connection):
                declare_dead_queue(self._connection)
        if self._in_flight is not None or not self._waiting or time.monotonic() < self._waiting[0].due_at:
            return
        self._in_flight = burial = self._waiting.popleft()
        self._channel.basic_publish(
            self._letter(burial), exchange=DEAD_LETTERS.name, routing_key=_routing_key(burial), mandatory=True
        )

    def _letter(self, burial: _Burial) -> Any:  # noqa: ANN401  py-amqp has no types
        properties = dict(burial.message.properties)
        headers = {
            **(properties.get("application_headers") or {}),
            REASON: burial.reason[:_REASON_CHARACTERS],
            TIME: burial.time.isoformat(),
            EXCHANGE: burial.message.delivery_info["exchange"],
            ROUTING_KEY: _routing_key(burial),
            MESSAGE_ID: properties.get("message_id", ""),
        }
        # An expiry would end the letter, another's user id would be refused.
        for name in ("expiration", "user_id"):
            properties.pop(name, None)
        properties |= {"application_headers": headers, "delivery_mode": _PERSISTENT}
        return Message(burial.message.body, **properties)

    def _on_return(self, error: Exception, *_: object) -> None:
        # A return always comes before the ack of the same message (RabbitMQ, "Publisher Confirms").
        self._return = str(error)

    def _on_ack(self, *_: object) -> None:
        if self._return is not None:
            self._again(self._return)
            return
        burial, self._in_flight = self._in_flight, None
        if burial is not None:
            facts = {"message_id": burial.message.properties.get("message_id"), "reason": burial.reason}
            _LOG.warning("event dead-lettered", extra=facts)
            self._on_buried(burial.message.delivery_tag)

    def _on_nack(self, *_: object) -> None:
        self._again("the broker refused it")

    def _again(self, cause: str) -> None:
        burial, self._in_flight = self._in_flight, None
        if burial is not None:
            pause = burial.backoff.next_pause()
            burial.due_at = time.monotonic() + pause
            self._waiting.append(burial)
            facts = {"reason": burial.reason, "error": cause, "seconds": f"{pause:.1f}"}
            _LOG.warning("event not dead-lettered yet", extra=facts)


def _routing_key(burial: _Burial) -> str:
    return str(burial.message.delivery_info["routing_key"])
