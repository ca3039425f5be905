"""Indexes to find the refresh tokens that are not revoked among all of a user or a login."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The foreign key needs an index on the user at any time.
    op.create_index("ix_refresh_token_user_id_revoked_at", "refresh_token", ["user_id", "revoked_at"])
    op.create_index("ix_refresh_token_family_revoked_at", "refresh_token", ["family", "revoked_at"])
    op.drop_index("ix_refresh_token_user_id", "refresh_token")
    op.drop_index("ix_refresh_token_family", "refresh_token")


def downgrade() -> None:
    op.create_index("ix_refresh_token_user_id", "refresh_token", ["user_id"])
    op.create_index("ix_refresh_token_family", "refresh_token", ["family"])
    op.drop_index("ix_refresh_token_user_id_revoked_at", "refresh_token")
    op.drop_index("ix_refresh_token_family_revoked_at", "refresh_token")
