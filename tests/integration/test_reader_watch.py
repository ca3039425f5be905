"""WatchDeliveredEvents: exactly everything after a position, then live."""

from collections.abc import Callable
from threading import Event, Thread

import grpc
import pytest
from sqlalchemy import Engine, text

from common import fault_points
from grpc_reader.arrival import understand
from grpc_reader.generations import Generations
from grpc_reader.recorder import Recorder
from protos.bookstore.v1.events_pb2 import WatchDeliveredEventsRequest
from tests.fixtures.reader import RunningReader, make_event
from tests.waiting import eventually

GENERATION = "a" * 32


@pytest.fixture
def record(reader_engine: Engine) -> Callable[..., None]:
    generations, recorder = Generations(reader_engine), Recorder(reader_engine)
    generations.prepare()
    generations.register(GENERATION, replacing=None)

    def record(book_id: int, *versions: int) -> None:
        recorder.record([understand(make_event(book_id, version)) for version in versions], {GENERATION})

    return record


def watch(reader: RunningReader, after: int, count: int, book_id: int = 0) -> list[int]:
    """Positions of the first `count` events of a stream."""
    request = WatchDeliveredEventsRequest(after_position=after, book_id=book_id)
    stream = reader.events.WatchDeliveredEvents(request, metadata=reader.metadata, timeout=20)
    found = [next(stream).event.position for _ in range(count)]
    stream.cancel()
    return found


@pytest.mark.parametrize("after", [0, 1, 250, 280, 299])
def test_a_watcher_gets_everything_after_its_position_from_wherever_it_lies(
    reader: RunningReader, record: Callable[..., None], after: int
) -> None:
    """Far behind, at the border of what is remembered (20 events), inside it, and at the end."""
    record(1, *range(1, 301))
    assert watch(reader, after, 300 - after) == list(range(after + 1, 301))


def test_a_record_that_commits_late_is_neither_skipped_nor_overtaken(
    reader: RunningReader, record: Callable[..., None], reader_engine: Engine
) -> None:
    """The first one has its position and waits before its commit; a later one must not become visible."""
    record(1, 1, 2, 3)
    inside, go = Event(), Event()

    def wait_once(place: str) -> None:
        if place == "reader.before-commit" and not inside.is_set():
            inside.set()
            go.wait(4)

    fault_points.arm(wait_once)
    late, next_one = Thread(target=record, args=(1, 4)), Thread(target=record, args=(2, 1))
    request = WatchDeliveredEventsRequest(after_position=2)
    stream = reader.events.WatchDeliveredEvents(request, metadata=reader.metadata, timeout=20)
    try:
        late.start()
        assert inside.wait(10)
        next_one.start()
        eventually(lambda: waits_for_the_row(reader_engine))
        assert next(stream).event.position == 3
        assert watch(reader, 0, 3) == [1, 2, 3], "what is not committed does not show"
    finally:
        go.set()
        late.join(10)
        next_one.join(10)
        fault_points.arm(lambda _: None)
    found = [next(stream).event for _ in range(2)]
    assert [(event.position, event.book_id) for event in found] == [(4, 1), (5, 2)]
    stream.cancel()


def waits_for_the_row(engine: Engine) -> bool:
    statement = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT recorder%UPDATE'"
    with engine.connect() as connection:
        found = connection.execute(text(statement)).scalar()
        connection.rollback()
    return bool(found)


def test_a_watcher_of_one_book_gets_only_its_events(
    reader: RunningReader, record: Callable[..., None]
) -> None:
    for version in range(1, 61):
        record(1, version)
        record(2, version)
    assert watch(reader, 3, 58, book_id=1) == list(range(5, 120, 2))


def test_a_watcher_sees_live_what_others_record(reader: RunningReader, record: Callable[..., None]) -> None:
    record(1, 1, 2, 3)
    request = WatchDeliveredEventsRequest(after_position=2)
    stream = reader.events.WatchDeliveredEvents(request, metadata=reader.metadata, timeout=20)
    assert next(stream).event.position == 3
    record(1, 4)
    assert next(stream).event.position == 4
    record(2, *range(1, 101))
    assert [next(stream).event.position for _ in range(100)] == list(range(5, 105))
    stream.cancel()


def test_a_watcher_that_resumes_misses_and_repeats_nothing(
    reader: RunningReader, record: Callable[..., None]
) -> None:

    def write() -> None:
        for version in range(1, 121):
            record(1, version)

    writer = Thread(target=write)
    writer.start()
    found: list[int] = []
    while len(found) < 120:
        found += watch(reader, found[-1] if found else 0, min(13, 120 - len(found)))
    writer.join()
    assert found == list(range(1, 121))


def test_a_watcher_beyond_the_end_waits_for_what_comes_after_its_position(
    reader: RunningReader, record: Callable[..., None]
) -> None:
    record(1, 1)
    request = WatchDeliveredEventsRequest(after_position=2)
    stream = reader.events.WatchDeliveredEvents(request, metadata=reader.metadata, timeout=20)
    record(1, 2)
    record(1, 3)
    assert next(stream).event.position == 3
    stream.cancel()


def test_a_stream_that_the_server_ends_can_be_taken_up_again(
    reader: RunningReader, record: Callable[..., None]
) -> None:
    record(1, 1)
    request = WatchDeliveredEventsRequest()
    stream = reader.events.WatchDeliveredEvents(request, metadata=reader.metadata, timeout=20)
    assert next(stream).event.position == 1
    reader.close_streams()
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "position" in (caught.value.details() or "")
