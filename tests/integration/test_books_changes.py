"""One book's life over HTTP: its versions, its entity tags, and what each change announces."""

import json
from typing import Any

import httpx
import pytest
from redis import Redis

from common.cache import TICKET_KEY, entry_key
from tests.fixtures.api import Api
from tests.fixtures.ledger import Ledger

DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}
MESSIAH = {**DUNE, "title": "Dune Messiah", "publication_date": "1969-10-15"}
CHANGES: dict[str, dict[str, Any]] = {
    "PUT": {"json": MESSIAH},
    "PATCH": {"json": {"title": "Dune Messiah"}},
    "DELETE": {},
}
EVERY_CHANGE = pytest.mark.parametrize("method", CHANGES)


@pytest.fixture
def path(writer: httpx.Client) -> str:
    """Where a new book is; it is at version 1."""
    return writer.post("/v1/books", json=DUNE).headers["location"]


def id_in(path: str) -> int:
    return int(path.rpartition("/")[2])


def change(writer: httpx.Client, method: str, path: str, if_match: str | None = None) -> httpx.Response:
    headers = {} if if_match is None else {"If-Match": if_match}
    return writer.request(method, path, headers=headers, **CHANGES[method])


def assert_problem(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert (found["type"], found["status"]) == (f"/problems/{name}", status)
    return found


def test_each_change_counts_one_version_up_and_announces_it_once(
    writer: httpx.Client, ledger: Ledger
) -> None:
    with ledger.grows(books=0, events=4):
        added = writer.post("/v1/books", json=DUNE)
        path = added.headers["location"]
        replaced = writer.put(path, json=MESSIAH)
        patched = writer.patch(path, json={"author": "F. Herbert"})
        deleted = writer.delete(path)
    assert [answer.status_code for answer in (added, replaced, patched, deleted)] == [201, 200, 200, 204]
    assert [answer.headers["etag"] for answer in (added, replaced, patched)] == ['"1"', '"2"', '"3"']
    assert [answer.json()["version"] for answer in (added, replaced, patched)] == [1, 2, 3]
    assert path == f"/v1/books/{added.json()['id']}"
    assert patched.json()["title"] == "Dune Messiah"
    assert patched.json()["created_at"] == added.json()["created_at"] < patched.json()["updated_at"]
    assert (deleted.content, "content-type" in deleted.headers) == (b"", False)
    kinds = ["created", "updated", "updated", "deleted"]
    assert ledger.events(id_in(path)) == list(zip(kinds, (1, 2, 3, 4), strict=True))


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("PUT", DUNE),
        ("PUT", {**DUNE, "title": "  Dune "}),
        ("PATCH", DUNE),
        ("PATCH", {"author": "Frank Herbert\n"}),
        ("PATCH", {}),
    ],
)
def test_a_change_to_what_is_there_already_keeps_the_version_and_announces_nothing(
    writer: httpx.Client, ledger: Ledger, path: str, method: str, fields: dict[str, str]
) -> None:
    before = writer.get(path).json()
    with ledger.grows():
        answer = writer.request(method, path, json=fields, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.headers["etag"], answer.json()) == (200, '"1"', before)


def test_a_book_reads_as_it_was_answered(writer: httpx.Client, path: str) -> None:
    answer = writer.get(path)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"id", *DUNE, "version", "created_at", "updated_at"}
    assert {name: answer.json()[name] for name in DUNE} == DUNE
    assert answer.json()["created_at"].endswith("Z")


@pytest.mark.parametrize("method", ["GET", *CHANGES])
def test_a_book_that_is_gone_is_404_and_its_id_is_never_used_again(
    writer: httpx.Client, ledger: Ledger, path: str, method: str
) -> None:
    writer.delete(path)
    with ledger.grows():
        answer = writer.get(path) if method == "GET" else change(writer, method, path, "*")
    assert str(id_in(path)) in assert_problem(answer, 404, "book-not-found")["detail"]
    assert id_in(writer.post("/v1/books", json=DUNE).headers["location"]) > id_in(path)


