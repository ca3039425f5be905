from datetime import datetime

from sqlalchemy import BigInteger, Column, Float, Index, String
from sqlalchemy.dialects.mysql import SMALLINT
from sqlmodel import Field, SQLModel

from common.tables import TABLE_OPTIONS, UtcDateTime, ascii_column, body_column, uuid_column

PARTITION_OF_THE_REST = "later"


class ShardLeaseRow(SQLModel, table=True):
    """Which relay works on a shard, until when (database time). It saves work; order does not rest on it."""

    __tablename__ = "shard_lease"
    __table_args__ = (TABLE_OPTIONS,)
    shard: int = Field(sa_column=Column(SMALLINT, primary_key=True, autoincrement=False))
    owner: str = Field(sa_column=ascii_column(64))
    expires_at: datetime = Field(sa_type=UtcDateTime)


class RelayRow(SQLModel, table=True):
    """A relay that was alive at `seen_at` (database time); the number of them decides each one's share.

    `events_per_second` is what it has sent of late, `trouble` why events do not get through, or empty.
    """

    __tablename__ = "relay"
    __table_args__ = (TABLE_OPTIONS,)
    owner: str = Field(sa_column=ascii_column(64, primary_key=True))
    seen_at: datetime = Field(sa_type=UtcDateTime)
    events_per_second: float = Field(default=0.0, sa_column=Column(Float, nullable=False, server_default="0"))
    trouble: str = Field(default="", sa_column=Column(String(200), nullable=False, server_default=""))


class HeldBookRow(SQLModel, table=True):
    """A book whose first waiting event could not be sent; without `next_try_at` an operator must decide."""

    __tablename__ = "held_book"
    __table_args__ = (TABLE_OPTIONS,)
    book_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    event_id: str = Field(sa_column=uuid_column())
    attempts: int
    last_error: str = Field(max_length=500)
    held_at: datetime = Field(sa_type=UtcDateTime)
    next_try_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ParkedEventRow(SQLModel, table=True):
    """An event of a parked book, moved aside so that it cannot fill the window of its shard.

    It is still unsent. `id` is the one that it had in the outbox, and has again when it goes back there.
    """

    __tablename__ = "parked_event"
    __table_args__ = (Index("ix_parked_event_book", "book_id", "id"), TABLE_OPTIONS)
    id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    shard: int = Field(sa_column=Column(SMALLINT, nullable=False))
    event_id: str = Field(sa_column=uuid_column())
    book_id: int = Field(sa_type=BigInteger)
    book_version: int
    type: str = Field(sa_column=ascii_column(64))
    body: str = Field(sa_column=body_column())
    created_at: datetime = Field(sa_type=UtcDateTime)


class SentEventRow(SQLModel, table=True):
    """An event that was confirmed and routed, kept for replay and audit, by the day of the change.

    By the change and not by the sending, so that one which is settled twice is the same row.
    """

    __tablename__ = "sent_event"
    __table_args__ = (
        Index("ix_sent_event_book", "book_id", "book_version"),
        {
            **TABLE_OPTIONS,
            "mysql_partition_by": "RANGE COLUMNS (created_at)"
            f" (PARTITION {PARTITION_OF_THE_REST} VALUES LESS THAN (MAXVALUE))",
        },
    )
    created_at: datetime = Field(sa_column=Column(UtcDateTime, primary_key=True))
    event_id: str = Field(sa_column=uuid_column(primary_key=True))
    book_id: int = Field(sa_type=BigInteger)
    book_version: int
    type: str = Field(sa_column=ascii_column(64))
    body: str = Field(sa_column=body_column())
    sent_at: datetime = Field(sa_type=UtcDateTime)
