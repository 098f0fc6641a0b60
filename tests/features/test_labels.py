from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import SEAT_SCHEMA, Event, Kind
from features.labels import LABEL_SCHEMA, Ended, abandoned_by, label_snapshots, weekly_snapshots
from features.sources import Source

DAY, MICRO = timedelta(days=1), timedelta(microseconds=1)
AS_OF = datetime(2026, 4, 1, 8, tzinfo=UTC)
SEEDS = range(1, 11)
SEATS = 250


# --- against the oracle ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def answers(oracle):
    """(came, expected, snapshot) of thousands of snapshots."""
    rows = []
    for seed in SEEDS:
        world = oracle.random_label_world(seed, seats=SEATS)
        came = world.labels().select("silent_after_days", "known_days", "ended", "observable_days").rows()
        rows += zip(came, oracle.label_rows(world), world.snapshots, strict=True)
    return rows


def test_silence_equals_the_brute_force_scan_to_the_microsecond(answers):
    assert [row for row in answers if row[0][0] != row[1][0]][:3] == []


def test_known_days_equal_the_brute_force_scan(answers):
    judged = [row for row in answers if row[1][1] is not None]
    assert [row for row in judged if abs(row[0][1] - row[1][1]) > 1e-9][:3] == []


def test_observable_days_equal_the_brute_force_scan(answers):
    judged = [row for row in answers if row[1][3] is not None]
    assert [row for row in judged if abs(row[0][3] - row[1][3]) > 1e-9][:3] == []


def test_nothing_is_known_beyond_what_is_observable(answers):
    assert [row for row in answers if row[0][1] > row[0][3] + 1e-9] == []


def test_nothing_is_known_where_no_source_ever_spoke(answers):
    assert [row for row in answers if row[1][1] is None and row[0][1] >= 0] == []


def test_the_end_is_named_as_in_the_brute_force_scan(answers):
    assert [row for row in answers if row[0][2] != row[1][2]][:3] == []


def test_the_random_histories_hold_every_end(answers):
    counts = {str(end): sum(1 for row in answers if row[1][2] == end) for end in Ended}
    assert min(counts.values()) >= 100, counts


@given(st.integers(0, 10**6), st.lists(st.floats(0, 100), min_size=2, max_size=8))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_abandoned_by_never_falls_as_the_horizon_grows(oracle, seed, horizons):
    labels = oracle.random_label_world(seed, seats=8).labels()
    judged = np.stack([abandoned_by(labels, horizon) for horizon in sorted(horizons)])
    filled = np.where(np.isnan(judged), -1, judged)
    for before, after in pairwise(filled):
        assert (after[before == 1] != 0).all()  # still abandoned, or beyond what is observable
        assert (after[before == -1] == -1).all()  # once censored, always censored


# --- one at a time --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def label(oracle):
    """The label of one m365_copilot seat (W = 28), given (days after as_of, kind) of its events."""

    def judge(*happened, complete_days=200.0, removed_days=None, lag=timedelta(0), **fields):
        removed = None if removed_days is None else AS_OF + removed_days * DAY
        seat = oracle.Version("acme/s1", "m365_copilot", AS_OF - 99 * DAY, AS_OF - 99 * DAY, removed_at=removed)
        events = tuple(
            Event(
                event_id=f"acme/e{number}",
                seat_id="acme/s1",
                kind=kind,
                occurred_at=AS_OF + days * DAY,
                available_at=AS_OF + days * DAY,
                source="vendor",
                workflow="meeting_recap",
                **fields,
            )
            for number, (days, kind) in enumerate(happened)
        )
        source = Source("acme", "m365_copilot", "vendor", lag, AS_OF - 99 * DAY, AS_OF + complete_days * DAY + lag)
        world = oracle.World((seat,), events, (source,), (("acme/s1", AS_OF),))
        return world.labels().row(0, named=True)

    return judge


def test_a_silence_that_has_begun_is_abandonment_at_once(label):
    assert label((5, "work"))["silent_after_days"] == 0.0


