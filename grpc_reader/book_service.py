from contextlib import nullcontext
from typing import Any

from grpc import aio
from sqlalchemy import select

from common.book_filters import author_begins_with, title_begins_with
from common.books import AUTHOR_MAX_LENGTH, TITLE_MAX_LENGTH, Book
from common.cache import BookCache, Vacancy
from common.database import Database
from common.errors import BookNotFoundError, InvalidInputError, Violation
from common.tables import BOOK_COLUMNS, BOOK_TABLE
from common.turns import turns_for_lists
from grpc_reader import page_tokens
from grpc_reader.callers import CALLER
from grpc_reader.errors import TooManyCallsError
from grpc_reader.messages import book_message
from grpc_reader.requests import page_limit, require_text
from grpc_reader.time_left import reading
from protos.bookstore.v1 import books_pb2, books_pb2_grpc

_COLUMNS = BOOK_TABLE.c

Context = aio.ServicerContext[Any, Any]


class BookService(books_pb2_grpc.BookServiceServicer):
    """Queries of the books, as books.proto describes them."""

    def __init__(self, database: Database, cache: BookCache) -> None:
        self._database = database
        self._cache = cache
        self._turns = turns_for_lists(TooManyCallsError)

    async def GetBook(  # noqa: N802  the name in the .proto file
        self, request: books_pb2.GetBookRequest, context: Context
    ) -> books_pb2.GetBookResponse:
        """From the cache, which is never older than the newest recorded event, or from the database."""
        if request.id < 1:
            raise InvalidInputError(Violation("/id", f"must be 1 or more, but is {request.id}"))
        found = await self._cache.look_up(request.id)
        if isinstance(found, Book):
            return books_pb2.GetBookResponse(book=book_message(found))
        book = await self._read(request.id, context)
        if isinstance(found, Vacancy):
            await self._cache.fill(found, book)
        return books_pb2.GetBookResponse(book=book_message(book))

    async def _read(self, book_id: int, context: Context) -> Book:
        async with reading(self._database, context) as connection:
            row = (await connection.execute(select(*BOOK_COLUMNS).where(_COLUMNS.id == book_id))).first()
        if row is None:
            raise BookNotFoundError(book_id)
        return Book.model_validate(row._mapping)  # noqa: SLF001  SQLAlchemy's public name for it

    async def ListBooks(  # noqa: N802  the name in the .proto file
        self, request: books_pb2.ListBooksRequest, context: Context
    ) -> books_pb2.ListBooksResponse:
        """A page by keyset on the id. The filters are prefixes, compared as the column's collation does."""
        limit = page_limit(request.page_size)
        require_text("author", request.author, AUTHOR_MAX_LENGTH)
        require_text("title", request.title, TITLE_MAX_LENGTH)
        query = ("ListBooks", request.author, request.title)
        after = page_tokens.decode(query, request.page_token)
        statement = select(*BOOK_COLUMNS).order_by(_COLUMNS.id).limit(limit + 1)
        if after is not None:
            statement = statement.where(_COLUMNS.id > after)
        if request.author:
            statement = statement.where(author_begins_with(request.author))
        if request.title:
            statement = statement.where(title_begins_with(request.title))
        walks = request.author or request.title
        turn = self._turns.of(CALLER.get()) if walks else nullcontext()
        async with turn, reading(self._database, context) as connection:
            rows = (await connection.execute(statement)).all()
        page = [Book.model_validate(row._mapping) for row in rows[:limit]]  # noqa: SLF001
        return books_pb2.ListBooksResponse(
            books=[book_message(book) for book in page],
            next_page_token=page_tokens.encode(query, page[-1].id) if len(rows) > limit else "",
        )
