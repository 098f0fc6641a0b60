import json
import multiprocessing
import random
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import features.log
from features.catalogue import NUMERIC
from features.compute import pack
from features.decisions import Decision
from features.events import (
    EVENT_SCHEMA,
    SEAT_SCHEMA,
    Batch,
    Event,
    Kind,
    Rejected,
    Scores,
    Seat,
    events_table,
    seats_table,
)
from features.instants import from_microseconds, to_microseconds
from features.log import Appended, EventLog
from features.tables import ROSTER_SCHEMA, Served, latest_seats

NOW = datetime(2026, 5, 4, 9, 30, 0, 123_457, tzinfo=UTC)
DAY, MICRO = timedelta(days=1), timedelta(microseconds=1)
NO_SEATS, NO_EVENTS = SEAT_SCHEMA.empty_table(), EVENT_SCHEMA.empty_table()


@pytest.fixture
def url(database_url):
    return database_url


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path / 'log.db'}"


@pytest.fixture
def log(url):
    opened = EventLog(url)
    yield opened
    opened.close()


def seat(number=1, **fields):
    filled = {"seat_id": f"acme/s{number}", "person_id": f"acme/p{number}", "organization": "acme"}
    return Seat(**{**filled, "tool": "m365_copilot", "assigned_at": NOW - 90 * DAY, **fields})


def event(number=1, **fields):
    at = NOW - DAY + number * MICRO
    filled = {"event_id": f"acme/e{number}", "seat_id": "acme/s1", "kind": "session", "source": "vendor"}
    return Event(**{**filled, "occurred_at": at, "available_at": at, **fields})


def batch(events=(), seats=(), **fields):
    return Batch(seats_table(seats), events_table(events), **fields)


def decision(number=1, **fields):
    filled = {"decision_id": f"d{number}", "seat_id": "acme/s1", "decided_at": NOW, "intervention": "none"}
    return Decision(**{**filled, "probabilities": {"none": 0.7, "refresher": 0.3}, **fields})


def _empty(log):
    with log._write() as connection:
        for table in ("events", "seats", "sources"):
            connection.exec_driver_sql(f"DELETE FROM {table}")


def in_id_order(table):
    return table.sort_by("event_id").to_pylist()


# --- appending ------------------------------------------------------------------------------------------------------


def test_a_batch_is_counted(log):
    came = log.append(batch([event(1), event(2)], [seat()], decisions=(decision(),)), now=NOW)
    assert came == Appended(seats=1, accepted=2, duplicates=0, decisions=1)


def test_the_same_batch_twice_changes_nothing(log):
    same = batch([event(1), event(2)], [seat()], decisions=(decision(),))
    log.append(same, now=NOW)
    before = (in_id_order(log.events()), log.roster().to_pylist(), log.sources(), log.decisions())
    assert log.append(same, now=NOW + DAY) == Appended(duplicates=2)
    assert (in_id_order(log.events()), log.roster().to_pylist(), log.sources(), log.decisions()) == before


def test_an_id_twice_in_a_batch_counts_once_and_the_first_wins(log):
    came = log.append(batch([event(1, count=3), event(1, count=4)], [seat()]), now=NOW)
    assert (came.accepted, came.duplicates) == (1, 1)
    assert log.events().column("count").to_pylist() == [3]


def test_overlapping_batches_add_only_what_is_new(log):
    log.append(batch([event(1), event(2)], [seat()]), now=NOW)
    came = log.append(batch([event(2), event(3)], [seat()]), now=NOW)
    assert (came.accepted, came.duplicates, log.event_count()) == (1, 1, 3)


