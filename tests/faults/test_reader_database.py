"""A consumer whose database fails in the middle of its work, each time for real."""

import signal
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from common.errors import ContendedError
from devstack.stack import Stack
from grpc_reader.consumer import Consumer
from tests.fixtures.reader import Publisher, make_event
from tests.waiting import eventually

Recorded = Callable[[], list[tuple[int, int, int]]]
LOCK = "SELECT * FROM recorder WHERE id = 1 FOR UPDATE"
WAITS = (
    "SELECT id FROM information_schema.processlist"
    " WHERE db = DATABASE() AND info LIKE :begin AND id <> CONNECTION_ID()"
)


def said(caplog: pytest.LogCaptureFixture, message: str, error: str = "") -> bool:
    found = [each for each in caplog.records if each.getMessage() == message]
    return any(error in str(vars(each).get("error")) for each in found)


def running(engine: Engine, begin: str) -> int:
    """The connection that runs a statement which begins so; 0 if there is none."""
    with engine.connect() as connection:
        found = connection.execute(text(WAITS), {"begin": f"{begin}%"}).scalar()
        connection.rollback()
    return int(found or 0)


def test_a_database_that_is_down_is_waited_for_with_the_events_in_hand(  # noqa: PLR0913, PLR0917
    consumer: Consumer,
    publisher: Publisher,
    recorded: Recorded,
    reader_engine: Engine,
    stack: Stack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher.publish(make_event(1, 1))
    eventually(recorded)
    reader_engine.dispose()
    stack.database.stop()
    try:
        publisher.publish(make_event(1, 2), make_event(1, 3))
        eventually(lambda: said(caplog, "record postponed"))
        eventually(lambda: publisher.count("bookstore.reader") == 0, because="they are in hand")
    finally:
        stack.database.start()
    eventually(lambda: recorded() == [(1, 1, 1), (2, 1, 2), (3, 1, 3)], within=20)
    assert not said(caplog, "broker not reached"), "the connection to the broker outlives it"
    assert consumer.connected


def test_a_frozen_database_costs_neither_the_connection_to_the_broker_nor_an_event(
    consumer: Consumer,
    publisher: Publisher,
    recorded: Recorded,
    stack: Stack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each attempt lasts until its time-out, and between them the broker must be told that we live."""

    def postponed() -> int:
        return sum(each.getMessage() == "record postponed" for each in caplog.records)

    publisher.publish(make_event(1, 1))
    eventually(recorded)
    database = stack.database.processes[-1]
    database.signal(signal.SIGSTOP)
    try:
        publisher.publish(make_event(1, 2))
        eventually(lambda: postponed() >= 3, within=60)
    finally:
        database.signal(signal.SIGCONT)
    eventually(lambda: recorded() == [(1, 1, 1), (2, 1, 2)], within=20)
    assert not said(caplog, "broker not reached")
    assert consumer.connected


OTHER = (
    "INSERT INTO delivered_event SELECT 2, UUID(), type, book_id, 2, event_time, record_time, body"
    " FROM delivered_event WHERE position = 1"
)


@pytest.mark.parametrize(
    ("obstacle", "statement"), [(LOCK, "SELECT recorder"), (OTHER, "INSERT INTO delivered")]
)
def test_a_connection_that_is_killed_inside_the_record_costs_no_event(  # noqa: PLR0913, PLR0917
    consumer: Consumer,
    publisher: Publisher,
    recorded: Recorded,
    reader_engine: Engine,
    obstacle: str,
    statement: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It waits for the counter row, or for a row of its own key that somebody has not committed."""
    publisher.publish(make_event(1, 1))
    eventually(recorded)
    with reader_engine.connect() as blocker:
        blocker.execute(text(obstacle))
        publisher.publish(make_event(1, 2))
        found = eventually(lambda: running(reader_engine, statement), because="it waits for the lock")
        blocker.exec_driver_sql(f"KILL {found}")
        eventually(lambda: said(caplog, "record postponed", "cannot be reached"))
        blocker.rollback()
    eventually(lambda: recorded() == [(1, 1, 1), (2, 1, 2)], within=20)


def test_a_deadlock_undoes_the_record_which_is_tried_again(
    consumer: Consumer,
    publisher: Publisher,
    recorded: Recorded,
    reader_engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The consumer has the recorder row and wants a waiting event; somebody else the other way round."""
    publisher.publish(make_event(1, 1), make_event(1, 3))
    eventually(recorded)
    with reader_engine.connect() as other:
        waiting = text("SELECT COUNT(*) FROM waiting_event")
        eventually(lambda: other.execute(waiting).scalar() == 1)
        # Much to undo, so that the database chooses the other side.
        many = (
            "INSERT INTO waiting_event SELECT 900 + seq.n, 2, UUID(), body, received_at FROM waiting_event, ("
        )
        numbers = " UNION ALL ".join(f"SELECT {number} AS n" for number in range(100))
        other.execute(text(f"{many}{numbers}) AS seq WHERE book_id = 1"))
        other.execute(text("SELECT * FROM waiting_event WHERE book_id = 1 FOR UPDATE"))
        publisher.publish(make_event(1, 2))
        eventually(lambda: running(reader_engine, "DELETE FROM waiting_event"))
        other.execute(text(LOCK))
        eventually(lambda: said(caplog, "record postponed", str(ContendedError("Another change of"))))
        other.rollback()
    eventually(lambda: recorded() == [(1, 1, 1), (2, 1, 2), (3, 1, 3)], within=20)
