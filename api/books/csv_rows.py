"""Rows of CSV (RFC 4180) with a header; the header is line 1."""

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto

from pydantic import ValidationError

from api.books.rows import BOM, LINE_MAX_BYTES, Row, faults_of
from common.books import NewBook
from common.errors import InvalidInputError, Violation

HEADER = ["title", "author", "publication_date"]
_LINE_ENDS = (b"", b"\n", b"\r", b"\r\n")
_BAD_QUOTE = "is not CSV: behind a closing quote comes no comma and no end of a line"


@dataclass(frozen=True)
class _Record:
    line: int
    raw: bytes
    reason: str = ""


class _Splitter:
    """Joins lines into records, which end outside quotes; a record longer than 64 KiB is given up.

    As in RFC 4180, section 2, a quote opens only where a field begins; elsewhere in a plain field it is a
    character like others. A quote that is never closed, or is closed in the middle of a later field, would
    swallow the rows behind it. Giving up takes back only the line that the record begins with, so one bad
    row costs one row, and reading goes on with the next line.

    That line is the only one that is looked at again. Behind each line in hand a quote is open; should the
    next record leave one open behind its first line too, it is where the record that was given up was.
    """

    def __init__(self) -> None:
        self._first_line = 1
        self._lines: deque[bytes] = deque()
        self._size = 0

    def take(self, line: bytes) -> Iterator[_Record]:
        """The records that are complete with this line."""
        end = _end_of(line, is_quoted=bool(self._lines))
        self._lines.append(line)
        self._size += len(line)
        if end is _End.PLAIN and len(self._lines) == 1:
            yield self._record(1)
        elif end is _End.BAD:
            yield self._refused(_BAD_QUOTE)
            yield from self._alone()
            # What is left has more than one line: it comes to the bad quote as the one before did.
            while len(self._lines) > 1:
                yield self._refused(_BAD_QUOTE)
                yield from self._alone()
        while self._size > LINE_MAX_BYTES:
            yield self._refused(f"has a quote that is not closed within {LINE_MAX_BYTES} bytes")
            yield from self._alone()
        # One line that is left alone has a quote open; of more, this one closes it.
        if end is _End.PLAIN and len(self._lines) > 1:
            yield self._record(len(self._lines))

    def end(self) -> Iterator[_Record]:
        """The last records, when nothing more comes."""
        while self._lines:
            yield self._refused("has a quote that is never closed")
            yield from self._alone()

    def _alone(self) -> Iterator[_Record]:
        """The records of one line that come next in hand, good or bad."""
        while self._lines and (end := _end_of(self._lines[0], is_quoted=False)) is not _End.QUOTED:
            yield self._record(1) if end is _End.PLAIN else self._refused(_BAD_QUOTE)

    def _refused(self, reason: str) -> _Record:
        """The first of the lines in hand, rejected."""
        return replace(self._record(1), reason=reason)

    def _record(self, count: int) -> _Record:
        """The first `count` of the lines in hand."""
        raw = b"".join(self._lines.popleft() for _ in range(count))
        too_long = f"is longer than {LINE_MAX_BYTES} bytes" if len(raw) > LINE_MAX_BYTES else ""
        record = _Record(self._first_line, raw, too_long)
        self._first_line += count
        self._size -= len(raw)
        return record


class _End(Enum):
    """Where a line ends: outside quotes, inside them, or badly, for a quoted field goes on behind its end."""

    PLAIN = auto()
    QUOTED = auto()
    BAD = auto()


def _end_of(line: bytes, *, is_quoted: bool) -> _End:
    """Of a line that begins inside a quoted field, or where a field begins."""
    position = 0
    while True:
        if not is_quoted:
            if line.startswith(b'"', position):
                position += 1
            else:
                position = line.find(b",", position) + 1
                if not position:
                    return _End.PLAIN
                continue
        position = line.find(b'"', position) + 1
        if not position:
            return _End.QUOTED
        if line.startswith(b'"', position):
            is_quoted = True
            position += 1
        elif line.startswith(b",", position):
            is_quoted = False
            position += 1
        elif line[position:] in _LINE_ENDS:
            return _End.PLAIN
        else:
            return _End.BAD


class CsvRows:
    """The header first, then one row for each record."""

    def __init__(self) -> None:
        self._splitter = _Splitter()
        self._header_seen = False

    def take(self, line: bytes) -> Iterator[Row]:
        """As RowReader says; the header must be `title,author,publication_date`."""
        yield from map(self._row, self._splitter.take(line))

    def end(self) -> Iterator[Row]:
        """As RowReader says."""
        yield from map(self._row, self._splitter.end())
        if not self._header_seen:
            _require_header(b"")

    def _row(self, record: _Record) -> Row:
        if self._header_seen:
            return _row(record)
        _require_header(b"" if record.reason else record.raw)
        self._header_seen = True
        return Row(record.line, record.raw)


def _fields(raw: bytes) -> list[str]:
    text = raw.decode("utf-8")
    return next(csv.reader([text.removesuffix("\n").removesuffix("\r")], strict=True), [])


def _require_header(raw: bytes) -> None:
    try:
        fields = _fields(raw.removeprefix(BOM))
    except (UnicodeDecodeError, csv.Error):
        fields = []
    if fields != HEADER:
        raise InvalidInputError(Violation("", f"the first line must be {','.join(HEADER)}"))


def _row(record: _Record) -> Row:
    """The verdict on a record."""
    if record.reason:
        return Row(record.line, record.raw, reason=record.reason)
    try:
        fields = _fields(record.raw)
        if not fields:
            return Row(record.line, record.raw)
        book = NewBook.model_validate(dict(zip(HEADER, fields, strict=True)))
    except UnicodeDecodeError:
        reason = "is not UTF-8"
    except csv.Error:
        reason = "is not CSV: a carriage return stands outside quotes"
    except ValidationError as error:
        reason = faults_of(error)
    except ValueError:
        reason = f"has {len(fields)} fields instead of {len(HEADER)}"
    else:
        return Row(record.line, record.raw, book)
    if more_lines := record.raw.rstrip(b"\r\n").count(b"\n"):
        reason += f" (up to line {record.line + more_lines})"
    return Row(record.line, record.raw, reason=reason)
