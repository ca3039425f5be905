"""What a machine of small steps stands on: real servers, kept from one run to the next, and cleared."""

from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from sqlalchemy import Engine, text

from common.events import EXCHANGE, SHARDS
from common.settings import BrokerSettings, CacheSettings
from grpc_reader.topology import QUEUE
from outbox_relay import holds
from tests.faults.collecting import collect
from tests.faults.evidence import Change, Evidence, Reading
from tests.faults.journal import Journal
from tests.faults.stepped_calls import Calls
from tests.faults.stepped_reader import SteppedReader
from tests.faults.stepped_relay import SteppedRelay
from tests.fixtures.relay import Tap, backlog
from tests.waiting import eventually

_TABLES = (
    *("book", "outbox", "parked_event", "held_book", "sent_event", "delivered_event", "waiting_event"),
    "relay",
)
# Two books that follow each other are in different halves, and so with two relays that share the shards.
_SHARD_STEP = 33
_LAPSE = "UPDATE shard_lease SET expires_at = '2000-01-01'"
_NEWEST = text("SELECT COALESCE(MAX(book_version), 0) FROM delivered_event WHERE book_id = :book")


@dataclass
class Ground:
    """`engine` is in autocommit, as a relay's is; `reader_engine` is a reader's."""

    engine: Engine
    reader_engine: Engine
    broker: BrokerSettings
    cache: CacheSettings
    redis: Redis
    tap: Tap
    calls: Calls
    folder: Path
    readers: list[SteppedReader] = field(default_factory=list)
    relays: int = 0
    all_are_wanted: bool = True
    first_book: int | None = None

    def clear(self) -> None:
        """No books, no events, queues that want all, an empty cache."""
        self.first_book = None
        with self.reader_engine.begin() as connection:
            for table in _TABLES:
                connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608  names from above
            connection.exec_driver_sql(_LAPSE)
        self.route(creations=True)
        channel = self.tap.connection.default_channel
        # With its consumer what that had in hand has gone back.
        eventually(lambda: channel.queue_declare(QUEUE.name, passive=True).consumer_count == 0)
        for queue in (QUEUE.name, self.tap.queue):
            channel.queue_purge(queue)
        self.tap.messages.clear()
        self.redis.flushdb()
        self.readers = []
        self.folder.joinpath("journal").write_text("")
        self.journal = Journal(self.folder / "journal")

    def shard_of(self, book_id: int) -> int:
        """Ids are other ones in each run; which of two relays sends a book's events must not be."""
        if self.first_book is None:
            self.first_book = book_id
        return (book_id - self.first_book) * _SHARD_STEP % SHARDS

    def route(self, *, creations: bool) -> None:
        """Whether there are queues for new books; for other changes there are."""
        self.all_are_wanted = creations
        channel = self.tap.connection.default_channel
        for queue in (QUEUE.name, self.tap.queue):
            if creations:
                channel.queue_bind(queue, EXCHANGE, "book.#")
            else:
                channel.queue_unbind(queue, EXCHANGE, "book.#")

    def new_relay(self) -> SteppedRelay:
        """One more, under a name of its own."""
        self.relays += 1
        return SteppedRelay(self.engine, self.broker, f"relay {self.relays}")

    def new_reader(self) -> SteppedReader:
        """One more. It binds its queue when it begins, and the tap is to see what the queue sees."""
        self.route(creations=True)
        reader = SteppedReader(self.reader_engine, self.broker, self.cache, self.in_queue)
        self.readers.append(reader)
        return reader

    def let_leases_run_out(self) -> None:
        """As if three seconds had passed without a sign of any relay; books that are held are due."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql(_LAPSE)
            connection.exec_driver_sql("UPDATE relay SET seen_at = '2000-01-01'")
        self.release()

    def release(self) -> None:
        """Hold no book back."""
        holds.release(self.engine, holds.held_ids(self.engine))

    def backlog(self) -> int:
        """How many events are not sent."""
        return backlog(self.engine)

    def newest_recorded(self, book_id: int) -> int:
        """The version of a book's newest event on record, or 0."""
        with self.engine.connect() as connection:
            return int(connection.execute(_NEWEST, {"book": book_id}).scalar_one())

    def note(self, entry: Change | Reading) -> None:
        """What a client was told."""
        self.journal.write(entry)

    def evidence(self) -> Evidence:
        """All that is known at this moment of this run's books."""
        everything = collect(self.journal, self.engine, self.tap.published())
        return everything.of_books_after((self.first_book or 1) - 1)

    def in_queue(self) -> int:
        """How many messages the reader's queue has that are not acknowledged."""
        return len(self.tap.drain()) - sum(reader.acknowledged for reader in self.readers)
