"""What a connection to the API may cost before, and while, both sides agree on TLS, and when they part."""

import contextlib
import resource
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from api.connections import GuardedProtocol
from api.settings import ApiSettings
from common.database import thread_engine
from common.tls import ClientTls
from devstack.servers import TlsFiles
from tests.fixtures.api import Api, served
from tests.fixtures.system_services import Starter
from tests.waiting import eventually

HEAD = b"GET /livez HTTP/1.1\r\nHost: a\r\n"
ALIVE = b'"alive"}'


class Clients(ExitStack):
    """Opens connections, and closes them in the end."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self.context = context

    def connect(self, port: int) -> socket.socket:
        return self.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))

    def encrypt(self, plain: socket.socket) -> ssl.SSLSocket:
        return self.enter_context(self.context.wrap_socket(plain, server_hostname="127.0.0.1"))

    def hello(self) -> bytes:
        """What a client says first."""
        outgoing = ssl.MemoryBIO()
        client = self.context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        return outgoing.read()

    def ask(self, port: int, path: str = "/livez") -> str:
        answer = httpx.get(f"https://127.0.0.1:{port}{path}", verify=self.context, timeout=2)
        assert answer.status_code == 200
        return answer.text


Behave = Callable[[Clients, socket.socket], socket.socket]


@pytest.fixture
def clients(of_server: TlsFiles) -> Iterator[Clients]:
    with Clients(ClientTls("TEST", of_server.ca).context()) as opened:
        yield opened


@pytest.fixture
def serve(api_settings: Callable[..., ApiSettings], of_server: TlsFiles) -> Iterator[Callable[..., Api]]:
    """Serves with TLS; keyword arguments replace single values of the settings."""
    with ExitStack() as opened:

        def begin(**others: int) -> Api:
            files = {"api_tls_certificate": of_server.certificate, "api_tls_key": of_server.key}
            return opened.enter_context(served(api_settings(**files, **others)))

        yield begin


def port_of(api: Api) -> int:
    return int(api.url.rpartition(":")[2])


def answered(connection: socket.socket) -> bytes:
    found = b""
    while not found.endswith(ALIVE) and (block := connection.recv(65_536)):
        found += block
    return found


def say_nothing(clients: Clients, plain: socket.socket) -> socket.socket:
    return plain


def say_half_a_hello(clients: Clients, plain: socket.socket) -> socket.socket:
    plain.sendall(clients.hello()[:100])
    return plain


def say_hello(clients: Clients, plain: socket.socket) -> socket.socket:
    plain.sendall(clients.hello())
    return plain


def agree_and_say_nothing(clients: Clients, plain: socket.socket) -> socket.socket:
    return clients.encrypt(plain)


def ask_and_do_not_part(clients: Clients, plain: socket.socket) -> socket.socket:
    """The server closes, and waits for the other side's end of TLS (RFC 8446, section 6.1)."""
    client = clients.encrypt(plain)
    client.sendall(HEAD + b"Connection: close\r\n\r\n")
    assert answered(client).endswith(ALIVE)
    return client


@pytest.mark.parametrize(
    "behave", [say_nothing, say_half_a_hello, say_hello, agree_and_say_nothing, ask_and_do_not_part]
)
def test_who_holds_connections_takes_neither_the_api_nor_its_files_from_others(
    start: Starter,
    of_server: TlsFiles,
    clients: Clients,
    behave: Behave,
) -> None:
    variables = {"API_TLS_CERTIFICATE": str(of_server.certificate), "API_TLS_KEY": str(of_server.key)}
    api = start("api", CONNECTIONS_MAX="50", **variables)
    port, pid = int(api.process.environment["API_PORT"]), api.process.pid
    eventually(lambda: "serving" in api.log, because="the API serves")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (250, 250))
    clients.ask(port)

    def files() -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    before, most, begun = files(), 0, time.monotonic()
    held = []
    for number in range(400):
        held.append(behave(clients, clients.connect(port)))
        if number % 10 == 0:
            most = max(most, files())
        if number % 100 == 99:
            clients.ask(port)
    assert most <= before + 50 + 20, "what is ended may take a moment"
    assert "ok" in clients.ask(port, "/readyz")
    refused = clients.ask(port, "/metrics").partition('api_refused_total{reason="connections"} ')[2]
    assert time.monotonic() - begun < 10, "or they have ended by themselves"
    assert float(refused.split()[0]) > 300


