"""Rows of NDJSON: one object of JSON in each line, and no header."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from api.books.rows import BOM, LINE_MAX_BYTES, Row, faults_of
from common.books import Book, NewBook

# What the export tells of a book besides. It goes in again as a new book, as from CSV.
_GIVEN_BY_US = Book.model_fields.keys() - NewBook.model_fields.keys()


class NdjsonRows:
    """One row for each line."""

    def __init__(self) -> None:
        self._line = 0

    def take(self, line: bytes) -> Iterator[Row]:
        """As RowReader says."""
        self._line += 1
        yield _row(self._line, line)

    def end(self) -> Iterator[Row]:
        """Nothing is left."""
        yield from ()


def _row(line: int, raw: bytes) -> Row:
    if len(raw) > LINE_MAX_BYTES:
        return Row(line, raw, reason=f"is longer than {LINE_MAX_BYTES} bytes")
    try:
        text = (raw.removeprefix(BOM) if line == 1 else raw).decode("utf-8")
        if not text.strip(" \t\r\n"):
            return Row(line, raw)
        members = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse)
        if not isinstance(members, dict):
            return Row(line, raw, reason="is not a JSON object")
        asked = {name: value for name, value in members.items() if name not in _GIVEN_BY_US}
        book = NewBook.model_validate(asked)
    except UnicodeDecodeError:
        reason = "is not UTF-8"
    except _DuplicateMemberError:
        reason = "has a member twice"
    except ValidationError as error:
        reason = faults_of(error)
    except json.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg} at character {error.pos + 1}"
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets in thousands of brackets
        reason = "is not JSON that can be read"
    else:
        return Row(line, raw, book)
    return Row(line, raw, reason=reason)


class _DuplicateMemberError(Exception):
    """Which of both is meant, nobody can say (RFC 8259, section 4)."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _DuplicateMemberError
    return members


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