def test_a_known_event_is_never_overwritten(log):
    log.append(batch([event(1, count=3)], [seat()]), now=NOW)
    log.append(batch([event(1, count=9)]), now=NOW)
    assert log.events().column("count").to_pylist() == [3]


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 7, 100])
def test_chunk_size_changes_nothing(log, monkeypatch, chunk_rows):
    monkeypatch.setattr(features.log, "CHUNK_ROWS", chunk_rows)
    seats = [seat(number) for number in range(7)]
    events = [event(number % 15, seat_id=f"acme/s{number % 9}", count=number + 1) for number in range(30)]
    came = log.append(batch(events, seats), now=NOW)
    expected = {f"acme/e{n}": n + 1 for n in range(15) if n % 9 < 7}
    expected |= {f"acme/e{n % 15}": n + 1 for n in range(29, 14, -1) if n % 9 < 7 and n % 15 % 9 >= 7}
    assert dict(zip(log.events().column("event_id").to_pylist(), log.events().column("count").to_pylist(), strict=True)) == expected  # fmt: skip
    assert came.accepted + came.duplicates + len(came.rejected) == 30
    assert log.events([f"acme/s{n}" for n in range(9)]).num_rows == len(expected)
    assert log.seats([f"acme/s{n}" for n in range(9)]).num_rows == 7


@pytest.mark.parametrize("read_rows", [1, 3, 1000])
def test_read_size_changes_nothing(log, monkeypatch, read_rows):
    events = [event(number) for number in range(10)]
    log.append(batch(events, [seat()]), now=NOW)
    monkeypatch.setattr(features.log, "READ_ROWS", read_rows)
    assert in_id_order(log.events()) == in_id_order(events_table(events))


@given(st.lists(st.lists(st.integers(0, 12), max_size=8), max_size=6))
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_events_are_delivered_each_is_there_once(url, deliveries):
    log = EventLog(url)
    _empty(log)
    log.append(batch(seats=[seat()]), now=NOW)
    came = [log.append(batch([event(number) for number in numbers]), now=NOW) for numbers in deliveries]
    total = sum(came, Appended())
    sent = [number for numbers in deliveries for number in numbers]
    assert (total.accepted, total.duplicates) == (len(set(sent)), len(sent) - len(set(sent)))
    assert sorted(log.events().column("event_id").to_pylist()) == sorted({f"acme/e{number}" for number in sent})
    log.close()


def test_an_event_of_an_unassigned_seat_is_set_aside_and_the_rest_goes_in(log):
    came = log.append(batch([event(1), event(2, seat_id="acme/ghost")], [seat()]), now=NOW)
    assert came.accepted == 1
    assert [(item.where, item.field) for item in came.rejected] == [("event acme/e2", "seat_id")]
    assert log.set_aside() == list(came.rejected)


def test_an_event_that_was_set_aside_goes_in_once_its_seat_is_there(log):
    log.append(batch([event(1)]), now=NOW)
    assert log.append(batch([event(1)], [seat()]), now=NOW).accepted == 1


def test_what_the_connector_rejected_is_set_aside_too(log):
    items = tuple(Rejected(f"x.jsonl, line {number}", "kind", "expected …, came 'x'") for number in (1, 2))
    log.append(batch(rejected=items), now=NOW, source="jsonl")
    assert log.set_aside(limit=1) == [items[1]]


def test_what_is_set_aside_again_is_stored_once_for_its_source(log):
    items = tuple(Rejected(f"x.csv, row {number}", "kind", "is required") for number in (1, 2, 2))
    for source in ("auto", "auto", "jsonl"):
        log.append(batch(rejected=items), now=NOW, source=source)
    log.append(batch(rejected=(Rejected("x.csv, row 2", "kind", "is unknown"),)), now=NOW, source="auto")
    found = sorted((item.where, item.reason) for item in log.set_aside())
    assert found == [*[("x.csv, row 1", "is required")] * 2, *[("x.csv, row 2", "is required")] * 2, ("x.csv, row 2", "is unknown")]  # fmt: skip


def test_an_address_in_the_name_of_a_file_is_not_kept(log):
    item = Rejected("usage of ada.l@corp.example.csv, row 3", "", "expected 4 columns, came 3")
    log.append(batch(rejected=(item,)), now=NOW, source="auto")
    assert [kept.where for kept in log.set_aside()] == ["usage of (address), row 3"]


@pytest.mark.parametrize("step", ["_append_events", "_insert_new", "_tools_of", "_set_aside_rows"])
def test_after_an_error_in_the_middle_nothing_of_the_batch_is_there(log, monkeypatch, step):
    def fail(*arguments, **options):
        raise RuntimeError("the lights went out")

    with monkeypatch.context() as patch:
        patch.setattr(EventLog, step, fail)
        with pytest.raises(RuntimeError, match="lights"):
            log.append(batch([event(1)], [seat()], decisions=(decision(),)), now=NOW)
    assert (log.event_count(), log.roster().num_rows, log.sources(), log.decisions(), log.set_aside()) == (0, 0, [], [], [])  # fmt: skip


