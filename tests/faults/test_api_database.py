"""An API whose database is frozen, locked, read-only, full or gone, each time for real.

Each time a client has a 503 within the deadline, nothing is stored half, and all is well again after it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import pymysql
import pytest
from pydantic import SecretStr
from sqlalchemy import URL, Engine, make_url, text

from api.settings import ApiSettings
from devstack.stack import Stack
from tests.fixtures.api import Api, served
from tests.fixtures.ledger import Ledger
from tests.fixtures.trouble import BOOK, at_once, frozen_database, is_problem, setting, timed
from tests.waiting import eventually

# The deadlines of docs/adr/0013, and what a busy machine may add.
DEADLINE_SECONDS = 5.0
BUSY_SECONDS = 2.0
RECOVERY_SECONDS = 2.0


@pytest.fixture(scope="module")
def api_settings(api_settings: Callable[..., ApiSettings], limited_url: str) -> Callable[..., ApiSettings]:
    return partial(api_settings, database_url=SecretStr(limited_url))


@pytest.fixture(scope="module")
def token(api: Api) -> str:
    found: str = api.login()["access_token"]
    return found


@pytest.fixture
def client(api: Api, token: str) -> Iterator[httpx.Client]:
    with api.client(token) as found:
        yield found


def add(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/books", json=BOOK)


def test_frozen_database_is_503_for_every_call_within_the_deadline_and_soon_forgotten(
    api: Api, client: httpx.Client, ledger: Ledger, stack: Stack
) -> None:
    path = add(client).headers["location"]
    calls: list[Callable[[], httpx.Response]] = [
        partial(add, client),
        lambda: client.get("/v1/books"),
        lambda: client.patch(path, json={"title": "x"}),
        lambda: client.delete(path),
        lambda: client.post("/v1/books:import", content=CSV, headers={"Content-Type": "text/csv"}),
        api.ask_token,
    ]
    with ledger.grows(), frozen_database(stack):
        found = at_once(*calls)
        alive = timed(lambda: client.get("/livez"))
        eventually(lambda: client.get("/readyz").status_code == 503)
        found += at_once(*calls)  # now by new connections
        assert all(is_problem(one.answer, "database-unavailable") for one in found)
        assert max(one.seconds for one in found) < DEADLINE_SECONDS
        assert (alive.answer.status_code, alive.seconds < 1) == (200, True)
    eventually(lambda: add(client).status_code == 201, within=RECOVERY_SECONDS)
    eventually(lambda: client.get("/readyz").status_code == 200, within=RECOVERY_SECONDS)
    assert api.login()


CSV = "title,author,publication_date\n" + "Dune,Frank Herbert,1965-08-01\n" * 600


def test_who_finds_no_free_connection_hears_so_quickly(
    client: httpx.Client, ledger: Ledger, stack: Stack
) -> None:
    with ledger.grows(), frozen_database(stack):
        found = at_once(*[partial(add, client)] * 20)  # sixteen find a connection
    busy = [one for one in found if one.answer.json()["detail"] == "All database connections are busy."]
    assert len(busy) == 4
    assert all(is_problem(one.answer, "database-unavailable") for one in found)
    assert max(one.seconds for one in busy) < BUSY_SECONDS
    eventually(lambda: add(client).status_code == 201, within=RECOVERY_SECONDS)
    with ledger.grows(books=48, events=48):
        assert {one.answer.status_code for one in at_once(*[partial(add, client)] * 48)} == {201}


def test_row_that_somebody_else_has_locked_is_503_contended_and_free_when_they_have_done(
    client: httpx.Client, ledger: Ledger, admin: Engine
) -> None:
    path = add(client).headers["location"]
    change = partial(client.patch, path, json={"title": "x"})
    with admin.connect() as other, ledger.grows():
        other.execute(text("BEGIN"))
        other.execute(text("SELECT id FROM book FOR UPDATE"))
        found = timed(change)
        assert is_problem(found.answer, "contended")
        assert found.seconds < DEADLINE_SECONDS
        other.execute(text("ROLLBACK"))
    assert change().json()["version"] == 2


@pytest.mark.parametrize("table", ["book", "outbox"])
def test_table_that_somebody_else_has_locked_is_503_contended_and_free_when_they_have_done(
    client: httpx.Client, ledger: Ledger, admin: Engine, table: str
) -> None:
    with admin.connect() as other, ExitStack() as later:
        later.enter_context(ledger.grows())
        other.exec_driver_sql(f"LOCK TABLES {table} WRITE")
        found = timed(partial(add, client))
        assert is_problem(found.answer, "contended")
        assert found.seconds < DEADLINE_SECONDS
        other.exec_driver_sql("UNLOCK TABLES")
    assert add(client).status_code == 201


def test_read_only_database_refuses_changes_serves_reads_and_takes_changes_again(
    api: Api, client: httpx.Client, ledger: Ledger, admin: Engine
) -> None:
    path = add(client).headers["location"]
    with ledger.grows(), setting(admin, "read_only", 1):
        for found in (timed(partial(add, client)), timed(api.ask_token)):
            assert is_problem(found.answer, "database-unavailable")
            assert "takes no changes" in found.answer.json()["detail"]
            assert found.seconds < DEADLINE_SECONDS
        assert client.get(path).status_code == 200
        assert client.get("/readyz").status_code == 200
    assert add(client).status_code == 201


def test_server_without_a_free_connection_is_503_until_it_has_one(
    api_settings: Callable[..., ApiSettings], token: str, ledger: Ledger, admin: Engine, limited_url: str
) -> None:
    url = make_url(limited_url)
    with served(api_settings()) as fresh, fresh.client(token) as client, ExitStack() as others:
        with ledger.grows(), setting(admin, "max_connections", 20):
            for connection in iter(lambda: _connect(url), None):
                others.callback(connection.close)
            found = timed(partial(add, client))
            assert is_problem(found.answer, "database-unavailable")
            assert found.seconds < DEADLINE_SECONDS
            assert is_problem(fresh.ask_token(), "database-unavailable")
            others.close()
        eventually(lambda: add(client).status_code == 201, within=RECOVERY_SECONDS)


def _connect(url: URL) -> Any | None:  # noqa: ANN401  pymysql's connection has a parameter of its stubs alone
    try:
        return pymysql.connect(
            host=url.host, port=url.port or 0, user=url.username, password=str(url.password)
        )
    except pymysql.err.OperationalError as error:
        assert error.args[0] == 1040, "too many connections"  # noqa: PT017  the error ends the loop
        return None
