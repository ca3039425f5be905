import asyncio
import csv
import io
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.books import csv_rows
from api.books.csv_rows import HEADER, CsvRows
from api.books.rows import Row, rows_of
from common.errors import InvalidInputError

HEAD = b"title,author,publication_date\n"
TEXT = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00\r"), min_size=1, max_size=40
)
GOOD = TEXT.filter(lambda text: bool(text.strip()))


def read(*pieces: bytes) -> list[Row]:
    async def collect() -> list[Row]:
        async def feed() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        found = [row async for row in rows_of(feed(), CsvRows())]
        # All of it was read, in order; a long line is the only one of which something is dropped.
        assert len(max(pieces, default=b"")) > 60_000 or b"".join(row.raw for row in found) == b"".join(
            pieces
        )
        return [row for row in found if row.book or row.reason]

    return asyncio.run(collect())


def written(rows: list[tuple[str, str, str]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(HEADER)
    writer.writerows(rows)
    return out.getvalue().encode()


@given(
    st.lists(st.tuples(GOOD, GOOD, st.dates().map(str)), max_size=8),
    st.lists(st.integers(0, 2000), max_size=5),
)
def test_every_row_comes_out_once_however_the_bytes_are_cut(
    rows: list[tuple[str, str, str]], cuts: list[int]
) -> None:
    raw = written(rows)
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    found = read(*(raw[begin:end] for begin, end in pairwise(edges)))
    books = [row.book for row in found]
    assert [(book.title, book.author, str(book.publication_date)) for book in books if book] == [
        (title.strip(), author.strip(), day) for title, author, day in rows
    ]
    assert [row.line for row in found] == _first_lines(rows)


def _first_lines(rows: list[tuple[str, str, str]]) -> list[int]:
    lines, line = [], 2
    for row in rows:
        lines.append(line)
        line += 1 + sum(field.count("\n") for field in row)
    return lines


@given(st.binary(max_size=300), st.integers(0, 300))
def test_garbage_behind_the_header_never_raises_and_does_not_depend_on_the_cut(raw: bytes, cut: int) -> None:
    assert read(HEAD + raw) == read(HEAD, raw[:cut], raw[cut:])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"Dune,Frank Herbert", "has 2 fields instead of 3"),
        (b"Dune,Frank Herbert,1965-08-01,x", "has 4 fields instead of 3"),
        (b",Frank Herbert,1965-08-01", "title: must not be blank"),
        (b"Iliad,Homer,-750-01-01", "publication_date: must be a date, written YYYY-MM-DD"),
        (b"Dune,Frank Herbert,", "publication_date: must be a date, written YYYY-MM-DD"),
        (b"D\xffne,Frank Herbert,1965-08-01", "is not UTF-8"),
        (b"D\x00ne,Frank Herbert,1965-08-01", "title: must not contain the NUL character"),
        (b'"Dune"x,Frank Herbert,1965-08-01', "is not CSV: behind a closing quote comes no comma"),
        (b"Du\rne,Frank Herbert,1965-08-01", "is not CSV: a carriage return stands outside quotes"),
        (b'"Dune,Frank Herbert,1965-08-01', "has a quote that is never closed"),
        (b"x" * 70_000 + b",a,1965-08-01", "is longer than 65536 bytes"),
    ],
)
def test_bad_row_is_reported_and_stops_no_other(line: bytes, reason: str) -> None:
    good = b"Emma,Jane Austen,1815-12-23\n"
    rows = read(HEAD + good + line + b"\n" + good)
    assert [row.line for row in rows] == [2, 3, 4]
    assert [row.book is not None for row in rows] == [True, False, True]
    assert rows[1].reason.startswith(reason)


def test_quote_that_is_never_closed_costs_one_row_in_a_long_file() -> None:
    good = b"Emma,Jane Austen,1815-12-23\n"
    rows = read(HEAD + b'"Dune,a,1965-08-01\n' + good * 5000)
    assert (len(rows), sum(row.book is None for row in rows)) == (5001, 1)
    assert rows[0].reason == "has a quote that is not closed within 65536 bytes"


@pytest.mark.parametrize(
    ("last", "title"),
    [
        (b'disk 5",A,' + b"x" * 100, None),
        (b"x" * 50 + b'5",A,2000-01-01', "x" * 50 + '5"'),
        # A record of two lines: the first closes the quote, and opens one that the second closes.
        (b'a","b\n' + b"x" * 50 + b'",2000-01-01', 'a"'),
        # The first closes the quote, or opens one when it is read alone.
        (b"x" * 50 + b',"\nA",2000-01-01', "x" * 50),
    ],
)
def test_a_quote_that_is_closed_just_beyond_64_kib_costs_one_row(last: bytes, title: str | None) -> None:
    """All lines from the quote to its end were one row that was too long."""
    good = b"x,A,2000-01-01\n"
    opened = b'"x,A,2000-01-01\n' + good * 4366
    assert len(opened) < 65_536 < len(opened + last)
    rows = read(HEAD + opened + last + b"\n" + good)
    assert rows[0].reason == "has a quote that is not closed within 65536 bytes"
    assert [row.book and row.book.title for row in rows] == [None, *["x"] * 4366, title, "x"]
    assert [row.line for row in rows[:4368]] == list(range(2, 4370))


