from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from threading import Barrier, Thread

import pytest
from sqlalchemy import Engine, text

from common.database import thread_engine
from common.errors import ContendedError
from common.settings import BrokerSettings, DatabaseSettings
from outbox_relay import history, outbox, replay
from outbox_relay.keeper import HistoryKeeper
from outbox_relay.replay import Selection
from tests.fixtures.relay import NOW, Tap, backlog, running_relay, write
from tests.waiting import eventually

TODAY = NOW.date()


@pytest.fixture
def days(relay_engine: Engine) -> Callable[[], list[date]]:
    """The days that have a partition; at first none has."""

    def found() -> list[date]:
        return history.days(relay_engine)

    if found():
        history.drop_days(relay_engine, date.max)
    return found


def settle_all(engine: Engine) -> None:
    work = outbox.read_waiting(engine, range(64), 10_000)
    outbox.settle(engine, [event.row_id for event in work.events])


def sent(engine: Engine) -> list[tuple[int, int]]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT book_id, book_version FROM sent_event ORDER BY created_at, book_id, book_version")
        )
        return [(row[0], row[1]) for row in rows]


def waiting(engine: Engine) -> list[tuple[int, str]]:
    """(book id, event id) of the outbox, in the order of its rows."""
    events = outbox.read_waiting(engine, range(64), 100_000).events
    return [(event.book_id, event.event_id) for event in events]


def test_finding_work_does_not_read_more_rows_when_thousands_of_events_were_sent(
    fresh_settings: DatabaseSettings,
) -> None:
    # The server counts for each connection what it reads.
    engine = thread_engine(fresh_settings, autocommit=True, pool_size=1)

    def rows_read() -> int:
        with engine.connect() as connection:
            counts = connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'")).all()
        return sum(int(count) for _, count in counts)

    def cost() -> int:
        write(engine, [(book_id, 1) for book_id in range(1, 51)])
        before = rows_read()
        assert len(waiting(engine)) == 50
        found = rows_read() - before
        settle_all(engine)
        return found

    first = cost()
    for version in range(2, 12):
        write(engine, [(book_id, version) for book_id in range(1, 501)])
        settle_all(engine)
    assert cost() < first + 100, "the servers themselves differ by some from time to time"
    engine.dispose()


def test_event_that_was_sent_is_in_the_history_and_nowhere_else(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
) -> None:
    tap()
    write(relay_engine, [(1, 1), (2, 1), (1, 2)])
    with running_relay(fresh_settings, fresh_broker):
        eventually(lambda: backlog(relay_engine) == 0)
    assert sent(relay_engine) == [(1, 1), (1, 2), (2, 1)]


def test_event_that_is_settled_twice_is_in_the_history_once(relay_engine: Engine) -> None:
    write(relay_engine, [(1, 1)])
    work = outbox.read_waiting(relay_engine, range(64), 10)
    with relay_engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO sent_event SELECT created_at, event_id, book_id, book_version, type, body,"
                " UTC_TIMESTAMP(6) FROM outbox"
            )
        )
    outbox.settle(relay_engine, [event.row_id for event in work.events])
    assert (sent(relay_engine), backlog(relay_engine)) == ([(1, 1)], 0)


def test_replayed_events_have_their_old_ids_and_each_books_order(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
) -> None:
    ids = write(relay_engine, [(1, 1), (2, 1), (1, 2), (1, 3)])
    settle_all(relay_engine)
    assert replay.replay(relay_engine, Selection(book_ids=(1,)), dry_run=True) == 3
    assert backlog(relay_engine) == 0
    assert replay.replay(relay_engine, Selection(book_ids=(1,))) == 3
    assert waiting(relay_engine) == [(1, ids[0]), (1, ids[2]), (1, ids[3])]
    tapped = tap()
    with running_relay(fresh_settings, fresh_broker):
        eventually(lambda: backlog(relay_engine) == 0)
    assert [message["id"] for message in tapped.drain()] == [ids[0], ids[2], ids[3]]
    assert len(sent(relay_engine)) == 4


