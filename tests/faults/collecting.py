"""Evidence, read from where it is: the journal, the tables, the tap on the broker."""

import json
from collections.abc import Iterable

from sqlalchemy import Engine, text

from common.database import transaction
from tests.faults.evidence import Event, Evidence
from tests.faults.journal import Journal

_BOOKS = "SELECT id, version, title FROM book"
_EVENTS = {
    "outbox": "SELECT event_id, book_id, book_version, body FROM outbox ORDER BY id",
    "parked": "SELECT event_id, book_id, book_version, body FROM parked_event ORDER BY id",
    "sent": "SELECT event_id, book_id, book_version, body FROM sent_event",
    "waiting": "SELECT event_id, book_id, book_version, body FROM waiting_event",
    "record": "SELECT event_id, book_id, book_version, body FROM delivered_event ORDER BY position",
}


def collect(journal: Journal, engine: Engine, wire: Iterable[tuple[str, str]]) -> Evidence:
    """All that is known; `wire` has (message id, body) of what the tap has received, in order."""
    changes, readings = journal.read()
    with transaction(engine) as connection:
        books = connection.execute(text(_BOOKS)).all()
        events = {name: connection.execute(text(query)).all() for name, query in _EVENTS.items()}
    return Evidence(
        changes=changes,
        readings=readings,
        books=tuple((row[0], row[1], row[2]) for row in books),
        wire=tuple(_published(message_id, body) for message_id, body in wire),
        **{name: tuple(_stored(*row) for row in rows) for name, rows in events.items()},
    )


def _published(message_id: str, body: str) -> Event:
    book = json.loads(body)["data"]
    return _stored(message_id, book["id"], book["version"], body)


def _stored(event_id: str, book_id: int, version: int, body: str) -> Event:
    said = json.loads(body)
    return Event(event_id, book_id, version, said["type"].split(".")[2], said["data"]["title"], body)
