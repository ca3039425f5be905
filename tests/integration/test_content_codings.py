"""Bodies come plain and in UTF-8: whatever else a request says of its body is refused, not misread."""

import gzip
import json
from typing import Any

import httpx
import pytest

from tests.fixtures.api import Api

DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}
CSV = b"title,author,publication_date\nDune,Frank Herbert,1965-08-01\n"
LOGIN = b"grant_type=password&username=writer&password=x"
BODIES = {
    "/v1/books": ("application/json", json.dumps(DUNE).encode()),
    "/v1/books:import": ("text/csv", CSV),
    "/v1/auth/token": ("application/x-www-form-urlencoded", LOGIN),
    "/v1/auth/revoke": ("application/x-www-form-urlencoded", b"token=x"),
    "/v1/auth/password": ("application/json", b"{}"),
}


@pytest.fixture(scope="module")
def token(api: Api) -> str:
    found: str = api.login()["access_token"]
    return found


def post(api: Api, token: str, path: str, content: bytes, **headers: Any) -> httpx.Response:  # noqa: ANN401
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with api.client(token) as client:
        return client.post(path, content=content, headers=named)


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip", "x-unknown"])
@pytest.mark.parametrize("path", BODIES)
def test_a_body_that_is_coded_is_415_and_says_what_would_be_taken(
    api: Api, token: str, path: str, coding: str
) -> None:
    media_type, body = BODIES[path]
    answer = post(api, token, path, gzip.compress(body), content_type=media_type, content_encoding=coding)
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")
    assert answer.headers["accept-encoding"] == "identity"
    assert answer.json()["detail"] == "Send the body plain, without Content-Encoding."


@pytest.mark.parametrize("coding", ["identity", "", "Identity"])
@pytest.mark.parametrize("path", BODIES)
def test_a_body_that_is_said_to_be_plain_is_read(api: Api, token: str, path: str, coding: str) -> None:
    media_type, body = BODIES[path]
    assert post(api, token, path, body, content_type=media_type, content_encoding=coding).status_code != 415


@pytest.mark.parametrize("charset", ["latin1", "iso-8859-1", "utf-16", '"windows-1252"', "''"])
@pytest.mark.parametrize("path", BODIES)
def test_a_body_in_another_charset_is_415(api: Api, token: str, path: str, charset: str) -> None:
    media_type, body = BODIES[path]
    answer = post(api, token, path, body, content_type=f"{media_type}; charset={charset}")
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")
    assert "UTF-8" in answer.json()["detail"]


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "us-ascii"])
@pytest.mark.parametrize("path", BODIES)
def test_utf_8_and_what_it_contains_may_be_named(api: Api, token: str, path: str, charset: str) -> None:
    media_type, body = BODIES[path]
    assert post(api, token, path, body, content_type=f"{media_type}; Charset={charset}").status_code != 415


@pytest.mark.parametrize("path", BODIES)
def test_a_media_type_longer_than_any_that_is_meant_is_415(api: Api, token: str, path: str) -> None:
    media_type, body = BODIES[path]
    longest = f"{media_type}; x=".ljust(256, "y")
    assert post(api, token, path, body, content_type=longest).status_code != 415
    answer = post(api, token, path, body, content_type=f"{longest}y")
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")
    assert "256 characters" in answer.json()["detail"]
