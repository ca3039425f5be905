from collections.abc import Callable

from sqlalchemy import Engine, text

from common.events import shard_of
from common.settings import BrokerSettings, DatabaseSettings
from outbox_relay import holds, outbox, replay
from outbox_relay.replay import Selection
from tests.fixtures.relay import Tap, backlog, running_relay, versions_by_first_appearance, write
from tests.waiting import eventually


def park(engine: Engine, book_id: int) -> None:
    work = outbox.read_waiting(engine, [shard_of(book_id)], 10_000)
    [first, *_] = [event for event in work.events if event.book_id == book_id]
    for _ in range(holds.ATTEMPTS_BEFORE_PARKING):
        holds.hold(engine, first, "312 NO_ROUTE")


def count(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one())  # noqa: S608


def stand_twice(engine: Engine) -> None:
    """Every parked event is in the outbox, too, as a replay leaves it that meets the move."""
    columns = "shard, event_id, book_id, book_version, type, body, created_at"
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO outbox ({columns}) SELECT {columns} FROM parked_event"))  # noqa: S608


def test_events_of_a_parked_book_are_moved_aside_and_count_as_waiting(relay_engine: Engine) -> None:
    write(relay_engine, [(1, version) for version in range(1, 1201)] + [(2, 1)])
    park(relay_engine, 1)
    assert (holds.move_aside(relay_engine), holds.move_aside(relay_engine)) == (1000, 200)
    assert (count(relay_engine, "outbox"), count(relay_engine, "parked_event")) == (1, 1200)
    assert backlog(relay_engine) == 1201
    [held] = holds.list_held(relay_engine)
    assert (held.next_try_at, held.waiting) == (None, 1200)


def test_a_book_that_is_only_held_back_is_not_moved(relay_engine: Engine) -> None:
    write(relay_engine, [(1, 1)])
    [event] = outbox.read_waiting(relay_engine, range(64), 10).events
    holds.hold(relay_engine, event, "no")
    assert holds.move_aside(relay_engine) == 0
    assert count(relay_engine, "outbox") == 1


def test_a_release_brings_everything_back_before_what_came_meanwhile(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
) -> None:
    tapped = tap()
    write(relay_engine, [(1, 1), (1, 2)])
    park(relay_engine, 1)
    holds.move_aside(relay_engine)
    write(relay_engine, [(1, 3), (2, 1)])
    with running_relay(fresh_settings, fresh_broker):
        eventually(lambda: backlog(relay_engine) == 3)
        assert versions_by_first_appearance(tapped) == {2: [1]}
        eventually(lambda: count(relay_engine, "outbox") == 0, because="the late one is moved aside, too")
        assert holds.release(relay_engine, [1]) == 1
        eventually(lambda: backlog(relay_engine) == 0)
    assert versions_by_first_appearance(tapped)[1] == [1, 2, 3]


def test_a_parked_event_that_is_replayed_again_waits_once_and_is_released_in_order(
    relay_engine: Engine,
) -> None:
    ids = write(relay_engine, [(1, 1), (1, 2)])
    outbox.settle(
        relay_engine, [event.row_id for event in outbox.read_waiting(relay_engine, range(64), 9).events]
    )
    assert replay.replay(relay_engine, Selection()) == 2
    park(relay_engine, 1)
    holds.move_aside(relay_engine)
    assert replay.replay(relay_engine, Selection()) == 0
    holds.move_aside(relay_engine)
    assert (count(relay_engine, "outbox"), count(relay_engine, "parked_event")) == (0, 2)
    assert holds.release(relay_engine, [1]) == 1
    assert [event.event_id for event in outbox.read_waiting(relay_engine, range(64), 9).events] == ids
    assert count(relay_engine, "parked_event") == 0


def test_a_parked_event_that_stands_in_the_outbox_too_is_moved_aside_once(relay_engine: Engine) -> None:
    write(relay_engine, [(1, 1), (1, 2)])
    park(relay_engine, 1)
    holds.move_aside(relay_engine)
    stand_twice(relay_engine)
    write(relay_engine, [(1, 3)])
    assert holds.move_aside(relay_engine) == 3
    assert (count(relay_engine, "outbox"), count(relay_engine, "parked_event")) == (0, 3)


def test_a_parked_event_that_stands_in_the_outbox_too_is_released_once_and_so_are_the_others(
    relay_engine: Engine,
) -> None:
    write(relay_engine, [(1, 1), (2, 1)])
    for book_id in (1, 2):
        park(relay_engine, book_id)
    holds.move_aside(relay_engine)
    stand_twice(relay_engine)
    assert holds.release(relay_engine, [1, 2]) == 2
    assert (count(relay_engine, "outbox"), count(relay_engine, "parked_event")) == (2, 0)


def test_a_parked_event_whose_row_id_has_been_given_again_is_not_lost(relay_engine: Engine) -> None:
    write(relay_engine, [(1, 1)])
    park(relay_engine, 1)
    holds.move_aside(relay_engine)
    write(relay_engine, [(2, 1)])
    with relay_engine.begin() as connection:
        connection.execute(text("UPDATE outbox SET id = (SELECT id FROM parked_event)"))
    holds.release(relay_engine, [1])
    assert (count(relay_engine, "outbox"), count(relay_engine, "parked_event")) == (1, 1)


def test_a_move_that_meets_a_release_leaves_the_book_to_it(relay_engine: Engine) -> None:
    write(relay_engine, [(1, 1)])
    park(relay_engine, 1)
    with relay_engine.connect().execution_options(isolation_level="READ COMMITTED") as operator:
        operator.execute(text("SELECT * FROM held_book FOR UPDATE"))
        assert holds.move_aside(relay_engine) == 0
        operator.rollback()
    assert count(relay_engine, "outbox") == 1


def test_a_parked_book_with_a_long_queue_slows_no_other_of_its_shard(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
) -> None:
    neighbour = next(book for book in range(2, 10_000) if shard_of(book) == shard_of(1))
    tapped = tap()
    write(relay_engine, [(1, version) for version in range(1, 3001)])
    park(relay_engine, 1)
    write(relay_engine, [(neighbour, version) for version in range(1, 4)])
    with running_relay(fresh_settings, fresh_broker):
        eventually(lambda: versions_by_first_appearance(tapped) == {neighbour: [1, 2, 3]}, within=5)
        eventually(lambda: count(relay_engine, "outbox") == 0, because="moved aside, a thousand a second")
    assert backlog(relay_engine) == 3000
