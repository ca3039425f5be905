"""The `type` of every problem leads to a page that explains it."""

import re

import pytest

from api import problem_pages
from tests.contract.test_api_document import TYPES
from tests.fixtures.api import Api


def test_each_kind_is_explained_and_no_other() -> None:
    found = problem_pages.explanations()
    assert set(found) == set(problem_pages.KINDS)
    assert all(set(text) == {"why", "what_to_do"} for text in found.values())


@pytest.mark.parametrize("name", TYPES)
def test_a_type_that_the_description_mentions_leads_to_its_page(api: Api, name: str) -> None:
    with api.client() as client:
        page = client.get(f"/problems/{name}")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert f"/problems/{name}" in page.text
    assert "What to do" in page.text


def test_the_list_leads_to_every_page_and_the_pages_to_what_they_are_made_of(api: Api) -> None:
    with api.client() as client:
        listing = client.get("/problems")
        targets = set(re.findall(r'href="([^"]+)"', listing.text))
        assert {f"/problems/{name}" for name in problem_pages.KINDS} < targets
        assert [client.get(target).status_code for target in targets] == [200] * len(targets)


def test_a_page_runs_nothing_and_may_not_be_framed(api: Api) -> None:
    with api.client() as client:
        page = client.get("/problems/invalid-input")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'; ")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert " style=" not in page.text


@pytest.mark.parametrize("name", ["", "unknown", "<script>", "%2e%2e%2fdocs"])
def test_an_unknown_kind_is_not_found(api: Api, name: str) -> None:
    with api.client() as client:
        answer = client.get(f"/problems/{name}")
        options = client.options(f"/problems/{name}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert options.status_code == 404
