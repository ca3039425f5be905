from datetime import datetime

from sqlalchemy import BigInteger, Column, Index, UniqueConstraint
from sqlalchemy.dialects.mysql import CHAR
from sqlmodel import Field, SQLModel

from common.tables import TABLE_OPTIONS, UtcDateTime, ascii_column, body_column, uuid_column


class DeliveredEventRow(SQLModel, table=True):
    """An event, recorded once. Positions come from the counter row, so they become visible in order."""

    __tablename__ = "delivered_event"
    __table_args__ = (
        UniqueConstraint("event_id", name="uq_delivered_event_id"),
        UniqueConstraint("book_id", "book_version", name="uq_delivered_event_book_version"),
        Index("ix_delivered_event_book_position", "book_id", "position"),
        TABLE_OPTIONS,
    )
    position: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    event_id: str = Field(sa_column=uuid_column())
    type: str = Field(sa_column=ascii_column(64))
    book_id: int = Field(sa_type=BigInteger)
    book_version: int
    event_time: datetime = Field(sa_type=UtcDateTime)
    record_time: datetime = Field(sa_type=UtcDateTime)
    body: str = Field(sa_column=body_column())


class WaitingEventRow(SQLModel, table=True):
    """An event that arrived before one of its book that comes first; recorded as soon as that one is."""

    __tablename__ = "waiting_event"
    __table_args__ = (TABLE_OPTIONS,)
    book_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    book_version: int = Field(primary_key=True)
    event_id: str = Field(sa_column=uuid_column())
    body: str = Field(sa_column=body_column())
    received_at: datetime = Field(sa_type=UtcDateTime)


class RecorderRow(SQLModel, table=True):
    """The one row (`id` 1) that every recording transaction locks.

    `last_position` is the last one given. `generation` names the consumer run that may record and that
    answers for the cache: another consumer that takes over writes its own here first (docs/adr/0006).
    """

    __tablename__ = "recorder"
    __table_args__ = (TABLE_OPTIONS,)
    id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    last_position: int = Field(sa_type=BigInteger)
    generation: str = Field(
        sa_column=Column(CHAR(32, charset="ascii", collation="ascii_bin"), nullable=False)
    )
