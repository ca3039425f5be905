"""The list in every order: pages, ties, the collation's idea of equal, and what a page costs."""

import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from common.database import thread_engine
from tests.fixtures.api import Api

SORTS = ["id", "title", "author", "publication_date"]
EVERY_ORDER = pytest.mark.parametrize("sort", [sign + field for field in SORTS for sign in ("", "-")])
# Sorted as the collation does: what stands together in a list is one and the same to it.
ALIKE = [["Aa", "aa", "áa"], ["Ee", "ee"], ["strasse", "Straße"], ["елка", "Ёлка"], ["שלום"], ["🎈"], ["🎉"]]
TITLES = [title for titles in ALIKE for title in titles]
SEED = text(
    "INSERT INTO book (title, author, publication_date, version, created_at, updated_at)"
    " WITH RECURSIVE n AS (SELECT 0 i UNION ALL SELECT i + 1 FROM n WHERE i < 999)"
    " SELECT IF(i % 2, 'tied', CONCAT('t', i)), IF(i % 2, 'tied', CONCAT('a', i)),"
    " '1900-01-01' + INTERVAL IF(i % 2, 0, i) DAY, 1, NOW(6), NOW(6) FROM n"
)
DOUBLE = text(
    "INSERT INTO book (title, author, publication_date, version, created_at, updated_at)"
    " SELECT title, author, publication_date, 1, NOW(6), NOW(6) FROM book"
    " WHERE title = 'tied' OR title REGEXP '^t[0-9]'"
)


def add(writer: httpx.Client, title: str, author: str = "sorted", day: str = "2000-01-01") -> dict[str, Any]:
    answer = writer.post("/v1/books", json={"title": title, "author": author, "publication_date": day})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def walk(writer: httpx.Client, **query: str | int) -> Iterator[list[dict[str, Any]]]:
    """Page after page, by `next_cursor`."""
    cursor: dict[str, str] = {}
    for _ in range(200):
        page = writer.get("/v1/books", params={**query, **cursor})
        assert page.status_code == 200, page.text
        yield page.json()["items"]
        if page.json()["next_cursor"] is None:
            return
        cursor = {"cursor": page.json()["next_cursor"]}
    pytest.fail("the pages do not end")


@pytest.fixture(scope="module")
def shelf(writer: httpx.Client) -> dict[int, dict[str, Any]]:
    """Sixty books with many ties; for each what it is sorted by, as numbers."""
    books = {}
    for index, title in enumerate(TITLES * 4):
        author = f"shelf {index % 3}"
        day = f"200{index % 4}-01-01"
        book = add(writer, title, author, day)
        rank = next(place for place, titles in enumerate(ALIKE) if title in titles)
        books[book["id"]] = {"id": book["id"], "title": rank, "author": author, "publication_date": day}
    return books


@EVERY_ORDER
@pytest.mark.parametrize("limit", [1, 7, 200])
def test_pages_follow_each_other_in_order_and_ids_decide_between_equals(
    writer: httpx.Client, shelf: dict[int, dict[str, Any]], sort: str, limit: int
) -> None:
    seen = [book["id"] for page in walk(writer, author="shelf", sort=sort, limit=limit) for book in page]
    field = sort.removeprefix("-")
    expected = sorted(shelf, key=lambda book: (shelf[book][field], book), reverse=sort.startswith("-"))
    assert seen == expected


@EVERY_ORDER
def test_what_is_added_and_deleted_between_pages_neither_repeats_nor_hides_others(
    writer: httpx.Client, sort: str
) -> None:
    author = f"moving {sort}"
    mine = [add(writer, title, author)["id"] for title in "abcabcabc"]
    pages = walk(writer, author=author, sort=sort, limit=3)
    seen = [book["id"] for book in next(pages)]
    # The one that the cursor stands on, one before it, and one that is still to come.
    to_come = next(book for book in mine if book not in seen)
    for book in (seen[-1], seen[0], to_come):
        assert writer.delete(f"/v1/books/{book}").status_code == 204
    new = [add(writer, title, author)["id"] for title in "abc"]
    rest = [book["id"] for page in pages for book in page]
    assert not set(rest) & set(seen)
    assert len(rest) == len(set(rest))
    assert set(mine) - set(seen) - {to_come} <= set(rest) <= set(mine) | set(new)


def test_authors_that_differ_behind_their_first_255_characters_are_equals_and_all_are_shown(
    writer: httpx.Client,
) -> None:
    start = "ж" * 255
    mine = [add(writer, "long", start + ending)["id"] for ending in ("c", "b", "a")]
    found = [book["id"] for page in walk(writer, author=start, sort="author", limit=1) for book in page]
    assert found == mine
    assert [len(page) for page in walk(writer, author=start + "B")] == [1]


@settings(max_examples=15)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
                      .filter(str.strip), min_size=1, max_size=6))  # fmt: skip
def test_no_title_of_any_script_is_left_out_or_shown_twice(writer: httpx.Client, texts: list[str]) -> None:
    author = f"scripts {next(_numbers)}."
    mine = [add(writer, title, author)["id"] for title in texts]
    for sort in ("title", "-title"):
        pages = list(walk(writer, author=author, sort=sort, limit=1))
        assert sorted(book["id"] for page in pages for book in page) == sorted(mine)


_numbers = itertools.count()


@pytest.fixture(scope="module")
def many(api: Api) -> Iterator[int]:
    """The number of books once there are many, half of them with the same title, author and date."""
    engine = thread_engine(api.settings)
    with engine.begin() as connection:
        connection.execute(SEED)
        for _ in range(5):
            connection.execute(DOUBLE)
        connection.execute(text("ANALYZE TABLE book"))
        count: int = connection.execute(text("SELECT COUNT(*) FROM book")).scalar_one()
    yield count
    engine.dispose()


@EVERY_ORDER
def test_a_page_far_behind_reads_no_more_rows_than_the_first(
    writer: httpx.Client, api: Api, many: int, sort: str
) -> None:
    engine = thread_engine(api.settings)
    costs: list[int] = []
    cursor: dict[str, str] = {}
    with engine.connect() as connection:
        # Half of all books are tied: in most orders page after page ends among them.
        for _ in range(100):
            before = _rows_read(connection)
            page = writer.get("/v1/books", params={"sort": sort, "limit": 200, **cursor}).json()
            costs.append(_rows_read(connection) - before)
            cursor = {"cursor": page["next_cursor"]}
    engine.dispose()
    assert many > 30_000
    # What the server counts for its own housekeeping differs between the two.
    assert max(costs) <= min(costs) + 20 < 800, costs


def _rows_read(connection: Any) -> int:  # noqa: ANN401  SQLAlchemy's
    rows = connection.execute(text("SHOW GLOBAL STATUS LIKE 'Handler_read%'")).all()
    return sum(int(value) for _, value in rows)