def test_replay_of_many_goes_on_page_by_page_and_keeps_the_order(relay_engine: Engine) -> None:
    for version in range(1, 26):
        write(relay_engine, [(book_id, version) for book_id in range(1, 101)])
    settle_all(relay_engine)
    assert replay.replay(relay_engine, Selection()) == 2500
    with relay_engine.connect() as connection:
        rows = connection.execute(text("SELECT book_id, book_version FROM outbox ORDER BY id")).all()
    for book_id in range(1, 101):
        assert [row[1] for row in rows if row[0] == book_id] == list(range(1, 26))


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(since=NOW), 2),
        (Selection(since=NOW + timedelta(microseconds=1)), 0),
        (Selection(until=NOW), 0),
        (Selection(until=NOW + timedelta(microseconds=1)), 2),
        (Selection(event_type="bookstore.book.deleted.v1"), 1),
        (Selection(book_ids=(2,), event_type="bookstore.book.updated.v1"), 0),
        (Selection(book_ids=(1, 2, 3)), 2),
    ],
)
def test_replay_takes_what_meets_all_conditions(
    relay_engine: Engine, selection: Selection, expected: int
) -> None:
    write(relay_engine, [(1, 1)])
    write(relay_engine, [(2, 1)], what="deleted")
    settle_all(relay_engine)
    assert replay.replay(relay_engine, selection) == expected


def test_replay_leaves_an_event_that_waits_already_alone(relay_engine: Engine) -> None:
    write(relay_engine, [(1, 1)])
    settle_all(relay_engine)
    assert replay.replay(relay_engine, Selection()) == 1
    assert replay.replay(relay_engine, Selection()) == 0


def test_a_day_gets_the_events_of_its_changes_up_to_the_last_microsecond(
    relay_engine: Engine, days: Callable[[], list[date]]
) -> None:
    made = history.make_days(relay_engine, TODAY)
    assert made == days() == [TODAY + timedelta(days=ahead) for ahead in range(history.DAYS_AHEAD + 1)]
    assert history.make_days(relay_engine, TODAY) == []
    midnight = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC) + timedelta(days=1)
    for book_id, moment in [(1, midnight - timedelta(microseconds=1)), (2, midnight)]:
        write(relay_engine, [(book_id, 1)])
        with relay_engine.begin() as connection:
            connection.execute(
                text("UPDATE outbox SET created_at = :moment"), {"moment": moment.replace(tzinfo=None)}
            )
        settle_all(relay_engine)
    assert [history.count_events(relay_engine, day) for day in days()[:3]] == [1, 1, 0]


def test_dropping_old_days_takes_them_whole_and_leaves_the_others(
    relay_engine: Engine, days: Callable[[], list[date]]
) -> None:
    history.make_days(relay_engine, TODAY)
    write(relay_engine, [(1, 1)])
    settle_all(relay_engine)
    assert history.drop_days(relay_engine, TODAY) == []
    assert sent(relay_engine) == [(1, 1)]
    assert history.drop_days(relay_engine, TODAY + timedelta(days=1)) == [TODAY]
    assert sent(relay_engine) == []
    assert TODAY not in days()


def test_days_are_made_once_however_many_relays_begin_at_once(
    fresh_settings: DatabaseSettings, days: Callable[[], list[date]]
) -> None:
    engine = thread_engine(fresh_settings, autocommit=True, pool_size=4)
    start, failures = Barrier(4), list[Exception]()

    def make() -> None:
        start.wait()
        try:
            history.make_days(engine, TODAY)
        except ContendedError:
            pass
        except Exception as error:  # noqa: BLE001  shown below
            failures.append(error)

    threads = [Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    assert failures == []
    assert len(days()) == history.DAYS_AHEAD + 1


def test_a_reader_that_holds_the_history_delays_its_change_by_seconds_and_not_for_ever(
    relay_engine: Engine, days: Callable[[], list[date]]
) -> None:
    with relay_engine.connect().execution_options(isolation_level="REPEATABLE READ") as foreign:
        foreign.execute(text("SELECT COUNT(*) FROM sent_event"))
        with pytest.raises(ContendedError):
            history.make_days(relay_engine, TODAY)
        foreign.rollback()
    assert days() == []


def test_the_keeper_makes_the_coming_days_and_drops_those_past_their_time(
    relay_engine: Engine, days: Callable[[], list[date]]
) -> None:
    today = history.today_utc(relay_engine)
    for ago in (9, 4):
        history.make_days(relay_engine, today - timedelta(days=ago))
    keeper = HistoryKeeper(relay_engine, days=3)
    keeper.start()
    expected = [today + timedelta(days=ahead) for ahead in range(-3, history.DAYS_AHEAD + 1)]
    eventually(lambda: days() == expected)
    keeper.close()
