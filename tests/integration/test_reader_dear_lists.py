"""ListBooks with filters, for which the database may walk the whole table, and what it leaves to others."""

from typing import Any

import grpc
from grpc import StatusCode

from common.settings import DatabaseSettings
from protos.bookstore.v1 import books_pb2
from tests.fixtures.held_books import EACH, OF_ONE_USER, TOGETHER, held_books
from tests.fixtures.reader import RunningReader
from tests.waiting import eventually


def ask(reader: RunningReader, username: str, count: int, author: str = "", title: str = "") -> list[Any]:
    metadata = [("authorization", f"Bearer {reader.keys.token(sub=username)}")]
    request = books_pb2.ListBooksRequest(author=author, title=title)
    return [reader.books.ListBooks.future(request, metadata=metadata, timeout=10) for _ in range(count)]


def test_one_user_asks_for_a_few_at_once_and_has_a_few_waiting(
    reader: RunningReader, fresh_settings: DatabaseSettings
) -> None:
    with held_books(fresh_settings) as held:
        asked = ask(reader, "alice", OF_ONE_USER + 24, author="A")
        eventually(lambda: sum(call.done() for call in asked) >= 4)
        assert held.most()[0] == EACH
    refused = [call for call in asked if call.code() is StatusCode.RESOURCE_EXHAUSTED]
    assert len(refused) >= 4
    assert all(isinstance(call, grpc.Call) and "filters" in call.details() for call in refused)
    assert all(call.code() is StatusCode.OK for call in ask(reader, "alice", 3, author="A"))


def test_all_users_leave_half_of_the_connections_to_what_is_not_dear(
    reader: RunningReader, fresh_settings: DatabaseSettings
) -> None:
    with held_books(fresh_settings) as held:
        dear = [call for name in ("alice", "bob", "carol") for call in ask(reader, name, 3 * EACH, title="B")]
        eventually(lambda: held.at_the_database()[0] == TOGETHER)
        assert held.most()[0] == TOGETHER
        # These come through to the database as ever.
        dear += ask(reader, "alice", 5)
        eventually(lambda: held.at_the_database()[1] >= 1)
    for call in dear:
        call.cancel()
    assert all(call.code() is StatusCode.OK for call in ask(reader, "alice", 3, title="B"))
