"""Each gRPC call from outside, on a real database."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
    ResourceInfo,
)
from grpc_status import rpc_status
from redis import Redis
from sqlalchemy import Engine, text

from common.cache import TICKET_KEY
from common.settings import CacheSettings
from grpc_reader.arrival import understand
from grpc_reader.generations import Generations
from grpc_reader.recorder import Recorder
from grpc_reader.ticket import Ticket
from protos.bookstore.v1 import books_pb2, events_pb2
from tests.fixtures.reader import Keys, RunningReader, make_event, new_key
from tests.waiting import eventually

Add = Callable[..., None]


@pytest.fixture
def record(reader_engine: Engine) -> Callable[..., None]:
    generations, recorder = Generations(reader_engine), Recorder(reader_engine)
    generations.prepare()
    generations.register("a" * 32, replacing=None)

    def record(*bodies: str) -> None:
        recorder.record([understand(body) for body in bodies], {"a" * 32})

    return record


def refused(error: grpc.RpcError, code: grpc.StatusCode, reason: str) -> list[Any]:
    """The error's other details, after a look at its code and reason."""
    assert error.code() is code, error
    status = rpc_status.from_call(error)
    found = []
    for detail in status.details:
        for kind in (ErrorInfo, BadRequest, ResourceInfo):
            if detail.Is(kind.DESCRIPTOR):
                message = kind()
                detail.Unpack(message)
                found.append(message)
    assert found[0].reason == reason
    return found[1:]


def get(reader: RunningReader, book_id: int, metadata: list[tuple[str, str]] | None = None) -> books_pb2.Book:
    request = books_pb2.GetBookRequest(id=book_id)
    metadata = reader.metadata if metadata is None else metadata
    answer: books_pb2.GetBookResponse = reader.books.GetBook(request, metadata=metadata, timeout=10)
    return answer.book


def titles(reader: RunningReader, author: str = "", title: str = "", page_size: int = 0) -> list[str]:
    request = books_pb2.ListBooksRequest(author=author, title=title, page_size=page_size)
    answer = reader.books.ListBooks(request, metadata=reader.metadata, timeout=10)
    assert not answer.next_page_token
    return [book.title for book in answer.books]


def test_get_book_gives_the_whole_book(reader: RunningReader, add_books: Add) -> None:
    add_books((2**62, "Ё 🐉 ß", "Frank Herbert"), version=3)
    book = get(reader, 2**62)
    assert (book.id, book.title, book.author) == (2**62, "Ё 🐉 ß", "Frank Herbert")
    assert (book.publication_date, book.version) == ("1965-08-01", 3)
    assert book.create_time == book.update_time
    assert book.create_time.seconds > 1_700_000_000


def test_get_book_of_an_unknown_id_names_it(reader: RunningReader) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        get(reader, 7)
    (resource,) = refused(caught.value, grpc.StatusCode.NOT_FOUND, "BOOK_NOT_FOUND")
    assert (resource.resource_type, resource.resource_name) == ("bookstore.v1.Book", "7")