@pytest.mark.parametrize("behave", [say_nothing, say_half_a_hello, say_hello])
def test_a_handshake_has_as_long_as_a_head(
    serve: Callable[..., Api],
    clients: Clients,
    monkeypatch: pytest.MonkeyPatch,
    behave: Behave,
) -> None:
    monkeypatch.setattr("api.connections.HEAD_SECONDS", 1.0)
    port = port_of(serve())
    connection = behave(clients, clients.connect(port))
    begun = time.monotonic()
    while connection.recv(65_536):
        pass
    assert 0.5 < time.monotonic() - begun < 4
    assert 'api_refused_total{reason="too-slow"}' in clients.ask(port, "/metrics")


def test_a_request_that_comes_in_one_piece_with_the_end_of_the_handshake_is_answered(
    serve: Callable[..., Api], clients: Clients
) -> None:
    plain = clients.connect(port_of(serve()))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = clients.context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            plain.sendall(outgoing.read())
            incoming.write(plain.recv(65_536))
    client.write(HEAD + b"\r\n")
    plain.sendall(outgoing.read())
    found = b""
    while not found.endswith(ALIVE):
        try:
            found += client.read(65_536)
        except ssl.SSLWantReadError:
            block = plain.recv(65_536)
            assert block, "the server has closed"
            incoming.write(block)


def test_a_connection_has_one_place_before_and_after_its_handshake(
    serve: Callable[..., Api], clients: Clients
) -> None:
    port = port_of(serve(connections_max=5))
    idle = [clients.encrypt(clients.connect(port)) for _ in range(5)]
    for each in idle:
        each.sendall(HEAD + b"\r\n")
        assert answered(each).endswith(ALIVE)
    late = clients.connect(port)
    assert idle[0].recv(1) == b"", "the oldest makes room"
    for each in idle[1:]:
        each.sendall(HEAD + b"\r\n")
        assert answered(each).endswith(ALIVE)
    assert clients.encrypt(late).version()


def test_when_all_connections_are_at_work_a_new_one_is_closed(
    api: Api, serve: Callable[..., Api], clients: Clients
) -> None:
    port = port_of(serve(connections_max=1))
    token = api.login()["access_token"]
    engine = thread_engine(api.settings)
    with api.client(token) as client, engine.connect() as lock:
        fields = {"title": "a", "author": "b", "publication_date": "2000-01-01"}
        book = client.post("/v1/books", json=fields).headers["location"]
        lock.execute(text("SELECT 1 FROM book WHERE id = :id FOR UPDATE"), {"id": book.rpartition("/")[2]})
        at_work = clients.encrypt(clients.connect(port))
        at_work.sendall(
            f"DELETE {book} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        at_work.settimeout(0.3)
        with pytest.raises(TimeoutError):  # it waits for the lock, for a second
            at_work.recv(1)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            clients.encrypt(clients.connect(port))
        lock.rollback()
        at_work.settimeout(5)
        assert at_work.recv(65_536).startswith(b"HTTP/1.1 ")
    engine.dispose()


def test_handshakes_do_not_keep_a_process_from_ending(
    start: Starter, of_server: TlsFiles, clients: Clients
) -> None:
    variables = {"API_TLS_CERTIFICATE": str(of_server.certificate), "API_TLS_KEY": str(of_server.key)}
    api = start("api", **variables)
    port = int(api.process.environment["API_PORT"])
    eventually(lambda: "serving" in api.log, because="the API serves")
    held = [
        behave(clients, clients.connect(port))
        for behave in (say_nothing, say_half_a_hello)
        for _ in range(20)
    ]
    clients.ask(port)
    api.ends(15, within=3)
    assert "ERROR" not in api.log
    assert all(each.recv(65_536) == b"" for each in held)


@pytest.mark.parametrize("has_to_wait", [False, True], ids=["idle", "not reading"])
@pytest.mark.parametrize("says_so", [False, True], ids=["reset", "end of TLS"])
def test_a_look_at_a_connection_that_has_just_been_lost_harms_nobody(
    serve: Callable[..., Api],
    clients: Clients,
    protocols: dict[int, GuardedProtocol],
    *,
    has_to_wait: bool,
    says_so: bool,
) -> None:
    """TLS has no socket any more before it tells us that: here we look in each turn of the loop."""
    port, found, ended = port_of(serve()), list[Exception](), threading.Event()
    client = clients.encrypt(clients.connect(port))
    client.sendall(HEAD + b"\r\n")
    assert ALIVE in answered(client)
    server = protocols[client.getsockname()[1]]
    loop = server.loop

    def look() -> None:
        try:
            server.look_after(loop.time())
        except Exception as error:  # noqa: BLE001  none may come
            found.append(error)
        if server in server.connections:
            loop.call_soon(look)
        else:
            ended.set()

    if has_to_wait:
        loop.call_soon_threadsafe(server.flow.pause_writing)
    loop.call_soon_threadsafe(look)
    time.sleep(0.2)
    if says_so:
        with contextlib.suppress(OSError):
            client.unwrap()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert ended.wait(10)
    assert found == []
