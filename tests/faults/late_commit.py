from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime

from sqlalchemy import Engine, insert

from common.books import Book
from common.events import BookEvent, shard_of
from common.tables import BookRow, OutboxRow
from tests.faults.evidence import Change
from tests.faults.journal import Journal
from tests.faults.rest_client import new_title
from tests.fixtures.relay import TRACE


@contextmanager
def late_commit(engine: Engine, journal: Journal) -> Iterator[None]:
    """A book is added, as the API does it, in a transaction that is committed when the block ends."""
    now, title = datetime.now(UTC), new_title()
    fields = {"title": title, "author": "Late", "publication_date": date(2000, 1, 1), "version": 1}
    fields |= {"created_at": now, "updated_at": now}
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        book_id = connection.execute(insert(BookRow).values(fields)).lastrowid
        event = BookEvent.of("bookstore.book.created.v1", Book(id=book_id, **fields), now, TRACE)
        row = {"shard": shard_of(book_id), "event_id": str(event.id), "book_id": book_id, "book_version": 1}
        row |= {"type": event.type, "body": event.model_dump_json(), "created_at": now}
        connection.execute(insert(OutboxRow).values(row))
        yield
        connection.commit()
    journal.write(Change("create", "acknowledged", book_id, 1, title))
