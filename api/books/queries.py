"""The reads of books. None costs more on a later page."""

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, and_, or_, select

from common.book_filters import author_begins_with, title_begins_with
from common.books import Book
from common.cache import BookCache, Vacancy
from common.database import RETRY_SECONDS, Database, Snapshot
from common.errors import BookNotFoundError, DatabaseUnavailableError
from common.retry import retry
from common.tables import AUTHOR_START_LENGTH, BOOK_COLUMNS, BOOK_TABLE

Sort = Literal["id", "-id", "title", "-title", "author", "-author", "publication_date", "-publication_date"]
_COLUMNS = BOOK_TABLE.c
_SORTED_BY: dict[str, Column[Any]] = {
    "id": _COLUMNS.id,
    "title": _COLUMNS.title,
    "author": _COLUMNS.author_start,
    "publication_date": _COLUMNS.publication_date,
}
_INDEXES = {
    "id": "PRIMARY",
    "title": "ix_book_title",
    "author": "ix_book_author_start",
    "publication_date": "ix_book_publication_date",
}
_again = retry(times=3, delay=0.05, exceptions=DatabaseUnavailableError, within=RETRY_SECONDS)


@dataclass(frozen=True)
class Filters:
    """`author` and `title` are beginnings, compared as the column's collation does; dates are inclusive."""

    author: str | None = None
    title: str | None = None
    published_from: date | None = None
    published_to: date | None = None

    @property
    def fields(self) -> frozenset[str]:
        """The fields that are filtered by, named as in `Sort`."""
        dated = self.published_from is not None or self.published_to is not None
        found = {
            "author": self.author is not None,
            "title": self.title is not None,
            "publication_date": dated,
        }
        return frozenset(name for name, is_used in found.items() if is_used)


@dataclass(frozen=True)
class Position:
    """A book's place in a sorted list: the field that is sorted by, as text (none for ids), and its id."""

    value: str | None
    book_id: int

    @classmethod
    def of(cls, book: Book, sort: Sort) -> "Position":
        """The place of `book`."""
        match sort.removeprefix("-"):
            case "title":
                return cls(book.title, book.id)
            case "author":
                return cls(book.author[:AUTHOR_START_LENGTH], book.id)
            case "publication_date":
                return cls(book.publication_date.isoformat(), book.id)
        return cls(None, book.id)


async def get_book(database: Database, cache: BookCache, book_id: int) -> Book:
    """The book, from the cache where that is as new as the newest recorded event; BookNotFoundError."""
    found = await cache.look_up(book_id)
    if isinstance(found, Book):
        return found
    book = await read_book(database, book_id)
    if isinstance(found, Vacancy):
        await cache.fill(found, book)
    return book


@_again
async def read_book(database: Database, book_id: int) -> Book:
    """The book as its row has it; BookNotFoundError."""
    async with database.read() as connection:
        row = (await connection.execute(select(*BOOK_COLUMNS).where(_COLUMNS.id == book_id))).one_or_none()
    if row is None:
        raise BookNotFoundError(book_id)
    return Book.model_construct(**row._mapping)  # noqa: SLF001  Row's documented mapping


def may_walk(filters: Filters, sort: Sort) -> bool:
    """Whether the index that gives the order does not find the books as well, or not with all that is asked.

    Then the servers choose: they sort what another index finds, or walk along one of them, and if books that
    fit are rare they walk to its end.
    """
    is_long = filters.author is not None and len(filters.author) > AUTHOR_START_LENGTH
    return is_long or not _is_found_in_order(filters, sort)


def _is_found_in_order(filters: Filters, sort: Sort) -> bool:
    return filters.fields <= {sort.removeprefix("-")}


@_again
async def list_books(
    database: Database, filters: Filters, sort: Sort, *, after: Position | None, limit: int
) -> list[Book]:
    """Up to `limit` books in the order of `sort`, ties by id in the same direction, behind `after`.

    Authors are in order by their first 255 characters, as far as an index can hold them.
    """
    field, descending = sort.removeprefix("-"), sort.startswith("-")
    column = _SORTED_BY[field]
    keys = dict.fromkeys((column, _COLUMNS.id))
    query = select(*BOOK_COLUMNS).order_by(*(key.desc() if descending else key for key in keys)).limit(limit)
    if _is_found_in_order(filters, sort):
        # The servers would rather sort the whole table than read a page from the index.
        query = query.with_hint(BOOK_TABLE, f"FORCE INDEX ({_INDEXES[field]})")
    if after is not None:
        query = query.where(_is_behind(after, column, descending=descending))
    if filters.author is not None:
        query = query.where(author_begins_with(filters.author))
    if filters.title is not None:
        query = query.where(title_begins_with(filters.title))
    if filters.published_from is not None:
        query = query.where(_COLUMNS.publication_date >= filters.published_from)
    if filters.published_to is not None:
        query = query.where(_COLUMNS.publication_date <= filters.published_to)
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
    return [Book.model_construct(**row._mapping) for row in rows]  # noqa: SLF001  as above


async def next_books(snapshot: Snapshot, book_id: int, limit: int) -> list[Book]:
    """The first `limit` books of the snapshot behind that id, in the order of their ids."""
    query = select(*BOOK_COLUMNS).where(_COLUMNS.id > book_id).order_by(_COLUMNS.id).limit(limit)
    return [Book.model_construct(**row._mapping) for row in await snapshot.all(query)]  # noqa: SLF001  as above


def _is_behind(place: Position, column: Column[Any], *, descending: bool) -> ColumnElement[bool]:
    """Two ranges of one index, also behind a million books that are tied; a row comparison would be none."""
    later_id = _COLUMNS.id < place.book_id if descending else _COLUMNS.id > place.book_id
    if place.value is None:
        return later_id
    value = date.fromisoformat(place.value) if column is _COLUMNS.publication_date else place.value
    return or_(column < value if descending else column > value, and_(column == value, later_id))