@pytest.mark.parametrize(("size", "reason"), [(65_536, "has 1 fields"), (65_537, "has a quote that is not")])
def test_a_row_of_several_lines_has_64_kib_at_most(size: int, reason: str) -> None:
    short = b"x\n"
    row, *others = read(HEAD + b'"' + short * 30_000 + b"x" * (size - 60_003) + b'"\n')
    assert row.reason.startswith(reason)
    assert len(others) == (0 if size == 65_536 else 30_000)


@pytest.mark.parametrize("last", [b"", b'"x"y\n'], ids=["never closed", "closed badly at last"])
def test_lines_that_each_open_a_quote_and_close_that_before_are_looked_at_twice_at_most(
    last: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """13,000 of them are within 64 KiB; read again for each other they took minutes."""
    looks, end_of = 0, csv_rows._end_of  # noqa: SLF001  what is counted

    def counted(line: bytes, *, is_quoted: bool) -> object:
        nonlocal looks
        looks += 1
        return end_of(line, is_quoted=is_quoted)

    monkeypatch.setattr(csv_rows, "_end_of", counted)
    lines = [b'a","\n'] * 20_000 + [last] * bool(last)
    rows = read(HEAD + b"".join(lines))
    assert [row.line for row in rows] == list(range(2, 2 + len(lines)))
    assert not any(row.book for row in rows)
    assert looks <= 2 * (len(lines) + 1)


LETTERS = st.text("abcxyzß Ж", min_size=1, max_size=5).filter(lambda text: bool(text.strip()))


@given(
    st.text('",a\r', max_size=12), st.lists(LETTERS, min_size=1, max_size=5), st.sampled_from(["%s", '"%s"'])
)
def test_a_line_of_any_commas_and_quotes_costs_no_row_but_its_own(
    bad: str, titles: list[str], form: str
) -> None:
    good = "".join(f"{form % title},A,2000-01-01\n" for title in titles)
    rows = read(HEAD + f"{bad}\n{good}".encode())
    assert [row.book.title for row in rows if row.book and row.line > 2] == [t.strip() for t in titles]
    assert [row.line for row in rows if row.line > 2] == list(range(3, 3 + len(titles)))


@given(st.lists(st.from_regex('[ab]["ab]{0,5}', fullmatch=True), max_size=6))
def test_quotes_in_the_middle_of_plain_fields_are_characters(titles: list[str]) -> None:
    lines = "".join(f"{title},A,2000-01-01\n" for title in titles)
    assert [row.book and row.book.title for row in read(HEAD + lines.encode())] == titles


def test_a_quote_that_a_later_field_closes_costs_one_row() -> None:
    rows = read(HEAD + b'"Dune,A,2000-01-01\nEmma,B,2000-01-01\n"Iliad",C,2000-01-01\n')
    assert [(row.line, row.book and row.book.title) for row in rows] == [(2, None), (3, "Emma"), (4, "Iliad")]


def test_a_row_of_several_lines_that_is_no_book_names_them() -> None:
    short, late = read(HEAD + b'"Dune,A,2000-01-01\nEmma",1815-12-23\n"Two\nlines",A,1815-02-30\n')
    assert (short.line, short.reason) == (2, "has 2 fields instead of 3 (up to line 3)")
    assert late.line == 4
    assert late.reason.endswith("(up to line 5)")


def test_byte_order_mark_and_carriage_returns_are_taken() -> None:
    rows = read(b"\xef\xbb\xbftitle,author,publication_date\r\nEmma,Jane Austen,1815-12-23\r\n")
    assert rows[0].book is not None
    assert rows[0].book.title == "Emma"


def test_empty_lines_are_no_rows_but_are_counted_as_lines() -> None:
    rows = read(HEAD + b"\nEmma,Jane Austen,1815-12-23\n\r\n\r")
    assert [row.line for row in rows] == [3]


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"title,author\n", b"author,title,publication_date\nx,y,z\n", b"\xff\n"]
)
def test_wrong_header_is_refused_before_any_row(raw: bytes) -> None:
    with pytest.raises(InvalidInputError, match="title,author,publication_date"):
        read(raw)
