"""A reader's intake that is handed its events, and stands still between two calls.

Between the broker and the record nothing happens to the cache, so there is no broker here, and a round takes
milliseconds. The order in which books are evicted and events recorded is the product's own.
"""

import contextlib
import threading
from collections import deque

from sqlalchemy import Engine

from common.settings import CacheSettings
from grpc_reader.arrival import Arrival
from grpc_reader.generations import Generations, SupersededError
from grpc_reader.intake import Delivery, Intake
from grpc_reader.metrics import ReaderMetrics
from grpc_reader.recorder import Recorder
from grpc_reader.ticket import Ticket
from tests.faults.stepping import WAITS, Stepper, reach


class _Intake(Intake):
    """Takes what is not acknowledged yet, in order, as from a queue with one active consumer."""

    def __init__(self, unacknowledged: list[Arrival], recorder: Recorder, ticket: Ticket) -> None:
        # Not the inherited one, which opens channels.
        self._unacknowledged, self._recorder, self._ticket = unacknowledged, recorder, ticket
        self._metrics, self._stopping, self._on_recorded = ReaderMetrics(), threading.Event(), lambda: None
        self._pending: deque[Delivery] = deque()
        self._left = None
        self._taken: list[Arrival] = []

    def _drain(self, timeout: float) -> bool:
        if timeout:
            reach(WAITS)
        new = [arrival for arrival in self._unacknowledged if arrival not in self._taken]
        self._taken += new
        self._pending.extend(Delivery(None, arrival) for arrival in new)
        return bool(new)

    def _acknowledge(self, batch: list[Delivery]) -> None:
        for delivery in batch:
            with contextlib.suppress(ValueError):  # a successor has
                self._unacknowledged.remove(delivery.arrival)

    def _wait(self, seconds: float) -> None:  # noqa: ARG002  none of them pass
        self._tend()

    def _tend(self) -> None:
        self._ticket.tend()


class SteppedIntake:
    """It takes over from whoever recorded before; `unacknowledged` is what all of them have yet to record."""

    def __init__(self, engine: Engine, cache: CacheSettings, unacknowledged: list[Arrival]) -> None:
        self._ticket = Ticket(cache, Generations(engine))
        self._intake = _Intake(unacknowledged, Recorder(engine), self._ticket)
        self._stepper = Stepper(self._run)
        self._stepper.go(WAITS)

    def go(self, destination: str) -> None:
        """On to a point outside of transactions, or for some rounds if there is no reason to come there."""
        self._stepper.go(destination)

    def kill(self) -> None:
        """It does nothing more."""
        self._stepper.kill()
        self._ticket.close()

    def _run(self) -> None:
        self._ticket.take_over()
        with contextlib.suppress(SupersededError):
            self._intake.run()
        self._ticket.release()
