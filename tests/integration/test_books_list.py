"""The list over HTTP: pages, cursors, filters."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fixtures.api import Api

DAY = "2000-01-01"


@pytest.fixture(scope="module")
def author(writer: httpx.Client) -> str:
    """The author of seven books of 2001 to 2007, titled 1 to 7, which no test changes."""
    for number in range(1, 8):
        add(writer, "Iain M. Banks", str(number), f"200{number}-01-01")
    return "Iain M. Banks"


@pytest.fixture
def shelf(writer: httpx.Client, request: pytest.FixtureRequest) -> str:
    """An author of ten books that belong to one test."""
    name = f"author of {request.node.name}"
    for number in range(10):
        add(writer, name, str(number))
    return name


def add(writer: httpx.Client, author: str, title: str, day: str = DAY) -> int:
    fields = {"title": title, "author": author, "publication_date": day}
    answer = writer.post("/v1/books", json=fields)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def titles(page: httpx.Response) -> list[str]:
    assert page.status_code == 200, page.text
    return [book["title"] for book in page.json()["items"]]


def pages(writer: httpx.Client, **query: str | int) -> Iterator[httpx.Response]:
    """Page after page, by `next_cursor`; a walk that goes round in circles fails."""
    cursor: dict[str, str] = {}
    for _ in range(50):
        page = writer.get("/v1/books", params={**query, **cursor})
        yield page
        if page.json()["next_cursor"] is None:
            return
        cursor = {"cursor": page.json()["next_cursor"]}
    pytest.fail("the pages do not end")


def assert_invalid(answer: httpx.Response, pointer: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-input")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("limit", [1, 2, 6, 7, 8, 200])
def test_pages_hold_up_to_limit_books_and_only_the_last_has_no_cursor(
    writer: httpx.Client, author: str, limit: int
) -> None:
    found = [titles(page) for page in pages(writer, author=author, limit=limit)]
    assert [title for page in found for title in page] == list("1234567")
    assert all(len(page) == limit for page in found[:-1])
    assert found[-1]


@pytest.mark.parametrize(("sort", "expected"), [("id", "1234567"), ("-id", "7654321")])
def test_the_order_is_that_of_the_ids_in_either_direction(
    writer: httpx.Client, author: str, sort: str, expected: str
) -> None:
    found = [titles(page) for page in pages(writer, author=author, limit=3, sort=sort)]
    assert [title for page in found for title in page] == list(expected)


def test_fifty_books_are_a_page_where_no_limit_is_given_and_200_are_the_most(
    writer: httpx.Client,
) -> None:
    rows = "\n".join(f"{number},many,{DAY}" for number in range(201))
    content = f"title,author,publication_date\n{rows}"
    assert writer.post("/v1/books:import", content=content, headers={"Content-Type": "text/csv"}).is_success
    assert len(titles(writer.get("/v1/books?author=many"))) == 50
    assert len(titles(writer.get("/v1/books?author=many&limit=200"))) == 200


def test_the_link_header_leads_through_the_same_query(writer: httpx.Client, author: str) -> None:
    page = writer.get("/v1/books", params={"author": author, "limit": 3, "sort": "-id"})
    found = titles(page)
    while "link" in page.headers:
        assert page.headers["link"].startswith("</v1/books?")
        page = writer.get(page.links["next"]["url"])
        found += titles(page)
    assert found == list("7654321")
    assert page.json()["next_cursor"] is None


@pytest.mark.parametrize("sort", ["id", "-id"])
def test_books_added_and_deleted_between_pages_neither_repeat_nor_hide_others(
    writer: httpx.Client, shelf: str, sort: str
) -> None:
    walk = pages(writer, author=shelf, limit=3, sort=sort)
    seen = titles(next(walk))
    assert seen == (["0", "1", "2"] if sort == "id" else ["9", "8", "7"])
    books = {
        book["title"]: book["id"] for page in pages(writer, author=shelf) for book in page.json()["items"]
    }
    # The one that the cursor stands on, one that was seen, one that is still to come, and a new one.
    for title in (seen[-1], seen[0], "4"):
        assert writer.delete(f"/v1/books/{books[title]}").status_code == 204
    add(writer, shelf, "new")
    rest = [title for page in walk for title in titles(page)]
    assert rest == (["3", "5", "6", "7", "8", "9", "new"] if sort == "id" else ["6", "5", "3", "2", "1", "0"])


def test_the_limit_may_change_between_pages(writer: httpx.Client, author: str) -> None:
    cursor = writer.get("/v1/books", params={"author": author, "limit": 2}).json()["next_cursor"]
    rest = writer.get("/v1/books", params={"author": author, "limit": 100, "cursor": cursor})
    assert titles(rest) == list("34567")


@pytest.mark.parametrize(
    "other", [{}, {"author": "Iain"}, {"title": "1"}, {"sort": "-id"}, {"published_from": DAY}]
)
def test_a_cursor_of_another_query_is_refused(
    writer: httpx.Client, author: str, other: dict[str, str]
) -> None:
    cursor = writer.get("/v1/books", params={"author": author, "limit": 2}).json()["next_cursor"]
    query = {**({"author": author} if other and "author" not in other else {}), **other}
    assert_invalid(writer.get("/v1/books", params={**query, "cursor": cursor}), "/query/cursor")


@pytest.mark.parametrize("cursor", ["", "x", "null", "AAAA", "W10", "W" * 200, "W" * 201, "\x00", "é", "🎈"])
def test_a_broken_cursor_is_refused(writer: httpx.Client, cursor: str) -> None:
    assert_invalid(writer.get("/v1/books", params={"cursor": cursor}), "/query/cursor")


def test_a_cursor_behind_the_last_book_gives_an_empty_page(writer: httpx.Client, shelf: str) -> None:
    page = writer.get("/v1/books", params={"author": shelf, "limit": 9})
    last = writer.get("/v1/books", params={"author": shelf, "sort": "-id", "limit": 1}).json()["items"][0]
    writer.delete(f"/v1/books/{last['id']}")
    empty = writer.get("/v1/books", params={"author": shelf, "cursor": page.json()["next_cursor"]})
    assert (empty.json(), "link" in empty.headers) == ({"items": [], "next_cursor": None}, False)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"title": "3"}, "3"),
        ({"published_from": "2003-01-01"}, "34567"),
        ({"published_from": "2003-01-02"}, "4567"),
        ({"published_to": "2003-01-01"}, "123"),
        ({"published_to": "2002-12-31"}, "12"),
        ({"published_from": "2003-01-01", "published_to": "2005-01-01"}, "345"),
        ({"published_from": "2005-01-01", "published_to": "2003-01-01"}, ""),
        ({"published_from": "0001-01-01", "published_to": "9999-12-31"}, "1234567"),
        ({"title": "3", "published_from": "2004-01-01"}, ""),
        ({"author": "IAIN m"}, "1234567"),
        ({"author": "  Iain "}, "1234567"),
        ({"author": "Iaín"}, "1234567"),
        ({"author": "M. Banks"}, ""),
        ({"author": "Iain%"}, ""),
        ({"author": "Iain_M"}, ""),
    ],
)
def test_filters_narrow_the_list_together(
    writer: httpx.Client, author: str, query: dict[str, str], expected: str
) -> None:
    assert titles(writer.get("/v1/books", params={"author": author, **query})) == list(expected)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        *((f"limit={limit}", "/query/limit") for limit in ("0", "201", "-1", "1.5", "x", "", "9" * 5000)),
        *(
            (f"limit={limit}", "/query/limit")
            for limit in ("1_0", "5.0", "%2B5", "%205", "5%0A", "05", "%D9%A5")
        ),
        *((f"sort={sort}", "/query/sort") for sort in ("", "colour", "--id", "ID", "id,id")),
        *(
            (f"published_from={day}", "/query/published_from")
            for day in ("", "2023-02-29", "0000-01-01", "1")
        ),
        *((f"published_to={day}", "/query/published_to") for day in ("0000-01-01", "10000-01-01")),
        ("author=", "/query/author"),
        ("author=%20", "/query/author"),
        ("author=%00", "/query/author"),
        (f"author={'y' * 1001}", "/query/author"),
        ("title=", "/query/title"),
        (f"title={'x' * 301}", "/query/title"),
        ("colour=red", "/query/colour"),
        ("Limit=1", "/query/Limit"),
        ("author=%ff", "/query/author"),
        ("author=Iain&title=%ED%A0%80", "/query/title"),
        ("author=%F0%9F&limit=1", "/query/author"),
        ("%61uthor=%C3", "/query/author"),
        ("colour=%ff", "/query/colour"),
        ("a%7E/b=%ff", "/query/a~0~1b"),
        ("%ff=red", "/query"),
        ("%ff", "/query"),
        ("author=Iain&author=Frank", "/query/author"),
        ("author=Iain&%61uthor=Iain", "/query/author"),
        ("limit=1&limit=1", "/query/limit"),
    ],
)
def test_a_bad_query_is_pointed_at(writer: httpx.Client, query: str, pointer: str) -> None:
    assert_invalid(writer.get(f"/v1/books?{query}"), pointer)


def test_all_faults_of_a_badly_written_query_are_pointed_at(writer: httpx.Client) -> None:
    answer = writer.get("/v1/books?author=%ff&%fe=1&limit=1&limit=2&limit=3&title=%ff&%ff=2")
    assert answer.status_code == 422
    assert [(fault["pointer"], fault["detail"]) for fault in answer.json()["errors"]] == [
        ("/query/author", "is not UTF-8"),
        ("/query", "has a name that is not UTF-8"),
        ("/query/limit", "is there more than once"),
        ("/query/title", "is not UTF-8"),
    ]


@pytest.mark.parametrize("value", ["\u00e9".encode(), b"\xff"])
def test_a_query_with_bytes_that_must_be_percent_encoded_is_never_misread(api: Api, value: bytes) -> None:
    """Nothing of such a request reaches the application, or the value is pointed at."""
    url = httpx.URL(api.url)
    token = api.login()["access_token"].encode()
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(
            b"GET /v1/books?author=" + value + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Authorization: Bearer " + token + b"\r\n\r\n"
        )
        with connection.makefile("rb") as answer:
            status, rest = answer.readline().split()[1], answer.read()
    assert status in {b"400", b"422"}
    assert status == b"400" or b'"/query/author"' in rest


@pytest.mark.parametrize("query", ["author=%", "author=%zz", "a=%F0%9F", "&&=&", "author=;--"])
def test_a_query_that_is_badly_written_is_never_a_fault_of_ours(writer: httpx.Client, query: str) -> None:
    assert writer.get(f"/v1/books?{query}").status_code in {200, 422}


def test_a_reader_may_list(api: Api, author: str) -> None:
    with api.client(api.login("reader")["access_token"]) as client:
        found: Any = client.get("/v1/books", params={"author": author}).json()
    assert len(found["items"]) == 7


@pytest.mark.parametrize(
    ("title", "beginning", "finds"),
    [
        ("Straße", "STRAß", True),
        ("Straße", "stra", True),
        ("Straße", "stras", False),
        ("Straße", "strasse", False),
        ("Strasse", "straß", False),
        ("Ælfric", "ae", False),
        ("Ёлка", "елка", True),
        ("caf\u00e9", "CAFE", True),
        ("cafe\u0301", "cafe", True),
        ("cafe\u0301 noir", "caf\u00e9 noir", False),
    ],
)
def test_filters_compare_letter_by_letter(
    writer: httpx.Client, request: pytest.FixtureRequest, title: str, beginning: str, *, finds: bool
) -> None:
    author = f"Letters of {request.node.name}"
    writer.post("/v1/books", json={"title": title, "author": author, "publication_date": "2000-01-01"})
    found = writer.get("/v1/books", params={"author": author, "title": beginning}).json()["items"]
    assert bool(found) is finds
