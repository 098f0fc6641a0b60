"""Secrets of webhooks can be replaced: which one is in use, and since when. Uses of a day are counted by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhooks", sa.Column("generation", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("webhooks", sa.Column("rotated_at", sa.BigInteger()))
    op.create_index("decisions_by_intervention", "decisions", ["intervention", "decided_at", "seat_id"])


def downgrade() -> None:
    op.drop_index("decisions_by_intervention", "decisions")
    op.drop_column("webhooks", "rotated_at")
    op.drop_column("webhooks", "generation")
