"""What is known after a trial: what clients were told, what stands in the tables, what was on the wire."""

from dataclasses import dataclass, field, replace
from typing import Literal

Outcome = Literal["acknowledged", "refused", "unknown"]
Call = Literal["create", "change", "delete"]


@dataclass(frozen=True)
class Change:
    """A client's call and what came of it. `title` is of this call alone; a deletion has none.

    The version is that of the answer: None when there was none, and after a deletion.
    """

    call: Call
    outcome: Outcome
    book_id: int | None = None
    version: int | None = None
    title: str = ""


@dataclass(frozen=True)
class Reading:
    """A client's question for a book and the answer; `version` None: there is no such book.

    `newest_recorded` is the version of the newest event of the book on record before the client asked.
    """

    book_id: int
    newest_recorded: int
    version: int | None


@dataclass(frozen=True)
class Event:
    """An event as it stands in a table or was on the wire; `title` is the book's after the change.

    Id, book and version are those of a table's columns, and on the wire the id is that of the message.
    """

    id: str
    book_id: int
    version: int
    what: str
    title: str = ""
    body: str = field(default="", repr=False)


@dataclass(frozen=True)
class Evidence:
    """All of it, at rest: nobody writes any more, and what could be sent and recorded was.

    `books` has (version, title) of those that there are. `wire` and `record` are in order, repeats included.
    """

    changes: tuple[Change, ...] = ()
    readings: tuple[Reading, ...] = ()
    books: tuple[tuple[int, int, str], ...] = ()
    outbox: tuple[Event, ...] = ()
    parked: tuple[Event, ...] = ()
    sent: tuple[Event, ...] = ()
    waiting: tuple[Event, ...] = ()
    wire: tuple[Event, ...] = ()
    record: tuple[Event, ...] = ()

    @property
    def committed(self) -> tuple[Event, ...]:
        """The events that stand in the database because their change was committed, each once."""
        return tuple({event.id: event for event in (*self.outbox, *self.parked, *self.sent)}.values())

    def of_books_after(self, book_id: int) -> "Evidence":
        """Only what concerns books with greater ids, and calls of which no id is known."""

        def newer(events: tuple[Event, ...]) -> tuple[Event, ...]:
            return tuple(event for event in events if event.book_id > book_id)

        return replace(
            self,
            changes=tuple(c for c in self.changes if c.book_id is None or c.book_id > book_id),
            readings=tuple(reading for reading in self.readings if reading.book_id > book_id),
            books=tuple(book for book in self.books if book[0] > book_id),
            **{
                name: newer(getattr(self, name))
                for name in ("outbox", "parked", "sent", "waiting", "wire", "record")
            },
        )
