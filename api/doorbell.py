import contextlib
import logging
import selectors
import socket
import threading
from typing import Any

from kombu import Connection, Producer

from common import fault_points
from common.broker import BROKER_ERRORS, DOORBELL, broker_connection
from common.settings import BrokerSettings

# Under load one ring announces all that was committed in between; the relay needs no more of them.
_SPACING_SECONDS = 0.01
_RECONNECT_SECONDS = 1.0
_HEARTBEAT_CHECK_SECONDS = 1.0
_FRAME_SECONDS = 5.0
_LOG = logging.getLogger(__name__)


class Doorbell:
    """Tells the relays, after a commit, that there is work. A lost ring costs a second, never an event.

    `ring` never waits; a thread of its own talks to the broker.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._button, self._bell = socket.socketpair()
        for end in (self._button, self._bell):
            end.setblocking(False)  # noqa: FBT003  a method of the standard library
        self._stopping = threading.Event()
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)

    def start(self) -> None:
        """Begin to listen for rings."""
        self._thread.start()

    def ring(self) -> None:
        """A change has been committed; its client has no answer yet."""
        fault_points.reach("api.after-commit")
        self._press()

    async def check(self) -> None:
        """Raise ConnectionError unless there is a connection to the broker."""
        if not self._connected.is_set():
            raise ConnectionError("no connection to the broker")

    def close(self) -> None:
        """Stop the thread; a ring that was not sent yet is forgotten."""
        self._stopping.set()
        self._press()
        self._thread.join(timeout=2)
        self._button.close()
        self._bell.close()

    def _press(self) -> None:
        with contextlib.suppress(OSError):  # full: it rings anyway; closed: nobody listens any more
            self._button.send(b"!")

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._serve(broker_connection(self._settings, "api doorbell"))
            except BROKER_ERRORS as error:
                _LOG.warning("doorbell disconnected", extra={"error": repr(error)})
            self._stopping.wait(_RECONNECT_SECONDS)

    def _serve(self, connection: Connection) -> None:
        # connect() would try again by itself, and hear no wish to stop meanwhile.
        opened = connection.ensure_connection(max_retries=0).connection
        try:
            producer = connection.Producer(connection.default_channel, exchange=DOORBELL, auto_declare=True)
            self._connected.set()
            self._send_rings(opened, producer)
        finally:
            self._connected.clear()
            # Not a polite close: a broker that is frozen would keep us waiting for its answer.
            opened.collect()

    def _send_rings(self, opened: Any, producer: Producer) -> None:  # noqa: ANN401  py-amqp has no types
        # Not select(), which refuses file numbers above 1023, and an API with many clients has such.
        with selectors.DefaultSelector() as both:
            both.register(opened.sock, selectors.EVENT_READ)
            both.register(self._bell, selectors.EVENT_READ)
            while not self._stopping.is_set():
                ready = {key.fileobj for key, _ in both.select(_HEARTBEAT_CHECK_SECONDS)}
                if self._bell in ready:
                    self._bell.recv(4096)
                    producer.publish(b"", delivery_mode="transient", retry=False)
                    self._stopping.wait(_SPACING_SECONDS)
                if ready - {self._bell}:
                    # One frame: a heartbeat, or the close that would go unnoticed otherwise.
                    opened.blocking_read(_FRAME_SECONDS)
                opened.heartbeat_tick()
