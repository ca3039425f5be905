"""A relay whose broker refuses, blocks, or says nothing, each time for real."""

import signal
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from kombu import Exchange, Queue
from sqlalchemy import Engine

import outbox_relay.relay
from common.broker import EVENTS
from common.settings import BrokerSettings
from devstack.stack import Stack
from outbox_relay import holds, outbox
from outbox_relay.publisher import Outcome
from outbox_relay.session import BrokerSession
from outbox_relay.stopping import Stop
from tests.connections import quiet_connection
from tests.fixtures.broker import broker_control
from tests.fixtures.relay import Relaying, Tap, backlog, logged, versions_by_first_appearance, write
from tests.waiting import eventually

# How an alarm is raised, and how it is ended.
ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "0.0001"), ("set_vm_memory_high_watermark", "0.4")),
    "disk": (("set_disk_free_limit", "1000000GB"), ("set_disk_free_limit", "50MB")),
}


@pytest.fixture
def full_queue(fresh_broker: BrokerSettings) -> Iterator[Callable[[str], Queue]]:
    """Makes a queue, bound with the given key, that takes one message and refuses all others."""
    connection = quiet_connection(fresh_broker, "full queue")

    def make(routing_key: str) -> Queue:
        channel = connection.default_channel
        EVENTS(channel).declare()
        limits = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = Queue("full", EVENTS, routing_key=routing_key, queue_arguments=limits)(channel)
        queue.declare()
        connection.Producer(channel).publish("", routing_key="full")
        eventually(lambda: queue.queue_declare(passive=True).message_count == 1)
        return queue

    yield make
    connection.default_channel.queue_delete("full")
    connection.collect(socket_timeout=1)


@pytest.fixture
def session(fresh_broker: BrokerSettings) -> Iterator[BrokerSession]:
    stop = Stop()
    with BrokerSession(fresh_broker, "session under test", stop.wake_up) as opened:
        yield opened
    stop.close()


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> float:
    """Its length in seconds."""
    monkeypatch.setattr(outbox_relay.relay, "CONFIRM_SECONDS", 2.0)
    return 2.0


def answered(session: BrokerSession, count: int) -> list[tuple[str, Outcome]]:
    """(event id, outcome) of the answers, once there are so many, and no more."""
    found: list[tuple[str, Outcome]] = []

    def take() -> bool:
        session.wait(0.05)
        found.extend((answer.event.event_id, answer.outcome) for answer in session.publisher.answers())
        return len(found) >= count

    eventually(take)
    assert (len(found), session.publisher.in_flight) == (count, 0)
    return found


def test_each_of_many_events_has_one_answer_though_one_ack_speaks_of_several(
    relay_engine: Engine, session: BrokerSession, tap: Callable[[], Tap]
) -> None:
    tapped = tap()
    several: list[int] = []
    session.publisher._channel.events["basic_ack"].add(  # noqa: SLF001  nothing else shows the broker's frames
        lambda tag, multiple: several.append(tag) if multiple else None
    )
    ids = write(relay_engine, [(book_id, 1) for book_id in range(1, 501)])
    for event in outbox.read_waiting(relay_engine, range(64), 10_000).events:
        session.publisher.publish(event)
    assert sorted(answered(session, 500)) == sorted((event_id, Outcome.CONFIRMED) for event_id in ids)
    assert several, "the broker answered each event by itself: the test proves nothing"
    assert len(tapped.drain()) == 500


def test_event_that_a_full_queue_refuses_has_that_answer(
    relay_engine: Engine, session: BrokerSession, full_queue: Callable[[str], Queue]
) -> None:
    full_queue("book.#")
    ids = write(relay_engine, [(book_id, 1) for book_id in range(1, 51)])
    for event in outbox.read_waiting(relay_engine, range(64), 10_000).events:
        session.publisher.publish(event)
    assert sorted(answered(session, 50)) == sorted((event_id, Outcome.REFUSED) for event_id in ids)


def test_events_that_are_refused_stay_and_go_out_in_order_when_there_is_room(
    relay_engine: Engine,
    relaying: Relaying,
    tap: Callable[[], Tap],
    full_queue: Callable[[str], Queue],
) -> None:
    tapped = tap()
    queue = full_queue("book.#")
    write(relay_engine, [(book_id, version) for version in (1, 2, 3) for book_id in (1, 2)])
    with relaying() as (_, metrics):
        eventually(lambda: metrics.registry.get_sample_value("relay_events_total", {"outcome": "refused"}))
        assert backlog(relay_engine) == 6
        assert holds.list_held(relay_engine) == [], "an outage counts as nobody's attempt"
        queue.delete()
        eventually(lambda: backlog(relay_engine) == 0)
    assert versions_by_first_appearance(tapped) == {1: [1, 2, 3], 2: [1, 2, 3]}


