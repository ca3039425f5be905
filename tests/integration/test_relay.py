import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from kombu import Queue
from sqlalchemy import Connection, Engine, event, text

from common.broker import EVENTS
from common.database import thread_engine
from common.events import shard_of
from common.settings import BrokerSettings, DatabaseSettings
from outbox_relay import holds, outbox
from outbox_relay.lanes import Lanes
from outbox_relay.leases import Leases
from outbox_relay.metrics import RelayMetrics
from tests.faults.broken import no_wait_for_confirms
from tests.fixtures.relay import NOW, Tap, backlog, running_relay, versions_by_first_appearance, write
from tests.waiting import eventually


def test_every_event_arrives_as_it_was_written_and_leaves_the_backlog(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
) -> None:
    tapped = tap()
    [event_id] = write(relay_engine, [(1, 1)], title="Дюна 🎈")
    with running_relay(fresh_settings, fresh_broker):
        eventually(lambda: backlog(relay_engine) == 0)
    [message] = tapped.drain()
    body = json.loads(str(message["body"]))
    assert (message["id"], message["routing_key"]) == (event_id, "book.updated.v1")
    assert (body["id"], body["data"]["title"]) == (event_id, "Дюна 🎈")


def test_events_of_each_book_appear_in_version_order(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
) -> None:
    tapped = tap()
    with running_relay(fresh_settings, fresh_broker):
        for version in range(1, 41):
            write(relay_engine, [(book_id, version) for book_id in range(1, 26)])
        eventually(lambda: backlog(relay_engine) == 0)
    assert versions_by_first_appearance(tapped) == {book: list(range(1, 41)) for book in range(1, 26)}


class NoLeases(Leases):
    """Every relay takes every shard: order must not rest on leases."""

    def tend(self, *_: object) -> frozenset[int]:
        return frozenset(range(64))


def returned(metrics: RelayMetrics) -> float:
    return metrics.registry.get_sample_value("relay_events_total", {"outcome": "returned"}) or 0


@pytest.fixture
def sent_by_two_relays_without_leases(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
) -> Callable[[], Tap]:
    """What ten books' sixty versions look like to a queue that at first does not want all of them."""

    def send() -> Tap:
        tapped = tap()
        queue = Queue(tapped.queue, EVENTS)(tapped.connection.default_channel)
        queue.unbind_from(EVENTS, "book.#")
        queue.bind_to(EVENTS, "book.updated.v1")
        for version in range(1, 61):
            what = "created" if version % 3 == 1 else "updated"
            write(relay_engine, [(book_id, version) for book_id in range(1, 11)], what=what)
        with (
            running_relay(fresh_settings, fresh_broker, "relay-1", NoLeases) as (_, first),
            running_relay(fresh_settings, fresh_broker, "relay-2", NoLeases) as (_, second),
        ):
            eventually(lambda: returned(first) and returned(second))
            queue.bind_to(EVENTS, "book.#")
            eventually(lambda: backlog(relay_engine) == 0, within=20)
        return tapped

    return send


def test_two_relays_without_leases_repeat_events_but_never_reorder_them(
    sent_by_two_relays_without_leases: Callable[[], Tap],
) -> None:
    tapped = sent_by_two_relays_without_leases()
    assert versions_by_first_appearance(tapped) == {book: list(range(1, 61)) for book in range(1, 11)}
    assert len(tapped.messages) > 600, "no event was sent by both: the test proves nothing"


