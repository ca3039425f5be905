"""The reads of books. None costs more on a later page."""

from dataclasses import dataclass
from datetime import date

from sqlalchemy import select

from common.books import Book
from common.cache import BookCache, Vacancy
from common.database import RETRY_SECONDS, Database
from common.errors import BookNotFoundError, DatabaseUnavailableError
from common.retry import retry
from common.tables import BookRow

_COLUMNS = BookRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
_again = retry(times=3, delay=0.05, exceptions=DatabaseUnavailableError, within=RETRY_SECONDS)


@dataclass(frozen=True)
class Filters:
    """`author` and `title` are beginnings, compared as the column's collation does; dates are inclusive."""

    author: str | None = None
    title: str | None = None
    published_from: date | None = None
    published_to: date | None = None


async def get_book(database: Database, cache: BookCache, book_id: int) -> Book:
    """The book, from the cache where that is as new as the newest recorded event; BookNotFoundError."""
    found = await cache.look_up(book_id)
    if isinstance(found, Book):
        return found
    book = await _read_book(database, book_id)
    if isinstance(found, Vacancy):
        await cache.fill(found, book)
    return book


@_again
async def _read_book(database: Database, book_id: int) -> Book:
    async with database.read() as connection:
        row = (await connection.execute(select(*_COLUMNS).where(_COLUMNS.id == book_id))).one_or_none()
    if row is None:
        raise BookNotFoundError(book_id)
    return Book.model_construct(**row._mapping)  # noqa: SLF001  Row's documented mapping


@_again
async def list_books(
    database: Database, filters: Filters, *, after_id: int | None, descending: bool, limit: int
) -> list[Book]:
    """Up to `limit` books by id, behind `after_id` in the chosen direction."""
    query = select(*_COLUMNS).order_by(_COLUMNS.id.desc() if descending else _COLUMNS.id).limit(limit)
    if after_id is not None:
        query = query.where(_COLUMNS.id < after_id if descending else _COLUMNS.id > after_id)
    # autoescape makes %, _ and the escape character ordinary letters.
    if filters.author is not None:
        query = query.where(_COLUMNS.author.startswith(filters.author, autoescape=True, escape="!"))
    if filters.title is not None:
        query = query.where(_COLUMNS.title.startswith(filters.title, autoescape=True, escape="!"))
    if filters.published_from is not None:
        query = query.where(_COLUMNS.publication_date >= filters.published_from)
    if filters.published_to is not None:
        query = query.where(_COLUMNS.publication_date <= filters.published_to)
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
    return [Book.model_construct(**row._mapping) for row in rows]  # noqa: SLF001  as above
