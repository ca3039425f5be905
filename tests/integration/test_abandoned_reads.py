"""What the server is told to end, and when it is too late for that."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from common.abandoned import AbandonedReads
from common.database import Database, thread_engine
from common.settings import DatabaseSettings
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
WITHIN = 0.3
_ASLEEP = text(
    "SELECT COUNT(*) FROM information_schema.processlist WHERE id = :number AND info LIKE 'SELECT SLEEP%'"
)


@pytest.fixture
async def database(fresh_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """With one connection for those who end what was abandoned."""
    made = Database(fresh_settings, pool_size=1)
    yield made
    await made.close()


class Sleeper:
    """A statement that sleeps for five seconds, on a connection of its own."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._engine = thread_engine(settings, read_timeout=20)
        self._connection = self._engine.connect()
        self._number = int(self._connection.execute(text("SELECT CONNECTION_ID()")).scalar_one())
        self._sleep = asyncio.create_task(asyncio.to_thread(self._slept))

    async def begins(self) -> int:
        """The number of its connection, when it sleeps."""
        await asyncio.to_thread(eventually, self._is_asleep)
        return self._number

    async def was_ended(self) -> bool:
        """Whether it could not sleep to its end."""
        return await self._sleep

    def _is_asleep(self) -> bool:
        with self._engine.connect() as other:
            return bool(other.execute(_ASLEEP, {"number": self._number}).scalar_one())

    def _slept(self) -> bool:
        began = time.monotonic()
        with contextlib.suppress(DBAPIError):  # as MariaDB has it; in MySQL the sleep is just shorter
            self._connection.execute(text("SELECT SLEEP(5)"))
        ended = time.monotonic() - began < 5
        self._connection.close()
        self._engine.dispose()
        return ended


async def over(reads: AbandonedReads) -> None:
    """When it is too late for the last number."""
    [*_, last] = reads._numbers.values()  # noqa: SLF001  nobody sees them otherwise
    await asyncio.to_thread(eventually, lambda: time.monotonic() > last)


async def test_a_statement_is_ended_in_time(database: Database, fresh_settings: DatabaseSettings) -> None:
    reads = AbandonedReads(database.read, within=30)
    sleeper = Sleeper(fresh_settings)
    reads.end(await sleeper.begins())
    assert await sleeper.was_ended()
    await reads.close()


async def test_a_number_whose_time_is_over_is_forgotten_and_not_ended(
    database: Database, fresh_settings: DatabaseSettings
) -> None:
    """Its connection may have another statement by then, of somebody else."""
    reads = AbandonedReads(database.read, within=WITHIN)
    sleeper = Sleeper(fresh_settings)
    number = await sleeper.begins()
    async with database.read():
        # There is no connection to end it on, until it is too late.
        reads.end(number)
        await over(reads)
    assert not await sleeper.was_ended()
    await reads.close()


async def test_numbers_that_nobody_can_end_do_not_pile_up(database: Database) -> None:
    reads = AbandonedReads(database.read, within=WITHIN)
    async with database.read():
        for _ in range(3):
            for number in range(1_000_000_000, 1_000_001_000):
                reads.end(number)
            await over(reads)
        reads.end(1_000_000_000)
        assert len(reads._numbers) == 1  # noqa: SLF001  nobody sees them otherwise
    await reads.close()


async def test_a_server_that_is_away_is_asked_once_and_not_without_a_pause(
    fresh_settings: DatabaseSettings,
) -> None:
    """One that starts anew gives the numbers to others."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = make_url(fresh_settings.database_url.get_secret_value()).set(port=port)
    away = fresh_settings.model_copy(
        update={"database_url": SecretStr(url.render_as_string(hide_password=False))}
    )
    database = Database(away, pool_size=1)
    asked = 0

    @asynccontextmanager
    async def read() -> AsyncIterator[AsyncConnection]:
        nonlocal asked
        asked += 1
        async with database.read() as connection:
            yield connection

    reads = AbandonedReads(read, within=30)
    for number in range(1_000_000_000, 1_000_000_100):
        reads.end(number)
    await asyncio.to_thread(eventually, lambda: not reads._numbers)  # noqa: SLF001
    assert asked == 1
    await reads.close()
    await database.close()
