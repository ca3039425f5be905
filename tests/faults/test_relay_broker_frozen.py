"""A relay whose broker stands still: it notices in time, and ends in time, with any amount on its way."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from common.books import TITLE_MAX_LENGTH
from devstack.stack import Stack
from tests.fixtures.relay import Relaying, Tap, backlog, write
from tests.fixtures.system_services import Service, Starter
from tests.waiting import eventually

NOTICED_SECONDS = 15
# More than the kernel takes for a peer that reads nothing. A second later it gives up (TCP_USER_TIMEOUT, set
# by py-amqp); without that, the relay would be kept in a send for many times its write timeout.
MANY = range(1, 8001)


@contextmanager
def frozen(stack: Stack) -> Iterator[None]:
    """It holds its connections, the kernel accepts new ones, and nobody reads or answers."""
    node = stack.broker.processes[-1]
    node.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.signal(signal.SIGCONT)


@pytest.fixture
def relay(start: Starter, tap: Callable[[], Tap]) -> Service:
    """A process that would have all of MANY on the wire at once, and a queue that wants them."""
    tap()
    service = start("outbox_relay", RELAY_WINDOW=str(len(MANY)))
    eventually(lambda: "relay connected to broker" in service.log)
    return service


def write_many(engine: Engine) -> None:
    """In one transaction, or the relay has given up on the first before the last are written."""
    whole = engine.execution_options(isolation_level="READ COMMITTED")
    write(whole, [(book_id, 1) for book_id in MANY], title="🐉" * TITLE_MAX_LENGTH)


def bytes_on_the_way(service: Service) -> int:
    """What the kernel holds of what the relay has sent, on both sides of its connections."""
    found = 0
    for line in Path(f"/proc/{service.process.pid}/net/tcp").read_text().splitlines()[1:]:
        sending, receiving = line.split()[4].split(":")
        found += int(sending, 16) + int(receiving, 16)
    return found


def test_broker_that_is_frozen_under_more_than_it_can_hold_is_noticed_in_time_and_all_is_sent_later(
    relay: Service, relay_engine: Engine, stack: Stack
) -> None:
    with frozen(stack):
        write_many(relay_engine)
        eventually(lambda: bytes_on_the_way(relay) > 1_000_000, because="the relay sends what it can")
        eventually(lambda: "relay lost broker" in relay.log, within=NOTICED_SECONDS)
    eventually(lambda: backlog(relay_engine) == 0, within=60)


def test_signal_to_a_relay_whose_broker_is_frozen_under_more_than_it_can_hold_ends_it_with_0_in_time(
    relay: Service, relay_engine: Engine, stack: Stack
) -> None:
    with frozen(stack):
        write_many(relay_engine)
        eventually(lambda: bytes_on_the_way(relay) > 1_000_000, because="the relay sends what it can")
        relay.ends(signal.SIGTERM, signal.SIGTERM, signal.SIGINT)


@pytest.mark.long
def test_idle_relay_keeps_its_connection_and_notices_in_time_that_the_broker_is_frozen(
    relaying: Relaying, tap: Callable[[], Tap], stack: Stack
) -> None:
    tap()
    with relaying() as (relay, metrics):
        connects = metrics.registry.get_sample_value
        eventually(lambda: connects("relay_connects_total") == 1)
        # The broker ends the connection of a client that has said nothing for three times six seconds.
        with pytest.raises(AssertionError, match="not within 25 s"):
            eventually(lambda: connects("relay_connects_total") != 1, within=25)
        with frozen(stack):
            eventually(lambda: not relay.connected, within=NOTICED_SECONDS)
        eventually(lambda: relay.connected, within=20)
