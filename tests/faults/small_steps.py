"""Writes, relays, readers and faults in any order, by steps as small as the named points allow.

The product's own loops run, in this process and in one thread, against real servers, and stand still where a
rule leaves them (stepping.py). So a sequence of steps is the same each time that it is tried, takes
milliseconds, and a failure can be shrunk; with processes and signals none of this would be so. Killed is who
never goes on and whose connections end; what a process has beside that is tried in test_kill_points.py. Times
are not waited for: leases run out, and books that are held are due, when a rule says so.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from common.books import Book
from tests.faults import stepped_reader, stepped_relay
from tests.faults.checker import Kind, check
from tests.faults.evidence import Change, Event, Reading
from tests.faults.ground import Ground
from tests.faults.rest_client import new_title
from tests.faults.stepped_calls import Held
from tests.faults.stepped_reader import SteppedReader
from tests.faults.stepped_relay import SteppedRelay
from tests.faults.stepping import WAITS

RELAYS = st.sampled_from(["first", "second"])
RELAY_POINTS = st.sampled_from(stepped_relay.POINTS)
READER_POINTS = st.sampled_from(stepped_reader.POINTS)
READER_DEATHS = st.sampled_from((*stepped_reader.POINTS, *stepped_reader.INSIDE))
_REST_SECONDS = 20


class SmallSteps(RuleBasedStateMachine):
    """The model is what was committed: (version, what, title) of each book's events.

    A relay or reader that is told to go on and is not there, or dead, is started.
    """

    books = Bundle("books")

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground = ground
        self.committed: dict[int, list[tuple[int, str, str]]] = defaultdict(list)
        self.relays: dict[str, SteppedRelay] = {}
        self.reader: SteppedReader | None = None
        self.sleepers: list[SteppedReader] = []
        self.late: tuple[Held[Book], Change] | None = None
        self.question: tuple[Held[int | None], Reading] | None = None

    @initialize(target=books)
    def begin_with_one_book(self) -> int:
        self.ground.clear()
        return self._create()

    @rule(target=books)
    def create(self) -> int:
        return self._create()

    @rule(book_id=books, times=st.integers(1, 3))
    def change(self, book_id: int, times: int) -> None:
        for _ in range(0 if self._is_locked(book_id) else times):
            self._wrote("change", self.ground.calls.do(self.ground.calls.change(book_id, new_title())))

    @rule(book_id=consumes(books))
    def delete(self, book_id: int) -> None:
        if not self._is_locked(book_id):
            self.ground.calls.do(self.ground.calls.delete(book_id))
            version, _, title = self.committed[book_id][-1]
            self.committed[book_id].append((version + 1, "deleted", title))
            self.ground.note(Change("delete", "acknowledged", book_id))

    @rule(relay=RELAYS, to=RELAY_POINTS)
    def relay_goes_on(self, relay: str, to: str) -> None:
        self._relay(relay).go(to)

    @rule(to=READER_POINTS)
    def reader_goes_on(self, to: str) -> None:
        self._reader().go(to)

    @rule(relay=RELAYS, at=RELAY_POINTS)
    def relay_is_killed(self, relay: str, at: str) -> None:
        self._relay(relay).go(at)
        self.relays.pop(relay).kill()

    @precondition(lambda self: self.relays)
    @rule(relay=RELAYS)
    def relay_is_killed_where_it_stands(self, relay: str) -> None:
        if relay in self.relays:
            self.relays.pop(relay).kill()

    @precondition(lambda self: self.relays)
    @rule(relay=RELAYS)
    def relay_is_cut_off(self, relay: str) -> None:
        if relay in self.relays:
            self.relays[relay].cut()

    @precondition(lambda self: self.relays)
    @rule(relay=RELAYS)
    def relay_is_told_to_stop(self, relay: str) -> None:
        if relay in self.relays:
            self.relays.pop(relay).stop()

    @precondition(lambda self: self.relays)
    @rule()
    def leases_run_out(self) -> None:
        self.ground.let_leases_run_out()

    @rule(at=READER_DEATHS)
    def reader_is_killed(self, at: str) -> None:
        reader, self.reader = self._reader(), None
        reader.go(at)
        reader.kill()

    @precondition(lambda self: self.reader)
    @rule()
    def reader_is_cut_off_while_it_sleeps(self) -> None:
        assert self.reader is not None
        self.reader.cut()
        self.sleepers.append(self.reader)
        self.reader = None

    @precondition(lambda self: self.sleepers)
    @rule()
    def sleeping_reader_wakes_up(self) -> None:
        self.sleepers.pop().go_to_the_end()

    @precondition(lambda self: not self.late)
    @rule()
    def begin_to_create(self) -> None:
        title = new_title()
        held = self.ground.calls.begin(self.ground.calls.create(title))
        self.late = held, Change("create", "refused", title=title)

    @precondition(lambda self: not self.late)
    @rule(book_id=books)
    def begin_to_change(self, book_id: int) -> None:
        title = new_title()
        held = self.ground.calls.begin(self.ground.calls.change(book_id, title))
        self.late = held, Change("change", "refused", book_id, title=title)

    @precondition(lambda self: self.late)
    @rule(target=books)
    def commit_late(self) -> MultipleResults[int]:
        assert self.late is not None
        (held, change), self.late = self.late, None
        book_id = self._wrote(change.call, self.ground.calls.end(held))
        return multiple(book_id) if change.call == "create" else multiple()

    @precondition(lambda self: self.late)
    @rule()
    def roll_back(self) -> None:
        assert self.late is not None
        (held, change), self.late = self.late, None
        self.ground.calls.roll_back(held)
        self.ground.note(change)

    @rule(book_id=books)
    def read(self, book_id: int) -> None:
        newest = self.ground.newest_recorded(book_id)
        answer = self.ground.calls.do(self.ground.calls.version(book_id))
        self.ground.note(Reading(book_id, newest, answer))

    @precondition(lambda self: not self.question)
    @rule(book_id=books)
    def begin_to_read(self, book_id: int) -> None:
        newest = self.ground.newest_recorded(book_id)
        held = self.ground.calls.begin(self.ground.calls.version(book_id))
        self.question = held, Reading(book_id, newest, None)

    @precondition(lambda self: self.question)
    @rule()
    def end_to_read(self) -> None:
        assert self.question is not None
        (held, asked), self.question = self.question, None
        self.ground.note(Reading(asked.book_id, asked.newest_recorded, self.ground.calls.end(held)))

    @rule()
    def cache_is_flushed(self) -> None:
        self.ground.redis.flushdb()

    @precondition(lambda self: self.ground.all_are_wanted)
    @rule()
    def no_queue_wants_new_books(self) -> None:
        self.ground.route(creations=False)

    @precondition(lambda self: not self.ground.all_are_wanted)
    @rule()
    def a_queue_wants_new_books_again(self) -> None:
        self.ground.route(creations=True)

    @invariant()
    def nothing_is_broken(self) -> None:
        """What holds at any moment: all but that every event is recorded."""
        self._judge(at_rest=False)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._come_to_rest()
                self._judge(at_rest=True)
        finally:
            self._end()

    def _come_to_rest(self) -> None:
        if self.question:
            self.end_to_read()
        if self.late:
            self.roll_back()
        self.ground.route(creations=True)
        while self.sleepers:
            self.sleeping_reader_wakes_up()
        for name in list(self.relays):
            self.relays[name].go(WAITS)
            self.relays.pop(name).stop()
        self.ground.let_leases_run_out()
        self._until(lambda: self.ground.backlog() == 0, lambda: self._relay("last").go(WAITS))
        self._until(lambda: self.ground.in_queue() <= 0, lambda: self._reader().go(WAITS))
        for book_id in self.committed:
            self.read(book_id)

    @staticmethod
    def _until(done: Callable[[], bool], go_on: Callable[[], None]) -> None:
        """Without the cache a reader may wait for three seconds. What is not done in time is judged."""
        end = time.monotonic() + _REST_SECONDS
        while not done() and time.monotonic() < end:
            go_on()

    def _judge(self, *, at_rest: bool) -> None:
        evidence = self.ground.evidence()
        found = [v for v in check(evidence) if at_rest or v.kind is not Kind.LOST]
        assert not found, found
        expected = {(book, *event) for book, events in self.committed.items() for event in events}
        assert {_facts(event) for event in evidence.committed} == expected
        unsent = {event.id for event in (*evidence.outbox, *evidence.parked)}
        gone = {event.id for event in evidence.sent} - unsent
        assert gone <= {event.id for event in evidence.wire}, "an event left the outbox and nobody has it"
        if at_rest:
            assert not unsent, "events were not sent"
            assert not evidence.waiting, "events wait for one that will not come"
            assert sorted(map(_facts, evidence.record)) == sorted(expected)

    def _end(self) -> None:
        """Whatever stands still ends here, and holds no lock any more."""
        for relay in self.relays.values():
            relay.kill()
        for reader in (*self.sleepers, self.reader):
            if reader is not None:
                reader.kill()
        if self.late:
            self.ground.calls.roll_back(self.late[0])
        if self.question:
            self.ground.calls.end(self.question[0])

    def _relay(self, name: str) -> SteppedRelay:
        if name not in self.relays:
            self.relays[name] = self.ground.new_relay()
        return self.relays[name]

    def _reader(self) -> SteppedReader:
        if self.reader is not None and self.reader.dead:
            self.reader.kill()
            self.reader = None
        if self.reader is None:
            self.reader = self.ground.new_reader()
        return self.reader

    def _create(self) -> int:
        return self._wrote("create", self.ground.calls.do(self.ground.calls.create(new_title())))

    def _wrote(self, call: str, book: Book) -> int:
        what = "created" if call == "create" else "updated"
        self.committed[book.id].append((book.version, what, book.title))
        assert call in {"create", "change"}
        self.ground.note(Change(call, "acknowledged", book.id, book.version, book.title))  # type: ignore[arg-type]
        return book.id

    def _is_locked(self, book_id: int) -> bool:
        return self.late is not None and self.late[1].book_id == book_id


def _facts(event: Event) -> tuple[int, int, str, str]:
    return event.book_id, event.version, event.what, event.title
