"""Cursors of the list: where a page ended, sealed together with the query that it belongs to."""

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from api.books.queries import Filters, Position, Sort
from common.books import BOOK_ID_MAX
from common.errors import InvalidInputError, StartError, Violation

# A title of 300 control characters, each of which JSON writes with six, makes one of 2,454.
CURSOR_MAX_LENGTH = 2500
_SECRET_BYTES = 32
_SEAL_BYTES = 16
# What is sealed; another layout of it needs another name, and makes the cursors of before stale.
_FORMAT = "books-1"


@dataclass(frozen=True)
class Cursors:
    """Makes cursors that only who has `secret` can make: HMAC-SHA256, of which 128 bits are sent.

    A cursor is not secret itself: it carries the id and the sorted field of the last book of a page.
    """

    secret: bytes

    @classmethod
    def open(cls, directory: Path) -> "Cursors":
        """With the secret of the file `cursors.secret`, which the first start makes (mode 0600).

        All processes that answer for one address share it. StartError when the file cannot be used.
        """
        path = directory / "cursors.secret"
        try:
            if not path.exists():
                _make(path)
            secret = path.read_bytes()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StartError(f"{path} cannot be used: {reason}.") from None
        if len(secret) != _SECRET_BYTES:
            raise StartError(f"{path} does not hold {_SECRET_BYTES} bytes: remove it, and a start makes it.")
        return cls(secret)

    def at(self, position: Position, filters: Filters, sort: Sort) -> str:
        """The cursor behind the book at `position`."""
        payload = json.dumps([position.value, position.book_id], ensure_ascii=False, separators=(",", ":"))
        raw = self._seal(payload.encode(), filters, sort) + payload.encode()
        return _text(raw)

    def position_in(self, cursor: str, filters: Filters, sort: Sort) -> Position:
        """Where a cursor stands; InvalidInputError when it was not made here for this very query."""
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _broken() from None
        # Of several spellings that are decoded alike, one is ours (RFC 4648, section 3.5).
        if _text(raw) != cursor:
            raise _broken()
        seal, payload = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(payload, filters, sort)):
            raise _broken()
        value, book_id = json.loads(payload)
        assert 0 < book_id <= BOOK_ID_MAX  # noqa: S101  as it was sealed
        return Position(value, book_id)

    def _seal(self, payload: bytes, filters: Filters, sort: Sort) -> bytes:
        query = [filters.author, filters.title, str(filters.published_from), str(filters.published_to), sort]
        sealed = json.dumps([_FORMAT, *query]).encode() + b"\n" + payload
        return hmac.digest(self.secret, sealed, hashlib.sha256)[:_SEAL_BYTES]


def _broken() -> InvalidInputError:
    message = (
        "is not a cursor of this query, or a stale one; begin again without one, then follow next_cursor"
    )
    return InvalidInputError(Violation("/query/cursor", message))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _make(path: Path) -> None:
    """Of several processes that start at once one makes it, whole, and the others find it."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_SECRET_BYTES))
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(unfinished, path)
    unfinished.unlink()
