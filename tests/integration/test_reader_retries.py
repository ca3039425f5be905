"""The ready-made client tries reads again while the service cannot answer them, and nothing else."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import pytest

from devstack.stack import Stack
from grpc_reader.client import Client
from protos.bookstore.v1.books_pb2 import DESCRIPTOR as BOOKS
from protos.bookstore.v1.events_pb2 import DESCRIPTOR as EVENTS
from tests.fixtures.reader import RunningReader
from tests.fixtures.schema import ROOT
from tests.fixtures.trouble import frozen_database
from tests.waiting import eventually

CONFIG = json.loads((ROOT / "grpc_reader/service_config.json").read_text("utf-8"))


@pytest.fixture
def client(reader: RunningReader, one_book: None) -> Iterator[Client]:
    with Client(f"127.0.0.1:{reader.port}", reader.keys.token()) as made:
        yield made


def answered(reader: RunningReader, call: str, code: str) -> int:
    """How many calls of this name were answered so."""
    labels = {"method": f"/bookstore.v1.{call}", "code": code}
    return int(reader.metrics.registry.get_sample_value("reader_grpc_calls_total", labels) or 0)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("BookService/GetBook", lambda client: client.get(1).title),
        ("BookService/ListBooks", lambda client: next(client.pages("", "", 1))[0].title),
        ("EventService/ListDeliveredEvents", lambda client: client.events(0, 1)[0].book.title),
    ],
)
def test_a_read_that_the_database_could_not_answer_is_answered_when_it_can(
    client: Client, reader: RunningReader, stack: Stack, name: str, call: Callable[[Client], str]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with frozen_database(stack):
            found = pool.submit(call, client)
            eventually(partial(answered, reader, name, "UNAVAILABLE"))
        assert found.result() == "Dune"


def test_a_read_that_was_answered_is_not_made_again(client: Client, reader: RunningReader) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.get(2)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    eventually(lambda: answered(reader, "BookService/GetBook", "NOT_FOUND"))
    assert answered(reader, "BookService/GetBook", "NOT_FOUND") == 1


def test_a_stream_that_ends_is_not_begun_again_from_where_it_began(
    client: Client, reader: RunningReader
) -> None:
    stream = client.watch(0, 0)
    assert next(stream).position == 1
    reader.close_streams()
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_policy_names_calls_that_there_are_and_that_only_read() -> None:
    """A call that changes something must never get into it; none of those there are does."""
    there = {
        (service.full_name, method.name)
        for file in (BOOKS, EVENTS)
        for service in file.services_by_name.values()
        for method in service.methods
        if not method.server_streaming
    }
    [method_config] = CONFIG["methodConfig"]
    named = {(each["service"], each["method"]) for each in method_config["name"]}
    assert named == there
    assert all(method.startswith(("Get", "List")) for _, method in named)
    assert method_config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
