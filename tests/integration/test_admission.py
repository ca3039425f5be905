"""How many calls are let in, of whom, and what the others are told."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event, Thread
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr
from redis import Redis
from sqlalchemy import Engine, text

from api.settings import ApiSettings
from common.database import thread_engine
from devstack.servers import free_port
from devstack.stack import Stack
from tests.fixtures.api import Api, served
from tests.fixtures.endless import endless
from tests.fixtures.wire import wire_to
from tests.waiting import eventually

Settings = Callable[..., ApiSettings]
FREE = {"rate_limit_address": 0, "rate_limit_user": 0, "rate_limit_login": 0}


@pytest.fixture(scope="module")
def token(api: Api) -> str:
    found: str = api.login()["access_token"]
    return found


def in_one_second(client: httpx.Client, number: int, path: str = "/v1/books/1", **call: str) -> list[int]:
    """The statuses of so many calls that all fell into one second of the clock."""
    while True:
        eventually(lambda: time.time() % 1 < 0.05)
        second = int(time.time())
        found = [client.request(call.get("method", "GET"), path).status_code for _ in range(number)]
        if int(time.time()) == second:
            return found


@pytest.fixture
def limited(api: Api, api_settings: Settings) -> Iterator[Callable[..., Api]]:
    """Serves with these limits and no others."""
    with ExitStack() as servers:
        yield lambda **limits: servers.enter_context(served(api_settings(**{**FREE, **limits})))


def statements_on(engine: Engine, table: str) -> int:
    """How many are under way; the one that asks is another."""
    with engine.connect() as connection:
        found = connection.execute(text("SHOW FULL PROCESSLIST")).mappings()
        return sum(f" {table} " in (row["Info"] or "").replace("`", " ") for row in found)


def refused(client: httpx.Client, reason: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    prefix = f'api_refused_total{{reason="{reason}"}} '
    return sum(float(line.removeprefix(prefix)) for line in lines if line.startswith(prefix))


def test_calls_of_one_address_are_limited_before_anybody_asks_who_it_is(limited: Callable[..., Api]) -> None:
    with limited(rate_limit_address=10).client() as client:
        assert in_one_second(client, 12) == [401] * 10 + [429] * 2
        assert refused(client, "address") >= 2


def test_calls_of_one_user_are_limited_and_those_of_another_are_not(
    api: Api, limited: Callable[..., Api], token: str
) -> None:
    found = limited(rate_limit_user=10)
    with found.client(token) as client, found.client(api.login("reader")["access_token"]) as other:
        assert in_one_second(client, 12, "/v1/books?limit=1") == [200] * 10 + [429] * 2
        assert in_one_second(other, 10, "/v1/books?limit=1") == [200] * 10
        assert refused(client, "user") >= 2


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/auth/token", 415),
        ("/v1/auth/revoke", 415),
        ("/v1/auth/password", 401),
        ("/v1/auth/sign-out", 401),
    ],
)
def test_logins_from_one_address_are_limited_and_other_calls_are_not(
    limited: Callable[..., Api], path: str, status: int
) -> None:
    with limited(rate_limit_login=3).client() as client:
        statuses = in_one_second(client, 5, path, method="POST")
        assert statuses == [status] * 3 + [429] * 2
        assert in_one_second(client, 5) == [401] * 5
        assert refused(client, "login") >= 2


def test_a_refusal_says_when_to_come_again_and_every_answer_what_is_left(
    limited: Callable[..., Api], token: str
) -> None:
    with limited(rate_limit_address=9, rate_limit_user=5).client(token) as client:
        eventually(lambda: time.time() % 1 < 0.05)
        first, *_, last = [client.get("/v1/books?limit=1") for _ in range(6)]
    assert first.headers["ratelimit-policy"] == '"address";q=9;w=1, "user";q=5;w=1'
    assert first.headers["ratelimit"] == '"address";r=8;t=1, "user";r=4;t=1'
    assert (last.status_code, last.json()["type"]) == (429, "/problems/rate-limited")
    assert last.headers["content-type"] == "application/problem+json"
    assert last.headers["retry-after"] == "1"
    assert last.headers["ratelimit"] == '"address";r=3;t=1, "user";r=0;t=1'


@pytest.mark.parametrize(
    ("limits", "method", "path"),
    [
        ({"rate_limit_address": 1}, "GET", "/v1/books"),
        ({"rate_limit_user": 1}, "GET", "/v1/books"),
        ({"rate_limit_login": 1}, "POST", "/v1/auth/token"),
    ],
    ids=["address", "user", "login"],
)
def test_a_refusal_repeats_nothing_of_what_was_sent(
    limited: Callable[..., Api], token: str, limits: dict[str, int], method: str, path: str
) -> None:
    """The query may hold a token, by mistake, and what was answered is often logged on the way."""
    secret = "5ecret-5ecret"
    form = {"grant_type": "password", "username": "nobody", "password": secret} if method == "POST" else None

    def refused() -> httpx.Response | None:
        headers = {"Cookie": f"name={secret}", "X-Request-Id": secret}
        answer = client.request(method, f"{path}?author={secret}&{secret}=x", data=form, headers=headers)
        return answer if answer.status_code == 429 else None

    with limited(**limits).client(token) as client:
        answer = eventually(refused)
    assert answer
    told = f"{answer.headers} {answer.text}"
    assert answer.json()["type"] == "/problems/rate-limited"
    assert not [each for each in (secret, token) if each in told]


def test_who_is_counted_by_no_policy_is_told_of_none(limited: Callable[..., Api]) -> None:
    with limited(rate_limit_address=0, rate_limit_user=5).client() as client:
        answer = client.get("/v1/books")
    assert (answer.status_code, "ratelimit" in answer.headers) == (401, False)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_health_and_metrics_are_never_refused(limited: Callable[..., Api], path: str) -> None:
    with limited(rate_limit_address=1).client() as client:
        client.get("/v1/books")
        answers = [client.get(path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert "ratelimit" not in answers[0].headers


def test_two_apis_count_together(limited: Callable[..., Api]) -> None:
    """Neither lets half of the quota in; what one has let in the other knows a tick later."""
    limit = 40
    with limited(rate_limit_address=limit).client() as one, limited(rate_limit_address=limit).client() as two:

        def second_of_both() -> bool:
            statuses = in_one_second(one, limit - 5)
            time_left = 1 - time.time() % 1
            before = int(time.time())
            Event().wait(min(0.2, time_left))
            more = [two.get("/v1/books/1").status_code for _ in range(limit)]
            if int(time.time()) != before:
                return False
            assert statuses == [401] * (limit - 5)
            # The first of `two` is what makes it ask; it hears of the others while it counts.
            return Counter(more)[429] >= limit // 2

        eventually(second_of_both)


def test_without_redis_each_api_counts_alone_and_nobody_waits(limited: Callable[..., Api]) -> None:
    nowhere = SecretStr(f"redis://127.0.0.1:{free_port()}/0")
    with limited(rate_limit_address=10, cache_url=nowhere).client() as client:
        assert in_one_second(client, 12) == [401] * 10 + [429] * 2


def test_when_redis_is_back_calls_are_counted_there_again(
    limited: Callable[..., Api], stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    with wire_to(urlsplit(stack.cache_url).port or 0) as wire, Redis.from_url(stack.cache_url) as redis:

        def keys() -> list[object]:
            return list(redis.scan_iter("bookstore:rates*"))

        wire.cut()
        through = SecretStr(f"redis://127.0.0.1:{wire.port}/0")
        with limited(rate_limit_address=10, cache_url=through).client() as client:
            in_one_second(client, 5)
            eventually(lambda: "counted by this process alone" in caplog.text)
            eventually(lambda: not keys(), because="those of other tests are over")
            wire.mend()
            eventually(lambda: client.get("/v1/books/1").status_code and keys())


FORGED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


def statuses_by_address(found: Api, addresses: list[str]) -> list[int]:
    with found.client() as client:
        eventually(lambda: time.time() % 1 < 0.05)
        return [
            client.get("/v1/books", headers={"X-Forwarded-For": address}).status_code for address in addresses
        ]


def test_a_forged_address_counts_for_nothing(limited: Callable[..., Api]) -> None:
    found = limited(rate_limit_address=2)
    assert statuses_by_address(found, ["203.0.113.1", "203.0.113.2", "203.0.113.3"]) == [401, 401, 429]


def test_a_trusted_proxy_says_who_calls_and_the_client_in_front_of_it_cannot(
    limited: Callable[..., Api],
) -> None:
    found = limited(rate_limit_address=2, trusted_proxies="127.0.0.0/8")
    assert statuses_by_address(found, ["203.0.113.1", "203.0.113.2", "203.0.113.3"]) == [401] * 3
    # What stands before the right-most address that is not trusted was written by the client.
    forged = [f"198.51.100.{number}, 203.0.113.7, 127.0.0.9" for number in range(3)]
    assert statuses_by_address(found, forged) == [401, 401, 429]


def test_a_network_of_ipv6_is_one_address(limited: Callable[..., Api]) -> None:
    found = limited(rate_limit_address=2, trusted_proxies="127.0.0.1")
    assert statuses_by_address(found, ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"]) == [401, 401, 429]
    assert statuses_by_address(found, ["2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1"]) == [401] * 3


def test_what_watches_the_database_waits_behind_no_call(limited: Callable[..., Api], token: str) -> None:
    found = limited()
    engine = thread_engine(found.settings)
    with endless(engine, "book") as running, ThreadPoolExecutor(40) as pool, found.client(token) as client:
        answers = [pool.submit(client.get, f"/v1/books/{number}") for number in range(1, 41)]
        eventually(lambda: running() == 16, within=2)
        checks = httpx.get(f"{found.url}/readyz", timeout=10).json()["checks"]
        assert {answer.result().status_code for answer in answers} == {503}
    assert checks["database"] == {"status": "up"}
    engine.dispose()


def test_calls_beyond_those_in_work_are_refused_at_once_and_health_is_not(
    limited: Callable[..., Api], token: str
) -> None:
    found = limited(requests_max=2)
    engine = thread_engine(found.settings)
    with found.client(token) as client, engine.connect() as connection:
        book = client.post(
            "/v1/books", json={"title": "a", "author": "b", "publication_date": "2000-01-01"}
        ).headers["location"]
        # Two changes wait for this lock, twice for a second each.
        connection.execute(
            text("SELECT 1 FROM book WHERE id = :id FOR UPDATE"), {"id": book.rpartition("/")[2]}
        )
        answers: list[httpx.Response] = []

        def change(own: httpx.Client) -> None:
            with own:
                answers.append(own.patch(book, json={"title": "b"}))

        # A client takes a moment to make, and the locks are waited for only so long.
        waiting = [Thread(target=change, args=[found.client(token)]) for _ in range(2)]
        for thread in waiting:
            thread.start()
        # Not by asking the API, which might take the place of one of them.
        eventually(lambda: statements_on(engine, "book") == 2, within=2)
        beyond = client.get("/v1/books")
        health = client.get("/livez")
        connection.rollback()
        for thread in waiting:
            thread.join()
        after = client.get("/v1/books")
        assert refused(client, "overloaded") == 1
    engine.dispose()
    assert (beyond.status_code, beyond.json()["type"]) == (503, "/problems/overloaded")
    assert beyond.headers["retry-after"] == "1"
    assert beyond.elapsed.total_seconds() < 0.2
    assert (health.status_code, after.status_code) == (200, 200)
    assert [answer.status_code for answer in answers] == [200] * 2


def test_a_body_that_is_still_on_its_way_takes_up_no_place(limited: Callable[..., Api], token: str) -> None:
    found = limited(requests_max=1)
    host, port = found.url.removeprefix("http://").split(":")
    head = f"POST /v1/books HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n"
    with socket.create_connection((host, int(port))) as slow, found.client(token) as client:
        slow.sendall(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
        assert {client.get("/v1/books").status_code for _ in range(10)} == {200}


def test_the_defaults_let_one_user_make_500_calls_a_second_and_log_in_five_times(api: Api) -> None:
    settings = ApiSettings(**api.settings.model_dump(exclude={"rate_limit_login"}))
    assert min(settings.rate_limit_address, settings.rate_limit_user) >= 2 * 500
    assert settings.rate_limit_login >= 2 * 5


@pytest.mark.anyio
async def test_a_body_that_does_not_arrive_is_408(
    limited: Callable[..., Api], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.limits._BODY_SECONDS", 0.2)
    found = limited()
    reader, writer = await asyncio.open_connection(*found.url.removeprefix("http://").split(":"))
    head = f"POST /v1/books HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{{".encode())
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"/problems/too-slow" in answer
    writer.close()
