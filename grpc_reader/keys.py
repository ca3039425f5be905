import asyncio
import json
import logging
import ssl
import time
import urllib.request

from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from common.errors import KeysUnavailableError

_TIMEOUT_SECONDS = 2
_PAUSE_SECONDS = 2.0
_MAX_AGE_SECONDS = 300.0
_MAX_BYTES = 65_536
_LOG = logging.getLogger(__name__)


def _download(url: str, tls: ssl.SSLContext | None) -> str:
    # The settings accept http and https addresses only.
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS, context=tls) as answer:  # noqa: S310
        return str(answer.read(_MAX_BYTES).decode())


class RemoteKeys:
    """The public keys that the API publishes, fetched when needed and kept while the API is away.

    Call it for the keys; it raises KeysUnavailableError only if there never were any. However many callers
    ask, the API is asked once in two seconds at most, and never from the event loop's own thread.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._tls = tls
        self._text = ""
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    async def __call__(self) -> KeySet:
        """The keys; those older than five minutes are fetched again first, so that a withdrawn key goes."""
        if self._keys is None or time.monotonic() - self._fetched_at > _MAX_AGE_SECONDS:
            await self.refresh()
        if self._keys is None:
            raise KeysUnavailableError("The keys that tokens are verified with cannot be fetched; try again.")
        return self._keys

    async def refresh(self) -> bool:
        """Fetch the keys unless that was tried just now; True when there are other keys than before."""
        before = self._text
        async with self._lock:
            if time.monotonic() - self._tried_at >= _PAUSE_SECONDS:
                self._tried_at = time.monotonic()
                await self._fetch()
        return self._text != before

    async def _fetch(self) -> None:
        try:
            text = await asyncio.to_thread(_download, self._url, self._tls)
            keys = KeySet.import_key_set(json.loads(text))
        except (OSError, ValueError, KeyError, TypeError, JoseError) as error:
            _LOG.warning("keys not fetched", extra={"url": self._url, "error": repr(error)})
            return
        self._text, self._keys, self._fetched_at = text, keys, time.monotonic()
