"""Which of some events are recorded now, in which order: each book's versions are 1, 2, 3 … without gaps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from grpc_reader.arrival import Arrival

# A book and its version.
Key = tuple[int, int]


@dataclass
class Plan:
    """What becomes of a batch. `waiting` are new in the table of waiting events, `settled` leave it.

    `rivals` can never be recorded: another event has their book and version, or their id.
    """

    recorded: list[Arrival] = field(default_factory=list)
    repeated: list[Arrival] = field(default_factory=list)
    rivals: list[Arrival] = field(default_factory=list)
    waiting: list[Arrival] = field(default_factory=list)
    settled: list[Arrival] = field(default_factory=list)


def plan(
    batch: Iterable[Arrival], last: Mapping[int, int], ready: Iterable[Arrival], known: Mapping[Key, str]
) -> Plan:
    """Sort a batch, in its order of arrival, by what is recorded already.

    `last` has the last recorded version of each book that has one, `ready` are at least those waiting events
    that need not wait after this batch, and `known` has the ids of the recorded and the waiting events whose
    book and version the batch has again. There already under the same id: a repeat; under another: a rival.
    The next version: recorded, and with it those of its book that waited for just this one. Beyond: it waits.
    """
    result = Plan()
    newest = dict(last)
    held = {(arrival.book_id, arrival.version): arrival for arrival in ready}
    stored = set(held) | known.keys()
    ids = dict(known)
    for arrival in batch:
        book_id, version = key = arrival.book_id, arrival.version
        if ids.setdefault(key, str(arrival.event.id)) != str(arrival.event.id):
            result.rivals.append(arrival)
            continue
        # The first for a recorded one whose row somebody has deleted.
        if version <= newest.get(book_id, 0) or key in held or key in stored:
            result.repeated.append(arrival)
            continue
        held[key] = arrival
        while (due := held.pop((book_id, newest.get(book_id, 0) + 1), None)) is not None:
            newest[book_id] = due.version
            result.recorded.append(due)
            if (book_id, due.version) in stored:
                result.settled.append(due)
    result.waiting = [arrival for key, arrival in held.items() if key not in stored]
    return result
