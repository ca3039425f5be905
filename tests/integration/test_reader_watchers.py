"""Many who watch: what they cost the database, and what they cost each other."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from sqlalchemy import Engine, event

from grpc_reader import record_pages
from grpc_reader.arrival import understand
from grpc_reader.follower import Follower
from grpc_reader.generations import Generations
from grpc_reader.recorder import Recorder
from protos.bookstore.v1.books_pb2 import GetBookRequest
from protos.bookstore.v1.events_pb2 import WatchDeliveredEventsRequest
from protos.bookstore.v1.events_pb2_grpc import EventServiceStub
from tests.fixtures.endless import endless
from tests.fixtures.reader import RunningReader, make_event
from tests.waiting import eventually

GENERATION = "a" * 32
WATCHERS = 30
ALL = range(1, 601)
Record = Callable[..., None]


@pytest.fixture
def record(reader_engine: Engine) -> Record:
    """Records versions of a book."""
    generations, recorder = Generations(reader_engine), Recorder(reader_engine)
    generations.prepare()
    generations.register(GENERATION, replacing=None)

    def record(book_id: int, *versions: int, title: str = "Dune") -> None:
        arrivals = [understand(make_event(book_id, version, title)) for version in versions]
        recorder.record(arrivals, {GENERATION})

    return record


@pytest.fixture
def pages_read(reader: RunningReader) -> Iterator[list[Any]]:
    """The server's reads of the past, as they are asked: those with an end."""
    asked: list[Any] = []

    def note(*words: Any) -> None:  # noqa: ANN401  SQLAlchemy's own
        statement, values = words[2], words[3]
        if "FROM delivered_event" in statement and "<=" in statement and 2**63 - 1 not in values:
            asked.append(values)

    engine = reader.database._reads.sync_engine  # noqa: SLF001  the server's connections
    event.listen(engine, "before_cursor_execute", note)
    yield asked
    event.remove(engine, "before_cursor_execute", note)


def watch(reader: RunningReader, after: int = 0, book_id: int = 0) -> Any:  # noqa: ANN401  a call and an iterator
    request = WatchDeliveredEventsRequest(after_position=after, book_id=book_id)
    return reader.events.WatchDeliveredEvents(request, metadata=reader.metadata, timeout=60)


def take(stream: Any, count: int) -> list[int]:  # noqa: ANN401  as above
    return [next(stream).event.position for _ in range(count)]


