from dataclasses import dataclass

from pydantic import ValidationError

from common.books import BOOK_ID_MAX
from common.events import BookEvent

# Ours have 12 kB at most.
_MAX_BYTES = 262_144
_VERSION_MAX = 2**31 - 1
# Any zone's offset keeps such a time within what the database and protobuf can hold.
_YEARS = range(1970, 9999)


class NotUnderstoodError(Exception):
    """A message that is no event of ours; the reason names fields, never values."""


@dataclass(frozen=True)
class Arrival:
    """An event as it came, and its text to the letter."""

    event: BookEvent
    body: str

    @property
    def book_id(self) -> int:
        """From 1."""
        return self.event.data.id

    @property
    def version(self) -> int:
        """Of the book after the change, from 1."""
        return self.event.bookversion


def understand(body: bytes | str) -> Arrival:
    """The event in a message's body, or NotUnderstoodError with the reason.

    Whatever passes can be stored: its numbers and times fit the columns. Unknown fields are ignored.
    """
    if len(body) > _MAX_BYTES:
        raise NotUnderstoodError(f"longer than {_MAX_BYTES} bytes")
    try:
        text = body if isinstance(body, str) else body.decode()
        event = BookEvent.model_validate_json(text)
    except UnicodeDecodeError:
        raise NotUnderstoodError("not UTF-8") from None
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise NotUnderstoodError("; ".join(faults)[:500]) from None
    if not 1 <= event.data.id <= BOOK_ID_MAX or not 1 <= event.bookversion <= _VERSION_MAX:
        raise NotUnderstoodError("id or version out of range")
    if event.subject != str(event.data.id) or event.bookversion != event.data.version:
        raise NotUnderstoodError("subject, bookversion and data do not belong together")
    moments = (event.time, event.data.created_at, event.data.updated_at)
    if any(moment.tzinfo is None or moment.year not in _YEARS for moment in moments):
        raise NotUnderstoodError("a time has no zone or lies out of range")
    return Arrival(event, text)
