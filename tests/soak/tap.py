import threading

from kombu import Connection

from common.broker import BROKER_ERRORS, broker_connection
from common.settings import BrokerSettings
from tests.fixtures.relay import make_tap

_PAUSE_SECONDS = 0.2


class LastingTap:
    """A queue bound to everything and a thread that empties it, through whatever happens to the broker.

    `published` has (message id, body) of all messages in order. One that was taken and not acknowledged in
    time comes again: at worst a repeat.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self.published: list[tuple[str, str]] = []
        self._settings = settings
        self._stopping = threading.Event()
        self._empty = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)

    def start(self) -> None:
        """Make the queue and begin."""
        with broker_connection(self._settings, "tap") as connection:
            make_tap(connection)
        self._thread.start()

    def await_all(self, seconds: float) -> bool:
        """Whether all that is in the queue now has been taken, within so many seconds."""
        self._empty.clear()
        return self._empty.wait(seconds)

    def close(self) -> None:
        """Take no more."""
        self._stopping.set()
        self._thread.join(timeout=20)

    def remove(self) -> None:
        """Take no more, and leave no queue behind."""
        self.close()
        with broker_connection(self._settings, "tap") as connection:
            connection.default_channel.queue_delete("tap")

    def _run(self) -> None:
        while not self._stopping.wait(_PAUSE_SECONDS):
            connection = broker_connection(self._settings, "tap")
            try:
                self._drain(connection)
            except BROKER_ERRORS:
                continue
            finally:
                connection.collect(socket_timeout=1)

    def _drain(self, connection: Connection) -> None:
        channel = connection.ensure_connection(max_retries=0).channel()
        while not self._stopping.is_set():
            message = channel.basic_get("tap")
            if message is None:
                self._empty.set()
                self._stopping.wait(_PAUSE_SECONDS)
                connection.heartbeat_check()
                continue
            body = message.body
            said = body if isinstance(body, str) else body.decode()
            self.published.append((message.properties["message_id"], said))
            channel.basic_ack(message.delivery_tag)
