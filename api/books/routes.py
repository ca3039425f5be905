"""`/v1/books`, call by call (design, section 5)."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel

from api import problems
from api.auth.dependencies import requires
from api.books import commands, queries
from api.books.conditions import IfMatch, IfNoneMatch
from api.books.cursors import cursor_for, position_in
from api.books.etags import etag_of, is_none_match, matching_versions
from api.books.json_bodies import JsonRoute
from api.books.messages import PLAIN_NUMBER, BookPage, BookPatch, ListParameters
from api.books.queries import Filters
from api.books.query_strings import require_plain_query
from api.services import Services, services_of
from api.traces import traceparent_of
from common.books import BOOK_ID_MAX, Book, NewBook
from common.errors import BookNotFoundError, InvalidInputError, StaleVersionError

router = APIRouter(prefix="/v1/books", tags=["books"], route_class=JsonRoute)
READ = Depends(requires("books:read"))
WRITE = Depends(requires("books:write"))

BookId = Annotated[
    int,
    Path(alias="id", ge=1, le=BOOK_ID_MAX, description="The book's id.", examples=[1]),
    PLAIN_NUMBER,
]
ServicesOf = Annotated[Services, Depends(services_of)]
_ETAG_HEADER = {
    "ETag": {"description": "The version, quoted.", "schema": {"type": "string", "examples": ['"1"']}}
}
_CHANGING = (
    *problems.ACCESS,
    BookNotFoundError,
    StaleVersionError,
    InvalidInputError,
    *problems.WRITING,
)


@router.post(
    "",
    status_code=201,
    operation_id="addBook",
    summary="Add a book",
    response_model=Book,
    response_description="The book as it was stored.",
    dependencies=[WRITE],
    responses={
        201: {
            "headers": {
                **_ETAG_HEADER,
                "Location": {"description": "The book's address.", "schema": {"type": "string"}},
            }
        },
        **problems.responses(*problems.ACCESS, *problems.BODY, InvalidInputError, *problems.WRITING),
    },
)
async def add_book(new: NewBook, request: Request, services: ServicesOf) -> Response:
    """Store a book and announce it. When the answer is 201, both are durable."""
    book = await commands.add_book(services.database, new, traceparent_of(request))
    services.doorbell.ring()
    return _answer(book, status_code=201, headers={"Location": f"/v1/books/{book.id}"})


# HEAD is answered like GET (RFC 9110, section 9.3.2); the server leaves the body out.
@router.head("", include_in_schema=False, dependencies=[READ, Depends(require_plain_query)])
@router.get(
    "",
    operation_id="listBooks",
    summary="List books",
    response_model=BookPage,
    dependencies=[READ, Depends(require_plain_query)],
    response_description="A page; there is a `Link` header when it is not the last.",
    responses={
        200: {"headers": {"Link": {"description": "The next page.", "schema": {"type": "string"}}}},
        **problems.responses(*problems.ACCESS, InvalidInputError, *problems.READING),
    },
)
async def list_books(
    query: Annotated[ListParameters, Query()], request: Request, services: ServicesOf
) -> Response:
    """A page of books in the order of their ids; follow `next_cursor`, or the `Link` header, for more."""
    filters = Filters(query.author, query.title, query.published_from, query.published_to)
    after = None if query.cursor is None else position_in(query.cursor, filters, query.sort)
    books = await queries.list_books(
        services.database, filters, after_id=after, descending=query.sort == "-id", limit=query.limit + 1
    )
    more, books = len(books) > query.limit, books[: query.limit]
    page = BookPage.model_construct(
        items=books, next_cursor=cursor_for(filters, query.sort, books[-1].id) if more else None
    )
    headers = {}
    if page.next_cursor is not None:
        target = request.url.include_query_params(cursor=page.next_cursor)
        headers["Link"] = f'<{target.path}?{target.query}>; rel="next"'
    return _json(page, headers=headers)


@router.head("/{id}", include_in_schema=False, dependencies=[READ])
@router.get(
    "/{id}",
    operation_id="getBook",
    summary="Get a book",
    response_model=Book,
    response_description="The book as it stands.",
    dependencies=[READ],
    responses={
        200: {"headers": _ETAG_HEADER},
        304: {"description": "The client has this version already.", "headers": _ETAG_HEADER},
        **problems.responses(*problems.ACCESS, BookNotFoundError, InvalidInputError, *problems.READING),
    },
)
async def get_book(
    book_id: BookId,
    services: ServicesOf,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The book as it stands, never older than its newest recorded event."""
    book = await queries.get_book(services.database, services.cache, book_id)
    if is_none_match(if_none_match, book):
        return Response(status_code=304, headers={"ETag": etag_of(book)})
    return _answer(book)


@router.put(
    "/{id}",
    operation_id="replaceBook",
    summary="Replace a book",
    response_model=Book,
    response_description="The book as it is now.",
    dependencies=[WRITE],
    responses={
        200: {"headers": _ETAG_HEADER},
        **problems.responses(*problems.BODY, *_CHANGING),
    },
)
async def replace_book(
    book_id: BookId,
    new: NewBook,
    request: Request,
    services: ServicesOf,
    if_match: IfMatch = None,
) -> Response:
    """Give the book these values. What changes nothing keeps the version and is not announced."""
    return await _change(services, book_id, dict(new), if_match, request)


@router.patch(
    "/{id}",
    operation_id="changeBook",
    summary="Change a book",
    response_model=Book,
    response_description="The book as it is now.",
    dependencies=[WRITE],
    responses={
        200: {"headers": _ETAG_HEADER},
        **problems.responses(*problems.BODY, *_CHANGING),
    },
    openapi_extra={
        "requestBody": {
            "content": {
                "application/merge-patch+json": {"schema": {"$ref": "#/components/schemas/BookPatch"}}
            }
        }
    },
)
async def change_book(
    book_id: BookId,
    patch: BookPatch,
    request: Request,
    services: ServicesOf,
    if_match: IfMatch = None,
) -> Response:
    """Give the named fields these values (RFC 7396). What changes nothing keeps the version."""
    changes = {name: getattr(patch, name) for name in patch.model_fields_set}
    return await _change(services, book_id, changes, if_match, request)


@router.delete(
    "/{id}",
    status_code=204,
    operation_id="deleteBook",
    summary="Delete a book",
    dependencies=[WRITE],
    response_description="It is gone.",
    # A body has no meaning here, but one that is too large is refused all the same.
    responses=problems.responses(413, *_CHANGING),
)
async def delete_book(
    book_id: BookId,
    request: Request,
    services: ServicesOf,
    if_match: IfMatch = None,
) -> Response:
    """Remove the book and announce its last state."""
    await commands.delete_book(
        services.database, book_id, matching_versions(if_match), traceparent_of(request)
    )
    services.doorbell.ring()
    await services.cache.evict(book_id)
    return Response(status_code=204)


async def _change(
    services: Services, book_id: int, changes: dict[str, Any], if_match: str | None, request: Request
) -> Response:
    book = await commands.change_book(
        services.database, book_id, changes, matching_versions(if_match), traceparent_of(request)
    )
    services.doorbell.ring()
    await services.cache.evict(book_id)
    return _answer(book)


def _answer(book: Book, *, status_code: int = 200, headers: dict[str, str] | None = None) -> Response:
    return _json(book, status_code=status_code, headers={"ETag": etag_of(book), **(headers or {})})


def _json(content: BaseModel, *, status_code: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        content.model_dump_json(), status_code=status_code, headers=headers, media_type="application/json"
    )
