"""Which pseudonyms are one person's: accounts of vendors that were told to be the same, for later imports to join on."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

IDENTIFIER = sa.String(260)


def upgrade() -> None:
    op.create_table(
        "aliases",
        sa.Column("alias_id", IDENTIFIER, primary_key=True),
        sa.Column("person_id", IDENTIFIER, nullable=False),
    )
    op.create_index("aliases_by_person", "aliases", ["person_id"])


def downgrade() -> None:
    op.drop_index("aliases_by_person", "aliases")
    op.drop_table("aliases")
