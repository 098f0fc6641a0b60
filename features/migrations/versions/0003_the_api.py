"""Keys, answers kept for retries, audit of reads, objections, tombstones of the erased, webhooks."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

IDENTIFIER = sa.String(260)
MICROSECONDS = sa.BigInteger()
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("key_id", sa.String(32), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("organization", sa.String(128)),
        sa.Column("scopes", sa.String(128), nullable=False),
        sa.Column("rate_per_second", sa.Float(53), nullable=False),
        sa.Column("created_at", MICROSECONDS, nullable=False),
        sa.Column("expires_at", MICROSECONDS),
        sa.Column("revoked_at", MICROSECONDS),
        sa.Column("last_used_at", MICROSECONDS),
    )
    op.create_table(
        "answers",
        sa.Column("key_id", sa.String(32), primary_key=True),
        sa.Column("idempotency_key", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("begun_at", MICROSECONDS, nullable=False),
        sa.Column("claim", sa.String(32), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("media_type", sa.String(64)),
        sa.Column("body", sa.LargeBinary()),
    )
    op.create_index("answers_by_time", "answers", ["begun_at"])
    op.create_table(
        "audit",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", MICROSECONDS, nullable=False),
        sa.Column("reader", sa.String(32), nullable=False),
        sa.Column("call", sa.String(64), nullable=False),
        sa.Column("purpose", sa.String(40), nullable=False),
        sa.Column("seat_id", IDENTIFIER, nullable=False),
    )
    op.create_index("audit_by_seat", "audit", ["seat_id", "at"])
    op.create_index("audit_by_time", "audit", ["at"])
    op.create_table(
        "objections",
        sa.Column("person_id", IDENTIFIER, primary_key=True),
        sa.Column("objected_at", MICROSECONDS, nullable=False),
    )
    op.create_table(
        "tombstones",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("erased_at", MICROSECONDS, nullable=False),
    )
    op.create_index("seats_by_person", "seats", ["person_id"])
    op.create_index("seats_by_manager", "seats", ["manager_person_id"])
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.String(32), primary_key=True),
        sa.Column("organization", sa.String(128)),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("types", sa.String(255), nullable=False),
        sa.Column("created_at", MICROSECONDS, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.String(64), primary_key=True),
        sa.Column("webhook_id", sa.String(32), nullable=False),
        sa.Column("seat_id", IDENTIFIER),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", MICROSECONDS, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", MICROSECONDS, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("last_answer", sa.String(128), nullable=False),
    )
    op.create_index("deliveries_in_order", "deliveries", ["state", "due_at"])
    op.create_table(
        "told",
        sa.Column("seat_id", IDENTIFIER, primary_key=True),
        sa.Column("what", sa.String(32), primary_key=True),
        sa.Column("at", MICROSECONDS, nullable=False),
    )


def downgrade() -> None:
    op.drop_index("seats_by_manager", "seats")
    op.drop_index("seats_by_person", "seats")
    for table in ("told", "deliveries", "webhooks", "tombstones", "objections", "audit", "answers", "keys"):
        op.drop_table(table)
