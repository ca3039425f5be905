"""When a process is ready, and what it says of what it needs."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from starlette.applications import Starlette

import common.health
from common.health import health_routes

pytestmark = pytest.mark.anyio


class Server:
    """A dependency that is `up` or not, or `frozen`; it fails the next `failures` checks in any case."""

    def __init__(self) -> None:
        self.up = True
        self.frozen = False
        self.failures = 0
        self.asked = 0

    async def check(self) -> None:
        self.asked += 1
        if self.frozen:
            await asyncio.Event().wait()
        self.failures -= 1
        if not self.up or self.failures >= 0:
            raise ConnectionError


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(common.health, "_DAMPING_SECONDS", 0.2)
    return Server()


Ask = Callable[[], Awaitable[tuple[int, str]]]


@pytest.fixture
def ask(server: Server) -> Ask:
    """Status of `/readyz`, and what it says of the server."""
    routes = health_routes({"server": server.check}, CollectorRegistry(), required=frozenset({"server"}))
    transport = httpx.ASGITransport(Starlette(routes=routes))

    async def get() -> tuple[int, str]:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/livez")).status_code == 200
            answer = await client.get("/readyz")
        return answer.status_code, answer.json()["checks"]["server"]["status"]

    return get


async def test_process_is_not_ready_before_all_that_it_needs_was_seen_once(server: Server, ask: Ask) -> None:
    server.up = False
    assert await ask() == (503, "down")
    server.up = True
    assert await ask() == (200, "up")


async def test_single_failed_check_changes_nothing(server: Server, ask: Ask) -> None:
    await ask()
    for _ in range(3):
        server.failures = 1
        assert await ask() == (200, "up")
    assert server.asked == 7, "each failure was looked at again"


async def test_checks_that_fail_for_the_damping_time_make_the_process_not_ready_until_one_is_good(
    server: Server, ask: Ask
) -> None:
    await ask()
    server.up = False
    assert await ask() == (503, "down"), "who asks once is told for certain"
    asked = server.asked
    assert await ask() == (503, "down")
    assert server.asked == asked + 1, "what is known is not looked at twice"
    server.up = True
    assert await ask() == (200, "up")


async def test_check_that_hangs_has_failed_and_is_not_asked_a_second_time_meanwhile(
    server: Server, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common.health, "_CHECK_TIMEOUT_SECONDS", 0.05)
    await ask()
    server.frozen = True
    assert set(await asyncio.gather(ask(), ask(), ask())) == {(503, "down")}
    assert server.asked < 7, "three questions, each looked at twice, would be six checks more"


async def test_figures_take_a_tenth_of_the_loop_however_many_ask_and_are_of_after_the_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, made = CollectorRegistry(), 0
    changes = Counter("changes", "", registry=registry)

    def slow(of: CollectorRegistry) -> bytes:
        nonlocal made
        made += 1
        time.sleep(0.02)
        return generate_latest(of)

    monkeypatch.setattr(common.health, "generate_latest", slow)
    transport = httpx.ASGITransport(Starlette(routes=health_routes({}, registry, required=frozenset())))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        begun = time.monotonic()
        for number in range(1, 4):
            changes.inc()
            answers = await asyncio.gather(*(client.get("/metrics") for _ in range(20)))
            assert {f"changes_total {number}.0" in answer.text for answer in answers} == {True}
    assert made == 3
    assert time.monotonic() - begun > 2 * 9 * 0.02
