"""What may stand in a book, asked of every call that takes one."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.books.ndjson_rows import NdjsonRows
from tests.fixtures.ledger import Ledger

DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}
JSON = {"Content-Type": "application/json"}
EMMA = {"title": "Emma", "author": "Jane Austen", "publication_date": "1815-12-23"}
EVERY_WRITE = pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
Send = Callable[..., httpx.Response]


@pytest.fixture
def book(writer: httpx.Client) -> dict[str, Any]:
    """One that is there for PUT and PATCH."""
    found: dict[str, Any] = writer.post("/v1/books", json=EMMA).json()
    return found


@pytest.fixture
def send(writer: httpx.Client, book: dict[str, Any]) -> Send:
    """Sends fields, or raw bytes, with a method; PATCH gets the one field that is of interest alone."""

    def send(method: str, fields: dict[str, object] | bytes) -> httpx.Response:
        content = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        path = "/v1/books" if method == "POST" else f"/v1/books/{book['id']}"
        return writer.request(method, path, content=content, headers=JSON)

    return send


def fields_for(method: str, changed: dict[str, object]) -> dict[str, object]:
    return changed if method == "PATCH" else {**DUNE, **changed}


def read_again(answer: httpx.Response) -> Any:  # noqa: ANN401  JSON
    """The book of an answer, asked for with the same login."""
    url = answer.request.url.join(f"/v1/books/{answer.json()['id']}")
    return httpx.get(url, headers={"Authorization": answer.request.headers["authorization"]}).json()


def assert_invalid(answer: httpx.Response, *pointers: str) -> None:
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert (found["type"], found["status"]) == ("/problems/invalid-input", 422)
    assert [fault["pointer"] for fault in found["errors"]] == list(pointers)


@EVERY_WRITE
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "x"),
        ("title", "x" * 300),
        ("title", "🎈" * 300),
        ("title", f"  {'x' * 300}\t\n"),
        ("title", "\u3000a  b\u00a0"),
        ("title", "line\nbreak\x1f\x7f."),
        ("title", "👩\u200d🚀 e\u0301 \u202eנ"),
        ("title", "'; DROP TABLE book; -- \\ %s :x {}"),
        ("author", "y" * 1000),
        ("author", "🎈" * 1000),
        ("author", "\r\n ß "),
        ("publication_date", "0001-01-01"),
        ("publication_date", "9999-12-31"),
        ("publication_date", "2024-02-29"),
        ("publication_date", "2000-02-29"),
        ("publication_date", "1582-10-10"),
    ],
)
def test_what_lies_within_the_limits_is_stored_trimmed_and_announced_once(
    ledger: Ledger, send: Send, method: str, field: str, value: str
) -> None:
    with ledger.grows(books=method == "POST", events=1):
        answer = send(method, fields_for(method, {field: value}))
    assert answer.status_code == (201 if method == "POST" else 200), answer.text
    assert answer.json()[field] == value.strip()
    assert read_again(answer) == answer.json()


@EVERY_WRITE
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", ""),
        ("title", " \t\n\u3000\u00a0"),
        ("title", "x" * 301),
        ("title", "🎈" * 301),
        ("title", "a\x00b"),
        ("title", "\x00"),
        ("title", "a\ud83cb"),
        ("title", "\udf88\ud83c"),
        ("title", 1),
        ("title", None),
        ("title", ["Dune"]),
        ("author", ""),
        ("author", "y" * 1001),
        ("author", "🎈" * 1001),
        ("author", "\x00"),
        ("author", True),
        ("author", None),
        ("publication_date", "0000-12-31"),
        ("publication_date", "10000-01-01"),
        ("publication_date", "-0001-01-01"),
        ("publication_date", "2023-02-29"),
        ("publication_date", "1900-02-29"),
        ("publication_date", "1965-04-31"),
        ("publication_date", "1965-13-01"),
        ("publication_date", "1965-8-1"),
        ("publication_date", " 1965-08-01"),
        ("publication_date", "01.08.1965"),
        ("publication_date", "1965-08-01T00:00:00Z"),
        ("publication_date", 0),
        ("publication_date", ""),
        ("publication_date", None),
        ("isbn", "9780441172719"),
        ("id", 1),
        ("version", 1),
        ("Title", "Dune"),
    ],
)
def test_what_lies_beyond_is_pointed_at_and_changes_nothing(
    ledger: Ledger, send: Send, method: str, field: str, value: object
) -> None:
    with ledger.grows():
        assert_invalid(send(method, fields_for(method, {field: value})), f"/{field}")


@EVERY_WRITE
def test_all_faults_are_pointed_at_together(ledger: Ledger, send: Send, method: str) -> None:
    bad = {"title": "", "author": "y" * 1001, "publication_date": "today", "isbn": 1}
    with ledger.grows():
        assert_invalid(send(method, bad), "/title", "/author", "/publication_date", "/isbn")


@pytest.mark.parametrize("field", DUNE)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_no_field_of_a_whole_book_may_be_left_out(
    ledger: Ledger, send: Send, method: str, field: str
) -> None:
    rest = {name: value for name, value in DUNE.items() if name != field}
    with ledger.grows():
        assert_invalid(send(method, rest), f"/{field}")


@EVERY_WRITE
@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"1", b'"title"', b"true"])
def test_a_body_that_is_no_object_is_refused(ledger: Ledger, send: Send, method: str, content: bytes) -> None:
    with ledger.grows():
        assert_invalid(send(method, content), "")


@EVERY_WRITE
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "is not JSON: Expecting property name enclosed in double quotes at character 2"),
        (
            b"{'title': 1}",
            "is not JSON: Expecting property name enclosed in double quotes at character 2",
        ),
        (b'{"title": "Dune"}x', "is not JSON: Extra data at character 18"),
        (b'{"title": "D\xfcne"}', "is not UTF-8"),
        (b'{"title": "\xed\xa0\x80"}', "is not UTF-8"),
        (b'{\0"\0t\0"\0', "is not JSON: Expecting property name enclosed in double quotes at character 2"),
        (b"[" * 60_000, "is not JSON that can be read"),
        (b'{"title": ' + b"9" * 5000 + b"}", "is not JSON that can be read"),
        (b'{"title": NaN}', "is not JSON that can be read"),
        (b'{"title": -Infinity}', "is not JSON that can be read"),
        (b'{"title": "Dune", "title": "Emma"}', "has a member twice"),
        (
            b"{" + b",".join(b'"%d":1' % n for n in range(101)) + b"}",
            "has an object of more than 100 members",
        ),
        (b'{"title": "Dune", "\\u0074itle": "Dune"}', "has a member twice"),
        (b'{"title": {"a": 1, "a": 1}}', "has a member twice"),
    ],
    ids=lambda it: it[:16] if isinstance(it, bytes) else None,
)
def test_a_body_that_is_no_json_in_utf_8_is_400_in_the_words_of_an_import(
    ledger: Ledger, send: Send, method: str, content: bytes, reason: str
) -> None:
    with ledger.grows():
        answer = send(method, content)
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed-body")
    assert answer.json()["detail"] == f"The body {reason}."
    assert answer.json()["errors"] == [{"pointer": "", "detail": reason}]
    [row] = NdjsonRows().take(content)
    assert row.reason == reason


@EVERY_WRITE
def test_a_byte_order_mark_before_the_json_is_taken(send: Send, method: str) -> None:
    assert send(method, b"\xef\xbb\xbf" + json.dumps(DUNE).encode()).is_success


@EVERY_WRITE
def test_half_a_surrogate_pair_as_a_field_name_is_refused(ledger: Ledger, send: Send, method: str) -> None:
    with ledger.grows():
        assert send(method, b'{"\\ud800": 1, "title": "a"}').status_code == 422


@EVERY_WRITE
def test_a_body_over_64_kib_is_413(ledger: Ledger, send: Send, method: str) -> None:
    with ledger.grows():
        answer = send(method, json.dumps(DUNE).encode() + b" " * 65_536)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
