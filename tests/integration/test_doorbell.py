import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kombu import Connection, Queue
from pydantic import SecretStr
from sqlalchemy import make_url

from api.doorbell import Doorbell
from common.broker import DOORBELL, broker_connection
from common.settings import BrokerSettings
from tests.fixtures.wire import Wire, dead_wire, wire_to
from tests.waiting import eventually


def is_connected(doorbell: Doorbell) -> bool:
    try:
        asyncio.run(doorbell.check())
    except ConnectionError:
        return False
    return True


@contextmanager
def listening(url: str) -> Iterator[Doorbell]:
    doorbell = Doorbell(BrokerSettings(broker_url=SecretStr(url)))
    doorbell.start()
    try:
        yield doorbell
    finally:
        doorbell.close()
        assert not doorbell._thread.is_alive()  # noqa: SLF001  what `close` promises


@pytest.fixture
def wire(fresh_broker: BrokerSettings) -> Iterator[Wire]:
    with wire_to(make_url(fresh_broker.broker_url.get_secret_value()).port or 0) as wire:
        yield wire


@pytest.fixture
def doorbell(fresh_broker: BrokerSettings, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doorbell]:
    """Connected to the broker over the wire; it does not look by itself whether it still is."""
    monkeypatch.setattr("api.doorbell._HEARTBEAT_CHECK_SECONDS", 60)
    url = make_url(fresh_broker.broker_url.get_secret_value()).set(port=wire.port)
    with listening(url.render_as_string(hide_password=False)) as doorbell:
        eventually(lambda: is_connected(doorbell), because="the broker is up")
        yield doorbell


@pytest.fixture
def heard(fresh_broker: BrokerSettings, doorbell: Doorbell) -> Iterator[Queue]:
    """A queue that gets every ring."""
    with broker_connection(fresh_broker, "listener") as connection:
        yield _bound(connection)


def _bound(connection: Connection) -> Queue:
    queue = Queue("", DOORBELL, exclusive=True)(connection.default_channel)
    queue.declare()
    return queue


def test_a_ring_reaches_whoever_listens(doorbell: Doorbell, heard: Queue) -> None:
    doorbell.ring()
    eventually(lambda: heard.get(no_ack=True))


def test_many_rings_at_once_are_sent_as_few(doorbell: Doorbell, heard: Queue) -> None:
    for _ in range(10_000):
        doorbell.ring()
    eventually(lambda: heard.get(no_ack=True))
    doorbell.close()
    # What was sent is at the broker now, for the connection it was sent on has ended.
    assert heard.queue_declare(passive=True).message_count < 1000


def test_a_lost_broker_is_noticed_at_once_and_rung_again_when_it_is_back(
    doorbell: Doorbell, wire: Wire, heard: Queue
) -> None:
    wire.cut()
    eventually(lambda: not is_connected(doorbell), because="the connection has ended")
    doorbell.ring()
    wire.mend()
    eventually(lambda: is_connected(doorbell), because="the broker is back")
    eventually(lambda: heard.get(no_ack=True), because="a ring is kept until it can be sent")


def test_while_it_tries_to_connect_it_is_not_connected() -> None:
    with dead_wire() as nowhere, listening(f"amqp://guest:guest@127.0.0.1:{nowhere.port}//") as doorbell:
        connected = set()

        def tried_three_times() -> bool:
            connected.add(is_connected(doorbell))
            return nowhere.connections >= 3

        eventually(tried_three_times)
    assert connected == {False}


def test_ringing_without_a_broker_never_waits_and_never_fails() -> None:
    with dead_wire() as nowhere, listening(f"amqp://guest:guest@127.0.0.1:{nowhere.port}//") as doorbell:
        for _ in range(100_000):
            doorbell.ring()
    doorbell.ring()
