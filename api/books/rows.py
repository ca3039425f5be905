"""Rows as they arrive: pieces of bytes in, one verdict for each row out, in memory that does not grow."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from pydantic import ValidationError

from api.faults import message_of
from common.books import NewBook

LINE_MAX_BYTES = 64 * 1024
BOM = b"\xef\xbb\xbf"
_FAULTS_SHOWN = 5
_NAME_SHOWN = 40
_TURN_SECONDS = 0.005


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
    """Every row in order, the same ones however the bytes are cut into pieces.

    Others on the loop get their turn although nothing is waited for: rows that nobody stores come as fast as
    they are read, tens of thousands in a piece.
    """
    turn_ends = time.monotonic() + _TURN_SECONDS
    async for steps in _steps_of(pieces, reader):
        for row in steps:
            if row is not None:
                yield row
            if time.monotonic() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + _TURN_SECONDS


async def _steps_of(pieces: AsyncIterator[bytes], reader: RowReader) -> AsyncIterator[Iterator[Row | None]]:
    """The rows of each piece, and those that are left."""
    rest = b""
    async for piece in pieces:
        lines = (rest + piece).split(b"\n")
        # Enough to know that it is too long; what follows of it is dropped as it comes.
        rest = _beginning(lines.pop())
        yield _taken(lines, reader)
    yield chain(reader.take(rest) if rest else (), reader.end())


def _taken(lines: list[bytes], reader: RowReader) -> Iterator[Row | None]:
    """The rows, of which a line may complete none, or thousands; and None behind each line."""
    for line in lines:
        yield from reader.take(_beginning(line + b"\n"))
        yield None


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