@pytest.mark.parametrize("method", ["GET", *CHANGES])
@pytest.mark.parametrize(
    "book_id",
    [
        *("0", "-1", "9223372036854775808", "9" * 5000, "one", "1.5", "%00", "%F0%9F%8E%88", "0x1"),
        *("1.0", "%201", "1%20", "1%0A", "+1", "01", "1_0", "%D9%A1", "%ff"),
    ],
)
def test_what_is_no_id_is_pointed_at(writer: httpx.Client, ledger: Ledger, method: str, book_id: str) -> None:
    with ledger.grows():
        answer = writer.request(method, f"/v1/books/{book_id}", **CHANGES.get(method, {}))
    assert [fault["pointer"] for fault in assert_problem(answer, 422, "invalid-input")["errors"]] == [
        "/path/id"
    ]


@pytest.mark.parametrize("method", ["GET", *CHANGES])
def test_the_largest_id_is_one(writer: httpx.Client, method: str) -> None:
    answer = writer.request(method, "/v1/books/9223372036854775807", **CHANGES.get(method, {}))
    assert_problem(answer, 404, "book-not-found")


@EVERY_CHANGE
@pytest.mark.parametrize("if_match", [None, '"1"', "*", '"7", "1"', 'W/"7","1" , "x"', ',, "7",,\t"1",'])
def test_a_change_is_made_at_a_version_that_if_match_names(
    writer: httpx.Client, ledger: Ledger, path: str, method: str, if_match: str | None
) -> None:
    with ledger.grows(books=-(method == "DELETE"), events=1):
        assert change(writer, method, path, if_match).is_success


@EVERY_CHANGE
@pytest.mark.parametrize(
    "if_match", ['"2"', 'W/"1"', '"0", "2"', '"01"', '"x"', f'"{10**99}"', '""', "", ",", ", ,"]
)
def test_a_change_at_another_version_is_412_that_names_the_current_one(
    writer: httpx.Client, ledger: Ledger, path: str, method: str, if_match: str
) -> None:
    with ledger.grows():
        answer = change(writer, method, path, if_match)
    assert "version 1" in assert_problem(answer, 412, "stale-version")["detail"]


@EVERY_CHANGE
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (['"99"', '"1"'], None),
        (['"1"', '"99"'], None),
        (["", '"1"'], None),
        (['"98"', '"99"'], 412),
        (["*", '"1"'], 422),
        (["*", "*"], 422),
        (['"1"', "1"], 422),
    ],
)
def test_if_match_on_several_lines_is_one_list(
    writer: httpx.Client, path: str, method: str, lines: list[str], status: int | None
) -> None:
    answer = writer.request(method, path, headers=[("If-Match", line) for line in lines], **CHANGES[method])
    assert answer.status_code == (status or (204 if method == "DELETE" else 200))


@EVERY_CHANGE
@pytest.mark.parametrize(
    "if_match", ["1", '"1', "'1'", '"1 "', '"1";"2"', '"1" "2"', "*, *", 'w/"1"', '*, "1"']
)
def test_an_if_match_that_is_no_list_of_tags_is_pointed_at(
    writer: httpx.Client, ledger: Ledger, path: str, method: str, if_match: str
) -> None:
    with ledger.grows():
        found = assert_problem(change(writer, method, path, if_match), 422, "invalid-input")
    assert [fault["pointer"] for fault in found["errors"]] == ["/header/if-match"]


def test_a_stale_change_that_would_change_nothing_is_412_all_the_same(
    writer: httpx.Client, path: str
) -> None:
    assert_problem(writer.put(path, json=DUNE, headers={"If-Match": '"2"'}), 412, "stale-version")


