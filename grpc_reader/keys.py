import asyncio
import json
import logging
import ssl
import time
import urllib.request
from http.client import HTTPException

from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from common.errors import KeysUnavailableError

_TIMEOUT_SECONDS = 2.0
_PAUSE_SECONDS = 2.0
_MAX_AGE_SECONDS = 300.0
_MAX_BYTES = 65_536
_LOG = logging.getLogger(__name__)


def _download(url: str, tls: ssl.SSLContext | None) -> str:
    # The settings accept http and https addresses only.
    end, text = time.monotonic() + _TIMEOUT_SECONDS, b""
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS, context=tls) as answer:  # noqa: S310
        # The time-out is for each piece of what comes.
        while piece := answer.read1(_MAX_BYTES):
            text += piece
            if time.monotonic() > end:
                raise TimeoutError
            if len(text) > _MAX_BYTES:
                raise ValueError(f"The keys are longer than {_MAX_BYTES} bytes.")
    return text.decode()


class RemoteKeys:
    """The public keys that the API publishes, fetched when needed and kept while the API is away.

    Call it for the keys; it raises KeysUnavailableError only if there never were any. However many callers
    ask, one download at most is under way, two seconds lie between two of them, and none is made by the event
    loop's own thread. Nobody waits for one longer than two seconds, and while the API does not answer nobody
    who has keys waits for any.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._tls = tls
        self._text: str | None = None
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._failed = False
        self._began_at = self._ended_at = float("-inf")
        self._download: asyncio.Task[None] | None = None
        self._waited = asyncio.Event()

    async def __call__(self) -> KeySet:
        """The keys; those older than five minutes are fetched again first, so that a withdrawn key goes."""
        if self._keys is None or time.monotonic() - self._fetched_at > _MAX_AGE_SECONDS:
            waited = self._begun()
            if self._keys is None or not self._failed:
                await waited.wait()
        if self._keys is None:
            raise KeysUnavailableError("The keys that tokens are verified with cannot be fetched; try again.")
        return self._keys

    async def refresh(self) -> bool:
        """Fetch the keys unless that was tried just now; True when there are other keys than before."""
        before = self._text
        await self._begun().wait()
        return self._text != before

    def _begun(self) -> asyncio.Event:
        """Set when the download that is under way, or begins now, has been waited for long enough.

        None begins within two seconds of the last one.
        """
        if self._download is None and time.monotonic() - self._ended_at >= _PAUSE_SECONDS:
            self._waited = asyncio.Event()
            self._began_at = time.monotonic()
            self._download = asyncio.create_task(self._fetch())
            # One timer for all: a time-out of each would have each look for itself among the others.
            asyncio.get_running_loop().call_later(_TIMEOUT_SECONDS, self._waited.set)
        return self._waited

    async def _fetch(self) -> None:
        try:
            text = await asyncio.to_thread(_download, self._url, self._tls)
            # Keys that are the same stay: who has verified a token by them need not do it again.
            keys = self._keys if text == self._text else KeySet.import_key_set(json.loads(text))
        except (OSError, HTTPException, ValueError, KeyError, TypeError, JoseError) as error:
            _LOG.warning("keys not fetched", extra={"url": self._url, "error": repr(error)})
        else:
            self._text, self._keys, self._fetched_at = text, keys, time.monotonic()
        finally:
            self._download, self._ended_at = None, time.monotonic()
            self._waited.set()
            self._failed = self._fetched_at < self._began_at
