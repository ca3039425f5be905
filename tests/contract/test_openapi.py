"""What clients of the REST API are built from, and that it tells of every answer that they get."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator

from api.app import openapi_document
from common.tokens import SCOPES
from tests.fixtures.api import PASSWORD, Api
from tests.fixtures.schema import ROOT

SNAPSHOT = Path(__file__).with_name("openapi.json")
DOCUMENT = openapi_document()
PROBLEM = "application/problem+json"
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
CALLS = {
    "POST /v1/auth/token",
    "POST /v1/auth/revoke",
    "POST /v1/auth/sign-out",
    "POST /v1/auth/password",
    "GET /.well-known/jwks.json",
    "POST /v1/books",
    "GET /v1/books",
    "GET /v1/books/{id}",
    "PUT /v1/books/{id}",
    "PATCH /v1/books/{id}",
    "DELETE /v1/books/{id}",
    "POST /v1/books:import",
    "GET /v1/books:export",
}
DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}
LOGIN = {"grant_type": "password", "username": "writer", "password": PASSWORD}
PASSWORDS = {"current_password": PASSWORD, "new_password": PASSWORD}
JSON, CSV = {"Content-Type": "application/json"}, {"Content-Type": "text/csv"}
NDJSON = {"Content-Type": "application/x-ndjson"}
HEADER = b"title,author,publication_date"
LOST = "/v1/books/9223372036854775807"


def schema_of(content: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = content["schema"]
    name = schema.get("$ref", "").removeprefix("#/components/schemas/")
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name] if name else schema
    return found


def headers_of(response: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name, those of the components too."""
    shared = DOCUMENT["components"]["headers"]
    found = response.get("headers", {}).items()
    return {name: shared[it["$ref"].rpartition("/")[2]] if "$ref" in it else it for name, it in found}


def examples_of(content: dict[str, Any]) -> list[Any]:
    """Those of the media type, or of its schema."""
    named = [example["value"] for example in content.get("examples", {}).values()]
    single = [content["example"]] if "example" in content else []
    return [*named, *single, *schema_of(content).get("examples", [])]


def known_members(schema: dict[str, Any], example: dict[str, Any]) -> set[str]:
    """No example shows what the schema does not tell of, unless it is open on purpose."""
    is_open = schema.get("additionalProperties") is True
    return set(example) if is_open else set(schema.get("properties", example))


def assert_has_examples_of_its_schema(content: dict[str, Any]) -> None:
    schema = schema_of(content)
    assert schema
    assert examples_of(content)
    # What the schema refers to is looked up in the components beside it.
    validator = OAS31Validator(
        {**schema, "components": DOCUMENT["components"]}, format_checker=OAS31Validator.FORMAT_CHECKER
    )
    for example in examples_of(content):
        validator.validate(example)
        assert not isinstance(example, dict) or set(example) <= known_members(schema, example)


def test_the_committed_description_is_what_the_code_gives() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "api", "openapi"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert made.stdout == SNAPSHOT.read_text(), "run `python -m api openapi >tests/contract/openapi.json`"


