"""A relay that cannot go on waits for what lets it go on, and does not go round and round meanwhile."""

import sys
import time
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from devstack.stack import Stack
from outbox_relay.session import BrokerSession
from tests.fixtures.broker import broker_control
from tests.fixtures.relay import Relaying, Tap, backlog, write
from tests.waiting import eventually

SECONDS = 2
# With pauses there are about ten, without them thousands.
MOST_ROUNDS_PER_SECOND = 200


@pytest.fixture
def rounds_per_second(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """How often a relay goes round, measured for two seconds from now on."""
    count = 0
    wait = BrokerSession.wait

    def counting(session: BrokerSession, timeout: float) -> None:
        nonlocal count
        count += 1
        wait(session, timeout)

    def measure() -> float:
        before, begun = count, time.monotonic()
        eventually(lambda: time.monotonic() - begun > SECONDS)
        rounds = (count - before) / (time.monotonic() - begun)
        sys.stdout.write(f"\n{rounds:.0f} rounds a second\n")
        return rounds

    monkeypatch.setattr(BrokerSession, "wait", counting)
    return measure


def events(registry: CollectorRegistry, outcome: str) -> float:
    return registry.get_sample_value("relay_events_total", {"outcome": outcome}) or 0.0


def test_relay_with_hundreds_of_books_that_nobody_wants_pauses_between_its_tries(
    relay_engine: Engine, relaying: Relaying, rounds_per_second: Callable[[], float]
) -> None:
    write(relay_engine, [(book_id, 1) for book_id in range(1, 401)])
    with relaying() as (_, metrics):
        eventually(lambda: events(metrics.registry, "returned") > 300)
        before = events(metrics.registry, "returned")
        assert rounds_per_second() < MOST_ROUNDS_PER_SECOND
        assert events(metrics.registry, "returned") > before, "it tries now and then"


def test_relay_whose_hands_are_full_while_the_broker_blocks_it_pauses(
    relay_engine: Engine,
    relaying: Relaying,
    tap: Callable[[], Tap],
    stack: Stack,
    rounds_per_second: Callable[[], float],
) -> None:
    tap()
    with relaying() as (relay, metrics):
        value = metrics.registry.get_sample_value
        eventually(lambda: relay.connected)
        broker_control(stack, "set_vm_memory_high_watermark", "0.0001")
        try:
            write(relay_engine, [(1, 1)])
            eventually(lambda: value("relay_blocked") == 1)
            write(relay_engine, [(book_id, 1) for book_id in range(2, 402)])
            eventually(lambda: (value("relay_events_in_hand") or 0) > 100)
            assert rounds_per_second() < MOST_ROUNDS_PER_SECOND
        finally:
            broker_control(stack, "set_vm_memory_high_watermark", "0.4")
        eventually(lambda: backlog(relay_engine) == 0)
