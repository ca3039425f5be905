"""Several relays share the work; one that is gone is replaced, one that wakes up can at worst repeat."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import psutil
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from outbox_relay.leases import Leases
from tests.fixtures.relay import (
    Relaying,
    Tap,
    await_more,
    backlog,
    ring,
    versions_by_first_appearance,
    write,
    writing,
)
from tests.fixtures.relays import RunningRelay, shares
from tests.waiting import eventually

BOOKS = range(1, 65)
Start = Callable[[], RunningRelay]


def all_in_order(tap: Tap, versions: list[int]) -> bool:
    return versions_by_first_appearance(tap) == dict.fromkeys(BOOKS, versions)


def longest_silence(engine: Engine, since: float) -> float:
    """The longest time in seconds between two settled events of book 1, from the last before `since` on.

    `since` is in seconds since the epoch.
    """
    with engine.connect() as connection:
        moments = connection.execute(
            text(
                "SELECT DISTINCT UNIX_TIMESTAMP(sent_at) FROM sent_event"
                " WHERE book_id = :book AND sent_at >= (SELECT MAX(sent_at) FROM sent_event"
                " WHERE book_id = :book AND sent_at < FROM_UNIXTIME(:since)) ORDER BY 1"
            ),
            {"book": 1, "since": since},
        ).scalars()
        times = [float(moment) for moment in moments]
    longest = max(later - earlier for earlier, later in pairwise(times))
    sys.stdout.write(f"\nnothing settled for {longest:.2f} s at most\n")
    return longest


@pytest.fixture
def pair(relay_engine: Engine, start_relay: Start, tap: Callable[[], Tap]) -> tuple[RunningRelay, ...]:
    """Two relays that have shared the shards, and a queue that wants the events."""
    tap()
    relays = (start_relay(), start_relay())
    eventually(lambda: shares(relay_engine) == [32, 32])
    return relays


def owner_of_book_1(engine: Engine) -> str:
    with engine.connect() as connection:
        return str(
            connection.execute(
                text("SELECT owner FROM shard_lease WHERE shard = CRC32('1') % 64")
            ).scalar_one()
        )


def owned_by(relays: tuple[RunningRelay, ...], owner: str) -> RunningRelay:
    [found] = [relay for relay in relays if f"-{relay.process.pid}-" in owner]
    return found


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_killed_relay_is_replaced_within_five_seconds_and_nothing_is_lost_or_reordered(
    relay_engine: Engine, pair: tuple[RunningRelay, ...], tap: Callable[[], Tap]
) -> None:
    tapped = tap()
    with writing(relay_engine, BOOKS, then=partial(ring, tapped)) as versions:
        eventually(lambda: len(versions) > 20)
        began = time.time()
        owned_by(pair, owner_of_book_1(relay_engine)).kill()
        eventually(lambda: shares(relay_engine) == [64], within=15)
        await_more(versions, 20)
    eventually(lambda: backlog(relay_engine) == 0, within=60)
    assert longest_silence(relay_engine, began) <= 5
    assert all_in_order(tapped, versions)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_relay_that_stops_hands_its_shards_over_within_two_seconds(
    relay_engine: Engine, pair: tuple[RunningRelay, ...], tap: Callable[[], Tap]
) -> None:
    tapped = tap()
    with writing(relay_engine, BOOKS, then=partial(ring, tapped)) as versions:
        eventually(lambda: len(versions) > 20)
        began = time.time()
        leaving = owned_by(pair, owner_of_book_1(relay_engine))
        leaving.ask_to_stop()
        eventually(lambda: leaving.process.exit_code() == 0)
        await_more(versions, 20)
    eventually(lambda: backlog(relay_engine) == 0, within=60)
    assert longest_silence(relay_engine, began) <= 2
    assert all_in_order(tapped, versions)


def test_a_frozen_relay_is_replaced_and_can_at_worst_repeat_when_it_wakes(
    relay_engine: Engine, pair: tuple[RunningRelay, ...], tap: Callable[[], Tap]
) -> None:
    with writing(relay_engine, BOOKS) as versions:
        eventually(lambda: len(versions) > 20)
        frozen = owned_by(pair, owner_of_book_1(relay_engine))
        frozen.freeze()
        eventually(lambda: shares(relay_engine) == [64], within=15)
        await_more(versions, 20)
        frozen.wake()
        eventually(lambda: shares(relay_engine) == [32, 32])
    eventually(lambda: backlog(relay_engine) == 0, within=60)
    assert all_in_order(tap(), versions)


def cut_from_database(engine: Engine, relay: RunningRelay) -> int:
    """End a relay's connections from the server's side; how many there were."""
    port = engine.url.port
    mine = {
        f"{link.laddr.ip}:{link.laddr.port}"
        for link in psutil.Process(relay.process.pid).net_connections()
        if link.raddr and link.raddr.port == port
    }
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, host FROM information_schema.processlist")).all()
        victims = [row[0] for row in rows if row[1] in mine]
        for victim in victims:
            with contextlib.suppress(OperationalError):  # it has ended by itself
                connection.execute(text(f"KILL {victim}"))
    return len(victims)


def test_a_relay_whose_database_connections_are_cut_goes_on(
    relay_engine: Engine, pair: tuple[RunningRelay, ...], tap: Callable[[], Tap]
) -> None:
    cut = 0
    with writing(relay_engine, BOOKS) as versions:
        for round_ in range(1, 6):
            eventually(partial(written_past, versions, round_ * 10))
            cut += sum(cut_from_database(relay_engine, relay) for relay in pair)
    assert cut > 0
    eventually(lambda: backlog(relay_engine) == 0, within=60)
    assert all_in_order(tap(), versions)


def written_past(versions: list[int], count: int) -> bool:
    return len(versions) > count


@pytest.mark.long
@pytest.mark.timeout(240)
def test_relays_that_come_and_go_share_what_is_there(
    relay_engine: Engine, start_relay: Start, tap: Callable[[], Tap]
) -> None:
    tapped = tap()
    with writing(relay_engine, BOOKS) as versions:
        first = start_relay()
        eventually(lambda: shares(relay_engine) == [64])
        start_relay()
        third = start_relay()
        eventually(lambda: shares(relay_engine) == [20, 22, 22])
        first.kill()
        eventually(lambda: shares(relay_engine) == [32, 32], within=15)
        third.ask_to_stop()
        eventually(lambda: shares(relay_engine) == [64], within=15)
    eventually(lambda: backlog(relay_engine) == 0, within=60)
    assert all_in_order(tapped, versions)


@pytest.mark.long
def test_shards_that_are_taken_over_are_read_at_once_though_somebody_rang_just_before(
    relay_engine: Engine, relaying: Relaying, tap: Callable[[], Tap]
) -> None:
    """A ring puts the next scan off: neither the leases nor what was left there may wait for that."""
    tapped, free, tended_at = tap(), threading.Event(), list[float]()

    class Late(Leases):
        def tend(self, *_: object) -> frozenset[int]:
            tended_at.append(time.monotonic())
            return frozenset(range(64) if free.is_set() else ())

    write(relay_engine, [(1, 1)])
    with relaying(leases=Late):
        eventually(lambda: tended_at and time.monotonic() - tended_at[-1] > 0.9)
        last = tended_at[-1]
        free.set()
        ring(tapped)
        eventually(lambda: backlog(relay_engine) == 0)
        assert time.monotonic() - last < 1.5
