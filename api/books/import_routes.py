"""`POST /v1/books:import`: CSV or NDJSON streamed in, many rows a transaction."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from fastapi import APIRouter, HTTPException, Request, Response

from api import problems
from api.books import commands, links
from api.books.changes import AdditionOf, Change
from api.books.csv_rows import CsvRows
from api.books.idempotency import RequestKey
from api.books.import_progress import Body, Progress, Step, progress_of
from api.books.import_report import ImportReport
from api.books.ndjson_rows import NdjsonRows
from api.books.request_keys import REPLAYED, REPLAYED_HEADER
from api.books.rows import Row, RowReader, rows_of
from api.cut_short import SO_FAR
from api.media_types import is_utf_8
from common.books import NewBook
from common.denied_tokens import Admission
from common.errors import BookstoreError, InvalidInputError, OutcomeUnknownError, RequestInWorkError

ROWS_PER_TRANSACTION = 500
IMPORT_PATH = "/v1/books:import"
_READERS: dict[str, Callable[[], RowReader]] = {"text/csv": CsvRows, "application/x-ndjson": NdjsonRows}
_MEDIA_TYPES = " or ".join(_READERS)
_NO_ROWS = f"Send the rows as {_MEDIA_TYPES}."
_CSV_EXAMPLE = "title,author,publication_date\nDune,Frank Herbert,1965-08-01\n"
_NDJSON_EXAMPLE = '{"title":"Dune","author":"Frank Herbert","publication_date":"1965-08-01"}\n'

router = APIRouter(tags=["books"])


@router.post(
    IMPORT_PATH,
    operation_id="importBooks",
    summary="Import books",
    response_model=ImportReport,
    response_description="What became of the rows.",
    responses={
        200: {"headers": REPLAYED_HEADER, "links": links.NEWEST},
        **problems.responses(
            *problems.ACCESS, 415, InvalidInputError, *problems.KEYED, 503, *problems.WRITING
        ),
        415: problems.described([replace(problems.STATUSES[415], example=_NO_ROWS)]),
    },
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
async def import_books(asked: AdditionOf) -> Response:
    """Store the rows of a file of any length, and announce each book.

    CSV has the header `title,author,publication_date`. NDJSON has an object with these members in each line;
    what else an export tells of a book is left out of account, for each row is a new book. Rows that cannot
    be stored are reported and stop no other.

    When the answer is `outcome-unknown`, rows of the batches before it have been stored already; the detail
    says how many are for certain. With an `Idempotency-Key` the same body can be sent again then, and the
    import goes on where it ended: what is stored is compared and not stored again. The report is that of the
    whole.
    """
    media_type = _media_type(asked.request.headers.get("content-type", ""))
    with (
        asked.services.imports.of(asked.caller.username),
        asked.services.denied.admitted(asked.caller) as admission,
    ):
        work = await _Import.begin(asked, media_type, admission)
        async for row in rows_of(_body(asked.request), _READERS[media_type]()):
            await work.take(row)
        replayed = await work.end()
    return Response(work.report.model_dump_json(), headers=replayed, media_type="application/json")


class _Import:
    """Stores rows as they come, many in one transaction, together with how far they bring the import.

    It goes on when the token expires, but not when the login is ended.
    """

    def __init__(
        self, asked: Change, key: RequestKey | None, earlier: Progress | None, admission: Admission
    ) -> None:
        self.report = ImportReport(errors=[])
        if earlier is not None:
            self.report.accepted, self.report.rejected = earlier.report.accepted, earlier.report.rejected
        self._asked = asked
        self._key = key
        self._admission = admission
        self._stored = earlier
        self._body = Body(earlier)
        self._batch: list[NewBook] = []

    @classmethod
    async def begin(cls, asked: Change, media_type: str, admission: Admission) -> "_Import":
        """Go on where the import of this key ended; KeyReusedError when the key is another request's."""
        key = asked.request_key(media_type)
        earlier = None if key is None else await progress_of(asked.services.database, key)
        begun = cls(asked, key, earlier, admission)
        begun._tell()
        return begun

    async def take(self, row: Row) -> None:
        """Store it, or report it, if that is not done; KeyReusedError when there was another before."""
        if not self._body.is_news(row):
            self.report.explain(row)
            return
        if row.reason:
            self.report.reject(row)
        if row.book is not None:
            self._batch.append(row.book)
            if len(self._batch) == ROWS_PER_TRANSACTION:
                await self._store(done=False)

    async def end(self) -> dict[str, str]:
        """Store what is left. The header that says whether all was stored before."""
        self._body.end()
        if self._stored is not None and self._stored.done:
            return {REPLAYED: "true"}
        if self._batch or self._key is not None:
            await self._store(done=True)
        return {}

    async def _store(self, *, done: bool) -> None:
        report = self.report.model_copy(update={"accepted": self.report.accepted + len(self._batch)})
        progress = self._body.progress(report, done=done)
        step = None if self._key is None else Step(self._key, self._stored, progress)
        try:
            self._admission.check()
            await commands.add_books(
                self._asked.services.database, self._batch, self._asked.traceparent, step
            )
        except RequestInWorkError:
            raise
        except BookstoreError as error:
            if not self.report.accepted:
                raise
            # Each other answer would say that nothing was changed, and the client would send all rows again.
            raise OutcomeUnknownError(f"{self._so_far()} {error}") from error
        self._asked.services.doorbell.ring()
        self.report.accepted, self._stored, self._batch = report.accepted, progress, []
        self._tell()

    def _so_far(self) -> str:
        what_to_do = (
            "look what else is" if self._key is None else "send it again with the same Idempotency-Key"
        )
        return f"The first {self.report.accepted} good rows are stored for certain; {what_to_do}."

    def _tell(self) -> None:
        """For who may end this from outside: a server that stops, or has no patience any more."""
        self._asked.request.scope[SO_FAR] = self._so_far()


def _media_type(content_type: str) -> str:
    """The parameter `charset` of RFC 7111, section 5.1; without it the rows are UTF-8 as well."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in _READERS:
        raise HTTPException(415, _NO_ROWS)
    if not is_utf_8(content_type):
        raise HTTPException(415, f"Send the rows as {_MEDIA_TYPES} in UTF-8; no other charset is read.")
    return media_type


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if piece:
            yield piece
