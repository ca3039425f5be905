"""A reader that is asked to end: what its clients see, and what they have when they go on elsewhere."""

import asyncio
import signal
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from itertools import count
from threading import Event, Thread
from typing import Any

import grpc
import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import Engine

from protos.bookstore.v1 import books_pb2, books_pb2_grpc, events_pb2, events_pb2_grpc
from tests.fixtures.endless import endless, slow
from tests.fixtures.frames import WATCH_HEALTH, unread_stream
from tests.fixtures.reader import Keys, Publisher, make_event
from tests.fixtures.system_services import GRACE_SECONDS, Service, Starter
from tests.waiting import eventually

Metadata = tuple[tuple[str, str], ...]


@pytest.fixture
def metadata(keys: Keys) -> Metadata:
    return (("authorization", f"Bearer {keys.token()}"),)


@pytest.fixture
def start_reader(start: Starter, keys: Keys, publisher: Publisher) -> Callable[[], Service]:
    """Starts a reader, which is consuming when it is given."""

    def begin() -> Service:
        service = start("grpc_reader", JWKS_URL=keys.url)
        eventually(lambda: service.ready, because="ready")
        return service

    return begin


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(f"127.0.0.1:{service.process.environment['GRPC_PORT']}") as channel:
        yield channel


async def in_time(done: Callable[[], bool], seconds: float = 10) -> None:
    """`eventually`, for a test that is a coroutine."""
    await asyncio.to_thread(eventually, done, within=seconds)


async def tell(stream: AsyncIterable[Any], listener: Callable[[Any], None]) -> None:
    async for answer in stream:
        listener(answer)


@pytest.mark.anyio
async def test_a_reader_that_ends_says_so_ends_streams_and_finishes_what_it_has_begun(
    start_reader: Callable[[], Service],
    publisher: Publisher,
    metadata: Metadata,
    add_books: Callable[..., None],
    reader_engine: Engine,
) -> None:
    """Health first, so that nobody is sent here any more; then the streams; a call has its answer."""
    service = await asyncio.to_thread(start_reader)
    add_books((1, "Dune", "Frank Herbert"))
    publisher.publish(make_event(1, 1))
    seen: list[object] = []
    async with connected(service) as channel:
        health, events = health_pb2_grpc.HealthStub(channel), events_pb2_grpc.EventServiceStub(channel)  # type: ignore[no-untyped-call]
        books = books_pb2_grpc.BookServiceStub(channel)  # type: ignore[no-untyped-call]

        statuses = health.Watch(health_pb2.HealthCheckRequest())
        stream = events.WatchDeliveredEvents(events_pb2.WatchDeliveredEventsRequest(), metadata=metadata)
        watchers = [
            asyncio.create_task(tell(statuses, lambda answer: seen.append(answer.status))),
            asyncio.create_task(tell(stream, lambda answer: seen.append(answer.event.position))),
        ]
        watchers[1].add_done_callback(lambda _: seen.append("ended"))
        await in_time(lambda: len(seen) == 2)
        # Longer than many a grace period; shorter than a query may take.
        with slow(reader_engine, "book", "SLEEP(2.7) = 0") as running:
            call = asyncio.ensure_future(
                books.GetBook(books_pb2.GetBookRequest(id=1), metadata=metadata, timeout=30)
            )
            await in_time(lambda: running() == 1)
            service.process.signal(signal.SIGTERM)
            await in_time(lambda: "ended" in seen, 2)
            async with connected(service) as other:
                stub = books_pb2_grpc.BookServiceStub(other)  # type: ignore[no-untyped-call]
                late = stub.GetBook(books_pb2.GetBookRequest(id=1), metadata=metadata, timeout=5)
                assert await late.code() is StatusCode.UNAVAILABLE
            assert not call.done()
            assert (await call).book.title == "Dune"
        assert set(seen[:2]) == {health_pb2.HealthCheckResponse.SERVING, 1}
        assert seen[2:] == [health_pb2.HealthCheckResponse.NOT_SERVING, "ended"]
        ended = watchers[1].exception()
        assert isinstance(ended, aio.AioRpcError)
        assert ended.code() is StatusCode.UNAVAILABLE
        assert "watch again from the last position seen" in (ended.details() or "")
        await asyncio.to_thread(service.ends, within=GRACE_SECONDS)
        await asyncio.gather(*watchers, return_exceptions=True)