def test_an_error_in_a_later_chunk_takes_the_earlier_ones_back(log, monkeypatch):
    monkeypatch.setattr(features.log, "CHUNK_ROWS", 2)
    events = events_table([event(number) for number in range(6)])
    broken = events.set_column(2, "kind", pa.array(["session"] * 5 + [None], pa.string()))
    with pytest.raises(sa.exc.IntegrityError):
        log.append(Batch(seats_table([seat()]), broken), now=NOW)
    assert (log.event_count(), log.roster().num_rows) == (0, 0)


def test_an_empty_batch_is_fine(log):
    assert log.append(Batch(NO_SEATS, NO_EVENTS), now=NOW) == Appended()


# --- the roster -----------------------------------------------------------------------------------------------------


def test_the_first_version_of_a_seat_is_known_from_its_assignment(log):
    log.append(batch(seats=[seat()]), now=NOW)
    assert log.roster().column("known_at").to_pylist() == [NOW - 90 * DAY]


def test_a_change_is_a_new_version_known_from_its_receipt(log):
    log.append(batch(seats=[seat(role="sales")]), now=NOW - DAY)
    log.append(batch(seats=[seat(role="legal")]), now=NOW)
    versions = log.roster().select(["role", "known_at"]).to_pylist()
    assert versions == [{"role": "sales", "known_at": NOW - 90 * DAY}, {"role": "legal", "known_at": NOW}]
    assert log.seats().column("role").to_pylist() == ["legal"]


def test_the_same_seat_again_is_no_new_version(log):
    log.append(batch(seats=[seat(role="sales")]), now=NOW)
    assert log.append(batch(seats=[seat(role="sales")]), now=NOW + DAY).seats == 0
    assert log.roster().num_rows == 1


def test_two_versions_in_one_batch_are_both_kept_in_their_order(log):
    came = log.append(batch(seats=[seat(role="sales"), seat(role="legal"), seat(role="legal")]), now=NOW)
    assert came.seats == 2
    assert log.roster().column("role").to_pylist() == ["sales", "legal"]


def test_two_changes_at_one_instant_are_both_kept_and_the_second_is_the_latest(log):
    for role in ("sales", "legal", "support"):
        log.append(batch(seats=[seat(role=role)]), now=NOW)
    assert log.roster().num_rows == 3
    assert log.seats().column("role").to_pylist() == ["support"]


def test_a_seat_never_changes_its_tool(log):
    """features.compute relies on it: the tool decides what every event of the seat meant."""
    log.append(batch(seats=[seat()]), now=NOW)
    came = log.append(batch([event(1)], [seat(tool="github_copilot"), seat(2)]), now=NOW + DAY)
    assert (came.seats, came.accepted, len(came.rejected)) == (1, 1, 1)
    assert log.seats(["acme/s1"]).column("tool").to_pylist() == ["m365_copilot"]


def test_a_seat_comes_back_as_it_went_in(log):
    full = seat(
        role="sales", function="field", team="north", manager_person_id="acme/p9", region="emea",
        hired_on=date(2019, 2, 28), removed_at=NOW,
    )  # fmt: skip
    log.append(batch(seats=[full, seat(2)]), now=NOW)
    assert log.seats().equals(seats_table([full, seat(2)]))


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59Z"])
def test_a_seat_with_a_removal_date_at_the_end_of_time_is_refused_or_comes_back(log, instant):
    """Exports write 'never removed' as the largest date; one such row must not stop the others."""
    try:
        odd = seat(removed_at=instant)
    except ValueError:
        return
    log.append(batch(seats=[odd, seat(2)]), now=NOW)
    log.append(batch([event(1)], seats=[odd]), now=NOW)
    assert log.roster().num_rows == 2


def test_the_roster_of_nobody_is_empty(log):
    assert log.roster([]).schema == ROSTER_SCHEMA
    assert (log.roster([]).num_rows, log.seats(["acme/ghost"]).num_rows, log.events([]).num_rows) == (0, 0, 0)


