"""A webhook can be ended by its receiver, and knows how far it was told of matured decisions; its messages have an index;
a call that was begun again knows what it had decided before."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhooks", sa.Column("disabled_at", sa.BigInteger()))
    op.add_column("webhooks", sa.Column("matured_until", sa.BigInteger()))
    op.add_column("answers", sa.Column("work_id", sa.String(32)))
    op.add_column("answers", sa.Column("erased_meanwhile", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_index("deliveries_in_order", "deliveries")
    op.create_index("deliveries_by_webhook", "deliveries", ["webhook_id", "state", "due_at"])
    # they were told by decision before, whoever was told: those that are here go on from there
    op.execute(
        "UPDATE webhooks SET matured_until = (SELECT MAX(d.decided_at) FROM decisions d JOIN told t "
        "ON t.seat_id = d.decision_id WHERE t.what = 'decision.matured')"
    )
    # the rows in `told` stay: whoever goes back to the version before would tell all of them again without


def downgrade() -> None:
    op.drop_index("deliveries_by_webhook", "deliveries")
    op.create_index("deliveries_in_order", "deliveries", ["state", "due_at"])
    op.drop_column("answers", "erased_meanwhile")
    op.drop_column("answers", "work_id")
    op.drop_column("webhooks", "matured_until")
    op.drop_column("webhooks", "disabled_at")
