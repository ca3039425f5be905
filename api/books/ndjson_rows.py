"""Rows of NDJSON: one object of JSON in each line, and no header."""

from collections.abc import Iterator

from pydantic import ValidationError

from api.books.json_texts import NoJsonError, json_of
from api.books.rows import BOM, LINE_MAX_BYTES, Row, faults_of
from common.books import Book, NewBook

# What the export tells of a book besides. It goes in again as a new book, as from CSV.
_GIVEN_BY_US = Book.model_fields.keys() - NewBook.model_fields.keys()


class NdjsonRows:
    """One row for each line."""

    def __init__(self) -> None:
        self._line = 0

    def take(self, line: bytes) -> Iterator[Row]:
        """As RowReader says."""
        self._line += 1
        yield _row(self._line, line)

    def end(self) -> Iterator[Row]:
        """Nothing is left."""
        yield from ()


def _row(line: int, raw: bytes) -> Row:
    if len(raw) > LINE_MAX_BYTES:
        return Row(line, raw, reason=f"is longer than {LINE_MAX_BYTES} bytes")
    text = raw.removeprefix(BOM) if line == 1 else raw
    if not text.strip(b" \t\r\n"):
        return Row(line, raw)
    try:
        members = json_of(text)
        if not isinstance(members, dict):
            return Row(line, raw, reason="is not a JSON object")
        asked = {name: value for name, value in members.items() if name not in _GIVEN_BY_US}
        book = NewBook.model_validate(asked)
    except NoJsonError as error:
        return Row(line, raw, reason=str(error))
    except ValidationError as error:
        return Row(line, raw, reason=faults_of(error))
    return Row(line, raw, book)
