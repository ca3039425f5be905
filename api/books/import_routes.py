"""`POST /v1/books:import`: CSV streamed in, many rows a transaction."""

from collections.abc import AsyncIterator
from email.message import Message

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict

from api import problems
from api.auth.dependencies import requires
from api.books import commands
from api.books.changes import ServicesOf
from api.books.csv_rows import Row, rows_of
from api.services import Services
from api.traces import traceparent_of
from common.books import NewBook
from common.errors import BookstoreError, InvalidInputError, OutcomeUnknownError, Violation

ROWS_PER_TRANSACTION = 500
ERRORS_SHOWN = 1000
IMPORT_PATH = "/v1/books:import"
_CHARSETS = frozenset({"utf-8", "us-ascii"})
_EXAMPLE = "title,author,publication_date\nDune,Frank Herbert,1965-08-01\n"

router = APIRouter(tags=["books"])


class RowError(BaseModel):
    """Why the row that begins at `line` was not stored; the header is line 1."""

    line: int
    reason: str


class ImportReport(BaseModel):
    """Every row is counted once, as accepted or as rejected; `errors` holds the first 1,000 rejections."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "accepted": 2,
                    "rejected": 1,
                    "errors": [{"line": 3, "reason": "publication_date: must be a date, written YYYY-MM-DD"}],
                }
            ]
        }
    )
    accepted: int = 0
    rejected: int = 0
    errors: list[RowError] = []


async def _without_key(request: Request) -> None:
    """Whoever sends a key believes that a repeat is done once; here it would store all rows again."""
    if "idempotency-key" in request.headers:
        sentence = "is not taken by an import, whose rows a repeat would store again; leave it out"
        raise InvalidInputError(Violation("/header/idempotency-key", sentence))


@router.post(
    IMPORT_PATH,
    operation_id="importBooks",
    summary="Import books from CSV",
    response_model=ImportReport,
    dependencies=[Depends(requires("books:write")), Depends(_without_key)],
    response_description="What became of the rows.",
    responses=problems.responses(*problems.ACCESS, 415, InvalidInputError, *problems.WRITING),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"text/csv": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        }
    },
)
async def import_books(request: Request, services: ServicesOf) -> Response:
    """Store the rows of a CSV file with the header `title,author,publication_date`, and announce each book.

    Rows that cannot be stored are reported and stop no other. When the answer is `outcome-unknown`, rows of
    the batches before it have been stored already; the detail says how many are for certain.
    """
    _require_csv(request.headers.get("content-type", ""))
    report = ImportReport(errors=[])
    batch: list[NewBook] = []
    async for row in rows_of(_body(request)):
        if row.book is None:
            _reject(report, row)
            continue
        batch.append(row.book)
        if len(batch) == ROWS_PER_TRANSACTION:
            await _store(services, batch, report, request)
            batch = []
    if batch:
        await _store(services, batch, report, request)
    return Response(report.model_dump_json(), media_type="application/json")


def _require_csv(content_type: str) -> None:
    """The parameter `charset` of RFC 7111, section 5.1; without it the rows are UTF-8 as well."""
    if content_type.partition(";")[0].strip().lower() != "text/csv":
        raise HTTPException(415, "Send the rows as text/csv.")
    header = Message()
    header["Content-Type"] = content_type
    parameters = header.get_params(failobj=[])
    if any(name == "charset" and str(value).lower() not in _CHARSETS for name, value in parameters):
        raise HTTPException(415, "Send the rows as text/csv in UTF-8; no other charset is read.")


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if piece:
            yield piece


def _reject(report: ImportReport, row: Row) -> None:
    report.rejected += 1
    if len(report.errors) < ERRORS_SHOWN:
        report.errors.append(RowError(line=row.line, reason=row.reason))


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
