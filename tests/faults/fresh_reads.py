"""Readers on REST and gRPC, changes, and the consumer that evicts and records, in any order (promise 9).

Everything that could make an answer old happens between a look-up, a read of the database, a fill, an
eviction and the commit of a record. So readers are held before they fill, the consumer before and after it
records, all in one thread, as in small_steps.py; there is no relay and no broker. A sequence takes
milliseconds, and waits for no time.
"""

import enum
import sys
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from redis import Redis
from sqlalchemy import Engine, text

from common.books import Book
from common.cache import TICKET_KEY, entry_key
from common.settings import CacheSettings
from grpc_reader.arrival import Arrival, understand
from tests.faults.rest_client import new_title
from tests.faults.stepped_calls import Calls, Held
from tests.faults.stepped_intake import SteppedIntake
from tests.faults.stepped_reads import GRPC, REST, SURFACES, Reads
from tests.faults.stepping import WAITS

_NEWEST = text("SELECT COALESCE(MAX(book_version), 0) FROM delivered_event WHERE book_id = :book")
_ANNOUNCED = text("SELECT body FROM outbox WHERE book_id = :book AND book_version > :last ORDER BY id")


class Trouble(enum.Enum):
    """What goes wrong in one sequence; all of it together would leave the cache empty nearly always."""

    RUN_OUT = "the ticket runs out"
    FLUSH = "the cache is flushed"
    TAKE_OVER = "another consumer takes over; when it comes again, the one before wakes up where it stood"


class Step(enum.Enum):
    """What comes next."""

    CHANGE = "the book is changed, and the event is on its way"
    CHANGE_AND_EVICT = "likewise, and the consumer evicts the book and stops before it records"
    CHANGE_AND_COMMIT = "likewise, and the consumer records and stops before it acknowledges"
    CHANGE_AND_RECORD = "likewise, and the consumer does all of its work"
    RECORD = "the consumer does all of its work"
    READ_OVER_REST = "somebody reads the book, and stops before the cache is filled"
    READ_OVER_GRPC = "likewise on the other surface"
    FIRST_FILLS = "of those who are to fill the cache the first goes on"
    LAST_FILLS = "the last does"
    TROUBLE = "what goes wrong does so"


_STOPS = {
    Step.CHANGE_AND_EVICT: "reader.before-record",
    Step.CHANGE_AND_COMMIT: "reader.after-record",
    Step.CHANGE_AND_RECORD: WAITS,
}


@dataclass
class FreshGround:
    """Real servers, kept from one sequence to the next. `engine` is in autocommit."""

    engine: Engine
    reader_engine: Engine
    cache: CacheSettings
    redis: Redis
    calls: Calls
    reads: Reads

    def announced(self, book_id: int, last: int) -> list[Arrival]:
        """A book's events after version `last`, as a relay would send them."""
        with self.engine.connect() as connection:
            bodies = connection.execute(_ANNOUNCED, {"book": book_id, "last": last}).scalars().all()
        return [understand(body) for body in bodies]

    def newest_recorded(self, book_id: int) -> int:
        """The version of a book's newest event on record, or 0."""
        with self.engine.connect() as connection:
            return int(connection.execute(_NEWEST, {"book": book_id}).scalar_one())

    def is_cached(self, book_id: int) -> bool:
        """Whether the book stands where the holder of the ticket lets everybody look for it."""
        _, _, generation = str(self.redis.get(TICKET_KEY)).partition(" ")
        entry = self.redis.get(entry_key(generation, book_id))
        return entry is not None and not str(entry).startswith("?")


@dataclass(frozen=True)
class Question:
    """Who asked for which book, and the version of its newest event on record at that time."""

    surface: str
    book_id: int
    newest_recorded: int


