"""Books with the longest title and author that are allowed, all the way, one and thousands at once."""

import csv
import io

import httpx
import pytest

from common.books import AUTHOR_MAX_LENGTH, TITLE_MAX_LENGTH
from grpc_reader.client import Client as GrpcClient
from tests.fixtures.system import System
from tests.waiting import eventually

# Four bytes in UTF-8, and one that JSON writes as six.
WIDEST = pytest.mark.parametrize("letter", ["🐉", "\x01"], ids=["four bytes", "escaped"])
MANY = 3000


def largest(letter: str) -> dict[str, str]:
    return {
        "title": letter * TITLE_MAX_LENGTH,
        "author": letter * AUTHOR_MAX_LENGTH,
        "publication_date": "1965-08-01",
    }


def grpc_client(system: System, client: httpx.Client) -> GrpcClient:
    return GrpcClient(
        f"127.0.0.1:{system.environment['GRPC_PORT']}", client.headers["Authorization"].split()[1]
    )


@WIDEST
def test_largest_book_comes_out_as_it_went_in_at_every_place(system: System, letter: str) -> None:
    book = largest(letter)
    with system.client() as client:
        added = client.post("/v1/books", json=book)
        assert added.status_code == 201, added.text
        path, book_id = added.headers["location"], added.json()["id"]
        assert client.patch(path, json={"publication_date": "1965-08-02"}).json()["version"] == 2
        assert client.get(path).json().items() >= {**book, "publication_date": "1965-08-02"}.items()
        events = eventually(lambda: found if len(found := system.recorded(book_id)) == 2 else [])
        assert [(e["book"]["title"], e["book"]["author"]) for e in events] == [
            (book["title"], book["author"])
        ] * 2
        with grpc_client(system, client) as reader:
            for _ in range(2):  # from the table, and from the cache
                got = reader.get(book_id)
                assert (got.title, got.author, got.version) == (book["title"], book["author"], 2)


@WIDEST
def test_book_that_is_longer_by_one_is_refused(system: System, letter: str) -> None:
    with system.client() as client:
        for field in ("title", "author"):
            book = largest(letter)
            answer = client.post("/v1/books", json={**book, field: book[field] + letter})
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/{field}")


def test_thousands_of_the_largest_events_at_once_go_through_every_window_and_page(system: System) -> None:
    book = largest("🐉")
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(book))
    writer.writeheader()
    writer.writerows([book] * MANY)
    with system.client() as client:
        before = client.post("/v1/books", json=book).json()["id"]
        headers = {"Content-Type": "text/csv"}
        answer = client.post("/v1/books:import", content=text.getvalue().encode(), headers=headers)
        assert answer.is_success, answer.text
        eventually(lambda: system.readiness("outbox_relay")[1].get("backlog") == 0, within=60)

        def all_are_recorded() -> bool:
            events = [event for event in system.recorded() if int(event["book"]["id"]) > before]
            assert all(event["book"]["author"] == book["author"] for event in events)
            return len(events) == MANY

        eventually(all_are_recorded, within=60)
        with grpc_client(system, client) as reader:
            found = [got for page in reader.pages("", "", 1000) for got in page]
        assert sum(got.title == book["title"] for got in found) >= MANY
