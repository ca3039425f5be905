"""What no client sends, on plain sockets: refused or hung up on, while others are answered."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from urllib.parse import urlsplit

import httpx

from tests.fixtures.system import System

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
_SILENCE_SECONDS = 0.5
HOST = b"Host: localhost\r\n"
GOOD = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /v1/books HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"

HOSTILE = {
    "nothing but line ends": b"\r\n" * 1000,
    "NUL bytes": b"\x00" * 1000,
    "all bytes": bytes(range(256)) * 16,
    "HTTP/0.9": b"GET /v1/books\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "HTTP/9.9": b"GET /v1/books HTTP/9.9\r\n" + HOST + b"\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "lone CR": b"GET /v1/books HTTP/1.1\r" + HOST + b"X: 1\rY: 2\r\n\r\n",
    "lone LF": b"GET /v1/books HTTP/1.1\nHost: localhost\n\n",
    "folded header": b"GET /v1/books HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "space before colon": b"GET /v1/books HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "header without colon": b"GET /v1/books HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n",
    "NUL in a header": b"GET /v1/books HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n",
    "NUL in the path": b"GET /v1/books/\x00 HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL in the path, encoded": b"GET /v1/books/%00 HTTP/1.1\r\n" + HOST + b"\r\n",
    "no UTF-8 in the path": b"GET /v1/books/\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
    "no UTF-8 in the path, encoded": b"GET /v1/books/%ff%fe HTTP/1.1\r\n" + HOST + b"\r\n",
    "no UTF-8 in the query": b"GET /v1/books?title=\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "no UTF-8 in the query, encoded": b"GET /v1/books?title=%ff HTTP/1.1\r\n" + HOST + b"\r\n",
    "no UTF-8 in a header": b"GET /v1/books HTTP/1.1\r\n" + HOST + b"Authorization: Bearer \xff\xfe\r\n\r\n",
    "no UTF-8 in the body": POST + b"Content-Length: 4\r\n\r\n\xff\xfe\xff\xfe",
    "length and chunks": CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a length with a sign": POST + b"Content-Length: +4\r\n\r\nabcd",
    "an endless length": POST + b"Content-Length: " + b"9" * 100 + b"\r\n\r\n",
    "chunks of nonsense": CHUNKED + b"\r\nzz\r\nabc\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + b"\r\n-4\r\nabcd\r\n0\r\n\r\n",
    "an endless chunk": CHUNKED + b"\r\n" + b"f" * 40 + b"\r\nabcd\r\n",
    "a chunk that is longer than it says": CHUNKED + b"\r\n2\r\nabcdef\r\n0\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: cow\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "another host's address": b"GET http://example.org/v1/books HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target that is no path": b"GET v1/books HTTP/1.1\r\n" + HOST + b"\r\n",
    "a very long target": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a very long query": b"GET /v1/books?title=" + b"a" * 200_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "an unknown method": b"BREW /v1/books HTTP/1.1\r\n" + HOST + b"\r\n",
    "many unauthenticated, pipelined": (b"GET /v1/books HTTP/1.1\r\n" + HOST + b"\r\n") * 200,
}
BOOK = b'{"title":"Dune","author":"Frank Herbert","publication_date":"1965-08-01"}'
_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BOOK), BOOK)
_LENGTH = b"Content-Length: %d\r\n" % len(BOOK)

# A good book, in a request of which two readers might not agree where it ends, or whose it is.
AMBIGUOUS = {
    "length and chunks": CHUNKED + _LENGTH + b"\r\n" + _CHUNK,
    "chunks and length": POST + _LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNK,
    "two lengths": POST + _LENGTH + b"Content-Length: 5\r\n\r\n" + BOOK,
    "a list of lengths": POST + _LENGTH.replace(b"\r\n", b", 5\r\n") + b"\r\n" + BOOK,
    "a length with a sign": POST + b"Content-Length: +%d\r\n\r\n" % len(BOOK) + BOOK,
    "a length in hexadecimals": POST + b"Content-Length: 0x%x\r\n\r\n" % len(BOOK) + BOOK,
    "a space before the colon": POST + b"Content-Length : %d\r\n\r\n" % len(BOOK) + BOOK,
    "a coding that is not chunked": POST + b"Transfer-Encoding: identity\r\n\r\n" + _CHUNK,
    "a coding with a tab before it": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + _CHUNK,
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + _CHUNK,
    "a chunk's length with a sign": CHUNKED + b"\r\n+" + _CHUNK,
    "a chunk's length in words": CHUNKED + b"\r\n0x" + _CHUNK,
    "a chunk without its end": CHUNKED + b"\r\n" + _CHUNK.replace(b"}\r\n", b"}"),
    "a body without a length": POST + b"\r\n" + BOOK,
    "a body behind a GET": b"GET /v1/books HTTP/1.1\r\n" + HOST + b"\r\n" + POST + b"\r\n" + BOOK,
    "a folded length": POST + b"X: a\r\n " + _LENGTH + b"\r\n" + BOOK,
    "a lone CR before the length": POST + b"X: a\r" + _LENGTH + b"\r\n" + BOOK,
}


def connected(system: System) -> socket.socket:
    port = urlsplit(system.api_url).port
    assert port
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def told(system: System, sent: bytes) -> list[int]:
    """The statuses that come back until the server hangs up, or has no more to say.

    The client keeps its half open: the server takes the end of that for a client that has left.
    """
    answer = b""
    with connected(system) as line:
        try:
            line.sendall(sent)
            line.settimeout(_SILENCE_SECONDS)
            while block := line.recv(65_536):
                answer += block
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            pass  # hung up on in the middle of it, or waited for the rest
    return [int(status) for status in _STATUS.findall(answer)]


@contextmanager
def well_behaved(system: System) -> Iterator[None]:
    """Somebody goes on asking meanwhile; each answer must be right, and come within two seconds."""
    done, faults, asked = Event(), list[str](), [0]

    def ask() -> None:
        with system.client() as client:
            while not done.is_set() or asked[0] < 5:
                begun = time.monotonic()
                try:
                    status = client.get("/v1/books?limit=1").status_code
                except httpx.TransportError as error:
                    status, faults[len(faults) :] = 0, [repr(error)]
                asked[0] += 1
                if status != 200 or time.monotonic() - begun > 2:
                    faults.append(f"{status} after {time.monotonic() - begun} s")

    asking = Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        done.set()
        asking.join(30)
    assert (faults, asked[0] >= 5) == ([], True)


def test_what_is_hostile_is_refused_and_others_are_answered(system: System) -> None:
    pid = system.services["api"].pid
    with well_behaved(system):
        found = {name: told(system, sent) for name, sent in HOSTILE.items()}
    assert {name: seen for name, seen in found.items() if not all(400 <= s < 500 for s in seen)} == {}
    assert (system.services["api"].pid, system.services["api"].running) == (pid, True)
    assert system.is_ready("api")


def test_nor_does_it_help_to_be_logged_in(system: System) -> None:
    """With a token the requests come further in: what reads the body sees it, and what looks for books."""
    with system.client() as client, well_behaved(system):
        newest = client.get("/v1/books?sort=-id&limit=1").json()["items"]
        token = b"Authorization: " + client.headers["authorization"].encode() + b"\r\n"
        everything = {**HOSTILE, **{f"a book: {name}": sent for name, sent in AMBIGUOUS.items()}}
        found = {name: told(system, sent.replace(HOST, HOST + token)) for name, sent in everything.items()}
        assert {name: seen for name, seen in found.items() if any(s >= 500 for s in seen)} == {}
        assert {name: seen for name, seen in found.items() if 201 in seen} == {}
        assert client.get("/v1/books?sort=-id&limit=1").json()["items"] == newest
        # The same request with a good frame is taken, so it was the frame that was refused.
        good = (POST + _LENGTH + b"\r\n" + BOOK).replace(HOST, HOST + token)
        assert told(system, good) == [201]
    assert system.is_ready("api")


def test_pipelined_requests_are_answered_in_order(system: System) -> None:
    lost = b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n"
    last = GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    # More than 32 that wait end the connection (test_connections.py).
    assert told(system, (GOOD + lost) * 12 + last) == [200, 404] * 12 + [200]


def test_half_open_lines_are_nobodys_trouble(system: System) -> None:
    lines = [connected(system) for _ in range(300)]
    try:
        for line in lines:
            line.sendall(POST + b"Content-Length: 100\r\n\r\n{")
        with well_behaved(system):
            assert system.is_ready("api")
    finally:
        for line in lines:
            line.close()
    assert system.is_ready("api")
