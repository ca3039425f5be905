"""The filters of both services: beginnings, compared as the column's collation does (docs/adr/0009)."""

from sqlalchemy import ColumnElement, and_

from common.tables import AUTHOR_START_LENGTH, BOOK_TABLE

_COLUMNS = BOOK_TABLE.c


def title_begins_with(text: str) -> ColumnElement[bool]:
    """The books whose title begins with `text`; `%`, `_` and the escape character are ordinary letters."""
    return _COLUMNS.title.startswith(text, autoescape=True, escape="!")


def author_begins_with(text: str) -> ColumnElement[bool]:
    """Likewise; what is longer than the indexed start is compared with the whole author as well."""
    start = _COLUMNS.author_start.startswith(text[:AUTHOR_START_LENGTH], autoescape=True, escape="!")
    if len(text) <= AUTHOR_START_LENGTH:
        return start
    return and_(start, _COLUMNS.author.startswith(text, autoescape=True, escape="!"))
