"""What clients may ask for at once: each limit, what is said beyond it, and what others still have."""

import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo  # type: ignore[import-untyped]
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from sqlalchemy import Engine

from api.auth.denials import deny
from common.settings import CacheSettings, DatabaseSettings
from grpc_reader.follower import Follower
from grpc_reader.limits import GrpcLimits
from grpc_reader.messages import StreamEvent
from protos.bookstore.v1 import books_pb2, books_pb2_grpc, events_pb2, events_pb2_grpc
from tests.fixtures.endless import endless
from tests.fixtures.frames import (
    ACK,
    INITIAL_WINDOW_SIZE,
    LIST_BOOKS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WATCH_EVENTS,
    Line,
    frame,
    lines,
    setting,
    streams,
    unread_stream,
    unread_streams,
)
from tests.fixtures.reader import Keys, RunningReader
from tests.waiting import eventually

Start = Callable[..., RunningReader]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """What is closed when the readers have stopped."""
    with ExitStack() as found:
        yield found


@pytest.fixture
def start(
    fresh_settings: DatabaseSettings,
    cache_settings: CacheSettings,
    keys: Keys,
    one_book: None,
) -> Iterator[Start]:
    """Starts a reader with these limits, and something to be asked for."""
    with ExitStack() as readers:

        def begin(**limits: int) -> RunningReader:
            made = RunningReader(fresh_settings, cache_settings, keys, limits=GrpcLimits(**limits))  # type: ignore[arg-type]
            readers.callback(made.close)
            return made

        yield begin


def get(reader: RunningReader, **call: Any) -> Any:  # noqa: ANN401  a call and a future
    metadata = call.pop("metadata", reader.metadata)
    return reader.books.GetBook.future(
        books_pb2.GetBookRequest(id=1), metadata=metadata, **{"timeout": 10, **call}
    )


def watch(reader: RunningReader, user: str = "alice") -> Any:  # noqa: ANN401  a call and an iterator
    request = events_pb2.WatchDeliveredEventsRequest()
    return reader.events.WatchDeliveredEvents(request, metadata=[bearer(reader, user)], timeout=60)


def bearer(reader: RunningReader, user: str, jti: str = "") -> tuple[str, str]:
    return "authorization", f"Bearer {reader.keys.token(sub=user, jti=jti or str(uuid4()))}"


@contextmanager
def channel(reader: RunningReader, *options: tuple[str, int]) -> Iterator[grpc.Channel]:
    """A connection of its own."""
    with grpc.insecure_channel(
        f"127.0.0.1:{reader.port}", [("grpc.use_local_subchannel_pool", 1), *options]
    ) as made:
        yield made


def is_refused(call: Any, words: str) -> bool:  # noqa: ANN401  as above
    """With RESOURCE_EXHAUSTED, whoever says so; what is answered is not refused."""
    return call.code() is StatusCode.RESOURCE_EXHAUSTED and words in call.details()


def test_a_message_above_the_limit_is_refused(start: Start) -> None:
    reader = start(grpc_max_message_bytes=20_000)
    for length, refused in ((19_000, False), (21_000, True)):
        request = books_pb2.ListBooksRequest(author="x" * length)
        call = reader.books.ListBooks.future(request, metadata=reader.metadata, timeout=10)
        assert is_refused(call, "larger than max") is refused
    assert get(reader).code() is StatusCode.OK


def test_metadata_above_the_limit_is_refused(start: Start) -> None:
    """Up to it, they are taken, every time: gRPC by itself refuses at random between two limits."""
    reader = start(grpc_max_metadata_bytes=40_000)
    for _ in range(20):
        assert get(reader, metadata=[*reader.metadata, ("x-long", "x" * 35_000)]).code() is StatusCode.OK
    beyond = get(reader, metadata=[*reader.metadata, ("x-long", "x" * 41_000)])
    assert is_refused(beyond, "metadata size exceeds")
    assert get(reader).code() is StatusCode.OK


def test_calls_above_the_limit_are_refused_at_once_and_watchers_take_no_room_from_them(
    start: Start, reader_engine: Engine
) -> None:
    reader = start(grpc_max_calls=2)
    watchers = [watch(reader) for _ in range(3)]
    with endless(reader_engine, "book") as running:
        calls = [get(reader) for _ in range(2)]
        eventually(lambda: running() == 2, within=2)
        assert is_refused(get(reader, timeout=0.5), "2 calls are under way")
        for call in calls:
            call.cancel()
        eventually(lambda: not running(), within=2)
    assert get(reader).code() is StatusCode.OK
    assert [watcher.is_active() for watcher in watchers] == [True] * 3


