import logging
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Self

from kombu import Connection

from common.broker import DOORBELL, EVENTS, broker_connection, has_unread
from common.settings import BrokerSettings
from outbox_relay.publisher import Publisher

_LOG = logging.getLogger(__name__)


class BrokerSession:
    """One connection to the broker: it carries publishes, confirms, returns, rings, heartbeats and *blocked*.

    As a context manager it is open inside the block and gone after it, whatever became of it.
    """

    def __init__(self, settings: BrokerSettings, name: str, wake_up: socket.socket) -> None:
        self._connection: Connection = broker_connection(
            settings, name, on_blocked=self._on_blocked, on_unblocked=self._on_unblocked
        )
        self._wake_up = wake_up
        self._rung = True
        self.blocked = False
        self.unblocked_at = 0.0
        self.publisher: Publisher

    def __enter__(self) -> Self:
        # connect() would try again by itself, two seconds later, and hear no wish to stop meanwhile.
        self._connection.ensure_connection(max_retries=0)
        try:
            channel = self._connection.channel()
            EVENTS(channel).declare()
            doorbell = DOORBELL(channel)
            doorbell.declare()
            # One ring is as good as a thousand: the queue never holds more.
            queue = channel.queue_declare(exclusive=True, auto_delete=True, arguments={"x-max-length": 1})
            channel.queue_bind(queue.queue, doorbell.name)
            channel.basic_consume(queue.queue, no_ack=True, callback=self._on_ring)
            self.publisher = Publisher(self._connection)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def wait(self, timeout: float) -> None:
        """Take in what the broker has sent; if that is nothing, wait up to `timeout` seconds for it."""
        while self._readable(timeout):
            self._drain()
            timeout = 0

    def heartbeat(self) -> None:
        """Send and check heartbeats; call it about once a second. Raises when the broker is silent."""
        self._connection.heartbeat_check()

    def take_ring(self) -> bool:
        """Whether somebody has committed something since the last call; true at first."""
        rung, self._rung = self._rung, False
        return rung

    def _readable(self, timeout: float) -> bool:
        if has_unread(self._connection.connection):
            return True
        broker_socket = self._connection.connection.sock
        readable, _, _ = select.select([broker_socket, self._wake_up], [], [], timeout)
        return broker_socket in readable

    def _drain(self) -> None:
        try:
            # One frame, and not drain_events: that one goes on until a method comes, and a heartbeat is none,
            # so on an idle connection it would neither return nor let us send heartbeats of our own.
            self._connection.connection.blocking_read(5)
        except TimeoutError as error:
            # The first bytes of a frame came and the rest did not; or the kernel has given up sending, after
            # the second that py-amqp allows it (TCP_USER_TIMEOUT). The connection is of no use any more.
            raise ConnectionResetError(f"the broker stands still: {error}") from error

    def _close(self) -> None:
        # Not a polite close: a broker that is frozen would keep us waiting for its answer.
        self._connection.collect(socket_timeout=1)

    def _on_ring(self, _: Any) -> None:  # noqa: ANN401  an amqp message
        self._rung = True

    def _on_blocked(self, reason: str) -> None:
        self.blocked = True
        _LOG.warning("broker blocks publishers", extra={"reason": reason})

    def _on_unblocked(self) -> None:
        self.blocked = False
        self.unblocked_at = time.monotonic()
        _LOG.info("broker unblocks publishers")


SessionMaker = Callable[[], BrokerSession]
