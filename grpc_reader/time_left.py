from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grpc import aio
from sqlalchemy.ext.asyncio import AsyncConnection

from common.database import Database
from common.errors import DatabaseUnavailableError
from grpc_reader.errors import DeadlineExceededError

Context = aio.ServicerContext[Any, Any]
_SENTENCE = "The call's deadline has passed; nothing more is done for it."


@asynccontextmanager
async def reading(database: Database, context: Context) -> AsyncIterator[AsyncConnection]:
    """`Database.read` for a call: what it asks ends, on the server too, with the call's deadline.

    A call without a deadline has what every read has. Raises DeadlineExceededError when no time is left,
    before anything is asked or afterwards, and what `Database.read` does.
    """
    left = context.time_remaining()
    if left is not None and left <= 0:
        raise DeadlineExceededError(_SENTENCE)
    try:
        async with database.read(within=left) as connection:
            yield connection
    except DatabaseUnavailableError:
        if context.time_remaining() == 0:
            raise DeadlineExceededError(_SENTENCE) from None
        raise
