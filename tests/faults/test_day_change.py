"""Midnight under load: events on both sides of it, days that have no partition, days that are dropped."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import Engine, text

from outbox_relay import history
from outbox_relay.keeper import HistoryKeeper
from outbox_relay.outbox import settle
from tests.fixtures.relay import (
    Relaying,
    Tap,
    await_more,
    backlog,
    versions_by_first_appearance,
    write,
    writing,
)
from tests.waiting import eventually

BOOKS = range(1, 21)
INSTANT = timedelta(microseconds=1)


@pytest.fixture
def today(relay_engine: Engine) -> date:
    """It has a partition, and so have yesterday and tomorrow; the day before and the day after have none."""
    found = history.today_utc(relay_engine)
    if days := history.days(relay_engine):
        history.drop_days(relay_engine, days[-1] + timedelta(days=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "DAYS_AHEAD", 2)
        history.make_days(relay_engine, found - timedelta(days=1))
    return found


def midnight(day: date) -> datetime:
    """The first instant of the day."""
    return datetime.combine(day, time(), UTC)


def write_at(engine: Engine, version: int, moment: datetime) -> None:
    """Every book changes, at that moment by the API's clock."""
    write(engine, [(book_id, version) for book_id in BOOKS], at=moment)


def kept(engine: Engine) -> dict[str, int]:
    """How many events each partition of the history holds."""
    found = {str(day): history.count_events(engine, day) for day in history.days(engine)}
    with engine.connect() as connection:
        rest = connection.execute(text("SELECT COUNT(*) FROM sent_event PARTITION (later)"))
        return found | {"later": int(rest.scalar_one())}


def test_events_around_midnight_go_out_in_order_and_each_into_its_own_day(
    relay_engine: Engine, relaying: Relaying, tap: Callable[[], Tap], today: date
) -> None:
    tapped = tap()
    tomorrow = midnight(today + timedelta(days=1))
    # A clock that is set back at midnight gives a later version an earlier day.
    moments = [midnight(today) - INSTANT, midnight(today), tomorrow - INSTANT, tomorrow, tomorrow - INSTANT]
    with relaying():
        for version, moment in enumerate(moments, 1):
            write_at(relay_engine, version, moment)
        eventually(lambda: backlog(relay_engine) == 0)
    assert versions_by_first_appearance(tapped) == {book: [1, 2, 3, 4, 5] for book in BOOKS}
    each = len(BOOKS)
    assert list(kept(relay_engine).values()) == [each, 3 * each, each, 0]


def test_events_of_days_without_partition_are_sent_and_found_in_their_day_once_it_is_made(
    relay_engine: Engine, relaying: Relaying, tap: Callable[[], Tap], today: date
) -> None:
    tapped = tap()
    ahead = [midnight(today + timedelta(days=days)) for days in (2, 3, 30)]
    with relaying():
        for version, moment in enumerate(ahead, 1):
            write_at(relay_engine, version, moment)
        eventually(lambda: backlog(relay_engine) == 0)
        assert kept(relay_engine)["later"] == 3 * len(BOOKS)
        history.make_days(relay_engine, today)
        write_at(relay_engine, 4, ahead[0])
        eventually(lambda: backlog(relay_engine) == 0)
    assert versions_by_first_appearance(tapped) == {book: [1, 2, 3, 4] for book in BOOKS}
    counts = [history.count_events(relay_engine, moment.date()) for moment in ahead[:2]]
    assert (counts, kept(relay_engine)["later"]) == ([2 * len(BOOKS), len(BOOKS)], len(BOOKS))


def test_event_that_is_settled_again_after_midnight_is_in_the_history_once(
    relay_engine: Engine, today: date
) -> None:
    [event_id] = write(relay_engine, [(1, 1)], at=midnight(today) - INSTANT)
    with relay_engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM outbox")).one()._asdict()
        for _ in range(2):
            settle(relay_engine, [row["id"]])
            names = ", ".join(row)
            values = ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO outbox ({names}) VALUES ({values})"), row)  # noqa: S608  its own
        settle(relay_engine, [row["id"]])
        found = connection.execute(text("SELECT event_id FROM sent_event")).scalars().all()
    assert found == [event_id]


@pytest.mark.long
def test_days_are_made_and_dropped_again_and_again_while_relays_settle_into_them(
    relay_engine: Engine, relaying: Relaying, tap: Callable[[], Tap], today: date
) -> None:
    tapped = tap()
    moments = [midnight(today + timedelta(days=days)) - INSTANT for days in (-3, 0, 1, 4)]
    with relaying(), relaying(owner="relay-2"), writing(relay_engine, BOOKS, moments=moments) as versions:
        for day in (today + timedelta(days=days) for days in range(8)):
            # Midnight comes every half second: the keeper makes a day and drops the oldest.
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(history, "today_utc", lambda _, day=day: day)
                HistoryKeeper(relay_engine, days=1).keep()
            await_more(versions, 10)
    with relaying():
        eventually(lambda: backlog(relay_engine) == 0)
    assert versions_by_first_appearance(tapped) == dict.fromkeys(BOOKS, versions)
    days = history.days(relay_engine)
    assert days[0] == today + timedelta(days=6)
    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days))