def test_all_calls_of_the_design_are_described_and_no_others() -> None:
    assert set(OPERATIONS) == CALLS


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_is_and_what_it_takes(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["operationId"].isidentifier()
    assert operation["summary"]
    assert operation["description"]
    assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
    has_body = name.startswith(("POST", "PUT", "PATCH")) and not name.endswith("/sign-out")
    assert ("requestBody" in operation) is has_body
    for content in operation.get("requestBody", {"content": {}})["content"].values():
        assert_has_examples_of_its_schema(content)


def test_every_header_and_parameter_has_a_description_and_an_example() -> None:
    for operation in OPERATIONS.values():
        headers = [it for response in operation["responses"].values() for it in headers_of(response).values()]
        for each in [*headers, *operation.get("parameters", ())]:
            assert each["description"]
            defaults = [each["schema"]["default"]] if "default" in each["schema"] else []
            assert_has_examples_of_its_schema({"schema": {"examples": defaults, **each["schema"]}})


def test_a_link_leads_to_an_operation_and_fills_what_that_takes() -> None:
    by_id = {operation["operationId"]: operation for operation in OPERATIONS.values()}
    seen = set()
    for name, operation in OPERATIONS.items():
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                target = by_id[link["operationId"]]
                taken = {f"{it['in']}.{it['name']}" for it in target.get("parameters", ())}
                assert set(link.get("parameters", {})) <= taken
                assert ("requestBody" in link) <= ("requestBody" in target)
                seen.add((name, link["operationId"]))
    added = {("POST /v1/books", it) for it in ("getBook", "replaceBook", "changeBook", "deleteBook")}
    lists = {("GET /v1/books", "listBooks"), ("POST /v1/books:import", "listBooks")}
    assert added | lists | {("GET /v1/books:export", "importBooks")} <= seen


def test_the_login_is_the_password_flow_and_each_call_names_its_scope() -> None:
    flow = DOCUMENT["components"]["securitySchemes"]["login"]["flows"]["password"]
    assert (flow["tokenUrl"], flow["scopes"]) == ("/v1/auth/token", SCOPES)
    scopes = {name: it["security"][0]["login"] for name, it in OPERATIONS.items() if it["security"]}
    books = {name for name in CALLS if "/books" in name}
    assert scopes == {
        **{name: ["books:read" if name.startswith("GET") else "books:write"] for name in books},
        "POST /v1/auth/sign-out": [],
        "POST /v1/auth/password": [],
    }


def test_no_two_operations_have_the_same_id() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_success_is_described_with_schema_and_example(name: str) -> None:
    responses = OPERATIONS[name]["responses"]
    [status] = [status for status in responses if status.startswith("2")]
    if status == "204":
        assert "content" not in responses[status]
    else:
        for content in responses[status]["content"].values():
            assert_has_examples_of_its_schema(content)
    assert responses[status]["description"] not in {"", "Successful Response"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_error_is_a_problem_with_examples(name: str) -> None:
    operation = OPERATIONS[name]
    failures = {status: it for status, it in operation["responses"].items() if status >= "4"}
    assert {"405", "408", "429", "431", "500", "503"} <= set(failures)
    unavailable = {example["type"] for example in examples_of(failures["503"]["content"][PROBLEM])}
    assert "/problems/outcome-unknown" in unavailable, "a server that is stopped cuts any call short"
    assert ("/problems/contended" in unavailable) == ("/problems/database-unavailable" in unavailable)
    [scopes] = [each["login"] for each in operation["security"] or [{"login": []}]]
    assert ("401" in failures) is bool(operation["security"])
    assert ("403" in failures) is bool(scopes)
    for status, response in failures.items():
        assert list(response["content"]) == [PROBLEM]
        assert_has_examples_of_its_schema(response["content"][PROBLEM])
        for example in examples_of(response["content"][PROBLEM]):
            assert example["status"] == int(status)


def is_described(name: str, answer: httpx.Response) -> bool:
    """Whether an answer is one that its operation tells of: status, media type, headers, members."""
    response = OPERATIONS[name]["responses"].get(str(answer.status_code))
    if response is None:
        return False
    headers = headers_of(response)
    if not all(header in answer.headers for header in headers if headers[header].get("required", True)):
        return False
    if not answer.content:
        return "content" not in response
    content = response["content"].get(answer.headers["content-type"])
    if content is None:
        return False
    if answer.is_error:
        return answer.json()["type"] in {example["type"] for example in examples_of(content)}
    return set(answer.json()) == set(schema_of(content).get("properties", ()))


@pytest.mark.parametrize(
    ("name", "path", "options", "status"),
    [
        ("POST /v1/books", "/v1/books", {"json": DUNE}, 201),
        ("POST /v1/books", "/v1/books", {"json": {}}, 422),
        ("POST /v1/books", "/v1/books", {"content": b"{", "headers": JSON}, 400),
        ("POST /v1/books", "/v1/books", {"content": b"{}"}, 415),
        ("POST /v1/books", "/v1/books", {"content": b" " * 65_537}, 413),
        ("GET /v1/books", "/v1/books?limit=1", {}, 200),
        ("GET /v1/books", "/v1/books?limit=0", {}, 422),
        ("GET /v1/books/{id}", "{book}", {}, 200),
        ("GET /v1/books/{id}", "{book}", {"headers": {"If-None-Match": "*"}}, 304),
        ("GET /v1/books/{id}", LOST, {}, 404),
        ("GET /v1/books/{id}", "/v1/books/0", {}, 422),
        ("PUT /v1/books/{id}", "{book}", {"json": DUNE}, 200),
        ("PUT /v1/books/{id}", LOST, {"json": DUNE}, 404),
        ("PUT /v1/books/{id}", "{book}", {"json": DUNE, "headers": {"If-Match": '"9"'}}, 412),
        ("PATCH /v1/books/{id}", "{book}", {"json": {"title": "Dune Messiah"}}, 200),
        ("PATCH /v1/books/{id}", "{book}", {"json": {"isbn": 1}}, 422),
        ("DELETE /v1/books/{id}", "{book}", {"headers": {"If-Match": '"9"'}}, 412),
        ("DELETE /v1/books/{id}", "{book}", {"content": b" " * 65_537}, 413),
        ("DELETE /v1/books/{id}", "{book}", {}, 204),
        ("DELETE /v1/books/{id}", LOST, {}, 404),
        ("POST /v1/books:import", "/v1/books:import", {"content": b"", "headers": CSV}, 422),
        ("POST /v1/books:import", "/v1/books:import", {"content": b""}, 415),
        ("POST /v1/books:import", "/v1/books:import", {"content": HEADER, "headers": CSV}, 200),
        ("POST /v1/books:import", "/v1/books:import", {"content": b"", "headers": NDJSON}, 200),
        ("GET /v1/books:export", "/v1/books:export", {"headers": {"Accept": "image/png"}}, 406),
        ("GET /v1/books:export", "/v1/books:export?author=x", {}, 422),
        ("POST /v1/auth/token", "/v1/auth/token", {"data": LOGIN}, 200),
        ("POST /v1/auth/token", "/v1/auth/token", {"data": {**LOGIN, "password": "no"}}, 400),
        ("POST /v1/auth/token", "/v1/auth/token", {"json": LOGIN}, 415),
        ("POST /v1/auth/revoke", "/v1/auth/revoke", {"data": {"token": "x"}}, 200),
        ("POST /v1/auth/revoke", "/v1/auth/revoke", {"content": b"x" * 65_537}, 413),
        ("POST /v1/auth/sign-out", "/v1/auth/sign-out", {"content": b" " * 65_537}, 413),
        ("POST /v1/auth/sign-out", "/v1/auth/sign-out?all=1", {}, 422),
        ("POST /v1/auth/sign-out", "/v1/auth/sign-out", {}, 204),
        ("POST /v1/auth/password", "/v1/auth/password", {"json": {}}, 422),
        ("POST /v1/auth/password", "/v1/auth/password", {"json": PASSWORDS}, 422),
        ("POST /v1/auth/password", "/v1/auth/password", {"content": b"{"}, 415),
        ("POST /v1/auth/password", "/v1/auth/password", {"content": b"{", "headers": JSON}, 400),
        ("GET /.well-known/jwks.json", "/.well-known/jwks.json", {}, 200),
    ],
)  # fmt: skip  # one case a line reads as a table
def test_what_is_answered_is_described(
    api: Api, name: str, path: str, options: dict[str, Any], status: int
) -> None:
    with api.client(api.login()["access_token"]) as client:
        book = client.post("/v1/books", json=DUNE).headers["location"]
        client.post("/v1/books", json=DUNE)  # so that a page of one is not the last
        answer = client.request(name.split(maxsplit=1)[0], path.format(book=book), **options)
    assert answer.status_code == status, answer.text
    assert is_described(name, answer)
    described = OPERATIONS[name]["responses"][str(status)]
    for header in ("RateLimit", "RateLimit-Policy"):
        assert (header in answer.headers) == (header in headers_of(described))


def test_the_answer_to_another_password_is_described(api: Api) -> None:
    change = {**PASSWORDS, "new_password": "mule wrong capacitor"}
    with api.client(api.login("reader")["access_token"]) as client:
        answer = client.post("/v1/auth/password", json=change)
    assert answer.status_code == 204
    assert is_described("POST /v1/auth/password", answer)


@pytest.mark.parametrize("name", OPERATIONS)
def test_another_method_is_answered_as_described(api: Api, name: str) -> None:
    path = name.split()[1]
    with api.client() as client:
        answer = client.request("TRACE", path.format(id=1))
        options = client.request("OPTIONS", path.format(id=1))
    assert answer.status_code == 405
    assert (options.status_code, options.content) == (204, b"")
    assert options.headers["allow"] == answer.headers["allow"]
    assert is_described(name, answer)
    described = OPERATIONS[name]["responses"]["405"]
    assert answer.json() in examples_of(described["content"][PROBLEM])
    assert described["headers"]["Allow"]["schema"]["examples"] == [answer.headers["allow"]]


@pytest.mark.parametrize("name", [name for name in OPERATIONS if "403" in OPERATIONS[name]["responses"]])
def test_being_refused_is_described(api: Api, name: str) -> None:
    method, path = name.split()
    answers = []
    for token in (None, api.login(scope="outbox:admin")["access_token"]):
        with api.client(token) as client:
            answers.append(client.request(method, path.format(id=1)))
    assert [answer.status_code for answer in answers] == [401, 403]
    assert all(is_described(name, answer) for answer in answers)
