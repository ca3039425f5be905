"""What the contract says of books and their events, as plainly as can be: a model to compare with."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from typing import Any

Fields = dict[str, str]
Event = tuple[int, str, str, str, str]


def trimmed(fields: Fields) -> Fields:
    return {name: value.strip() for name, value in fields.items()}


def storable(fields: Fields) -> bool:
    """Whether the contract lets these fields in; they are all of a book's."""
    found = trimmed(fields)
    try:
        date.fromisoformat(found["publication_date"])
    except ValueError:
        return False
    return 1 <= len(found["title"]) <= 300 and 1 <= len(found["author"]) <= 1000


@dataclass
class Shelf:
    """`books` are those that are there, as the API shows them; `history` is what happened to each."""

    books: dict[int, dict[str, Any]] = field(default_factory=dict)
    history: dict[int, list[Event]] = field(default_factory=lambda: defaultdict(list))

    def add(self, book_id: int, fields: Fields) -> None:
        assert book_id not in self.history, "an id was given twice"
        self.books[book_id] = {"id": book_id, **trimmed(fields), "version": 1}
        self._announce(book_id, "created")

    def change(self, book_id: int, fields: Fields, if_version: int | None) -> int:
        """The status of the answer."""
        if status := self._objection(book_id, if_version):
            return status
        book = self.books[book_id]
        if book | trimmed(fields) != book:
            book.update(trimmed(fields), version=book["version"] + 1)
            self._announce(book_id, "updated")
        return 200

    def delete(self, book_id: int, if_version: int | None) -> int:
        """The status of the answer."""
        if status := self._objection(book_id, if_version):
            return status
        self.books[book_id]["version"] += 1
        self._announce(book_id, "deleted")
        del self.books[book_id]
        return 204

    def _objection(self, book_id: int, if_version: int | None) -> int:
        if book_id not in self.books:
            return 404
        return 0 if if_version in (None, self.books[book_id]["version"]) else 412

    def _announce(self, book_id: int, what: str) -> None:
        book = self.books[book_id]
        kind = f"bookstore.book.{what}.v1"
        event = (book["version"], kind, book["title"], book["author"], book["publication_date"])
        self.history[book_id].append(event)
