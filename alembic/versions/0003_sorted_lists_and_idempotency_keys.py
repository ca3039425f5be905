"""Indexes that lists are sorted by, idempotency keys."""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "book",
        sa.Column(
            "author_start",
            sa.String(length=255),
            sa.Computed("LEFT(author, 255)", persisted=False),
            nullable=True,
        ),
    )
    op.create_index("ix_book_author_start", "book", ["author_start"], unique=False)
    # In one step, so that no list is without an index meanwhile.
    op.execute("ALTER TABLE book DROP INDEX ix_book_title, ADD INDEX ix_book_title (title)")
    op.drop_index("ix_book_author", table_name="book")
    op.create_table(
        "idempotency_key",
        sa.Column(
            "username", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=64), nullable=False
        ),
        sa.Column(
            "request_key", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=255), nullable=False
        ),
        sa.Column(
            "fingerprint", mysql.VARCHAR(charset="ascii", collation="ascii_bin", length=64), nullable=False
        ),
        sa.Column("answer", mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), nullable=False),
        sa.Column("created_at", mysql.DATETIME(fsp=6), nullable=False),
        sa.PrimaryKeyConstraint("username", "request_key"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_unicode_520_ci",
        mysql_engine="InnoDB",
    )
    op.create_index("ix_idempotency_key_created_at", "idempotency_key", ["created_at"], unique=False)


def downgrade() -> None:
    op.drop_table("idempotency_key")
    op.drop_index("ix_book_title", table_name="book")
    op.create_index("ix_book_title", "book", ["title"], unique=False, mysql_length=191)
    op.create_index("ix_book_author", "book", ["author"], unique=False, mysql_length=191)
    op.drop_index("ix_book_author_start", table_name="book")
    op.drop_column("book", "author_start")