def test_watchers_above_the_limit_are_refused_until_one_has_left(start: Start) -> None:
    reader = start(grpc_max_watchers=2)
    watchers = [watch(reader) for _ in range(2)]
    assert [next(watcher).event.position for watcher in watchers] == [1, 1]
    third = watch(reader)
    with pytest.raises(grpc.RpcError):
        next(third)
    assert is_refused(third, "2 streams are under way")
    assert get(reader).code() is StatusCode.OK
    watchers[0].cancel()
    eventually(lambda: is_heard(watch(reader)))


def test_a_stream_that_nobody_reads_gives_its_place_back_when_its_token_is_denied(
    opened: ExitStack, start: Start, keys: Keys, reader_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    reader = start(grpc_max_watchers=1)
    token = keys.token(jti="stolen")
    stolen = unread_stream(reader.port, WATCH_EVENTS, ("authorization", f"Bearer {token}"))
    opened.callback(stolen.close)
    assert is_refused(watch(reader), "1 streams are under way")
    with reader_engine.begin() as connection:
        deny(connection, ["stolen"])
    eventually(lambda: is_heard(watch(reader)), within=5)
    end = b"log in again"
    assert end in stolen.send(setting(INITIAL_WINDOW_SIZE, 65_535)).received(5, end), (
        "at once, when it reads on"
    )
    assert not caplog.records


# How calls that nobody reads end.
ENDINGS: dict[str, Callable[[Line, int], object]] = {
    "the client cancels them": lambda line, count: line.send(
        b"".join(frame(RST_STREAM, 0, number, struct.pack(">I", 8)) for number in streams(count))
    ),
    "the connection is lost": lambda line, _: line.close(),
    "the client reads on": lambda line, _: line.send(setting(INITIAL_WINDOW_SIZE, 65_535)),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_answers_that_nobody_reads_count_as_calls_of_their_user_until(
    opened: ExitStack, start: Start, ending: str
) -> None:
    reader = start()
    unread = unread_streams(reader.port, LIST_BOOKS, 50, bearer(reader, "alice"))
    opened.callback(unread.close)
    beyond = get(reader, metadata=[bearer(reader, "alice")])
    assert is_refused(beyond, "50 calls of this user are under way")
    assert details_of(beyond) == ["TOO_MANY_CALLS", 1]
    assert get(reader, metadata=[bearer(reader, "bob")]).code() is StatusCode.OK
    assert is_heard(watch(reader, "alice"))
    ENDINGS[ending](unread, 50)
    eventually(lambda: all_begin(reader, LIST_BOOKS, 50))


@pytest.mark.parametrize("ending", [name for name in ENDINGS if name != "the client reads on"])
def test_streams_that_nobody_reads_count_as_those_of_their_user_until(
    opened: ExitStack, start: Start, ending: str
) -> None:
    reader = start(grpc_max_user_watchers=3)
    unread = unread_streams(reader.port, WATCH_EVENTS, 3, bearer(reader, "alice"))
    opened.callback(unread.close)
    beyond = watch(reader, "alice")
    assert is_refused(beyond, "3 streams of this user are under way")
    assert details_of(beyond) == ["TOO_MANY_CALLS", 1]
    assert is_heard(watch(reader, "bob"))
    assert get(reader, metadata=[bearer(reader, "alice")]).code() is StatusCode.OK
    ENDINGS[ending](unread, 3)
    eventually(lambda: all_begin(reader, WATCH_EVENTS, 3))


def test_a_denied_stream_that_nobody_reads_is_still_its_users_and_holds_no_events(
    opened: ExitStack, start: Start, reader_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []
    real = Follower.after

    async def noted(self: Follower, position: int, book_id: int) -> AsyncIterator[StreamEvent]:
        try:
            async for event in real(self, position, book_id):
                yield event
        finally:
            ended.append(position)

    monkeypatch.setattr(Follower, "after", noted)
    reader = start(grpc_max_user_watchers=1)
    denied = unread_stream(reader.port, WATCH_EVENTS, bearer(reader, "alice", jti="stolen"))
    opened.callback(denied.close)
    with reader_engine.begin() as connection:
        deny(connection, ["stolen"])
    eventually(lambda: ended, within=5)
    assert is_refused(watch(reader, "alice"), "1 streams of this user")
    end = b"log in again"
    assert end in denied.send(setting(INITIAL_WINDOW_SIZE, 65_535)).received(5, end)
    eventually(lambda: is_heard(watch(reader, "alice")))


def test_whoever_calls_again_as_soon_as_the_answer_is_there_has_the_place_again(start: Start) -> None:
    """Whatever the answer is: also an error, one that the library gives, and none that is waited for."""
    reader = start(grpc_max_user_calls=1)
    for number in range(100):
        assert get(reader).code() is StatusCode.OK
        wrong = books_pb2.ListBooksRequest(page_size=-1)
        call = reader.books.ListBooks.future(wrong, metadata=reader.metadata, timeout=10)
        assert call.code() is StatusCode.INVALID_ARGUMENT, (number, call.details())
    with pytest.raises(grpc.RpcError):
        get(reader, timeout=0.000_001).result()
    get(reader).cancel()
    eventually(lambda: get(reader).code() is StatusCode.OK)


def all_begin(reader: RunningReader, method: str, count: int) -> bool:
    """Whether alice has so many places."""
    with suppress(AssertionError):
        unread_streams(reader.port, method, count, bearer(reader, "alice")).close()
        return True
    return False


def details_of(call: Any) -> list[object]:  # noqa: ANN401  as above
    """The reason, and after how many seconds to try again."""
    status = rpc_status.from_call(call)
    info, retry = ErrorInfo(), RetryInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    return [info.reason, retry.retry_delay.seconds]


def test_who_hangs_up_while_something_is_written_to_them_is_no_fault_of_ours(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    reader = start(grpc_max_watchers=1)
    unread_stream(reader.port, WATCH_EVENTS, reader.metadata[0]).close()

    def ended() -> dict[str, float]:
        samples = next(iter(reader.metrics.calls.collect())).samples
        return {each.labels["code"]: each.value for each in samples if each.name.endswith("_total")}

    eventually(ended)
    assert ended() == {"CANCELLED": 1}
    assert not caplog.records
    assert is_heard(watch(reader))


def is_heard(stream: Any) -> bool:  # noqa: ANN401  as above
    """Whether anything comes, and no refusal."""
    try:
        return bool(next(stream))
    except grpc.RpcError:
        return False
    finally:
        stream.cancel()


def test_streams_of_health_are_few_and_health_is_told_to_everybody(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grpc_reader.open_calls._STREAMS", 2)
    reader = start()
    request = health_pb2.HealthCheckRequest()
    with channel(reader) as own:
        stub = health_pb2_grpc.HealthStub(own)
        watchers = [stub.Watch(request, timeout=60) for _ in range(2)]
        assert [next(each).status for each in watchers] == [health_pb2.HealthCheckResponse.SERVING] * 2
        third = stub.Watch(request, timeout=60)
        with pytest.raises(grpc.RpcError):
            next(third)
        assert is_refused(third, "2 streams that need no token")
        assert stub.Check(request, timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        watchers[0].cancel()
        eventually(lambda: is_heard(stub.Watch(request, timeout=60)))


def test_a_connection_has_few_calls_without_a_token_and_others_and_those_with_one_have_theirs(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grpc_reader.open_calls._CALLS_OF_A_CONNECTION", 2)
    reader = start()
    request = health_pb2.HealthCheckRequest()
    with channel(reader) as own, channel(reader) as other:
        stub = health_pb2_grpc.HealthStub(own)
        watchers = [stub.Watch(request, timeout=60) for _ in range(2)]
        assert [next(each).status for each in watchers] == [health_pb2.HealthCheckResponse.SERVING] * 2
        assert is_refused(stub.Check.future(request, timeout=10), "2 calls without a token")
        others = health_pb2_grpc.HealthStub(other)
        assert others.Check(request, timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        assert is_answered(reader, own)
        watchers[0].cancel()
        eventually(lambda: stub.Check.future(request, timeout=10).code() is StatusCode.OK)


def test_what_needs_no_token_takes_no_room_from_what_does(start: Start) -> None:
    """However many calls of any kind come, reflection still answers and a book is still found."""
    reader = start(grpc_max_calls=1, grpc_max_watchers=1)
    with channel(reader) as own:
        stub = reflection_pb2_grpc.ServerReflectionStub(own)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        [answer] = stub.ServerReflectionInfo(iter([request]), timeout=10)
    names = {service.name for service in answer.list_services_response.service}
    assert {"bookstore.v1.BookService", "bookstore.v1.EventService"} <= names
    assert get(reader).code() is StatusCode.OK


def test_connections_above_the_limit_are_not_taken_until_one_is_closed(start: Start) -> None:
    reader = start(grpc_max_connections=3)
    with ExitStack() as others:
        first, *_ = [others.enter_context(channel(reader)) for _ in range(3)]
        assert all(is_answered(reader, each) for each in [first, *_])
        with channel(reader) as beyond:
            assert not is_answered(reader, beyond)
            assert is_answered(reader, first)
            first.close()
            eventually(lambda: is_answered(reader, beyond))


def is_answered(reader: RunningReader, own: grpc.Channel) -> bool:
    stub = books_pb2_grpc.BookServiceStub(own)  # type: ignore[no-untyped-call]
    call = stub.GetBook.future(books_pb2.GetBookRequest(id=1), metadata=reader.metadata, timeout=2)
    return bool(call.code() is StatusCode.OK)


def test_a_connection_has_no_more_calls_under_way_than_the_limit_and_others_have_theirs(
    start: Start, reader_engine: Engine
) -> None:
    """The client itself holds back what is beyond: HTTP/2 tells it the limit (RFC 9113, section 5.1.2)."""
    reader = start(grpc_max_streams=2)
    with channel(reader) as own:
        stub = books_pb2_grpc.BookServiceStub(own)  # type: ignore[no-untyped-call]
        assert is_answered(reader, own)
        request = books_pb2.GetBookRequest(id=1)
        with endless(reader_engine, "book") as running:
            calls = [stub.GetBook.future(request, metadata=reader.metadata, timeout=2) for _ in range(4)]
            eventually(lambda: running() == 2, within=2)
            assert get(reader, timeout=0.2).code() is StatusCode.DEADLINE_EXCEEDED
            eventually(lambda: running() == 2, within=0.5)
            for call in calls:
                call.cancel()
            eventually(lambda: not running(), within=2)
        assert is_answered(reader, own)


@pytest.mark.parametrize(("seconds", "kept"), [(1, True), (60, False)])
def test_a_client_that_pings_too_often_loses_its_connection(
    start: Start, seconds: int, *, kept: bool
) -> None:
    reader = start(grpc_ping_seconds=seconds)
    often = (("grpc.keepalive_time_ms", 1100), ("grpc.http2.max_pings_without_data", 0))
    with channel(reader, *often) as own:
        stub = events_pb2_grpc.EventServiceStub(own)  # type: ignore[no-untyped-call]
        request = events_pb2.WatchDeliveredEventsRequest()
        stream = stub.WatchDeliveredEvents(request, metadata=reader.metadata, timeout=8)
        assert next(stream).event.position == 1
        with pytest.raises(grpc.RpcError):
            next(stream)
        expected = (StatusCode.DEADLINE_EXCEEDED, False) if kept else (StatusCode.UNAVAILABLE, True)
        assert (stream.code(), "ping" in stream.details().lower()) == expected, stream.details()


def test_a_thousand_watchers_share_one_connection(start: Start) -> None:
    reader = start(grpc_max_user_watchers=1000)
    watchers = [watch(reader) for _ in range(1000)]
    try:
        assert {next(watcher).event.position for watcher in watchers} == {1}
    finally:
        for watcher in watchers:
            watcher.cancel()


@pytest.mark.parametrize(
    ("limit", "sent"),
    [
        ("_HANDSHAKE_MILLISECONDS", b""),
        ("_IDLE_MILLISECONDS", PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0)),
    ],
    ids=["no greeting", "no call"],
)
def test_a_connection_that_is_of_no_use_is_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch, limit: str, sent: bytes
) -> None:
    monkeypatch.setattr("grpc_reader.limits." + limit, 1_000)
    with lines(start().port, 1) as (line,):
        began = time.monotonic()
        line.send(sent).received(30, b"never")
        assert 0.5 < time.monotonic() - began < 10


def test_a_client_that_has_vanished_without_a_word_is_given_up(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grpc_reader.limits._PING_MILLISECONDS", 1_000)
    monkeypatch.setattr("grpc_reader.limits._PONG_MILLISECONDS", 1_000)
    with lines(start().port, 1) as (line,):
        began = time.monotonic()
        said = line.send(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0)).received(30, b"never")
        assert 1 < time.monotonic() - began < 15
        # 8 bytes, not an answer to a ping of ours.
        assert b"\x00\x00\x08" + bytes([PING, 0]) in said
