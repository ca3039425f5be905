"""Errors, limits and pages over HTTP."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from pydantic import SecretStr

from api.app import openapi_document
from api.settings import ApiSettings
from devstack.servers import free_port
from tests.fixtures.api import Api, served
from tests.fixtures.wire import Wire, dead_wire
from tests.waiting import eventually

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def token(api: Api) -> str:
    found: str = api.login()["access_token"]
    return found


@pytest.fixture(scope="module")
def without_database(api_settings: Callable[..., ApiSettings]) -> Iterator[Api]:
    nowhere = SecretStr(f"mysql://app:app@127.0.0.1:{free_port()}/bookstore")
    with served(api_settings(database_url=nowhere)) as found:
        yield found


@pytest.mark.parametrize("path", ["/nothing", "/v1/books/", "/v1/books/1/2", "/static/../settings.py"])
def test_an_unknown_address_is_a_404_problem(api: Api, path: str) -> None:
    with api.client() as client:
        answer = client.get(path)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("book_id", "detail"),
    [
        ("abc", "must be a number in plain digits, without sign or leading zero"),
        ("01", "must be a number in plain digits, without sign or leading zero"),
        ("0", "must be at least 1"),
        ("9223372036854775808", "must be at most 9223372036854775807"),
    ],
)
def test_what_can_be_no_id_is_422(api: Api, token: str, book_id: str, detail: str) -> None:
    with api.client(token) as client:
        answers = [client.request(method, f"/v1/books/{book_id}") for method in ("GET", "DELETE")]
    for answer in answers:
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-input")
        assert answer.json()["errors"] == [{"pointer": "/path/id", "detail": detail}]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/books", "GET, HEAD, POST"),
        ("/v1/books/1", "GET, HEAD, PUT, PATCH, DELETE"),
        ("/v1/books:import", "POST"),
        ("/.well-known/jwks.json", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        ("/v1/auth/token", "POST"),
        ("/livez", "GET, HEAD"),
        ("/static/docs.js", "GET, HEAD"),
    ],
)
def test_another_method_is_405_and_all_that_are_allowed_are_named(api: Api, path: str, allowed: str) -> None:
    with api.client() as client:
        for method in ("TRACE", "PROPFIND", "QUERY", "M-SEARCH"):
            answer = client.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, f"{allowed}, OPTIONS")
            assert answer.json()["type"] == "/problems/method-not-allowed"
        options = client.options(path)
    assert (options.status_code, options.content) == (204, b"")
    assert options.headers["allow"] == f"{allowed}, OPTIONS"


def test_what_is_not_there_has_no_options(api: Api) -> None:
    with api.client() as client:
        assert client.options("/nothing").status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/books?limit=1", 200),
        ("/v1/books?limit=0", 422),
        ("/v1/books/{book}", 200),
        ("/v1/books/9223372036854775807", 404),
        ("/v1/books/0", 422),
        ("/.well-known/jwks.json", 200),
        ("/openapi.json", 200),
        ("/nothing", 404),
        ("/v1/auth/token", 405),
    ],
)
def test_head_is_answered_like_get_without_the_body(api: Api, token: str, path: str, status: int) -> None:
    fields = {"title": "a", "author": "b", "publication_date": "2000-01-01"}
    with api.client(token) as client:
        path = path.format(book=client.post("/v1/books", json=fields).json()["id"])
        client.post("/v1/books", json=fields)  # so that a page of one has a Link
        get, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (status, b"")
    assert described(head) == described(get)


def described(answer: httpx.Response) -> dict[str, str]:
    """What does not differ from call to call."""
    return {name: value for name, value in answer.headers.items() if name not in {"date", "ratelimit"}}


def test_head_asks_for_the_login_that_get_asks_for(api: Api) -> None:
    with api.client() as client:
        for path in ("/v1/books", "/v1/books/1"):
            answer = client.head(path)
            assert (answer.status_code, answer.content) == (401, b"")
            assert "www-authenticate" in answer.headers


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1024):
        yield b" " * 1024


@pytest.mark.parametrize("path", ["/v1/books", "/v1/auth/token"])
def test_a_body_of_unknown_length_is_413_when_it_turns_out_too_large(api: Api, token: str, path: str) -> None:
    kind = JSON if path == "/v1/books" else {"Content-Type": "application/x-www-form-urlencoded"}
    with api.client(token) as client:
        answer = client.post(path, content=chunks(66 * 1024), headers=kind)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")


def test_a_body_of_the_largest_size_is_read(api: Api, token: str) -> None:
    with api.client(token) as client:
        assert client.post("/v1/books", content=b"[]" + b" " * 65_534, headers=JSON).status_code == 422


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "application/jsonp", ""])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/books"), ("PUT", "/v1/books/1"), ("PATCH", "/v1/books/1")]
)
def test_a_body_of_another_media_type_is_415(
    api: Api, token: str, method: str, path: str, media_type: str
) -> None:
    with api.client(token) as client:
        answer = client.request(method, path, content=b"{}", headers={"Content-Type": media_type})
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")


def test_a_body_without_media_type_is_415(api: Api, token: str) -> None:
    with api.client(token) as client:
        assert client.post("/v1/books", content=b"{}").status_code == 415


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_parameters_and_case_of_the_media_type_do_not_matter(api: Api, token: str, media_type: str) -> None:
    with api.client(token) as client:
        assert (
            client.post("/v1/books", content=b"{}", headers={"Content-Type": media_type}).status_code == 422
        )


def test_a_merge_patch_is_for_patch_only(api: Api, token: str) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    with api.client(token) as client:
        assert (
            client.patch("/v1/books/1000000", content=b'{"title": "x"}', headers=headers).status_code == 404
        )
        assert client.put("/v1/books/1", content=b"{}", headers=headers).status_code == 415


def test_without_a_database_calls_are_503_and_the_process_is_alive_but_not_ready(
    api: Api, without_database: Api, token: str
) -> None:
    login = without_database.ask_token()
    # The two share their signing keys, so the token is good for both.
    with without_database.client(token) as client:
        book, ready, alive = client.get("/v1/books/1"), client.get("/readyz"), client.get("/livez")
        written = client.post(
            "/v1/books", json={"title": "a", "author": "b", "publication_date": "2000-01-01"}
        )
    for answer in (login, book, written):
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/database-unavailable")
        assert answer.headers["retry-after"] == "1"
    assert (ready.status_code, ready.json()["checks"]["database"]["status"]) == (503, "down")
    assert alive.status_code == 200


@pytest.fixture(scope="module")
def nowhere() -> Iterator[Wire]:
    with dead_wire() as wire:
        yield wire


@pytest.fixture(scope="module")
def alone(api_settings: Callable[..., ApiSettings], nowhere: Wire) -> Iterator[Api]:
    settings = api_settings(
        broker_url=SecretStr(f"amqp://guest:guest@127.0.0.1:{nowhere.port}/"),
        cache_url=SecretStr(f"redis://127.0.0.1:{free_port()}/0"),
    )
    with served(settings) as found:
        yield found


def test_without_broker_and_cache_the_api_is_ready_and_serves(api: Api, alone: Api, token: str) -> None:
    with alone.client(token) as client:
        ready = client.get("/readyz")
        added = client.post("/v1/books", json={"title": "a", "author": "b", "publication_date": "2000-01-01"})
        assert client.get(added.headers["location"]).json() == added.json()
    assert (ready.status_code, added.status_code) == (200, 201)
    assert ready.json()["checks"]["cache"]["status"] == "down"


def test_a_broker_that_is_down_is_never_shown_as_up(alone: Api, nowhere: Wire) -> None:
    tries = nowhere.connections + 3
    states = set()

    def tried_again() -> bool:
        with alone.client() as client:
            states.add(client.get("/readyz").json()["checks"]["broker"]["status"])
        return nowhere.connections >= tries

    eventually(tried_again)
    assert states == {"down"}


def test_with_all_servers_up_all_checks_are_up(api: Api) -> None:
    def states() -> bool:
        with api.client() as client:
            return {check["status"] for check in client.get("/readyz").json()["checks"].values()} == {"up"}

    eventually(states)


def test_metrics_count_by_template_and_never_by_what_the_client_wrote(api: Api, token: str) -> None:
    with api.client(token) as client:
        client.get("/v1/books/123456")
        client.get("/secret-name")
        metrics = client.get("/metrics").text
    assert 'api_requests_total{method="GET",route="/v1/books/{id}",status="404"}' in metrics
    assert "api_request_seconds_bucket" in metrics
    assert "123456" not in metrics
    assert "secret-name" not in metrics


def test_swagger_ui_and_all_that_it_loads_come_from_here(api: Api) -> None:
    with api.client() as client:
        assert client.get("/").headers["location"] == "/docs"
        page = client.get("/docs").text
        for path in ("swagger-ui/swagger-ui-bundle.js", "swagger-ui/swagger-ui.css", "docs.js"):
            assert f"/static/{path}" in page
            assert client.get(f"/static/{path}").status_code == 200
    assert "//" not in page.replace("<!doctype html>", "")


def test_the_reference_and_all_that_it_loads_come_from_here(api: Api) -> None:
    with api.client() as client:
        answer = client.get("/reference")
        assert client.get("/static/rapidoc/rapidoc-min.js").status_code == 200
    assert "/static/rapidoc/rapidoc-min.js" in answer.text
    assert 'load-fonts="false"' in answer.text
    assert "//" not in answer.text.replace("<!doctype html>", "")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert "eval" not in policy


def test_the_served_description_is_that_of_the_command(api: Api) -> None:
    with api.client() as client:
        for _ in range(2):
            assert client.get("/openapi.json").json() == openapi_document()
