import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxy import BLACK_HOLE, HALF_OPEN, WHOLE, Line, Proxy, proxy_to
from tests.waiting import eventually


class Echo:
    """Sends back what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=[client], daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while block := client.recv(65_536):
                self.heard += block
                client.sendall(block)


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with proxy_to(echo.port) as made:
        yield made


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port)) as made:
        yield made


def nothing_comes(client: socket.socket) -> bool:
    client.settimeout(0.2)
    try:
        return client.recv(1) is None
    except TimeoutError:
        return True
    finally:
        client.settimeout(10)


def take(client: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        got += client.recv(size)
    return got


def test_whole_line_carries_both_ways(client: socket.socket) -> None:
    client.sendall(b"x" * 300_000)
    assert take(client, 300_000) == b"x" * 300_000


def test_slow_answers_are_late_by_the_delay_of_each_way(proxy: Proxy, client: socket.socket) -> None:
    proxy.set(Line(delay_seconds=0.1))
    began = time.monotonic()
    client.sendall(b"x")
    assert take(client, 1) == b"x"
    assert 0.2 <= time.monotonic() - began < 2


def test_narrow_line_takes_its_bytes_per_second(proxy: Proxy, client: socket.socket) -> None:
    proxy.set(Line(bytes_per_second=10_000))
    began = time.monotonic()
    client.sendall(b"x" * 3_000)
    take(client, 3_000)
    assert 0.3 <= time.monotonic() - began < 3


def test_cut_line_resets_connections_old_and_new_until_it_is_whole_again(
    proxy: Proxy, client: socket.socket
) -> None:
    client.sendall(b"x")
    take(client, 1)
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with socket.create_connection(("127.0.0.1", proxy.port)) as other, pytest.raises(ConnectionResetError):
        other.recv(1)
    proxy.set(WHOLE)
    with socket.create_connection(("127.0.0.1", proxy.port)) as third:
        third.sendall(b"y")
        assert take(third, 1) == b"y"


def test_half_open_line_is_heard_and_not_answered_until_it_is_whole_again(
    echo: Echo, proxy: Proxy, client: socket.socket
) -> None:
    proxy.set(HALF_OPEN)
    client.sendall(b"x")
    eventually(lambda: echo.heard == b"x")
    assert nothing_comes(client)
    proxy.set(WHOLE)
    assert take(client, 1) == b"x"


def test_black_hole_takes_connections_and_bytes_and_is_silent(echo: Echo, proxy: Proxy) -> None:
    proxy.set(BLACK_HOLE)
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.sendall(b"x" * 1000)
        assert nothing_comes(client)
        assert echo.heard == b""


def test_server_that_is_away_resets_its_clients(echo: Echo, proxy: Proxy) -> None:
    echo.close()
    with socket.create_connection(("127.0.0.1", proxy.port)) as client, pytest.raises(ConnectionResetError):
        client.recv(1)


def test_server_that_hangs_up_is_seen_to_hang_up(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
