"""The tables that more than one service reads; each service's own stand in its `tables.py`."""

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import BigInteger, Computed, Dialect, Index, String, Table, UniqueConstraint
from sqlalchemy.dialects.mysql import CHAR, DATETIME, MEDIUMTEXT, SMALLINT, VARCHAR
from sqlalchemy.types import TypeDecorator
from sqlmodel import Column, Field, SQLModel

COLLATION = "utf8mb4_unicode_520_ci"
# What fits into an index; an author may be longer than any index of InnoDB allows.
AUTHOR_START_LENGTH = 255
TABLE_OPTIONS = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": COLLATION}


class UtcDateTime(TypeDecorator[datetime]):
    """DATETIME(6) that takes and gives aware times in UTC; a naive time is a programming error."""

    impl = DATETIME(fsp=6)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Aware in, naive UTC on the wire: the column type has no zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without zone cannot be stored")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ANN401, ARG002
        """Naive UTC from the wire, aware out."""
        return None if value is None else value.replace(tzinfo=UTC)


def ascii_column(length: int, **options: Any) -> Column[str]:  # noqa: ANN401  Column's own options
    """Text of machines: compared byte by byte, one byte a character in keys."""
    return Column(VARCHAR(length, charset="ascii", collation="ascii_bin"), nullable=False, **options)


def uuid_column(**options: Any) -> Column[str]:  # noqa: ANN401  Column's own options
    """A UUID as its 36 characters, so that people can read and search it."""
    return Column(CHAR(36, charset="ascii", collation="ascii_bin"), nullable=False, **options)


def body_column() -> Column[str]:
    """An event's JSON, kept to the letter."""
    return Column(MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), nullable=False)


class BookRow(SQLModel, table=True):
    """A book as it stands. Only the API writes it.

    Lists are sorted, and filters begin, by `author_start`, which the database makes of the author.
    """

    __tablename__ = "book"
    __table_args__ = (
        Index("ix_book_title", "title"),
        Index("ix_book_author_start", "author_start"),
        Index("ix_book_publication_date", "publication_date"),
        TABLE_OPTIONS,
    )
    id: int | None = Field(default=None, sa_column=Column(BigInteger, primary_key=True, autoincrement=True))
    title: str = Field(max_length=300)
    author: str = Field(max_length=1000)
    publication_date: date
    version: int
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    author_start: str | None = Field(
        default=None,
        sa_column=Column(
            String(AUTHOR_START_LENGTH), Computed(f"LEFT(author, {AUTHOR_START_LENGTH})", persisted=False)
        ),
    )


BOOK_TABLE: Table = BookRow.__table__  # type: ignore[attr-defined]  # SQLModel does not declare it
BOOK_COLUMNS = tuple(column for column in BOOK_TABLE.columns if column.computed is None)
"""What `Book` is made of."""


class OutboxRow(SQLModel, table=True):
    """An event that waits for its confirm; the row goes when the broker has confirmed and routed it.

    The rows of a parked book are moved to `parked_event`.

    `id` orders the events of one book, because it is given after the book's row lock is taken. It orders
    nothing else: ids of different books become visible in any order.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("book_id", "book_version", name="uq_outbox_book_version"),
        Index("ix_outbox_shard", "shard", "id"),
        TABLE_OPTIONS,
    )
    id: int | None = Field(default=None, sa_column=Column(BigInteger, primary_key=True, autoincrement=True))
    shard: int = Field(sa_column=Column(SMALLINT, nullable=False))
    event_id: str = Field(sa_column=uuid_column())
    book_id: int = Field(sa_type=BigInteger)
    book_version: int
    type: str = Field(sa_column=ascii_column(64))
    body: str = Field(sa_column=body_column())
    created_at: datetime = Field(sa_type=UtcDateTime)


class DeniedTokenRow(SQLModel, table=True):
    """A token, a login or a key that opens nothing any more; the API writes it, every service reads it."""

    __tablename__ = "denied_token"
    __table_args__ = (
        Index("ix_denied_token_denied_at", "denied_at"),
        Index("ix_denied_token_expires_at", "expires_at"),
        TABLE_OPTIONS,
    )
    name: str = Field(sa_column=ascii_column(64, primary_key=True))
    denied_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
