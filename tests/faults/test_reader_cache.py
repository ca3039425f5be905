"""Promise 9 under faults: somebody compares each answer with what was recorded before the question."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import pytest
from pydantic import SecretStr
from redis import Redis
from sqlalchemy import Engine, text

from common.cache import TICKET_KEY, entry_key
from common.settings import CacheSettings
from devstack.servers import Server
from devstack.stack import Stack
from grpc_reader.consumer import Consumer
from protos.bookstore.v1.books_pb2 import GetBookRequest
from tests.faults.proxy import WHOLE, Line, Proxy, proxy_to
from tests.fixtures.reader import Publisher, RunningReader, make_event
from tests.waiting import eventually

Recorded = Callable[[], list[tuple[int, int, int]]]


@dataclass(frozen=True)
class Cache:
    """The server, and the only line to it."""

    server: Server
    line: Proxy

    def client(self) -> Redis:
        return Redis.from_url(self.server.url, socket_timeout=1)

    def serves(self) -> bool:
        """Whether the book stands where the holder of the ticket lets everybody look for it."""
        with self.client() as client:
            _, _, generation = (client.get(TICKET_KEY) or b"").partition(b" ")
            entry = client.get(entry_key(generation.decode(), 1)) or b"?"
            return not entry.startswith(b"?")

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def restart(self) -> None:
        self.server.processes[-1].signal(signal.SIGKILL)
        self.server.stop()
        self.server.start()

    def dump(self) -> None:
        """Write a file that the server will read when it is started again."""
        eventually(self.serves)
        with self.client() as client:
            client.save()

    def restore(self) -> None:
        """Start with what was dumped before the last changes."""
        self.restart()
        with self.client() as client:
            assert client.keys("bookstore:book:*"), "the dump was not read"

    def freeze(self) -> None:
        self.server.processes[-1].signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.server.processes[-1].signal(signal.SIGCONT)

    def be_slow(self) -> None:
        """And in time."""
        self.line.set(Line(delay_seconds=0.03))

    def be_too_slow(self) -> None:
        """Whatever is sent takes effect when its sender has given up."""
        self.line.set(Line(delay_seconds=0.25))

    def be_quick(self) -> None:
        self.line.set(WHOLE)


@pytest.fixture
def cache(stack: Stack) -> Iterator[Cache]:
    with proxy_to(stack.cache.port) as line:
        made = Cache(stack.cache, line)
        yield made
        made.wake()
        with made.client() as client:
            folder = Path(client.config_get("dir")["dir"])
    (folder / "dump.rdb").unlink(missing_ok=True)


@pytest.fixture
def cache_settings(cache: Cache) -> CacheSettings:
    return CacheSettings(cache_url=SecretStr(f"redis://127.0.0.1:{cache.line.port}/0"))


@pytest.mark.parametrize(
    "faults",
    [
        [Cache.flush] * 5,
        [Cache.restart] * 2,
        [Cache.freeze, Cache.wake] * 2,
        [Cache.dump, Cache.restore] * 2,
        [Cache.be_slow, Cache.be_too_slow, Cache.be_quick] * 2,
    ],
)
def test_no_answer_is_older_than_the_record_while_the_cache_fails(  # noqa: PLR0913, PLR0917
    consumer: Consumer,
    publisher: Publisher,
    recorded: Recorded,
    reader: RunningReader,
    reader_engine: Engine,
    add_books: Callable[..., None],
    cache: Cache,
    faults: list[Callable[[Cache], None]],
) -> None:
    add_books((1, "Dune", "Frank Herbert"))
    publisher.publish(make_event(1, 1))
    eventually(recorded)
    asked, stale, done = [0], [], Event()

    def compare() -> None:
        while not done.is_set():
            newest = recorded()[-1][2]
            answer = reader.books.GetBook(GetBookRequest(id=1), metadata=reader.metadata, timeout=5)
            asked[0] += 1
            if answer.book.version < newest:
                stale.append((answer.book.version, newest))

    version = 1

    def change() -> None:
        nonlocal version
        version += 1
        with reader_engine.begin() as connection:
            connection.execute(text("UPDATE book SET version = :version"), {"version": version})
        publisher.publish(make_event(1, version))

    def changed_and_recorded(times: int) -> None:
        for _ in range(times):
            change()
            eventually(lambda: recorded()[-1][2] == version, within=15)

    comparing = Thread(target=compare)
    comparing.start()
    try:
        changed_and_recorded(10)
        for fault in faults:
            fault(cache)
            changed_and_recorded(10)
        eventually(cache.serves, within=10, because="the cache is used again")
        changed_and_recorded(10)
    finally:
        done.set()
        comparing.join(10)
        cache.wake()
    assert stale == []
    assert asked[0] > 50
    assert [each for _, _, each in recorded()] == list(range(1, version + 1))