def test_two_relays_without_leases_that_do_not_wait_for_confirms_reorder_events(
    sent_by_two_relays_without_leases: Callable[[], Tap], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above can fail."""
    for name in ("next_head", "forget"):
        monkeypatch.setattr(Lanes, name, getattr(Lanes, name))  # so that it is put back
    no_wait_for_confirms.install()
    versions = versions_by_first_appearance(sent_by_two_relays_without_leases())
    assert any(found != sorted(found) for found in versions.values())


def test_event_that_no_queue_wants_stays_in_the_outbox_until_one_does(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
) -> None:
    write(relay_engine, [(book_id, version) for version in (1, 2) for book_id in (1, 2, 3)])
    with running_relay(fresh_settings, fresh_broker) as (_, metrics):
        eventually(lambda: metrics.registry.get_sample_value("relay_events_total", {"outcome": "returned"}))
        assert backlog(relay_engine) == 6
        assert holds.held_ids(relay_engine) == set(), "an outage counts as nobody's attempt"
        tapped = tap()
        eventually(lambda: backlog(relay_engine) == 0)
    assert versions_by_first_appearance(tapped) == {book: [1, 2] for book in (1, 2, 3)}


def test_book_that_is_held_back_waits_while_the_others_go_on_and_retry_brings_it_back_in_order(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
) -> None:
    tapped = tap()
    write(relay_engine, [(1, 1), (2, 1), (1, 2), (2, 2)])
    [poison, *_] = outbox.read_waiting(relay_engine, [shard_of(1)], 10).events
    for _ in range(holds.ATTEMPTS_BEFORE_PARKING):
        holds.hold(relay_engine, poison, "312 NO_ROUTE")
    with running_relay(fresh_settings, fresh_broker):
        eventually(lambda: backlog(relay_engine) == 2)
        [held] = holds.list_held(relay_engine)
        assert (held.book_id, held.next_try_at, held.waiting, held.last_error) == (1, None, 2, "312 NO_ROUTE")
        assert versions_by_first_appearance(tapped) == {2: [1, 2]}
        assert holds.release(relay_engine, [1]) == 1
        eventually(lambda: backlog(relay_engine) == 0)
    assert versions_by_first_appearance(tapped)[1] == [1, 2]


def test_attempts_grow_and_the_next_try_comes_later_each_time(relay_engine: Engine) -> None:
    write(relay_engine, [(1, 1)])
    [event] = outbox.read_waiting(relay_engine, range(64), 10).events
    waits = []
    for _ in range(4):
        holds.hold(relay_engine, event, "no")
        with relay_engine.connect() as connection:
            waits.append(
                connection.execute(
                    text("SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), next_try_at) FROM held_book")
                ).scalar_one()
            )
    assert [attempt.attempts for attempt in holds.list_held(relay_engine)] == [4]
    assert waits[0] < 1_600_000
    assert waits[3] > 3_500_000
    assert outbox.read_waiting(relay_engine, range(64), 10).events == [], "a held book is not read"


def test_relays_share_the_shards_and_a_leaving_one_gives_its_own_back(relay_engine: Engine) -> None:
    first, second = Leases(relay_engine, "first"), Leases(relay_engine, "second")
    first.seed()
    assert len(first.tend()) == 64
    assert second.tend() == frozenset()
    mine = first.tend()
    others = second.tend()
    assert (len(mine), len(others), mine & others) == (32, 32, frozenset())
    second.leave()
    assert len(first.tend()) == 64


def test_shards_of_a_dead_relay_are_taken_over_when_its_lease_ends(relay_engine: Engine) -> None:
    dead, heir = Leases(relay_engine, "dead"), Leases(relay_engine, "heir")
    dead.seed()
    dead.tend()
    eventually(lambda: len(heir.tend()) == 64, within=5)


def test_frozen_relay_holds_no_lock_between_its_statements(
    relay_engine: Engine, fresh_settings: DatabaseSettings
) -> None:
    """Looked at from another connection, after each statement, as if the relay were frozen there."""
    leases, seen = Leases(relay_engine, "frozen"), list[int]()
    leases.seed()
    others = thread_engine(fresh_settings, autocommit=True)

    def look(connection: Connection, *_: object) -> None:
        mine = connection.connection.driver_connection.thread_id()  # type: ignore[union-attr]
        with others.connect() as looker:
            statement = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = :mine"
            seen.append(looker.execute(text(statement), {"mine": mine}).scalar_one())

    event.listen(relay_engine, "after_cursor_execute", look)
    leases.tend()
    event.remove(relay_engine, "after_cursor_execute", look)
    others.dispose()
    assert len(seen) > 4
    assert set(seen) == {0}


def test_settling_twice_is_harmless(relay_engine: Engine) -> None:
    write(relay_engine, [(1, 1), (1, 2)])
    first, second = outbox.read_waiting(relay_engine, range(64), 10).events
    outbox.settle(relay_engine, [first.row_id])
    outbox.settle(relay_engine, [first.row_id])
    assert outbox.read_waiting(relay_engine, range(64), 10).events == [second]


def test_backlog_names_the_age_of_the_oldest_event(relay_engine: Engine) -> None:
    assert outbox.read_backlog(relay_engine) == outbox.Backlog(0, None)
    write(relay_engine, [(1, 1)])
    found = outbox.read_backlog(relay_engine)
    expected = (datetime.now(UTC) - NOW).total_seconds()
    assert found.rows == 1
    assert found.oldest_unsent_seconds == pytest.approx(expected, abs=5)


def test_reading_is_fair_to_every_shard_and_keeps_each_books_order(relay_engine: Engine) -> None:
    hot = [(1, version) for version in range(1, 300)]
    write(relay_engine, [*hot, (2, 1), (3, 1)])
    work = outbox.read_waiting(relay_engine, range(64), 64)
    assert {event.book_id for event in work.events} == {1, 2, 3}
    assert [event.row_id for event in work.events] == sorted(event.row_id for event in work.events)
    assert work.unfinished == {shard_of(1)}, "only the hot book's shard has more"
    assert outbox.read_waiting(relay_engine, [], 64) == outbox.Work([], frozenset())


def test_shard_with_more_is_read_on_behind_what_is_in_hand(relay_engine: Engine) -> None:
    write(relay_engine, [(1, version) for version in range(1, 131)])
    shard = shard_of(1)
    first = outbox.read_waiting(relay_engine, [shard], 100)
    assert (len(first.events), first.unfinished) == (100, frozenset({shard}))
    second = outbox.read_waiting(relay_engine, [shard], 100, {shard: 100})
    assert (len(second.events), second.unfinished) == (130, frozenset())
    assert second.events[:100] == first.events
