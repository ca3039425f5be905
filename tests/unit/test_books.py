import re
from datetime import UTC, date, datetime

import pytest
from pydantic import ValidationError

from common.books import NewBook, utc_text

GOOD = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}


def test_title_and_author_are_trimmed() -> None:
    book = NewBook.model_validate({**GOOD, "title": "  Dune\t", "author": "\nFrank Herbert "})
    assert (book.title, book.author) == ("Dune", "Frank Herbert")


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31", "2024-02-29"])
def test_dates_of_the_calendar_are_taken(text: str) -> None:
    book = NewBook.model_validate({**GOOD, "publication_date": text})
    assert book.publication_date == date.fromisoformat(text)


def test_a_date_object_is_taken_and_a_time_is_none() -> None:
    day = date(1965, 8, 1)
    assert NewBook.model_validate({**GOOD, "publication_date": day}).publication_date == day
    with pytest.raises(ValidationError):
        NewBook.model_validate({**GOOD, "publication_date": datetime(1965, 8, 1, tzinfo=UTC)})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", ""),
        ("title", " \t\n "),
        ("title", "x" * 301),
        ("title", "a\x00b"),
        ("title", "\ud800"),
        ("title", 7),
        ("title", None),
        ("author", ""),
        ("author", "x" * 1001),
        ("publication_date", "2023-02-29"),
        ("publication_date", "-750-01-01"),
        ("publication_date", "0000-01-01"),
        ("publication_date", "10000-01-01"),
        ("publication_date", "1965-8-1"),
        ("publication_date", "19650801"),
        ("publication_date", "1965-W31-7"),
        ("publication_date", "1965-08-01T00:00:00"),
        ("publication_date", "\u0662\u0660\u0662\u0664-01-01"),
        ("publication_date", 0),
        ("publication_date", ""),
        ("publication_date", None),
        ("publisher", "Chilton"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_its_field(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as raised:
        NewBook.model_validate({**GOOD, field: value})
    assert [fault["loc"] for fault in raised.value.errors()] == [(field,)]


@pytest.mark.parametrize("field", sorted(GOOD))
def test_no_field_may_be_left_out(field: str) -> None:
    with pytest.raises(ValidationError):
        NewBook.model_validate({name: value for name, value in GOOD.items() if name != field})


@pytest.mark.parametrize(("title", "author"), [("x" * 300, "y" * 1000), ("🎈" * 300, "ß" * 1000)])
def test_longest_texts_are_counted_in_characters(title: str, author: str) -> None:
    book = NewBook.model_validate({**GOOD, "title": title, "author": author})
    assert (len(book.title), len(book.author)) == (300, 1000)


def test_times_are_written_with_microseconds_and_z_in_every_year() -> None:
    assert utc_text(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05.000000Z"
    assert utc_text(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000000Z"


def test_the_description_tells_which_text_is_blank_or_cannot_be_stored() -> None:
    pattern = re.compile(NewBook.model_json_schema()["properties"]["title"]["pattern"])
    for text in (*map(chr, [*range(0xD800), *range(0xE000, 0x10000)]), "a\x00", "\x00a", " a\n", "\x1c\x85"):
        try:
            NewBook.model_validate({**GOOD, "title": text})
        except ValidationError:
            assert not pattern.search(text), text.encode()
        else:
            assert pattern.search(text), text.encode()
