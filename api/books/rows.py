"""Rows as they arrive: pieces of bytes in, one verdict for each row out, in memory that does not grow."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from api.faults import message_of
from common.books import NewBook

LINE_MAX_BYTES = 64 * 1024
BOM = b"\xef\xbb\xbf"
_FAULTS_SHOWN = 5
_NAME_SHOWN = 100


@dataclass(frozen=True)
class Row:
    """What begins at `line`, counted from 1: a book, or the reason why it is none.

    With neither it is a header or an empty line, which nobody counts. `raw` is what was read of it: of a line
    that is too long, its beginning.
    """

    line: int
    raw: bytes
    book: NewBook | None = None
    reason: str = ""


class RowReader(Protocol):
    """Takes the lines of a body one after another, and gives each row when it is complete."""

    def take(self, line: bytes) -> Iterator[Row]:
        """The rows that are complete with this line, its end included; InvalidInputError for a bad header."""

    def end(self) -> Iterator[Row]:
        """The rows that are left when nothing more comes; raises likewise."""


async def rows_of(pieces: AsyncIterator[bytes], reader: RowReader) -> AsyncIterator[Row]:
    """Every row in order, the same ones however the bytes are cut into pieces."""
    rest = b""
    async for piece in pieces:
        lines = (rest + piece).split(b"\n")
        # Enough to know that it is too long; what follows of it is dropped as it comes.
        rest = _beginning(lines.pop())
        for line in lines:
            for row in reader.take(_beginning(line + b"\n")):
                yield row
    if rest:
        for row in reader.take(rest):
            yield row
    for row in reader.end():
        yield row


def _beginning(line: bytes) -> bytes:
    return line[: LINE_MAX_BYTES + 1]


def faults_of(error: ValidationError) -> str:
    """The first of the faults, in one line; the name of a field that nobody knows may be anything."""
    # A name that is half a surrogate pair, which JSON can escape, is not told: no answer could carry it.
    shown = [
        ": ".join([*(str(step)[:_NAME_SHOWN] for step in fault["loc"]), message_of(fault)])
        for fault in error.errors()[:_FAULTS_SHOWN]
    ]
    more = error.error_count() - len(shown)
    return "; ".join([*shown, f"and {more} more"] if more else shown)
