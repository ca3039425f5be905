"""What a connection may cost before a request of it is with the application (docs/adr/0019).

uvicorn by itself waits for ever for a request that has begun, and takes heads of any length and any number of
connections.
"""

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api.cors import readable_from
from api.cut_short import SO_FAR
from api.http1 import Http1Parser
from api.metrics import Refusals
from api.problems import BAD_REQUEST, HEAD_TOO_LARGE, OVERLOADED, TOO_SLOW, Kind, answer
from api.reading_pace import GoneError, ReadingPace

_LOG = logging.getLogger(__name__)
HEAD_SECONDS = 10.0
SILENT_SECONDS = 30.0
# So far behind the slowest pace, a reader makes room for others.
LATE_SECONDS = 15.0
_PIPELINED = 32
# As HTTP/2 counts a header (RFC 9113, section 6.5.2), for each costs memory beside its length.
_HEADER_BYTES = 32
# Characters of RFC 3986, section 3.2.2 and 3.2.3; a user before an @ has no place there.
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_ABSOLUTE = re.compile(rb"https?://[^/?#@]+((?:[/?].*)?)", re.IGNORECASE)
_NO_HOST = replace(BAD_REQUEST, example="Send exactly one Host header (RFC 9112, section 3.2).")
_BAD_HOST = replace(BAD_REQUEST, example="The Host header must name a host, and a port or none.")
_CODINGS: list[list[bytes]] = [[], [b"chunked"]]
_NO_CODING = replace(BAD_REQUEST, example="Send no Transfer-Encoding but chunked.")
_NO_TUNNEL = replace(BAD_REQUEST, example="This is no proxy: there is no CONNECT here.")
_HEADERS = {"Connection": "close", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Doorkeeper:
    """What all connections of a process share: how many there may be, how large a head, whose pages may read.

    When there are too many, the one that has kept us waiting for longest makes room, for it is idle or means
    mischief; a new one is refused only when all others have a request in work.
    """

    def __init__(
        self, *, connections_max: int, head_max_bytes: int, refusals: Refusals, origins: Sequence[str]
    ) -> None:
        self.origins = origins
        self.connections_max = connections_max
        self.head_max_bytes = head_max_bytes
        self.refusals = refusals
        # Those that we wait for, in the order in which they were heard.
        self.waiting: dict[Connection, None] = {}

    def has_room(self, newcomer: "Connection", connections: set[Any]) -> bool:
        """Whether a connection that is among the others now may stay, perhaps in the place of another."""
        self.waiting[newcomer] = None
        if len(connections) <= self.connections_max:
            return True
        self.refusals.count("connections")
        oldest = next(iter(self.waiting))
        del self.waiting[oldest]
        connections.discard(oldest)
        if oldest is newcomer:
            return False
        oldest.give_way()
        return True

    def look_after(self, connections: Iterable[Any], now: float) -> None:
        """End what has kept us waiting for too long; `now` is the loop's time. To be called every second."""
        for connection in list(connections):
            try:
                connection.look_after(now)
            except Exception:  # noqa: BLE001  whatever one of them does, all others are served on
                _LOG.exception("connection not looked after")
                connection.give_way()


class Connection(Protocol):
    """One that is counted, and may have to end for another."""

    def give_way(self) -> None:
        """End at once."""


class _UnwantedError(Exception):
    """Ends the parsing of a request."""


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 that does not wait for ever.

    A head has ten seconds and so many bytes; half a minute may pass between two pieces of a body, and so far
    may a client fall behind in reading what it is sent (`ReadingPace`).
    """

    def __init__(self, *, doorkeeper: Doorkeeper, **uvicorns: Any) -> None:  # noqa: ANN401  uvicorn's own
        super().__init__(**uvicorns)
        self.parser = Http1Parser(self)
        self._doorkeeper = doorkeeper
        # The request that the application has; uvicorn's `cycle` is the one that was read last.
        self._begun: RequestResponseCycle | None = None
        self._held: tuple[RequestResponseCycle, Any] | None = None
        self._in_body = False
        self._has_begun = False
        self._head_since: float | None = None
        self._head_bytes = 0
        # Fed since the parser last told us anything, give or take a read: a header that does not end is seen
        # nowhere else.
        self._untold_bytes = 0
        self._heard_at = 0.0
        self._pace: ReadingPace | None = None
        self._cause = BAD_REQUEST

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, perhaps in the place of another connection."""
        super().connection_made(transport)
        self._head_since = self.loop.time()
        if not self._doorkeeper.has_room(self, self.connections):
            self._refuse(OVERLOADED)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._doorkeeper.waiting.pop(self, None)
        self._give_up()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, and look whether that leads anywhere."""
        now = self._heard_at = self.loop.time()
        self._untold_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._untold_bytes > self._doorkeeper.head_max_bytes:
            self._refuse(HEAD_TOO_LARGE)
        elif self._in_body:
            waiting = self._doorkeeper.waiting
            waiting.pop(self, None)
            waiting[self] = None
        elif self._head_since is None and (self._has_begun or self._untold_bytes):
            self._head_since = now

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._has_begun = True
        self._head_bytes = self._untold_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        self._take(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; one that follows the body would be taken for one of the head by the application."""
        self._take(len(name) + len(value) + _HEADER_BYTES)
        if not self._in_body:
            # Blanks before it are the parser's to drop, those behind it are ours (RFC 9112, section 5.1).
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """The application begins, or the request waits for the one before it.

        A proxy before us may have gone by another of two hosts (RFC 9112, section 3.2). The parser
        takes a body whose last coding is chunked for one that has no other.
        """
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._end(_NO_TUNNEL)
            return  # it is read again
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            self._end(_NO_HOST)
        if not all(map(_HOST.fullmatch, hosts)):
            self._end(_BAD_HOST)
        if [value.lower() for name, value in self.headers if name == b"transfer-encoding"] not in _CODINGS:
            self._end(_NO_CODING)
        if len(self.pipeline) >= _PIPELINED:
            raise _UnwantedError
        self.url = self._path()
        super().on_headers_complete()
        self._head_since = None
        self._has_begun = False
        self._in_body = True
        self._untold_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._untold_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of the request is there."""
        if self.parser.should_upgrade():
            return
        self._in_body = False
        self._untold_bytes = 0
        self._doorkeeper.waiting.pop(self, None)
        super().on_message_complete()

    def head_without_upgrade(self) -> bytes:
        """The head that has been read last, in which nothing asks for another protocol."""
        version = self.parser.get_http_version().encode()
        line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)
        headers = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([line, *headers, b"\r\n"])

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        # One that is closing, too, until the other side has read all and ended TLS.
        if (self._in_work() is None or self._in_body) and self in self.connections:
            self._doorkeeper.waiting[self] = None

    def resume_writing(self) -> None:
        """The client reads on."""
        super().resume_writing()
        if self._held is not None and not self.transport.is_closing():
            held, self._held = self._held, None
            self._start_asgi_task(*held)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's signature
        """What uvicorn calls when a request cannot be read."""
        self._refuse(self._cause)

    def give_way(self) -> None:
        """End at once: a close would wait, counted by nobody, until all is read and the client ends TLS."""
        self.transport.abort()

    def look_after(self, now: float) -> None:
        """End the connection if it has kept us waiting for too long."""
        if self.transport.is_closing() or self.flow.write_paused:
            self._look_after_reader(now)
            return
        if self._pace is not None:
            self._pace = None
            self._reads_in_time()
        if self._in_body:
            if self.flow.read_paused:
                self._heard_at = now
            elif now - self._heard_at >= SILENT_SECONDS:
                self._refuse(TOO_SLOW)
        elif (
            self._head_since is not None
            and now - self._head_since >= HEAD_SECONDS
            and self._in_work() is None
        ):
            self._refuse(TOO_SLOW)

    def _look_after_reader(self, now: float) -> None:
        try:
            self._pace = self._pace or ReadingPace(self.transport.get_extra_info("socket"), now)
            lag = self._pace.lag_seconds(now)
        except GoneError:  # of which the loop is yet to tell
            return
        if lag >= SILENT_SECONDS:
            self.transport.abort()
        elif lag >= LATE_SECONDS:
            self._doorkeeper.waiting.setdefault(self)
        else:
            self._reads_in_time()

    def _reads_in_time(self) -> None:
        if self._in_work() is not None and not self._in_body:
            self._doorkeeper.waiting.pop(self, None)

    def _take(self, size: int) -> None:
        self._untold_bytes = 0
        self._head_bytes += size
        if self._head_bytes > self._doorkeeper.head_max_bytes:
            self._end(HEAD_TOO_LARGE)

    def _path(self) -> bytes:
        """Where the request goes, also when it names us in full (RFC 9112, section 3.2.2)."""
        if self.url.startswith((b"/", b"*")):
            return self.url
        absolute = _ABSOLUTE.fullmatch(self.url)
        if absolute is None:
            self._end(BAD_REQUEST)
        return absolute[1] if absolute[1].startswith(b"/") else b"/" + absolute[1]

    def _end(self, cause: Kind) -> NoReturn:
        self._cause = cause
        raise _UnwantedError

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401  uvicorn's own
        """Begin, when the client has read the answers before, for the application would wait for that."""
        self._begun = cycle
        if self.flow.write_paused:
            self._held = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def _in_work(self) -> RequestResponseCycle | None:
        begun = self._begun
        return None if begun is None or begun.response_complete else begun

    def _give_up(self) -> None:
        """Tell the request in work that nobody hears its answer."""
        in_work = self._in_work()
        if in_work is not None:
            in_work.disconnected = True
            in_work.message_event.set()

    def _origin(self) -> str:
        """That of the request which has begun, as far as its head has been read."""
        read = self.headers if self._has_begun or self._in_body else []
        return next((value.decode("latin-1") for name, value in read if name == b"origin"), "")

    def _detail(self, kind: Kind) -> str:
        if kind is HEAD_TOO_LARGE:
            return f"The address and the headers must not exceed {self._doorkeeper.head_max_bytes} bytes."
        so_far = self.scope.get(SO_FAR, "") if self._in_body else ""
        return f"{kind.example} {so_far}".rstrip()

    def _refuse(self, kind: Kind) -> None:
        """Say why, unless that could be taken for the answer to another request, and close."""
        in_work = self._in_work()
        if self._in_body:
            may_answer = in_work is not None and not self.pipeline and not in_work.response_started
        else:
            may_answer = in_work is None
        if kind in {TOO_SLOW, HEAD_TOO_LARGE}:
            self._doorkeeper.refusals.count(kind.name)
        if may_answer:
            readable = readable_from(self._origin(), self._doorkeeper.origins)
            self.transport.write(_rendered(kind, self._detail(kind), readable))
        self._give_up()
        self.transport.close()


def _rendered(kind: Kind, detail: str, readable: Mapping[str, str]) -> bytes:
    response = answer(kind, detail, headers={**_HEADERS, **readable})
    head = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
    return STATUS_LINE[kind.status] + head + b"\r\n" + bytes(response.body)