@pytest.fixture
def told(oracle):
    """The label of a seat with work 5 days after `as_of`, given its sources: what each tells and until which day."""

    def judge(*feeds, **used):
        seat = oracle.Version("acme/s1", "m365_copilot", AS_OF - 99 * DAY, AS_OF - 99 * DAY)
        happened = {"desk": (5, "work"), **used}
        events = tuple(
            Event(
                event_id=f"acme/{source}", seat_id="acme/s1", kind=kind, source=source, workflow="meeting_recap",
                occurred_at=AS_OF + days * DAY, available_at=AS_OF + days * DAY,
            )
            for source, (days, kind) in happened.items()
        )  # fmt: skip
        sources = tuple(
            Source("acme", "m365_copilot", name, timedelta(0), AS_OF - 99 * DAY, AS_OF + until * DAY,
                   kinds=tuple((AS_OF - 99 * DAY, Kind(kind)) for kind in kinds))
            for name, until, kinds in feeds
        )  # fmt: skip
        return oracle.World((seat,), events, sources, (("acme/s1", AS_OF),)).labels().row(0, named=True)

    return judge


def test_where_no_source_can_tell_meaningful_use_nobody_is_said_to_have_abandoned(told):
    came = told(("desk", 200, ["work"]), ("report", 200, ["prompt"]))
    assert (came["silent_after_days"], came["ended"]) == (None, "end_of_data")
    assert came["known_days"] < 0


@pytest.mark.parametrize(("until", "silent"), [(28, 0.0), (27, None), (-10, None)])
def test_a_silence_is_known_as_far_as_a_source_tells_that_can_tell_meaningful_use(told, until, silent):
    """What tells of work goes on for long after: of use it says nothing."""
    assert told(("desk", 200, ["work"]), ("usage", until, ["task"]))["silent_after_days"] == silent


def test_of_several_sources_of_use_one_that_told_of_the_seat_counts(told):
    """The other, which ended long ago, is about other people."""
    came = told(("desk", 200, ["work"]), ("usage", 150, ["task"]), ("old", -50, ["task"]), usage=(-3, "task"))
    assert came["silent_after_days"] == 0.0


def test_a_silence_begins_just_after_the_last_use(label):
    came = label((3, "task"), (5, "work"))
    assert came["silent_after_days"] == pytest.approx(3 + MICRO / DAY, abs=1e-12)


@pytest.mark.parametrize(("gap", "ended"), [(28 * DAY, "no_opportunity"), (28 * DAY + MICRO, "silence")])
def test_a_pause_is_a_silence_only_when_longer_than_w(label, gap, ended):
    came = label((0, "task"), (5, "work"), (gap / DAY, "task"))
    assert came["ended"] == ended


def test_no_work_is_no_silence(label):
    assert label((3, "task"))["ended"] == "no_opportunity"


def test_a_guided_task_does_not_break_a_silence(label):
    assert label((5, "task"), guided=True)["silent_after_days"] == 0.0


@pytest.mark.parametrize(("days", "ended"), [(28, "silence"), (28 - MICRO / DAY, "end_of_data")])
def test_a_window_is_judged_once_the_data_reaches_its_end(label, days, ended):
    assert label((5, "work"), complete_days=days)["ended"] == ended


def test_the_lag_of_the_source_moves_the_end_of_the_data(label):
    assert label((5, "work"), complete_days=27.9, lag=3 * DAY)["ended"] == "end_of_data"


@pytest.mark.parametrize(("days", "ended"), [(28, "silence"), (27.9, "removed")])
def test_removal_censors_what_it_cuts(label, days, ended):
    assert label((5, "work"), removed_days=days)["ended"] == ended


@pytest.mark.parametrize(("days", "ended"), [(-1, "silence"), (0, "intervention"), (27.9, "intervention"), (28, "silence")])  # fmt: skip
def test_an_intervention_from_as_of_on_censors_what_it_cuts(label, days, ended):
    assert label((5, "work"), (days, "intervention"))["ended"] == ended


def test_labels_have_their_schema_and_the_order_of_the_snapshots(oracle):
    world = oracle.random_label_world(77, seats=20)
    labels = world.labels()
    assert dict(labels.schema) == LABEL_SCHEMA
    assert labels.select("seat_id", "as_of").rows() == list(world.snapshots)


def test_no_snapshots_give_no_labels(oracle):
    world = oracle.random_label_world(78, seats=5)
    assert oracle.World(world.versions, world.events, world.sources, ()).labels().height == 0


def test_no_events_at_all_leave_every_seat_unjudged(oracle):
    world = oracle.random_label_world(79, seats=20)
    labels = oracle.World(world.versions, (), world.sources, world.snapshots).labels()
    assert labels["silent_after_days"].null_count() == labels.height