@pytest.mark.anyio
async def test_what_watches_the_database_waits_behind_no_call(
    start_reader: Callable[[], Service],
    publisher: Publisher,
    metadata: Metadata,
    add_books: Callable[..., None],
    reader_engine: Engine,
) -> None:
    service = await asyncio.to_thread(start_reader)
    add_books((1, "Dune", "Frank Herbert"))
    async with connected(service) as channel:
        events, books = events_pb2_grpc.EventServiceStub(channel), books_pb2_grpc.BookServiceStub(channel)  # type: ignore[no-untyped-call]
        stream = events.WatchDeliveredEvents(events_pb2.WatchDeliveredEventsRequest(), metadata=metadata)
        with endless(reader_engine, "book") as running:
            calls = [books.ListBooks(books_pb2.ListBooksRequest(), metadata=metadata) for _ in range(40)]
            await in_time(lambda: running() == 16, 2)
            publisher.publish(make_event(1, 1))
            assert (await asyncio.wait_for(stream.read(), 1)).event.position == 1
            assert running(), "they wait still"
            for call in calls:
                call.cancel()
        stream.cancel()


def test_who_does_not_read_its_health_keeps_it_from_nobody_and_the_reader_from_no_end(
    start_reader: Callable[[], Service],
) -> None:
    service = start_reader()
    port = int(service.process.environment["GRPC_PORT"])
    with closing(unread_stream(port, WATCH_HEALTH)), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        statuses = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(statuses).status == health_pb2.HealthCheckResponse.SERVING
        service.process.signal(signal.SIGTERM)
        assert next(statuses).status == health_pb2.HealthCheckResponse.NOT_SERVING
        service.ends(within=GRACE_SECONDS)


def test_a_watcher_that_goes_on_at_another_reader_has_every_event_once_and_in_order(
    start_reader: Callable[[], Service], publisher: Publisher, metadata: Metadata
) -> None:
    """Three readers, each ended in the middle of the stream, while events keep coming."""
    service, stop = start_reader(), Event()
    published: list[int] = []

    def publish() -> None:
        for version in count(1):
            publisher.publish(make_event(1, version))
            published.append(version)
            if stop.wait(0.005):
                return

    writer = Thread(target=publish)
    writer.start()
    found: list[events_pb2.DeliveredEvent] = []
    try:
        for number in range(3):
            code = follow(service, metadata, found, until=len(found) + 150)
            assert code is StatusCode.UNAVAILABLE
            service.ends()
            if number == 2:
                stop.set()
                writer.join(10)
            service = start_reader()
    finally:
        stop.set()
        writer.join(10)
    follow(service, metadata, found, until=None, end=len(published))
    assert [event.position for event in found] == list(range(1, len(published) + 1))
    assert [event.book_version for event in found] == published


def follow(
    service: Service,
    metadata: Metadata,
    found: list[events_pb2.DeliveredEvent],
    *,
    until: int | None,
    end: int = 0,
) -> StatusCode | None:
    """Add to `found` what comes after its last one; ask the reader to end when there are `until`.

    Gives the code with which the stream ended, or None if all `end` events are there.
    """
    with grpc.insecure_channel(f"127.0.0.1:{service.process.environment['GRPC_PORT']}") as channel:
        stub = events_pb2_grpc.EventServiceStub(channel)  # type: ignore[no-untyped-call]
        after = found[-1].position if found else 0
        request = events_pb2.WatchDeliveredEventsRequest(after_position=after)
        stream = stub.WatchDeliveredEvents(request, metadata=metadata, timeout=60)
        try:
            for answer in stream:
                found.append(answer.event)
                if len(found) == until:
                    service.process.signal(signal.SIGTERM)
                if len(found) == end:
                    return None
        except grpc.RpcError as error:
            code: StatusCode = error.code()
            return code
    return None
