"""`/v1/books`, call by call (design, section 5)."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel

from api import problems
from api.auth.dependencies import requires
from api.books import commands, links, queries
from api.books.changes import AdditionOf, Change, ChangeOf, ServicesOf
from api.books.conditions import ConditionsOf
from api.books.etags import etag_of
from api.books.json_bodies import JsonRoute
from api.books.messages import PLAIN_NUMBER, BookPage, BookPatch, ListParameters
from api.books.queries import Filters, Position
from api.books.request_keys import REPLAYED_HEADER, once
from common.books import BOOK_ID_MAX, Book, NewBook
from common.errors import (
    BookNotFoundError,
    ConditionRequiredError,
    InvalidInputError,
    OutcomeUnknownError,
    StaleVersionError,
)
from common.tokens import Principal

router = APIRouter(prefix="/v1/books", tags=["books"], route_class=JsonRoute)
READ = Depends(requires("books:read"))

BookId = Annotated[
    int,
    Path(alias="id", ge=1, le=BOOK_ID_MAX, description="The book's id.", examples=[1]),
    PLAIN_NUMBER,
]
_ETAG_HEADER = {
    "ETag": {"description": "The version, quoted.", "schema": {"type": "string", "examples": ['"1"']}}
}
_LINK_HEADER = {
    "Link": {
        "description": "The next page.",
        "schema": {"type": "string", "examples": ['</v1/books?cursor=WyI5ZjA0IiwxXQ>; rel="next"']},
    }
}
_ADDING = (*problems.ACCESS, InvalidInputError, *problems.KEYED, *problems.WRITING)
_CHANGING = (*_ADDING, BookNotFoundError, StaleVersionError, ConditionRequiredError)


@router.post(
    "",
    status_code=201,
    operation_id="addBook",
    summary="Add a book",
    response_model=Book,
    response_description="The book as it was stored.",
    responses={
        201: {
            "headers": {
                **_ETAG_HEADER,
                **REPLAYED_HEADER,
                "Location": {
                    "description": "The book's address.",
                    "schema": {"type": "string", "examples": ["/v1/books/1"]},
                },
            },
            "links": {**links.READ, **links.CHANGE},
        },
        **problems.responses(*problems.BODY, *_ADDING),
    },
)
async def add_book(new: NewBook, asked: AdditionOf) -> Response:
    """Store a book and announce it. When the answer is 201, both are durable."""
    book, replayed = await once(
        commands.add_book(
            asked.services.database, new, asked.traceparent, asked.request_key(new.model_dump_json())
        )
    )
    asked.services.doorbell.ring()
    return _answer(book, status_code=201, headers={"Location": f"/v1/books/{book.id}", **replayed})


# HEAD is answered like GET (RFC 9110, section 9.3.2); the server leaves the body out.
@router.head("", include_in_schema=False, dependencies=[READ])
@router.get(
    "",
    operation_id="listBooks",
    summary="List books",
    response_model=BookPage,
    response_description="A page; there is a `Link` header when it is not the last.",
    responses={
        200: {"headers": _LINK_HEADER, "links": links.NEXT_PAGE},
        **problems.responses(*problems.ACCESS, InvalidInputError, 503, *problems.READING),
    },
)
async def list_books(
    query: Annotated[ListParameters, Query()],
    request: Request,
    services: ServicesOf,
    caller: Annotated[Principal, READ],
) -> Response:
    """A page of books in the order of `sort`; follow `next_cursor`, or the `Link` header, for more.

    Books that are added or deleted meanwhile shift no page: none is shown twice or left out.
    """
    filters = Filters(query.author, query.title, query.published_from, query.published_to)
    after = None
    if query.cursor is not None:
        after = services.cursors.position_in(query.cursor, filters, query.sort)
    walks = queries.may_walk(filters, query.sort)
    async with services.lists.of(caller.username) if walks else nullcontext():
        books = await queries.list_books(
            services.database, filters, query.sort, after=after, limit=query.limit + 1
        )
    more, books = len(books) > query.limit, books[: query.limit]
    cursor = None
    if more:
        cursor = services.cursors.at(Position.of(books[-1], query.sort), filters, query.sort)
    page = BookPage.model_construct(items=books, next_cursor=cursor)
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
        200: {"headers": _ETAG_HEADER, "links": links.CHANGE},
        304: {"description": "The client has this version already.", "headers": _ETAG_HEADER},
        **problems.responses(
            *problems.ACCESS, BookNotFoundError, InvalidInputError, StaleVersionError, *problems.READING
        ),
    },
)
async def get_book(book_id: BookId, services: ServicesOf, conditions: ConditionsOf) -> Response:
    """The book as it stands, never older than its newest recorded event.

    With a condition it is the row that decides, never the cache.
    """
    if conditions is None:
        return _answer(await queries.get_book(services.database, services.cache, book_id))
    book = await queries.read_book(services.database, book_id)
    if not conditions.versions.is_matching(book.version):
        raise StaleVersionError(book_id, book.version)
    if not conditions.versions.is_news(book.version):
        return Response(status_code=304, headers={"ETag": etag_of(book)})
    return _answer(book)


@router.put(
    "/{id}",
    operation_id="replaceBook",
    summary="Replace a book",
    response_model=Book,
    response_description="The book as it is now.",
    responses={
        200: {"headers": {**_ETAG_HEADER, **REPLAYED_HEADER}, "links": {**links.READ, **links.CHANGE}},
        **problems.responses(*problems.BODY, *_CHANGING),
    },
)
async def replace_book(
    book_id: BookId,
    new: NewBook,
    asked: ChangeOf,
) -> Response:
    """Give the book these values. What changes nothing keeps the version and is not announced."""
    return await _change(asked, book_id, dict(new), new.model_dump_json())


@router.patch(
    "/{id}",
    operation_id="changeBook",
    summary="Change a book",
    response_model=Book,
    response_description="The book as it is now.",
    responses={
        200: {"headers": {**_ETAG_HEADER, **REPLAYED_HEADER}, "links": {**links.READ, **links.CHANGE}},
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
    asked: ChangeOf,
) -> Response:
    """Give the named fields these values (RFC 7396). What changes nothing keeps the version."""
    changes = {name: getattr(patch, name) for name in patch.model_fields_set}
    return await _change(asked, book_id, changes, patch.model_dump_json(exclude_unset=True))


@router.delete(
    "/{id}",
    status_code=204,
    operation_id="deleteBook",
    summary="Delete a book",
    response_description="It is gone.",
    # A body has no meaning here, but one that is too large is refused all the same.
    responses={204: {"headers": REPLAYED_HEADER}, **problems.responses(413, *_CHANGING)},
)
async def delete_book(book_id: BookId, asked: ChangeOf) -> Response:
    """Remove the book and announce its last state."""
    with _told_when_unknown(asked, book_id):
        _, replayed = await once(
            commands.delete_book(
                asked.services.database, book_id, asked.versions, asked.traceparent, asked.request_key()
            )
        )
    await _announce(asked, book_id)
    return Response(status_code=204, headers=replayed)


async def _change(asked: Change, book_id: int, changes: dict[str, Any], content: str) -> Response:
    with _told_when_unknown(asked, book_id):
        book, replayed = await once(
            commands.change_book(
                asked.services.database,
                book_id,
                changes,
                asked.versions,
                asked.traceparent,
                asked.request_key(content),
            )
        )
    await _announce(asked, book_id)
    return _answer(book, headers=replayed)


@contextmanager
def _told_when_unknown(asked: Change, book_id: int) -> Iterator[None]:
    """A change that may have been made, or may still be, is rung for, and looked for in the row alone."""
    try:
        yield
    except OutcomeUnknownError:
        asked.services.doorbell.ring()
        asked.services.cache.distrust(book_id)
        raise


async def _announce(asked: Change, book_id: int) -> None:
    asked.services.doorbell.ring()
    await asked.services.cache.evict(book_id)


def _answer(book: Book, *, status_code: int = 200, headers: dict[str, str] | None = None) -> Response:
    return _json(book, status_code=status_code, headers={"ETag": etag_of(book), **(headers or {})})


def _json(content: BaseModel, *, status_code: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        content.model_dump_json(), status_code=status_code, headers=headers, media_type="application/json"
    )
