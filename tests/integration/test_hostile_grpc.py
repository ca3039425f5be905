"""What no client sends, in frames written by hand: others are answered in time, meanwhile and after.

Calls are taken up in the order in which they come, so the time is that of the calls that are ahead: no more
than GRPC_MAX_STREAMS of each connection, which is counted here too (docs/adr/0024).
"""

import gc
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import grpc
import pytest

from common.settings import CacheSettings, DatabaseSettings
from grpc_reader.limits import GrpcLimits
from protos.bookstore.v1 import books_pb2, books_pb2_grpc
from tests.fixtures.frames import (
    ACK,
    CHECK_HEALTH,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET_BOOK,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    field,
    frame,
    head,
    lines,
    message,
    setting,
    streams,
)
from tests.fixtures.reader import Keys, RunningReader
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("one_book")


@pytest.fixture
def reader(
    fresh_settings: DatabaseSettings, cache_settings: CacheSettings, keys: Keys
) -> Iterator[RunningReader]:
    """As it is advised to be run where strangers reach the port."""
    running = RunningReader(fresh_settings, cache_settings, keys, limits=GrpcLimits(grpc_max_streams=100))
    yield running
    running.close()


HELLO = PREFACE + frame(SETTINGS, 0, 0)
# Of those who have not acknowledged the server's settings, it takes no more calls than its limit in all.
ACKNOWLEDGED = HELLO + frame(SETTINGS, ACK, 0)
_CALL = head(GET_BOOK)
# A header of 4,000 bytes that goes into the table of the connection, and is then named again and again.
_BOMB = b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 12_000


def calls(count: int, block: bytes = _CALL, flags: int = END_HEADERS) -> bytes:
    """So many calls on one connection, whose message does not follow."""
    return HELLO + b"".join(frame(HEADERS, flags, number, block) for number in streams(count))


def calls_reset_at_once(count: int) -> bytes:
    reset = struct.pack(">I", 8)
    return HELLO + b"".join(
        frame(HEADERS, END_HEADERS, number, _CALL) + frame(RST_STREAM, 0, number, reset)
        for number in streams(count)
    )


def health_without_window(count: int) -> bytes:
    block, body = head(CHECK_HEALTH), message(b"")
    asked = [
        frame(HEADERS, END_HEADERS, number, block) + frame(DATA, END_STREAM, number, body)
        for number in streams(count)
    ]
    return HELLO + setting(INITIAL_WINDOW_SIZE, 0) + b"".join(asked)


