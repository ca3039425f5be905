"""What browsers and caches are told, whatever the answer is."""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from api.settings import ApiSettings
from common.database import thread_engine
from tests.fixtures.api import Api, served

DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}
ANYWHERE = [
    "/docs",
    "/openapi.json",
    "/livez",
    "/readyz",
    "/metrics",
    "/problems",
    "/static/docs.js",
    "/nothing",
]


@pytest.mark.parametrize("path", [*ANYWHERE, "/v1/books", "/v1/books/1", "/.well-known/jwks.json"])
def test_every_answer_forbids_guessing_its_type_and_telling_where_it_was(api: Api, path: str) -> None:
    with api.client() as client:
        answer = client.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "cache-control" in answer.headers
    assert "strict-transport-security" not in answer.headers


def test_books_are_for_one_user_and_asked_for_again(api: Api) -> None:
    with api.client(api.login()["access_token"]) as client:
        added = client.post("/v1/books", json=DUNE)
        book = client.get(added.headers["location"])
        same = client.get(added.headers["location"], headers={"If-None-Match": book.headers["etag"]})
        page = client.get("/v1/books")
    assert same.status_code == 304
    for answer in (added, book, same, page):
        assert answer.headers["cache-control"] == "private, no-cache"
        assert answer.headers["vary"] == "Authorization"


@pytest.mark.parametrize("path", ["/v1/books", "/v1/books/0", "/nothing"])
def test_an_error_is_not_kept(api: Api, path: str) -> None:
    for token in (None, api.login()["access_token"]):
        with api.client(token) as client:
            answer = client.request("PATCH" if path == "/v1/books" else "GET", path)
        assert answer.is_error
        assert answer.headers["cache-control"] == "no-store"


def test_an_error_that_nobody_foresaw_says_the_same(api: Api) -> None:
    with api.client(api.login()["access_token"]) as client:
        path = client.post("/v1/books", json=DUNE).headers["location"]
        engine = thread_engine(api.settings)
        with engine.begin() as connection:
            # The next version does not fit into its column, which no error of ours foresees.
            connection.execute(
                text("UPDATE book SET version = 2147483647 WHERE id = :id"), {"id": path.rpartition("/")[2]}
            )
        engine.dispose()
        answer = client.patch(path, json={"title": "Dune Messiah"})
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-error")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"


def test_tokens_are_not_kept_and_keys_are(api: Api) -> None:
    assert api.ask_token().headers["cache-control"] == "no-store"
    with api.client() as client:
        assert client.get("/.well-known/jwks.json").headers["cache-control"] == "public, max-age=300"


def test_the_docs_run_our_own_scripts_alone(api: Api) -> None:
    with api.client() as client:
        policy = client.get("/docs").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "frame-ancestors 'none'" in policy


def test_browsers_are_told_to_stay_with_tls_where_the_operator_says_so(
    api_settings: Callable[..., ApiSettings],
) -> None:
    with served(api_settings(hsts_seconds=600)) as found, found.client() as client:
        for path in ("/docs", "/nothing"):
            assert client.get(path).headers["strict-transport-security"] == "max-age=600"
