"""The export over HTTP: whole, of one instant, or cut off so that nobody takes it for whole."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

import common.database
from api.books import export_routes
from api.books.export_routes import EXPORT_PATH as PATH
from api.settings import ApiSettings
from tests.fixtures.api import Api, served
from tests.fixtures.wire import Wire, wire_to

NDJSON = {"Accept": "application/x-ndjson"}
TITLES = [
    "Dune",
    'Quoted "and, divided"',
    "Two\nlines",
    "Carriage\rreturn",
    "=1+1",
    "🎈 Ёлка",
    "'; DROP TABLE book; --",
]


@pytest.fixture
def books(writer: httpx.Client) -> list[int]:
    """The ids of seven books with difficult titles, the last that were added."""
    return [
        writer.post(
            "/v1/books", json={"title": title, "author": "A, B", "publication_date": "0001-01-01"}
        ).json()["id"]
        for title in TITLES
    ]


@pytest.fixture
def wire(api: Api) -> Iterator[Wire]:
    with wire_to(make_url(api.settings.database_url.get_secret_value()).port or 0) as wire:
        yield wire


@pytest.fixture
def exporting(
    api: Api, api_settings: Callable[..., ApiSettings], wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx.Client]:
    """A client of a server that exports one at once, one book at a time, over the wire."""
    monkeypatch.setattr(export_routes, "AT_ONCE", 1)
    monkeypatch.setattr(export_routes, "BOOKS_AT_A_TIME", 1)
    url = make_url(api.settings.database_url.get_secret_value()).set(port=wire.port)
    settings = api_settings(database_url=SecretStr(url.render_as_string(hide_password=False)))
    with served(settings) as found, found.client(found.login()["access_token"]) as client:
        yield client


def exported(client: httpx.Client) -> dict[int, dict[str, object]]:
    answer = client.get(PATH, headers=NDJSON)
    assert answer.status_code == 200, answer.text
    return {book["id"]: book for book in map(json.loads, answer.text.split("\n")[:-1])}


def last_step(books: list[int]) -> bytes:
    """What is asked of the database when all but the last book have been read."""
    return f"book.id > {books[-2]} ".encode()


@contextmanager
def held(
    client: httpx.Client, wire: Wire, books: list[int]
) -> Iterator["Future[dict[int, dict[str, object]]]"]:
    """An export in another thread that has read all but the last book, until the wire lets it go."""
    with ThreadPoolExecutor(1) as pool:
        wire.hold_at(last_step(books))
        export = pool.submit(exported, client)
        try:
            assert wire.held.wait(10)
            yield export
        finally:
            wire.let_go()


def test_whole_books_are_exported_one_a_line_in_the_order_of_their_ids(
    writer: httpx.Client, books: list[int]
) -> None:
    found = exported(writer)
    assert list(found) == sorted(found)
    for book_id in books:
        assert found[book_id] == writer.get(f"/v1/books/{book_id}").json()


def test_what_is_exported_as_csv_can_be_imported_again(writer: httpx.Client, books: list[int]) -> None:
    answer = writer.get(PATH)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["vary"] == "Accept, Authorization"
    before = exported(writer)
    report = writer.post("/v1/books:import", content=answer.content, headers={"Content-Type": "text/csv"})
    assert report.json() == {"accepted": len(before), "rejected": 0, "errors": []}
    again = [book for book_id, book in exported(writer).items() if book_id not in before]
    for field in ("title", "author", "publication_date"):
        assert [book[field] for book in again] == [book[field] for book in before.values()]
    assert len(books) <= len(again)


def test_steps_meet_without_a_seam(exporting: httpx.Client, writer: httpx.Client, books: list[int]) -> None:
    assert exported(exporting) == exported(writer)
    assert exporting.get(PATH).content == writer.get(PATH).content
    assert set(books) <= set(exported(writer))


@pytest.mark.parametrize(
    "accept", ["application/json", "text/html, text/csv;q=0", "text/csv, ".ljust(1025, "x")], ids=len
)
def test_another_form_is_406(writer: httpx.Client, accept: str) -> None:
    answer = writer.get(PATH, headers={"Accept": accept})
    assert (answer.status_code, answer.json()["type"]) == (406, "/problems/not-acceptable")


def test_head_tells_the_form_and_reads_no_book(writer: httpx.Client) -> None:
    answer = writer.head(PATH, headers=NDJSON)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert "content-length" not in answer.headers


def test_an_export_needs_the_scope_for_reading(api: Api) -> None:
    with api.client() as nobody:
        assert nobody.get(PATH).status_code == 401
    with api.client(api.login(scope="books:write")["access_token"]) as client:
        assert client.get(PATH).status_code == 403


def test_books_are_exported_as_they_stood_when_it_began(
    exporting: httpx.Client, wire: Wire, writer: httpx.Client, books: list[int]
) -> None:
    before = exported(writer)
    with held(exporting, wire, books) as export:
        writer.patch(f"/v1/books/{books[-1]}", json={"title": "Changed"})
        writer.delete(f"/v1/books/{books[-2]}")
        writer.post("/v1/books", json={"title": "New", "author": "A", "publication_date": "2000-01-01"})
        wire.let_go()
        assert export.result() == before
    assert exported(exporting) == exported(writer) != before


def test_who_comes_when_all_places_are_taken_is_told_so(
    exporting: httpx.Client, wire: Wire, books: list[int]
) -> None:
    with held(exporting, wire, books) as export:
        answer = exporting.get(PATH)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/busy")
        assert answer.headers["retry-after"] == "1"
        wire.let_go()
        assert export.result()
    assert exported(exporting)


def test_an_export_that_loses_the_database_is_cut_off_and_the_next_is_whole(
    exporting: httpx.Client, wire: Wire, writer: httpx.Client, books: list[int]
) -> None:
    wire.cut_at(last_step(books), arrives=False)
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        exporting.get(PATH)
    assert exported(exporting) == exported(writer)


def test_an_export_that_cannot_begin_is_503(exporting: httpx.Client, wire: Wire) -> None:
    wire.cut_at(b"CONSISTENT SNAPSHOT", arrives=False)
    answer = exporting.get(PATH)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/database-unavailable")


def test_an_export_that_lasts_too_long_is_cut_off(
    exporting: httpx.Client, wire: Wire, books: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_routes, "MAX_SECONDS", 0.5)
    monkeypatch.setattr(common.database, "WORK_SECONDS", 60)
    wire.hold_at(last_step(books))
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        exporting.get(PATH)
    wire.let_go()


def test_a_client_that_leaves_gives_its_place_back_and_leaves_no_transaction_open(
    exporting: httpx.Client, wire: Wire, writer: httpx.Client, books: list[int]
) -> None:
    wire.hold_at(last_step(books))
    with exporting.stream("GET", PATH, headers=NDJSON) as answer:
        lines = answer.iter_lines()
        assert next(lines)
        assert wire.held.wait(10)
    # The one that is held still has the only connection that waits; the place is free all the same.
    with exporting.stream("GET", PATH) as second:
        assert second.status_code == 200
    wire.let_go()
    writer.patch(f"/v1/books/{books[0]}", json={"title": "Changed"})
    assert exported(exporting)[books[0]]["title"] == "Changed"