@pytest.mark.parametrize("book_id", [0, -1, -(2**63)])
def test_get_book_below_one_is_refused(reader: RunningReader, book_id: int) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        get(reader, book_id)
    (request,) = refused(caught.value, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert [each.field for each in request.field_violations] == ["id"]


@pytest.mark.usefixtures("patient_cache")
def test_get_book_is_served_from_the_cache_while_a_consumer_answers_for_it(
    reader: RunningReader, add_books: Add, reader_engine: Engine, cache_settings: CacheSettings
) -> None:
    generations = Generations(reader_engine)
    generations.prepare()
    ticket = Ticket(cache_settings, generations)
    ticket.take_over()
    add_books((1, "Dune", "Frank Herbert"))
    assert get(reader, 1).title == "Dune"
    with reader_engine.begin() as connection:
        connection.execute(text("UPDATE book SET title = 'Dune Messiah'"))
    assert get(reader, 1).title == "Dune", "from the cache"
    assert ticket.evict([1]) == 0
    assert get(reader, 1).title == "Dune Messiah"
    ticket.release()
    ticket.close()


def test_list_books_goes_through_all_by_pages_without_repeats(reader: RunningReader, add_books: Add) -> None:
    add_books(*((number, f"Title {number}", "A") for number in range(1, 8)))
    request = books_pb2.ListBooksRequest(page_size=3)
    found = []
    while True:
        answer = reader.books.ListBooks(request, metadata=reader.metadata, timeout=10)
        found.append([book.id for book in answer.books])
        add_books((100 - len(found), "late", "A"))
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
        if len(found) == 2:
            request.page_size = 5
    assert found == [[1, 2, 3], [4, 5, 6], [7, 98, 99]]


@pytest.mark.parametrize(("size", "count"), [(0, 50), (1, 1), (200, 200), (201, 200), (2**31 - 1, 200)])
def test_list_books_page_sizes(reader: RunningReader, add_books: Add, size: int, count: int) -> None:
    add_books(*((number, "T", "A") for number in range(1, 211)))
    answer = reader.books.ListBooks(
        books_pb2.ListBooksRequest(page_size=size), metadata=reader.metadata, timeout=10
    )
    assert len(answer.books) == count
    assert answer.next_page_token


def test_list_books_of_an_exactly_full_last_page_ends(reader: RunningReader, add_books: Add) -> None:
    add_books((1, "A", "A"), (2, "B", "A"))
    assert titles(reader, page_size=2) == ["A", "B"]


def test_list_books_of_an_empty_table_is_empty(reader: RunningReader) -> None:
    assert titles(reader) == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"author": "Frank"}, ["Dune", "100% true", "1000 nights", "a_b", "axb", "!odd", "Ёлка"]),
        ({"author": "frank h"}, ["Dune", "100% true", "1000 nights", "a_b", "axb", "!odd", "Ёлка"]),
        ({"author": "Herbert"}, []),
        ({"title": "100%"}, ["100% true"]),
        ({"title": "a_"}, ["a_b"]),
        ({"title": "!"}, ["!odd"]),
        ({"title": "ёл"}, ["Ёлка"]),
        ({"title": "dune", "author": "frank"}, ["Dune"]),
        ({"title": "\\"}, []),
        ({"title": "x' OR '1'='1"}, []),
    ],
)
def test_list_books_filters_are_prefixes_of_ordinary_letters(
    reader: RunningReader, add_books: Add, filters: dict[str, Any], expected: list[str]
) -> None:
    names = ["Dune", "100% true", "1000 nights", "a_b", "axb", "!odd", "Ёлка"]
    add_books(*((number, name, "Frank Herbert") for number, name in enumerate(names, 1)))
    assert titles(reader, **filters) == expected


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (books_pb2.ListBooksRequest(page_size=-1), "page_size"),
        (books_pb2.ListBooksRequest(page_token="no token"), "page_token"),
        (books_pb2.ListBooksRequest(author="x" * 1001), "author"),
        (books_pb2.ListBooksRequest(title="x" * 301), "title"),
        (books_pb2.ListBooksRequest(title="Du\0ne"), "title"),
        (books_pb2.ListBooksRequest(author="\0"), "author"),
        (events_pb2.ListDeliveredEventsRequest(page_size=-1), "page_size"),
        (events_pb2.ListDeliveredEventsRequest(book_id=-1), "book_id"),
        (events_pb2.ListDeliveredEventsRequest(page_token="AAAA"), "page_token"),
        (events_pb2.WatchDeliveredEventsRequest(after_position=-1), "after_position"),
        (events_pb2.WatchDeliveredEventsRequest(book_id=-1), "book_id"),
    ],
)
def test_a_request_that_breaks_a_rule_names_the_field(
    reader: RunningReader, request_: object, field: str
) -> None:
    name = type(request_).__name__.removesuffix("Request")
    stub = reader.books if isinstance(request_, books_pb2.ListBooksRequest) else reader.events
    with pytest.raises(grpc.RpcError) as caught:
        list(getattr(stub, name)(request_, metadata=reader.metadata, timeout=10))
    (request,) = refused(caught.value, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert [each.field for each in request.field_violations] == [field]


def test_a_page_token_of_other_filters_is_refused(reader: RunningReader, add_books: Add) -> None:
    add_books((1, "A", "A"), (2, "A", "A"))
    first = reader.books.ListBooks(
        books_pb2.ListBooksRequest(page_size=1, title="A"), metadata=reader.metadata, timeout=10
    )
    with pytest.raises(grpc.RpcError) as caught:
        reader.books.ListBooks(
            books_pb2.ListBooksRequest(page_size=1, page_token=first.next_page_token),
            metadata=reader.metadata,
            timeout=10,
        )
    refused(caught.value, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")


def test_list_delivered_events_gives_the_newest_first_and_pages_on(
    reader: RunningReader, record: Callable[..., None]
) -> None:
    bodies = [make_event(book_id, version) for version in (1, 2) for book_id in (1, 2)]
    record(*bodies)
    request = events_pb2.ListDeliveredEventsRequest(page_size=3)
    first = reader.events.ListDeliveredEvents(request, metadata=reader.metadata, timeout=10)
    assert [(each.position, each.book_id, each.book_version) for each in first.events] == [
        (4, 2, 2),
        (3, 1, 2),
        (2, 2, 1),
    ]
    request.page_token = first.next_page_token
    second = reader.events.ListDeliveredEvents(request, metadata=reader.metadata, timeout=10)
    assert [each.position for each in second.events] == [1]
    assert not second.next_page_token
    event, body = second.events[0], json.loads(bodies[0])
    assert (event.id, event.type, event.book.title) == (body["id"], body["type"], "Dune")
    assert event.record_time.ToNanoseconds() >= event.time.ToNanoseconds()


def test_list_delivered_events_of_one_book(reader: RunningReader, record: Callable[..., None]) -> None:
    record(make_event(1, 1), make_event(2, 1), make_event(1, 2))
    request = events_pb2.ListDeliveredEventsRequest(book_id=1)
    answer = reader.events.ListDeliveredEvents(request, metadata=reader.metadata, timeout=10)
    assert [each.position for each in answer.events] == [3, 1]
    request = events_pb2.ListDeliveredEventsRequest(book_id=9)
    assert not reader.events.ListDeliveredEvents(request, metadata=reader.metadata, timeout=10).events


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], "missing"),
        ([("authorization", "Basic Og==")], "another scheme"),
        ([("authorization", "Bearer")], "empty"),
        ([("authorization", "Bearer x.y.z")], "not a token"),
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], "two"),
    ],
)
def test_a_call_without_a_good_token_is_unauthenticated(
    reader: RunningReader, metadata: list[tuple[str, str]], reason: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        get(reader, 1, metadata)
    refused(caught.value, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def test_tokens_that_are_not_for_us_are_unauthenticated(reader: RunningReader, keys: Keys) -> None:
    bad = {
        "expired": keys.token(exp=1),
        "another issuer": keys.token(iss="elsewhere"),
        "another audience": keys.token(aud="elsewhere"),
        "no access token": keys.token(typ="JWT"),
        "a foreign key": keys.token(key=new_key()),
        "tampered": keys.token()[:-6] + "AAAAAA",
        "too long": keys.token(padding="x" * 5000),
    }
    for token in bad.values():
        with pytest.raises(grpc.RpcError) as caught:
            get(reader, 1, bearer(token))
        refused(caught.value, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_a_stream_needs_a_token_too(reader: RunningReader) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(reader.events.WatchDeliveredEvents(events_pb2.WatchDeliveredEventsRequest(), timeout=10))
    refused(caught.value, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_a_token_without_the_scope_is_denied_and_the_scope_is_named(
    reader: RunningReader, keys: Keys
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        get(reader, 1, bearer(keys.token(scope="books:write outbox:admin")))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "books:read" in (caught.value.details() or "")


def test_calls_are_counted_by_their_code(reader: RunningReader, add_books: Add) -> None:
    add_books((1, "Dune", "Frank Herbert"))
    get(reader, 1)
    with pytest.raises(grpc.RpcError):
        get(reader, 2)
    method = "/bookstore.v1.BookService/GetBook"

    def counted(code: str) -> bool:
        labels = {"method": method, "code": code}
        return reader.metrics.registry.get_sample_value("reader_grpc_calls_total", labels) == 1

    # A call is counted when it has ended, which its client may know a moment earlier.
    eventually(lambda: counted("OK"))
    eventually(lambda: counted("NOT_FOUND"))


def test_a_fault_of_ours_tells_nothing(
    reader: RunningReader, reader_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with reader_engine.begin() as connection:
        connection.execute(text("RENAME TABLE book TO lost_book"))
    try:
        with pytest.raises(grpc.RpcError) as caught:
            get(reader, 1)
    finally:
        with reader_engine.begin() as connection:
            connection.execute(text("RENAME TABLE lost_book TO book"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "book" not in (caught.value.details() or "")
    assert any(each.getMessage() == "call failed" for each in caplog.records)


def test_the_cache_has_no_ticket_of_ours_left(cache_settings: CacheSettings) -> None:
    """Other tests of this file count on it."""
    with Redis.from_url(cache_settings.cache_url.get_secret_value()) as client:
        # That of a reader that was killed in a file before stands for three seconds.
        eventually(lambda: client.get(TICKET_KEY) is None)
