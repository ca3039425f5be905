"""The book as both services speak of it."""

import re
from datetime import date, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    WithJsonSchema,
)

TITLE_MAX_LENGTH = 300
AUTHOR_MAX_LENGTH = 1000
BOOK_ID_MAX = 2**63 - 1
_NEW_EXAMPLE: dict[str, JsonValue] = {
    "title": "Dune",
    "author": "Frank Herbert",
    "publication_date": "1965-08-01",
}
BOOK_EXAMPLE: dict[str, JsonValue] = {
    "id": 1,
    **_NEW_EXAMPLE,
    "version": 1,
    "created_at": "2026-01-31T09:30:00.000000Z",
    "updated_at": "2026-01-31T09:30:00.000000Z",
}
# What `str.strip` removes, and NUL; some text besides is between.
_BLANK = r"\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_TEXT: dict[str, JsonValue] = {"pattern": rf"^[^\u0000]*[^\u0000{_BLANK}][^\u0000]*$"}
_DATE = re.compile(r"(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}")


def utc_text(moment: datetime) -> str:
    """RFC 3339 with microseconds and `Z`, whatever their value, so that texts sort as times do."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + "Z"


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the NUL character")
    return text


def _trimmed(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _plain_date(value: object) -> object:
    """Only `YYYY-MM-DD`: pydantic alone would take numbers and times for dates as well."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a date, written YYYY-MM-DD")  # noqa: TRY004  pydantic reports ValueErrors
    if _DATE.fullmatch(value) is None:
        raise ValueError("must be a date, written YYYY-MM-DD, from 0001-01-01 to 9999-12-31")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("is not a date of the calendar") from None


UtcMoment = Annotated[
    datetime,
    PlainSerializer(utc_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
Title = Annotated[
    str,
    Field(min_length=1, max_length=TITLE_MAX_LENGTH, json_schema_extra=_TEXT),
    BeforeValidator(_trimmed),
    AfterValidator(_storable),
]
Author = Annotated[
    str,
    Field(min_length=1, max_length=AUTHOR_MAX_LENGTH, json_schema_extra=_TEXT),
    BeforeValidator(_trimmed),
    AfterValidator(_storable),
]
PublicationDate = Annotated[date, BeforeValidator(_plain_date)]


class NewBook(BaseModel):
    """What a client may say of a book: title and author are trimmed and never blank."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [_NEW_EXAMPLE]},
    )
    title: Title = Field(description="1 to 300 characters after trimming.")
    author: Author = Field(description="1 to 1000 characters after trimming.")
    publication_date: PublicationDate = Field(description="0001-01-01 to 9999-12-31.")


class Book(BaseModel):
    """A book as it stands; `version` counts its changes from 1, without gaps. Times are aware and UTC."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={"examples": [BOOK_EXAMPLE]},
    )
    id: int
    title: str
    author: str
    publication_date: date
    version: int
    created_at: UtcMoment
    updated_at: UtcMoment
