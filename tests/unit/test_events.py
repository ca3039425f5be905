import json
from datetime import UTC, date, datetime

import pytest
from pydantic import ValidationError

from common.books import Book
from common.events import SHARDS, BookEvent, shard_of

NOW = datetime(2026, 1, 31, 9, 30, 0, 123456, tzinfo=UTC)
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
BOOK = Book(
    id=7,
    title="Дюна 🎈",
    author="Frank Herbert",
    publication_date=date(1965, 8, 1),
    version=3,
    created_at=NOW,
    updated_at=NOW,
)


def test_fields_of_a_later_minor_version_are_ignored() -> None:
    event = json.loads(BookEvent.of("bookstore.book.created.v1", BOOK, NOW, TRACE).model_dump_json())
    event["partitionkey"] = "7"
    event["data"]["isbn"] = "9780441172719"
    assert BookEvent.model_validate_json(json.dumps(event)).data == BOOK


@pytest.mark.parametrize(
    ("member", "value"),
    [("specversion", "2.0"), ("type", "bookstore.book.lost.v1"), ("id", "7"), ("data", None)],
)
def test_what_is_no_event_of_ours_is_refused(member: str, value: object) -> None:
    event = json.loads(BookEvent.of("bookstore.book.created.v1", BOOK, NOW, TRACE).model_dump_json())
    with pytest.raises(ValidationError):
        BookEvent.model_validate_json(json.dumps({**event, member: value}))


def test_books_are_spread_over_all_shards() -> None:
    assert {shard_of(book_id) for book_id in range(1, 2000)} == set(range(SHARDS))
    assert shard_of(1) == 0x83DCEFB7 % SHARDS  # crc32 of "1", from the algorithm's published check values
