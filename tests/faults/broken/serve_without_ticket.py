"""Whoever has seen the ticket once looks for a book where it stood then."""

from weakref import WeakKeyDictionary

from common.books import Book
from common.cache import BookCache, Vacancy


def install() -> None:
    look_up = BookCache.look_up
    seen: WeakKeyDictionary[BookCache, dict[int, str]] = WeakKeyDictionary()

    async def look_where_it_stood(self: BookCache, book_id: int) -> Book | Vacancy | None:
        keys = seen.setdefault(self, {})
        value = await self._redis.get(keys[book_id]) if book_id in keys else None
        if value is not None and not str(value).startswith("?"):
            return Book.model_validate_json(value)
        found = await look_up(self, book_id)
        if isinstance(found, Vacancy):
            keys[book_id] = found.key
        return found

    BookCache.look_up = look_where_it_stood  # type: ignore[method-assign]