def test_latest_seats_of_an_empty_roster_are_none():
    assert latest_seats(ROSTER_SCHEMA.empty_table()).equals(SEAT_SCHEMA.empty_table())


# --- sources --------------------------------------------------------------------------------------------------------


def test_a_source_starts_and_ends_with_what_became_known(log):
    events = [event(1, available_at=NOW + DAY), event(2, available_at=NOW + 5 * DAY), event(3, available_at=NOW + DAY)]
    log.append(batch(events, [seat()], lags={"vendor": 3 * DAY}), now=NOW)
    (source,) = log.sources()
    assert (source.organization, source.tool, source.source) == ("acme", "m365_copilot", "vendor")
    assert (source.lag, source.first_available_at, source.watermark) == (3 * DAY, NOW + DAY, NOW + 5 * DAY)


def test_an_older_backfill_moves_the_start_back_and_never_the_watermark(log):
    log.append(batch([event(1, available_at=NOW)], [seat()], lags={"vendor": DAY}), now=NOW)
    log.append(batch([event(2, occurred_at=NOW - 9 * DAY, available_at=NOW - 8 * DAY)]), now=NOW)
    (source,) = log.sources()
    assert (source.lag, source.first_available_at, source.watermark) == (DAY, NOW - 8 * DAY, NOW)


def test_a_source_is_complete_as_far_as_its_connector_says(log):
    log.append(batch([event(1)], [seat()], complete_until={"vendor": NOW + 3 * DAY}), now=NOW)
    assert log.sources()[0].watermark == NOW + 3 * DAY


def test_a_quiet_week_moves_the_watermark_too(log):
    """Nobody used the tool, and the connector knows it: a silence can only be judged on such a week."""
    log.append(batch([event(1)], [seat()], lags={"vendor": DAY}), now=NOW)
    log.append(batch(seats=[seat()], complete_until={"vendor": NOW + 7 * DAY}), now=NOW + 7 * DAY)
    assert log.sources()[0].watermark == NOW + 7 * DAY


def test_sources_of_different_tools_and_organisations_are_apart(log):
    zeta = seat(3, seat_id="zeta/s3", person_id="zeta/p3", organization="zeta")
    events = [event(1), event(2, seat_id="acme/s2"), event(3, seat_id="zeta/s3"), event(4, source="git")]
    log.append(batch(events, [seat(1), seat(2, tool="claude"), zeta]), now=NOW)
    assert [(source.organization, source.tool, source.source) for source in log.sources()] == [
        ("acme", "claude", "vendor"),
        ("acme", "m365_copilot", "git"),
        ("acme", "m365_copilot", "vendor"),
        ("zeta", "m365_copilot", "vendor"),
    ]


def test_an_event_that_was_set_aside_moves_no_watermark(log):
    log.append(batch([event(1, seat_id="acme/ghost")], [seat()]), now=NOW)
    assert log.sources() == []


def test_a_lag_that_grows_is_known_from_what_was_new_with_it(log):
    """The export of the second week repeats the first: only what is new in it tells when the lag had grown."""
    first, second = event(1, available_at=NOW), event(2, occurred_at=NOW, available_at=NOW + 7 * DAY)
    log.append(batch([first], [seat()], lags={"vendor": DAY}), now=NOW)
    log.append(batch([first, second], lags={"vendor": 5 * DAY}), now=NOW + 9 * DAY)
    (source,) = log.sources()
    assert source.lag == 5 * DAY
    assert source.known_lags == ((NOW, DAY), (NOW + 7 * DAY, 5 * DAY))
    assert [source.lag_at(NOW + days * DAY) for days in (-1, 0, 6, 7)] == [None, DAY, DAY, 5 * DAY]


def test_a_connector_says_which_kinds_its_format_can_tell(log):
    log.append(batch([event(1, kind="prompt")], [seat()], kinds={"vendor": (Kind.PROMPT, Kind.TASK)}), now=NOW)
    (source,) = log.sources()
    assert {kind for _, kind in source.known_kinds} == {Kind.PROMPT, Kind.TASK}


