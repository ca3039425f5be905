"""`POST /v1/books:import`: CSV or NDJSON streamed in, many rows a transaction."""

from collections.abc import AsyncIterator, Callable
from email.message import Message

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from api import problems
from api.auth.dependencies import requires
from api.books import commands
from api.books.changes import ServicesOf
from api.books.csv_rows import CsvRows
from api.books.import_report import ImportReport
from api.books.ndjson_rows import NdjsonRows
from api.books.rows import RowReader, rows_of
from api.services import Services
from api.traces import traceparent_of
from common.books import NewBook
from common.errors import BookstoreError, InvalidInputError, OutcomeUnknownError, Violation

ROWS_PER_TRANSACTION = 500
IMPORT_PATH = "/v1/books:import"
_CHARSETS = frozenset({"utf-8", "us-ascii"})
_READERS: dict[str, Callable[[], RowReader]] = {"text/csv": CsvRows, "application/x-ndjson": NdjsonRows}
_MEDIA_TYPES = " or ".join(_READERS)
_CSV_EXAMPLE = "title,author,publication_date\nDune,Frank Herbert,1965-08-01\n"
_NDJSON_EXAMPLE = '{"title":"Dune","author":"Frank Herbert","publication_date":"1965-08-01"}\n'

router = APIRouter(tags=["books"])


async def _without_key(request: Request) -> None:
    """Whoever sends a key believes that a repeat is done once; here it would store all rows again."""
    if "idempotency-key" in request.headers:
        sentence = "is not taken by an import, whose rows a repeat would store again; leave it out"
        raise InvalidInputError(Violation("/header/idempotency-key", sentence))


@router.post(
    IMPORT_PATH,
    operation_id="importBooks",
    summary="Import books",
    response_model=ImportReport,
    dependencies=[Depends(requires("books:write")), Depends(_without_key)],
    response_description="What became of the rows.",
    responses=problems.responses(*problems.ACCESS, 415, InvalidInputError, *problems.WRITING),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "text/csv": {"schema": {"type": "string"}, "example": _CSV_EXAMPLE},
                "application/x-ndjson": {
                    "schema": {"type": "string", "description": "One book, as JSON, in each line."},
                    "example": _NDJSON_EXAMPLE,
                },
            },
        }
    },
)
async def import_books(request: Request, services: ServicesOf) -> Response:
    """Store the rows of a file of any length, and announce each book.

    CSV has the header `title,author,publication_date`. NDJSON has an object with these members in each line;
    what else an export tells of a book is left out of account, for each row is a new book. Rows that cannot
    be stored are reported and stop no other. When the answer is `outcome-unknown`, rows of the batches before
    it have been stored already; the detail says how many are for certain.
    """
    reader = _reader_of(request.headers.get("content-type", ""))
    report = ImportReport(errors=[])
    batch: list[NewBook] = []
    async for row in rows_of(_body(request), reader):
        if row.reason:
            report.reject(row)
        if row.book is None:
            continue
        batch.append(row.book)
        if len(batch) == ROWS_PER_TRANSACTION:
            await _store(services, batch, report, request)
            batch = []
    if batch:
        await _store(services, batch, report, request)
    return Response(report.model_dump_json(), media_type="application/json")


def _reader_of(content_type: str) -> RowReader:
    """The parameter `charset` of RFC 7111, section 5.1; without it the rows are UTF-8 as well."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in _READERS:
        raise HTTPException(415, f"Send the rows as {_MEDIA_TYPES}.")
    header = Message()
    header["Content-Type"] = content_type
    parameters = header.get_params(failobj=[])
    if any(name == "charset" and str(value).lower() not in _CHARSETS for name, value in parameters):
        raise HTTPException(415, f"Send the rows as {_MEDIA_TYPES} in UTF-8; no other charset is read.")
    return _READERS[media_type]()


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if piece:
            yield piece


async def _store(services: Services, batch: list[NewBook], report: ImportReport, request: Request) -> None:
    try:
        await commands.add_books(services.database, batch, traceparent_of(request))
    except BookstoreError as error:
        if not report.accepted:
            raise
        # Each other answer would say that nothing was changed, and the client would send all rows again.
        detail = f"The first {report.accepted} good rows are stored for certain; look what else is. {error}"
        raise OutcomeUnknownError(detail) from error
    services.doorbell.ring()
    report.accepted += len(batch)
