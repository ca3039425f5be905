"""What the API does for its clients, call by call; a call can be held just before it would end."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from api.books import commands, queries
from common.books import Book, NewBook
from common.cache import BookCache, Vacancy
from common.database import Database
from common.errors import BookNotFoundError
from common.settings import CacheSettings, DatabaseSettings
from tests.fixtures.relay import TRACE

T = TypeVar("T")


class RolledBackError(Exception):
    """What ends a held transaction that is not to be committed."""


@dataclass
class Held(Generic[T]):
    """A call that has begun; `go` is what it waits for, or None when it has ended without being held."""

    task: asyncio.Task[T]
    go: asyncio.Future[None] | None


class Hold:
    """Holds the next call that comes here, if it is to."""

    def __init__(self) -> None:
        self._here: asyncio.Future[asyncio.Future[None]] | None = None

    async def begin(self, call: Coroutine[Any, Any, T]) -> Held[T]:
        """Begin a call and hold it."""
        self._here = here = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(call)
        await asyncio.wait([task, here], return_when=asyncio.FIRST_COMPLETED)
        self._here = None
        return Held(task, here.result() if here.done() else None)

    async def reach(self) -> None:
        """Wait here, whoever is to be held."""
        here, self._here = self._here, None
        if here is not None:
            go = asyncio.get_running_loop().create_future()
            here.set_result(go)
            await go


class _Database(Database):
    hold: Hold

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        async with super().begin() as connection:
            yield connection
            await self.hold.reach()


class HeldCache(BookCache):
    """Whoever would fill it can be held before that."""

    hold: Hold

    async def fill(self, vacancy: Vacancy, book: Book) -> bool:
        await self.hold.reach()
        return await super().fill(vacancy, book)


class Calls:
    """The API's commands and its query for one book, in an event loop that runs during a call only."""

    def __init__(self, database: DatabaseSettings, cache: CacheSettings) -> None:
        self._runner = asyncio.Runner()
        self._database, self._cache = _Database(database, pool_size=3), HeldCache(cache)
        self.hold = self._database.hold = self._cache.hold = Hold()

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        """Do all of it."""
        return self._runner.run(call)

    def begin(self, call: Coroutine[Any, Any, T]) -> Held[T]:
        """Begin a write and stop before its commit, or a read and stop before it fills the cache."""
        return self._runner.run(self.hold.begin(call))

    def end(self, held: Held[T]) -> T:
        """Go on with it."""
        if held.go is not None:
            held.go.set_result(None)
        return self._runner.run(_result(held.task))

    def roll_back(self, held: Held[Any]) -> None:
        """Let it come to nothing."""
        assert held.go is not None
        held.go.set_exception(RolledBackError())
        self._runner.run(asyncio.wait([held.task]))
        assert isinstance(held.task.exception(), RolledBackError)

    def close(self) -> None:
        """Close all connections."""
        self._runner.run(self._database.close())
        self._runner.run(self._cache.close())
        self._runner.close()

    def create(self, title: str) -> Coroutine[Any, Any, Book]:
        """Add a book."""
        fields = {"title": title, "author": "Somebody", "publication_date": "2000-01-01"}
        return commands.add_book(self._database, NewBook.model_validate(fields), TRACE)

    def change(self, book_id: int, title: str) -> Coroutine[Any, Any, Book]:
        """Give a book another title."""
        return commands.change_book(self._database, book_id, {"title": title}, None, TRACE)

    def delete(self, book_id: int) -> Coroutine[Any, Any, Book]:
        """Remove a book."""
        return commands.delete_book(self._database, book_id, None, TRACE)

    async def version(self, book_id: int) -> int | None:
        """What a client is shown; None for a book that is not there."""
        try:
            return (await queries.get_book(self._database, self._cache, book_id)).version
        except BookNotFoundError:
            return None


async def _result(task: asyncio.Task[T]) -> T:
    return await task