def test_a_sender_can_tell_what_it_has_sent_and_from_when(log):
    log.append(batch([event(1, kind="prompt", available_at=NOW)], [seat()]), now=NOW)
    log.receive(events_table([event(2, kind="task", available_at=NOW + DAY)]), now=NOW + DAY)
    log.receive(events_table([event(3, kind="prompt", occurred_at=NOW - DAY, available_at=NOW - DAY)]), now=NOW + DAY)
    (source,) = log.sources()
    assert source.known_kinds == ((NOW - DAY, Kind.PROMPT), (NOW + DAY, Kind.TASK))


def test_a_source_in_which_nobody_did_anything_is_known_with_what_it_would_have_told(log):
    quiet = batch(
        seats=[seat()], complete_until={"vendor": NOW + DAY}, kinds={"vendor": (Kind.TASK,)}, lags={"vendor": 2 * DAY}
    )
    log.append(quiet, now=NOW + DAY)
    (source,) = log.sources()
    assert (source.first_available_at, source.watermark, source.lag) == (NOW + DAY, NOW + DAY, 2 * DAY)
    assert source.known_kinds == ((NOW + DAY, Kind.TASK),)


# --- reading back ---------------------------------------------------------------------------------------------------


def test_events_come_back_to_the_bit(log):
    values = [None, 0.0, 0.1 + 0.2, 5e-324, 1e9, 1 / 3]
    events = [event(number, kind="prompt", value=value) for number, value in enumerate(values)]
    events += [event(10, completed=True), event(11, completed=False), event(12, guided=True, workflow="a b/c:~.-_")]
    events += [event(13, kind="ticket", scores=Scores(frustration=0.3, uncertainty=None), category="billing")]
    events += [event(14, count=1_000_000, occurred_at=datetime(2000, 1, 1, tzinfo=UTC))]
    log.append(batch(events, [seat()]), now=NOW)
    assert in_id_order(log.events()) == in_id_order(events_table(events))
    assert log.events().schema == EVENT_SCHEMA


def test_features_from_the_log_equal_features_from_memory_to_the_bit(log, oracle):
    world = oracle.random_world(12, seats=40)
    versions = sorted(world.versions, key=lambda version: version.known_at)
    for version in versions:
        table = oracle.roster_table([version]).select(SEAT_SCHEMA.names)
        log.append(Batch(table, NO_EVENTS), now=version.known_at)
    for events in (world.events[:200], world.events[100:], world.events):  # some twice, some three times
        log.append(Batch(NO_SEATS, events_table(events)), now=NOW)
    vectors, categories = pack(world.features())
    read, read_categories = pack(world.features(events=log.events(), roster=log.roster()))
    assert (read.tobytes(), read_categories) == (vectors.tobytes(), categories)


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [(None, None, 4), (2, None, 2), (None, 2, 2), (1, 3, 2), (2, 2, 0)],
)
def test_events_are_read_from_since_up_to_and_without_until(log, since, until, found):
    def instant(number):
        return None if number is None else NOW - DAY + number * MICRO

    log.append(batch([event(number) for number in range(4)], [seat()]), now=NOW)
    assert log.events(since=instant(since), until=instant(until)).num_rows == found


def test_events_of_some_seats_are_theirs_alone(log):
    log.append(batch([event(1), event(2, seat_id="acme/s2")], [seat(1), seat(2)]), now=NOW)
    assert log.events(["acme/s2", "acme/s2"]).column("event_id").to_pylist() == ["acme/e2"]


def test_a_decision_comes_back_to_the_bit(log):
    rng = random.Random(5)
    full = decision(
        probabilities={"none": 0.1 + 0.2, "refresher": 1 - (0.1 + 0.2)}, workflow="meeting_recap", holdout=True,
        target_person_id="acme/p9", policy="p1", model="m1", as_of=NOW - DAY, expires_at=NOW + DAY,
        features=tuple(rng.choice([float("nan"), rng.random(), 1 / 3, -0.0]) for _ in NUMERIC),
        categories=("m365_copilot", "", "läkare", "emea"), catalogue_hash="abc", risk={"28": 0.1 + 0.2},
        effects={"refresher": -1e-17}, guardrails={"coach_call": "cap"},
    )  # fmt: skip
    log.record_decisions([full])
    back = log.decision("d1")
    assert replace(back, features=()) == replace(full, features=())
    assert np.array(back.features).tobytes() == np.array(full.features).tobytes()


