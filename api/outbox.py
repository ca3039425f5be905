from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api.statements import Statement
from common.books import Book
from common.events import BookEvent, EventType, shard_of
from common.tables import OutboxRow

_COLUMNS = ["shard", "event_id", "book_id", "book_version", "type", "body", "created_at"]
_INSERT = Statement(insert(OutboxRow.__table__), _COLUMNS)  # type: ignore[attr-defined]  # not declared


async def record(
    transaction: AsyncConnection, event_type: EventType, *books: Book, at: datetime, traceparent: str
) -> None:
    """Write down, in the caller's transaction, that `event_type` happened to each of `books`; never commits.

    Call it after the statement that took the books' row locks, never before: the ids of the outbox order the
    events of a book only because they are given while its row is locked.
    """
    events = [BookEvent.of(event_type, book, at, traceparent) for book in books]
    await _INSERT.execute(
        transaction,
        *(
            {
                "shard": shard_of(event.data.id),
                "event_id": str(event.id),
                "book_id": event.data.id,
                "book_version": event.bookversion,
                "type": event.type,
                "body": event.model_dump_json(),
                "created_at": at,
            }
            for event in events
        ),
    )
