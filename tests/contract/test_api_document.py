"""docs/api.md tells a client of everything that the description does."""

import pytest

from tests.contract.test_openapi import DOCUMENT, OPERATIONS, examples_of
from tests.fixtures.schema import ROOT

TEXT = (ROOT / "docs/api.md").read_text()
TYPES = sorted(
    {
        example["type"].removeprefix("/problems/")
        for operation in OPERATIONS.values()
        for status, response in operation["responses"].items()
        if status >= "4"
        for content in response["content"].values()
        for example in examples_of(content)
    }
)
PARAMETERS = sorted(
    {
        parameter["name"]
        for operation in OPERATIONS.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query"
    }
)
HEADERS = sorted(
    {
        header
        for operation in OPERATIONS.values()
        for response in operation["responses"].values()
        for header in response.get("headers", {})
    }
    - {"WWW-Authenticate"}
)


def test_the_table_is_not_empty() -> None:
    assert (len(TYPES) > 15, len(PARAMETERS) > 5, len(HEADERS) > 3) == (True, True, True)


@pytest.mark.parametrize("name", [*TYPES, *PARAMETERS, *HEADERS])
def test_a_kind_of_problem_a_parameter_and_a_header_are_told(name: str) -> None:
    assert f"`{name}`" in TEXT


@pytest.mark.parametrize("name", [name for name in OPERATIONS if "jwks" not in name])
def test_a_call_is_told(name: str) -> None:
    assert name in TEXT


def test_every_field_of_a_book_is_told() -> None:
    for field in DOCUMENT["components"]["schemas"]["Book"]["properties"]:
        assert f'"{field}"' in TEXT