def test_a_decision_is_written_once_and_never_changed(log):
    assert log.record_decisions([decision(1, policy="first"), decision(1, policy="twin")]) == 1
    assert log.record_decisions([decision(1, policy="second"), decision(2)]) == 1
    assert log.decision("d1").policy == "first"


def test_an_unknown_decision_is_none(log):
    assert log.decision("d404") is None


def test_decisions_are_oldest_first_and_of_the_asked_seats(log):
    late, early = decision(1, decided_at=NOW), decision(2, decided_at=NOW - DAY)
    log.record_decisions([late, early, decision(3, seat_id="acme/s2")])
    assert [item.decision_id for item in log.decisions(["acme/s1"])] == ["d2", "d1"]


def served(number, **fields):
    vector = np.array([0.1, np.nan, -0.0, np.inf, number])
    filled = {"seat_id": f"acme/s{number}", "served_at": NOW + number * MICRO, "as_of": NOW, "model": "m1"}
    filled |= {"catalogue_hash": "abc", "risk": {"28": 1 / 3}, "vector": vector, "categories": ("a", "")}
    return Served(**{**filled, **fields})


def test_what_was_served_comes_back_to_the_bit(log):
    log.record_served([served(1, as_of=None)])
    (back,) = log.served(since=NOW, until=NOW + DAY)
    assert back.vector.tobytes() == served(1).vector.tobytes()
    assert replace(back, vector=None) == replace(served(1, as_of=None), vector=None)


def test_served_is_half_open_oldest_first_and_limited_to_the_latest(log):
    log.record_served([served(number) for number in (2, 0, 3, 1)])
    assert [item.seat_id for item in log.served(since=NOW, until=NOW + 3 * MICRO, limit=2)] == ["acme/s1", "acme/s2"]


def test_nothing_served_is_nothing(log):
    log.record_served([])
    assert log.served(since=NOW, until=NOW + DAY) == []


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
@settings(derandomize=True)
def test_microseconds_are_exact(instant):
    assert from_microseconds(to_microseconds(instant)) == instant


# --- several at once ------------------------------------------------------------------------------------------------


def _append_all(url, barrier, results):
    barrier.wait()
    log = EventLog(url)
    came = [log.append(batch([event(number) for number in range(part, 60)], [seat()]), now=NOW) for part in (0, 20, 40)]
    results.put((sum(item.accepted for item in came), sum(item.seats for item in came)))
    log.close()


