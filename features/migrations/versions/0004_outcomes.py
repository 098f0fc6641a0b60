"""Outcomes of decisions as they are reported from outside."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outcomes",
        sa.Column("decision_id", sa.String(128), primary_key=True),
        sa.Column("horizon_days", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("reported_at", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("outcomes")
