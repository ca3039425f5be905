"""The columns of the tables and the ids of the messages are evidence of their own, beside the bodies."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.faults.checker import Kind, check
from tests.faults.collecting import collect
from tests.faults.journal import Journal
from tests.fixtures.relay import write

_ROWS = text("SELECT event_id, body FROM outbox ORDER BY id")
_RECORD = (
    "INSERT INTO delivered_event"
    " (position, event_id, type, book_id, book_version, event_time, record_time, body)"
    " SELECT id, event_id, type, book_id, book_version, created_at, created_at, body FROM outbox"
)


def kinds(engine: Engine, folder: Path, *, spoil: str = "", message_id: str = "") -> set[Kind]:
    """What the checker finds after two changes, but for the book itself and a version that is not there."""
    write(engine, [(1, 1), (1, 2)])
    with engine.begin() as connection:
        wire = [(row[0], row[1]) for row in connection.execute(_ROWS)]
        connection.exec_driver_sql(_RECORD)
        if spoil:
            connection.exec_driver_sql(f"UPDATE {spoil} WHERE book_version = 2")
    wire[1] = (message_id or wire[1][0], wire[1][1])
    found = check(collect(Journal(folder / "journal"), engine, wire))
    return {violation.kind for violation in found} - {Kind.HALF, Kind.GAP}


def test_events_that_are_the_same_everywhere_are_no_violation(relay_engine: Engine, tmp_path: Path) -> None:
    assert kinds(relay_engine, tmp_path) == set()


@pytest.mark.parametrize("table", ["outbox", "delivered_event"])
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("event_id = UUID()", Kind.UNCOMMITTED),
        ("book_id = 2", Kind.ALTERED),
        ("book_version = 3", Kind.ALTERED),
    ],
)
def test_a_column_that_says_something_else_than_the_body_is_seen(
    relay_engine: Engine, tmp_path: Path, table: str, change: str, kind: Kind
) -> None:
    assert kind in kinds(relay_engine, tmp_path, spoil=f"{table} SET {change}")


def test_a_message_id_that_is_not_the_events_is_seen(relay_engine: Engine, tmp_path: Path) -> None:
    assert kinds(relay_engine, tmp_path, message_id="another") == {Kind.UNCOMMITTED}
