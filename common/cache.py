"""Books in Redis: never older than the newest recorded event, and down only costs speed (docs/adr/0006).

The consumer that records events holds a *ticket* in Redis: the run of the cache server and the *generation*
of the keys. Each call below looks for the ticket in the same step as for the book: without a ticket of this
very server run, nobody serves from the cache and nobody fills it. A miss leaves a random token in the
book's place; the fill succeeds only while that token stands, and an eviction removes it.
"""

import logging
import secrets
import ssl
import time
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr, ValidationError
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection
from redis.connection import SSLConnection as BlockingSSLConnection
from redis.exceptions import RedisError

from common import fault_points
from common.books import Book
from common.settings import CacheSettings
from common.tls import ClientTls

TICKET_KEY = "bookstore:ticket"
TICKET_SECONDS = 3.0
# Two clocks that run side by side for three seconds may differ by less than this.
CLOCK_MARGIN_SECONDS = 0.1
_TICKET_LONGEST_MILLISECONDS = int((TICKET_SECONDS + CLOCK_MARGIN_SECONDS) * 1000)
ENTRY_SECONDS = 600
_TOKEN_MILLISECONDS = 2000
_TIMEOUT_SECONDS = 0.1
_OWED_AT_MOST = 10_000
# Longer than a server goes on with a commit whose connection has ended (docs/adr/0013).
_SETTLED_SECONDS = 10.0
_VACANT_MARK = "?"
# The last is what uvloop says of a connection that ended between two steps of its client.
_ERRORS = (RedisError, OSError, RuntimeError)

# The ticket is "<run id> <generation>"; a server restarted, perhaps from an old dump, has another run id.
# One with more than its life before it stands there because the server's clock was stepped back: it goes.
TICKET_GENERATION_LUA = f"""
local function generation()
  if redis.call('PTTL', KEYS[1]) > {_TICKET_LONGEST_MILLISECONDS} then redis.call('DEL', KEYS[1]) end
  local run, generation = string.match(redis.call('GET', KEYS[1]) or '', '^(%x+) (%x+)$')
  if run and string.find(redis.call('INFO', 'server'), 'run_id:' .. run, 1, true) then return generation end
end
"""
_LOOK_UP = (
    TICKET_GENERATION_LUA
    + """
local generation = generation()
if not generation then return {'closed'} end
local key = 'bookstore:book:' .. generation .. ':' .. ARGV[1]
local value = redis.call('GET', key)
if value and string.sub(value, 1, 1) ~= '?' then return {'hit', value} end
if value then return {'busy'} end
redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
return {'miss', key}
"""
)
_FILL = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
_EVICT = (
    TICKET_GENERATION_LUA
    + """
local generation = generation()
if generation then redis.call('DEL', 'bookstore:book:' .. generation .. ':' .. ARGV[1]) end
return 1
"""
)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vacancy:
    """A book's empty place in the cache, kept for whoever holds the token in it."""

    key: str
    token: str


class _Tls(SSLConnection):
    """With our context: that of the library trusts the system's CAs beside the given one."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:  # noqa: ANN401  the library's own
        super().__init__(**options)
        self.ssl_context.context = tls


class _BlockingTls(BlockingSSLConnection):
    """Likewise."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:  # noqa: ANN401  the library's own
        super().__init__(**options)
        self._tls = tls

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:  # noqa: ANN401  as inherited
        return self._tls.wrap_socket(sock, server_hostname=self.host)


def thread_redis(url: SecretStr, tls: ClientTls, **options: Any) -> BlockingRedis:  # noqa: ANN401  the library's
    """A client for a thread; with a `rediss` address it verifies as all do."""
    text = url.get_secret_value()
    if not text.startswith("rediss:"):
        return BlockingRedis.from_url(text, **options)
    redis = BlockingRedis.from_url(text, tls=tls.context(), **options)
    redis.connection_pool.connection_class = _BlockingTls
    return redis


