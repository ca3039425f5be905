import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from api.books.csv_rows import CsvRows
from api.books.ndjson_rows import NdjsonRows
from api.books.rows import Row, RowReader, rows_of

pytestmark = pytest.mark.anyio
PIECE_BYTES = 100_000
HEAD = b"title,author,publication_date\n"


class _Slow:
    """Needs 6 ms for a line, and gives no row."""

    def take(self, _line: bytes) -> Iterator[Row]:
        begun = time.monotonic()
        while time.monotonic() < begun + 0.006:
            pass
        yield from ()

    def end(self) -> Iterator[Row]:
        yield from ()


class _Others:
    """What else the loop has to do: how often its turn came, and after how much work of the one before."""

    def __init__(self) -> None:
        self.turns = 0
        self.longest_wait_seconds = 0.0

    async def run(self) -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            self.turns += 1
            self.longest_wait_seconds = max(self.longest_wait_seconds, time.thread_time() - began)


async def _read(content: bytes, reader: RowReader) -> tuple[int, _Others]:
    """How many rows it has, and what the others had of the loop meanwhile."""

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    others = _Others()
    async with asyncio.TaskGroup() as tasks:
        at_work = tasks.create_task(others.run())
        await asyncio.sleep(0)
        count = sum([1 async for _ in rows_of(pieces(), reader)])
        await asyncio.sleep(0)
        at_work.cancel()
    return count, others


@pytest.mark.parametrize(
    ("reader", "head", "line"),
    [
        (CsvRows(), HEAD, b",,\n"),
        (CsvRows(), HEAD, b"\n"),
        # No row is complete before 64 KiB are there, and then all of them at once.
        (CsvRows(), HEAD + b'"', b"\n"),
        (CsvRows(), HEAD, b'a","\n'),
        (NdjsonRows(), b"", b"1\n"),
        (NdjsonRows(), b"", b"\n"),
    ],
)
async def test_rows_that_nobody_stores_keep_no_other_from_the_loop(
    reader: RowReader, head: bytes, line: bytes
) -> None:
    """All rows of a piece at once took seconds, in which no deadline of another call was kept."""
    lines = PIECE_BYTES // len(line)
    count, others = await _read(head + line * lines, reader)
    assert count >= lines
    assert others.longest_wait_seconds < 0.1


async def test_lines_that_complete_no_row_keep_no_other_from_the_loop() -> None:
    _, others = await _read(b"\n" * 10, _Slow())
    assert others.turns >= 10
