"""Requests made up from the descriptors, and bytes that are none: all have one of a few answers."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from grpc import StatusCode
from grpc_health.v1.health_pb2 import DESCRIPTOR as HEALTH
from grpc_reflection.v1alpha.reflection_pb2 import DESCRIPTOR as REFLECTION
from grpc_status import rpc_status
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from grpc_reader.errors import DOMAIN
from protos.bookstore.v1.books_pb2 import DESCRIPTOR as BOOKS
from protos.bookstore.v1.events_pb2 import DESCRIPTOR as EVENTS
from tests.fixtures.frames import CHECK_HEALTH, END_HEADERS, HEADERS, PREFACE, SETTINGS, frame, head, lines
from tests.fixtures.reader import RunningReader

pytestmark = pytest.mark.usefixtures("one_book", "nothing_to_log")

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in (BOOKS, EVENTS, HEALTH, REFLECTION)
    for service in file.services_by_name.values()
    for method in service.methods
}
OURS = {name for name in METHODS if name.startswith("/bookstore.")}
# A stream that goes well goes on until its deadline; of health, an unknown service is not found.
ALLOWED = {StatusCode.OK, StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, StatusCode.DEADLINE_EXCEEDED}
# The package of gRPC's health service has the call in its file alone.
NOT_THERE = {"/grpc.health.v1.Health/List"}
_STREAM_SECONDS = 0.15


@pytest.fixture
def nothing_to_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whoever sends nonsense does not fill our log."""
    yield
    assert [each.getMessage() for each in caplog.get_records("call") if each.levelno >= logging.WARNING] == []


few = settings(
    derandomize=True,
    database=None,
    max_examples=40,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

_TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["", "\0", "%", "_", "\\", "'", "x" * 1001, "\U0001f409" * 300, "\ufeff", "\u202e", "\ud7ff"]
    ),
)


def _whole_numbers(bits: int, low: int) -> st.SearchStrategy[int]:
    high = 2**bits + low - 1
    edges = [low, low + 1, -1, 0, 1, 200, 201, high - 1, high]
    return st.one_of(st.sampled_from([n for n in edges if low <= n <= high]), st.integers(low, high))


_VALUES = {
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=30),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: _whole_numbers(32, -(2**31)),
    FieldDescriptor.TYPE_INT64: _whole_numbers(64, -(2**63)),
    FieldDescriptor.TYPE_UINT32: _whole_numbers(32, 0),
    FieldDescriptor.TYPE_UINT64: _whole_numbers(64, 0),
}


