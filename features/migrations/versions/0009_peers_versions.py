"""Which version of a day's peers is kept: who has an older one at hand reads it anew."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "peers_versions",
        sa.Column("day", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("version", sa.String(32), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("peers_versions")
