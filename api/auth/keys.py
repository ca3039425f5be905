"""The keys that access tokens are signed with: one PEM file each, in a directory of their own."""

import asyncio
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from common.errors import StartError
from common.tokens import ALGORITHM

_CURVE = "P-256"
_LOOK_SECONDS = 1.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SigningKey:
    """A key and its file; `published_at` is the file's time of modification, in seconds since the epoch."""

    key: ECKey
    file: Path
    published_at: float

    @property
    def kid(self) -> str:
        """The thumbprint of RFC 7638, whatever the file is called."""
        return self.key.thumbprint()


class SigningKeys:
    """The newest key signs once it has been published for `lead`; all of them verify.

    Whoever verifies may keep a copy of the public keys for five minutes: with a lead beyond that, each copy
    has a key before it meets a token that it signed, and changing keys costs no call (docs/adr/0022).
    """

    def __init__(self, directory: Path, lead: timedelta) -> None:
        self._directory = directory
        self._lead = lead.total_seconds()
        self._seen: object = None
        self._keys: list[SigningKey] = []
        self._public = KeySet([])
        self.jwks = b""

    @classmethod
    def open(cls, directory: Path, lead: timedelta = timedelta(0)) -> "SigningKeys":
        """The keys in `directory`; the first start makes one, however many processes start at once.

        Directories and files that are made here are their owner's alone (0700, 0600). StartError where the
        directory cannot be used or holds something that is no private P-256 key.
        """
        keys = cls(directory, lead)
        with _usable(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(directory):
                if not _files(directory):
                    _make(directory)
                keys.read()
        return keys

    def read(self) -> bool:
        """Look at the directory; True when it has changed. An OSError or StartError leaves all as it was."""
        files = _files(self._directory)
        seen = [(file.name, file.stat().st_mtime_ns) for file in files]
        if seen == self._seen:
            return False
        found = [_read(file) for file in files]
        if not found:
            raise StartError(f"There is no signing key in {self._directory}.")
        self._keys, self._seen = found, seen
        self._public = KeySet([ECKey.import_key(each.key.as_dict(private=False)) for each in found])
        self.jwks = json.dumps(self._public.as_dict(private=False)).encode()
        return True

    def all(self) -> list[SigningKey]:
        """All keys, the oldest first."""
        return list(self._keys)

    def current(self) -> SigningKey:
        """The newest of those that have been published for long enough, or else the oldest."""
        latest = time.time() - self._lead
        return next((each for each in reversed(self._keys) if each.published_at <= latest), self._keys[0])

    def signing(self) -> KeySet:
        """The private key to sign with, as a set of one: a token gets its `kid` only from a set."""
        return KeySet([self.current().key])

    async def public(self) -> KeySet:
        """What signatures are verified with; the same object while the keys are the same."""
        return self._public

    async def keep_current(self) -> None:
        """Look at the directory each second, until cancelled; while it is not right, the keys stay."""
        complaint = ""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if self.read():
                    _LOG.info("signing keys changed", extra={"keys": [each.kid for each in self._keys]})
                complaint = ""
            except (OSError, StartError) as error:
                if str(error) != complaint:
                    _LOG.warning("signing keys not read", extra={"error": str(error)})
                complaint = str(error)


def add_key(directory: Path) -> SigningKey:
    """Make one more key; StartError when the directory cannot be used."""
    with _usable(directory), _locked(directory):
        return _read(_make(directory))


def remove_key(directory: Path, kid: str, *, first: Callable[[], None] = lambda: None) -> None:
    """Remove a key that is not the last, when `first` has done its part; ValueError when it may not go."""
    with _usable(directory), _locked(directory):
        found = [_read(file) for file in _files(directory)]
        mine = [each for each in found if each.kid == kid]
        if not mine:
            raise ValueError(f"There is no key {kid}; `python -m api keys list` shows all.")
        if len(mine) == len(found):
            raise ValueError("This is the only key; make another first with `python -m api keys rotate`.")
        first()
        for each in mine:
            each.file.unlink()


@contextmanager
def _usable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StartError(f"SIGNING_KEYS_DIR ({directory}) cannot be used: {reason}.") from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _files(directory: Path) -> list[Path]:
    """The key files, oldest first."""
    return sorted(directory.glob("*.pem"), key=lambda file: (file.stat().st_mtime_ns, file.name))


def _make(directory: Path) -> Path:
    key = ECKey.generate_key(_CURVE)
    while key.thumbprint().startswith("-"):  # a command would take it for an option
        key = ECKey.generate_key(_CURVE)
    unfinished = directory / f".{key.thumbprint()}.{os.getpid()}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.as_pem(private=True))
        file.flush()
        os.fsync(file.fileno())
    return unfinished.rename(directory / f"{key.thumbprint()}.pem")


def _read(file: Path) -> SigningKey:
    sentence = f"{file} is not the PEM file of a private {_CURVE} key."
    try:
        key = ECKey.import_key(file.read_bytes())
    except (JoseError, ValueError):
        raise StartError(sentence) from None
    if not key.is_private or key.curve_name != _CURVE:
        raise StartError(sentence)
    named = ECKey.import_key(
        key.as_pem(private=True), {"kid": key.thumbprint(), "use": "sig", "alg": ALGORITHM}
    )
    return SigningKey(named, file, file.stat().st_mtime)