@pytest.mark.parametrize("if_none_match", ['"1"', 'W/"1"', "*", '"3", "1"'])
def test_a_client_that_has_this_version_gets_304_without_a_body(
    writer: httpx.Client, path: str, if_none_match: str
) -> None:
    answer = writer.get(path, headers={"If-None-Match": if_none_match})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("lines", [['"99"', '"1"'], ['"1"', '"99"'], ["", 'W/"1",']])
def test_if_none_match_on_several_lines_is_one_list(
    writer: httpx.Client, path: str, method: str, lines: list[str]
) -> None:
    answer = writer.request(method, path, headers=[("If-None-Match", line) for line in lines])
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')


@pytest.mark.parametrize("if_none_match", ['"2"', '"1x"', '""', "", ","])
def test_a_client_that_has_another_version_gets_the_book(
    writer: httpx.Client, path: str, if_none_match: str
) -> None:
    answer = writer.get(path, headers={"If-None-Match": if_none_match})
    assert (answer.status_code, answer.json()["version"]) == (200, 1)


@pytest.mark.parametrize("if_none_match", ["1", '"1', "*, *", '"1" "2"'])
def test_an_if_none_match_that_is_no_list_of_tags_is_pointed_at(
    writer: httpx.Client, path: str, if_none_match: str
) -> None:
    found = assert_problem(writer.get(path, headers={"If-None-Match": if_none_match}), 422, "invalid-input")
    assert [fault["pointer"] for fault in found["errors"]] == ["/header/if-none-match"]


def test_a_changed_book_is_no_longer_304(writer: httpx.Client, path: str) -> None:
    writer.patch(path, json={"title": "Dune Messiah"})
    assert writer.get(path, headers={"If-None-Match": '"1"'}).json()["title"] == "Dune Messiah"


@EVERY_CHANGE
@pytest.mark.parametrize("if_none_match", ['"1"', 'W/"1"', "*", '"3", "1"'])
def test_a_change_for_who_has_another_version_is_412_at_theirs(
    writer: httpx.Client, ledger: Ledger, path: str, method: str, if_none_match: str
) -> None:
    with ledger.grows():
        answer = writer.request(method, path, headers={"If-None-Match": if_none_match}, **CHANGES[method])
    assert "version 1" in assert_problem(answer, 412, "stale-version")["detail"]


@EVERY_CHANGE
def test_a_change_for_who_has_another_version_is_made_at_another(
    writer: httpx.Client, ledger: Ledger, path: str, method: str
) -> None:
    with ledger.grows(books=-(method == "DELETE"), events=1):
        answer = writer.request(method, path, headers={"If-None-Match": '"2"'}, **CHANGES[method])
    assert answer.is_success


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-Match": '"1"'}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"2"'}, 412),
        ({"If-Match": 'W/"1"'}, 412),
        ({"If-Match": '"2"', "If-None-Match": '"1"'}, 412),
        ({"If-Match": '"1"', "If-None-Match": '"1"'}, 304),
    ],
)
def test_a_read_under_conditions(
    writer: httpx.Client, path: str, method: str, headers: dict[str, str], status: int
) -> None:
    assert writer.request(method, path, headers=headers).status_code == status


def test_conditions_are_decided_by_the_row_and_not_by_the_cache(
    api: Api, writer: httpx.Client, path: str
) -> None:
    """The cache has an old book, as when it could not be reached after the change."""
    book = writer.get(path).json()
    cache = api.settings.cache_url.get_secret_value()
    with Redis.from_url(cache, decode_responses=True) as redis:
        redis.set(TICKET_KEY, f"{redis.info('server')['run_id']} abc")
        writer.patch(path, json={"title": "Dune Messiah"})
        redis.set(entry_key("abc", book["id"]), json.dumps(book))
        assert writer.get(path).json() == book, "the cache is not asked at all"
        assert writer.get(path, headers={"If-None-Match": '"1"'}).json()["version"] == 2
        assert writer.get(path, headers={"If-None-Match": '"2"'}).status_code == 304
        assert writer.get(path, headers={"If-Match": '"1"'}).status_code == 412
        redis.flushdb()
