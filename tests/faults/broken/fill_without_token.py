"""Whoever missed a book in the cache puts in what it has read, whatever happened since."""

from common import fault_points
from common.books import Book
from common.cache import ENTRY_SECONDS, BookCache, Vacancy


def install() -> None:
    async def fill(self: BookCache, vacancy: Vacancy, book: Book) -> bool:
        fault_points.reach("cache.before-fill")
        await self._redis.set(vacancy.key, book.model_dump_json(), ex=ENTRY_SECONDS)
        return True

    BookCache.fill = fill  # type: ignore[method-assign]
