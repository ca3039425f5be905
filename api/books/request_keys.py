"""The header `Idempotency-Key` as it is described and as it arrives."""

import re
from collections.abc import Awaitable
from typing import Annotated

from fastapi import Depends, Header
from pydantic import WithJsonSchema

from api.books.idempotency import AlreadyDoneError
from common.books import Book
from common.errors import InvalidInputError, Violation

REPLAYED = "Idempotent-Replayed"
REPLAYED_HEADER = {
    REPLAYED: {
        "description": "`true` when the request was done before, and this is what it was answered with.",
        "schema": {"type": "string", "const": "true", "examples": ["true"]},
        "required": False,
    }
}
_DESCRIPTION = (
    "A name of your own for this request, such as a UUID. Sent again within 24 hours, the request is not done"
    " again, and answered as the first time. 1 to 255 visible ASCII characters but quotes and backslashes, in"
    " double quotes or not."
)
# A string of RFC 8941, as the draft says, or the same without quotes, as most clients send it.
_KEY = re.compile(r'"((?:[\x21\x23-\x5b\x5d-\x7e]){1,255})"|([\x21\x23-\x5b\x5d-\x7e]{1,255})')


_SCHEMA = {
    "type": "string",
    "pattern": r'^("[!#-\[\]-~]{1,255}"|[!#-\[\]-~]{1,255})$',
    "description": _DESCRIPTION,
    "examples": ["8e03978e-40d5-43dd-bc93-6894a57f9324"],
}


async def _key(
    lines: Annotated[
        list[str] | None,
        Header(alias="idempotency-key", description=_DESCRIPTION),
        WithJsonSchema(_SCHEMA),
    ] = None,
) -> str | None:
    if lines is None:
        return None
    found = _KEY.fullmatch(lines[0].strip(" \t")) if len(lines) == 1 else None
    if found is None:
        sentence = (
            "must be one key of 1 to 255 visible ASCII characters, without quotes and backslashes in it"
        )
        raise InvalidInputError(Violation("/header/idempotency-key", sentence))
    return found[1] or found[2]


IdempotencyKey = Annotated[str | None, Depends(_key)]


async def once(change: Awaitable[Book]) -> tuple[Book, dict[str, str]]:
    """The book that a change gives or has given before, and the header that says which of both."""
    try:
        return await change, {}
    except AlreadyDoneError as done:
        return done.book, {REPLAYED: "true"}
