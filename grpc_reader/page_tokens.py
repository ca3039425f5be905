"""Opaque page tokens: the last key of a page, bound to the query that the page belongs to."""

import base64
import hashlib
import json

from common.errors import InvalidInputError, Violation

_KEY_BYTES = 8
_SEAL_BYTES = 8
_KEY_MAX = 2**63 - 1


def _seal(query: tuple[object, ...], key: bytes) -> bytes:
    # No secret is in it: a forged token reaches nothing that its bearer could not list anyway.
    return hashlib.blake2b(json.dumps(query).encode() + b"\0" + key, digest_size=_SEAL_BYTES).digest()


def encode(query: tuple[object, ...], last_key: int) -> str:
    """A token that continues after `last_key` (1 to 2^63-1) in `query`: the call's name and its filters."""
    key = last_key.to_bytes(_KEY_BYTES, "big")
    return base64.urlsafe_b64encode(_seal(query, key) + key).rstrip(b"=").decode()


def decode(query: tuple[object, ...], token: str) -> int | None:
    """The key to continue after, or None for an empty token, which is the first page.

    InvalidInputError unless `encode` made the token, letter by letter, for this very query.
    """
    if not token:
        return None
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
    except ValueError:
        raw = b""
    key = int.from_bytes(raw[_SEAL_BYTES:], "big")
    if not 1 <= key <= _KEY_MAX or encode(query, key) != token:
        raise InvalidInputError(
            Violation("/page_token", "is no token of this query; start again without a token")
        )
    return key