def test_book_that_is_refused_while_others_get_through_is_held_back_and_then_released(
    relay_engine: Engine,
    relaying: Relaying,
    tap: Callable[[], Tap],
    full_queue: Callable[[str], Queue],
) -> None:
    tapped = tap()
    queue = full_queue("book.created.v1")
    numbers = count(1)

    def held() -> list[holds.HeldBook]:
        """Behind many events that get through, one more book whose first event is refused."""
        number = next(numbers)
        write(relay_engine, [(book_id, number) for book_id in range(1, 151)])
        write(relay_engine, [(1000 + number, 1)], what="created")
        write(relay_engine, [(1000 + number, 2)])
        return holds.list_held(relay_engine)

    with relaying():
        [book, *_] = eventually(held, because="a book is held back")
        assert (book.attempts, book.last_error, book.waiting) == (1, "the broker refused it", 2)
        refused = next(numbers) - 1
        eventually(lambda: backlog(relay_engine) == 2 * refused, because="the others go on")
        queue.delete()
        eventually(lambda: backlog(relay_engine) == 0, because="the holds end")
        eventually(lambda: holds.list_held(relay_engine) == [], because="a book that was sent is not held")
    assert versions_by_first_appearance(tapped)[book.book_id] == [1, 2]


@pytest.mark.usefixtures("short_deadline")
def test_frozen_broker_that_confirms_nothing_is_left_and_the_events_are_sent_again(
    relay_engine: Engine,
    relaying: Relaying,
    tap: Callable[[], Tap],
    stack: Stack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tapped = tap()
    node = stack.broker.processes[-1]
    with relaying() as (relay, metrics):
        eventually(lambda: relay.connected)
        node.signal(signal.SIGSTOP)
        try:
            [event_id] = write(relay_engine, [(1, 1)])
            eventually(lambda: logged(caplog, "no confirm within 2.0 s"))
            assert metrics.registry.get_sample_value("relay_events_unknown_total") == 1
            assert backlog(relay_engine) == 1
        finally:
            node.signal(signal.SIGCONT)
        eventually(lambda: backlog(relay_engine) == 0)
    assert {str(message["id"]) for message in tapped.drain()} == {event_id}


@pytest.mark.parametrize("short_of", ALARMS)
def test_broker_short_of_something_blocks_the_relay_which_waits_on_its_connection_past_the_deadline(  # noqa: PLR0913, PLR0917
    relay_engine: Engine,
    relaying: Relaying,
    tap: Callable[[], Tap],
    stack: Stack,
    short_of: str,
    short_deadline: float,
) -> None:
    """A relay that counted the time while it is blocked would give up."""
    tapped = tap()
    begin, end = ALARMS[short_of]
    with relaying() as (relay, metrics):
        value = metrics.registry.get_sample_value
        eventually(lambda: relay.connected)
        broker_control(stack, *begin)
        try:
            ids = write(relay_engine, [(1, 1), (1, 2), (2, 1)])
            eventually(lambda: value("relay_blocked") == 1)
            blocked_at = time.monotonic()
            ids += write(relay_engine, [(3, 1)])
            eventually(lambda: time.monotonic() - blocked_at > short_deadline, because="it passes")
        finally:
            broker_control(stack, *end)
        eventually(lambda: backlog(relay_engine) == 0)
        eventually(lambda: value("relay_blocked") == 0)
        assert value("relay_connects_total") == 1
    assert sorted(str(message["id"]) for message in tapped.drain()) == sorted(ids)


def test_exchange_of_another_kind_keeps_the_relay_trying_until_it_is_gone(
    relay_engine: Engine,
    relaying: Relaying,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(relay_engine, [(1, 1)])
    with quiet_connection(fresh_broker, "somebody else") as connection:
        wrong = Exchange(EVENTS.name, type="fanout", durable=True)(connection.default_channel)
        wrong.declare()
        with relaying() as (relay, _):
            eventually(lambda: logged(caplog, "PRECONDITION_FAILED"))
            assert not relay.connected
            wrong.delete()
            tap()
            eventually(lambda: backlog(relay_engine) == 0)