def record_in_turn(record: Record) -> None:
    """A book for each watcher, whose events lie 30 positions apart."""
    for version in range(1, len(ALL) // WATCHERS + 1):
        for book_id in range(1, WATCHERS + 1):
            record(book_id, version)


def test_thirty_who_begin_in_the_past_read_it_once(
    reader: RunningReader, record: Record, pages_read: list[Any]
) -> None:
    record(1, *ALL)
    eventually(lambda: reader.follower._last == len(ALL))  # noqa: SLF001
    streams = [watch(reader) for _ in range(WATCHERS)]
    assert [take(stream, len(ALL)) for stream in streams] == [list(ALL)] * WATCHERS
    assert len(pages_read) == 3


def test_thirty_who_watch_a_book_each_and_are_not_far_behind_read_the_past_once(
    reader: RunningReader, record: Record, pages_read: list[Any]
) -> None:
    record_in_turn(record)
    eventually(lambda: reader.follower._last == len(ALL))  # noqa: SLF001
    streams = {book_id: watch(reader, book_id=book_id) for book_id in range(1, WATCHERS + 1)}
    for book_id, stream in streams.items():
        assert take(stream, 20) == list(range(book_id, len(ALL) + 1, WATCHERS))
    assert len(pages_read) == 3


def test_whoever_watches_a_book_and_is_far_behind_reads_that_book_alone(
    reader: RunningReader, record: Record, pages_read: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_pages, "_NEAR", 0)
    record_in_turn(record)
    eventually(lambda: reader.follower._last == len(ALL))  # noqa: SLF001
    streams = [(book_id, watch(reader, book_id=book_id)) for book_id in (1, 2) for _ in range(5)]
    for book_id, stream in streams:
        assert take(stream, 20) == list(range(book_id, len(ALL) + 1, WATCHERS))
    assert len(pages_read) == 2


def test_a_page_that_was_read_while_the_record_was_shorter_is_read_again(
    reader: RunningReader, record: Record
) -> None:
    record(1, *range(1, 101))
    assert take(watch(reader), 100) == list(range(1, 101))
    record(1, *range(101, 191))
    eventually(lambda: reader.follower._last == 190)  # noqa: SLF001
    assert take(watch(reader, 140), 50) == list(range(141, 191))


def test_an_event_wakes_those_who_wait_for_its_book_and_nobody_else(
    reader: RunningReader, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: Counter[int] = Counter()
    real = Follower._next  # noqa: SLF001

    async def counted(self: Follower, position: int, book_id: int) -> Any:  # noqa: ANN401  as it is there
        looked[book_id] += 1
        return await real(self, position, book_id)

    record_in_turn(record)
    eventually(lambda: reader.follower._last == len(ALL))  # noqa: SLF001
    streams = [watch(reader, len(ALL), book_id) for book_id in range(WATCHERS + 1)]
    eventually(lambda: len(reader.follower._waiters) == WATCHERS + 1)  # noqa: SLF001
    monkeypatch.setattr(Follower, "_next", counted)
    for version in range(21, 41):
        record(7, version)
        assert take(streams[7], 1) == take(streams[0], 1) == [len(ALL) + version - 20]
    assert set(looked) == {0, 7}
    # And those who slept through it still get what is theirs, and only that.
    record(8, 21)
    assert take(streams[8], 1) == [len(ALL) + 21]
    for stream in streams:
        stream.cancel()
    eventually(lambda: not reader.follower._waiters, because="who has left is forgotten")  # noqa: SLF001


@pytest.mark.parametrize("own_connection", [True, False])
def test_a_watcher_that_does_not_read_is_slowed_and_delays_nobody(
    reader: RunningReader, record: Record, *, own_connection: bool
) -> None:
    """It has room for some of the 1,200 kB, then waits, and gets the rest when it reads again."""
    with grpc.insecure_channel(f"127.0.0.1:{reader.port}", [("grpc.use_local_subchannel_pool", 1)]) as other:
        stub = EventServiceStub(other) if own_connection else reader.events  # type: ignore[no-untyped-call]
        request = WatchDeliveredEventsRequest()
        slow = stub.WatchDeliveredEvents(request, metadata=reader.metadata, timeout=60)
        record(1, 1)
        assert take(slow, 1) == [1]
        streams = [watch(reader) for _ in range(WATCHERS - 1)]
        for first in range(2, 1002, 100):
            record(1, *range(first, first + 100), title="🎈" * 300)
        for stream in streams:
            assert take(stream, 1001) == list(range(1, 1002))
        # The server could forget all but the last 20, and the slow one had not had them.
        assert take(slow, 1000) == list(range(2, 1002))


def test_one_who_leaves_takes_no_page_away_from_the_others(
    reader: RunningReader, record: Record, reader_engine: Engine
) -> None:
    record(1, *range(1, 101))
    eventually(lambda: reader.follower._last == 100)  # noqa: SLF001
    with reader_engine.connect() as locking:
        locking.exec_driver_sql("LOCK TABLES delivered_event WRITE")
        leaving = watch(reader)
        eventually(lambda: reader.follower._pages._reads)  # noqa: SLF001
        staying = [watch(reader) for _ in range(3)]
        leaving.cancel()
        locking.exec_driver_sql("UNLOCK TABLES")
    assert [take(stream, 100) for stream in staying] == [list(range(1, 101))] * 3


@pytest.mark.usefixtures("one_book")
def test_those_who_watch_leave_connections_to_the_calls(
    reader: RunningReader, reader_engine: Engine, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_pages, "_NEAR", 0)
    record(2, *range(1, 101))
    eventually(lambda: reader.follower._last == 101)  # noqa: SLF001
    with endless(reader_engine, "delivered_event"):
        streams = [watch(reader, book_id=book_id) for book_id in range(1, 41)]
        eventually(lambda: len(reader.follower._pages._reads) == len(streams))  # noqa: SLF001
        request = GetBookRequest(id=1)
        assert reader.books.GetBook(request, metadata=reader.metadata, timeout=1).book.title == "Dune"
        for stream in streams:
            stream.cancel()
