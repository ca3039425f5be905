"""An import with an `Idempotency-Key`: sent again, it goes on where it ended, and stores each row once."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text

from api.books import import_routes
from api.settings import ApiSettings
from common.database import thread_engine
from tests.fixtures.api import Api, served
from tests.fixtures.ledger import Ledger
from tests.fixtures.wire import Wire, wire_to
from tests.waiting import eventually

PATH = "/v1/books:import"
BATCH = 5
HEADER = b"title,author,publication_date\n"
BAD = b"Dune,Frank Herbert,1965-8-1\n"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_routes, "ROWS_PER_TRANSACTION", BATCH)


@pytest.fixture
def key() -> str:
    return str(uuid4())


def rows(count: int, first: int = 0) -> bytes:
    return b"".join(b"%d,A,2000-01-01\n" % number for number in range(first, first + count))


# Three batches of five, and two rows; a rejected one in the first batch and one at the end.
WHOLE = HEADER + rows(3) + BAD + rows(14, 3) + BAD


def send(
    client: httpx.Client, key: str, content: bytes | Iterator[bytes], media_type: str = "text/csv"
) -> httpx.Response:
    return client.post(PATH, content=content, headers={"Content-Type": media_type, "Idempotency-Key": key})


def assert_problem(answer: httpx.Response, status: int, name: str, words: str = "") -> None:
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{name}")
    assert words in answer.json()["detail"]


def assert_whole(answer: httpx.Response, *, replayed: bool = False) -> None:
    """The report of WHOLE."""
    assert answer.status_code == 200, answer.text
    assert ("idempotent-replayed" in answer.headers) is replayed
    found: dict[str, Any] = answer.json()
    assert (found["accepted"], found["rejected"]) == (17, 2)
    assert [error["line"] for error in found["errors"]] == [5, 20]


def leave_after(api: Api, ledger: Ledger, key: str, content: bytes, stored: int) -> None:
    """Send the beginning of a longer body, and hang up when so many rows are stored."""
    before = ledger.counts()[0]
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 10000000\r\n"
        f"Authorization: Bearer {api.login()['access_token']}\r\nIdempotency-Key: {key}\r\n\r\n"
    )
    url = httpx.URL(api.url)
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(head.encode() + content)
        eventually(lambda: ledger.counts()[0] == before + stored)


def test_a_body_that_is_sent_again_is_stored_once_and_answered_the_same(
    writer: httpx.Client, ledger: Ledger, key: str
) -> None:
    with ledger.grows(books=17, events=17):
        assert_whole(send(writer, key, WHOLE))
        again = [
            send(writer, key, WHOLE),
            send(writer, f'"{key}"', (WHOLE[at : at + 7] for at in range(0, 999, 7))),
        ]
    for answer in again:
        assert_whole(answer, replayed=True)


@pytest.mark.parametrize(
    "content", [b"", HEADER + BAD, HEADER + BAD + rows(BATCH)], ids=["none", "bad", "batch"]
)
def test_a_body_that_ends_with_a_batch_or_has_no_good_row_is_remembered_too(
    writer: httpx.Client, key: str, content: bytes
) -> None:
    media_type = "text/csv" if content else "application/x-ndjson"
    first, again = (send(writer, key, content, media_type) for _ in range(2))
    assert (first.status_code, "idempotent-replayed" in first.headers) == (200, False)
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")


def test_reasons_are_told_again_and_not_written_with_each_batch(
    api: Api, writer: httpx.Client, key: str
) -> None:
    """They were a megabyte and more at worst, which each batch wrote anew."""
    body = HEADER + BAD * 1500 + rows(3 * BATCH + 1) + BAD
    first, again = (send(writer, key, body) for _ in range(2))
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
    found = again.json()
    assert (found["accepted"], found["rejected"], len(found["errors"])) == (16, 1501, 1000)
    engine = thread_engine(api.settings)
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT MAX(LENGTH(answer)) FROM idempotency_key")).scalar_one()
    engine.dispose()
    assert stored < 500


def test_whoever_leaves_in_the_middle_and_sends_again_has_each_row_stored_once(
    api: Api, writer: httpx.Client, ledger: Ledger, key: str
) -> None:
    with ledger.grows(books=17, events=17):
        leave_after(api, ledger, key, WHOLE[: -len(BAD)], 3 * BATCH)
        assert_whole(send(writer, key, WHOLE))
    titles = [book["title"] for book in writer.get("/v1/books?sort=-id&limit=17").json()["items"]]
    assert titles == [str(number) for number in reversed(range(17))]
    assert_whole(send(writer, key, WHOLE), replayed=True)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (WHOLE.replace(b"1,A", b"1,B", 1), "differs up to line 7"),
        (WHOLE.replace(BAD, b"\n", 1), "differs up to line 7"),
        (b"\xef\xbb\xbf" + WHOLE, "differs up to line 7"),
        (HEADER + rows(3), "is shorter"),
    ],
    ids=["a field", "an empty line", "a byte order mark", "shorter"],
)
def test_another_body_is_refused_where_rows_of_the_first_are_stored(  # noqa: PLR0913, PLR0917  fixtures
    api: Api, writer: httpx.Client, ledger: Ledger, key: str, other: bytes, words: str
) -> None:
    leave_after(api, ledger, key, HEADER + rows(3) + BAD + rows(2, 3), BATCH)
    with ledger.grows():
        assert_problem(send(writer, key, other), 422, "idempotency-key-reused", words)
    with ledger.grows(books=12, events=12):
        assert_whole(send(writer, key, WHOLE))


def test_what_follows_the_stored_rows_may_be_mended(
    api: Api, writer: httpx.Client, ledger: Ledger, key: str
) -> None:
    leave_after(api, ledger, key, HEADER + rows(BATCH) + BAD, BATCH)
    with ledger.grows(books=2, events=2):
        answer = send(writer, key, HEADER + rows(BATCH) + rows(2))
    assert answer.json() == {"accepted": BATCH + 2, "rejected": 0, "errors": []}


@pytest.mark.parametrize(
    "other", [WHOLE + b"\n", WHOLE.rstrip(), WHOLE[: -len(BAD)]], ids=["longer", "end", "shorter"]
)
def test_when_all_is_stored_every_other_body_is_refused(
    writer: httpx.Client, ledger: Ledger, key: str, other: bytes
) -> None:
    send(writer, key, WHOLE)
    with ledger.grows():
        assert_problem(send(writer, key, other), 422, "idempotency-key-reused")


def test_a_key_of_another_request_is_refused_either_way(
    writer: httpx.Client, ledger: Ledger, key: str
) -> None:
    book = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}
    writer.post("/v1/books", json=book, headers={"Idempotency-Key": key})
    send(writer, f"{key}-import", WHOLE)
    with ledger.grows():
        assert_problem(send(writer, key, WHOLE), 422, "idempotency-key-reused")
        answer = writer.post("/v1/books", json=book, headers={"Idempotency-Key": f"{key}-import"})
        assert_problem(answer, 422, "idempotency-key-reused")
        form = send(writer, f"{key}-import", b"", "application/x-ndjson")
        assert_problem(form, 422, "idempotency-key-reused")


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
    with api.client(api.login("other")["access_token"]) as other, ledger.grows(books=34, events=34):
        assert_whole(send(writer, key, WHOLE))
        assert_whole(send(other, key, WHOLE))


def test_a_refused_import_leaves_its_key_free(writer: httpx.Client, key: str) -> None:
    assert_problem(send(writer, key, BAD), 422, "invalid-input")
    assert_whole(send(writer, key, WHOLE))


@pytest.mark.parametrize("stored", [0, BATCH], ids=["at the first step", "in the middle"])
def test_of_two_that_send_at_once_one_stores_and_the_other_is_told_409(
    api: Api, writer: httpx.Client, ledger: Ledger, key: str, stored: int
) -> None:
    """The one who has waited meanwhile finds that the other has gone on."""
    before = ledger.counts()[0]
    with ThreadPoolExecutor(1) as pool, api.client(api.login()["access_token"]) as overtaker:

        def slow() -> Iterator[bytes]:
            yield WHOLE[: len(HEADER + BAD + rows(3) + rows(2, 3)) if stored else len(HEADER)]
            eventually(lambda: ledger.counts()[0] == before + stored)
            answers.append(pool.submit(send, overtaker, key, WHOLE).result())
            yield WHOLE[len(HEADER + BAD + rows(3) + rows(2, 3)) if stored else len(HEADER) :]

        answers: list[httpx.Response] = []
        with ledger.grows(books=17, events=17):
            late = send(writer, key, slow())
    assert_whole(answers[0])
    assert_problem(late, 409, "request-in-work")
    assert late.headers["retry-after"] == "1"
    assert_whole(send(writer, key, WHOLE), replayed=True)


@pytest.fixture
def wire(api: Api) -> Iterator[Wire]:
    with wire_to(make_url(api.settings.database_url.get_secret_value()).port or 0) as wire:
        yield wire


@pytest.fixture
def over_the_wire(api: Api, api_settings: Callable[..., ApiSettings], wire: Wire) -> Iterator[httpx.Client]:
    """A client of an API that reaches its database over the wire, and has connected, which commits too."""
    url = make_url(api.settings.database_url.get_secret_value()).set(port=wire.port)
    settings = api_settings(database_url=SecretStr(url.render_as_string(hide_password=False)))
    with served(settings) as found, found.client(found.login()["access_token"]) as client:
        send(client, str(uuid4()), HEADER + rows(1))
        yield client


def test_a_step_that_another_is_just_making_is_told_409(
    over_the_wire: httpx.Client, writer: httpx.Client, ledger: Ledger, wire: Wire, key: str
) -> None:
    with ThreadPoolExecutor(1) as pool, ledger.grows(books=17, events=17):
        wire.hold_at(b"INSERT INTO outbox")
        first = pool.submit(send, over_the_wire, key, WHOLE)
        assert wire.held.wait(10)
        assert_problem(send(writer, key, WHOLE), 409, "request-in-work")
        wire.let_go()
        assert_whole(first.result())


@pytest.mark.parametrize("arrives", [False, True], ids=["commit lost", "answer lost"])
@pytest.mark.parametrize("batches", [0, 2])
def test_an_import_that_loses_the_database_at_a_commit_goes_on_when_it_is_sent_again(  # noqa: PLR0913, PLR0917
    over_the_wire: httpx.Client,
    ledger: Ledger,
    wire: Wire,
    key: str,
    batches: int,
    arrives: bool,  # noqa: FBT001  a case
) -> None:
    before = ledger.counts()[0]
    begun = len(HEADER + BAD) + len(rows(batches * BATCH))

    def content() -> Iterator[bytes]:
        yield WHOLE[:begun] if batches else b""
        eventually(lambda: ledger.counts()[0] == before + batches * BATCH)
        wire.cut_at(b"\x03COMMIT", arrives=arrives)
        yield WHOLE[begun:] if batches else WHOLE

    with ledger.grows(books=17, events=17):
        lost = send(over_the_wire, key, content())
        assert_problem(lost, 503, "outcome-unknown", "send it again" if batches else "")
        assert_whole(send(over_the_wire, key, WHOLE))


def test_a_key_is_kept_for_a_day_after_the_last_step(
    api: Api, writer: httpx.Client, ledger: Ledger, key: str
) -> None:
    engine = thread_engine(api.settings)
    age = text("UPDATE idempotency_key SET created_at = created_at - INTERVAL :hours HOUR")
    leave_after(api, ledger, key, HEADER + rows(3) + BAD + rows(2, 3), BATCH)
    for hours, more, replayed in ((20, 12, False), (20, 0, True), (25, 17, False)):
        with engine.begin() as connection:
            connection.execute(age, {"hours": hours})
        with ledger.grows(books=more, events=more):
            assert_whole(send(writer, key, WHOLE), replayed=replayed)
    engine.dispose()
