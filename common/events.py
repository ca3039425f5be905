"""The announcement of a change, as CloudEvents 1.0 in structured mode (design, section 7)."""

import zlib
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict

from common.books import Book, UtcMoment

EXCHANGE = "bookstore.events"
DOORBELL_EXCHANGE = "bookstore.outbox.doorbell"
CONTENT_TYPE = "application/cloudevents+json"
SHARDS = 64

EventType = Literal[
    "bookstore.book.created.v1",
    "bookstore.book.updated.v1",
    "bookstore.book.deleted.v1",
]


def shard_of(book_id: int) -> int:
    """The shard of all of a book's events: crc32 of the decimal id, modulo 64."""
    return zlib.crc32(str(book_id).encode()) % SHARDS


def routing_key(event_type: str) -> str:
    """`book.created.v1` for `bookstore.book.created.v1`."""
    return event_type.removeprefix("bookstore.")


class BookEvent(BaseModel):
    """A fact about one book: `data` is the whole book after the change, or its last state if it was deleted.

    `id` is made once, in the transaction that makes the change, and stays the same on every resend.
    Fields that a later minor version may add are ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    specversion: Literal["1.0"] = "1.0"
    id: UUID
    source: Literal["/bookstore/books"] = "/bookstore/books"
    type: EventType
    subject: str
    time: UtcMoment
    datacontenttype: Literal["application/json"] = "application/json"
    bookversion: int
    traceparent: str
    data: Book

    @classmethod
    def of(cls, event_type: EventType, book: Book, time: datetime, traceparent: str) -> "BookEvent":
        """The event that `event_type` happened to `book`, which is given as it is after the change."""
        return cls.model_construct(
            id=uuid4(),
            type=event_type,
            subject=str(book.id),
            time=time,
            bookversion=book.version,
            traceparent=traceparent,
            data=book,
        )
