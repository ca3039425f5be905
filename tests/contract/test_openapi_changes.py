"""No change of the description breaks the clients that were built from openapi-released.json."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.app import openapi_document
from tests.contract.openapi_changes import breaking

RELEASED = json.loads(Path(__file__).with_name("openapi-released.json").read_text("utf-8"))
Change = Callable[[dict[str, Any]], object]
BOOKS, BOOK = "/v1/books", "/v1/books/{id}"


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][name]
    return found


def parameter(document: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [it for it in document["paths"][BOOKS]["get"]["parameters"] if it["name"] == name]
    assert isinstance(found, dict)
    return found


def call(document: dict[str, Any], path: str, method: str) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][path][method]
    return found


def new_parameter(*, required: bool) -> dict[str, Any]:
    return {"name": "shop", "in": "query", "required": required, "schema": {"type": "string"}}


def changed(change: Change) -> list[str]:
    document = copy.deepcopy(RELEASED)
    change(document)
    return breaking(RELEASED, document)


def test_nothing_breaks_those_who_have_built_a_client() -> None:
    found = breaking(RELEASED, openapi_document())
    assert found == [], "clients would break; if that is meant, give the calls another address (/v2)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: it["paths"].pop("/v1/books:export"), "GET /v1/books:export: is gone"),
        (lambda it: it["paths"][BOOK].pop("patch"), "PATCH /v1/books/{id}: is gone"),
        (lambda it: call(it, BOOK, "get").update(operationId="readBook"), "operationId was getBook"),
        (lambda it: call(it, BOOKS, "post")["responses"].pop("201"), "POST /v1/books 201: is gone"),
        (
            lambda it: call(it, BOOKS, "post")["responses"]["201"]["headers"].pop("ETag"),
            "201 ETag: the header",
        ),
        (lambda it: schema(it, "Book")["properties"].pop("version"), ".version: is gone"),
        (lambda it: schema(it, "Book")["required"].remove("version"), ".version: is not always there"),
        (
            lambda it: schema(it, "Book")["properties"]["id"].update(type="string"),
            ".id: type string against integer",
        ),
        (
            lambda it: schema(it, "Book")["properties"]["updated_at"].pop("format"),
            "format None against date-time",
        ),
        (lambda it: schema(it, "NewBook")["required"].append("isbn"), "json.isbn: is required now"),
        (
            lambda it: schema(it, "NewBook")["properties"]["title"].update(maxLength=200),
            "maxLength 300 against 200",
        ),
        (
            lambda it: schema(it, "NewBook")["properties"]["publication_date"].update(pattern="^A"),
            "pattern None against ^A",
        ),
        (lambda it: schema(it, "BookPatch")["properties"].pop("author"), ".author: is refused now"),
        (
            lambda it: parameter(it, "limit")["schema"].update(maximum=100),
            "query.limit: maximum 200 against 100",
        ),
        (lambda it: parameter(it, "sort")["schema"]["enum"].remove("-id"), "query.sort: values"),
        (lambda it: parameter(it, "author").update(name="writer"), "query.author: is gone"),
        (
            lambda it: parameter(it, "author")["schema"].update(anyOf=[{"type": "null"}]),
            "type string against null",
        ),
        (
            lambda it: call(it, BOOKS, "get")["parameters"].append(new_parameter(required=True)),
            "query.shop: is required now",
        ),
        (
            lambda it: call(it, BOOKS, "get").update(security=[{"login": ["outbox:admin"]}]),
            "GET /v1/books: the login or scope",
        ),
        (
            lambda it: call(it, "/.well-known/jwks.json", "get").update(security=[{"login": []}]),
            "jwks.json: the login or scope",
        ),
        (
            lambda it: call(it, BOOK, "patch")["requestBody"]["content"].pop("application/merge-patch+json"),
            "merge-patch+json: is not taken",
        ),
        (
            lambda it: call(it, "/v1/books:export", "get")["responses"]["200"]["content"].pop("text/csv"),
            "200 text/csv: is gone",
        ),
        (
            lambda it: schema(it, "Book")["properties"]["id"].update(oneOf=[]),
            "cannot be compared, because of oneOf",
        ),
    ],
)
def test_a_change_that_breaks_clients_is_found(change: Change, words: str) -> None:
    found = changed(change)
    assert any(words in each for each in found), found


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it["paths"].update({"/v2/books": it["paths"][BOOKS]}),
        lambda it: schema(it, "Book")["properties"].update(isbn={"type": "string"}),
        lambda it: schema(it, "NewBook")["properties"].update(isbn={"type": "string"}),
        lambda it: schema(it, "NewBook")["properties"]["title"].update(maxLength=500),
        lambda it: schema(it, "NewBook")["required"].remove("author"),
        lambda it: schema(it, "Book").update(description="Another sentence."),
        lambda it: parameter(it, "sort")["schema"]["enum"].append("version"),
        lambda it: call(it, BOOKS, "get")["parameters"].append(new_parameter(required=False)),
        lambda it: call(it, BOOKS, "get")["responses"].update({"451": {"description": "Too fast."}}),
        lambda it: call(it, BOOKS, "get").update(security=[]),
        lambda it: call(it, BOOKS, "get")["responses"].pop("503"),
    ],
)
def test_what_is_only_added_breaks_nobody(change: Change) -> None:
    assert changed(change) == []
