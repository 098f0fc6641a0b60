"""PostgreSQL: events and what was served by month, and every event id once. SQLite stays one table each."""

from datetime import UTC, datetime

from alembic import op

from features.postgres import KEYED, PARTITIONED, add_months

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_GUARD = f"""
CREATE FUNCTION keep_event_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('{KEYED}', true), 'off') = 'on' THEN
        RETURN NEW;
    END IF;
    INSERT INTO event_keys VALUES (NEW.event_id, NEW.occurred_at) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$
"""
_FORGET = """
CREATE FUNCTION forget_event_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM event_keys WHERE event_id IN (SELECT event_id FROM gone);
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("ALTER TABLE events RENAME TO events_before")
    op.execute("ALTER TABLE events_before DROP CONSTRAINT events_pkey")
    op.execute("DROP INDEX events_by_seat")
    op.execute(
        "CREATE TABLE events (LIKE events_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (occurred_at)"
    )
    op.execute("CREATE TABLE events_rest PARTITION OF events DEFAULT")
    op.execute("CREATE INDEX events_by_seat ON events (seat_id, occurred_at)")
    op.execute("CREATE INDEX events_of_reactions ON events (event_id) WHERE kind = 'reaction'")
    op.execute("CREATE INDEX events_by_time ON events USING brin (occurred_at)")
    op.execute("CREATE TABLE event_keys (event_id varchar(260) PRIMARY KEY, occurred_at bigint NOT NULL)")
    op.execute("CREATE INDEX event_keys_by_time ON event_keys USING brin (occurred_at)")
    op.execute("ALTER TABLE served RENAME TO served_before")
    op.execute("ALTER TABLE served_before DROP CONSTRAINT served_pkey")
    op.execute("DROP INDEX served_by_time")
    op.execute("ALTER SEQUENCE served_id_seq OWNED BY NONE")
    op.execute(
        "CREATE TABLE served (LIKE served_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (served_at)"
    )
    op.execute("ALTER SEQUENCE served_id_seq OWNED BY served.id")
    op.execute("CREATE TABLE served_rest PARTITION OF served DEFAULT")
    op.execute("CREATE INDEX served_by_time ON served (served_at)")
    for table, instant in PARTITIONED.items():
        _fill(table, instant)
    op.execute("INSERT INTO event_keys SELECT event_id, occurred_at FROM events")
    op.execute(_GUARD)
    op.execute(_FORGET)
    op.execute("CREATE TRIGGER once BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION keep_event_key()")
    op.execute(
        "CREATE TRIGGER forget AFTER DELETE ON events REFERENCING OLD TABLE AS gone "
        "FOR EACH STATEMENT EXECUTE FUNCTION forget_event_keys()"
    )


def _fill(table: str, instant: str) -> None:
    """The rows of before, into the months that they lie in, and this month's partition."""
    connection = op.get_bind()
    found = connection.exec_driver_sql(
        f"SELECT DISTINCT date_trunc('month', to_timestamp({instant} / 1000000) AT TIME ZONE 'UTC') FROM {table}_before"
    ).scalars()
    now = datetime.now(UTC)
    add_months(connection, table, {(month.year, month.month) for month in found} | {(now.year, now.month)})
    op.execute(f"INSERT INTO {table} SELECT * FROM {table}_before")
    op.execute(f"DROP TABLE {table}_before")


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("CREATE TABLE events_whole (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    op.execute("INSERT INTO events_whole SELECT * FROM events")
    op.execute("DROP TABLE events, event_keys")
    op.execute("DROP FUNCTION keep_event_key, forget_event_keys")
    op.execute("ALTER TABLE events_whole RENAME TO events")
    op.execute("ALTER TABLE events ADD CONSTRAINT events_pkey PRIMARY KEY (event_id)")
    op.execute("CREATE INDEX events_by_seat ON events (seat_id, occurred_at)")
    op.execute("CREATE TABLE served_whole (LIKE served INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    op.execute("INSERT INTO served_whole SELECT * FROM served")
    op.execute("ALTER SEQUENCE served_id_seq OWNED BY served_whole.id")
    op.execute("DROP TABLE served")
    op.execute("ALTER TABLE served_whole RENAME TO served")
    op.execute("ALTER TABLE served ADD CONSTRAINT served_pkey PRIMARY KEY (id)")
    op.execute("CREATE INDEX served_by_time ON served (served_at)")
