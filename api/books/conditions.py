"""`If-Match` and `If-None-Match` as they are described and as they arrive."""

from typing import Annotated

from fastapi import Depends, Header
from pydantic import WithJsonSchema

_MATCH = "Change the book only if it is at one of these versions."
# Any `*` or list of RFC 9110, section 13.1; elements may be empty.
_TAG = r'((W/)?"[!#-~]*")?'
_TAGS = rf"^[ \t]*(\*|{_TAG}[ \t]*(,[ \t]*{_TAG}[ \t]*)*)$"
_NONE_MATCH = "Send the book only if it is at none of these versions."


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


IfMatch = Annotated[str | None, Depends(_if_match)]
IfNoneMatch = Annotated[str | None, Depends(_if_none_match)]
