"""An operator may demand that each change says which version of the book it means."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from api.settings import ApiSettings
from tests.fixtures.api import Api, served
from tests.fixtures.ledger import Ledger

DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}
CHANGES: dict[str, dict[str, Any]] = {
    "PUT": {"json": {**DUNE, "title": "Dune Messiah"}},
    "PATCH": {"json": {"title": "Dune Messiah"}},
    "DELETE": {},
}


@pytest.fixture(scope="module")
def demanding(api: Api, api_settings: Callable[..., ApiSettings]) -> Iterator[httpx.Client]:
    with (
        served(api_settings(if_match_required=True)) as found,
        found.client(found.login()["access_token"]) as client,
    ):
        yield client


@pytest.mark.parametrize("method", CHANGES)
def test_a_change_without_if_match_is_428_and_changes_nothing(
    demanding: httpx.Client, ledger: Ledger, method: str
) -> None:
    path = demanding.post("/v1/books", json=DUNE).headers["location"]
    with ledger.grows():
        answer = demanding.request(method, path, **CHANGES[method])
    assert (answer.status_code, answer.json()["type"]) == (428, "/problems/condition-required")
    assert "If-Match" in answer.json()["detail"]


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize("if_match", ['"1"', "*"])
def test_a_change_with_it_is_made(demanding: httpx.Client, method: str, if_match: str) -> None:
    path = demanding.post("/v1/books", json=DUNE).headers["location"]
    answer = demanding.request(method, path, headers={"If-Match": if_match}, **CHANGES[method])
    assert answer.is_success


def test_no_one_needs_it_unless_the_operator_says_so(writer: httpx.Client) -> None:
    path = writer.post("/v1/books", json=DUNE).headers["location"]
    assert writer.delete(path).status_code == 204
