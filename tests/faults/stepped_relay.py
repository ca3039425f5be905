import contextlib
import re
import select
import socket
import time

from sqlalchemy import Engine

from common.settings import BrokerSettings
from outbox_relay.leases import Leases
from outbox_relay.metrics import RelayMetrics
from outbox_relay.relay import Relay
from outbox_relay.session import BrokerSession
from outbox_relay.stopping import Stop
from tests.faults.points import RELAY
from tests.faults.stepping import WAITS, Stepper, reach
from tests.waiting import eventually

POINTS = (WAITS, *RELAY)
_ANSWER_SECONDS = 5
_MOST_BYTES = 1 << 20
# An ack or a nack (AMQP 0-9-1, class 60, methods 80 and 120): the tag, and whether all before it are meant.
_ANSWER = re.compile(rb"\x00\x3c\x00[\x50\x78](.{8})(.)", re.DOTALL)


class _Stop(Stop):
    def wait(self, _: float) -> bool:
        reach(WAITS)
        return self.asked


class _Session(BrokerSession):
    """Waits until all is answered, so that a run does not depend on how quick the broker is."""

    over = False

    def __exit__(self, *reason: object) -> None:
        # Whoever asked kombu for its socket from now on would make it connect again.
        self.over = True
        super().__exit__(*reason)

    def wait(self, timeout: float) -> None:
        reach(WAITS)
        super().wait(timeout)
        end = time.monotonic() + _ANSWER_SECONDS
        while self.publisher.in_flight and time.monotonic() < end:
            super().wait(timeout)

    def await_answers(self) -> None:
        """Until the broker has answered all that is in flight. The relay has not read the answers then."""
        with contextlib.suppress(OSError):  # cut off
            eventually(self._answered, within=_ANSWER_SECONDS, because="the broker answers")

    def cut(self) -> None:
        """What is on the way to the broker arrives, its answers do not."""
        with contextlib.suppress(OSError):  # gone already
            self._connection.connection.sock.shutdown(socket.SHUT_RDWR)

    def _answered(self) -> bool:
        in_flight = set(self.publisher._in_flight)  # noqa: SLF001  nobody else asks for their tags
        if not in_flight:
            return True
        broker = self._connection.connection.sock
        readable, _, _ = select.select([broker], [], [], 0)
        unread = broker.recv(_MOST_BYTES, socket.MSG_PEEK) if readable else b""
        for answer in _ANSWER.finditer(unread):
            tag, multiple = int.from_bytes(answer[1]), answer[2] != b"\0"
            in_flight = {other for other in in_flight if other != tag and not (multiple and other < tag)}
        return not in_flight or (bool(readable) and not unread)


class SteppedRelay:
    """A relay that stands still between two calls."""

    def __init__(self, engine: Engine, broker: BrokerSettings, owner: str) -> None:
        self._stop = _Stop()
        self._broker, self._owner = broker, owner
        self._session: _Session | None = None
        relay = Relay(engine, Leases(engine, owner), self._connect, RelayMetrics(), 200)
        self._stepper = Stepper(lambda: relay.run(self._stop))

    def go(self, destination: str) -> None:
        """On to one of POINTS, or for some rounds if there is no reason to come there."""
        self._stepper.go(destination)
        if self._session is not None and not self._session.over:
            self._session.await_answers()

    def kill(self) -> None:
        """Its connections end, what it had in hand is forgotten."""
        self._stepper.kill()
        self._stop.close()

    def cut(self) -> None:
        """It loses its connection to the broker, and finds out when it goes on."""
        if self._session is not None and not self._session.over:
            self._session.cut()

    def stop(self) -> None:
        """It ends as it does at SIGTERM."""
        self._stop.ask()
        while not self._stepper.dead:
            self._stepper.go(WAITS)
        self._stop.close()

    def _connect(self) -> BrokerSession:
        self._session = _Session(self._broker, self._owner, self._stop.wake_up)
        return self._session