FLOODS = {
    "calls without a message": calls(1900),
    "calls for health without a message": calls(1900, head(CHECK_HEALTH)),
    "calls for reflection without a message": calls(
        1900, head("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    ),
    "calls of what is not there": calls(1900, head("/nothing.of.the/Kind")),
    "calls that end without a message": calls(1900, flags=END_HEADERS | END_STREAM),
    "calls with a token that is none": calls(1900, head(GET_BOOK, ("authorization", "Bearer x.y.z"))),
    "answers that nobody reads": health_without_window(1900),
    "calls that are reset at once": calls_reset_at_once(5000),
    "calls of one who knows the limit": ACKNOWLEDGED + calls(20_000)[len(HELLO) :],
    "calls that are reset at once, of one who knows the limit": ACKNOWLEDGED
    + calls_reset_at_once(20_000)[len(HELLO) :],
    "PING": HELLO + frame(PING, 0, 0, b"12345678") * 50_000,
    "PING answers": HELLO + frame(PING, ACK, 0, b"12345678") * 50_000,
    "SETTINGS": HELLO + setting(INITIAL_WINDOW_SIZE, 65_535) * 50_000,
    "SETTINGS answers": HELLO + frame(SETTINGS, ACK, 0) * 50_000,
    "PRIORITY": HELLO + frame(PRIORITY, 0, 1, struct.pack(">IB", 3, 16)) * 50_000,
    "CONTINUATION without end": calls(1, flags=0) + frame(CONTINUATION, 0, 1, field("x", "y" * 100)) * 20_000,
    "empty CONTINUATION": calls(1, flags=0) + frame(CONTINUATION, 0, 1) * 50_000,
    "a head of 4 MB": calls(1, flags=0)
    + frame(CONTINUATION, 0, 1, field("x", "y" * 16_000)) * 250
    + frame(CONTINUATION, END_HEADERS, 1),
    "a small head that means 48 MB": calls(20, _CALL + _BOMB),
    "WINDOW_UPDATE of nothing": calls(100)
    + b"".join(frame(WINDOW_UPDATE, 0, number, struct.pack(">I", 0)) for number in (0, *streams(100))),
    "WINDOW_UPDATE beyond all windows": calls(1)
    + b"".join(frame(WINDOW_UPDATE, 0, number, struct.pack(">I", 2**31 - 1)) * 2 for number in (1, 0)),
    "WINDOW_UPDATE of one byte": calls(1) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 50_000,
    "empty DATA": calls(1) + frame(DATA, 0, 1) * 50_000,
    "DATA of no call": HELLO + frame(DATA, 0, 77, b"x" * 1000) * 1000,
    "a frame of 16 MB": HELLO + frame(DATA, 0, 1, b"x" * (2**24 - 1)),
    "unknown frames": HELLO + frame(77, 255, 0, b"x" * 100) * 20_000,
    "half a preface": PREFACE[:10],
    "half a frame": calls(1)[:-5],
    "silence": b"",
}

# What two cores do in two seconds. Behind calls it is a seventh of it at most, while coverage is measured;
# PINGs are more, for gRPC itself reads all of them on as many cores as there are.
PROCESSOR_SECONDS = 4.0

# Of these, each holds what it can get.
LASTING = {
    "calls without a message",
    "calls for health without a message",
    "calls for reflection without a message",
    "answers that nobody reads",
}


@contextmanager
def well_behaved(reader: RunningReader) -> Iterator[Callable[[], int]]:
    """Somebody goes on asking, now and after, and each answer comes in time.

    That is the processor time of this process, in which the server, the flood and whoever asks are: so it
    does not matter what else keeps the machine busy. Gives a look at how often they have asked.
    """
    done, faults, took = Event(), list[str](), list[float]()
    metadata = reader.metadata

    def ask() -> None:
        own = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{reader.port}", own) as channel:
            stub = books_pb2_grpc.BookServiceStub(channel)  # type: ignore[no-untyped-call]
            after = 0
            while after < 5:
                after += done.is_set()
                begun = time.process_time()
                try:
                    stub.GetBook(books_pb2.GetBookRequest(id=1), metadata=metadata, timeout=30)
                except grpc.RpcError as error:
                    faults.append(str(error.details()))
                took.append(time.process_time() - begun)
                done.wait(0.01)

    asking = Thread(target=ask)
    asking.start()
    try:
        eventually(lambda: took)
        yield lambda: len(took)
    finally:
        done.set()
        asking.join(60)
    assert faults == []
    assert max(took) < PROCESSOR_SECONDS
    with grpc.insecure_channel(f"127.0.0.1:{reader.port}", [("grpc.use_local_subchannel_pool", 1)]) as late:
        stub = books_pb2_grpc.BookServiceStub(late)  # type: ignore[no-untyped-call]
        assert stub.GetBook(books_pb2.GetBookRequest(id=1), metadata=metadata, timeout=30).book.id == 1


@pytest.mark.parametrize("name", FLOODS)
def test_others_are_answered_in_a_flood_of(reader: RunningReader, name: str) -> None:
    with well_behaved(reader) as asked, lines(reader.port, 3) as hostile:
        senders = [Thread(target=line.send, args=[FLOODS[name]]) for line in hostile]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        # Until the server has taken up what waits for it, and the calls that it can do nothing about stay.
        enough = asked() + (200 if name in LASTING else 40)
        eventually(lambda: asked() >= enough, within=60)


@pytest.mark.parametrize(
    "name",
    [
        "calls without a message",
        "calls with a token that is none",
        "calls that are reset at once",
        "calls of one who knows the limit",
        "calls that are reset at once, of one who knows the limit",
    ],
)
def test_no_more_than_a_hundred_calls_of_each_connection_are_ahead_of_a_good_one(
    reader: RunningReader, name: str
) -> None:
    release = Event()
    # While the loop stands still it takes nothing up, and all that gRPC does not refuse by itself waits.
    reader.loop.call_soon_threadsafe(release.wait, 30)
    try:
        with lines(reader.port, 3) as hostile:
            for line in hostile:
                line.send(FLOODS[name] + frame(PING, 0, 0, b"all read"))
                assert b"all read" in line.received(10, b"all read")
            good = reader.books.GetBook.future(books_pb2.GetBookRequest(id=1), metadata=reader.metadata)
            release.set()
            assert good.result(20).book.id == 1
    finally:
        release.set()
    samples = (sample for metric in reader.metrics.calls.collect() for sample in metric.samples)
    ahead = sum(each.value for each in samples if each.name.endswith("_total")) - 1
    # gRPC counts what it has in memory, to within a few.
    assert 290 <= ahead <= 310


def test_who_sends_a_byte_at_a_time_and_who_says_nothing_hold_nobody_up(reader: RunningReader) -> None:
    """Each of them somebody else, for one user may not have a hundred calls."""
    body = frame(DATA, END_STREAM, 1, message(books_pb2.GetBookRequest(id=1).SerializeToString()))
    with well_behaved(reader), lines(reader.port, 100) as slow, lines(reader.port, 300):
        for number, line in enumerate(slow):
            token = f"Bearer {reader.keys.token(sub=f'slow {number}')}"
            line.send(HELLO + frame(HEADERS, END_HEADERS, 1, head(GET_BOOK, ("authorization", token))))
        for number in range(len(body)):
            for line in slow:
                line.send(body[number : number + 1])
        assert all(b"Dune" in line.received(30, b"Dune") for line in slow)


def test_a_message_that_does_not_come_ends_its_call(
    reader: RunningReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grpc_reader.request_message._SECONDS", 0.3)
    token = dict(reader.metadata)["authorization"]
    with lines(reader.port, 2) as (known, open_):
        for line, block in (
            (known, head(GET_BOOK, ("authorization", token))),
            (open_, head(CHECK_HEALTH)),
        ):
            line.send(calls(1, block))
            assert b"has not come within 0.3 seconds" in line.received(2, b"0.3 seconds")


def test_a_stranger_is_refused_before_the_message_is_there(reader: RunningReader) -> None:
    with lines(reader.port, 1) as (line,):
        assert b"Send a bearer token" in line.send(calls(1)).received(2, b"Send a bearer token")


def test_a_refused_call_leaves_nothing_to_the_garbage_collector(reader: RunningReader) -> None:
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(grpc.RpcError):
            reader.books.GetBook(books_pb2.GetBookRequest(id=1))
        assert not [each for each in gc.get_objects() if type(each) is grpc.aio.AbortError]
    finally:
        gc.enable()


def test_a_second_message_of_a_call_with_one_is_never_read(reader: RunningReader) -> None:
    token = dict(reader.metadata)["authorization"]
    found, lost = (message(books_pb2.GetBookRequest(id=number).SerializeToString()) for number in (1, 2))
    with lines(reader.port, 1) as (line,):
        line.send(
            calls(1, head(GET_BOOK, ("authorization", token))) + frame(DATA, END_STREAM, 1, found + lost)
        )
        answer = line.received(1, b"\0" * 100)
    assert (answer.count(b"Dune"), answer.count(b"There is no book")) == (1, 0)
