"""What is PostgreSQL's own: months as partitions, event ids that stay single across them, COPY, claims of dead holders."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import pyarrow as pa
import pytest
import sqlalchemy as sa

import features.people
from features.events import EVENT_SCHEMA, SEAT_SCHEMA, Batch, Event, Seat, events_table, seats_table
from features.instants import to_microseconds
from features.log import EventLog
from features.people import People
from features.postgres import bounds, following, months_of, months_there, read_by_copy
from features.touched import CLAIM

NOW = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)
NO_STORE = Mock(retain=Mock(return_value=0))


@pytest.fixture
def log(postgres_url):
    opened = EventLog(postgres_url)
    yield opened
    opened.close()


def seat(number=1):
    return Seat(
        seat_id=f"acme/s{number}", person_id=f"acme/p{number}", organization="acme", tool="claude", assigned_at=NOW - 90 * DAY
    )  # fmt: skip


def event(number=1, at=NOW - DAY, **fields):
    filled = {"event_id": f"acme/e{number}", "seat_id": "acme/s1", "kind": "session", "source": "vendor"}
    return Event(**{**filled, "occurred_at": at, "available_at": at, **fields})


def append(log, events, seats=()):
    return log.append(Batch(seats_table(seats), events_table(events)), now=NOW)


def ask(log, statement):
    with log._engine.connect() as connection:
        return connection.exec_driver_sql(statement).scalar()


def test_a_month_has_its_bounds():
    assert bounds((2026, 12)) == tuple(
        to_microseconds(datetime(year, month, 1, tzinfo=UTC)) for year, month in ((2026, 12), (2027, 1))
    )
    assert following((2026, 12)) == (2027, 1)
    assert months_of([NOW, NOW + 30 * DAY, NOW]) == {(2026, 5), (2026, 6)}


def test_events_lie_in_the_partition_of_their_month(log):
    append(log, [event(1, NOW - 40 * DAY), event(2), event(3)], [seat()])
    assert ask(log, "SELECT count(*) FROM events_y2026m03") == 1
    assert ask(log, "SELECT count(*) FROM events_y2026m05") == 2
    assert ask(log, "SELECT count(*) FROM events_rest") == 0


def test_an_id_counts_once_whatever_its_month(log):
    append(log, [event(1)], [seat()])
    came = append(log, [event(1, NOW - 40 * DAY), event(1, NOW - 70 * DAY)])
    assert (came.accepted, came.duplicates, log.event_count()) == (0, 2, 1)


def test_an_id_counts_once_when_two_send_it_at_once_in_different_months(postgres_url):
    EventLog(postgres_url).close()
    start, came = threading.Barrier(4), []

    def send(part):
        own = EventLog(postgres_url)
        start.wait()
        came.append(append(own, [event(n, NOW - part * 31 * DAY) for n in range(200)], [seat()]).accepted)
        own.close()

    threads = [threading.Thread(target=send, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(came) == 200
    opened = EventLog(postgres_url)
    assert opened.event_count() == 200
    opened.close()


def test_a_single_insert_of_a_known_id_is_left_out_by_the_database_itself(log):
    append(log, [event(1)], [seat()])
    with log._write() as connection:
        told = connection.exec_driver_sql(
            "INSERT INTO events (event_id, seat_id, kind, occurred_at, available_at, source, count, guided) "
            "VALUES ('acme/e1', 'acme/s1', 'session', 5, 5, 'x', 1, false), "
            "('acme/e2', 'acme/s1', 'session', 5, 5, 'x', 1, false) RETURNING event_id"
        ).scalars()
        assert list(told) == ["acme/e2"]


def test_rows_that_came_before_their_month_was_made_move_into_it(log):
    with log._write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO events (event_id, seat_id, kind, occurred_at, available_at, source, count, guided) "
            f"VALUES ('acme/e9', 'acme/s1', 'session', {to_microseconds(NOW)}, 5, 'x', 1, false)"
        )
    assert ask(log, "SELECT count(*) FROM events_rest") == 1
    came = append(log, [event(1, NOW), event(9, NOW)], [seat()])
    assert (came.accepted, came.duplicates) == (1, 1)
    assert (ask(log, "SELECT count(*) FROM events_rest"), ask(log, "SELECT count(*) FROM events_y2026m05")) == (0, 2)


def test_retention_drops_whole_months_and_lets_their_ids_go(log):
    append(log, [event(1, NOW - 70 * DAY), event(2, NOW - 40 * DAY), event(3)], [seat()])
    found = People(log.database).retain(older_than=10 * DAY, store=NO_STORE, now=NOW)
    assert found.events == 2
    with log._write() as connection:
        assert not {(2026, 2), (2026, 3)} & set(months_there(connection, "events"))
    assert log.events().column("event_id").to_pylist() == ["acme/e3"]
    assert ask(log, "SELECT count(*) FROM event_keys") == 1
    assert append(log, [event(4, NOW - 40 * DAY)]).accepted == 1


def test_a_month_that_is_read_holds_up_neither_callers_nor_the_rest_of_retention(log, postgres_url, monkeypatch):
    """Who waits for a lock stands before everybody who comes later: retention waits shortly, lets them through, comes again."""
    monkeypatch.setattr("features.postgres.LOCK_WAIT", "100ms")
    monkeypatch.setattr("features.people.DROP_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("features.people.DROP_ATTEMPTS", 1_000)
    append(log, [event(1, NOW - 70 * DAY), event(2, NOW - 12 * DAY), event(3, NOW - DAY)], [seat()])
    other = EventLog(postgres_url)
    waits = threading.Event()
    drop = features.people.drop_month

    def watched(*arguments):
        try:
            return drop(*arguments)
        except sa.exc.OperationalError:
            waits.set()
            raise

    monkeypatch.setattr("features.people.drop_month", watched)
    retention = ThreadPoolExecutor(1)
    with other._engine.connect() as reader, reader.begin():
        reader.exec_driver_sql("SELECT count(*) FROM events").scalar()
        found = retention.submit(People(log.database).retain, older_than=10 * DAY, store=NO_STORE, now=NOW)
        assert waits.wait(60)
        with other._engine.connect() as caller, caller.begin():
            caller.exec_driver_sql("SET LOCAL lock_timeout = '20s'")
            assert caller.exec_driver_sql("SELECT count(*) FROM events").scalar() == 3
            caller.exec_driver_sql("DELETE FROM touched")
        assert not found.done()
    assert found.result(60).events == 2
    assert log.events().column("event_id").to_pylist() == ["acme/e3"]
    retention.shutdown()
    other.close()


def test_a_month_that_is_never_free_is_said(log, postgres_url, monkeypatch):
    monkeypatch.setattr("features.postgres.LOCK_WAIT", "50ms")
    monkeypatch.setattr("features.people.DROP_PAUSE_SECONDS", 0)
    monkeypatch.setattr("features.people.DROP_ATTEMPTS", 2)
    append(log, [event(1, NOW - 70 * DAY)], [seat()])
    with log._engine.connect() as reader, reader.begin():
        reader.exec_driver_sql("SELECT count(*) FROM events").scalar()
        with pytest.raises(ValueError, match="events_y2026m02 could not be dropped in 2 attempts"):
            People(log.database).retain(older_than=10 * DAY, store=NO_STORE, now=NOW)


def test_a_deleted_event_lets_its_id_go(log):
    append(log, [event(1), event(2)], [seat()])
    with log._write() as connection:
        connection.exec_driver_sql("DELETE FROM events WHERE event_id = 'acme/e1'")
    assert ask(log, "SELECT count(*) FROM event_keys") == 1


def test_a_log_of_before_the_months_keeps_everything(bare_postgres_url):
    opened = EventLog(bare_postgres_url)
    append(opened, [event(1, NOW - 40 * DAY, value=0.1 + 0.2), event(2)], [seat()])
    before = opened.events().sort_by("event_id")
    for revision in ("0005", "head"):
        _migrate(opened, revision)
    assert opened.events().sort_by("event_id").equals(before)
    assert ask(opened, "SELECT count(*) FROM events_rest") == 0
    assert append(opened, [event(1), event(3)]).accepted == 1
    opened.close()


def _migrate(log, revision):
    from alembic import command
    from alembic.config import Config

    from features.log import MIGRATIONS

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with log._write() as connection:
        config.attributes["connection"] = connection
        (command.upgrade if revision == "head" else command.downgrade)(config, revision)


@pytest.mark.parametrize("text", ["", "a,b", 'say "x"', "two\nlines", "a%b", "%(x)s", "it's", "\\N", "ü€", "NULL", " "])
def test_copy_keeps_every_text_and_tells_a_missing_one_from_an_empty_one(log, text):
    names = ("seat_id", "kind", "workflow")
    schema = pa.schema([pa.field(name, pa.string()) for name in names])
    query = sa.select(*(sa.literal(value).cast(sa.Text()).label(name) for name, value in zip(names, (text, "x", None), strict=True)))  # fmt: skip
    with log._engine.connect() as connection:
        assert read_by_copy(connection, query, schema).to_pylist() == [{"seat_id": text, "kind": "x", "workflow": None}]


def test_bulk_ingest_equals_single_inserts(log):
    values = [None, 0.0, 0.1 + 0.2, 5e-324, 1e9, 1 / 3]
    events = [
        event(n, NOW - n * DAY, kind="prompt", value=value, workflow="a b/c:~.-_") for n, value in enumerate(values)
    ]
    append(log, events, [seat()])
    assert log.events().sort_by("event_id").to_pylist() == events_table(events).sort_by("event_id").to_pylist()
    assert log.events().schema == EVENT_SCHEMA


HOLDER = """
import sys, time
from datetime import datetime
from features.log import EventLog
log = EventLog(sys.argv[1])
claim = log.touched.claim(at_most=20, now=datetime.fromisoformat(sys.argv[2]))
print(",".join(sorted(claim.tokens)), flush=True)
time.sleep(600)
"""


def test_claims_of_several_processes_never_meet_and_those_of_killed_ones_come_back(log, postgres_url):
    seats = [seat(number) for number in range(100)]
    append(log, [], seats)
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLDER, postgres_url, NOW.isoformat()], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]  # fmt: skip
    held = [set(holder.stdout.readline().strip().split(",")) for holder in holders]
    assert len(set().union(*held)) == sum(map(len, held)) == 80
    for holder in holders:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    free = log.touched.claim(at_most=1000, now=NOW)
    assert len(free) == 20
    assert not set(free.tokens) & set().union(*held)
    log.touched.finish(free)
    back = log.touched.claim(at_most=1000, now=NOW + CLAIM + timedelta(seconds=1))
    assert set(back.tokens) == set().union(*held)


def test_a_holder_that_is_killed_inside_its_transaction_blocks_nobody(log, postgres_url):
    append(log, [], [seat(number) for number in range(40)])
    with log._engine.connect() as connection, connection.begin():  # it holds row locks, and then it is gone
        rows = connection.exec_driver_sql("SELECT seat_id FROM touched ORDER BY seat_id LIMIT 30 FOR UPDATE").all()
        other = EventLog(postgres_url)
        claim = other.touched.claim(at_most=1000, now=NOW)
        assert len(claim) == 10
        assert not {row.seat_id for row in rows} & set(claim.tokens)
    assert len(other.touched.claim(at_most=1000, now=NOW)) == 30
    other.close()


def test_the_schema_of_seats_is_read_to_the_day(log):
    append(log, [], [seat()])
    assert log.seats().schema == SEAT_SCHEMA
