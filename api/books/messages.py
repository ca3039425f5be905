"""What clients send to `/v1/books` and get from it, besides the book itself."""

import re
from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from api.books.cursors import CURSOR_MAX_LENGTH
from api.books.queries import Sort
from common.books import BOOK_EXAMPLE, Author, Book, PublicationDate, Title

_NUMBER = re.compile("0|[1-9][0-9]*")


def _plain_number(value: object) -> object:
    """Alone, pydantic would take `1.0`, `+1`, `01`, `1_0` and spaces around the number as well."""
    if isinstance(value, str) and _NUMBER.fullmatch(value) is None:
        raise ValueError("must be a number in plain digits, without sign or leading zero")
    return value


PLAIN_NUMBER = BeforeValidator(_plain_number)


def _describe_patch(schema: dict[str, Any]) -> None:
    """The defaults are for Python alone: what a client leaves out stays as it is."""
    for field in schema["properties"].values():
        del field["default"]
    schema["examples"] = [{"title": "Dune Messiah"}]


class BookPatch(BaseModel):
    """A merge patch (RFC 7396): the fields that shall change. No field of a book can be removed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, json_schema_extra=_describe_patch)
    title: Title = Field(default="", description="1 to 300 characters after trimming.")
    author: Author = Field(default="", description="1 to 1000 characters after trimming.")
    publication_date: PublicationDate = Field(default=date.min, description="0001-01-01 to 9999-12-31.")


class BookPage(BaseModel):
    """A page of books; `next_cursor` is null on the last one."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [BOOK_EXAMPLE], "next_cursor": "WyI5ZjA0IiwxXQ"}]}
    )
    items: list[Book]
    next_cursor: str | None


class ListParameters(BaseModel):
    """The query of the list. `author` and `title` are beginnings, compared without regard to case."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    limit: Annotated[int, PLAIN_NUMBER] = Field(
        default=50, ge=1, le=200, description="How many books at most."
    )
    cursor: str | None = Field(
        default=None,
        max_length=CURSOR_MAX_LENGTH,
        description="`next_cursor` of the page before.",
        examples=["WyI5ZjA0IiwxXQ"],
    )
    author: Author | None = Field(
        default=None, description="What the author begins with.", examples=["Frank"]
    )
    title: Title | None = Field(default=None, description="What the title begins with.", examples=["Dune"])
    published_from: PublicationDate | None = Field(
        default=None, description="The earliest date.", examples=["1965-01-01"]
    )
    published_to: PublicationDate | None = Field(
        default=None, description="The latest date.", examples=["1965-12-31"]
    )
    sort: Sort = Field(
        default="id",
        description="`-` turns the order round, and that of the ids, which decide between equals. Letter case"
        " and accents make no difference.",
    )
