"""Tokens that are denied, what a login's tokens are for, and what slows who guesses passwords."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_unicode_520_ci",
}
_EVERY_SERVICE = "urn:bookstore:api urn:bookstore:reader"


def _ascii(length: int) -> mysql.VARCHAR:
    return mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")


def upgrade() -> None:
    op.create_table(
        "denied_token",
        sa.Column("name", _ascii(64), primary_key=True),
        sa.Column("denied_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("expires_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Index("ix_denied_token_denied_at", "denied_at"),
        sa.Index("ix_denied_token_expires_at", "expires_at"),
        **_OPTIONS,
    )
    op.create_table(
        "guess_debt",
        sa.Column("subject", _ascii(128), primary_key=True),
        sa.Column("paid_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Index("ix_guess_debt_paid_at", "paid_at"),
        **_OPTIONS,
    )
    op.create_table(
        "known_address",
        sa.Column(
            "user_id",
            sa.BigInteger(),
            sa.ForeignKey("user_account.id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("address", _ascii(45), primary_key=True),
        sa.Column("seen_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Index("ix_known_address_seen_at", "seen_at"),
        **_OPTIONS,
    )
    op.add_column(
        "refresh_token",
        sa.Column("audiences", _ascii(255), nullable=False, server_default=_EVERY_SERVICE),
    )
    op.alter_column(
        "refresh_token", "audiences", existing_type=_ascii(255), server_default=None, nullable=False
    )
    op.create_index("ix_refresh_token_expires_at", "refresh_token", ["expires_at"])


def downgrade() -> None:
    op.drop_index("ix_refresh_token_expires_at", "refresh_token")
    op.drop_column("refresh_token", "audiences")
    op.drop_table("known_address")
    op.drop_table("guess_debt")
    op.drop_table("denied_token")
