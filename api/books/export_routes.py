"""`GET /v1/books:export`: all books as they stand at one instant, streamed."""

import asyncio
import csv
import io
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api import problems
from api.accept import best_of
from api.auth.dependencies import requires
from api.books import links, queries
from api.books.changes import ServicesOf
from api.books.csv_rows import HEADER
from api.services import Services
from common.books import BOOK_EXAMPLE, Book
from common.database import Snapshot
from common.denied_tokens import Admission
from common.errors import BookstoreError
from common.tokens import Principal

AT_ONCE = 2
MAX_SECONDS = 600
BOOKS_AT_A_TIME = 500
_PATIENCE_SECONDS = 1
EXPORT_PATH = "/v1/books:export"
_CSV = "text/csv"
_NDJSON = "application/x-ndjson"
_READER = requires("books:read")
_LOG = logging.getLogger(__name__)

router = APIRouter(tags=["books"])


@router.head(EXPORT_PATH, include_in_schema=False)
@router.get(
    EXPORT_PATH,
    operation_id="exportBooks",
    summary="Export all books",
    response_class=Response,
    response_description="All books, in the order of their ids.",
    responses={
        200: {
            "content": {
                _CSV: {
                    "schema": {"type": "string"},
                    "example": "title,author,publication_date\r\nDune,Frank Herbert,1965-08-01\r\n",
                },
                _NDJSON: {
                    "schema": {"type": "string", "description": "One book, as JSON, in each line."},
                    "example": Book.model_validate(BOOK_EXAMPLE).model_dump_json() + "\n",
                },
            },
            "links": links.TAKE_AGAIN,
        },
        **problems.responses(*problems.ACCESS, 406, 503, *problems.READING),
    },
)
async def export_books(
    request: Request, services: ServicesOf, caller: Annotated[Principal, Depends(_READER)]
) -> Response:
    """All books as they stood when the export began, whatever is changed meanwhile.

    `Accept` chooses: `text/csv`, which the import takes again, or `application/x-ndjson`, whole books. An
    export that cannot be finished, lasts longer than ten minutes, or whose login is ended, is cut off, never
    ended as if it were whole: the last chunk of the body is missing.
    """
    media_type = best_of([_CSV, _NDJSON], ", ".join(request.headers.getlist("accept")) or None)
    if request.method == "HEAD":
        head = Response(media_type=media_type, headers={"Vary": "Accept"})
        # It would be that of GET (RFC 9110, section 8.6), which nobody knows.
        del head.headers["content-length"]
        return head
    return _Export(services, media_type, caller)


class _Export(StreamingResponse):
    """Opens its snapshot when it is sent, so that it is closed however that ends."""

    def __init__(self, services: Services, media_type: str, caller: Principal) -> None:
        super().__init__((), media_type=media_type, headers={"Vary": "Accept"})
        self._services = services
        self._caller = caller
        self._written = _csv if media_type == _CSV else _ndjson

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: HTTPException 503 or DatabaseUnavailableError before the first byte, or cut off behind it."""
        begun = False
        try:
            with self._services.denied.admitted(self._caller) as admission:
                async with (
                    _place(self._services.exports),
                    asyncio.timeout(MAX_SECONDS),
                    self._services.database.snapshot() as snapshot,
                ):
                    books = await queries.next_books(snapshot, 0, BOOKS_AT_A_TIME)
                    self.body_iterator = self._pieces(snapshot, books, admission)
                    begun = True
                    await super().__call__(scope, receive, send)
        except (BookstoreError, TimeoutError) as error:
            if not begun:
                raise
            # The server ends the connection when nothing more comes and the body is not whole.
            _LOG.warning("export cut off", extra={"error": str(error) or "it took too long"})

    async def _pieces(
        self, snapshot: Snapshot, books: Sequence[Book], admission: Admission
    ) -> AsyncIterator[str]:
        if self.media_type == _CSV:
            yield ",".join(HEADER) + "\r\n"
        while books:
            admission.check()
            yield self._written(books)
            books = await queries.next_books(snapshot, books[-1].id, BOOKS_AT_A_TIME)


@asynccontextmanager
async def _place(exports: asyncio.Semaphore) -> AsyncIterator[None]:
    """One of the places, which is waited for a moment: who has read all of an export may not have left it."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await exports.acquire()
    except TimeoutError:
        raise HTTPException(503, "Too many exports at once; try again later.") from None
    try:
        yield
    finally:
        exports.release()


def _csv(books: Sequence[Book]) -> str:
    rows = io.StringIO()
    # RFC 4180, section 2; a lone CR or LF in a field is quoted.
    csv.writer(rows, lineterminator="\r\n").writerows(
        (book.title, book.author, book.publication_date.isoformat()) for book in books
    )
    return rows.getvalue()


def _ndjson(books: Sequence[Book]) -> str:
    return "".join(book.model_dump_json() + "\n" for book in books)
