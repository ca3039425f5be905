"""Books and events as protobuf messages."""

from datetime import datetime
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from common.books import Book
from common.events import BookEvent
from grpc_reader.tables import DeliveredEventRow
from protos.bookstore.v1 import books_pb2, events_pb2

EVENT_COLUMNS = tuple(DeliveredEventRow.__table__.columns)  # type: ignore[attr-defined]  # SQLModel adds it


class StreamEvent(NamedTuple):
    """An event as every watcher gets it: a WatchDeliveredEventsResponse in bytes, made once for all."""

    position: int
    book_id: int
    message: bytes


def timestamp(moment: datetime) -> Timestamp:
    """An aware time, to the microsecond."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def book_message(book: Book) -> books_pb2.Book:
    """A book, as books.proto describes it."""
    return books_pb2.Book(
        id=book.id,
        title=book.title,
        author=book.author,
        publication_date=book.publication_date.isoformat(),
        version=book.version,
        create_time=timestamp(book.created_at),
        update_time=timestamp(book.updated_at),
    )


def event_message(row: DeliveredEventRow) -> events_pb2.DeliveredEvent:
    """A row as it came from EVENT_COLUMNS; the book is read from the event's own body."""
    return events_pb2.DeliveredEvent(
        position=row.position,
        id=row.event_id,
        type=row.type,
        book_id=row.book_id,
        book_version=row.book_version,
        time=timestamp(row.event_time),
        record_time=timestamp(row.record_time),
        book=book_message(BookEvent.model_validate_json(row.body).data),
    )


def stream_event(row: DeliveredEventRow) -> StreamEvent:
    """Likewise, for streams."""
    response = events_pb2.WatchDeliveredEventsResponse(event=event_message(row))
    return StreamEvent(row.position, row.book_id, response.SerializeToString())
