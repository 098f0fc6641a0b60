"""Seats touched by what happens now are refreshed before those of a bulk import."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("touched", sa.Column("queue", sa.SmallInteger(), nullable=False, server_default="0"))
    op.drop_index("touched_in_order", "touched")
    op.create_index("touched_in_order", "touched", ["queue", "due_at", "touched_at"])


def downgrade() -> None:
    op.drop_index("touched_in_order", "touched")
    op.create_index("touched_in_order", "touched", ["due_at", "touched_at"])
    with op.batch_alter_table("touched") as table:
        table.drop_column("queue")
