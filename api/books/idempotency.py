"""A change that is asked for twice is made once (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.tables import IdempotencyKeyRow
from common.books import Book
from common.driver_errors import is_lock_wait_timeout
from common.errors import KeyReusedError, RequestInWorkError

KEPT = timedelta(hours=24)
_TABLE = IdempotencyKeyRow.__table__  # type: ignore[attr-defined]  # SQLModel does not declare it
_COLUMNS = _TABLE.c


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
