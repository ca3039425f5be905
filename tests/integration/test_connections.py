"""What one connection may cost, on real sockets: long heads, slow ones, and very many."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import text

from api.connections import GuardedProtocol
from api.settings import ApiSettings
from common.database import thread_engine
from tests.fixtures.api import PASSWORD, Api, served
from tests.waiting import eventually

HEAD = b"GET /livez HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /v1/auth/token HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
CLOSE = b"Connection: close\r\n\r\n"
LIMIT = 16_384
# After which uvicorn ends a connection by itself.
IDLE_SECONDS = 5


@pytest.fixture
def connect(api: Api) -> Iterator[Callable[..., socket.socket]]:
    """Opens connections, to `api` or another."""
    with ExitStack() as opened:

        def begin(to: Api = api) -> socket.socket:
            host, port = to.url.removeprefix("http://").split(":")
            return opened.enter_context(socket.create_connection((host, int(port)), timeout=15))

        yield begin


def said(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    try:
        while block := connection.recv(65_536):
            found += block
    except ConnectionResetError:
        pass
    return found


def sent(connection: socket.socket, *pieces: bytes) -> None:
    """Sends as long as anybody listens."""
    try:
        for piece in pieces:
            connection.sendall(piece)
    except OSError:
        pass


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answers)]


def is_alive(connection: socket.socket) -> bool:
    connection.sendall(HEAD + b"\r\n")
    found = b""
    while not found.endswith(b'"alive"}') and (block := connection.recv(65_536)):
        found += block
    return found.startswith(b"HTTP/1.1 200 ")


def assert_is_problem(answer: bytes, status: int, name: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-type: application/problem+json" in head.lower()
    assert b"connection: close" in head.lower()
    assert f"/problems/{name}".encode() in body


@pytest.mark.parametrize(
    "pieces",
    [
        (b"GET /", b"a" * 20_000, b" HTTP/1.1\r\n\r\n"),
        (HEAD, b"X: ", b"a" * 20_000, b"\r\n\r\n"),
        (HEAD, b"a" * 20_000, b": a\r\n\r\n"),
        (HEAD, b"X: a\r\n" * 600, b"\r\n"),
        (HEAD, b"X: ", *[b"a" * 1000] * 1000),
        (b"\r\n" * 10_000,),
    ],
    ids=["address", "value", "name", "many", "in pieces", "blank lines"],
)
def test_a_head_beyond_the_limit_is_refused(
    connect: Callable[..., socket.socket], pieces: tuple[bytes, ...]
) -> None:
    connection = connect()
    sent(connection, *pieces)
    assert_is_problem(said(connection), 431, "head-too-large")


@pytest.mark.parametrize("line", [b"GET /", HEAD + b"X: ", HEAD + b"X"])
def test_a_head_of_100_megabytes_is_refused_when_it_has_hardly_begun(
    connect: Callable[..., socket.socket], line: bytes
) -> None:
    connection = connect()
    connection.sendall(line)
    taken = 0
    try:
        for taken in range(100):  # noqa: B007  it is looked at below
            connection.sendall(b"a" * 1_000_000)
    except OSError:
        pass
    assert taken < 20, "what the buffers of both systems hold, and no more"
    assert is_alive(connect())


def test_a_head_up_to_the_limit_is_taken(connect: Callable[..., socket.socket]) -> None:
    connection = connect()
    connection.sendall(HEAD + b"X: " + b"a" * 16_000 + b"\r\n\r\n")
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    # Each request has as much, however they come.
    connection.sendall((HEAD + b"X: " + b"a" * 10_000 + b"\r\n\r\n") * 4)
    eventually(lambda: connection.recv(65_536, socket.MSG_PEEK).count(b"HTTP/1.1 200 ") == 4)


def test_what_is_no_http_is_a_problem_too(connect: Callable[..., socket.socket]) -> None:
    connection = connect()
    connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    assert_is_problem(said(connection), 400, "bad-request")


@pytest.mark.parametrize(
    ("hosts", "why"),
    [
        (b"", b"exactly one Host"),
        (b"Host: a\r\nHost: b\r\n", b"exactly one Host"),
        (b"Host: a\r\nHost: a\r\n", b"exactly one Host"),
        (b"Host: a b\r\n", b"must name a host"),
        (b"Host: a/b\r\n", b"must name a host"),
        (b"Host: a@b\r\n", b"must name a host"),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_request_that_does_not_name_one_host_is_refused(
    connect: Callable[..., socket.socket], method: bytes, hosts: bytes, why: bytes
) -> None:
    connection = connect()
    connection.sendall(method + b" /livez HTTP/1.1\r\n" + hosts + b"Content-Length: 0\r\n\r\n")
    answer = said(connection)
    assert_is_problem(answer, 400, "bad-request")
    assert why in answer


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /livez HTTP/1.0\r\n", 200),
        (b"GET /livez HTTP/1.0\r\nHost: a\r\n", 200),
        (b"GET /livez HTTP/1.0\r\nHost: a\r\nHost: a\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nhost:\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHOST: [::1]:8000\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: xn--bcher-kva.example:8000\r\n", 200),
    ],
)
def test_a_host_may_be_empty_and_who_speaks_http_1_0_need_not_name_one(
    connect: Callable[..., socket.socket], head: bytes, status: int
) -> None:
    connection = connect()
    connection.sendall(head + b"Connection: close\r\n\r\n")
    assert said(connection).startswith(b"HTTP/1.1 %d " % status)


def test_blanks_around_a_value_do_not_belong_to_it(api: Api, connect: Callable[..., socket.socket]) -> None:
    connection = connect()
    token = api.login()["access_token"].encode()
    kind, length = b"Content-Type:\ttext/csv\t \r\n", b"Content-Length: 29\t \r\n"
    connection.sendall(
        b"POST /v1/books:import HTTP/1.1\r\nHost:\t a \t\r\nAuthorization: \tBearer "
        + (token + b"\t \r\n" + kind + length + b"Connection: close \t\r\n\r\n")
        + b"title,author,publication_date"
    )
    assert statuses(said(connection)) == [200]


def test_a_request_without_a_host_behind_another_is_not_done(connect: Callable[..., socket.socket]) -> None:
    connection = connect()
    connection.sendall(HEAD + b"\r\n")
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    connection.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
    assert_is_problem(said(connection), 400, "bad-request")


LOGIN = f"grant_type=password&username=writer&password={PASSWORD.replace(' ', '+')}".encode()
LENGTH = b"Content-Length: %d\r\n\r\n"


@pytest.mark.parametrize("size", [1, 100_000], ids=["byte by byte", "at once"])
@pytest.mark.parametrize(
    "framed",
    [
        LENGTH % len(LOGIN) + LOGIN,
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(LOGIN), LOGIN),
    ],
    ids=["length", "chunks"],
)
def test_who_asks_for_another_protocol_is_answered_in_this_one(
    connect: Callable[..., socket.socket], caplog: pytest.LogCaptureFixture, framed: bytes, size: int
) -> None:
    connection = connect()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    websocket = b"Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n\r\n"
    requests = POST + UPGRADE + framed + HEAD + UPGRADE + b"\r\n" + HEAD + websocket + HEAD + CLOSE
    for begin in range(0, len(requests), size):
        connection.sendall(requests[begin : begin + size])
    answers = said(connection)
    assert statuses(answers) == [200] * 4
    assert b'"access_token"' in answers
    assert "pgrade" not in caplog.text


def test_a_body_is_not_done_as_a_request_whatever_its_head_asks_for(
    connect: Callable[..., socket.socket],
) -> None:
    connection = connect()
    body = HEAD + b"\r\n"
    connection.sendall(
        POST + UPGRADE + LENGTH % len(body) + body + HEAD.replace(b"/livez", b"/nowhere") + CLOSE
    )
    answers = said(connection)
    assert statuses(answers) == [400, 404]
    assert b"/problems/invalid-request" in answers
    assert b'"alive"' not in answers


def test_there_are_no_tunnels(connect: Callable[..., socket.socket]) -> None:
    connection = connect()
    connection.sendall(b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" + HEAD + b"\r\n")
    answer = said(connection)
    assert_is_problem(answer, 400, "bad-request")
    assert (statuses(answer), b"CONNECT" in answer) == ([400], True)


def test_headers_behind_the_body_are_bounded_and_mean_nothing(connect: Callable[..., socket.socket]) -> None:
    kind = b"Content-Type: application/x-www-form-urlencoded\r\n"
    chunked = POST.replace(kind, b"Transfer-Encoding: chunked\r\n") + b"\r\n0\r\n"
    connection = connect()
    connection.sendall(chunked + kind + b"\r\n")
    assert b"/problems/unsupported-media-type" in connection.recv(65_536)
    connection = connect()
    connection.sendall(chunked)
    sent(connection, b"X: ", *[b"a" * 1000] * 1000)
    assert b"/problems/head-too-large" in said(connection)


@pytest.mark.parametrize(
    "rubbish", [b"rubbish", b"CONNECT a:80 HTTP/1.1\r\nHost: a", b"GET ftp://a HTTP/1.1\r\nHost: a"]
)
def test_an_answer_that_is_due_is_not_mistaken_for_that_to_rubbish_behind_it(
    connect: Callable[..., socket.socket], rubbish: bytes
) -> None:
    connection = connect()
    connection.sendall(HEAD.replace(b"/livez", b"/readyz") + b"\r\n" + rubbish + b"\r\n\r\n")
    assert b"bad-request" not in said(connection)
    connection = connect()
    connection.sendall(rubbish + b"\r\n\r\n")
    assert_is_problem(said(connection), 400, "bad-request")


@pytest.mark.parametrize(
    ("address", "status"),
    [
        (b"http://a/livez", 200),
        (b"HTTPS://a:8000/livez?x", 200),
        (b"http://a", 307),
        (b"http://a?x", 307),
        (b"http://a@b/livez", 400),
        (b"http://a#x", 400),
        (b"ftp://a/livez", 400),
    ],
)
def test_an_address_may_name_the_server(
    connect: Callable[..., socket.socket], address: bytes, status: int
) -> None:
    connection = connect()
    connection.sendall(HEAD.replace(b"/livez", address) + CLOSE)
    assert statuses(said(connection)) == [status]


def test_requests_that_wait_behind_one_another_are_bounded(connect: Callable[..., socket.socket]) -> None:
    connection = connect()
    request = HEAD.replace(b"/livez", b"/readyz") + b"\r\n"
    connection.sendall(request * 30)
    eventually(lambda: connection.recv(65_536, socket.MSG_PEEK).count(b"HTTP/1.1 200 ") == 30)
    connection = connect()
    sent(connection, request * 200)
    assert said(connection).count(b"HTTP/1.1 200 ") < 30


def test_what_others_wait_for_ends_quietly_too(
    connect: Callable[..., socket.socket],
    caplog: pytest.LogCaptureFixture,
    protocols: dict[int, GuardedProtocol],
) -> None:
    connection = connect()
    connection.sendall((HEAD.replace(b"/livez", b"/readyz") + b"\r\n") * 3 + b"rubbish\r\n\r\n")
    assert said(connection) == b""
    eventually(lambda: not protocols[connection.getsockname()[1]].tasks)
    assert "Exception" not in caplog.text


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.connections.HEAD_SECONDS", 1.0)
    monkeypatch.setattr("api.connections.SILENT_SECONDS", 1.0)


def drip(connection: socket.socket, byte: bytes) -> bytes:
    """What is said in the end to who sends a byte now and then."""
    connection.settimeout(0.2)
    began = time.monotonic()
    while time.monotonic() < began + 10:
        sent(connection, byte)
        try:
            return said(connection)
        except TimeoutError:
            continue
    raise AssertionError("it is still listened to")


@pytest.mark.parametrize("begun", [b"", b"GET /livez HTTP/1.1\r\nX: a", HEAD + b"\r\nGET /"])
def test_a_head_that_comes_byte_by_byte_is_cut_off(
    connect: Callable[..., socket.socket], impatient: None, begun: bytes
) -> None:
    connection = connect()
    connection.sendall(begun)
    if begun.startswith(HEAD):
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    assert_is_problem(drip(connection, b"a" if begun else b"\r\n"), 408, "too-slow")


def test_a_connection_that_says_nothing_is_closed(
    connect: Callable[..., socket.socket], impatient: None
) -> None:
    began = time.monotonic()
    said(connect())
    assert time.monotonic() - began < 5


def test_a_body_that_stops_on_its_way_is_cut_off_and_one_that_comes_slowly_is_not(
    api: Api, connect: Callable[..., socket.socket], impatient: None
) -> None:
    token = api.login()["access_token"].encode()
    head = (
        b"POST /v1/books:import HTTP/1.1\r\nHost: a\r\nContent-Type: text/csv\r\nAuthorization: Bearer "
        + token
    )
    slow, stopped = connect(), connect()
    stopped.sendall(head + b"\r\nContent-Length: 99\r\n\r\ntitle")
    slow.sendall(head + b"\r\nContent-Length: 29\r\n\r\n")
    slow.settimeout(0.25)
    for byte in b"title,author,publication_date":
        with pytest.raises(TimeoutError):
            slow.recv(1)
        slow.sendall(bytes([byte]))
    slow.settimeout(15)
    assert slow.recv(65_536).startswith(b"HTTP/1.1 200 ")
    assert_is_problem(said(stopped), 408, "too-slow")


def test_a_client_that_does_not_read_its_answer_is_cut_off(
    api: Api,
    connect: Callable[..., socket.socket],
    caplog: pytest.LogCaptureFixture,
    impatient: None,
    protocols: dict[int, GuardedProtocol],
) -> None:
    with api.client(api.login()["access_token"]) as client:
        rows = "title,author,publication_date\n" + f"{'語' * 300},{'語' * 1000},2000-01-01\n" * 5000
        client.post("/v1/books:import", content=rows.encode(), headers={"Content-Type": "text/csv"})
        deaf = connect()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        token = client.headers["authorization"].encode()
        request = b"GET /v1/books:export HTTP/1.1\r\nHost: a\r\nAuthorization: " + token + b"\r\n\r\n"
        deaf.sendall(request * 2)
        eventually(lambda: b"HTTP/1.1 200 " in deaf.recv(65_536, socket.MSG_PEEK))
        ended = 'api_requests_total{method="GET",route="/v1/books:export",status="200"}'
        assert ended not in client.get("/metrics").text
        eventually(lambda: ended in client.get("/metrics").text, within=10)
        eventually(lambda: not protocols[deaf.getsockname()[1]].tasks)
    assert "Exception" not in caplog.text


@pytest.fixture
def few(api: Api, api_settings: Callable[..., ApiSettings]) -> Iterator[Api]:
    with served(api_settings(connections_max=20)) as found:
        yield found


def test_idle_connections_make_room_for_new_ones_the_oldest_first(
    few: Api, connect: Callable[..., socket.socket]
) -> None:
    begun = time.monotonic()
    idle = [connect(few) for _ in range(20)]
    assert all(is_alive(each) for each in idle)
    assert is_alive(idle[0])  # so that the second is the oldest now
    for _ in range(15):
        assert is_alive(connect(few))
    assert said(idle[1]) == b""
    assert time.monotonic() - begun < IDLE_SECONDS, "or it has ended by itself"
    assert is_alive(idle[0])


def test_a_client_that_does_not_read_makes_room_too(
    few: Api,
    connect: Callable[..., socket.socket],
    protocols: dict[int, GuardedProtocol],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.connections.LATE_SECONDS", 0.5)
    deaf = connect(few)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    assert is_alive(deaf)
    server = protocols[deaf.getsockname()[1]]
    deaf.sendall(HEAD.replace(b"/livez", b"/static/swagger-ui/swagger-ui-bundle.js") + b"\r\n")
    deaf.sendall((HEAD.replace(b"/livez", b"/openapi.json") + b"\r\n") * 20)
    eventually(lambda: server.flow.write_paused)
    eventually(lambda: server in server._doorkeeper.waiting, because="it reads nothing")  # noqa: SLF001
    assert all(is_alive(connect(few)) for _ in range(20))

    def is_ended() -> bool:
        try:
            deaf.sendall(b"\r\n")
        except OSError:
            return True
        return False

    eventually(is_ended, within=IDLE_SECONDS)


def test_half_sent_heads_make_room_for_whole_ones(few: Api, connect: Callable[..., socket.socket]) -> None:
    for _ in range(60):
        sent(connect(few), b"GET /livez HTTP/1.1\r\nX: ")
    assert is_alive(connect(few))
    with few.client() as client:
        refused = client.get("/metrics").text
    assert 'api_refused_total{reason="connections"}' in refused


@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n"], ids=["first", "behind another"])
def test_when_all_connections_are_at_work_a_new_one_is_told_so(
    few: Api, connect: Callable[..., socket.socket], before: bytes
) -> None:
    token = few.login()["access_token"]
    engine = thread_engine(few.settings)
    with few.client(token) as client, engine.connect() as lock:
        fields = {"title": "a", "author": "b", "publication_date": "2000-01-01"}
        book = client.post("/v1/books", json=fields).headers["location"]
        client.close()
        lock.execute(text("SELECT 1 FROM book WHERE id = :id FOR UPDATE"), {"id": book.rpartition("/")[2]})
        at_work = [connect(few) for _ in range(20)]
        for connection in at_work:
            # Each waits for the lock, for a second.
            connection.sendall(
                before
                + f"DELETE {book} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            )

        def refusal() -> bytes:
            beyond = connect(few)
            beyond.settimeout(0.1)
            try:
                return said(beyond)
            except TimeoutError:  # it is let in, for another was heard later
                beyond.close()
                return b""

        assert_is_problem(eventually(refusal, within=0.8), 503, "overloaded")
        assert not at_work[0].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        lock.rollback()
    engine.dispose()
