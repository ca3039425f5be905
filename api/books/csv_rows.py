"""CSV as it arrives: pieces of bytes in, one verdict for each row out, in memory that does not grow."""

import csv
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from common.books import NewBook
from common.errors import InvalidInputError, Violation

HEADER = ["title", "author", "publication_date"]
_RECORD_MAX_BYTES = 64 * 1024
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Row:
    """The record that begins at `line` (the header is line 1): a book, or the reason why it is none."""

    line: int
    book: NewBook | None = None
    reason: str = ""


@dataclass(frozen=True)
class _Record:
    line: int
    raw: bytes
    reason: str = ""


class _Splitter:
    """Cuts bytes into records at the line ends outside quotes; a record longer than 64 KiB is given up.

    A quote that is never closed would swallow the rest of the file. Giving up takes back only the line
    that the quote stands in, so one bad row costs one row.
    """

    def __init__(self) -> None:
        self._line = 1
        self._first_line = 1
        self._lines: list[bytes] = []
        self._size = 0
        self._quotes = 0
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[_Record]:
        """The records that are complete with this piece."""
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            yield from self._take(line + b"\n")
        if len(self._rest) > _RECORD_MAX_BYTES:
            # Enough to know that it is too long; what follows of it is dropped as it comes.
            self._rest = self._rest[: _RECORD_MAX_BYTES + 1]

    def end(self) -> Iterator[_Record]:
        """The last records, when nothing more comes."""
        if self._rest:
            yield from self._take(self._rest)
        while self._lines:
            yield from self._give_up("has a quote that is never closed")

    def _take(self, line: bytes) -> Iterator[_Record]:
        self._lines.append(line)
        self._size += len(line)
        self._quotes += line.count(b'"')
        self._line += 1
        if self._quotes % 2 == 0:
            raw = b"".join(self._lines)
            too_long = f"is longer than {_RECORD_MAX_BYTES} bytes" if self._size > _RECORD_MAX_BYTES else ""
            record = _Record(self._first_line, b"" if too_long else raw, too_long)
            self._restart()
            yield record
        while self._size > _RECORD_MAX_BYTES:
            yield from self._give_up("has a quote that is not closed within 65536 bytes")

    def _give_up(self, reason: str) -> Iterator[_Record]:
        """Reject the first of the lines in hand and read the others again."""
        line, lines = self._first_line, self._lines[1:]
        self._line = line + 1
        self._restart()
        yield _Record(line, b"", reason)
        for again in lines:
            yield from self._take(again)

    def _restart(self) -> None:
        self._first_line, self._lines, self._size, self._quotes = self._line, [], 0, 0


async def rows_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[Row]:
    """Every row behind the header, in order.

    Raises InvalidInputError before the first row when the header is not `title,author,publication_date`.
    """
    splitter = _Splitter()
    header_seen = False
    async for piece in pieces:
        for record in splitter.feed(piece):
            if header_seen:
                if (row := _row(record)) is not None:
                    yield row
            else:
                _require_header(record)
                header_seen = True
    for record in splitter.end():
        if header_seen:
            if (row := _row(record)) is not None:
                yield row
        else:
            _require_header(record)
            header_seen = True
    if not header_seen:
        _require_header(_Record(1, b""))


def _fields(record: _Record) -> list[str]:
    text = record.raw.decode("utf-8")
    return next(csv.reader([text.removesuffix("\n").removesuffix("\r")], strict=True), [])


def _require_header(record: _Record) -> None:
    try:
        fields = _fields(_Record(1, record.raw.removeprefix(_BOM)))
    except (UnicodeDecodeError, csv.Error):
        fields = []
    if fields != HEADER:
        raise InvalidInputError(Violation("", f"the first line must be {','.join(HEADER)}"))


def _row(record: _Record) -> Row | None:
    """The verdict on a record; None for an empty line, which is no row."""
    if record.reason:
        return Row(record.line, reason=record.reason)
    try:
        fields = _fields(record)
        if not fields:
            return None
        book = NewBook.model_validate(dict(zip(HEADER, fields, strict=True)))
    except UnicodeDecodeError:
        reason = "is not UTF-8"
    except csv.Error as error:
        reason = f"is not CSV: {error}"
    except ValidationError as error:
        reason = "; ".join(_reason(fault["loc"][0], fault["msg"]) for fault in error.errors())
    except ValueError:
        reason = f"has {len(fields)} fields instead of {len(HEADER)}"
    else:
        return Row(record.line, book)
    return Row(record.line, reason=reason)


def _reason(field: object, message: str) -> str:
    return f"{field}: {message.removeprefix('Value error, ')}"
