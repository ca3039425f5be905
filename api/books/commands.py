"""The changes of books. Each is one transaction: the book, its version and the event, or nothing.

With a `RequestKey` a change is made once: the transaction stores what it was answered with, and a repeat
raises `idempotency.AlreadyDoneError` with that.
"""

from collections.abc import Container, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import CursorResult, bindparam, delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api import outbox
from api.books import idempotency
from api.books.idempotency import RequestKey
from api.books.import_progress import Step, advance
from api.statements import Statement
from common.books import Book, NewBook
from common.database import RETRY_SECONDS, Database
from common.errors import BookNotFoundError, ContendedError, DatabaseUnavailableError, StaleVersionError
from common.retry import retry
from common.tables import BOOK_COLUMNS, BOOK_TABLE

# Both leave nothing behind. A commit whose answer was lost is neither, and is never repeated here.
_again = retry(
    times=4, delay=0.05, exceptions=(ContendedError, DatabaseUnavailableError), within=RETRY_SECONDS
)
_COLUMNS = BOOK_TABLE.c
_WRITTEN = ["title", "author", "publication_date", "version", "created_at", "updated_at"]
_INSERT = Statement(insert(BOOK_TABLE), _WRITTEN)
_UPDATE = Statement(
    update(BOOK_TABLE)
    .where(_COLUMNS.id == bindparam("id_"))
    .values({name: bindparam(name) for name in _WRITTEN if name != "created_at"})
)


@_again
async def add_book(
    database: Database, new: NewBook, traceparent: str, request_key: RequestKey | None = None
) -> Book:
    """Store the book and the event that announces it, or neither."""
    now = datetime.now(UTC)
    async with database.begin() as transaction:
        await idempotency.claim(transaction, request_key)
        first_id = await _insert(transaction, [new], now)
        book = _as_added(new, first_id, now)
        await outbox.record(transaction, "bookstore.book.created.v1", book, at=now, traceparent=traceparent)
        await idempotency.keep(transaction, request_key, book)
    return book


@_again
async def add_books(
    database: Database, new_books: Sequence[NewBook], traceparent: str, step: Step | None = None
) -> list[Book]:
    """Store all the books and their events, and how far that brings an import, or nothing of it.

    RequestInWorkError when another request has gone on with the import.
    """
    now = datetime.now(UTC)
    async with database.begin() as transaction:
        await advance(transaction, step)
        if not new_books:
            return []
        first_id = await _insert(transaction, new_books, now)
        increment = text("SELECT @@auto_increment_increment")
        stride: int = (await transaction.execute(increment)).scalar_one()
        books = [_as_added(new, first_id + index * stride, now) for index, new in enumerate(new_books)]
        await outbox.record(transaction, "bookstore.book.created.v1", *books, at=now, traceparent=traceparent)
    return books


@_again
async def change_book(  # noqa: PLR0913, PLR0917  what, to what, if, and for whom
    database: Database,
    book_id: int,
    changes: dict[str, Any],
    versions: Container[int] | None,
    traceparent: str,
    request_key: RequestKey | None = None,
) -> Book:
    """Give the book's fields the values in `changes`, if its version is one of `versions` (None: any).

    A change to what is there already keeps the version and records no event. Raises BookNotFoundError and
    StaleVersionError.
    """
    async with database.begin() as transaction:
        await idempotency.claim(transaction, request_key)
        book = await _locked(transaction, book_id, versions)
        if all(getattr(book, field) == value for field, value in changes.items()):
            await idempotency.keep(transaction, request_key, book)
            return book
        now = max(datetime.now(UTC), book.updated_at)
        changed = book.model_copy(update={**changes, "version": book.version + 1, "updated_at": now})
        await _UPDATE.execute(transaction, {**dict(changed), "id_": book_id})
        await outbox.record(
            transaction, "bookstore.book.updated.v1", changed, at=now, traceparent=traceparent
        )
        await idempotency.keep(transaction, request_key, changed)
    return changed


@_again
async def delete_book(
    database: Database,
    book_id: int,
    versions: Container[int] | None,
    traceparent: str,
    request_key: RequestKey | None = None,
) -> Book:
    """Remove the book; its last state is announced, at one version more. Raises as `change_book` does."""
    async with database.begin() as transaction:
        await idempotency.claim(transaction, request_key)
        book = await _locked(transaction, book_id, versions)
        now = max(datetime.now(UTC), book.updated_at)
        last = book.model_copy(update={"version": book.version + 1, "updated_at": now})
        await transaction.execute(delete(BOOK_TABLE).where(_COLUMNS.id == book_id))
        await outbox.record(transaction, "bookstore.book.deleted.v1", last, at=now, traceparent=traceparent)
        await idempotency.keep(transaction, request_key, last)
    return last


async def _insert(transaction: AsyncConnection, new_books: Sequence[NewBook], now: datetime) -> int:
    """The id of the first of the new rows.

    An INSERT whose number of rows is known gets consecutive ids, `auto_increment_increment` apart, in every
    innodb_autoinc_lock_mode (MySQL manual, "AUTO_INCREMENT Handling in InnoDB", simple inserts), and
    LAST_INSERT_ID() is the first of them.
    """
    rows = [
        {
            "title": new.title,
            "author": new.author,
            "publication_date": new.publication_date,
            "version": 1,
            "created_at": now,
            "updated_at": now,
        }
        for new in new_books
    ]
    if len(rows) == 1:
        return await _INSERT.execute(transaction, rows[0])
    result = cast("CursorResult[Any]", await transaction.execute(insert(BOOK_TABLE).values(rows)))
    first_id: int = result.lastrowid
    return first_id


def _as_added(new: NewBook, book_id: int, now: datetime) -> Book:
    return Book.model_construct(
        id=book_id,
        title=new.title,
        author=new.author,
        publication_date=new.publication_date,
        version=1,
        created_at=now,
        updated_at=now,
    )


async def _locked(transaction: AsyncConnection, book_id: int, versions: Container[int] | None) -> Book:
    """The book, its row locked until the transaction ends."""
    row = (
        await transaction.execute(select(*BOOK_COLUMNS).where(_COLUMNS.id == book_id).with_for_update())
    ).one_or_none()
    if row is None:
        raise BookNotFoundError(book_id)
    if versions is not None and row.version not in versions:
        raise StaleVersionError(book_id, row.version)
    return Book.model_construct(**row._mapping)  # noqa: SLF001  Row's documented mapping
