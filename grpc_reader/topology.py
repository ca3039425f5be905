"""What the reader needs at the broker."""

import logging

from amqp.exceptions import PreconditionFailed
from kombu import Connection, Exchange, Queue
from kombu.transport.pyamqp import Channel

from common.broker import EVENTS

# A delivery counts as failed when its consumer's connection ends before the acknowledgement. Only an event
# that kills its consumer again and again comes near this; one not understood is dead-lettered at once.
_DELIVERY_LIMIT = 100
# RabbitMQ 4 would drop a dead letter that was looked at twenty times. None at all cannot be said to 3.10.
_UNLIMITED = 1_000_000_000
_LOG = logging.getLogger(__name__)

DEAD_LETTERS = Exchange("bookstore.reader.dlx", type="fanout", durable=True)
DEAD_QUEUE = Queue(
    "bookstore.reader.dead",
    DEAD_LETTERS,
    durable=True,
    queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": _UNLIMITED},
)
QUEUE = Queue(
    "bookstore.reader",
    EVENTS,
    routing_key="book.#",
    durable=True,
    queue_arguments={
        "x-queue-type": "quorum",
        # One consumer gets everything, in order; the next one takes over when its connection ends.
        "x-single-active-consumer": True,
        "x-delivery-limit": _DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD_LETTERS.name,
        # Without both of these, a dead letter is dropped when the dead queue does not take it.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    },
)


def declare(connection: Connection) -> None:
    """Make whatever is not there yet.

    Any queue will do for dead letters; that of the events must have our properties, or order would not be
    kept: PreconditionFailed as long as there is another of its name.
    """
    declare_dead_queue(connection)
    with connection.channel() as channel:
        QUEUE(channel).declare()


def declare_dead_queue(connection: Connection) -> None:
    """Make sure that dead letters have a queue; one that somebody has made otherwise is used as it is."""
    try:
        with connection.channel() as channel:
            DEAD_QUEUE(channel).declare()
    except PreconditionFailed as error:
        _LOG.warning("dead queue has other properties", extra={"error": str(error)})
        with connection.channel() as channel:
            DEAD_QUEUE(channel).queue_bind()


def renew_bindings(channel: Channel) -> None:
    """Put exchanges and bindings back that somebody has removed; nobody tells a consumer that they are gone.

    Waits for no answer: a queue that is not there, or an exchange of another kind, closes the channel later.
    """
    for queue in (DEAD_QUEUE, QUEUE):
        bound = queue(channel)
        bound.exchange.declare(nowait=True)
        bound.queue_bind(nowait=True)
