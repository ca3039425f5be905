"""How many steps an import has made, so that it goes on where it ended."""

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("idempotency_key", sa.Column("import_steps", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("idempotency_key", "import_steps")
