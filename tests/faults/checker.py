"""Says for every book whether the promises were kept (design, section 8). Reads evidence, does no I/O.

Two things are let pass, because the evidence cannot tell them from what is allowed. An answer that a book
does not exist is taken for right if the book's deletion was committed, even later: the journal has the order
of the answers, and not when the deletion was made. And an event on record that the tap has not seen is taken
for one that it has yet to get: a queue has its messages in its own time, and the reader's may be the quicker.
"""

import enum
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.faults.evidence import Event, Evidence


class Kind(enum.Enum):
    """The ways to break a promise."""

    LOST = "an acknowledged or committed change was not recorded"
    UNCOMMITTED = "an event was announced whose change was not committed"
    ALTERED = "an event is not everywhere the one that was committed"
    REFUSED = "a change was made that the client was told was not"
    TWICE = "an event was recorded twice"
    WIRE_ORDER = "versions appeared on the wire for the first time out of order"
    RECORD_ORDER = "versions were recorded out of order"
    GAP = "a version is missing"
    HALF = "a book and its events do not say the same"
    STALE = "a client was answered with less than was on record"
    INVENTED = "a client was answered with a version that no book had"


@dataclass(frozen=True)
class Violation:
    """A broken promise of one book, in a sentence; the book is None when no id is known."""

    kind: Kind
    book_id: int | None
    sentence: str


def check(evidence: Evidence) -> list[Violation]:
    """Every violation that the evidence shows; none, if all promises were kept."""
    found = [
        *_lost(evidence),
        *_uncommitted(evidence),
        *_altered(evidence),
        *_refused(evidence),
        *_twice(evidence),
        *_disorder(Kind.WIRE_ORDER, "on the wire", evidence.wire),
        *_disorder(Kind.RECORD_ORDER, "in the record", evidence.record),
        *_gaps("in the database", evidence.committed),
        *_gaps("on the wire", evidence.wire),
        *_gaps("in the record", evidence.record),
        *_half(evidence),
        *_stale(evidence),
        *_invented(evidence),
    ]
    return sorted(found, key=lambda violation: (violation.book_id or 0, violation.kind.name))


def _lost(evidence: Evidence) -> Iterator[Violation]:
    made = {(event.book_id, event.version, event.title) for event in evidence.committed}
    deleted = {event.book_id for event in evidence.committed if event.what == "deleted"}
    for change in evidence.changes:
        if change.outcome != "acknowledged":
            continue
        if change.call == "delete":
            there = change.book_id in deleted
        else:
            there = (change.book_id, change.version, change.title) in made
        if not there:
            sentence = f"{change.call} to version {change.version} ({change.title!r}) has no event"
            yield Violation(Kind.LOST, change.book_id, sentence)
    recorded = {event.id for event in evidence.record} | {event.id for event in evidence.parked}
    on_the_wire = {event.id for event in evidence.wire}
    waiting = {event.id for event in evidence.outbox}
    for event in evidence.committed:
        if event.id not in recorded:
            place = "in the outbox" if event.id in waiting else "in the history only"
            seen = "seen on the wire" if event.id in on_the_wire else "never on the wire"
            sentence = f"version {event.version} ({event.id}) is not recorded: it is {place}, {seen}"
            yield Violation(Kind.LOST, event.book_id, sentence)


def _uncommitted(evidence: Evidence) -> Iterator[Violation]:
    committed = {event.id for event in evidence.committed}
    for event in _first_appearances((*evidence.wire, *evidence.record)):
        if event.id not in committed:
            sentence = f"version {event.version} ({event.id}) was announced and stands in no table"
            yield Violation(Kind.UNCOMMITTED, event.book_id, sentence)


def _altered(evidence: Evidence) -> Iterator[Violation]:
    committed = {event.id: event for event in evidence.committed}
    places = {
        "in the outbox": evidence.outbox,
        "among the parked": evidence.parked,
        "in the history": evidence.sent,
        "on the wire": evidence.wire,
        "among the waiting": evidence.waiting,
        "in the record": evidence.record,
    }
    for place, events in places.items():
        for event in dict.fromkeys(events):
            true = committed.get(event.id, event)
            if event != true:
                sentence = f"{event} {place} was committed as {true}, with the body {true.body}: {event.body}"
                yield Violation(Kind.ALTERED, true.book_id, sentence)


