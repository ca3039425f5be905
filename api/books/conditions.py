"""`If-Match` and `If-None-Match` as they are described and as they arrive (RFC 9110, section 13)."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header
from pydantic import WithJsonSchema

from api.books.etags import Versions

_MATCH = "Only if the book is at one of these versions."
# Any `*` or list of RFC 9110, section 13.1; elements may be empty.
_TAG = r'((W/)?"[!#-~]*")?'
_TAGS = rf"^[ \t]*(\*|{_TAG}[ \t]*(,[ \t]*{_TAG}[ \t]*)*)$"
_NONE_MATCH = "Only if the book is at none of these versions."


def _text(description: str) -> WithJsonSchema:
    """To a client a list of tags is one text, for it may be `*` as well."""
    return WithJsonSchema(
        {"type": "string", "pattern": _TAGS, "description": description, "examples": ['"1"']}
    )


def _joined(lines: list[str] | None) -> str | None:
    """A list may be spread over several lines of the same name (RFC 9110, section 5.3)."""
    return None if lines is None else ", ".join(lines)


async def _if_match(
    lines: Annotated[list[str] | None, Header(alias="if-match", description=_MATCH), _text(_MATCH)] = None,
) -> str | None:
    return _joined(lines)


async def _if_none_match(
    lines: Annotated[
        list[str] | None, Header(alias="if-none-match", description=_NONE_MATCH), _text(_NONE_MATCH)
    ] = None,
) -> str | None:
    return _joined(lines)


@dataclass(frozen=True)
class Conditions:
    """What a request says about the version that it is meant for: the headers, and what they mean."""

    if_match: str | None
    if_none_match: str | None
    versions: Versions


async def _conditions(
    if_match: Annotated[str | None, Depends(_if_match)] = None,
    if_none_match: Annotated[str | None, Depends(_if_none_match)] = None,
) -> Conditions | None:
    if if_match is None and if_none_match is None:
        return None
    return Conditions(if_match, if_none_match, Versions.of(if_match, if_none_match))


ConditionsOf = Annotated[Conditions | None, Depends(_conditions)]
"""None when the request has no condition."""
