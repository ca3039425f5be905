"""gRPC calls on a database that is frozen or locked."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from sqlalchemy import Engine

from devstack.stack import Stack
from protos.bookstore.v1 import books_pb2, events_pb2
from tests.fixtures.reader import Publisher, RunningReader, make_event
from tests.fixtures.trouble import frozen_database
from tests.waiting import eventually

DEADLINE_SECONDS = 5.0


def calls(reader: RunningReader) -> list[Callable[[], object]]:
    metadata = reader.metadata
    get, page, events = (
        books_pb2.GetBookRequest(id=1),
        books_pb2.ListBooksRequest(),
        events_pb2.ListDeliveredEventsRequest(),
    )
    return [
        lambda: reader.books.GetBook(get, metadata=metadata, timeout=30),
        lambda: reader.books.ListBooks(page, metadata=metadata, timeout=30),
        lambda: reader.events.ListDeliveredEvents(events, metadata=metadata, timeout=30),
    ]


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, float]:
    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), time.monotonic() - begun


def answers(call: Callable[[], object]) -> bool:
    try:
        call()
    except grpc.RpcError:
        return False
    return True


def test_calls_on_a_frozen_database_are_unavailable_within_the_deadline_and_soon_answered_again(
    reader: RunningReader, add_books: Callable[..., None], stack: Stack
) -> None:
    add_books((1, "Dune", "Frank Herbert"))
    assert all(map(answers, calls(reader)))
    with ThreadPoolExecutor(8) as pool, frozen_database(stack):
        for _ in range(2):  # by the connections that there are, and by new ones
            for code, seconds in pool.map(refusal, calls(reader)):
                assert (code, seconds < DEADLINE_SECONDS) == (grpc.StatusCode.UNAVAILABLE, True)
    eventually(lambda: all(map(answers, calls(reader))), within=2)


def test_call_on_a_table_that_somebody_else_has_locked_is_refused_within_the_deadline(
    reader: RunningReader, reader_engine: Engine, add_books: Callable[..., None]
) -> None:
    add_books((1, "Dune", "Frank Herbert"))
    [_, page, _] = calls(reader)
    with reader_engine.connect() as other:
        other.exec_driver_sql("LOCK TABLES book WRITE")
        code, seconds = refusal(page)
        other.exec_driver_sql("UNLOCK TABLES")
    assert seconds < DEADLINE_SECONDS
    assert code in {grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE}
    assert answers(page)


@pytest.mark.parametrize(
    ("take", "give_back", "code"),
    [
        ("LOCK TABLES delivered_event WRITE", "UNLOCK TABLES", grpc.StatusCode.ABORTED),
        (
            "RENAME TABLE delivered_event TO away",
            "RENAME TABLE away TO delivered_event",
            grpc.StatusCode.INTERNAL,
        ),
    ],
    ids=["locked", "gone"],
)
@pytest.mark.usefixtures("consumer")
def test_the_record_is_followed_again_when_its_table_was_locked_or_gone(  # noqa: PLR0913, PLR0917
    reader: RunningReader,
    reader_engine: Engine,
    publisher: Publisher,
    caplog: pytest.LogCaptureFixture,
    take: str,
    give_back: str,
    code: grpc.StatusCode,
) -> None:
    """Who is up to date just waits; who has to read what is not remembered (20 events) hears of it."""

    def watch(after: int) -> Iterator[events_pb2.WatchDeliveredEventsResponse]:
        request = events_pb2.WatchDeliveredEventsRequest(after_position=after)
        return iter(reader.events.WatchDeliveredEvents(request, metadata=reader.metadata, timeout=30))

    def complaints() -> int:
        return sum(each.getMessage() == "record not followed" for each in caplog.records)

    publisher.publish(*(make_event(1, version) for version in range(1, 451)))
    # It reads the last page, and leaves the first unread.
    watcher = watch(420)
    assert [next(watcher).event.position for _ in range(30)] == list(range(421, 451))
    [_, _, events] = calls(reader)
    with reader_engine.connect() as other:
        other.exec_driver_sql(take)
        try:
            eventually(lambda: complaints() == 1)
            for call in (events, lambda: next(watch(0))):
                assert refusal(call)[0] == code
        finally:
            other.exec_driver_sql(give_back)
    publisher.publish(make_event(1, 451))
    assert next(watcher).event.position == 451
    assert complaints() == 1, "it is said once"
    assert next(watch(0)).event.position == 1
