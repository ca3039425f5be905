from datetime import datetime

from sqlalchemy import BigInteger, Column, ForeignKey, Index, PrimaryKeyConstraint
from sqlalchemy.dialects.mysql import CHAR
from sqlmodel import Field, SQLModel

from common.tables import TABLE_OPTIONS, UtcDateTime, ascii_column, body_column, uuid_column


class UserRow(SQLModel, table=True):
    """Somebody who may log in, unless disabled; `scopes` are what their tokens may carry, space between."""

    __tablename__ = "user_account"
    __table_args__ = (TABLE_OPTIONS,)
    id: int | None = Field(default=None, sa_column=Column(BigInteger, primary_key=True, autoincrement=True))
    username: str = Field(sa_column=ascii_column(64, unique=True))
    password_hash: str = Field(sa_column=ascii_column(255))
    scopes: str = Field(sa_column=ascii_column(255))
    created_at: datetime = Field(sa_type=UtcDateTime)
    disabled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class RefreshTokenRow(SQLModel, table=True):
    """A refresh token, known by its SHA-256 only; `family` joins those that came from one login.

    Its access tokens carry the family as `sid`, and the services in `audiences` as `aud`. Of a family that
    was not ended one token is not revoked: the newest.
    """

    __tablename__ = "refresh_token"
    # Who refreshes often has a million rows, of which those that are not revoked must be found.
    __table_args__ = (
        Index("ix_refresh_token_expires_at", "expires_at"),
        Index("ix_refresh_token_user_id_revoked_at", "user_id", "revoked_at"),
        Index("ix_refresh_token_family_revoked_at", "family", "revoked_at"),
        TABLE_OPTIONS,
    )
    id: int | None = Field(default=None, sa_column=Column(BigInteger, primary_key=True, autoincrement=True))
    token_hash: str = Field(
        sa_column=Column(CHAR(64, charset="ascii", collation="ascii_bin"), nullable=False, unique=True)
    )
    user_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey("user_account.id", ondelete="CASCADE"), nullable=False)
    )
    family: str = Field(sa_column=uuid_column())
    scopes: str = Field(sa_column=ascii_column(255))
    audiences: str = Field(sa_column=ascii_column(255))
    issued_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class GuessDebtRow(SQLModel, table=True):
    """Until when a user, an address or both together still pay for passwords that were not right."""

    __tablename__ = "guess_debt"
    __table_args__ = (Index("ix_guess_debt_paid_at", "paid_at"), TABLE_OPTIONS)
    subject: str = Field(sa_column=ascii_column(128, primary_key=True))
    paid_at: datetime = Field(sa_type=UtcDateTime)


class KnownAddressRow(SQLModel, table=True):
    """That a user has logged in from an address, and when last, to the day."""

    __tablename__ = "known_address"
    __table_args__ = (Index("ix_known_address_seen_at", "seen_at"), TABLE_OPTIONS)
    user_id: int = Field(
        sa_column=Column(
            BigInteger,
            ForeignKey("user_account.id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        )
    )
    address: str = Field(sa_column=ascii_column(45, primary_key=True))
    seen_at: datetime = Field(sa_type=UtcDateTime)


class IdempotencyKeyRow(SQLModel, table=True):
    """That a user's request with this key was done, and the book that its answer was made of, as JSON.

    Or how far an import has come, likewise, and in how many steps; `created_at` is when
    it last went on.
    """

    __tablename__ = "idempotency_key"
    __table_args__ = (
        PrimaryKeyConstraint("username", "request_key"),
        Index("ix_idempotency_key_created_at", "created_at"),
        TABLE_OPTIONS,
    )
    username: str = Field(sa_column=ascii_column(64))
    request_key: str = Field(sa_column=ascii_column(255))
    fingerprint: str = Field(sa_column=ascii_column(64))
    answer: str = Field(sa_column=body_column())
    created_at: datetime = Field(sa_type=UtcDateTime)
    import_steps: int | None = Field(default=None, sa_type=BigInteger)
