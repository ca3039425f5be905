"""Imports and exports whose login is ended, whose user has too many, or whose client falls silent."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore

import httpx
import pytest
from sqlalchemy import make_url

from api.auth.passwords import Passwords
from api.auth.users import add_user
from api.books import export_routes, import_routes
from api.settings import ApiSettings
from common.database import thread_engine
from common.tokens import SCOPES
from tests.fixtures.api import PASSWORD, Api, served
from tests.fixtures.ledger import Ledger
from tests.fixtures.wire import wire_to
from tests.waiting import eventually

IMPORT, EXPORT = "/v1/books:import", "/v1/books:export"
CSV = {"Content-Type": "text/csv"}
HEADER = b"title,author,publication_date\n"
BATCH = 5
ROWS = b"Dune,Frank Herbert,1965-08-01\n" * BATCH


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_routes, "ROWS_PER_TRANSACTION", BATCH)


@pytest.fixture(scope="module", autouse=True)
def ada(api: Api) -> None:
    engine = thread_engine(api.settings)
    add_user(engine, "ada", Passwords().hash(PASSWORD), list(SCOPES))
    engine.dispose()


@pytest.fixture
def client(api: Api) -> Iterator[httpx.Client]:
    """Ada's, whose logins are ended."""
    with api.client(api.login("ada")["access_token"]) as client:
        yield client


def sign_out(client: httpx.Client) -> None:
    assert client.post("/v1/auth/sign-out").status_code == 204


@pytest.mark.parametrize(
    ("headers", "what_to_do"),
    [({}, "look what else is"), ({"Idempotency-Key": "k"}, "send it again with the same Idempotency-Key")],
    ids=["without a key", "with one"],
)
def test_an_import_stores_no_batch_more_when_its_login_is_ended(
    client: httpx.Client, ledger: Ledger, headers: dict[str, str], what_to_do: str
) -> None:
    before = ledger.counts()[0]

    def rows() -> Iterator[bytes]:
        yield HEADER + ROWS
        eventually(lambda: ledger.counts()[0] == before + BATCH)
        sign_out(client)
        yield ROWS

    with ledger.grows(books=BATCH, events=BATCH):
        answer = client.post(IMPORT, content=rows(), headers=CSV | headers)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/outcome-unknown")
    detail = answer.json()["detail"]
    assert f"The first {BATCH} good rows are stored for certain; {what_to_do}." in detail
    assert "This login was ended" in detail


def test_an_import_that_has_stored_nothing_when_its_login_is_ended_is_401(
    client: httpx.Client, ledger: Ledger
) -> None:
    def rows() -> Iterator[bytes]:
        yield HEADER
        sign_out(client)
        yield ROWS

    with ledger.grows():
        assert client.post(IMPORT, content=rows(), headers=CSV).status_code == 401


def test_an_export_is_cut_off_when_its_login_is_ended(
    api: Api,
    api_settings: Callable[..., ApiSettings],
    writer: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer.post(IMPORT, content=HEADER + ROWS, headers=CSV)
    last = writer.get("/v1/books?sort=-id&limit=2").json()["items"][1]["id"]
    monkeypatch.setattr(export_routes, "BOOKS_AT_A_TIME", 1)
    url = make_url(api.settings.database_url.get_secret_value())
    with wire_to(url.port or 0) as wire, ThreadPoolExecutor(1) as pool:
        text = url.set(port=wire.port).render_as_string(hide_password=False)
        with (
            served(api_settings(database_url=text)) as found,
            found.client(found.login("ada")["access_token"]) as client,
        ):
            wire.hold_at(f"book.id > {last} ".encode())
            export = pool.submit(client.get, EXPORT)
            assert wire.held.wait(10)
            sign_out(client)
            wire.let_go()
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                export.result()
            assert client.get("/livez").status_code == 200
    assert "export cut off" in [record.message for record in caplog.records]
    assert [record for record in caplog.records if record.exc_info] == []


def test_one_user_cannot_take_all_places_of_imports(
    api: Api, api_settings: Callable[..., ApiSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.app._IMPORTS_OF_ONE_USER", 1)
    reading, go_on = Event(), Event()

    def rows() -> Iterator[bytes]:
        reading.set()
        yield HEADER
        go_on.wait(10)
        yield ROWS

    with (
        served(api_settings()) as found,
        found.client(found.login("ada")["access_token"]) as mine,
        found.client(found.login()["access_token"]) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(mine.post, IMPORT, content=rows(), headers=CSV)
        assert reading.wait(10)
        eventually(lambda: mine.post(IMPORT, content=HEADER, headers=CSV).status_code == 503)
        refused = mine.post(IMPORT, content=HEADER, headers=CSV)
        assert (refused.json()["type"], refused.headers["retry-after"]) == ("/problems/busy", "1")
        assert "1 imports of one user" in refused.json()["detail"]
        assert other.post(IMPORT, content=HEADER, headers=CSV).status_code == 200
        go_on.set()
        assert first.result().json()["accepted"] == BATCH
        assert mine.post(IMPORT, content=HEADER, headers=CSV).status_code == 200
        assert 'api_refused_total{reason="imports"}' in mine.get("/metrics").text


def test_imports_have_places_of_their_own(
    api: Api, api_settings: Callable[..., ApiSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And take none of the others, of which there is one here."""
    monkeypatch.setattr("api.app._IMPORTS_AT_ONCE", 2)
    reading, go_on = Semaphore(0), Event()

    def rows() -> Iterator[bytes]:
        yield HEADER
        reading.release()
        go_on.wait(10)
        yield ROWS

    with (
        served(api_settings(requests_max=1)) as found,
        found.client(found.login("ada")["access_token"]) as mine,
        found.client(found.login()["access_token"]) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        asked = [pool.submit(mine.post, IMPORT, content=rows(), headers=CSV) for _ in range(2)]
        for _ in asked:
            assert reading.acquire(timeout=10)
        eventually(lambda: other.post(IMPORT, content=HEADER, headers=CSV).status_code == 503)
        refused = other.post(IMPORT, content=HEADER, headers=CSV)
        assert refused.json()["type"] == "/problems/overloaded"
        assert other.get("/v1/books?limit=1").status_code == 200
        go_on.set()
        assert [each.result().json()["accepted"] for each in asked] == [BATCH, BATCH]
        assert other.post(IMPORT, content=HEADER, headers=CSV).status_code == 200


def test_who_falls_silent_in_an_import_is_told_what_is_stored(
    api: Api, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.connections.SILENT_SECONDS", 1.0)
    url = httpx.URL(api.url)
    head = (
        f"POST {IMPORT} HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 10000\r\n"
        f"Authorization: Bearer {api.login('ada')['access_token']}\r\n\r\n"
    )
    with (
        ledger.grows(books=BATCH, events=BATCH),
        socket.create_connection((url.host, url.port), timeout=10) as connection,
    ):
        connection.sendall(head.encode() + HEADER + ROWS + b"Emma")
        answer = b""
        while block := connection.recv(65_536):
            answer += block
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert f"The first {BATCH} good rows are stored for certain; look what else is.".encode() in answer
