"""Seats, events, sources, decisions, what was served, what was set aside."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

IDENTIFIER = sa.String(260)
MICROSECONDS = sa.BigInteger()


def upgrade() -> None:
    op.create_table(
        "seats",
        sa.Column("seat_id", IDENTIFIER, primary_key=True),
        sa.Column("known_at", MICROSECONDS, primary_key=True),
        sa.Column("person_id", IDENTIFIER, nullable=False),
        sa.Column("organization", sa.String(128), nullable=False),
        sa.Column("tool", sa.String(64), nullable=False),
        sa.Column("role", sa.String(64)),
        sa.Column("function", sa.String(64)),
        sa.Column("team", sa.String(64)),
        sa.Column("manager_person_id", IDENTIFIER),
        sa.Column("region", sa.String(64)),
        sa.Column("hired_on", sa.Date()),
        sa.Column("assigned_at", MICROSECONDS, nullable=False),
        sa.Column("removed_at", MICROSECONDS),
    )
    op.create_index("seats_by_organization", "seats", ["organization", "seat_id"])
    op.create_table(
        "events",
        sa.Column("event_id", IDENTIFIER, primary_key=True),
        sa.Column("seat_id", IDENTIFIER, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("occurred_at", MICROSECONDS, nullable=False),
        sa.Column("available_at", MICROSECONDS, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("workflow", sa.String(64)),
        sa.Column("value", sa.Float(53)),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("completed", sa.Boolean()),
        sa.Column("frustration", sa.Float(53)),
        sa.Column("uncertainty", sa.Float(53)),
        sa.Column("category", sa.String(64)),
        sa.Column("guided", sa.Boolean(), nullable=False),
    )
    op.create_index("events_by_seat", "events", ["seat_id", "occurred_at"])
    op.create_table(
        "sources",
        sa.Column("organization", sa.String(128), primary_key=True),
        sa.Column("tool", sa.String(64), primary_key=True),
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("lag", MICROSECONDS, nullable=False),
        sa.Column("first_available_at", MICROSECONDS, nullable=False),
        sa.Column("watermark", MICROSECONDS, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("decision_id", sa.String(128), primary_key=True),
        sa.Column("seat_id", IDENTIFIER, nullable=False),
        sa.Column("target_person_id", IDENTIFIER),
        sa.Column("decided_at", MICROSECONDS, nullable=False),
        sa.Column("intervention", sa.String(64), nullable=False),
        sa.Column("holdout", sa.Boolean(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_index("decisions_by_seat", "decisions", ["seat_id", "decided_at"])
    op.create_index("decisions_by_time", "decisions", ["decided_at", "intervention", "seat_id"])
    op.create_index("decisions_by_target", "decisions", ["target_person_id", "decided_at"])
    op.create_table(
        "served",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("seat_id", IDENTIFIER, nullable=False),
        sa.Column("served_at", MICROSECONDS, nullable=False),
        sa.Column("as_of", MICROSECONDS),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("catalogue_hash", sa.String(64), nullable=False),
        sa.Column("risk", sa.Text(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("categories", sa.Text(), nullable=False),
    )
    op.create_index("served_by_time", "served", ["served_at"])
    op.create_table(
        "set_aside",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", MICROSECONDS, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("field", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    for table in ("set_aside", "served", "decisions", "sources", "events", "seats"):
        op.drop_table(table)
