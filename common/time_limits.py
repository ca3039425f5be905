"""How long the server itself lets a SELECT run, in words that MySQL and MariaDB both take.

Each server reads the comment that is meant for it: `/*!80000 … */` and `/*+ … */` MySQL, `/*M! … */` MariaDB.
"""

import math
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_OPTION = "select_milliseconds"


def session_limit(seconds: int) -> str:
    """What a SET statement of several variables may end with, so that no later SELECT takes longer."""
    return f" /*!80000 , max_execution_time = {seconds * 1000} */ /*M! , max_statement_time = {seconds} */"


def heed_limits(engine: AsyncEngine) -> None:
    """Make `limit_selects` work on connections of this engine."""

    @event.listens_for(engine.sync_engine, "before_cursor_execute", retval=True)
    def _limited(
        connection: Connection,
        _: object,
        statement: str,
        parameters: Any,  # noqa: ANN401  the driver's own
        *__: object,
    ) -> tuple[str, Any]:
        limit = connection.get_execution_options().get(_OPTION)
        if limit is not None and statement.startswith("SELECT "):
            # In the text and not in the statement: whatever compiled statements are kept by stays the same.
            statement = (
                f"/*M! SET STATEMENT max_statement_time = {limit / 1000} FOR */"
                f" SELECT /*+ MAX_EXECUTION_TIME({limit}) */ {statement.removeprefix('SELECT ')}"
            )
        return statement, parameters


def limit_selects(connection: AsyncConnection, seconds: float) -> None:
    """Let the server end each SELECT of this use of the connection after so long, a millisecond at least."""
    assert connection.sync_connection is not None  # noqa: S101  it is open
    # 0 would be no limit at all.
    connection.sync_connection.execution_options(**{_OPTION: max(1, math.ceil(seconds * 1000))})
