"""How far an import with an `Idempotency-Key` has come, so that it goes on where it ended (docs/adr/0018)."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import BaseModel
from sqlalchemy import CursorResult, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.books.idempotency import KEPT, RequestKey
from api.books.import_report import ImportReport
from api.books.rows import Row
from api.tables import IdempotencyKeyRow
from common.database import Database
from common.driver_errors import is_lock_wait_timeout
from common.errors import KeyReusedError, RequestInWorkError

_TABLE = IdempotencyKeyRow.__table__  # type: ignore[attr-defined]  # SQLModel does not declare it
_COLUMNS = _TABLE.c


class Progress(BaseModel):
    """After so many steps the first `rows` rows are dealt with, as `report` says, and are all if `done`.

    `digest` is theirs. The report has the numbers alone: why rows were rejected is known from the rows, which
    come again, and may be more than a megabyte.
    """

    steps: int
    rows: int
    digest: str
    report: ImportReport
    done: bool = False


@dataclass(frozen=True)
class Step:
    """From one progress, None at the beginning, to the next, under a key."""

    request_key: RequestKey
    before: Progress | None
    after: Progress


class Body:
    """What has been read of the body, compared with what was stored of it before."""

    def __init__(self, earlier: Progress | None) -> None:
        self._earlier = earlier
        self._digest = hashlib.sha256()
        self._rows = 0
        self._steps = 0 if earlier is None else earlier.steps

    def is_news(self, row: Row) -> bool:
        """Whether the row was not dealt with before; KeyReusedError when it cannot be what was stored."""
        self._digest.update(row.raw)
        self._rows += 1
        if self._earlier is None:
            return True
        if self._rows == self._earlier.rows and self._digest.hexdigest() != self._earlier.digest:
            raise _other_body(f"differs up to line {row.line}")
        if self._rows > self._earlier.rows and self._earlier.done:
            raise _other_body(f"goes on at line {row.line}, where the one before ended")
        return self._rows > self._earlier.rows

    def end(self) -> None:
        """Nothing more comes; KeyReusedError when there was more before."""
        if self._earlier is not None and self._rows < self._earlier.rows:
            raise _other_body("is shorter")

    def progress(self, report: ImportReport, *, done: bool) -> Progress:
        """One step more, by which all rows that were read are dealt with, as `report` says."""
        self._steps += 1
        numbers = ImportReport(accepted=report.accepted, rejected=report.rejected)
        return Progress(
            steps=self._steps, rows=self._rows, digest=self._digest.hexdigest(), report=numbers, done=done
        )


def _other_body(how: str) -> KeyReusedError:
    return KeyReusedError(
        f"This Idempotency-Key was used for an import of another body: this one {how}."
        " Send the same again, or use a new key."
    )


async def progress_of(database: Database, request_key: RequestKey) -> Progress | None:
    """How far the import of this key has come; KeyReusedError when it stands for another request."""
    query = select(_COLUMNS.fingerprint, _COLUMNS.answer).where(
        *_mine(request_key), _COLUMNS.created_at > datetime.now(UTC) - KEPT
    )
    async with database.read() as connection:
        found = (await connection.execute(query)).one_or_none()
    if found is None:
        return None
    if found.fingerprint != request_key.fingerprint:
        raise KeyReusedError("This Idempotency-Key was used for another request; use a new key for each.")
    return Progress.model_validate_json(found.answer)


async def advance(transaction: AsyncConnection, step: Step | None) -> None:
    """Store, as the first step of the caller's transaction, how far it brings the import; never commits.

    RequestInWorkError when the import does not stand where the step begins, for then another request has
    gone on with it, or is about to. So no row is stored twice, whoever is still at work for whatever reason.
    """
    if step is None:
        return
    mine = _mine(step.request_key)
    now = datetime.now(UTC)
    # The day for which a key is kept begins anew with each step, or the first rows could be stored again.
    values = {
        "answer": step.after.model_dump_json(),
        "import_steps": step.after.steps,
        "created_at": now,
    }
    with _in_work():
        if step.before is None:
            await transaction.execute(delete(_TABLE).where(*mine, _COLUMNS.created_at <= now - KEPT))
            key = step.request_key
            names = {"username": key.username, "request_key": key.key, "fingerprint": key.fingerprint}
            await transaction.execute(insert(_TABLE).values(names | values))
            return
        stands = (
            _COLUMNS.fingerprint == step.request_key.fingerprint,
            _COLUMNS.import_steps == step.before.steps,
        )
        result = await transaction.execute(update(_TABLE).where(*mine, *stands).values(values))
        if cast("CursorResult[Any]", result).rowcount == 0:
            raise _another()


@contextmanager
def _in_work() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise _another() from error
    except DBAPIError as error:
        if is_lock_wait_timeout(error):
            raise _another() from error
        raise


def _another() -> RequestInWorkError:
    return RequestInWorkError(
        "Another request with this Idempotency-Key is at work on the import; send it again shortly."
    )


def _mine(request_key: RequestKey) -> tuple[Any, ...]:
    return (_COLUMNS.username == request_key.username, _COLUMNS.request_key == request_key.key)
