import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.books.ndjson_rows import NdjsonRows
from api.books.rows import LINE_MAX_BYTES, Row, rows_of
from common.books import BOOK_EXAMPLE

EMMA = b'{"title":"Emma","author":"Jane Austen","publication_date":"1815-12-23"}'
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=40)
GOOD = TEXT.filter(lambda text: bool(text.strip()))


def read(*pieces: bytes) -> list[Row]:
    async def collect() -> list[Row]:
        async def feed() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        return [row async for row in rows_of(feed(), NdjsonRows())]

    return [row for row in asyncio.run(collect()) if row.book or row.reason]


@given(st.lists(st.tuples(GOOD, GOOD, st.dates().map(str)), max_size=8), st.booleans(), st.integers(0, 2000))
def test_every_row_comes_out_once_however_the_bytes_are_cut_and_texts_are_escaped(
    rows: list[tuple[str, str, str]],
    ascii_only: bool,  # noqa: FBT001  a case
    cut: int,
) -> None:
    lines = [
        json.dumps({"title": title, "author": author, "publication_date": day}, ensure_ascii=ascii_only)
        for title, author, day in rows
    ]
    raw = "\n".join(lines).encode()
    found = read(raw[:cut], raw[cut:])
    assert [
        (row.book.title, row.book.author, str(row.book.publication_date)) for row in found if row.book
    ] == [(title.strip(), author.strip(), day) for title, author, day in rows]
    assert [row.line for row in found] == list(range(1, len(rows) + 1))


@given(st.binary(max_size=300), st.integers(0, 300))
def test_garbage_never_raises_and_does_not_depend_on_the_cut(raw: bytes, cut: int) -> None:
    assert read(raw) == read(raw[:cut], raw[cut:])


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=3))
def test_a_value_of_any_other_kind_is_a_reason_that_can_be_answered(value: object) -> None:
    [row] = read(json.dumps({"title": value, "author": "x", "publication_date": value, "é": value}).encode())
    assert row.reason.encode()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[]", "is not a JSON object"),
        (b'"title"', "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b"title,author,publication_date", "is not JSON: Expecting value at character 1"),
        (EMMA + b",", "is not JSON: Extra data at character 72"),
        (EMMA[:-1], "is not JSON"),
        (EMMA[:-1] + b',"id":NaN}', "is not JSON that can be read"),
        (EMMA[:-1] + b',"id":' + b"9" * 5000 + b"}", "is not JSON that can be read"),
        (b"[" * 60_000, "is not JSON that can be read"),
        (EMMA.replace(b"Emma", b"E\xffma"), "is not UTF-8"),
        (EMMA.decode().encode("utf-16-le"), "is not"),
        (b"\xef\xbb\xbf" + EMMA, "is not JSON: Unexpected UTF-8 BOM"),
        (EMMA[:-1] + b',"title":"Emma"}', "has a member twice"),
        (EMMA[:-1] + b',"id":{"a":1,"a":1}}', "has a member twice"),
        (EMMA[:-1] + b',"isbn":1}', "isbn: is not a known field"),
        (EMMA[:-1] + b',"\\ud800":1}', "must not contain half of a surrogate pair"),
        (EMMA.replace(b'"Emma"', b"1"), "title: must be text"),
        (EMMA.replace(b"Emma", b"\\ud800"), "title: "),
        (EMMA.replace(b"Emma", b"\\u0000"), "title: must not contain the NUL character"),
        (EMMA.replace(b"Emma", b" "), "title: must not be blank"),
        (EMMA.replace(b'"1815-12-23"', b"18151223"), "publication_date: must be a date, written YYYY-MM-DD"),
        (b"{}", "title: is missing; author: is missing; publication_date: is missing"),
        (EMMA.replace(b"Emma", b"x" * 70_000), "is longer than 65536 bytes"),
    ],
)
def test_bad_row_is_reported_and_stops_no_other(line: bytes, reason: str) -> None:
    rows = read(EMMA + b"\n" + line + b"\n" + EMMA)
    assert [row.line for row in rows] == [1, 2, 3]
    assert [row.book is not None for row in rows] == [True, False, True]
    assert rows[1].reason.startswith(reason)


def test_a_row_with_many_faults_tells_of_a_few() -> None:
    [row] = read(json.dumps({f"{number:050}": 0 for number in range(90)}).encode())
    assert len(row.reason) < 1000
    assert row.reason.endswith("; and 88 more")


def test_what_an_export_tells_besides_is_left_out_of_account() -> None:
    [row] = read(json.dumps({**BOOK_EXAMPLE, "id": "x"}).encode())
    assert row.book is not None
    assert row.book.title == BOOK_EXAMPLE["title"]


def test_byte_order_mark_carriage_returns_and_empty_lines_are_taken() -> None:
    rows = read(b"\xef\xbb\xbf" + EMMA + b"\r\n\n \t\r\n" + EMMA)
    assert [row.line for row in rows if row.book] == [1, 4]


@pytest.mark.parametrize("size", [1, 1000, LINE_MAX_BYTES, 10 * LINE_MAX_BYTES])
def test_of_a_line_without_end_no_more_than_its_beginning_is_kept(size: int) -> None:
    raw = b'"' * (3 * LINE_MAX_BYTES) + b"\n" + EMMA
    long, good = read(*(raw[at : at + size] for at in range(0, len(raw), size)))
    assert (len(long.raw), long.line, good.line) == (LINE_MAX_BYTES + 1, 1, 2)
