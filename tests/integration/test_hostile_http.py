"""What no client sends, on plain sockets: refused or hung up on, while others are answered."""

import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from urllib.parse import urlsplit

import httpx

from tests.fixtures.system import System

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
_SILENCE_SECONDS = 0.5
HOST = b"Host: localhost\r\n"
GOOD = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
WITHIN = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /v1/books HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"

# The statuses that come back, one for each answer; where there are several lists, any of them.
Answers = list[list[int]]
REFUSED: Answers = [[400]]
UNKNOWN: Answers = [[401]]
# The same with a token: what is asked for is looked at.
KNOWN: Answers = [[200], [401], [422]]
# A reset may overtake the answer while the rest is still being sent.
TOO_LONG: Answers = [[431], []]
# Half a request, or an answer that could be taken for that to another.
SILENCE: Answers = [[]]

HOSTILE: dict[str, tuple[Answers, bytes]] = {
    "nothing but line ends": (SILENCE, b"\r\n" * 1000),
    "NUL bytes": (REFUSED, b"\x00" * 1000),
    "all bytes": (REFUSED, bytes(range(256)) * 16),
    "HTTP/0.9": (SILENCE, b"GET /v1/books\r\n"),
    "HTTP/2 preface": (
        REFUSED,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    ),
    "HTTP/9.9": (REFUSED, b"GET /v1/books HTTP/9.9\r\n" + HOST + b"\r\n"),
    "a TLS greeting": (REFUSED, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500),
    "lone CR": (REFUSED, b"GET /v1/books HTTP/1.1\r" + HOST + b"X: 1\rY: 2\r\n\r\n"),
    "lone LF": (REFUSED, b"GET /v1/books HTTP/1.1\nHost: localhost\n\n"),
    "folded header": (REFUSED, b"GET /v1/books HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n"),
    "space before colon": (REFUSED, b"GET /v1/books HTTP/1.1\r\nHost : localhost\r\n\r\n"),
    "header without colon": (REFUSED, b"GET /v1/books HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n"),
    "NUL in a header": (REFUSED, b"GET /v1/books HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n"),
    "NUL in the path": (REFUSED, b"GET /v1/books/\x00 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "NUL in the path, encoded": (UNKNOWN, b"GET /v1/books/%00 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no UTF-8 in the path": (REFUSED, b"GET /v1/books/\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no UTF-8 in the path, encoded": (UNKNOWN, b"GET /v1/books/%ff%fe HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no UTF-8 in the query": (REFUSED, b"GET /v1/books?title=\xff HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no UTF-8 in the query, encoded": (UNKNOWN, b"GET /v1/books?title=%ff HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no UTF-8 in a header": (
        UNKNOWN,
        b"GET /v1/books HTTP/1.1\r\n" + HOST + b"Authorization: Bearer \xff\xfe\r\n\r\n",
    ),
    "no UTF-8 in the body": (REFUSED, POST + b"Content-Length: 4\r\n\r\n\xff\xfe\xff\xfe"),
    "length and chunks": (REFUSED, CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n"),
    "two lengths": (REFUSED, POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"),
    "a negative length": (REFUSED, POST + b"Content-Length: -1\r\n\r\n"),
    "a length with a sign": (REFUSED, POST + b"Content-Length: +4\r\n\r\nabcd"),
    "an endless length": (REFUSED, POST + b"Content-Length: " + b"9" * 100 + b"\r\n\r\n"),
    "chunks of nonsense": (REFUSED, CHUNKED + b"\r\nzz\r\nabc\r\n0\r\n\r\n"),
    "a negative chunk": (REFUSED, CHUNKED + b"\r\n-4\r\nabcd\r\n0\r\n\r\n"),
    "an endless chunk": (REFUSED, CHUNKED + b"\r\n" + b"f" * 40 + b"\r\nabcd\r\n"),
    "a chunk that is longer than it says": (REFUSED, CHUNKED + b"\r\n2\r\nabcdef\r\n0\r\n\r\n"),
    "a coding before chunked": (REFUSED, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "an unknown coding": (REFUSED, POST + b"Transfer-Encoding: cow\r\n\r\n"),
    "chunked twice": (REFUSED, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "another host's address": (UNKNOWN, b"GET http://example.org/v1/books HTTP/1.1\r\n" + HOST + b"\r\n"),
    "CONNECT": (REFUSED, b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "CONNECT with a body": (REFUSED, b"CONNECT a:443 HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}"),
    "an address without a path": ([[307]], b"GET http://localhost HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an address of FTP": (REFUSED, b"GET ftp://localhost/v1/books HTTP/1.1\r\n" + HOST + b"\r\n"),
    "an Upgrade over a request": (
        REFUSED,
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(WITHIN) + WITHIN,
    ),
    "a target that is no path": (REFUSED, b"GET v1/books HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a very long target": (TOO_LONG, b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a very long query": (
        TOO_LONG,
        b"GET /v1/books?title=" + b"a" * 200_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    ),
    "an unknown method": (REFUSED, b"BREW /v1/books HTTP/1.1\r\n" + HOST + b"\r\n"),
    "many unauthenticated, pipelined": (SILENCE, (b"GET /v1/books HTTP/1.1\r\n" + HOST + b"\r\n") * 200),
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
    "a coding before chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + _CHUNK,
    "a coding in a header before chunked": POST
    + b"Transfer-Encoding: gzip\r\n"
    + CHUNKED[len(POST) :]
    + b"\r\n"
    + _CHUNK,
    "a coding before chunked, and an Upgrade": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    + _CHUNK,
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + _CHUNK,
    "a chunk's length with a sign": CHUNKED + b"\r\n+" + _CHUNK,
    "a chunk's length in words": CHUNKED + b"\r\n0x" + _CHUNK,
    "a chunk without its end": CHUNKED + b"\r\n" + _CHUNK.replace(b"}\r\n", b"}"),
    "a body without a length": POST + b"\r\n" + BOOK,
    "a body behind a GET": b"GET /v1/books HTTP/1.1\r\n" + HOST + b"\r\n" + POST + b"\r\n" + BOOK,
    "a folded length": POST + b"X: a\r\n " + _LENGTH + b"\r\n" + BOOK,
    "a lone CR before the length": POST + b"X: a\r" + _LENGTH + b"\r\n" + BOOK,
}
# Behind a good request comes what is none.
UNANSWERED = {"a body without a length", "a body behind a GET"}


def connected(system: System) -> socket.socket:
    port = urlsplit(system.api_url).port
    assert port
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def told(system: System, sent: bytes, patience: float = 5) -> list[int]:
    """The statuses that come back until the server hangs up, or has no more to say.

    The client keeps its half open: the server takes the end of that for a client that has left.
    """
    answer = b""
    with connected(system) as line:
        try:
            line.settimeout(patience)
            line.sendall(sent)
            while block := line.recv(65_536):
                answer += block
                line.settimeout(_SILENCE_SECONDS)
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            pass  # hung up on in the middle of it, or waited for the rest
    return [int(status) for status in _STATUS.findall(answer)]


def amiss(system: System, requests: Mapping[str, tuple[Answers, bytes]]) -> dict[str, list[int]]:
    """What comes back where something else is due."""
    found = {
        name: told(system, sent, _SILENCE_SECONDS if due is SILENCE else 5)
        for name, (due, sent) in requests.items()
    }
    return {name: seen for name, seen in found.items() if seen not in requests[name][0]}


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
        assert amiss(system, HOSTILE) == {}
    assert (system.services["api"].pid, system.services["api"].running) == (pid, True)
    assert system.is_ready("api")


def test_nor_does_it_help_to_be_logged_in(system: System) -> None:
    """With a token the requests come further in: what reads the body sees it, and what looks for books."""
    with system.client() as client, well_behaved(system):
        newest = client.get("/v1/books?sort=-id&limit=1").json()["items"]
        token = b"Authorization: " + client.headers["authorization"].encode() + b"\r\n"
        ambiguous = {
            f"a book: {name}": (SILENCE if name in UNANSWERED else REFUSED, sent)
            for name, sent in AMBIGUOUS.items()
        }
        everything = {
            name: (KNOWN if due is UNKNOWN else due, sent.replace(HOST, HOST + token))
            for name, (due, sent) in {**HOSTILE, **ambiguous}.items()
        }
        assert amiss(system, everything) == {}
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
