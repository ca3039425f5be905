"""The pages of the API and what they are made of: served from memory, and nowhere framed."""

from pathlib import Path

import httpx
import pytest

import api.docs_pages
from tests.fixtures.api import Api

STATIC = Path(api.docs_pages.__file__).parent / "static"
FILES = sorted(str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file())
PARTS = [f"/static/{name}" for name in FILES if not name.endswith(".html")]
PAGES = ["/docs", "/reference"]
SCRIPT = "/static/docs.js"


def get(api: Api, path: str, **headers: str) -> httpx.Response:
    with api.client() as client:
        return client.get(path, headers=headers)


@pytest.mark.parametrize("path", [*PAGES, *PARTS])
def test_nobody_may_frame_it_or_guess_its_type(api: Api, path: str) -> None:
    answer = get(api, path)
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = set(answer.headers["content-security-policy"].split("; "))
    assert {"default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= policy
    assert answer.headers["content-type"]


@pytest.mark.parametrize("path", PARTS)
def test_a_part_is_the_file_byte_by_byte(api: Api, path: str) -> None:
    assert get(api, path).content == (STATIC / path.removeprefix("/static/")).read_bytes()


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".html")])
def test_a_page_is_not_served_under_the_address_of_its_file(api: Api, name: str) -> None:
    answer = get(api, f"/static/{name}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


@pytest.mark.parametrize("path", ["/docs", SCRIPT, "/openapi.json"])
def test_what_is_asked_for_again_is_sent_once(api: Api, path: str) -> None:
    first = get(api, path)
    tag = first.headers["etag"]
    for tags in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = get(api, path, **{"If-None-Match": tags})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = get(api, path, **{"If-None-Match": '"x"'})
    assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize("path", ["/docs", SCRIPT, "/openapi.json"])
def test_a_head_tells_what_a_get_would(api: Api, path: str) -> None:
    with api.client() as client:
        head, found = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**found.headers, "date": ""}
    assert int(head.headers["content-length"]) == len(found.content)


@pytest.mark.parametrize("asked", ["x", "bytes=0-1", "bytes=9999999-", "bytes=5-1"])
def test_a_range_is_ignored(api: Api, asked: str) -> None:
    answer = get(api, SCRIPT, Range=asked)
    assert (answer.status_code, answer.content) == (200, (STATIC / "docs.js").read_bytes())


def test_the_description_is_written_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starlette.responses.JSONResponse.render", None)
    assert get(api, "/openapi.json").headers["content-type"] == "application/json"
