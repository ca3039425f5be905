"""A connection that is lost at the commit: done or not done, but never half, twice, or taken for done."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from pydantic import SecretStr
from redis import Redis
from sqlalchemy import make_url, text

from api.books import commands
from api.books.import_routes import ROWS_PER_TRANSACTION
from api.settings import ApiSettings
from common.books import NewBook
from common.cache import TICKET_KEY, entry_key
from common.database import Database, thread_engine, transaction
from common.errors import DatabaseUnavailableError, OutcomeUnknownError
from common.settings import CacheSettings, DatabaseSettings
from tests.fixtures.api import Api, served
from tests.fixtures.ledger import Ledger
from tests.fixtures.wire import Wire, wire_to
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
FIELDS = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}
DUNE = NewBook.model_validate(FIELDS)
INSERT = text(
    "INSERT INTO user_account (username, password_hash, scopes, created_at) VALUES (:name, '', '', NOW(6))"
)
# The statement as it is sent, for AUTOCOMMIT is another.
COMMIT = b"\x03COMMIT"
EITHER_WAY = pytest.mark.parametrize("arrives", [False, True], ids=["commit lost", "answer lost"])


@pytest.fixture
def wire(api: Api) -> Iterator[Wire]:
    with wire_to(make_url(api.settings.database_url.get_secret_value()).port or 0) as wire:
        yield wire


@pytest.fixture
def wired(api: Api, wire: Wire) -> DatabaseSettings:
    """The API's database, over the wire."""
    url = make_url(api.settings.database_url.get_secret_value()).set(port=wire.port)
    return DatabaseSettings(database_url=SecretStr(url.render_as_string(hide_password=False)))


@pytest.fixture
async def database(wired: DatabaseSettings) -> AsyncIterator[Database]:
    """With one connection, which is open already: the driver commits while it opens one."""
    database = Database(wired, pool_size=1)
    async with database.begin() as connection:
        await connection.execute(text("SELECT 1"))
    yield database
    await database.close()


@pytest.fixture
def over_the_wire(api_settings: Callable[..., ApiSettings], wired: DatabaseSettings) -> Iterator[Api]:
    with served(api_settings(database_url=wired.database_url)) as found:
        yield found


@EITHER_WAY
async def test_a_command_whose_commit_is_not_answered_says_so_and_is_not_repeated(
    ledger: Ledger,
    database: Database,
    wire: Wire,
    arrives: bool,  # noqa: FBT001  a case
) -> None:
    wire.cut_at(COMMIT, arrives=arrives)
    with ledger.grows(books=arrives, events=arrives), pytest.raises(OutcomeUnknownError):
        await commands.add_book(database, DUNE, TRACE)
    with ledger.grows(books=1, events=1):
        await commands.add_book(database, DUNE, TRACE)


@EITHER_WAY
def test_a_transaction_of_a_thread_whose_commit_is_not_answered_says_so(
    ledger: Ledger,
    wired: DatabaseSettings,
    wire: Wire,
    arrives: bool,  # noqa: FBT001  a case
) -> None:
    name = f"lost-{arrives}".lower()
    engine = thread_engine(wired)
    engine.connect().close()
    wire.cut_at(COMMIT, arrives=arrives)
    with pytest.raises(OutcomeUnknownError), transaction(engine) as connection:
        connection.execute(INSERT, {"name": name})
    with transaction(engine) as connection:
        query = text("SELECT COUNT(*) FROM user_account WHERE username = :name")
        assert connection.execute(query, {"name": name}).scalar_one() == arrives
    engine.dispose()


@EITHER_WAY
def test_over_http_a_commit_that_is_not_answered_is_503_outcome_unknown(
    ledger: Ledger,
    wire: Wire,
    over_the_wire: Api,
    arrives: bool,  # noqa: FBT001  a case
) -> None:
    with over_the_wire.client(over_the_wire.login()["access_token"]) as client:
        client.post("/v1/books", json=FIELDS)
        wire.cut_at(COMMIT, arrives=arrives)
        with ledger.grows(books=arrives, events=arrives):
            added = client.post("/v1/books", json=FIELDS)
        client.post("/v1/books", json=FIELDS)
        wire.cut_at(COMMIT, arrives=arrives)
        named = client.post("/v1/books", json=FIELDS, headers={"Idempotency-Key": f"{arrives}"})
    wire.cut_at(COMMIT, arrives=arrives)
    login = over_the_wire.ask_token()
    for answer in (added, named, login):
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/outcome-unknown")
    # Nobody is invited to do it twice.
    assert [it.headers.get("retry-after") for it in (added, named, login)] == [None, "1", None]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_who_looks_after_an_unknown_change_sees_the_row_and_not_the_cache(
    over_the_wire: Api, wire: Wire, cache_settings: CacheSettings, method: str
) -> None:
    url = cache_settings.cache_url.get_secret_value()
    with (
        Redis.from_url(url, decode_responses=True) as redis,
        over_the_wire.client(over_the_wire.login()["access_token"]) as client,
    ):
        redis.set(TICKET_KEY, f"{redis.info('server')['run_id']} abc")
        book = client.post("/v1/books", json=FIELDS).json()
        path = f"/v1/books/{book['id']}"
        assert client.get(path).json() == book
        assert redis.get(entry_key("abc", book["id"])), "it is in the cache"
        wire.cut_at(COMMIT, arrives=True)
        changes = FIELDS | {"title": "Emma"} if method == "PUT" else None
        assert client.request(method, path, json=changes).json()["type"] == "/problems/outcome-unknown"
        for _ in range(3):
            found = client.get(path)
            assert found.status_code == 404 if method == "DELETE" else found.json()["title"] == "Emma"
        redis.flushdb()


