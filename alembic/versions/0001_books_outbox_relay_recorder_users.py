"""books, outbox, relay, recorder, users."""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "book",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("title", sa.String(length=300), nullable=False),
        sa.Column("author", sa.String(length=1000), nullable=False),
        sa.Column("publication_date", sa.Date(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("updated_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
    )
    op.create_index("ix_book_author", "book", ["author"], unique=False, mysql_length=191)
    op.create_index("ix_book_publication_date", "book", ["publication_date"], unique=False)
    op.create_index("ix_book_title", "book", ["title"], unique=False, mysql_length=191)
    op.create_table(
        "delivered_event",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", mysql.CHAR(charset="ascii", collation="ascii_bin", length=36), nullable=False),
        sa.Column("type", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=64), nullable=False),
        sa.Column("book_id", sa.BigInteger(), nullable=False),
        sa.Column("book_version", sa.Integer(), nullable=False),
        sa.Column("event_time", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("record_time", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("body", mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), nullable=False),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("book_id", "book_version", name="uq_delivered_event_book_version"),
        sa.UniqueConstraint("event_id", name="uq_delivered_event_id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
    )
    op.create_index(
        "ix_delivered_event_book_position", "delivered_event", ["book_id", "position"], unique=False
    )
    op.create_table(
        "held_book",
        sa.Column("book_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", mysql.CHAR(charset="ascii", collation="ascii_bin", length=36), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.String(length=500), nullable=False),
        sa.Column("held_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("next_try_at", mysql.DATETIME(fsp=6), nullable=True),
        sa.PrimaryKeyConstraint("book_id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("shard", mysql.SMALLINT(), nullable=False),
        sa.Column("event_id", mysql.CHAR(charset="ascii", collation="ascii_bin", length=36), nullable=False),
        sa.Column("book_id", sa.BigInteger(), nullable=False),
        sa.Column("book_version", sa.Integer(), nullable=False),
        sa.Column("type", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=64), nullable=False),
        sa.Column("body", mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), nullable=False),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("book_id", "book_version", name="uq_outbox_book_version"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
    )
    op.create_index("ix_outbox_shard", "outbox", ["shard", "id"], unique=False)
    op.create_table(
        "recorder",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_position", sa.BigInteger(), nullable=False),
        sa.Column(
            "generation", mysql.CHAR(charset="ascii", collation="ascii_bin", length=32), nullable=False
        ),
        sa.PrimaryKeyConstraint("id"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
    )
    op.create_table(
        "relay",
        sa.Column("owner", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=64), nullable=False),
        sa.Column("seen_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.PrimaryKeyConstraint("owner"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
    )
    op.create_table(
        "shard_lease",
        sa.Column("shard", mysql.SMALLINT(), autoincrement=False, nullable=False),
        sa.Column("owner", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=64), nullable=False),
        sa.Column("expires_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.PrimaryKeyConstraint("shard"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
    )
    op.create_table(
        "user_account",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column(
            "username", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=64), nullable=False
        ),
        sa.Column(
            "password_hash", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=255), nullable=False
        ),
        sa.Column(
            "scopes", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=255), nullable=False
        ),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("username"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
    )
    op.create_table(
        "waiting_event",
        sa.Column("book_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("book_version", sa.Integer(), nullable=False),
        sa.Column("event_id", mysql.CHAR(charset="ascii", collation="ascii_bin", length=36), nullable=False),
        sa.Column("body", mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), nullable=False),
        sa.Column("received_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.PrimaryKeyConstraint("book_id", "book_version"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
    )
    op.create_table(
        "refresh_token",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column(
            "token_hash", mysql.CHAR(charset="ascii", collation="ascii_bin", length=64), nullable=False
        ),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("family", mysql.CHAR(charset="ascii", collation="ascii_bin", length=36), nullable=False),
        sa.Column(
            "scopes", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=255), nullable=False
        ),
        sa.Column("issued_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("expires_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.Column("revoked_at", mysql.DATETIME(fsp=6), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_hash"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
    )
    op.create_index(op.f("ix_refresh_token_family"), "refresh_token", ["family"], unique=False)
    op.create_index(op.f("ix_refresh_token_user_id"), "refresh_token", ["user_id"], unique=False)


def downgrade() -> None:
    op.drop_table("refresh_token")
    op.drop_table("waiting_event")
    op.drop_table("user_account")
    op.drop_table("shard_lease")
    op.drop_table("relay")
    op.drop_table("recorder")
    op.drop_table("outbox")
    op.drop_table("held_book")
    op.drop_table("delivered_event")
    op.drop_table("book")
