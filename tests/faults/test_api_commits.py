"""A database that fails at the very commit, and callers that leave meanwhile."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError

from api.books import commands
from api.settings import ApiSettings
from common.books import NewBook
from common.database import COMMIT_SECONDS, WORK_SECONDS, Database
from common.errors import BookNotFoundError, DatabaseUnavailableError
from common.settings import DatabaseSettings
from devstack.stack import Stack
from tests.fixtures.api import Api, served
from tests.fixtures.ledger import Ledger
from tests.fixtures.trouble import BOOK, Timed, is_problem, setting, timed
from tests.fixtures.wire import Wire, wire_to
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
DEADLINE_SECONDS = 5.0
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
DUNE = NewBook.model_validate(BOOK)
# The statement as it is sent, for AUTOCOMMIT is another.
COMMIT = b"\x03COMMIT"
CONNECTIONS = text("SELECT id FROM information_schema.processlist WHERE user = :user")


@pytest.fixture
def wire(limited_url: str) -> Iterator[Wire]:
    with wire_to(make_url(limited_url).port or 0) as wire:
        yield wire


@pytest.fixture
def wired_url(limited_url: str, wire: Wire) -> SecretStr:
    return SecretStr(make_url(limited_url).set(port=wire.port).render_as_string(hide_password=False))


@pytest.fixture
def client(
    api: Api, api_settings: Callable[..., ApiSettings], wired_url: SecretStr
) -> Iterator[httpx.Client]:
    """Of an API that reaches its database over the wire, and has written to it."""
    token = api.login()["access_token"]
    with served(api_settings(database_url=wired_url)) as wired, wired.client(token) as client:
        assert client.post("/v1/books", json=BOOK).status_code == 201
        yield client


@pytest.fixture
async def database(wired_url: SecretStr) -> AsyncIterator[Database]:
    """With one connection, which is open already: the driver commits while it opens one."""
    database = Database(DatabaseSettings(database_url=wired_url), pool_size=1)
    async with database.begin() as connection:
        await connection.execute(text("SELECT 1"))
    yield database
    await database.close()


def held_at_the_commit(client: httpx.Client, wire: Wire, meanwhile: Callable[[], None]) -> Timed:
    """What a client hears whose commit is on its way while something happens."""
    wire.hold_at(COMMIT)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(timed, partial(client.post, "/v1/books", json=BOOK))
        assert wire.held.wait(10)
        meanwhile()
        return answer.result()


def test_commit_that_nobody_answers_is_an_unknown_outcome_within_the_deadline(
    client: httpx.Client, ledger: Ledger, wire: Wire
) -> None:
    with ledger.grows():
        found = held_at_the_commit(client, wire, lambda: None)
        assert is_problem(found.answer, "outcome-unknown")
        assert COMMIT_SECONDS <= found.seconds < DEADLINE_SECONDS
        wire.drop()
    with ledger.grows(books=1, events=1):
        assert client.post("/v1/books", json=BOOK).status_code == 201


def test_connection_that_is_killed_at_the_commit_is_an_unknown_outcome_and_nothing_half(
    client: httpx.Client, ledger: Ledger, wire: Wire, admin: Engine, limited_url: str
) -> None:
    def kill() -> None:
        with admin.connect() as other:
            found = other.execute(CONNECTIONS, {"user": make_url(limited_url).username}).scalars().all()
            for connection_id in found:
                with contextlib.suppress(OperationalError):  # it has ended by itself
                    other.exec_driver_sql(f"KILL {connection_id}")
        wire.let_go()

    with ledger.grows():
        found = held_at_the_commit(client, wire, kill)
        assert is_problem(found.answer, "outcome-unknown")
    with ledger.grows(books=1, events=1):
        assert client.post("/v1/books", json=BOOK).status_code == 201


@pytest.mark.parametrize("instant", ["before the server hears it", "when the server has heard it"])
def test_server_that_is_killed_in_the_middle_of_a_commit_has_made_the_change_whole_or_not_at_all(
    client: httpx.Client, ledger: Ledger, wire: Wire, stack: Stack, instant: str
) -> None:
    hears = instant.startswith("when")
    books, events = ledger.counts()
    ledger.close()

    def kill() -> None:
        if hears:
            wire.let_go()
        stack.database.processes[-1].signal(signal.SIGKILL)
        wire.let_go()

    answer = held_at_the_commit(client, wire, kill).answer
    stack.database.stop()
    assert is_problem(client.post("/v1/books", json=BOOK), "database-unavailable")
    stack.database.start()
    more = ledger.counts()[0] - books
    assert ledger.counts() == (books + more, events + more)
    # A server that was quicker than the signal has answered, and then it must have kept its word.
    assert more == 1 if answer.status_code == 201 else is_problem(answer, "outcome-unknown")
    assert more <= hears
    eventually(lambda: client.post("/v1/books", json=BOOK).status_code == 201)


def test_commit_that_a_read_only_database_refuses_leaves_nothing_for_the_next_one_to_commit(
    client: httpx.Client, ledger: Ledger, wire: Wire, admin: Engine
) -> None:
    with setting(admin, "read_only", 0):

        def make_read_only() -> None:
            with admin.connect() as other:
                other.exec_driver_sql("SET GLOBAL read_only = 1")
            wire.let_go()

        with ledger.grows():
            found = held_at_the_commit(client, wire, make_read_only)
            assert is_problem(found.answer, "database-unavailable")
    with ledger.grows(books=1, events=1):
        assert client.post("/v1/books", json=BOOK).status_code == 201


async def test_caller_that_leaves_a_commit_that_nobody_answers_is_free_within_the_deadline(
    ledger: Ledger, database: Database, wire: Wire
) -> None:
    wire.hold_at(COMMIT)
    with ledger.grows():
        task = asyncio.create_task(commands.add_book(database, DUNE, TRACE))
        await asyncio.to_thread(wire.held.wait, 10)
        begun = time.monotonic()
        for _ in range(3):
            task.cancel()
            await asyncio.wait([task], timeout=0.01)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 1 < time.monotonic() - begun < COMMIT_SECONDS + 1
        wire.drop()
    with ledger.grows(books=1, events=1):
        await commands.add_book(database, DUNE, TRACE)


@contextmanager
def ends_at_the_deadline() -> Iterator[None]:
    begun = time.monotonic()
    try:
        yield
    finally:
        assert WORK_SECONDS <= time.monotonic() - begun < WORK_SECONDS + 1


async def test_statement_and_roll_back_that_nobody_answers_end_at_the_deadline(
    ledger: Ledger, database: Database, wire: Wire
) -> None:
    wire.hold_at(b"INSERT INTO outbox")
    with ledger.grows(), pytest.raises(DatabaseUnavailableError), ends_at_the_deadline():
        await commands.add_book(database, DUNE, TRACE)
    wire.drop()
    wire.hold_at(b"\x03ROLLBACK")
    with ledger.grows(), pytest.raises(BookNotFoundError), ends_at_the_deadline():
        await commands.delete_book(database, 999_999_999, None, TRACE)
    wire.drop()
