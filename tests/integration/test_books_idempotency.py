"""`Idempotency-Key`: a request that is sent again is done once and answered as the first time."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, insert, make_url, text

from api import purging
from api.settings import ApiSettings
from common.database import Database, thread_engine
from common.tables import DeniedTokenRow
from tests.fixtures.api import Api, served
from tests.fixtures.ledger import Ledger
from tests.fixtures.wire import Wire, wire_to
from tests.waiting import eventually

DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}
MESSIAH = {**DUNE, "title": "Dune Messiah"}
CHANGES: dict[str, dict[str, Any]] = {
    "PUT": {"json": MESSIAH},
    "PATCH": {"json": {"title": "Dune Messiah"}},
    "DELETE": {},
}


@pytest.fixture
def key() -> str:
    return str(uuid4())


def add(client: httpx.Client, key: str, book: dict[str, str] = DUNE) -> httpx.Response:
    return client.post("/v1/books", json=book, headers={"Idempotency-Key": key})


def assert_replayed(answer: httpx.Response, first: httpx.Response) -> None:
    """The same answer, but for the date and the mark."""
    assert "idempotent-replayed" not in first.headers
    assert answer.headers["idempotent-replayed"] == "true"
    assert (answer.status_code, answer.content) == (first.status_code, first.content)
    for name in ("etag", "location", "content-type"):
        assert answer.headers.get(name) == first.headers.get(name)


def assert_problem(answer: httpx.Response, status: int, name: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{name}")


def test_a_book_that_is_added_again_with_the_same_key_is_there_once(
    writer: httpx.Client, ledger: Ledger, key: str
) -> None:
    with ledger.grows(books=1, events=1):
        first = add(writer, key)
        again = [add(writer, key), add(writer, f'"{key}"'), add(writer, key, {**DUNE, "title": " Dune "})]
    assert first.status_code == 201
    for answer in again:
        assert_replayed(answer, first)


@pytest.mark.parametrize("method", CHANGES)
def test_a_change_that_is_sent_again_is_made_once_also_when_the_book_has_changed_since(
    writer: httpx.Client, ledger: Ledger, key: str, method: str
) -> None:
    path = add(writer, f"{key}-book").headers["location"]
    headers = {"Idempotency-Key": key, "If-Match": '"1"'}
    with ledger.grows(books=-(method == "DELETE"), events=1):
        first = writer.request(method, path, headers=headers, **CHANGES[method])
        again = writer.request(method, path, headers=headers, **CHANGES[method])
    assert first.is_success
    assert_replayed(again, first)


def test_a_change_that_changes_nothing_is_remembered_too(writer: httpx.Client, key: str) -> None:
    path = add(writer, f"{key}-book").headers["location"]
    first = writer.put(path, json=DUNE, headers={"Idempotency-Key": key})
    writer.put(path, json=MESSIAH)
    assert_replayed(writer.put(path, json=DUNE, headers={"Idempotency-Key": key}), first)
    assert writer.get(path).json()["title"] == "Dune Messiah"


def test_the_same_key_with_another_request_is_refused_and_changes_nothing(
    writer: httpx.Client, ledger: Ledger, key: str
) -> None:
    path = add(writer, key).headers["location"]
    headers = {"Idempotency-Key": key}
    with ledger.grows():
        others = [
            add(writer, key, MESSIAH),
            writer.put(path, json=DUNE, headers=headers),
            writer.delete(path, headers=headers),
        ]
    for answer in others:
        assert_problem(answer, 422, "idempotency-key-reused")


def test_another_condition_makes_another_request(writer: httpx.Client, key: str) -> None:
    path = add(writer, f"{key}-book").headers["location"]
    headers = {"Idempotency-Key": key, "If-Match": '"1"'}
    assert writer.put(path, json=MESSIAH, headers=headers).is_success
    other = writer.put(path, json=MESSIAH, headers={**headers, "If-Match": '"2"'})
    assert_problem(other, 422, "idempotency-key-reused")


def test_a_refused_request_leaves_its_key_free(writer: httpx.Client, key: str) -> None:
    path = add(writer, f"{key}-book").headers["location"]
    headers = {"Idempotency-Key": key, "If-Match": '"2"'}
    assert_problem(writer.put(path, json=MESSIAH, headers=headers), 412, "stale-version")
    writer.patch(path, json={"author": "F. Herbert"})
    assert writer.put(path, json=MESSIAH, headers=headers).json()["version"] == 3


def test_users_do_not_meet_in_their_keys(api: Api, writer: httpx.Client, ledger: Ledger, key: str) -> None:
    engine = thread_engine(api.settings)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO user_account (username, password_hash, scopes, created_at)"
                " SELECT 'other', password_hash, scopes, NOW(6) FROM user_account WHERE username = 'writer'"
            )
        )
    engine.dispose()
    with api.client(api.login("other")["access_token"]) as other, ledger.grows(books=2, events=2):
        first, second = add(writer, key), add(other, key)
    assert first.json()["id"] != second.json()["id"]
    assert "idempotent-replayed" not in second.headers


@pytest.mark.parametrize("bad", ["", '"', '""', "two keys", "x" * 256, "a\\b", '"a"b"', "é"])
def test_a_key_that_is_none_is_pointed_at(writer: httpx.Client, ledger: Ledger, bad: str) -> None:
    with ledger.grows():
        headers = {"Idempotency-Key": bad.encode()}
        answer = writer.post("/v1/books", json=DUNE, headers=headers)  # type: ignore[arg-type]
    assert_problem(answer, 422, "invalid-input")
    assert answer.json()["errors"][0]["pointer"] == "/header/idempotency-key"


def test_two_keys_in_one_request_are_refused(writer: httpx.Client, ledger: Ledger) -> None:
    with ledger.grows():
        headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
        answer = writer.post("/v1/books", json=DUNE, headers=headers)
    assert_problem(answer, 422, "invalid-input")


def test_of_many_that_send_one_request_at_once_one_makes_the_change(
    api: Api, ledger: Ledger, key: str
) -> None:
    senders = 8
    token, start = api.login()["access_token"], threading.Barrier(senders)

    def send() -> httpx.Response:
        with api.client(token) as client:
            start.wait()
            return add(client, key)

    with ThreadPoolExecutor(senders) as pool, ledger.grows(books=1, events=1):
        answers = [future.result() for future in [pool.submit(send) for _ in range(senders)]]
    done = [answer for answer in answers if answer.status_code == 201]
    assert sum("idempotent-replayed" not in answer.headers for answer in done) == 1
    assert len({answer.content for answer in done}) == 1
    for answer in answers:
        if answer not in done:
            assert_problem(answer, 409, "request-in-work")


def test_of_two_that_wait_for_one_that_fails_one_makes_the_change_and_the_other_is_answered_like_it(
    api: Api, ledger: Ledger, key: str
) -> None:
    """When the first rolls back, both others lock the row's place, and one of them is a deadlock's victim."""
    engine = thread_engine(api.settings)
    claimed = text(
        "INSERT INTO idempotency_key (username, request_key, fingerprint, answer, created_at)"
        " VALUES ('writer', :key, '', '', NOW(6))"
    )
    waiting = text(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT INTO idempotency_key%'"
    )
    with (
        api.client(api.login()["access_token"]) as client,
        ThreadPoolExecutor(2) as pool,
        ledger.grows(books=1, events=1),
    ):
        with engine.connect() as first, engine.connect() as looker:
            first.execute(claimed, {"key": key})
            senders = [pool.submit(add, client, key) for _ in range(2)]
            eventually(lambda: looker.execute(waiting).scalar_one() == 2, because="both wait")
            first.rollback()
        answers = [sender.result() for sender in senders]
    engine.dispose()
    assert [answer.status_code for answer in answers] == [201, 201]
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 1


@pytest.fixture
def wire(api: Api) -> Iterator[Wire]:
    with wire_to(make_url(api.settings.database_url.get_secret_value()).port or 0) as wire:
        yield wire


@pytest.fixture
def over_the_wire(api: Api, api_settings: Callable[..., ApiSettings], wire: Wire) -> Iterator[Api]:
    url = make_url(api.settings.database_url.get_secret_value()).set(port=wire.port)
    with served(api_settings(database_url=SecretStr(url.render_as_string(hide_password=False)))) as found:
        yield found


def test_a_request_that_is_still_in_work_is_answered_409_and_then_repeated(
    writer: httpx.Client, over_the_wire: Api, wire: Wire, ledger: Ledger, key: str
) -> None:
    with over_the_wire.client(over_the_wire.login()["access_token"]) as slow, ledger.grows(books=1, events=1):
        wire.hold_at(b"INSERT INTO outbox")
        with ThreadPoolExecutor() as pool:
            first = pool.submit(add, slow, key)
            assert wire.held.wait(10)
            busy = add(writer, key)
            wire.let_go()
        assert_problem(busy, 409, "request-in-work")
        assert busy.headers["retry-after"] == "1"
        assert_replayed(add(writer, key), first.result())


@pytest.mark.parametrize("arrives", [False, True], ids=["commit lost", "answer lost"])
def test_whoever_was_told_that_the_outcome_is_unknown_repeats_safely(
    over_the_wire: Api,
    wire: Wire,
    ledger: Ledger,
    key: str,
    arrives: bool,  # noqa: FBT001  a case
) -> None:
    with over_the_wire.client(over_the_wire.login()["access_token"]) as client:
        client.post("/v1/books", json=DUNE)
        with ledger.grows(books=1, events=1):
            wire.cut_at(b"\x03COMMIT", arrives=arrives)
            assert_problem(add(client, key), 503, "outcome-unknown")
            answer = add(client, key)
    assert answer.status_code == 201
    assert ("idempotent-replayed" in answer.headers) is arrives


def test_a_key_is_free_again_after_a_day(api: Api, writer: httpx.Client, ledger: Ledger, key: str) -> None:
    engine = thread_engine(api.settings)
    with ledger.grows(books=2, events=2):
        for hours in (23, 25):
            first = add(writer, key)
            with engine.begin() as connection:
                age = text("UPDATE idempotency_key SET created_at = NOW(6) - INTERVAL :hours HOUR")
                connection.execute(age, {"hours": hours})
            again = add(writer, key)
            assert ("idempotent-replayed" in again.headers) is (hours == 23)
    engine.dispose()
    assert first.headers["idempotent-replayed"] == "true"


def test_purging_goes_on_after_an_error_of_the_database(
    api: Api,
    api_settings: Callable[..., ApiSettings],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also after one that none of ours stands for: here the table is not there."""
    monkeypatch.setattr(purging, "_PURGE_SECONDS", 0.05)
    engine = thread_engine(api.settings)
    with engine.connect() as connection:
        connection.execute(text("RENAME TABLE idempotency_key TO elsewhere"))
        with served(api_settings()):
            try:
                eventually(lambda: "rows not purged" in caplog.text)
            finally:
                connection.execute(text("RENAME TABLE elsewhere TO idempotency_key"))
            connection.execute(
                text(
                    "INSERT INTO idempotency_key (username, request_key, fingerprint, answer, created_at)"
                    " VALUES ('writer', 'old', '', '', NOW(6) - INTERVAL 25 HOUR)"
                )
            )
            connection.commit()
            old = text("SELECT COUNT(*) FROM idempotency_key WHERE request_key = 'old'")
            eventually(lambda: connection.execute(old).scalar_one() == 0, because="it is purged")
    engine.dispose()


