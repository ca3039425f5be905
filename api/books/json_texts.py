"""JSON as every call reads it, in bodies and in rows."""

import json
from typing import Any

MEMBERS_MAX = 100
"""Of one object; each that nobody knows costs several microseconds."""


class NoJsonError(Exception):
    """What is wrong, told of the text: "is not UTF-8"."""


def json_of(raw: bytes) -> Any:  # noqa: ANN401  any JSON value
    """The value of a text in UTF-8 (RFC 8259, section 8.1) whose objects have few members, none twice.

    Which of two members is meant, nobody can say (section 4). The standard library would take the last, and
    `NaN`, UTF-16 and UTF-32 as well. NoJsonError for all of these.
    """
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_refuse)
    except UnicodeDecodeError:
        raise NoJsonError("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise NoJsonError(f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets in thousands of brackets
        raise NoJsonError("is not JSON that can be read") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MEMBERS_MAX:
        raise NoJsonError(f"has an object of more than {MEMBERS_MAX} members")
    members = dict(pairs)
    if len(members) < len(pairs):
        raise NoJsonError("has a member twice")
    return members


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