def test_a_snapshot_of_an_unknown_seat_is_refused_by_name(oracle):
    world = oracle.random_label_world(80, seats=3)
    with pytest.raises(ValueError, match="acme/nobody"):
        oracle.World(world.versions, world.events, world.sources, (("acme/nobody", AS_OF),)).labels()


@pytest.mark.parametrize(
    ("silent", "known", "observable", "horizon", "expected"),
    [
        (0.0, 0.0, 0.0, 0, 1.0),
        (7.0, 7.0, 7.0, 7, 1.0),
        (7.1, 7.1, 7.1, 7, 0.0),
        (3.0, 3.0, 6.9, 7, np.nan),
        (3.0, 3.0, 6.9, 2, 0.0),
        (None, 7.0, 7.0, 7, 0.0),
        (None, 6.9, 6.9, 7, np.nan),
        (None, 6.9, 50.0, 7, np.nan),
        (None, -1.0, -1.0, 0, np.nan),
    ],
)
def test_abandoned_by(silent, known, observable, horizon, expected):
    row = {"silent_after_days": [silent], "known_days": [known], "observable_days": [observable]}
    labels = pl.DataFrame(row, schema_overrides={"silent_after_days": pl.Float64})
    assert np.array_equal(abandoned_by(labels, horizon), [expected], equal_nan=True)


# --- the weekly grid ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def grid(oracle):
    def snapshots(*seats, until):
        versions = [oracle.Version(f"acme/s{number}", "fast", assigned, assigned, removed_at=removed) for number, (assigned, removed) in enumerate(seats)]  # fmt: skip
        return weekly_snapshots(oracle.roster_table(versions).select(SEAT_SCHEMA.names), until=until).rows()

    return snapshots


def test_a_seat_is_looked_at_each_week_from_just_after_its_assignment(grid):
    came = grid((AS_OF, None), until=AS_OF + 15 * DAY)
    assert came == [("acme/s0", AS_OF + MICRO + week * 7 * DAY) for week in range(3)]


def test_the_grid_ends_before_until(grid):
    assert len(grid((AS_OF, None), until=AS_OF + MICRO + 14 * DAY)) == 2


def test_the_grid_ends_before_removal(grid):
    assert len(grid((AS_OF, AS_OF + 8 * DAY), until=AS_OF + 50 * DAY)) == 2


def test_a_seat_assigned_after_until_is_not_looked_at(grid):
    assert grid((AS_OF + DAY, None), (AS_OF - DAY, None), until=AS_OF) == [("acme/s1", AS_OF - DAY + MICRO)]


def test_until_may_be_in_any_time_zone(grid):
    abroad = timezone(timedelta(hours=2))
    until = AS_OF + 15 * DAY
    assert grid((AS_OF, None), until=until.astimezone(abroad)) == grid((AS_OF, None), until=until)


def test_a_large_rollout_can_be_labelled_at_once(oracle):
    """200 000 seats over two years is a design size; here few of them have events, on both ends of the time."""
    count = 200_000
    seats = pl.DataFrame({"seat_id": [f"acme/s{n:06d}" for n in range(count)]})
    whole = {"organization": "acme", "tool": "fast", "person_id": "acme/p", "assigned_at": AS_OF}
    columns = [pl.lit(whole.get(name)).alias(name) for name in SEAT_SCHEMA.names if name != "seat_id"]
    roster = seats.with_columns(columns).select(SEAT_SCHEMA.names).to_arrow()
    ids = ("acme/s000000", f"acme/s{count - 1:06d}")
    events = [
        oracle.any_event(oracle.random.Random(1), n, oracle.Version(ids[n % 2], "fast", AS_OF, AS_OF), AS_OF + days * DAY, kind="work")
        for n, days in enumerate((0, 0, 730, 730))
    ]  # fmt: skip
    labels = label_snapshots(
        oracle.snapshot_frame([(seat_id, AS_OF) for seat_id in ids]),
        events=oracle.events_table(events),
        seats=roster,
        sources=[Source("acme", "fast", name, timedelta(0), AS_OF, AS_OF + 800 * DAY) for name in ("vendor", "git", "survey")],
        tools=oracle.PROFILES,
    )  # fmt: skip
    assert labels["silent_after_days"].to_list() == [0.0, 0.0]
