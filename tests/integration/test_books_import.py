"""The import over HTTP; how rows are read is told by tests/property/test_csv_rows.py and its neighbour."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.books.import_routes import ROWS_PER_TRANSACTION
from common.database import thread_engine
from tests.fixtures.api import Api
from tests.fixtures.ledger import Ledger
from tests.waiting import eventually

PATH = "/v1/books:import"
CSV = {"Content-Type": "text/csv"}
NDJSON = {"Content-Type": "application/x-ndjson"}
HEADER = b"title,author,publication_date\n"
DUNE = b"Dune,Frank Herbert,1965-08-01\n"
BAD = b"Dune,Frank Herbert,1965-8-1\n"


def imported(writer: httpx.Client, content: bytes | Iterator[bytes]) -> dict[str, Any]:
    answer = writer.post(PATH, content=content, headers=CSV)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    assert set(found) == {"accepted", "rejected", "errors"}
    return found


def report(accepted: int) -> dict[str, Any]:
    return {"accepted": accepted, "rejected": 0, "errors": []}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\xef\xbb\xbf",
        DUNE,
        b"\n" + HEADER + DUNE,
        b"title,author\nDune,Frank Herbert\n",
        b"author,title,publication_date\n" + DUNE,
        b"Title,Author,Publication_Date\n" + DUNE,
        b"title, author, publication_date\n" + DUNE,
        b"title;author;publication_date\nDune;Frank Herbert;1965-08-01\n",
        b"title,author,publication_date,isbn\n" + DUNE,
        b'"title,author,publication_date\n' + DUNE,
        b"t\xefitle,author,publication_date\n" + DUNE,
        (HEADER + DUNE).decode().encode("utf-16"),
        b"x" * 100_000,
    ],
)
def test_a_file_with_another_header_is_refused_whole(
    writer: httpx.Client, ledger: Ledger, content: bytes
) -> None:
    with ledger.grows():
        answer = writer.post(PATH, content=content, headers=CSV)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-input")
    assert answer.json()["errors"] == [
        {"pointer": "", "detail": "the first line must be title,author,publication_date"}
    ]


@pytest.mark.parametrize(
    ("content", "accepted"),
    [
        (HEADER, 0),
        (HEADER.rstrip(), 0),
        (HEADER + b"\n\r\n\n", 0),
        (HEADER + DUNE, 1),
        (HEADER + DUNE.rstrip(), 1),
        (b"\xef\xbb\xbf" + HEADER + DUNE, 1),
        ((HEADER + DUNE + DUNE).replace(b"\n", b"\r\n"), 2),
        (b'"title","author","publication_date"\n"Dune","Herbert, Frank",1965-08-01\n', 1),
        (HEADER + b'"Two\nlines","""Quoted""",1965-08-01\n', 1),
    ],
)
def test_each_row_of_a_good_file_is_a_book_and_an_event(
    writer: httpx.Client, ledger: Ledger, content: bytes, accepted: int
) -> None:
    with ledger.grows(books=accepted, events=accepted):
        assert imported(writer, content) == report(accepted)


def test_fields_are_stored_as_those_of_a_single_book(writer: httpx.Client, ledger: Ledger) -> None:
    imported(writer, HEADER + '" Ubik\n2 ",🎈,9999-12-31\n'.encode())
    book = writer.get("/v1/books?sort=-id&limit=1").json()["items"][0]
    assert (book["title"], book["author"], book["publication_date"]) == ("Ubik\n2", "🎈", "9999-12-31")
    assert book["version"] == 1
    assert ledger.events(book["id"]) == [("created", 1)]


def test_rejected_rows_are_reported_by_line_and_stop_no_other(writer: httpx.Client, ledger: Ledger) -> None:
    rows = [
        DUNE,  # line 2
        BAD,
        b'"Two\nlines",x,2000-01-01\n',  # lines 4 and 5
        b"\n",
        b"only,two\n",  # line 7
        b",Frank Herbert,\n",
        b"D\xffne,x,2000-01-01\n",
        b'"Dune"x,y,2000-01-01\n',
        b"a\x00b,x,2000-01-01\n",
        b"x" * 301 + b",y,2000-01-01\n",
        DUNE,
        b'"open,x,2000-01-01\n',  # line 14
    ]
    with ledger.grows(books=3, events=3):
        found = imported(writer, HEADER + b"".join(rows))
    assert (found["accepted"], found["rejected"]) == (3, 8)
    assert [error["line"] for error in found["errors"]] == [3, 7, 8, 9, 10, 11, 12, 14]
    reasons = [error["reason"].partition(":")[0] for error in found["errors"]]
    assert reasons == [
        "publication_date",
        "has 2 fields instead of 3",
        "title",
        "is not UTF-8",
        "is not CSV",
        "title",
        "title",
        "has a quote that is never closed",
    ]
    # Both faults of line 8.
    assert "; publication_date: must be a date" in found["errors"][2]["reason"]


def test_the_first_thousand_rejections_are_told_and_all_are_counted(
    writer: httpx.Client, ledger: Ledger
) -> None:
    with ledger.grows(books=1, events=1):
        found = imported(writer, HEADER + BAD * 1001 + DUNE)
    assert (found["accepted"], found["rejected"], len(found["errors"])) == (1, 1001, 1000)
    assert [error["line"] for error in found["errors"]] == list(range(2, 1002))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_body_that_comes_in_pieces_is_read_like_one_that_comes_whole(
    writer: httpx.Client, ledger: Ledger, size: int
) -> None:
    content = b"\xef\xbb\xbf" + HEADER + "Größe,🎈,2000-01-01\r\n".encode() * 9 + BAD
    pieces = (content[at : at + size] for at in range(0, len(content), size))
    with ledger.grows(books=9, events=9):
        found = imported(writer, pieces)
    assert (found["accepted"], [error["line"] for error in found["errors"]]) == (9, [11])


def test_a_file_beyond_the_limit_of_other_bodies_is_stored_in_its_order(
    writer: httpx.Client, ledger: Ledger
) -> None:
    count = 8 * ROWS_PER_TRANSACTION + 1
    rows = "".join(f"{number},in order,2000-01-01\n" for number in range(count))
    assert len(rows) > 65_536
    with ledger.grows(books=count, events=count):
        assert imported(writer, HEADER + rows.encode()) == report(count)
    first = writer.get("/v1/books?author=in+order&limit=200").json()["items"]
    last = writer.get("/v1/books?author=in+order&limit=1&sort=-id").json()["items"]
    assert [book["title"] for book in first + last] == [*map(str, range(200)), str(count - 1)]


@pytest.mark.parametrize(
    "media_type", [None, "", "text/plain", "text/csv2", "application/json", "multipart/form-data; boundary=x"]
)
def test_another_media_type_is_415(writer: httpx.Client, ledger: Ledger, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    with ledger.grows():
        answer = writer.post(PATH, content=HEADER + DUNE, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")
    assert answer.json()["detail"] == "Send the rows as text/csv or application/x-ndjson."


@pytest.mark.parametrize(
    "media_type",
    [
        "text/csv; charset=utf-8; header=present",
        'text/csv; charset="UTF-8"',
        "text/csv;charset=US-ASCII",
        "Text/CSV",
        "text/csv ;x=y",
    ],
)
def test_parameters_and_case_of_the_media_type_do_not_matter(writer: httpx.Client, media_type: str) -> None:
    answer = writer.post(PATH, content=HEADER, headers={"Content-Type": media_type})
    assert answer.json() == report(0)


@pytest.mark.parametrize(
    "parameters",
    [
        "charset=utf-16",
        "header=present; CHARSET=ISO-8859-1",
        'charset="utf-16"',
        "charset=utf-8; charset=utf-16",
        "charset*=utf-8''utf-16",
        "charset=",
    ],
)
def test_a_charset_that_rows_are_not_read_in_is_415(
    writer: httpx.Client, ledger: Ledger, parameters: str
) -> None:
    with ledger.grows():
        answer = writer.post(PATH, content=HEADER + DUNE, headers={"Content-Type": f"text/csv; {parameters}"})
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")
    assert "UTF-8" in answer.json()["detail"]


def test_lines_of_ndjson_are_books_and_events_or_reported_by_their_number(
    writer: httpx.Client, ledger: Ledger
) -> None:
    dune = b'{"title":"Dune","author":"Frank Herbert","publication_date":"1965-08-01"}\n'
    lines = [dune, b"\r\n", b"[]\n", b'{"\\ud800":1}\n', dune.replace(b"\n", b"\r\n"), dune.rstrip()]
    with ledger.grows(books=3, events=3):
        answer = writer.post(PATH, content=b"".join(lines), headers=NDJSON)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["accepted"], found["rejected"]) == (3, 2)
    assert [error["line"] for error in found["errors"]] == [3, 4]


def test_what_is_exported_as_ndjson_can_be_imported_again_as_new_books(
    writer: httpx.Client, ledger: Ledger
) -> None:
    imported(writer, HEADER + '"Two\nlines",🎈,9999-12-31\n'.encode())
    whole = writer.get("/v1/books:export", headers={"Accept": "application/x-ndjson"}).content
    count = whole.count(b"\n")
    with ledger.grows(books=count, events=count):
        assert writer.post(PATH, content=whole, headers=NDJSON).json() == report(count)
    last, *_ = writer.get("/v1/books?sort=-id&limit=1").json()["items"]
    assert (last["title"], last["author"], last["version"]) == ("Two\nlines", "🎈", 1)


@pytest.mark.parametrize(("batches", "kind"), [(0, "contended"), (1, "outcome-unknown")])
def test_an_import_that_meets_a_lock_is_contended_only_as_long_as_nothing_is_stored(
    api: Api, writer: httpx.Client, ledger: Ledger, batches: int, kind: str
) -> None:
    before, stored = ledger.counts()[0], batches * ROWS_PER_TRANSACTION
    engine = thread_engine(api.settings)
    with engine.connect() as other:

        def rows() -> Iterator[bytes]:
            yield HEADER + DUNE * stored
            eventually(lambda: ledger.counts()[0] == before + stored)
            other.exec_driver_sql("LOCK TABLES outbox WRITE")
            yield DUNE

        answer = writer.post(PATH, content=rows(), headers=CSV)
        other.exec_driver_sql("UNLOCK TABLES")
    engine.dispose()
    assert (answer.status_code, answer.json()["type"]) == (503, f"/problems/{kind}")
    assert (f"The first {stored} good rows" in answer.json()["detail"]) == (batches > 0)
    assert ledger.counts()[0] == before + stored


def test_a_client_that_leaves_in_the_middle_has_stored_whole_batches_and_logs_no_trace(
    api: Api, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    before = ledger.counts()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 10000000\r\n"
        f"Authorization: Bearer {api.login()['access_token']}\r\n\r\n"
    )
    url = httpx.URL(api.url)
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(head.encode() + HEADER + DUNE * (ROWS_PER_TRANSACTION + 7))
        stored = (before[0] + ROWS_PER_TRANSACTION, before[1] + ROWS_PER_TRANSACTION)
        eventually(lambda: ledger.counts() == stored, because="the first batch is stored")
    eventually(lambda: ended_early(api), because="the request has ended")
    assert ledger.counts() == stored
    assert [record for record in caplog.records if record.exc_info] == []


def ended_early(api: Api) -> bool:
    with api.client() as client:
        return f'method="POST",route="{PATH}",status="400"' in client.get("/metrics").text
