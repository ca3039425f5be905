import json
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel, ConfigDict

from api import problem_handlers, problems
from api.books.json_bodies import JsonRoute
from api.problem_handlers import kind_of
from common.errors import BookstoreError, ContendedError, InvalidInputError, OutcomeUnknownError, Violation

pytestmark = pytest.mark.anyio


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str


def toy() -> httpx.AsyncClient:
    """The handlers behind routes of no other use."""
    app = FastAPI()
    app.router.route_class = JsonRoute
    problem_handlers.install(app)

    @app.post("/things")
    async def add(thing: Thing, limit: Annotated[int, Query(le=9)] = 1) -> str:
        return f"{thing.name} {limit}"

    @app.get("/refused/{status}")
    async def refuse(status: int) -> None:
        raise HTTPException(status, "No.", {"Retry-After": "9"})

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("SELECT secret FROM nowhere")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://toy")


def test_every_error_has_a_row_of_its_own() -> None:
    assert set(problems.ERRORS) == set(BookstoreError.__subclasses__())
    names = [kind.name for kind in (*problems.ERRORS.values(), *problems.STATUSES.values())]
    assert len(names) == len(set(names))


def test_an_error_derived_from_one_of_ours_is_answered_like_it() -> None:
    class TooManyConnectionsError(next(iter(problems.ERRORS))):  # type: ignore[misc]
        pass

    assert kind_of(TooManyConnectionsError(1)) is next(iter(problems.ERRORS.values()))


@pytest.mark.parametrize("cause", [*problems.ERRORS, *problems.STATUSES])
def test_each_cause_is_described_with_an_example_that_fits_the_schema(
    cause: type[BookstoreError] | int,
) -> None:
    kind = problems.STATUSES[cause] if isinstance(cause, int) else problems.ERRORS[cause]
    content = problems.responses(cause)[kind.status]["content"]["application/problem+json"]
    problem = problems.Problem.model_validate(content["examples"][kind.name]["value"])
    assert (problem.type, problem.status) == (f"/problems/{kind.name}", kind.status)


def test_causes_of_one_status_are_described_together() -> None:
    described = problems.responses(ContendedError, OutcomeUnknownError)
    assert set(described) == {400, 408, 429, 431, 500, 503}
    examples = described[503]["content"]["application/problem+json"]["examples"]
    assert set(examples) == {"contended", "outcome-unknown", "overloaded"}


def test_503_says_when_to_come_again() -> None:
    answer = problems.answer(problems.STATUSES[503], "Too many.")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("method", "path", "key", "after"),
    [
        ("GET", "/v1/books", "", "1"),
        ("HEAD", "/v1/books", "", "1"),
        ("POST", "/v1/books", "", None),
        ("POST", "/v1/books", "k", "1"),
        ("PUT", "/v1/books/1", "", None),
        ("DELETE", "/v1/books/1", "", None),
        ("DELETE", "/v1/books/1", "k", "1"),
        ("POST", "/v1/books:import", "k", "1"),
        ("POST", "/v1/auth/token", "k", None),
    ],
)
def test_who_may_have_done_it_is_told_to_come_again_only_where_that_does_nothing_twice(
    method: str, path: str, key: str, after: str | None
) -> None:
    headers = [(b"idempotency-key", key.encode())] if key else []
    answer = problems.unknown_outcome({"method": method, "path": path, "headers": headers}, "Perhaps.")
    assert answer.headers.get("retry-after") == after
    assert json.loads(bytes(answer.body))["type"] == "/problems/outcome-unknown"


def test_half_a_surrogate_pair_in_a_pointer_does_not_break_the_answer() -> None:
    answer = problems.answer(problems.STATUSES[400], "\ud800", faults=[Violation("/\ud800", "no")])
    assert json.loads(bytes(answer.body))["status"] == 400


@pytest.mark.parametrize(("status", "kind"), [(429, "/problems/rate-limited"), (410, "/problems/gone")])
async def test_any_status_that_a_route_raises_is_a_problem(status: int, kind: str) -> None:
    async with toy() as client:
        answer = await client.get(f"/refused/{status}")
    assert (answer.status_code, answer.json()["type"]) == (status, kind)
    assert answer.headers["retry-after"] == "9"


@pytest.mark.parametrize("method", ["FOO", "get", "M-SEARCH", "options"])
async def test_a_method_that_nobody_knows_is_405_and_what_is_allowed_is_named(method: str) -> None:
    async with toy() as client:
        # As a server hands it on; httpx would write it in capitals.
        request = client.build_request("FOO", "/things")
        request.method = method
        answer = await client.send(request)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")
    assert answer.json()["type"] == "/problems/method-not-allowed"
    assert answer.json()["detail"] == "This address answers to POST, OPTIONS only."


async def test_an_unforeseen_error_is_a_problem_that_tells_nothing() -> None:
    async with toy() as client:
        answer = await client.get("/broken")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/things", b'{"name": 1}', "/name"),
        ("/things", b"{}", "/name"),
        ("/things", b'{"name": "a", "x~/y": 1}', "/x~0~1y"),
        ("/things?limit=10", b'{"name": "a"}', "/query/limit"),
        ("/things", b"null", ""),
        ("/things", b"[]", ""),
        ("/things", b'"a"', ""),
        ("/things", b"", ""),
    ],
)
async def test_a_fault_of_the_input_is_pointed_at(path: str, body: bytes, pointer: str) -> None:
    async with toy() as client:
        answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


async def test_a_huge_wrong_input_is_not_sent_back() -> None:
    fields = {f"{number}{'x' * 1000}": 1 for number in range(60)}
    async with toy() as client:
        answer = await client.post("/things", json={"name": "a", **fields})
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 20
    assert answer.json()["detail"].endswith("(and 59 more)")
    assert len(answer.content) < 10_000


@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b"[" * 30_000, b'{"name": ' + b"9" * 5000 + b"}"], ids=lambda body: body[:9]
)
async def test_a_body_that_is_no_json_is_400(body: bytes) -> None:
    async with toy() as client:
        answer = await client.post("/things", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed-body")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [""]


@pytest.mark.parametrize("cause", [400, InvalidInputError])
def test_what_is_wrong_with_a_body_is_pointed_at_in_the_example_too(
    cause: type[BookstoreError] | int,
) -> None:
    status, name = (400, "malformed-body") if cause == 400 else (422, "invalid-input")
    example = problems.responses(cause)[status]["content"]["application/problem+json"]["examples"][name]
    assert example["value"]["status"] == status
    assert example["value"]["errors"]