@pytest.mark.anyio
async def test_a_table_that_cannot_be_purged_keeps_no_other_from_it(api: Api) -> None:
    engine, database = thread_engine(api.settings), Database(api.settings)
    over = datetime.now(UTC) - timedelta(minutes=1)
    with engine.begin() as connection:
        connection.execute(insert(DeniedTokenRow).values(name="over", denied_at=over, expires_at=over))
        connection.execute(text("RENAME TABLE idempotency_key TO elsewhere"))
    try:
        assert (await purging.purge(database, datetime.now(UTC)))["denied_token"] >= 1
    finally:
        with engine.begin() as connection:
            connection.execute(text("RENAME TABLE elsewhere TO idempotency_key"))
        engine.dispose()
        await database.close()


@pytest.mark.anyio
async def test_what_is_too_much_for_one_step_is_removed_in_smaller_ones(
    api: Api, admin: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.database.WORK_SECONDS", 1)
    over = datetime.now(UTC) - timedelta(minutes=1)
    rows = [{"name": f"slow {number}", "denied_at": over, "expires_at": over} for number in range(60)]
    with admin.connect() as connection:
        connection.execute(insert(DeniedTokenRow), rows)
        connection.exec_driver_sql(
            "CREATE TRIGGER slowly BEFORE DELETE ON denied_token FOR EACH ROW SET @waited = SLEEP(0.03)"
        )
        database = Database(api.settings)
        try:
            assert (await purging.purge(database, datetime.now(UTC)))["denied_token"] >= len(rows)
        finally:
            connection.exec_driver_sql("DROP TRIGGER slowly")
            await database.close()


@pytest.mark.anyio
async def test_purging_removes_what_is_older_and_nothing_else(
    api: Api, writer: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "PURGED_AT_ONCE", 2)
    database = Database(api.settings)
    day = timedelta(days=1)
    await purging.purge(database, datetime.now(UTC) + day)
    for number in range(5):
        add(writer, f"old-{number}")
    limit = datetime.now(UTC) + day
    first = add(writer, "young")
    assert (await purging.purge(database, limit))["idempotency_key"] == 5
    assert "idempotency_key" not in await purging.purge(database, limit)
    assert_replayed(add(writer, "young"), first)
    assert (await purging.purge(database, limit + timedelta(minutes=1)))["idempotency_key"] == 1
    await database.close()