def _refused(evidence: Evidence) -> Iterator[Violation]:
    titles = {event.title: event for event in evidence.committed}
    deleted = {event.book_id: event for event in evidence.committed if event.what == "deleted"}
    deletions = [change for change in evidence.changes if change.call == "delete"]
    accounted = {change.book_id for change in deletions if change.outcome != "refused"}
    for book_id in {change.book_id for change in deletions} - accounted:
        if book_id in deleted:
            sentence = f"each deletion was refused and one is version {deleted[book_id].version}"
            yield Violation(Kind.REFUSED, book_id, sentence)
    for change in evidence.changes:
        if change.outcome == "refused" and change.title in titles:
            event = titles[change.title]
            sentence = f"{change.call} ({change.title!r}) was refused and is version {event.version}"
            yield Violation(Kind.REFUSED, event.book_id, sentence)


def _twice(evidence: Evidence) -> Iterator[Violation]:
    ids = Counter(event.id for event in evidence.record)
    versions = Counter((event.book_id, event.version) for event in evidence.record)
    for event in _first_appearances(evidence.record):
        times = max(ids[event.id], versions[event.book_id, event.version])
        if times > 1:
            sentence = f"version {event.version} ({event.id}) was recorded {times} times"
            yield Violation(Kind.TWICE, event.book_id, sentence)


def _disorder(kind: Kind, place: str, events: Iterable[Event]) -> Iterator[Violation]:
    for book_id, versions in _versions(events).items():
        if versions != sorted(versions):
            yield Violation(kind, book_id, f"versions {place} by first appearance: {versions}")


def _gaps(place: str, events: Iterable[Event]) -> Iterator[Violation]:
    for book_id, versions in _versions(events).items():
        if missing := sorted(set(range(1, max(versions))) - set(versions)):
            yield Violation(Kind.GAP, book_id, f"versions {missing} are missing {place}")


def _half(evidence: Evidence) -> Iterator[Violation]:
    newest: dict[int, Event] = {}
    for event in sorted(evidence.committed, key=lambda event: event.version):
        newest[event.book_id] = event
    books = {book_id: (version, title) for book_id, version, title in evidence.books}
    for book_id in sorted(books.keys() | newest.keys()):
        last, book = newest.get(book_id), books.get(book_id)
        announced = None if last is None or last.what == "deleted" else (last.version, last.title)
        if book != announced:
            yield Violation(Kind.HALF, book_id, f"the book is {book}, its events say {announced}")


def _stale(evidence: Evidence) -> Iterator[Violation]:
    deleted = {event.book_id for event in evidence.committed if event.what == "deleted"}
    for reading in evidence.readings:
        gone = reading.version is None and reading.book_id in deleted
        if not gone and (reading.version or 0) < reading.newest_recorded:
            sentence = f"version {reading.newest_recorded} was on record, the answer was {reading.version}"
            yield Violation(Kind.STALE, reading.book_id, sentence)


def _invented(evidence: Evidence) -> Iterator[Violation]:
    shown = {(event.book_id, event.version) for event in evidence.committed if event.what != "deleted"}
    for reading in evidence.readings:
        if reading.version is not None and (reading.book_id, reading.version) not in shown:
            sentence = f"the answer was version {reading.version}, which was never committed"
            yield Violation(Kind.INVENTED, reading.book_id, sentence)


def _first_appearances(events: Iterable[Event]) -> list[Event]:
    first: dict[str, Event] = {}
    for event in events:
        first.setdefault(event.id, event)
    return list(first.values())


def _versions(events: Iterable[Event]) -> dict[int, list[int]]:
    versions: dict[int, list[int]] = defaultdict(list)
    for event in _first_appearances(events):
        versions[event.book_id].append(event.version)
    return versions
