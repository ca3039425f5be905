"""Tables that have given their last id: nothing is lost, nothing is half, and everybody is told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import pytest
from sqlalchemy import Engine, text

from grpc_reader.consumer import Consumer
from tests.fixtures.journal import BOOK, assert_whole
from tests.fixtures.ledger import Ledger
from tests.fixtures.reader import Publisher, make_event
from tests.fixtures.relay import Relaying, Tap, backlog, versions_by_first_appearance, write
from tests.fixtures.trouble import is_problem
from tests.waiting import eventually

LAST = 2**63 - 1
HEADERS = {"Content-Type": "text/csv"}


def rows(count: int) -> bytes:
    return b"title,author,publication_date\n" + b"Dune,Frank Herbert,1965-08-01\n" * count


@contextmanager
def next_id(engine: Engine, table: str, number: int) -> Iterator[None]:
    """The table gives this id next; after the block it is empty again and begins with 1."""
    with engine.connect() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} AUTO_INCREMENT = {number}")
        try:
            yield
        finally:
            for each in ("outbox", "book"):
                connection.exec_driver_sql(f"TRUNCATE TABLE {each}")


def no_ids(answer: httpx.Response) -> bool:
    return is_problem(answer, "database-unavailable") and "no more ids" in answer.json()["detail"]


@pytest.mark.parametrize("table", ["book", "outbox"])
def test_last_ids_are_used_up_and_then_each_change_is_refused_whole(
    writer: httpx.Client, admin: Engine, ledger: Ledger, table: str
) -> None:
    add = partial(writer.post, "/v1/books", json=BOOK)
    first = add().json()["id"]
    with next_id(admin, table, LAST - 3):
        answers = [add() for _ in range(6)]
        # MySQL leaves out the last but one.
        given = 4 if getattr(admin.dialect, "is_mariadb", False) else 3
        assert [answer.status_code for answer in answers[:given]] == [201] * given
        assert all(map(no_ids, answers[given:]))
        with ledger.grows():
            assert no_ids(writer.post("/v1/books:import", content=rows(2), headers=HEADERS))
            if table == "outbox":
                assert no_ids(writer.patch(f"/v1/books/{first}", json={"title": "Changed"}))
                assert no_ids(writer.delete(f"/v1/books/{first}"))
        if table == "book":
            ids = [answer.json()["id"] for answer in answers[:given]]
            assert ids == [*range(LAST - 3, LAST - 4 + given), LAST]
            changed = writer.patch(f"/v1/books/{LAST}", json={"title": "Changed"})
            assert changed.json()["version"] == 2, "what is there can be changed as ever"
        assert_whole(admin)
    assert add().status_code == 201


def test_import_that_needs_more_ids_than_are_left_is_refused_whole_and_a_smaller_one_is_not(
    writer: httpx.Client, admin: Engine, ledger: Ledger
) -> None:
    with next_id(admin, "book", LAST - 10), ledger.grows():
        assert no_ids(writer.post("/v1/books:import", content=rows(12), headers=HEADERS))
    with next_id(admin, "book", LAST - 10), ledger.grows(books=9, events=9):
        assert writer.post("/v1/books:import", content=rows(9), headers=HEADERS).is_success
        assert_whole(admin)


def test_relay_sends_and_settles_the_last_ids_in_order(
    relay_engine: Engine, relaying: Relaying, tap: Callable[[], Tap]
) -> None:
    tapped = tap()
    with next_id(relay_engine, "outbox", LAST - 7):
        write(relay_engine, [(book_id, version) for version in (1, 2, 3) for book_id in (LAST, LAST - 1)])
        with relaying():
            eventually(lambda: backlog(relay_engine) == 0)
    assert versions_by_first_appearance(tapped) == {LAST: [1, 2, 3], LAST - 1: [1, 2, 3]}


def test_reader_gives_the_last_position_and_keeps_what_comes_after_it_until_there_are_more(
    consumer: Consumer,
    publisher: Publisher,
    recorded: Callable[[], list[tuple[int, int, int]]],
    reader_engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def set_last_position(number: int) -> None:
        with reader_engine.begin() as connection:
            connection.execute(text("UPDATE recorder SET last_position = :number"), {"number": number})

    set_last_position(LAST - 2)
    for version in (1, 2):
        publisher.publish(make_event(1, version))
        eventually(lambda version=version: len(recorded()) == version)  # type: ignore[misc]
    publisher.publish(make_event(1, 3), make_event(LAST, 1))
    eventually(lambda: any("no more positions" in str(vars(each).get("error")) for each in caplog.records))
    assert recorded() == [(LAST - 1, 1, 1), (LAST, 1, 2)]
    assert publisher.count("bookstore.reader.dead") == 0, "none of them is at fault"
    set_last_position(0)
    eventually(lambda: len(recorded()) == 4)
    assert recorded()[:2] == [(1, 1, 3), (2, LAST, 1)]
    assert consumer.connected
