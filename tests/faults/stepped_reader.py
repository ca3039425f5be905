import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, cast

from kombu import Connection
from sqlalchemy import Engine

from common.broker import BROKER_ERRORS, broker_connection
from common.settings import BrokerSettings, CacheSettings
from grpc_reader.generations import Generations, SupersededError
from grpc_reader.intake import Intake
from grpc_reader.metrics import ReaderMetrics
from grpc_reader.recorder import Recorder
from grpc_reader.ticket import Ticket
from tests.faults.stepping import WAITS, Stepper, reach

POINTS = (WAITS, "reader.before-record", "reader.after-record", "reader.after-acknowledge")
# With the recorder row locked: whoever stood still there would keep its successor waiting, who is in the
# same thread.
INSIDE = ("reader.inside-record", "reader.before-commit")
_PREFETCH = 500
_DELIVERY_SECONDS = 0.5
_NOTHING_SECONDS = 0.005


class _Intake(Intake):
    """Counts what comes and what is acknowledged, whoever does it."""

    delivered = acknowledged = 0

    def __init__(self, connection: Connection, *parts: Any, **others: Any) -> None:  # noqa: ANN401  as there
        super().__init__(connection, *parts, **others)
        self._basic_ack = self._channel.basic_ack
        self._channel.basic_ack = self._count

    def _take(self, message: Any) -> None:  # noqa: ANN401  as there
        self.delivered += 1
        super()._take(message)

    def _count(self, tag: int, *, multiple: bool = False) -> None:
        self._basic_ack(tag, multiple=multiple)
        # Answered by the broker, which then has seen the acknowledgement, even if this reader is killed now.
        self._channel.basic_qos(0, _PREFETCH, False)  # noqa: FBT003  py-amqp's order of arguments
        # Tags are counted from 1, and acknowledged in order.
        self.acknowledged = tag


class SteppedReader:
    """A reader that stands still between two calls.

    `in_queue` says how many messages the queue has that are not acknowledged: as long as there are more than
    have come, the reader waits for them, so that a run does not depend on how quick the broker is.
    """

    def __init__(
        self, engine: Engine, broker: BrokerSettings, cache: CacheSettings, in_queue: Callable[[], int]
    ) -> None:
        self._generations, self._recorder = Generations(engine), Recorder(engine)
        self._ticket = Ticket(cache, self._generations)
        self._connection = cast("Any", broker_connection(broker, "stepped reader"))
        self._drain = self._connection.drain_events
        self._connection.drain_events = self._drain_when_told
        self._in_queue = in_queue
        self._intake: _Intake | None = None
        self._stepper = Stepper(self._run)

    @property
    def acknowledged(self) -> int:
        """How many messages it has taken out of the queue."""
        return self._intake.acknowledged if self._intake else 0

    @property
    def dead(self) -> bool:
        """Whether it has ended, because it lost its connection or another one has taken over."""
        return bool(self._stepper.dead)

    def go(self, destination: str) -> None:
        """On to one of POINTS or INSIDE, or for some rounds if there is no reason to come there."""
        self._stepper.go(destination)

    def kill(self) -> None:
        """Its connections end, what it had in hand is forgotten."""
        self._stepper.kill()
        self._connection.collect(socket_timeout=1)
        self._ticket.close()

    def cut(self) -> None:
        """The broker takes it for gone; it finds out when it goes on."""
        if self._intake is not None:
            with contextlib.suppress(OSError):  # gone already
                self._connection.connection.sock.shutdown(socket.SHUT_RDWR)

    def go_to_the_end(self) -> None:
        """After a cut: on, until it has found out."""
        while not self._stepper.dead:
            self._stepper.go(WAITS)
        self.kill()

    def _run(self) -> None:
        self._connection.ensure_connection(max_retries=0)
        self._generations.prepare()
        self._intake = _Intake(
            self._connection,
            self._recorder,
            self._ticket,
            ReaderMetrics(),
            stopping=threading.Event(),
            on_recorded=lambda: None,
        )
        with contextlib.suppress(SupersededError, *BROKER_ERRORS):
            self._intake.run()
        self._ticket.release()

    def _drain_when_told(self, *, timeout: float) -> None:
        if timeout:  # else there is something already, and this asks for company
            reach(WAITS)
        assert self._intake is not None
        here = self._intake.delivered - self._intake.acknowledged
        self._drain(timeout=_DELIVERY_SECONDS if self._in_queue() > here else _NOTHING_SECONDS)
