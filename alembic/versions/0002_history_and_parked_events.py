"""History of sent events by day, parked events, the relays' rates."""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "parked_event",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("shard", mysql.SMALLINT(), nullable=False),
        sa.Column("event_id", mysql.CHAR(charset="ascii", collation="ascii_bin", length=36), nullable=False),
        sa.Column("book_id", sa.BigInteger(), nullable=False),
        sa.Column("book_version", sa.Integer(), nullable=False),
        sa.Column("type", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=64), nullable=False),
        sa.Column("body", mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), nullable=False),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
    )
    op.create_index("ix_parked_event_book", "parked_event", ["book_id", "id"], unique=False)
    op.create_table(
        "sent_event",
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("event_id", mysql.CHAR(charset="ascii", collation="ascii_bin", length=36), nullable=False),
        sa.Column("book_id", sa.BigInteger(), nullable=False),
        sa.Column("book_version", sa.Integer(), nullable=False),
        sa.Column("type", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=64), nullable=False),
        sa.Column("body", mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), nullable=False),
        sa.Column("sent_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.PrimaryKeyConstraint("created_at", "event_id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
        mysql_partition_by="RANGE COLUMNS (created_at) (PARTITION later VALUES LESS THAN (MAXVALUE))",
    )
    op.create_index("ix_sent_event_book", "sent_event", ["book_id", "book_version"], unique=False)
    op.add_column("relay", sa.Column("events_per_second", sa.Float(), nullable=False, server_default="0"))
    op.add_column("relay", sa.Column("trouble", sa.String(length=200), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("relay", "trouble")
    op.drop_column("relay", "events_per_second")
    op.drop_table("sent_event")
    op.drop_table("parked_event")
