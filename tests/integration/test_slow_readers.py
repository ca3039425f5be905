"""What clients that read their answers slowly, or not at all, take from the others: a connection each."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import httpx
import pytest

from api.connections import GuardedProtocol
from api.settings import ApiSettings
from tests.fixtures.api import Api, served
from tests.waiting import eventually

PLACES = 2
SLOWEST = 100_000
SCRIPT = "/static/swagger-ui/swagger-ui-bundle.js"


@pytest.fixture(scope="module")
def narrow(api: Api, api_settings: Callable[..., ApiSettings]) -> Iterator[Api]:
    with served(api_settings(requests_max=PLACES)) as found:
        yield found


@pytest.fixture
def ask(narrow: Api, protocols: dict[int, GuardedProtocol]) -> Iterator[Callable[..., socket.socket]]:
    """Asks for paths, one behind the other, and reads nothing; done when the server has to wait."""
    with ExitStack() as opened:

        def begin(*paths: str, token: str | None = None) -> socket.socket:
            connection = opened.enter_context(socket.socket())
            connection.settimeout(15)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", httpx.URL(narrow.url).port))
            head = "GET {} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n"
            connection.sendall("".join(head.format(path, token) for path in paths).encode())
            port = connection.getsockname()[1]
            eventually(partial(must_wait, protocols, port), because="the buffers are full")
            return connection

        yield begin


def must_wait(protocols: dict[int, GuardedProtocol], port: int) -> bool:
    return port in protocols and protocols[port].flow.write_paused


def reads(connection: socket.socket, bytes_a_second: int, *, seconds: float = 6) -> None:
    """For so long, no faster; what the system has of an answer that was cut off is sent on."""
    begun = time.monotonic()
    taken = 0
    while (passed := time.monotonic() - begun) < seconds:
        if taken > passed * bytes_a_second:
            time.sleep(0.01)
        else:
            taken += len(connection.recv(4096))


def test_a_script_that_is_read_slowly_takes_no_place(narrow: Api, ask: Callable[..., socket.socket]) -> None:
    slow = [ask(SCRIPT, SCRIPT, SCRIPT) for _ in range(PLACES)]
    with narrow.client(narrow.login()["access_token"]) as client:
        for path in ("/v1/books", "/docs", "/openapi.json", "/problems", "/.well-known/jwks.json", SCRIPT):
            assert client.get(path).status_code == 200
    assert all(connection.recv(1) for connection in slow)


def test_a_call_behind_an_answer_that_is_not_read_takes_no_place_and_is_answered_at_last(
    narrow: Api, ask: Callable[..., socket.socket]
) -> None:
    token = narrow.login()["access_token"]
    with narrow.client(token) as client:
        rows = "title,author,publication_date\n" + f"{'語' * 255},{'語' * 255},2000-01-01\n" * 200
        client.post("/v1/books:import", content=rows.encode(), headers={"Content-Type": "text/csv"})
        page = "/v1/books?limit=100"
        size = len(client.get(page).content)
        assert size > 65_536
        slow = [ask(*[page] * 30, token=token) for _ in range(PLACES)]
        assert client.get("/v1/books").status_code == 200
        answers = b""
        while answers.count(b"HTTP/1.1 200 ") < 30 or len(answers) < 30 * size:
            answers += slow[0].recv(65_536)
    assert answers.count(b"HTTP/1.1 ") == 30


def test_who_reads_more_slowly_than_the_slowest_that_may_is_cut_off_and_nobody_else(
    ask: Callable[..., socket.socket],
    protocols: dict[int, GuardedProtocol],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.reading_pace.SLOWEST", SLOWEST)
    connections = [ask(*[SCRIPT] * 5) for _ in range(2)]
    monkeypatch.setattr("api.connections.SILENT_SECONDS", 3.0)
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(reads, seconds=10), connections, (3 * SLOWEST, SLOWEST // 4)))
    slow, trickling = (protocols[connection.getsockname()[1]].transport for connection in connections)
    assert not slow.is_closing()
    assert trickling.is_closing()


def test_who_is_late_makes_room_for_others_until_it_reads_on(
    ask: Callable[..., socket.socket],
    protocols: dict[int, GuardedProtocol],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.connections.LATE_SECONDS", 0.5)
    late = ask(*[SCRIPT] * 5)
    server = protocols[late.getsockname()[1]]
    waiting = server._doorkeeper.waiting  # noqa: SLF001
    eventually(lambda: server in waiting, because="it reads nothing")
    reads(late, 500_000, seconds=3)
    assert server not in waiting
    eventually(lambda: server in waiting, because="it reads nothing any more")
