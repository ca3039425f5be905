"""The one rule of order: an event is on the wire only after the one before it of its book was confirmed."""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

# A book with so many in hand has enough for a while: until they are sent, its other rows are not read.
_DEEP = 50
# Only so many of a book count as being in hand, for no more than one at a time can be sent.
_COUNTED = 20


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """A row of the outbox; `row_id` orders the events of a book."""

    row_id: int
    shard: int
    event_id: str
    book_id: int
    type: str
    body: str


class Lanes:
    """The events in hand, one queue for each book, of which only the head may be published. Does no I/O.

    An event stays known from `add` until `forget`, so that a row which is read again, because it is still in
    the table, is not taken a second time.
    """

    def __init__(self) -> None:
        self._lanes: dict[int, deque[WaitingEvent]] = {}
        # Books whose head may go, oldest first; a dict, because a book that is dropped must leave it at once.
        self._ready: dict[int, None] = {}
        self._doubtful: dict[int, None] = {}
        self._tried: set[int] = set()
        self._known: set[int] = set()
        self._waiting = self._load = 0
        self._deep: dict[int, int] = {}
        self._low: set[int] = set()

    def __len__(self) -> int:
        """How many events are in hand and not confirmed yet."""
        return self._waiting

    @property
    def load(self) -> int:
        """How many of these are soon to be sent: the first 20 of each book."""
        return self._load

    @property
    def tried(self) -> int:
        """How many doubtful heads are on the wire."""
        return len(self._tried)

    @property
    def deep(self) -> Mapping[int, int]:
        """The books that have enough in hand for a while, and the shard of each."""
        return self._deep

    def take_low(self) -> set[int]:
        """The shards of the books that were deep until they had sent so much, since the last call."""
        low, self._low = self._low, set()
        return low

    def count_by_shard(self) -> Counter[int]:
        """How many events of each shard are in hand, without those of the deep books."""
        counts: Counter[int] = Counter()
        for book_id, lane in self._lanes.items():
            if book_id not in self._deep:
                counts[lane[0].shard] += len(lane)
        return counts

    def add(self, events: Iterable[WaitingEvent], doubts: Callable[[int], bool] = lambda _: False) -> int:
        """Take what is not known yet; the events of a book must come in the order of their rows.

        Heads of books that `doubts` is true of are given only to who asks for them.
        """
        added = 0
        for event in events:
            if event.row_id in self._known:
                continue
            self._known.add(event.row_id)
            lane = self._lanes.get(event.book_id)
            if lane is None:
                lane = self._lanes[event.book_id] = deque()
                heads = self._doubtful if doubts(event.book_id) else self._ready
                heads[event.book_id] = None
            lane.append(event)
            self._load += len(lane) <= _COUNTED
            if len(lane) >= _DEEP:
                self._deep[event.book_id] = event.shard
            added += 1
        self._waiting += added
        return added

    def next_head(self, *, doubtful: bool = False) -> WaitingEvent | None:
        """An event that may be published now; it is on the wire until `confirm` or `drop_book`."""
        heads = self._doubtful if doubtful else self._ready
        book_id = next(iter(heads), None)
        if book_id is None:
            return None
        del heads[book_id]
        if doubtful:
            self._tried.add(book_id)
        return self._lanes[book_id][0]

    def trust(self) -> None:
        """No book is doubtful any more."""
        self._ready |= self._doubtful
        self._doubtful.clear()

    def confirm(self, event: WaitingEvent) -> None:
        """The broker has it: the next of its book may go."""
        lane = self._lanes.get(event.book_id)
        if not lane or lane[0].row_id != event.row_id:
            return
        lane.popleft()
        self._tried.discard(event.book_id)
        self._waiting -= 1
        self._load -= len(lane) < _COUNTED
        if len(lane) < _DEEP and self._deep.pop(event.book_id, None) is not None:
            self._low.add(event.shard)
        if lane:
            self._ready[event.book_id] = None
        else:
            del self._lanes[event.book_id]

    def drop_book(self, book_id: int) -> None:
        """Give all events of a book out of hand; they are read again when it is no longer held back."""
        lane = self._lanes.pop(book_id, None)
        self._ready.pop(book_id, None)
        self._doubtful.pop(book_id, None)
        self._tried.discard(book_id)
        self._deep.pop(book_id, None)
        if lane:
            self._waiting -= len(lane)
            self._load -= min(len(lane), _COUNTED)
            self.forget(event.row_id for event in lane)

    def drop_other_shards(self, mine: Collection[int], on_the_wire: Collection[int]) -> None:
        """Give the books of other shards out of hand, save those with an event on the wire."""
        for book_id, lane in list(self._lanes.items()):
            if lane[0].shard not in mine and book_id not in on_the_wire:
                self.drop_book(book_id)

    def drop_all(self) -> None:
        """Give all unconfirmed events out of hand."""
        for book_id in list(self._lanes):
            self.drop_book(book_id)

    def forget(self, row_ids: Iterable[int]) -> None:
        """These rows are out of the table (or out of hand): should they be read again, they are new."""
        self._known.difference_update(row_ids)
