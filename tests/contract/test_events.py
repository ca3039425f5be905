"""What whoever binds a queue reads: the events byte for byte, and CloudEvents 1.0."""

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from common.books import Book
from common.events import CONTENT_TYPE, EXCHANGE, BookEvent, EventType, routing_key

SNAPSHOT = Path(__file__).with_name("events.jsonl")
CREATED_AT = datetime(2026, 1, 31, 9, 30, 0, 123456, tzinfo=UTC)
# A whole second, to show that microseconds are written all the same.
CHANGED_AT = datetime(2026, 2, 1, tzinfo=UTC)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BOOK = Book(
    id=7,
    title='Дюна "🎈"',
    author="Frank Herbert",
    publication_date=date(1965, 8, 1),
    version=1,
    created_at=CREATED_AT,
    updated_at=CREATED_AT,
)
# CloudEvents 1.0.2, "Required attributes": each is a string that is not empty.
REQUIRED = ("id", "source", "specversion", "type")
TYPES: tuple[EventType, ...] = (
    "bookstore.book.created.v1",
    "bookstore.book.updated.v1",
    "bookstore.book.deleted.v1",
)


def made(version: int) -> BookEvent:
    time = CREATED_AT if version == 1 else CHANGED_AT
    book = BOOK.model_copy(update={"version": version, "updated_at": time})
    event = BookEvent.of(TYPES[version - 1], book, time, TRACE)
    return event.model_copy(update={"id": UUID(int=version)})


def test_events_are_written_as_those_committed_byte_for_byte() -> None:
    lines = [made(version).model_dump_json() for version in (1, 2, 3)]
    assert "".join(f"{line}\n" for line in lines).encode() == SNAPSHOT.read_bytes()


@pytest.mark.parametrize("line", SNAPSHOT.read_text("utf-8").splitlines())
def test_an_event_has_the_attributes_of_cloudevents_and_of_the_design(line: str) -> None:
    event: dict[str, Any] = json.loads(line)
    assert all(
        isinstance(event[name], str) and event[name] for name in ("id", "source", "specversion", "type")
    )
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in event)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["time"])
    assert (event["specversion"], event["source"]) == ("1.0", "/bookstore/books")
    assert event["datacontenttype"] == "application/json"
    assert set(event) == {
        *("specversion", "id", "source", "type", "subject", "time", "datacontenttype"),
        *("bookversion", "traceparent", "data"),
    }
    book = event["data"]
    assert event["subject"] == str(book["id"])
    assert event["bookversion"] == book["version"]
    assert event["time"] == book["updated_at"]
    assert set(book) == set(Book.model_fields)


def test_the_committed_events_can_be_read_back() -> None:
    events = [BookEvent.model_validate_json(line) for line in SNAPSHOT.read_text("utf-8").splitlines()]
    assert events == [made(version) for version in (1, 2, 3)]


def test_names_that_subscribers_depend_on() -> None:
    assert (EXCHANGE, CONTENT_TYPE) == ("bookstore.events", "application/cloudevents+json")
    assert [routing_key(kind) for kind in TYPES] == ["book.created.v1", "book.updated.v1", "book.deleted.v1"]
