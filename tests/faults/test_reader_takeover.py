"""Two readers: one of them records, and the other takes over, whatever becomes of the first."""

import logging
import signal
import time
from collections.abc import Callable
from threading import Thread

import pytest

from common.settings import BrokerSettings
from protos.bookstore.v1.events_pb2 import WatchDeliveredEventsRequest
from tests.fixtures.reader import Publisher, RunningReader, make_event
from tests.fixtures.two_readers import StartReader, assert_once_and_in_order, flowing
from tests.waiting import eventually

Recorded = Callable[[], list[tuple[int, int, int]]]
# A frozen reader is missed by the broker after three of its heartbeats at most.
FROZEN_SECONDS = 25


@pytest.mark.parametrize(
    ("number", "within"),
    [
        (signal.SIGKILL, 5),
        pytest.param(signal.SIGTERM, 2, marks=pytest.mark.long),
        pytest.param(signal.SIGSTOP, FROZEN_SECONDS, marks=pytest.mark.long),
    ],
)
def test_the_second_reader_takes_over_in_time_and_the_first_one_may_come_back(
    fresh_broker: BrokerSettings, start_reader: StartReader, recorded: Recorded, number: int, within: float
) -> None:
    first, second = start_reader(), start_reader()
    with flowing(fresh_broker) as published:
        eventually(lambda: first.said("event delivered") > 20)
        assert second.said("event delivered") == 0, "one at a time"
        connects = first.said("consumer connected")
        first.process.signal(number)
        since = time.monotonic()
        eventually(lambda: second.said("event delivered"), within=within)
        logging.getLogger(__name__).info("taken over after %.2f s", time.monotonic() - since)
        if number == signal.SIGSTOP:
            first.process.signal(signal.SIGCONT)
            eventually(lambda: first.said("consumer connected") > connects, within=20)
            until = first.said("event delivered")
        else:
            first, until = start_reader(), 0
        second.process.signal(signal.SIGKILL)
        eventually(lambda: first.said("event delivered") > until, within=5)
    eventually(lambda: len(recorded()) == published(), within=20)
    assert_once_and_in_order(recorded(), published())


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("reader.before-record", signal.SIGKILL),
        ("reader.inside-record", signal.SIGKILL),
        ("reader.before-commit", signal.SIGKILL),
        ("reader.after-record", signal.SIGKILL),
        ("reader.after-acknowledge", signal.SIGKILL),
        pytest.param("reader.inside-record", signal.SIGSTOP, marks=pytest.mark.long),
        pytest.param("reader.after-record", signal.SIGSTOP, marks=pytest.mark.long),
    ],
)
def test_a_reader_that_dies_or_freezes_at_any_step_of_recording_is_replaced(
    fresh_broker: BrokerSettings, start_reader: StartReader, recorded: Recorded, place: str, number: int
) -> None:
    """Frozen inside its transaction it holds the lock that its successor needs; the database ends that."""
    first, second = start_reader(at=place, times=10, number=number), start_reader()
    with flowing(fresh_broker) as published:
        if number == signal.SIGSTOP:
            eventually(lambda: first.frozen, within=20)
        else:
            eventually(lambda: not first.process.running, within=20)
        frozen_seconds = FROZEN_SECONDS + 10
        eventually(
            lambda: second.said("event delivered"), within=5 if number == signal.SIGKILL else frozen_seconds
        )
        first.process.signal(signal.SIGCONT)
        seen = second.said("event delivered")
        eventually(lambda: second.said("event delivered") > seen + 20, within=20)
    eventually(lambda: len(recorded()) == published(), within=20)
    assert_once_and_in_order(recorded(), published())


def test_a_watcher_sees_every_position_once_across_a_change_of_the_active_reader(
    fresh_broker: BrokerSettings, start_reader: StartReader, reader: RunningReader
) -> None:
    first, second = start_reader(), start_reader()
    request = WatchDeliveredEventsRequest(after_position=0)
    stream = reader.events.WatchDeliveredEvents(request, metadata=reader.metadata, timeout=60)
    seen: list[int] = []

    def watch() -> None:
        while len(seen) < 2 or seen[-1] < last[0]:
            seen.append(next(stream).event.position)

    last = [10_000_000]
    watcher = Thread(target=watch)
    watcher.start()
    with flowing(fresh_broker) as published:
        eventually(lambda: len(seen) > 50)
        first.process.signal(signal.SIGKILL)
        eventually(lambda: second.said("event delivered") > 50, within=20)
        last[0] = published() + 2  # one may be on its way already
        eventually(lambda: published() > last[0])
        eventually(lambda: not watcher.is_alive(), within=20)
    stream.cancel()
    assert seen == list(range(1, last[0] + 1))


def test_both_readers_show_the_gap_and_stay_ready(start_reader: StartReader, publisher: Publisher) -> None:
    readers = [start_reader(), start_reader()]
    publisher.publish(make_event(1, 1), make_event(1, 3), make_event(1, 4))

    def all_see_it() -> bool:
        return all(reader.readiness()[1].get("waiting", {}).get("events") == 2 for reader in readers)

    eventually(all_see_it)
    for reader in readers:
        status, body = reader.readiness()
        assert (status, body["status"]) == (200, "ready")
        assert body["waiting"]["oldest_seconds"] > 0
    eventually(
        lambda: [reader.said("gap begins") for reader in readers] == [1, 0], because="one of them logs it"
    )