def _value(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return made_from(field.message_type).map(GetMessageClass(field.message_type).FromString)
    return _VALUES[field.type]


def _tag(number: int, wire_type: int) -> bytes:
    value, data = number << 3 | wire_type, b""
    while value >= 128:
        data += bytes([value % 128 + 128])
        value //= 128
    return data + bytes([value])


# Fields that no file has: a number, and something of a length.
_UNKNOWN = st.lists(
    st.one_of(
        st.integers(1000, 2**29 - 1).map(lambda number: _tag(number, 0) + b"\x07"),
        st.binary(max_size=20).map(lambda data: _tag(5000, 2) + bytes([len(data)]) + data),
    ),
    max_size=2,
).map(b"".join)


def made_from(descriptor: Descriptor) -> st.SearchStrategy[bytes]:
    """Messages of this type, in bytes, each field of it being there or not."""
    fields = {field.name: _value(field) for field in descriptor.fields}
    members = st.fixed_dictionaries({}, optional=fields)
    whole = members.map(lambda found: GetMessageClass(descriptor)(**found).SerializeToString())
    return st.tuples(whole, _UNKNOWN).map(b"".join)


def asked(reader: RunningReader, name: str, body: bytes, *, token: bool = True) -> grpc.RpcError | None:
    """The error that the call ends with, if any."""
    method: MethodDescriptor = METHODS[name]
    channel: Any = reader.channel
    metadata = reader.metadata if token else ()
    timeout = _STREAM_SECONDS if method.server_streaming else 10
    try:
        if method.client_streaming:
            list(channel.stream_stream(name)(iter([body]), metadata=metadata, timeout=timeout))
        elif method.server_streaming:
            list(channel.unary_stream(name)(body, metadata=metadata, timeout=timeout))
        else:
            channel.unary_unary(name)(body, metadata=metadata, timeout=timeout)
    except grpc.RpcError as error:
        return error
    return None


def reason(error: grpc.RpcError) -> str:
    """What the details say, which must be ours."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == DOMAIN
    return str(info.reason)


def check(name: str, error: grpc.RpcError | None) -> None:
    code = error.code() if error is not None else StatusCode.OK
    assert code in ALLOWED or (name in NOT_THERE and code is StatusCode.UNIMPLEMENTED), error
    if error is not None and (
        code is StatusCode.INVALID_ARGUMENT or (name in OURS and code is StatusCode.NOT_FOUND)
    ):
        assert reason(error) in {"INVALID_INPUT", "BOOK_NOT_FOUND"}


@pytest.mark.parametrize("name", METHODS)
def test_any_message_of_the_type_has_an_answer(reader: RunningReader, name: str) -> None:
    @few
    @given(body=made_from(METHODS[name].input_type))
    def ask(body: bytes) -> None:
        check(name, asked(reader, name, body))

    ask()


@pytest.mark.parametrize("name", METHODS)
def test_any_bytes_have_an_answer(reader: RunningReader, name: str) -> None:
    @few
    @given(body=st.binary(max_size=200))
    def ask(body: bytes) -> None:
        check(name, asked(reader, name, body))

    ask()


@pytest.mark.parametrize("name", METHODS)
def test_bytes_that_are_no_message_are_refused_and_counted(reader: RunningReader, name: str) -> None:
    error = asked(reader, name, b"\xff\xff\xff")
    assert error is not None
    assert (error.code(), reason(error)) == (StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    if name in OURS:
        labels = {"method": name, "code": "INVALID_ARGUMENT"}
        assert reader.metrics.registry.get_sample_value("reader_grpc_calls_total", labels) == 1


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_stranger_hears_nothing_about_the_message(reader: RunningReader, name: str) -> None:
    error = asked(reader, name, b"\xff\xff\xff", token=False)
    assert error is not None
    assert (error.code(), reason(error)) == (StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


_HELLO = PREFACE + frame(SETTINGS, 0, 0)
_CALL = frame(HEADERS, END_HEADERS, 1, head(CHECK_HEALTH))
RAW: dict[str, Callable[[bytes], bytes]] = {
    "bytes": lambda data: data,
    "HTTP/1": lambda data: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + data,
    "a TLS greeting": lambda data: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + data,
    "a preface and bytes": lambda data: PREFACE + data,
    "bytes after a hello": lambda data: _HELLO + data,
    "bytes after a call": lambda data: _HELLO + _CALL + data,
    "a frame of any kind": lambda data: _HELLO + _CALL + frame(data[0] % 12, data[1], data[2] % 4, data[3:]),
    "a head of bytes": lambda data: _HELLO + frame(HEADERS, END_HEADERS, 1, data),
    "half a frame": lambda data: _HELLO + (_CALL + frame(0, 0, 1, data))[: -len(data) // 2],
}


@pytest.mark.parametrize("kind", RAW)
def test_any_bytes_on_the_port_leave_others_theirs(reader: RunningReader, kind: str) -> None:
    name = "/bookstore.v1.BookService/GetBook"

    @few
    @given(data=st.binary(min_size=3, max_size=300))
    def say(data: bytes) -> None:
        with lines(reader.port, 2) as hostile:
            for line in hostile:
                line.send(RAW[kind](data))
            assert asked(reader, name, b"\x08\x01") is None
        assert asked(reader, name, b"\x08\x01") is None

    say()
