from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outbox_relay.lanes import Lanes, WaitingEvent


def event(row_id: int, book_id: int) -> WaitingEvent:
    return WaitingEvent(row_id, book_id % 4, f"event-{row_id}", book_id, "bookstore.book.updated.v1", "{}")


class LanesMachine(RuleBasedStateMachine):
    """A table that grows, a broker that confirms in any order or loses everything: order must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes()
        self.table: list[WaitingEvent] = []
        self.on_the_wire: dict[int, WaitingEvent] = {}
        self.tried: set[int] = set()
        self.confirmed: set[int] = set()
        self.sent: dict[int, list[int]] = defaultdict(list)
        self.next_row = 1

    @rule(book_id=st.integers(1, 5))
    def write(self, book_id: int) -> None:
        self.table.append(event(self.next_row, book_id))
        self.next_row += 1

    @rule(limit=st.integers(1, 10), doubtful=st.sets(st.integers(1, 5)))
    def read(self, limit: int, doubtful: set[int]) -> None:
        self.lanes.add(self.table[:limit], doubtful.__contains__)

    @rule()
    def trust(self) -> None:
        self.lanes.trust()

    @rule(count=st.integers(1, 4), doubtful=st.booleans())
    def publish(self, count: int, *, doubtful: bool) -> None:
        for _ in range(count):
            head = self.lanes.next_head(doubtful=doubtful)
            if head is None:
                return
            assert head.book_id not in self.on_the_wire, "a book had two events on the wire"
            earlier = [row for row in self.table if row.book_id == head.book_id and row.row_id < head.row_id]
            assert all(row.row_id in self.confirmed for row in earlier), "an event overtook another"
            self.on_the_wire[head.book_id] = head
            if doubtful:
                self.tried.add(head.book_id)
            else:
                self.tried.discard(head.book_id)
            self.sent[head.book_id].append(head.row_id)

    @precondition(lambda self: self.on_the_wire)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        book_id = data.draw(st.sampled_from(sorted(self.on_the_wire)))
        head = self.on_the_wire.pop(book_id)
        self.confirmed.add(head.row_id)
        self.lanes.confirm(head)

    @rule()
    def settle(self) -> None:
        self.table = [row for row in self.table if row.row_id not in self.confirmed]
        self.lanes.forget(self.confirmed)

    @rule()
    def lose_the_connection(self) -> None:
        self.on_the_wire.clear()
        self.lanes.drop_all()

    @precondition(lambda self: self.on_the_wire)
    @rule(data=st.data())
    def return_one(self, data: st.DataObject) -> None:
        book_id = data.draw(st.sampled_from(sorted(self.on_the_wire)))
        del self.on_the_wire[book_id]
        self.lanes.drop_book(book_id)

    @rule(mine=st.sets(st.integers(0, 3)))
    def lose_shards(self, mine: set[int]) -> None:
        self.lanes.drop_other_shards(mine, set(self.on_the_wire))

    @invariant()
    def only_doubtful_heads_on_the_wire_count_as_tried(self) -> None:
        assert self.lanes.tried == len(self.tried & self.on_the_wire.keys())

    @invariant()
    def first_appearances_are_in_order(self) -> None:
        for rows in self.sent.values():
            first = list(dict.fromkeys(rows))
            assert first == sorted(first)

    def teardown(self) -> None:
        """What is in the table goes out in the end: nothing is stuck."""
        self.lose_the_connection()
        self.settle()
        while self.table:
            self.lanes.add(self.table)
            head = self.lanes.next_head()
            assert head is not None, "events wait and none may go"
            self.confirmed.add(head.row_id)
            self.lanes.confirm(head)
            self.settle()
        assert len(self.lanes) == 0


TestLanes = LanesMachine.TestCase


@given(st.lists(st.integers(1, 3), max_size=30))
def test_rows_that_are_read_twice_are_taken_once(books: list[int]) -> None:
    lanes = Lanes()
    rows = [event(number, book_id) for number, book_id in enumerate(books, start=1)]
    assert lanes.add(rows) == len(rows)
    assert lanes.add(rows) == 0
    assert len(lanes) == len(rows)


@given(rows=st.integers(0, 120), confirmed=st.integers(0, 120), dropped=st.booleans())
def test_deep_book_is_known_as_such_until_it_runs_low_and_fills_no_hands(
    rows: int, confirmed: int, *, dropped: bool
) -> None:
    lanes = Lanes()
    lanes.add([event(number, 1) for number in range(1, rows + 1)] + [event(rows + 1, 2)])
    was_deep = bool(lanes.deep)
    for number in range(1, min(confirmed, rows) + 1):
        lanes.confirm(event(number, 1))
    left = max(0, rows - confirmed)
    assert was_deep == (rows >= 50)
    assert lanes.deep == ({1: 1} if left >= 50 else {})
    assert lanes.take_low() == ({1} if was_deep and left < 50 else set())
    assert lanes.load == min(left, 20) + 1
    assert lanes.count_by_shard()[1] == (left if left < 50 else 0)
    if dropped:
        lanes.drop_all()
        assert (lanes.load, lanes.deep, lanes.take_low()) == (0, {}, set())
