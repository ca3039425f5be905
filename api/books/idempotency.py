"""A change that is asked for twice is made once (draft-ietf-httpapi-idempotency-key-header)."""

import asyncio
import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.tables import IdempotencyKeyRow
from common.books import Book
from common.database import Database
from common.driver_errors import is_lock_wait_timeout
from common.errors import BookstoreError, KeyReusedError, RequestInWorkError

KEPT = timedelta(hours=24)
PURGED_AT_ONCE = 500
_PURGE_SECONDS = 60
_TABLE = IdempotencyKeyRow.__table__  # type: ignore[attr-defined]  # SQLModel does not declare it
_COLUMNS = _TABLE.c
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequestKey:
    """A user's name for one request, and the fingerprint of what it asks for."""

    username: str
    key: str
    fingerprint: str

    @classmethod
    def of(cls, username: str, key: str, *asked: str | None) -> "RequestKey":
        """With a fingerprint of all that decides about the answer: method, path, conditions, content."""
        return cls(username, key, hashlib.sha256(json.dumps(asked).encode()).hexdigest())


class AlreadyDoneError(Exception):
    """The request was done before; `book` is what its answer was made of. What was begun is rolled back."""

    def __init__(self, book: Book) -> None:
        super().__init__(f"Book {book.id} was changed by this request before.")
        self.book = book


async def claim(transaction: AsyncConnection, request_key: RequestKey | None) -> None:
    """Take the key for the caller's transaction, as its first step; never commits.

    Raises AlreadyDoneError for a repeat, KeyReusedError when the key stands for another request, and
    RequestInWorkError while another transaction has it, which is waited for as for any other lock. Of two
    that wait for one that is then rolled back, either may meet a deadlock, which the caller tries again.
    """
    if request_key is None:
        return
    now = datetime.now(UTC)
    mine = (_COLUMNS.username == request_key.username, _COLUMNS.request_key == request_key.key)
    row = {
        "username": request_key.username,
        "request_key": request_key.key,
        "fingerprint": request_key.fingerprint,
        "answer": "",
        "created_at": now,
    }
    try:
        try:
            await transaction.execute(insert(_TABLE).values(row))
        except IntegrityError:
            found = (await transaction.execute(select(*_COLUMNS).where(*mine))).one_or_none()
            if found is not None and found.created_at > now - KEPT:
                _answer_again(request_key, found.fingerprint, found.answer)
            # It is over, and perhaps purged a moment ago.
            await transaction.execute(delete(_TABLE).where(*mine))
            await transaction.execute(insert(_TABLE).values(row))
    except DBAPIError as error:
        if is_lock_wait_timeout(error):
            message = "A request with this Idempotency-Key is still in work; send it again shortly."
            raise RequestInWorkError(message) from error
        raise


def _answer_again(request_key: RequestKey, fingerprint: str, answer: str) -> None:
    if fingerprint != request_key.fingerprint:
        raise KeyReusedError("This Idempotency-Key was used for another request; use a new key for each.")
    raise AlreadyDoneError(Book.model_validate_json(answer))


async def keep(transaction: AsyncConnection, request_key: RequestKey | None, book: Book) -> None:
    """Store, in the transaction that has claimed the key, what the answer is made of; never commits."""
    if request_key is None:
        return
    await transaction.execute(
        update(_TABLE)
        .where(_COLUMNS.username == request_key.username, _COLUMNS.request_key == request_key.key)
        .values(answer=book.model_dump_json())
    )


async def purge(database: Database, before: datetime) -> int:
    """Remove the keys from before that time, few in each transaction; how many they were."""
    removed = 0
    old = delete(_TABLE).where(_COLUMNS.created_at <= before)
    step = old.with_dialect_options(mysql_limit=PURGED_AT_ONCE)
    while True:
        async with database.begin() as transaction:
            result = cast("CursorResult[Any]", await transaction.execute(step))
        removed += result.rowcount
        if result.rowcount < PURGED_AT_ONCE:
            return removed


async def keep_purging(database: Database) -> None:
    """Purge each minute what is older than a day, until cancelled; an error of the database is no matter."""
    while True:
        await asyncio.sleep(_PURGE_SECONDS)
        try:
            if removed := await purge(database, datetime.now(UTC) - KEPT):
                _LOG.info("idempotency keys purged", extra={"keys": removed})
        except (BookstoreError, SQLAlchemyError) as error:
            _LOG.warning("idempotency keys not purged", extra={"error": str(error)})
