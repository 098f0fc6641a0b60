"""From when each lag of a source was known, and which kinds of event it can tell."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    feed = ("organization", sa.String(128)), ("tool", sa.String(64)), ("source", sa.String(64))
    for table, column in (
        ("source_lags", sa.Column("lag", sa.BigInteger(), primary_key=True, autoincrement=False)),
        ("source_kinds", sa.Column("kind", sa.String(32), primary_key=True)),
    ):
        op.create_table(
            table,
            *(sa.Column(name, kind, primary_key=True) for name, kind in feed),
            column,
            sa.Column("known_at", sa.BigInteger(), nullable=False),
        )
    op.execute(
        "INSERT INTO source_lags (organization, tool, source, lag, known_at) "
        "SELECT organization, tool, source, lag, first_available_at FROM sources"
    )
    # of what was there before nobody said which kinds it can tell: those that it has told
    op.execute(
        "INSERT INTO source_kinds (organization, tool, source, kind, known_at) "
        "SELECT s.organization, s.tool, e.source, e.kind, min(e.available_at) FROM events AS e "
        "JOIN (SELECT DISTINCT seat_id, organization, tool FROM seats) AS s ON s.seat_id = e.seat_id "
        "JOIN sources AS f ON f.organization = s.organization AND f.tool = s.tool AND f.source = e.source "
        "GROUP BY s.organization, s.tool, e.source, e.kind"
    )


def downgrade() -> None:
    op.drop_table("source_kinds")
    op.drop_table("source_lags")
