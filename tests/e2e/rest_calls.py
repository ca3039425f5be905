"""Any REST call at any time is answered as the model says; at the end of a run its events are compared."""

import csv
import io
from collections.abc import Callable
from typing import Any

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
)

from grpc_reader.client import Client
from tests.e2e.inputs import BOOKS, FIELDS, INVALID, MATCH, PATCHES, ROWS, TOUCHES
from tests.e2e.shelf import Fields, Shelf, storable
from tests.waiting import eventually

UNKNOWN = 2**62
EXAMPLE = {"title": "t", "author": "a", "publication_date": "1965-08-01"}


class RestCalls(RuleBasedStateMachine):
    """The only writer of its system. Deleted books stay in the bundle, so that calls meet them as well."""

    books = Bundle("books")

    def __init__(self, rest: httpx.Client, grpc: Client, at_rest: Callable[[], bool]) -> None:
        super().__init__()
        self.rest, self.grpc, self.at_rest = rest, grpc, at_rest
        self.shelf = Shelf()

    @initialize()
    def clear(self) -> None:
        """The shelf begins empty, and so must the system."""
        for book in self._walk(limit=200, sort="id"):
            assert self.rest.delete(f"/v1/books/{book['id']}").status_code == 204

    @rule(target=books, fields=BOOKS)
    def add(self, fields: Fields) -> int:
        answer = self.rest.post("/v1/books", json=fields)
        assert answer.status_code == 201, answer.text
        book_id = int(answer.json()["id"])
        self.shelf.add(book_id, fields)
        assert answer.headers["location"] == f"/v1/books/{book_id}"
        self._shows(book_id, answer)
        return book_id

    @rule(target=books, rows=st.lists(ROWS, max_size=4))
    def import_rows(self, rows: list[Fields]) -> MultipleResults[int]:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(FIELDS))
        writer.writeheader()
        writer.writerows(rows)
        content, kind = text.getvalue().encode(), {"Content-Type": "text/csv"}
        answer = self.rest.post("/v1/books:import", content=content, headers=kind)
        good = [row for row in rows if storable(row)]
        assert answer.status_code == 200, answer.text
        assert (answer.json()["accepted"], answer.json()["rejected"]) == (len(good), len(rows) - len(good))
        known = len(self.shelf.books)
        ids = [book["id"] for book in self._walk(limit=200, sort="id")[known:]]
        for book_id, row in zip(ids, good, strict=True):
            self.shelf.add(book_id, row)
            self._get(book_id)
        return multiple(*ids)

    @rule(book_id=books, fields=BOOKS, match=MATCH)
    def put(self, book_id: int, fields: Fields, match: str) -> None:
        self._change("PUT", book_id, fields, match)

    @rule(book_id=books, fields=PATCHES, match=MATCH)
    def patch(self, book_id: int, fields: Fields, match: str) -> None:
        self._change("PATCH", book_id, fields, match)

    @rule(book_id=books, method=st.sampled_from(["PUT", "PATCH"]), touch=st.sampled_from(sorted(TOUCHES)))
    def change_hardly(self, book_id: int, method: str, touch: str) -> None:
        book = self.shelf.books.get(book_id, EXAMPLE)
        texts = {name: TOUCHES[touch](book[name]) for name in ("title", "author")}
        self._change(method, book_id, {**texts, "publication_date": book["publication_date"]}, "none")

    @rule(book_id=books, match=MATCH)
    def delete(self, book_id: int, match: str) -> None:
        version, headers = self._condition(book_id, match)
        answer = self.rest.delete(f"/v1/books/{book_id}", headers=headers)
        self._refused_or(204, self.shelf.delete(book_id, version), answer)

    @rule(book_id=consumes(books))
    def delete_and_never_look_back(self, book_id: int) -> None:
        self.delete(book_id, "none")

    @rule(book_id=books)
    def get(self, book_id: int) -> None:
        self._get(book_id)

    @rule(limit=st.integers(1, 200), sort=st.sampled_from(["id", "-id"]))
    def walk(self, limit: int, sort: str) -> None:
        found = self._walk(limit=limit, sort=sort)
        expected = [self.shelf.books[book_id] for book_id in sorted(self.shelf.books, reverse=sort == "-id")]
        assert [without_times(book) for book in found] == expected

    @rule(book_id=books, method=st.sampled_from(["POST", "PUT", "PATCH"]), invalid=INVALID)
    def send_invalid_input(self, book_id: int, method: str, invalid: tuple[dict[str, Any], str]) -> None:
        fields, pointer = invalid
        base = {} if method == "PATCH" else EXAMPLE
        path = "/v1/books" if method == "POST" else f"/v1/books/{book_id}"
        answer = self.rest.request(method, path, json={**base, **fields})
        self._refused_or(200, 422, answer)
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]

    @rule(method=st.sampled_from(["GET", "PUT", "PATCH", "DELETE"]), fields=BOOKS)
    def ask_for_an_unknown_id(self, method: str, fields: Fields) -> None:
        body = fields if method in {"PUT", "PATCH"} else None
        self._refused_or(200, 404, self.rest.request(method, f"/v1/books/{UNKNOWN}", json=body))

    def teardown(self) -> None:
        """What was recorded is the model's history: each event once, in order, and no other."""
        eventually(self.at_rest, because="all that was sent is recorded")
        for book_id, history in self.shelf.history.items():
            events = self.grpc.events(book_id, limit=1000)[::-1]
            assert [
                (e.book_version, e.type, e.book.title, e.book.author, e.book.publication_date) for e in events
            ] == history
            assert len({event.id for event in events}) == len(events)
            assert [e.position for e in events] == sorted(e.position for e in events)

    def _change(self, method: str, book_id: int, fields: Fields, match: str) -> None:
        version, headers = self._condition(book_id, match)
        answer = self.rest.request(method, f"/v1/books/{book_id}", json=fields, headers=headers)
        status = self.shelf.change(book_id, fields, version)
        self._refused_or(200, status, answer)
        if status == 200:
            self._shows(book_id, answer)

    def _condition(self, book_id: int, match: str) -> tuple[int | None, dict[str, str]]:
        """The version that is asked for, and the header that asks for it."""
        if match in {"none", "any"}:
            return None, {"If-Match": "*"} if match == "any" else {}
        version = self.shelf.books.get(book_id, {"version": 1})["version"] - (match == "stale")
        return version, {"If-Match": f'"{version}"'}

    def _get(self, book_id: int) -> None:
        answer = self.rest.get(f"/v1/books/{book_id}")
        self._refused_or(200, 200 if book_id in self.shelf.books else 404, answer)
        if answer.status_code == 200:
            self._shows(book_id, answer)
            tag = {"If-None-Match": answer.headers["etag"]}
            assert self.rest.get(f"/v1/books/{book_id}", headers=tag).status_code == 304

    def _walk(self, *, limit: int, sort: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            parameters = {"limit": str(limit), "sort": sort} | ({"cursor": cursor} if cursor else {})
            page = self.rest.get("/v1/books", params=parameters).json()
            assert len(page["items"]) <= limit
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    def _shows(self, book_id: int, answer: httpx.Response) -> None:
        assert without_times(answer.json()) == self.shelf.books[book_id]
        assert answer.headers["etag"] == f'"{self.shelf.books[book_id]["version"]}"'
        assert answer.json()["created_at"] <= answer.json()["updated_at"]

    @staticmethod
    def _refused_or(success: int, expected: int, answer: httpx.Response) -> None:
        assert answer.status_code == expected, answer.text
        if expected != success:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == expected


def without_times(book: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in book.items() if name not in {"created_at", "updated_at"}}
