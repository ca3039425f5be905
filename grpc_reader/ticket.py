"""The consumer's side of the cache: the ticket without which nobody serves from it (docs/adr/0006)."""

import logging
import secrets
import time
from collections.abc import Collection

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from common.cache import CLOCK_MARGIN_SECONDS, TICKET_KEY, TICKET_SECONDS, thread_redis
from common.errors import BookstoreError
from common.settings import CacheSettings
from grpc_reader import ticket_scripts
from grpc_reader.generations import NOBODY, Generations, SupersededError

_TIMEOUT_SECONDS = 0.2
_PERIOD_SECONDS = 1.0
_LONGEST_PERIOD_SECONDS = 4.0
_LOOKS = 6
_FAILURES = (RedisError, OSError)
_LOG = logging.getLogger(__name__)


class Ticket:
    """The right to answer for the cache, held by the consumer that records. One thread uses it.

    The database decides who holds it: a generation is registered in the recorder row first, and from then
    on no older consumer can record; only then the ticket is put into Redis, and it is put and renewed only
    after a look at the row. Whatever is sent to Redis says when the ticket ends, in Redis' own clock, at most
    three seconds after that look began. So every consumer knows when the last ticket that it did not see
    replaced or removed is over: three seconds after the newest look of its own, or its own registration.
    """

    def __init__(self, settings: CacheSettings, generations: Generations) -> None:
        self._redis = thread_redis(
            settings.cache_url,
            settings.cache_tls,
            decode_responses=True,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._look = self._redis.register_script(ticket_scripts.LOOK)
        self._extend = self._redis.register_script(ticket_scripts.EXTEND)
        self._evict = self._redis.register_script(ticket_scripts.EVICT)
        self._release = self._redis.register_script(ticket_scripts.RELEASE)
        self._generations = generations
        # More than one, because a registration whose answer was lost may stand or not.
        self.ours: set[str] = set()
        self.held = False
        self._generation = ""
        self._over_at = float("-inf")
        self._redis_time = (0.0, 0.0)
        self._next = 0.0
        self._period = _PERIOD_SECONDS
        self._looks = (NOBODY, 0)

    @property
    def registered(self) -> bool:
        """Whether the recorder row has named this consumer, and no other as far as it knows."""
        return bool(self._generation)

    def take_over(self) -> None:
        """Register, unless that is done; for the consumer that events are delivered to.

        The cache may be away. Raises what `common.database.transaction` raises.
        """
        if not self._generation:
            self._register(replacing=None)
            self._open()

    def tend(self) -> None:
        """Renew the ticket, or get one, if that is due; call it often.

        A consumer that nothing was delivered to yet takes the ticket too, when nobody has had it for some
        seconds. A database or cache that is away is asked again later. Raises SupersededError when another
        consumer has registered.
        """
        if time.monotonic() < self._next:
            return
        # A ticket in hand would run out in a longer pause.
        self._period = _PERIOD_SECONDS if self.held else min(self._period * 2, _LONGEST_PERIOD_SECONDS)
        try:
            if self.held:
                self._renew()
            else:
                stands = bool(self._look(keys=[TICKET_KEY])[2])
                if self._generation:
                    self._begin_again()
                elif stands:
                    self._looks = (NOBODY, 0)
                elif self._vacant():
                    self._open()
            self._period = _PERIOD_SECONDS
        except BookstoreError as error:
            _LOG.debug("ticket not renewed", extra={"error": str(error)})
        except _FAILURES as error:
            _LOG.debug("cache not reached", extra={"error": repr(error)})
        self._next = time.monotonic() + self._period

    def evict(self, book_ids: list[int]) -> float:
        """Forget the books; 0 once nobody can be served anything from before this call.

        Otherwise the seconds for which a ticket may still stand unseen; `tend` may shorten them.
        """
        if self.held:
            try:
                stood = self._evict(keys=[TICKET_KEY], args=[self._generation, *book_ids])
            except _FAILURES as error:
                self._lose("cache not evicted", repr(error))
            else:
                if not stood:
                    # The script has removed what stood there, so this time there is nothing to wait for.
                    # A predecessor's may still arrive late, and would have to be evicted from next time.
                    self._lose("ticket was gone", "expired, flushed, restarted or taken")
                return 0.0
        return max(0.0, self._over_at - time.monotonic())

    def release(self) -> None:
        """Give everything back, as far as it can be reached, so that the next consumer need not wait."""
        try:
            if self._generation:
                self._generations.resign(self.ours)
            if self.held:
                self._release(keys=[TICKET_KEY], args=[self._generation])
        except (BookstoreError, *_FAILURES) as error:
            _LOG.debug("ticket not released", extra={"error": repr(error)})
        self.held, self._generation, self._looks = False, "", (NOBODY, 0)
        self.ours.clear()

    def close(self) -> None:
        """Close the connection to Redis."""
        self._redis.close()

    def _register(self, *, replacing: Collection[str] | None) -> bool:
        generation = secrets.token_hex(16)
        self.ours.add(generation)
        if not self._generations.register(generation, replacing=replacing):
            self.ours.discard(generation)
            return False
        # A predecessor's last look at the row was before this, so its ticket is over three seconds from now.
        self._over_at = time.monotonic() + TICKET_SECONDS + CLOCK_MARGIN_SECONDS
        self._generation, self.ours = generation, {generation}
        return True

    def _begin_again(self) -> None:
        # What stands under the old generation's keys is not known any more.
        if not self._register(replacing=set(self.ours)):
            raise SupersededError("Another consumer has registered.")
        self._open()

    def _open(self) -> None:
        """Put a generation's ticket in place. Tried once: a late one opens keys that were never used."""
        looked_at = self._confirm()
        try:
            run, milliseconds, _ = self._look(keys=[TICKET_KEY])
            self._redis_time = (milliseconds, time.monotonic())
            deadline = self._deadline(looked_at)
            self._redis.set(TICKET_KEY, f"{run} {self._generation}", pxat=deadline)
        except _FAILURES as error:
            self._lose("ticket not taken", repr(error))
            return
        self.held = True
        _LOG.info("ticket taken", extra={"generation": self._generation})

    def _renew(self) -> None:
        deadline = self._deadline(self._confirm())
        stood, milliseconds = self._extend(keys=[TICKET_KEY], args=[self._generation, deadline])
        if stood:
            self._redis_time = (milliseconds, time.monotonic())
        else:
            self._lose("ticket was gone", "expired, flushed, restarted or taken")

    def _confirm(self) -> float:
        """Look that the recorder row still names us; the time before the look."""
        looked_at = time.monotonic()
        if self._generations.current() not in self.ours:
            self.held = False
            raise SupersededError("Another consumer has registered.")
        self._over_at = looked_at + TICKET_SECONDS + CLOCK_MARGIN_SECONDS
        return looked_at

    def _deadline(self, looked_at: float) -> int:
        """Redis' time, in milliseconds, three seconds after `looked_at`.

        Reckoned from when Redis' last answer was *received*: it was given earlier, so this is never late.
        """
        milliseconds, received_at = self._redis_time
        return int(milliseconds + (looked_at - received_at + TICKET_SECONDS) * 1000)

    def _vacant(self) -> bool:
        """Register where nobody has, or where the one who has does not renew: it is gone, or has no cache."""
        current = self._generations.current()
        seen, looks = self._looks
        self._looks = (current, looks + 1 if seen == current else 1)
        if current != NOBODY and self._looks[1] < _LOOKS:
            return False
        return self._register(replacing={current})

    def _lose(self, message: str, reason: str) -> None:
        self.held = False
        self._next = time.monotonic()
        _LOG.warning("cache closed", extra={"cause": message, "reason": reason})