def loop_redis(settings: CacheSettings, **options: Any) -> Redis:  # noqa: ANN401  the library's
    """The same for an event loop."""
    text = settings.cache_url.get_secret_value()
    if not text.startswith("rediss:"):
        return Redis.from_url(text, **options)
    redis = Redis.from_url(text, tls=settings.cache_tls.context(), **options)
    redis.connection_pool.connection_class = _Tls
    return redis


def entry_key(generation: str, book_id: int) -> str:
    """Where a book stands in a generation of keys."""
    return f"bookstore:book:{generation}:{book_id}"


class BookCache:
    """Look up, fill, evict. None raises, or takes over a tenth of a second when Redis is down."""

    def __init__(self, settings: CacheSettings) -> None:
        self._redis = loop_redis(
            settings,
            decode_responses=True,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=None,
            max_connections=64,
        )
        self._look_up = self._redis.register_script(_LOOK_UP)
        self._fill = self._redis.register_script(_FILL)
        self._evict = self._redis.register_script(_EVICT)
        self._owed: dict[int, float] = {}

    async def look_up(self, book_id: int) -> Book | Vacancy | None:
        """The book; or a vacancy, which the caller fills after reading the database; or None: do not fill."""
        if self._owed and not await self._has_paid(book_id):
            return None
        token = _VACANT_MARK + secrets.token_hex(8)
        try:
            answer, *rest = await self._look_up(keys=[TICKET_KEY], args=[book_id, token, _TOKEN_MILLISECONDS])
            if answer == "hit":
                return Book.model_validate_json(rest[0])
            return Vacancy(rest[0], token) if answer == "miss" else None
        except (*_ERRORS, UnicodeDecodeError, ValidationError) as error:
            _LOG.debug("cache look-up failed", extra={"error": repr(error)})
            return None

    async def fill(self, vacancy: Vacancy, book: Book) -> bool:
        """Put the book, read after the look-up that found the vacancy, in, unless it was evicted since."""
        fault_points.reach("cache.before-fill")
        try:
            filled = await self._fill(
                keys=[vacancy.key], args=[vacancy.token, book.model_dump_json(), ENTRY_SECONDS]
            )
            return bool(filled)
        except _ERRORS as error:
            _LOG.debug("cache fill failed", extra={"error": repr(error)})
            return False

    async def evict(self, book_id: int) -> None:
        """Forget a book, so that a client sees its own write at once; promise 9 does not need it.

        What cannot be forgotten now is not looked up in the cache by this process until it is.
        """
        began = time.monotonic()
        try:
            await self._evict(keys=[TICKET_KEY], args=[book_id])
        except BaseException as error:
            self._owe(book_id)
            if not isinstance(error, _ERRORS):
                raise
            _LOG.debug("cache eviction failed", extra={"error": repr(error)})
        else:
            # One that failed after this began is for a later change, perhaps.
            if self._owed.get(book_id, began) < began:
                del self._owed[book_id]

    def distrust(self, book_id: int) -> None:
        """Owe an eviction of the book for some seconds: it may be changing, and nobody knows when."""
        self._owe(book_id, after=_SETTLED_SECONDS)

    def _owe(self, book_id: int, *, after: float = 0.0) -> None:
        # After so long the entry is over by itself.
        over = time.monotonic() - ENTRY_SECONDS
        while self._owed and (len(self._owed) >= _OWED_AT_MOST or next(iter(self._owed.values())) < over):
            del self._owed[next(iter(self._owed))]
        owed_until = time.monotonic() + after
        self._owed[book_id] = max(self._owed.pop(book_id, owed_until), owed_until)

    async def _has_paid(self, book_id: int) -> bool:
        """Whether no eviction of the book is owed, or it could be made up for now."""
        if book_id in self._owed:
            await self.evict(book_id)
        return book_id not in self._owed

    async def ping(self) -> None:
        """Raise RedisError or OSError unless the cache answers."""
        await self._redis.ping()

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()
