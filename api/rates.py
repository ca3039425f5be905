"""How often somebody may call, counted together with the other APIs through Redis (docs/adr/0019)."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from redis.exceptions import RedisError

from common.cache import loop_redis
from common.settings import CacheSettings

WINDOW_SECONDS = 1
_SHARING_SECONDS = 0.05
_TIMEOUT_SECONDS = 0.1
_AGAIN_SECONDS = 1.0
# Who has made less than this part of the quota here has not made all of it with a few other APIs.
_WORTH_SHARING = 20
# The last is what uvloop says of a connection that ended between two steps of its client.
_ERRORS = (RedisError, OSError, RuntimeError, TimeoutError)
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Count:
    """Calls in one second: `own` were let in here, `shared` of them are known to Redis."""

    own: int = 0
    shared: int = 0
    elsewhere: int = 0


@dataclass
class _Window:
    second: int
    counts: dict[tuple[str, str], _Count] = field(default_factory=dict)


class Rates:
    """Counts calls by policy and caller, in windows of a second that all APIs have in common.

    Nobody waits for Redis: a call is judged by what is counted here and what was last heard of other APIs. A
    task tells Redis twenty times a second what busy callers have made here, and hears of it what they have
    made in all. While Redis is away each API counts alone, and asks again every second.
    """

    def __init__(self, settings: CacheSettings, quotas: Mapping[str, int]) -> None:
        # Calls per second by policy; one that is switched off is not there.
        self.quotas = {policy: quota for policy, quota in quotas.items() if quota}
        self._items = {
            policy: RateLimitItemPerSecond(quota, namespace=policy) for policy, quota in self.quotas.items()
        }
        self._redis = loop_redis(
            settings, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS, retry=None
        )
        self._storage = RedisStorage(
            settings.cache_url.get_secret_value(),
            implementation="redispy",
            key_prefix="bookstore:rates",
            connection_pool=self._redis.connection_pool,  # type: ignore[arg-type]  # handed on as it is
        )
        self._window = _Window(0)

    def take(self, policy: str, caller: str) -> int | None:
        """Count a call: how many more the caller has in this second, or None when this one is too many.

        The policy must be one of `quotas`.
        """
        second = int(time.time())
        if second != self._window.second:
            self._window = _Window(second)
        count = self._window.counts.get((policy, caller))
        if count is None:
            count = self._window.counts[policy, caller] = _Count()
        left = self._items[policy].amount - count.own - count.elsewhere - 1
        if left < 0:
            return None
        count.own += 1
        return left

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Share the counts with other APIs until the block ends."""
        sharing = asyncio.create_task(self._share_for_ever())
        try:
            yield
        finally:
            sharing.cancel()
            await asyncio.wait([sharing])
            await self._redis.aclose()

    async def _share_for_ever(self) -> None:
        alone = False
        while True:
            try:
                await self._share(self._window)
            except _ERRORS as error:
                if not alone:
                    _LOG.warning("calls are counted by this process alone", extra={"error": repr(error)})
                alone = True
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if alone:
                _LOG.info("calls are counted together again")
            alone = False
            await asyncio.sleep(_SHARING_SECONDS)

    async def _share(self, window: _Window) -> None:
        for (policy, caller), count in list(window.counts.items()):
            item = self._items[policy]
            news = count.own - count.shared
            if not news or count.own * _WORTH_SHARING < item.amount:
                continue
            key = item.key_for(caller, str(window.second))
            count.shared += news
            total = await self._storage.incr(key, 2 * WINDOW_SECONDS, amount=news)
            count.elsewhere = total - count.shared