class FreshReads(RuleBasedStateMachine):
    """Every answer is judged when it comes; with `judged`, only those of these surfaces.

    There is one rule, because Hypothesis leaves out about half of the rules in most sequences; a change and
    what the consumer does about it are one step; and a sequence has one kind of trouble. With a rule for
    each step, and all trouble in all sequences, not one of 500 showed a late fill; now every tenth does.
    """

    def __init__(self, ground: FreshGround, judged: Collection[str] = SURFACES) -> None:
        super().__init__()
        self.ground = ground
        self.judged = judged
        self.readers: list[tuple[Held[int], Question]] = []
        self.consumers: list[SteppedIntake] = []
        self.sleeper: SteppedIntake | None = None

    @initialize(trouble=st.sampled_from(Trouble), is_cached=st.booleans())
    def begin_with_a_new_book(self, trouble: Trouble, is_cached: bool) -> None:  # noqa: FBT001  drawn
        self.trouble = trouble
        self.ground.redis.flushdb()
        self.unacknowledged: list[Arrival] = []
        self.book_id = self._write(self.ground.calls.create(new_title()))
        self.consumer = self._new_consumer()
        if is_cached:
            self._read(REST)
            self._fill_all()

    @rule(step=st.sampled_from(Step))
    def then(self, step: Step) -> None:
        match step:
            case Step.CHANGE:
                self._change()
            case Step.CHANGE_AND_EVICT | Step.CHANGE_AND_COMMIT | Step.CHANGE_AND_RECORD:
                self._change()
                self.consumer.go(_STOPS[step])
            case Step.RECORD:
                self.consumer.go(WAITS)
            case Step.READ_OVER_REST:
                self._read(REST)
            case Step.READ_OVER_GRPC:
                self._read(GRPC)
            case Step.FIRST_FILLS if self.readers:
                self._fill(0)
            case Step.LAST_FILLS if self.readers:
                self._fill(-1)
            case Step.TROUBLE:
                self._make_trouble()
        # A ticket runs out when a step says so, however slow the machine is.
        self.ground.redis.persist(TICKET_KEY)

    @invariant()
    def nobody_is_served_what_is_older_than_the_record(self) -> None:
        """Asked only where the answer comes from the cache, so that nothing is changed by asking."""
        if self.ground.is_cached(self.book_id):
            for surface in SURFACES:
                self._read(surface)

    def teardown(self) -> None:
        """Whoever is to fill the cache goes on, and then somebody looks on each surface."""
        try:
            if sys.exc_info()[0] is None:
                self._fill_all()
                for surface in SURFACES:
                    self._read(surface)
                    self._fill_all()
        finally:
            for call, _ in self.readers:
                self.ground.calls.end(call)
            for consumer in self.consumers:
                consumer.kill()

    def _change(self) -> None:
        self._write(self.ground.calls.change(self.book_id, new_title()))

    def _write(self, call: Coroutine[Any, Any, Book]) -> int:
        book = self.ground.calls.do(call)
        self.unacknowledged += self.ground.announced(book.id, book.version - 1)
        return book.id

    def _new_consumer(self) -> SteppedIntake:
        self.consumers.append(
            SteppedIntake(self.ground.reader_engine, self.ground.cache, self.unacknowledged)
        )
        return self.consumers[-1]

    def _read(self, surface: str) -> None:
        question = Question(surface, self.book_id, self.ground.newest_recorded(self.book_id))
        call = self.ground.calls.begin(self.ground.reads.version(surface, self.book_id))
        self.readers.append((call, question))
        if call.go is None:
            self._fill(-1)

    def _fill(self, place: int) -> None:
        call, question = self.readers.pop(place)
        answer = self.ground.calls.end(call)
        if question.surface in self.judged:
            assert answer >= question.newest_recorded, f"{question} was answered with version {answer}"

    def _fill_all(self) -> None:
        while self.readers:
            self._fill(0)

    def _make_trouble(self) -> None:
        match self.trouble:
            case Trouble.RUN_OUT:
                self.ground.redis.delete(TICKET_KEY)
            case Trouble.FLUSH:
                self.ground.redis.flushdb()
            case Trouble.TAKE_OVER if self.sleeper is None:
                self.sleeper, self.consumer = self.consumer, self._new_consumer()
            case Trouble.TAKE_OVER:
                assert self.sleeper is not None
                self.sleeper.go(WAITS)
                self.sleeper = None
