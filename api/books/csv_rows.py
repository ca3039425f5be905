"""Rows of CSV (RFC 4180) with a header; the header is line 1."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from api.books.rows import BOM, LINE_MAX_BYTES, Row, faults_of
from common.books import NewBook
from common.errors import InvalidInputError, Violation

HEADER = ["title", "author", "publication_date"]
_LINE_ENDS = (b"", b"\n", b"\r", b"\r\n")


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
    row costs one row.
    """

    def __init__(self) -> None:
        self._line = 1
        self._first_line = 1
        self._lines: list[bytes] = []
        self._size = 0
        self._is_quoted = False

    def take(self, line: bytes) -> Iterator[_Record]:
        """The records that are complete with this line."""
        self._lines.append(line)
        self._size += len(line)
        self._line += 1
        try:
            self._is_quoted = _ends_in_quotes(line, self._is_quoted)
        except _BadQuoteError:
            yield from self._give_up("is not CSV: behind a closing quote comes no comma and no end of a line")
            return
        if not self._is_quoted:
            too_long = f"is longer than {LINE_MAX_BYTES} bytes" if self._size > LINE_MAX_BYTES else ""
            record = _Record(self._first_line, b"".join(self._lines), too_long)
            self._restart()
            yield record
        while self._size > LINE_MAX_BYTES:
            yield from self._give_up(f"has a quote that is not closed within {LINE_MAX_BYTES} bytes")

    def end(self) -> Iterator[_Record]:
        """The last records, when nothing more comes."""
        while self._lines:
            yield from self._give_up("has a quote that is never closed")

    def _give_up(self, reason: str) -> Iterator[_Record]:
        """Reject the first of the lines in hand and read the others again."""
        line, first, others = self._first_line, self._lines[0], self._lines[1:]
        self._line = line + 1
        self._restart()
        yield _Record(line, first, reason)
        for again in others:
            yield from self.take(again)

    def _restart(self) -> None:
        self._first_line, self._lines, self._size, self._is_quoted = self._line, [], 0, False


class _BadQuoteError(Exception):
    """A quoted field goes on behind its closing quote."""


def _ends_in_quotes(line: bytes, is_quoted: bool) -> bool:  # noqa: FBT001  what the line before ended in
    """Whether the line ends inside a quoted field, when it begins inside one or where a field begins."""
    position = 0
    while True:
        if not is_quoted:
            if line.startswith(b'"', position):
                position += 1
            else:
                position = line.find(b",", position) + 1
                if not position:
                    return False
                continue
        position = line.find(b'"', position) + 1
        if not position:
            return True
        if line.startswith(b'"', position):
            is_quoted = True
            position += 1
        elif line.startswith(b",", position):
            is_quoted = False
            position += 1
        elif line[position:] in _LINE_ENDS:
            return False
        else:
            raise _BadQuoteError


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
