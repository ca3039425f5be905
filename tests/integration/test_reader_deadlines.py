"""A call's deadline and its end bind the database, too: nothing is worked at for a client who is gone."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from grpc import StatusCode
from sqlalchemy import Engine

from common import database as deadlines
from protos.bookstore.v1 import books_pb2, events_pb2
from tests.fixtures.endless import endless
from tests.fixtures.reader import RunningReader
from tests.waiting import eventually

# A call begun with a timeout in seconds; what it gives is a future and a call, which no type of grpc's says.
Begin = Callable[[float | None], Any]


def calls(reader: RunningReader) -> dict[str, tuple[str, Begin]]:
    """Each call that reads a table, and the table."""
    books, events = reader.books, reader.events
    requests = {
        "GetBook": ("book", books.GetBook, books_pb2.GetBookRequest(id=1)),
        "ListBooks": ("book", books.ListBooks, books_pb2.ListBooksRequest()),
        "ListDeliveredEvents": (
            "delivered_event",
            events.ListDeliveredEvents,
            events_pb2.ListDeliveredEventsRequest(),
        ),
    }

    def begin(call: Any, request: object) -> Begin:  # noqa: ANN401  a stub's call
        return lambda timeout: call.future(request, metadata=reader.metadata, timeout=timeout)

    return {name: (table, begin(call, request)) for name, (table, call, request) in requests.items()}


NAMES = ("GetBook", "ListBooks", "ListDeliveredEvents")


@pytest.mark.usefixtures("one_book")
@pytest.mark.parametrize("name", NAMES)
def test_a_deadline_ends_the_statement_on_the_server(
    reader: RunningReader, reader_engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """By the server's own limit alone: nobody tells it that the caller has left."""
    monkeypatch.setattr("common.abandoned.AbandonedReads.end", lambda *_: None)
    table, begin = calls(reader)[name]
    with endless(reader_engine, table) as running:
        call = begin(1.2)
        begun = time.monotonic()
        eventually(running, within=1)
        assert call.code() is StatusCode.DEADLINE_EXCEEDED
        eventually(lambda: not running(), within=begun + deadlines.WORK_SECONDS - 0.5 - time.monotonic())


@pytest.mark.usefixtures("one_book")
@pytest.mark.parametrize("name", NAMES)
def test_a_call_that_is_cancelled_ends_the_statement_on_the_server(
    reader: RunningReader, reader_engine: Engine, name: str
) -> None:
    table, begin = calls(reader)[name]
    with endless(reader_engine, table) as running:
        call = begin(None)
        begun = time.monotonic()
        eventually(running, within=1)
        call.cancel()
        eventually(lambda: not running(), within=begun + deadlines.WORK_SECONDS - 0.5 - time.monotonic())


@pytest.mark.usefixtures("one_book")
def test_many_who_leave_at_once_leave_nothing_running_and_the_next_is_answered(
    reader: RunningReader, reader_engine: Engine
) -> None:
    _, begin = calls(reader)["GetBook"]
    with endless(reader_engine, "book") as running:
        begun = [begin(None) for _ in range(40)]  # more than there are connections
        eventually(lambda: running() == 16, within=2)
        for call in begun:
            call.cancel()
        eventually(lambda: not running(), within=2)
    assert begin(10).result().book.title == "Dune"


@pytest.mark.usefixtures("one_book")
def test_a_call_without_a_deadline_has_that_of_every_read(
    reader: RunningReader, reader_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends it even where the connection is not cut."""
    monkeypatch.setattr("common.database._deadline", lambda *_: nullcontext())
    _, begin = calls(reader)["GetBook"]
    with endless(reader_engine, "book") as running:
        call = begin(None)
        assert call.code() is StatusCode.UNAVAILABLE
        assert not running()


@pytest.mark.usefixtures("one_book")
def test_a_deadline_of_one_call_binds_no_later_one(reader: RunningReader, reader_engine: Engine) -> None:
    """The connection is the pool's, and goes on to the next."""
    _, begin = calls(reader)["GetBook"]
    with endless(reader_engine, "book"):
        assert begin(0.5).code() is StatusCode.DEADLINE_EXCEEDED
        begun = time.monotonic()
        assert begin(None).code() is StatusCode.UNAVAILABLE
        assert time.monotonic() - begun > deadlines.WORK_SECONDS - 0.5