def test_two_threads_that_append_the_same_events_count_each_once(url):
    EventLog(url).close()
    barrier, results = threading.Barrier(2), multiprocessing.get_context("spawn").SimpleQueue()
    threads = [threading.Thread(target=_append_all, args=(url, barrier, results)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    came = [results.get(), results.get()]
    assert (sum(accepted for accepted, _ in came), sum(seats for _, seats in came)) == (60, 1)


def test_threads_that_share_one_log_count_each_event_once(log):
    came, errors = [], []

    def work():
        try:
            came.append(log.append(batch([event(number) for number in range(60)], [seat()]), now=NOW))
        except Exception as error:  # whatever it is, the test wants to see it
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(item.accepted for item in came) == [0, 0, 0, 0, 0, 60]


PROCESS = """
import sys
from datetime import UTC, datetime, timedelta
from features.events import Batch, Event, Seat, events_table, seats_table
from features.log import EventLog
url, now = sys.argv[1], datetime(2026, 5, 4, tzinfo=UTC)
print("ready", flush=True)
sys.stdin.readline()
log = EventLog(url)  # both find no schema and make it
seat = Seat(seat_id="acme/s1", person_id="acme/p1", organization="acme", tool="claude", assigned_at=now)
events = [
    Event(event_id=f"acme/e{n}", seat_id="acme/s1", kind="work", occurred_at=now, available_at=now, source="x")
    for n in range(200)
]
print(sum(log.append(Batch(seats_table([seat]), events_table(events[p:])), now=now).accepted for p in (0, 50, 100)))
"""


def test_two_processes_that_open_a_new_log_and_append_the_same_count_each_once(url, tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        process.stdout.readline()  # both have imported everything
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert sum(int(out) for out, _ in answers) == 200


OPENER = """
import sys
from features.log import EventLog
print("ready", flush=True)
for url in sys.stdin:
    try:
        EventLog(url.strip()).close()
        print("open", flush=True)
    except Exception as error:
        print(str(error).splitlines()[0], flush=True)
"""


def test_processes_that_open_a_new_log_at_once_all_open_it(tmp_path):
    """The switch of a new file to the write-ahead log is the one step for which SQLite does not queue."""
    pipe = subprocess.PIPE
    processes = [subprocess.Popen([sys.executable, "-c", OPENER], stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    came = {process.stdout.readline().strip() for process in processes}
    for number in range(60):
        for process in processes:
            process.stdin.write(f"sqlite:///{tmp_path / str(number)}.db\n")
            process.stdin.flush()
        came |= {process.stdout.readline().strip() for process in processes}
    for process in processes:
        process.communicate(timeout=60)
    assert came == {"ready", "open"}


def test_a_reader_sees_a_batch_whole_or_not_at_all(log):
    log.append(batch(seats=[seat()]), now=NOW)
    counts, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            counts.add(log.event_count())

    reader = threading.Thread(target=read)
    reader.start()
    for first in range(0, 500, 50):
        log.append(batch([event(number) for number in range(first, first + 50)]), now=NOW)
    stop.set()
    reader.join()
    assert counts <= set(range(0, 501, 50))


# --- opening --------------------------------------------------------------------------------------------------------


def test_a_log_that_is_opened_again_holds_what_was_written(url):
    first = EventLog(url)
    first.append(batch([event(1)], [seat()]), now=NOW)
    first.close()
    second = EventLog(url)
    assert (second.event_count(), second.is_reachable()) == (1, True)
    second.close()


def test_writes_are_durable_and_readers_do_not_wait(sqlite_url, tmp_path):
    EventLog(sqlite_url).close()
    connection = sqlite3.connect(tmp_path / "log.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ValueError, match=r"^cannot open the event log at sqlite:///.*: [^\n]+$"):
        EventLog(f"sqlite:///{tmp_path / 'file' / 'log.db'}")


def test_a_file_that_is_no_database_is_said_in_one_sentence(tmp_path):
    (tmp_path / "log.db").write_text("Dear diary, " * 500)
    with pytest.raises(ValueError, match=r"^cannot open the event log at sqlite:///.*: [^\n]+$"):
        EventLog(f"sqlite:///{tmp_path / 'log.db'}")


def test_the_password_of_the_database_is_not_in_the_error():
    with pytest.raises(ValueError, match="cannot open the event log") as caught:
        EventLog("postgresql+psycopg://rekindle:tiger@127.0.0.1:1/rekindle")
    assert "tiger" not in str(caught.value)


def test_a_closed_database_is_not_reachable(tmp_path):
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    log.close()
    (tmp_path / "log.db").unlink()
    (tmp_path / "log.db").mkdir()
    assert not log.is_reachable()


def test_risk_and_probabilities_are_stored_as_json_that_any_reader_takes(log, url):
    log.record_decisions([decision(features=(float("nan"), 1.0))])
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        body = connection.exec_driver_sql("SELECT body FROM decisions").scalar_one()
    assert json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["features"] == [None, 1.0]


# --- a decision is an intervention ----------------------------------------------------------------------------------


def test_a_decision_that_does_something_writes_its_intervention_once(log):
    log.append(batch([], [seat()]), now=NOW)
    acted = decision(1, intervention="refresher", workflow="report_summary")
    log.record_decisions([acted, decision(2)])
    log.record_decisions([acted])
    (row,) = log.events().to_pylist()
    told = {name: row[name] for name in ("seat_id", "kind", "category", "workflow", "occurred_at", "available_at")}
    assert told == {
        "seat_id": "acme/s1",
        "kind": "intervention",
        "category": "refresher",
        "workflow": "report_summary",
        "occurred_at": NOW,
        "available_at": NOW,
    }
