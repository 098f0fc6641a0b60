"""Seats whose online features wait to be refreshed, and the day's counts by team, role and manager."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "touched",
        sa.Column("seat_id", sa.String(260), primary_key=True),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("claimed_until", sa.BigInteger(), nullable=False),
    )
    op.create_index("touched_in_order", "touched", ["due_at", "touched_at"])
    op.create_table(
        "peers",
        sa.Column("day", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("peers")
    op.drop_table("touched")
