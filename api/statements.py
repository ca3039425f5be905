import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from asyncmy.errors import Error as DriverError
from sqlalchemy.dialects.mysql.asyncmy import MySQLDialect_asyncmy
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ClauseElement

from common.driver_errors import translate

_DIALECT = MySQLDialect_asyncmy()


class Statement:
    """A Core statement that is compiled once and then handed to the driver as it is (docs/adr/0002).

    For the few statements that changes send most; SQLAlchemy would spend more on each than the driver does.
    Values are bound as SQLAlchemy would bind them. It runs in the transaction of `Database.begin`.
    """

    def __init__(self, statement: ClauseElement, columns: Sequence[str] | None = None) -> None:
        compiled = statement.compile(dialect=_DIALECT, column_keys=columns)
        processors = {name: bind.type.bind_processor(_DIALECT) for name, bind in compiled.binds.items()}  # type: ignore[attr-defined]
        self._sql = str(compiled)
        self._binds = [(name, processors[name]) for name in compiled.positiontup or ()]  # type: ignore[attr-defined]

    async def execute(self, transaction: AsyncConnection, *rows: Mapping[str, Any]) -> int:
        """Send the statement with the values of each row; returns LAST_INSERT_ID() of the last.

        Raises as `common.driver_errors.translate` says.
        """
        assert transaction.sync_connection is not None  # noqa: S101  it is open, for it is in a transaction
        driver: Any = transaction.sync_connection.connection.driver_connection
        parameters = [self._bound(row) for row in rows]
        try:
            async with driver.cursor() as cursor:
                if len(rows) == 1:
                    await cursor.execute(self._sql, parameters[0])
                else:
                    await cursor.executemany(self._sql, parameters)
                return int(cursor.lastrowid)
        except DriverError as error:
            raise translate(error) from error
        except asyncio.CancelledError:
            # The answer may be on its way, and would be taken for that of the next statement.
            await asyncio.shield(transaction.invalidate())
            raise

    def _bound(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(process(row[name]) if process else row[name] for name, process in self._binds)
