"""A deadline that passes just when the answer is there."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from common import database as deadlines
from common.database import Database
from common.errors import BookNotFoundError
from common.settings import DatabaseSettings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(fresh_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """With one connection, which is everybody's."""
    made = Database(fresh_settings, pool_size=1)
    yield made
    await made.close()


async def number(database: Database) -> int:
    """Of the connection that a read has."""
    async with database.read() as connection:
        return int((await connection.execute(text("SELECT CONNECTION_ID()"))).scalar_one())


async def cut_after_the_answer(database: Database, *, fails: bool) -> int:
    """The number of a connection whose deadline has passed between the answer and the end of its use."""
    async with database.read(within=0.2) as connection:
        found = int((await connection.execute(text("SELECT CONNECTION_ID()"))).scalar_one())
        transport = deadlines._driver_connection(connection)._transport  # noqa: SLF001  what is cut
        while not transport.is_closing():  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0)
        if fails:
            raise BookNotFoundError(1)
    return found


async def test_a_connection_goes_on_to_the_next(database: Database) -> None:
    assert await number(database) == await number(database)


async def test_a_connection_that_was_cut_when_its_answer_was_there_does_not_go_on_to_the_next(
    database: Database,
) -> None:
    found = await cut_after_the_answer(database, fails=False)
    assert await number(database) != found


async def test_nor_when_what_was_done_with_the_answer_fails(database: Database) -> None:
    with pytest.raises(BookNotFoundError):
        await cut_after_the_answer(database, fails=True)
    assert await number(database) == await number(database)
