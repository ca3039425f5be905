"""Events that no queue wants, beside those that one does: each holds back its own book and nothing else."""

import resource
import time
from collections.abc import Callable

from sqlalchemy import Engine, text

from common.settings import BrokerSettings, DatabaseSettings
from outbox_relay import holds
from outbox_relay.leases import list_relays
from tests.fixtures.relay import Tap, backlog, running_relay, versions_by_first_appearance, write
from tests.waiting import eventually


def spoil(engine: Engine, book_ids: range) -> None:
    """Give the books one event each that no queue is bound for."""
    write(engine, [(book_id, 1) for book_id in book_ids])
    with engine.connect() as connection:
        connection.execute(
            text("UPDATE outbox SET type = 'bookstore.foo.v1' WHERE book_id BETWEEN :first AND :last"),
            {"first": book_ids[0], "last": book_ids[-1]},
        )


def returned(registry: object) -> float:
    return registry.get_sample_value("relay_events_total", {"outcome": "returned"}) or 0.0  # type: ignore[attr-defined]


def test_hundreds_of_events_that_nobody_wants_delay_no_other_book(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
) -> None:
    tapped = tap()
    spoil(relay_engine, range(1000, 1300))
    with running_relay(fresh_settings, fresh_broker) as (_, metrics):
        eventually(lambda: returned(metrics.registry) > 300)
        begun = time.monotonic()
        write(relay_engine, [(1, 1)])
        eventually(lambda: versions_by_first_appearance(tapped) == {1: [1]})
        assert time.monotonic() - begun < 3
        for version in range(2, 40):
            write(relay_engine, [(book_id, version) for book_id in range(1, 11)])
        eventually(lambda: backlog(relay_engine) == 300, within=15)
    found = versions_by_first_appearance(tapped)
    assert found == {1: list(range(1, 40))} | {book: list(range(2, 40)) for book in range(2, 11)}


def test_an_event_that_nobody_wants_is_held_back_once_others_get_through(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
) -> None:
    tap()
    spoil(relay_engine, range(7, 8))
    with running_relay(fresh_settings, fresh_broker) as (_, metrics):
        eventually(lambda: returned(metrics.registry) >= 2)
        assert holds.list_held(relay_engine) == [], "nothing else was sent, so nobody knows whose fault it is"
        for version in range(1, 4):
            before = returned(metrics.registry)
            write(relay_engine, [(1, version)])
            eventually(lambda: returned(metrics.registry) > before + 1)  # noqa: B023  called at once
        [held] = holds.list_held(relay_engine)
        assert (held.book_id, held.attempts >= 1, "NO_ROUTE" in held.last_error) == (7, True, True)


def test_an_outage_of_all_is_nobodys_attempt_and_shows_in_the_status(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
) -> None:
    write(relay_engine, [(book_id, 1) for book_id in range(1, 501)])
    with running_relay(fresh_settings, fresh_broker) as (_, metrics):
        eventually(lambda: returned(metrics.registry) > 500, within=20)
        eventually(lambda: [relay for relay in list_relays(relay_engine) if "NO_ROUTE" in relay.trouble])
        assert holds.list_held(relay_engine) == []
        tapped = tap()
        begun = time.monotonic()
        eventually(lambda: backlog(relay_engine) == 0)
        assert time.monotonic() - begun < 5, "after the first confirm all go at full speed"
        eventually(lambda: [relay.trouble for relay in list_relays(relay_engine)] == [""])
    assert versions_by_first_appearance(tapped) == {book_id: [1] for book_id in range(1, 501)}


def test_a_relay_that_waits_for_a_queue_does_not_spin(
    relay_engine: Engine, fresh_settings: DatabaseSettings, fresh_broker: BrokerSettings
) -> None:
    write(relay_engine, [(1, 1)])
    with running_relay(fresh_settings, fresh_broker) as (_, metrics):
        eventually(lambda: returned(metrics.registry) >= 1)
        before, used = returned(metrics.registry), resource.getrusage(resource.RUSAGE_SELF)
        eventually(lambda: returned(metrics.registry) >= before + 4)
        now = resource.getrusage(resource.RUSAGE_SELF)
    # Four seconds of waiting, the test's own looking included.
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < 0.8
