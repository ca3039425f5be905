import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial

from sqlalchemy import Engine

from common.broker import BROKER_ERRORS, broker_connection
from common.settings import BrokerSettings, CacheSettings
from grpc_reader.backoff import Backoff
from grpc_reader.deadline import cut_after
from grpc_reader.generations import Generations, SupersededError
from grpc_reader.intake import TRANSIENT, Intake
from grpc_reader.metrics import ReaderMetrics
from grpc_reader.recorder import Recorder
from grpc_reader.ticket import Ticket

_GOODBYE_SECONDS = 2
_LOG = logging.getLogger(__name__)


class Consumer:
    """Records what the queue delivers, in a thread of its own, for as long as it is not stopped.

    A lost broker, database or cache is waited for. `start`, then `stop` (from any thread, as often as you
    like), then `join`.
    """

    def __init__(  # noqa: PLR0913  one part each
        self,
        broker: BrokerSettings,
        cache: CacheSettings,
        engine: Engine,
        metrics: ReaderMetrics,
        on_recorded: Callable[[], None],
        *,
        name: str = "grpc reader",
    ) -> None:
        # Not open yet; made here so that a wrong address ends the start and not the thread.
        self._connect = partial(broker_connection, broker, name)
        self._connect()
        self._generations = Generations(engine)
        self._ticket = Ticket(cache, self._generations)
        self._recorder = Recorder(engine)
        self._metrics = metrics
        self._on_recorded = on_recorded
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)
        self._backoff = Backoff()
        self._cautious = False
        self.connected = False

    @property
    def recording(self) -> bool:
        """Whether this consumer is the one that records, as far as it knows."""
        return self._ticket.registered

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch in hand and take no more."""
        self._stopping.set()

    def join(self, timeout: float) -> bool:
        """Wait for the thread; False when it has not ended after `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._consume()
            except SupersededError as error:
                _LOG.info("consumer superseded", extra={"reason": str(error)})
            except BROKER_ERRORS as error:
                _LOG.warning("broker not reached", extra={"error": str(error) or type(error).__name__})
            except TRANSIENT as error:
                _LOG.warning("database not reached", extra={"error": str(error)})
            except Exception:  # noqa: BLE001  the outermost loop
                # Whatever it is, the unacknowledged events come again. If one of them is the cause, it must
                # not use up the delivery limit of those that were in hand with it.
                self._cautious = True
                _LOG.exception("consumer failed")
            self._stopping.wait(self._backoff.next_pause())
        self._ticket.close()

    def _consume(self) -> None:
        connection = self._connect()
        try:
            # connect() would try again by itself, two seconds later, and hear no wish to stop meanwhile.
            connection.ensure_connection(max_retries=0)
            self._generations.prepare()
            with cut_after(connection):
                intake = Intake(
                    connection,
                    self._recorder,
                    self._ticket,
                    self._metrics,
                    stopping=self._stopping,
                    on_recorded=self._on_recorded,
                    cautious=self._cautious,
                )
            self.connected = True
            self._backoff.reset()
            _LOG.info("consumer connected")
            intake.run()
            self._cautious = False
            # Politely, so that the last acknowledgements are heard; a broker that is silent is left.
            with contextlib.suppress(*BROKER_ERRORS), cut_after(connection, _GOODBYE_SECONDS):
                connection.close()
        finally:
            self.connected = False
            # Sockets only: a closing handshake with a broker that is gone would take its time.
            connection.collect(socket_timeout=1)
            self._ticket.release()
