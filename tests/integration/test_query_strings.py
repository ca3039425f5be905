"""No call of `/v1` takes part of an address for nothing."""

from typing import Any

import httpx
import pytest

from api.app import openapi_document
from tests.fixtures.api import Api

FORMS = {"/v1/auth/token", "/v1/auth/revoke"}
CALLS = [
    (method.upper(), path)
    for path, methods in openapi_document()["paths"].items()
    for method in [*methods, *(["head"] if "get" in methods else [])]
    if path.startswith("/v1/")
]
DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}


@pytest.fixture
def token(api: Api) -> str:
    found: str = api.login()["access_token"]
    return found


def call(api: Api, token: str | None, method: str, address: str) -> httpx.Response:
    with api.client(token) as client:
        body: dict[str, Any] = {"json": DUNE} if method in {"POST", "PUT", "PATCH"} else {}
        if address.partition("?")[0] in FORMS:
            body = {"data": {"grant_type": "password", "token": "x"}}
        if ":import" in address:
            body = {"content": b"", "headers": {"Content-Type": "application/x-ndjson"}}
        return client.request(method, address, **body)


@pytest.mark.parametrize(
    ("query", "pointer", "detail"),
    [
        ("foo=1", "/query/foo", "is not a known field"),
        ("dry_run", "/query/dry_run", "is not a known field"),
        ("%FF=1", "/query", "has a name that is not UTF-8"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [it for it in CALLS if it[1] not in FORMS])
def test_a_parameter_that_a_call_does_not_know_is_refused(  # noqa: PLR0913, PLR0917
    api: Api, token: str, method: str, path: str, query: str, pointer: str, detail: str
) -> None:
    answer = call(api, token, method, f"{path.format(id=1)}?{query}")
    assert answer.status_code == 422
    if method != "HEAD":
        assert answer.json()["type"] == "/problems/invalid-input"
        assert {"pointer": pointer, "detail": detail} in answer.json()["errors"]


@pytest.mark.parametrize("path", sorted(FORMS))
@pytest.mark.parametrize("query", ["foo=1", "grant_type=password", "%FF"])
def test_what_belongs_into_a_form_is_refused_in_the_address(api: Api, path: str, query: str) -> None:
    answer = call(api, None, "POST", f"{path}?{query}")
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/invalid-request")
    assert answer.json()["error"] == "invalid_request"
    assert answer.json()["detail"] == "The address has a query; send all fields in the body."


@pytest.mark.parametrize(("method", "path"), [it for it in CALLS if it[1] not in FORMS])
def test_who_may_not_call_learns_nothing_of_parameters(api: Api, method: str, path: str) -> None:
    assert call(api, None, method, f"{path.format(id=1)}?foo=1").status_code == 401


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_question_mark_alone_asks_for_nothing(api: Api, token: str, method: str, path: str) -> None:
    answer = call(api, token, method, f"{path.format(id=2**63 - 1)}?")
    assert "/query" not in answer.text
    assert answer.status_code != 422 or "password" in path


def test_nothing_is_stored_by_a_call_with_an_unknown_parameter(api: Api, token: str) -> None:
    with api.client(token) as client:
        before = client.get("/v1/books?sort=-id&limit=1").json()["items"]
        csv = b"title,author,publication_date\nDune,Frank Herbert,1965-08-01\n"
        headers = {"Content-Type": "text/csv"}
        imported = client.post("/v1/books:import?dry_run=1", content=csv, headers=headers)
        added = client.post("/v1/books?dry_run=1", json=DUNE)
        assert (imported.status_code, added.status_code) == (422, 422)
        assert client.get("/v1/books?sort=-id&limit=1").json()["items"] == before