@EITHER_WAY
def test_an_import_that_loses_the_database_midway_says_what_is_stored_for_certain(
    ledger: Ledger,
    wire: Wire,
    over_the_wire: Api,
    arrives: bool,  # noqa: FBT001  a case
) -> None:
    before, row = ledger.counts()[0], b"Dune,Frank Herbert,1965-08-01\n"

    def rows() -> Iterator[bytes]:
        yield b"title,author,publication_date\n" + row * ROWS_PER_TRANSACTION
        eventually(lambda: ledger.counts()[0] == before + ROWS_PER_TRANSACTION)
        wire.cut_at(COMMIT, arrives=arrives)
        yield row * 100

    stored = ROWS_PER_TRANSACTION + 100 * arrives
    with over_the_wire.client(over_the_wire.login()["access_token"]) as client:
        headers = {"Content-Type": "text/csv"}
        with ledger.grows(books=stored, events=stored):
            answer = client.post("/v1/books:import", content=rows(), headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/outcome-unknown")
    assert answer.json()["detail"].startswith("The first 500 good rows are stored for certain; ")


def test_an_import_whose_database_stays_away_midway_says_what_is_stored_for_certain(
    ledger: Ledger, wire: Wire, over_the_wire: Api
) -> None:
    before, row = ledger.counts()[0], b"Dune,Frank Herbert,1965-08-01\n"

    def rows() -> Iterator[bytes]:
        yield b"title,author,publication_date\n" + row * ROWS_PER_TRANSACTION
        eventually(lambda: ledger.counts()[0] == before + ROWS_PER_TRANSACTION)
        wire.cut()
        yield row * 100

    with over_the_wire.client(over_the_wire.login()["access_token"]) as client:
        headers = {"Content-Type": "text/csv"}
        with ledger.grows(books=ROWS_PER_TRANSACTION, events=ROWS_PER_TRANSACTION):
            answer = client.post("/v1/books:import", content=rows(), headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/outcome-unknown")


async def test_a_connection_lost_before_the_commit_is_no_unknown_outcome_and_the_command_is_repeated(
    ledger: Ledger, database: Database, wire: Wire
) -> None:
    wire.cut_at(b"INSERT INTO outbox", arrives=True)
    with ledger.grows(books=1, events=1):
        await commands.add_book(database, DUNE, TRACE)


async def test_a_connection_that_the_server_ended_while_it_was_idle_costs_no_request(
    api: Api, ledger: Ledger, database: Database
) -> None:
    async with database.begin() as connection:
        pooled = (await connection.execute(text("SELECT CONNECTION_ID()"))).scalar_one()
    engine = thread_engine(api.settings, autocommit=True)
    with engine.connect() as other:
        other.execute(text(f"KILL {pooled}"))
    engine.dispose()
    with ledger.grows(books=1, events=1):
        await commands.add_book(database, DUNE, TRACE)


async def test_a_caller_that_leaves_during_the_commit_leaves_it_finished(
    ledger: Ledger, database: Database, wire: Wire
) -> None:
    connections = wire.connections
    wire.hold_at(COMMIT)
    with ledger.grows(books=1, events=1):
        task = asyncio.create_task(commands.add_book(database, DUNE, TRACE))
        await asyncio.to_thread(wire.held.wait, 10)
        task.cancel()
        wire.let_go()
        with pytest.raises(asyncio.CancelledError):
            await task
    # The pool's one connection has come back, outside of any transaction, and was not thrown away.
    with ledger.grows(books=1, events=1):
        await commands.add_book(database, DUNE, TRACE)
    assert wire.connections == connections


async def test_a_server_that_is_gone_is_an_unavailable_database(database: Database, wire: Wire) -> None:
    wire.cut()
    with pytest.raises(DatabaseUnavailableError):
        await commands.add_book(database, DUNE, TRACE)
    with pytest.raises(DatabaseUnavailableError):
        async with database.read() as connection:
            await connection.execute(text("SELECT 1"))
