"""The keys that access tokens are signed with: one PEM file each, in a directory of their own."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from common.errors import StartError
from common.tokens import ALGORITHM

_CURVE = "P-256"


class SigningKeys:
    """The newest key signs; all of them verify, so that a new one can be added while tokens are about."""

    def __init__(self, keys: list[ECKey]) -> None:
        if not keys:
            raise StartError("There is no signing key.")
        self._signing = KeySet([keys[-1]])
        self._public = KeySet([ECKey.import_key(key.as_dict(private=False)) for key in keys])
        self.jwks = json.dumps(self._public.as_dict(private=False)).encode()

    @classmethod
    def open(cls, directory: Path) -> "SigningKeys":
        """The keys in `directory`; the first start makes one, however many processes start at once.

        Directories and files that are made here are their owner's alone (0700, 0600). StartError where the
        directory cannot be used or holds something that is no private P-256 key.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(directory):
                if not _files(directory):
                    _make(directory)
                return cls([_read(file) for file in _files(directory)])
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StartError(f"SIGNING_KEYS_DIR ({directory}) cannot be used: {reason}.") from None

    def signing(self) -> KeySet:
        """The private key to sign with, as a set of one: a token gets its `kid` only from a set."""
        return self._signing

    async def public(self) -> KeySet:
        """What signatures are verified with."""
        return self._public


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


def _make(directory: Path) -> None:
    key = ECKey.generate_key(_CURVE)
    unfinished = directory / f".{key.thumbprint()}.{os.getpid()}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.as_pem(private=True))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(directory / f"{key.thumbprint()}.pem")


def _read(file: Path) -> ECKey:
    sentence = f"{file} is not the PEM file of a private {_CURVE} key."
    try:
        key = ECKey.import_key(file.read_bytes())
    except (JoseError, ValueError):
        raise StartError(sentence) from None
    if not key.is_private or key.curve_name != _CURVE:
        raise StartError(sentence)
    # The thumbprint of RFC 7638 is the key's name, whatever the file is called.
    return ECKey.import_key(
        key.as_pem(private=True), {"kid": key.thumbprint(), "use": "sig", "alg": ALGORITHM}
    )
