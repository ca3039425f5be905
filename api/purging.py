"""Removes rows that are over, in small steps, so that no writer waits for long."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, delete
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel

from api.auth.guessing import REMEMBERED
from api.books.idempotency import KEPT
from api.tables import GuessDebtRow, IdempotencyKeyRow, KnownAddressRow, RefreshTokenRow
from common.database import Database
from common.denied_tokens import ADMITTED
from common.errors import BookstoreError
from common.tables import DeniedTokenRow

PURGED_AT_ONCE = 500
_PURGE_SECONDS = 60
# The table, the time that decides, and how long ago it must be. By the row of a refresh token its login is
# denied to whoever is still admitted by it, however short the token itself was good for.
_OVER: tuple[tuple[type[SQLModel], str, timedelta], ...] = (
    (IdempotencyKeyRow, "created_at", KEPT),
    (RefreshTokenRow, "expires_at", ADMITTED),
    (DeniedTokenRow, "expires_at", timedelta(0)),
    (GuessDebtRow, "paid_at", timedelta(0)),
    (KnownAddressRow, "seen_at", REMEMBERED),
)
_LOG = logging.getLogger(__name__)


async def purge(database: Database, now: datetime) -> dict[str, int]:
    """Remove what is over at that time, few rows in each transaction; how many they were, by table.

    What cannot be removed now stays for the next time, and is logged.
    """
    removed = {}
    for kind, column, age in _OVER:
        table = kind.__table__  # type: ignore[attr-defined]  # SQLModel does not declare it
        try:
            removed[table.name] = await _purge(database, kind, table.c[column] <= now - age)
        except (BookstoreError, SQLAlchemyError) as error:
            # The other tables must not grow because of this one.
            _LOG.warning("rows not purged", extra={"table": table.name, "error": str(error)})
    return {name: rows for name, rows in removed.items() if rows}


async def _purge(database: Database, table: type[SQLModel], over: ColumnElement[bool]) -> int:
    removed, at_once = 0, PURGED_AT_ONCE
    while True:
        step = delete(table).where(over).with_dialect_options(mysql_limit=at_once)
        try:
            async with database.begin() as transaction:
                result = cast("CursorResult[Any]", await transaction.execute(step))
        except BookstoreError:
            # Large rows may be too much for the time that a transaction has.
            if at_once == 1:
                raise
            at_once = max(1, at_once // 25)
            continue
        removed += result.rowcount
        if result.rowcount < at_once:
            return removed


async def keep_purging(database: Database) -> None:
    """Purge each minute, until cancelled."""
    while True:
        await asyncio.sleep(_PURGE_SECONDS)
        if removed := await purge(database, datetime.now(UTC)):
            _LOG.info("rows purged", extra={"rows": removed})
