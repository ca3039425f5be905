"""The queue of dead letters as operators see it: read without change, and sent again without loss."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from amqp import Message
from amqp.exceptions import NotFound
from kombu import Connection
from kombu.transport.pyamqp import Channel

from common import fault_points
from common.broker import BROKER_ERRORS, broker_connection
from common.errors import StartError
from common.settings import BrokerSettings
from grpc_reader import burial
from grpc_reader.topology import DEAD_QUEUE, QUEUE

_CONFIRM_SECONDS = 10
_PERSISTENT = 2
_OURS = frozenset({burial.REASON, burial.TIME, burial.EXCHANGE, burial.ROUTING_KEY, burial.MESSAGE_ID})
_BROKERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")


@dataclass(frozen=True)
class DeadLetter:
    """A message that was not recorded: by our own decision, or because the broker gave it up (`x-death`)."""

    message: Any

    @property
    def id(self) -> str:
        """The message id, which is the event's; one without it goes by the digest of its body."""
        return str(self.message.properties.get("message_id") or hashlib.sha256(self.body).hexdigest()[:16])

    @property
    def body(self) -> bytes:
        """As it came."""
        body = self.message.body
        return body if isinstance(body, bytes) else str(body).encode()

    @property
    def reason(self) -> str:
        """Why it is here."""
        found = self._headers.get(burial.REASON)
        if found:
            return str(found)
        reason = self._death.get("reason", "unknown")
        return (
            "delivered too often, never acknowledged" if reason == "delivery_limit" else f"broker: {reason}"
        )

    @property
    def died_at(self) -> datetime | None:
        """When it was given up, if anybody has written that down."""
        with contextlib.suppress(KeyError, ValueError):  # not there, or not written by us
            return datetime.fromisoformat(str(self._headers[burial.TIME]))
        time = self._death.get("time")
        return time.replace(tzinfo=UTC) if isinstance(time, datetime) else None

    @property
    def exchange(self) -> str:
        """Where it was published first; empty for the default exchange."""
        return str(self._headers.get(burial.EXCHANGE, self._death.get("exchange", "")))

    @property
    def routing_key(self) -> str:
        """With which key it was published first."""
        keys = self._death.get("routing-keys")
        key = keys[0] if isinstance(keys, list) and keys else ""
        return str(self._headers.get(burial.ROUTING_KEY, key))

    def again(self) -> Message:
        """The message as it was before it died."""
        properties = {**self.message.properties, "delivery_mode": _PERSISTENT}
        headers = {k: v for k, v in self._headers.items() if k not in _OURS and not k.startswith(_BROKERS)}
        properties["application_headers"] = headers
        return Message(self.body, **properties)

    @property
    def _headers(self) -> dict[str, Any]:
        return self.message.properties.get("application_headers") or {}

    @property
    def _death(self) -> dict[str, Any]:
        deaths = self._headers.get("x-death")
        # The broker writes a list of tables; a publisher may write what it likes.
        found = deaths[0] if isinstance(deaths, list) and deaths else {}
        return found if isinstance(found, dict) else {}


class DeadLetters:
    """Takes dead letters in hand, one by one; what is not acknowledged goes back to its place at the end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel: Channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_return"].add(self._on_return)
        self._returned = False

    def count(self) -> int:
        """How many are in the queue, without those in somebody's hand."""
        return int(self._channel.queue_declare(DEAD_QUEUE.name, passive=True).message_count)

    def take(self) -> Iterator[DeadLetter]:
        """Those that are there now, the oldest first; one that comes meanwhile is left for the next time."""
        for _ in range(self.count()):
            message = self._channel.basic_get(DEAD_QUEUE.name)
            if message is None:
                return
            yield DeadLetter(message)

    def redrive(self, letter: DeadLetter) -> None:
        """Put it into the reader's queue, and only when it is stored there take it out of this one.

        Whoever is killed in between leaves it in both, never in none; the reader ignores the repeat.
        """
        self._returned = False
        self._channel.basic_publish_confirm(
            letter.again(), "", QUEUE.name, mandatory=True, confirm_timeout=_CONFIRM_SECONDS
        )
        if self._returned:
            raise StartError(f"There is no queue {QUEUE.name}: start the reader first.")
        fault_points.reach("dead.after-redrive")
        self._channel.basic_ack(letter.message.delivery_tag)

    def redrive_chosen(self, wanted: Callable[[DeadLetter], bool]) -> Iterator[DeadLetter]:
        """Redrive those that are wanted; each is given once it is safe in the reader's queue."""
        for letter in self.take():
            if wanted(letter):
                self.redrive(letter)
                yield letter

    def _on_return(self, *_: object) -> None:
        self._returned = True


@contextmanager
def dead_letters(settings: BrokerSettings) -> Iterator[DeadLetters]:
    """The dead letters while the block lasts; StartError says in a sentence why they cannot be had."""
    connection = broker_connection(settings, "grpc reader: dead letters")
    try:
        connection.ensure_connection(max_retries=0)
        yield DeadLetters(connection)
        connection.close()
    except NotFound:
        raise StartError(
            f"There is no queue {DEAD_QUEUE.name} yet: the reader makes it at its start."
        ) from None
    except UnicodeDecodeError:  # py-amqp cannot read the properties of such a message
        raise StartError(f"A message in {DEAD_QUEUE.name} has properties that are not UTF-8.") from None
    except BROKER_ERRORS as error:
        raise StartError(f"The broker cannot be used ({error}): check BROKER_URL and that it runs.") from None
    finally:
        connection.collect(socket_timeout=1)
