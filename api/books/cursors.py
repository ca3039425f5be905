"""Cursors of the list: where a page ended, bound to the query that it belongs to."""

import base64
import binascii
import hashlib
import json

from api.books.queries import Filters
from common.books import BOOK_ID_MAX
from common.errors import InvalidInputError, Violation

_BROKEN = InvalidInputError(
    Violation(
        "/query/cursor", "is not a cursor of this query; begin again without one, then follow next_cursor"
    )
)


def _fingerprint(filters: Filters, sort: str) -> str:
    parts = [filters.author, filters.title, str(filters.published_from), str(filters.published_to), sort]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def cursor_for(filters: Filters, sort: str, last_id: int) -> str:
    """The cursor behind the book `last_id`."""
    payload = json.dumps([_fingerprint(filters, sort), last_id], separators=(",", ":"))
    return base64.urlsafe_b64encode(payload.encode()).decode().rstrip("=")


def position_in(cursor: str, filters: Filters, sort: str) -> int:
    """The id that a cursor stands behind; InvalidInputError when it is broken or another query's."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        match json.loads(raw):
            case [str(fingerprint), int(last_id)] if (
                fingerprint == _fingerprint(filters, sort) and 0 < last_id <= BOOK_ID_MAX
            ):
                return last_id
    except (binascii.Error, ValueError, RecursionError):
        pass
    raise _BROKEN
