"""Reads of one book over both surfaces, which can be held when they have read the database."""

from collections import Counter
from collections.abc import Coroutine
from typing import Any

from grpc import aio

from api.books import queries
from common.books import Book
from common.cache import Vacancy
from common.database import Database
from common.settings import CacheSettings, DatabaseSettings
from grpc_reader.book_service import BookService
from protos.bookstore.v1 import books_pb2_grpc
from protos.bookstore.v1.books_pb2 import GetBookRequest
from tests.faults.stepped_calls import Calls, HeldCache, Hold

REST, GRPC = "REST", "gRPC"
SURFACES = (REST, GRPC)


class _CountedCache(HeldCache):
    """Counts how often it had a book, and how often it was filled or would not be."""

    def __init__(self, settings: CacheSettings, hold: Hold) -> None:
        super().__init__(settings)
        self.hold = hold
        self.counts: Counter[str] = Counter()

    async def look_up(self, book_id: int) -> Book | Vacancy | None:
        found = await super().look_up(book_id)
        if isinstance(found, Book):
            self.counts["hit"] += 1
        return found

    async def fill(self, vacancy: Vacancy, book: Book) -> bool:
        filled = await super().fill(vacancy, book)
        self.counts["filled" if filled else "refused"] += 1
        return filled


class Reads:
    """Both services' ways to a book, each with connections of its own, in the event loop of `calls`."""

    def __init__(self, calls: Calls, database: DatabaseSettings, cache: CacheSettings) -> None:
        self._calls = calls
        self._databases = {surface: Database(database, pool_size=2) for surface in SURFACES}
        self._caches = {surface: _CountedCache(cache, calls.hold) for surface in SURFACES}
        calls.do(self._serve())

    def version(self, surface: str, book_id: int) -> Coroutine[Any, Any, int]:
        """Ask for the version that a client is shown."""
        return self._over_rest(book_id) if surface == REST else self._over_grpc(book_id)

    def counts(self, surface: str) -> Counter[str]:
        """How often a surface found a book in the cache (`hit`), `filled` it, and was `refused` to."""
        return self._caches[surface].counts

    def close(self) -> None:
        """Close all connections."""
        self._calls.do(self._close())

    async def _over_rest(self, book_id: int) -> int:
        return (await queries.get_book(self._databases[REST], self._caches[REST], book_id)).version

    async def _over_grpc(self, book_id: int) -> int:
        answer = await self._stub.GetBook(GetBookRequest(id=book_id))
        return int(answer.book.version)

    async def _serve(self) -> None:
        self._server = aio.server()
        service = BookService(self._databases[GRPC], self._caches[GRPC])
        books_pb2_grpc.add_BookServiceServicer_to_server(service, self._server)  # type: ignore[no-untyped-call]
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self._channel = aio.insecure_channel(f"127.0.0.1:{port}")
        self._stub = books_pb2_grpc.BookServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def _close(self) -> None:
        await self._channel.close()
        await self._server.stop(None)
        for surface in SURFACES:
            await self._databases[surface].close()
            await self._caches[surface].close()
