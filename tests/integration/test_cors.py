"""Pages of other origins: nothing by default, and all that they need where the operator names them."""

import socket
from collections.abc import Callable, Iterator

import httpx
import pytest
from sqlalchemy import text

from api.settings import ApiSettings
from common.database import thread_engine
from tests.fixtures.api import Api, served

SHOP, OTHER = "https://shop.example", "https://evil.example"
PREFLIGHT = {
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "authorization,content-type,if-match,idempotency-key,traceparent",
}
ALLOWED = "access-control-allow-origin"


@pytest.fixture(scope="module")
def opened(api: Api, api_settings: Callable[..., ApiSettings]) -> Iterator[Api]:
    origins = f"{SHOP}, http://localhost:5173"
    with served(api_settings(cors_allowed_origins=origins, rate_limit_login=5)) as found:
        yield found


def test_by_default_no_page_may_read_anything(api: Api) -> None:
    with api.client() as client:
        answers = [
            client.get("/v1/books", headers={"Origin": SHOP}),
            client.options("/v1/books", headers={"Origin": SHOP, **PREFLIGHT}),
        ]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert answers[1].headers["allow"] == "GET, HEAD, POST, OPTIONS"


@pytest.mark.parametrize("origin", [SHOP, "http://localhost:5173"])
def test_a_page_of_an_allowed_origin_may_ask_all_that_a_client_asks(opened: Api, origin: str) -> None:
    with opened.client() as client:
        answer = client.options("/v1/books/1", headers={"Origin": origin, **PREFLIGHT})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers[ALLOWED] == origin
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, POST, PUT, PATCH, DELETE"
    sent = {name.strip() for name in answer.headers["access-control-allow-headers"].lower().split(",")}
    assert sent >= {"if-none-match", *PREFLIGHT["Access-Control-Request-Headers"].split(",")}
    assert answer.headers["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "origin", [OTHER, "null", f"{SHOP}.evil.example", f"{SHOP}:8443", "http://shop.example"]
)
def test_a_page_of_another_origin_is_told_nothing(opened: Api, origin: str) -> None:
    with opened.client() as client:
        answers = [
            client.options("/v1/books/1", headers={"Origin": origin, **PREFLIGHT}),
            client.get("/v1/books", headers={"Origin": origin}),
        ]
    for answer in answers:
        assert ALLOWED not in answer.headers
        assert "Origin" in answer.headers["vary"]


def test_an_answer_depends_on_the_origin_also_for_who_sends_none(opened: Api) -> None:
    # Another test has used up the logins of its address.
    token = opened.seen_from("127.0.0.2").login()["access_token"]
    with opened.client(token) as client:
        answer = client.get("/v1/books")
    assert answer.headers["vary"] == "Origin, Authorization"
    assert ALLOWED not in answer.headers


def test_options_without_a_preflight_still_names_the_methods(opened: Api) -> None:
    with opened.client() as client:
        answer = client.options("/v1/books", headers={"Origin": SHOP})
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, POST, OPTIONS")
    assert answer.headers[ALLOWED] == SHOP


def test_a_page_may_read_errors_too_and_the_headers_that_it_needs(opened: Api) -> None:
    with opened.client() as client:
        # Five are let in, in each second.
        logins = (client.post("/v1/auth/token", headers={"Origin": SHOP}) for _ in range(100))
        refused = next(answer for answer in logins if answer.status_code != 415)
        unknown = client.get("/v1/books", headers={"Origin": SHOP})
        missing = client.get("/nothing", headers={"Origin": SHOP})
    assert [each.status_code for each in (refused, unknown, missing)] == [429, 401, 404]
    for answer in (refused, unknown, missing):
        assert answer.headers[ALLOWED] == SHOP
        read = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert read >= {"ETag", "Location", "Link", "Retry-After", "RateLimit", "RateLimit-Policy"}
        assert "Idempotent-Replayed" in read


def told(api: Api, sent: bytes) -> httpx.Headers:
    """The headers of all that is said until the server closes, or of its first words."""
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        connection.sendall(sent)
        answer = connection.recv(65_536)
    _, *lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return httpx.Headers([(name, value) for name, _, value in (line.partition(b": ") for line in lines)])


LATE = (
    b"POST /v1/books HTTP/1.1\r\nHost: a\r\nOrigin: %s\r\nContent-Type: application/json\r\n"
    b"Content-Length: 9\r\n\r\n{"
)
NAMELESS = b"GET /v1/books HTTP/1.1\r\nOrigin: %s\r\n\r\n"
LONG = b"GET /v1/books HTTP/1.1\r\nHost: a\r\nOrigin: %s\r\nX: " + b"a" * 20_000 + b"\r\n\r\n"
ENDLESS = b"GET /v1/books HTTP/1.1\r\nHost: a\r\nOrigin: %s\r\nX: a\r\nY: "


@pytest.mark.parametrize("request_", [LATE, NAMELESS, LONG, ENDLESS], ids=["408", "400", "431", "408 head"])
def test_a_page_may_read_what_is_said_of_its_connection(
    opened: Api, monkeypatch: pytest.MonkeyPatch, request_: bytes
) -> None:
    monkeypatch.setattr("api.connections.HEAD_SECONDS", 1.0)
    monkeypatch.setattr("api.connections.SILENT_SECONDS", 1.0)
    answer = told(opened, request_ % SHOP.encode())
    assert answer["content-type"] == "application/problem+json"
    assert (answer[ALLOWED], answer["vary"]) == (SHOP, "Origin")
    assert "Retry-After" in answer["access-control-expose-headers"]
    assert ALLOWED not in told(opened, request_ % OTHER.encode())


def test_what_is_said_of_a_connection_is_for_no_page_of_a_request_before(
    opened: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.connections.HEAD_SECONDS", 1.0)
    host, port = opened.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nOrigin: %s\r\n\r\n" % SHOP.encode())
        answer = b""
        while not answer.endswith(b'"alive"}'):
            answer += connection.recv(65_536)
        assert SHOP.encode() in answer
        connection.sendall(b"\r\n")
        answer = connection.recv(65_536)
    assert b"/problems/too-slow" in answer
    assert SHOP.encode() not in answer


def test_where_no_origin_is_allowed_none_is_spoken_of(api: Api) -> None:
    answer = told(api, NAMELESS % SHOP.encode())
    assert not [name for name in answer if name.startswith("access-control-") or name == "vary"]


def test_a_page_may_read_an_error_that_nobody_foresaw(opened: Api, api: Api) -> None:
    with opened.client(api.login()["access_token"]) as client:
        book = client.post(
            "/v1/books", json={"title": "a", "author": "b", "publication_date": "2000-01-01"}
        ).headers["location"]
        engine = thread_engine(opened.settings)
        with engine.begin() as connection:
            # The next version does not fit into its column, which no error of ours foresees.
            connection.execute(
                text("UPDATE book SET version = 2147483647 WHERE id = :id"), {"id": book.rpartition("/")[2]}
            )
        engine.dispose()
        answer = client.patch(book, json={"title": "b"}, headers={"Origin": SHOP})
    assert (answer.status_code, answer.headers[ALLOWED]) == (500, SHOP)
