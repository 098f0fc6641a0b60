import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.catalogue import CATEGORIES, NUMERIC
from features.compute import FEATURE_DTYPES, SNAPSHOT_SCHEMA
from features.decisions import Decision
from features.events import MICROSECONDS_PER_DAY, SEAT_SCHEMA, Event, Kind, Seat, events_table, seats_table
from features.instants import from_microseconds, to_microseconds
from features.labels import LABEL_SCHEMA
from features.scorer import HORIZONS_DAYS, PERIOD_ENDS_DAYS, PERIODS
from features.tools import load_tools
from training.dataset import (
    FOLDS,
    MAX_CENSORING_WEIGHT,
    build_dataset,
    category_levels,
    censoring_weights,
    data_version,
    person_period_rows,
    seats_of_a_share,
)

DAY = timedelta(days=1)
AS_OF = datetime(2026, 3, 2, 9, tzinfo=UTC)
LAWS = settings(max_examples=40, deadline=None, derandomize=True)
seeds = st.integers(0, 10**6)


def random_labels(rng, n, *, whole=False):
    """(silent_after, known, observable) with every kind of end; whole days hit the bounds of the periods."""
    silence = rng.choice([0.0, np.inf, 1.0], n) * rng.uniform(0, 70, n)
    silence = np.nan_to_num(silence, nan=0.0, posinf=np.inf)
    observable = rng.uniform(-10, 80, n)
    if whole:
        silence, observable = np.round(silence), np.round(observable)
    seen = silence <= observable
    no_opportunity = rng.random(n) < 0.2
    known = np.where(seen, silence, np.where(no_opportunity, observable * rng.random(n), observable))
    return np.where(seen, silence, np.inf), known, observable


# --- person-period rows ---------------------------------------------------------------------------------------------


def expected_rows(silent_after, known, observable):
    """The rows as the docstring has them, one snapshot and period at a time."""
    rows = []
    for snapshot, (silent, sure, seen) in enumerate(zip(silent_after, known, observable, strict=True)):
        begin = None
        for period, end in enumerate(PERIOD_ENDS_DAYS):
            was_over = begin is not None and silent <= begin
            began = not was_over and silent <= end
            held = sure >= end
            if not was_over and seen >= end and (began or held):
                rows.append((snapshot, period, float(began)))
            begin = end
    return rows


@pytest.mark.parametrize("whole", [False, True], ids=["any time", "on the bounds of the periods"])
def test_person_period_rows_equal_a_plain_loop(make_dataset, whole):
    labels = random_labels(np.random.default_rng(30), 2_000, whole=whole)
    rows = person_period_rows(make_dataset(*labels))
    assert list(zip(rows.row.tolist(), rows.period.tolist(), rows.event.tolist(), strict=True)) == expected_rows(
        *labels
    )


def test_every_kind_of_row_is_among_the_random_ones(make_dataset):
    rows = person_period_rows(make_dataset(*random_labels(np.random.default_rng(30), 2_000)))
    assert set(zip(rows.period.tolist(), rows.event.tolist(), strict=True)) == {
        (period, event) for period in range(PERIODS) for event in (0.0, 1.0)
    }


def test_a_snapshot_has_at_most_one_event_and_no_row_after_it(make_dataset):
    rows = person_period_rows(make_dataset(*random_labels(np.random.default_rng(31), 2_000)))
    followers = rows.row[1:][(rows.event[:-1] == 1) & (rows.row[1:] == rows.row[:-1])]
    assert followers.size == 0


def test_a_silence_in_a_period_that_is_not_observable_to_its_end_does_not_count(make_dataset):
    rows = person_period_rows(make_dataset([3.0], [3.0], [5.0]))
    assert (rows.period.tolist(), rows.event.tolist()) == ([0], [0.0])


@pytest.mark.parametrize("longest", [10.0, 30.0, 80.0])
def test_row_hazards_equal_the_true_hazards_whatever_the_censoring(make_dataset, longest):
    """Young data must not look riskier than it is: a seat that fell silent early is known sooner than one that did not."""
    rng, n, daily = np.random.default_rng(32), 60_000, 0.02
    silence = rng.exponential(1 / daily, n)
    observable = rng.uniform(0, longest, n)
    seen = silence <= observable
    data = make_dataset(np.where(seen, silence, np.inf), np.where(seen, silence, observable), observable)
    rows = person_period_rows(data)
    count = np.bincount(rows.period, minlength=PERIODS)[1:]
    events = np.bincount(rows.period, rows.event, minlength=PERIODS)[1:]
    judged = count > 0
    truth = 1 - np.exp(-7 * daily)
    error = np.sqrt(truth * (1 - truth) / count[judged])
    assert judged.sum() == min(int(longest // 7), 8)
    assert (np.abs(events[judged] / count[judged] - truth) < 4 * error).all()  # 4 standard errors, up to 8 looks


def test_labels_by_horizon_are_no_riskier_in_young_data(make_dataset):
    rng, n, daily = np.random.default_rng(33), 60_000, 0.02
    silence, observable = rng.exponential(1 / daily, n), rng.uniform(0, 30, n)
    seen = silence <= observable
    data = make_dataset(np.where(seen, silence, np.inf), np.where(seen, silence, observable), observable)
    rate, known = np.nanmean(data.abandoned()[:, 3]), (~np.isnan(data.abandoned()[:, 3])).sum()
    truth = 1 - np.exp(-28 * daily)
    assert abs(rate - truth) < 4 * np.sqrt(truth * (1 - truth) / known)  # 4 standard errors


def test_row_weights_are_the_censoring_weight_of_the_period_and_for_the_fit_times_that_of_the_seat(make_dataset):
    rng = np.random.default_rng(34)
    weight = rng.uniform(1, 5, (300, PERIODS))
    seat = np.array([f"acme/s-{number}" for number in rng.integers(0, 60, 300)])
    data = make_dataset(*random_labels(rng, 300), seat=seat, censoring_weight=weight)
    rows = person_period_rows(data)
    np.testing.assert_array_equal(rows.weight, [weight[r, p] for r, p in zip(rows.row, rows.period, strict=True)])
    np.testing.assert_array_equal(rows.fit_weight, rows.weight * data.seat_weight()[rows.row])


def test_chosen_rows_keep_their_columns_together(make_dataset):
    rows = person_period_rows(make_dataset(*random_labels(np.random.default_rng(35), 100)))
    part = rows.take(rows.event == 1)
    assert part.event.all()
    assert set(zip(part.row, part.period, strict=True)) < set(zip(rows.row, rows.period, strict=True))


# --- what was known at a cut ----------------------------------------------------------------------------------------


def timed(make_dataset, rng, n=80):
    """Snapshots at random moments of 120 days with random labels, and a cut among them."""
    as_of = to_microseconds(AS_OF) + rng.integers(0, 120 * MICROSECONDS_PER_DAY, n)
    cut = to_microseconds(AS_OF) + int(rng.integers(20, 120)) * MICROSECONDS_PER_DAY
    return make_dataset(*random_labels(rng, n), as_of=as_of), cut


def judged_late(data, cut):
    """(n,) up to which t a window had been seen to its end at the cut."""
    return (cut - data.as_of) / MICROSECONDS_PER_DAY - data.silence


@LAWS
@given(seeds)
def test_what_is_judged_after_the_cut_changes_nothing(make_dataset, seed):
    rng = np.random.default_rng(seed)
    data, cut = timed(make_dataset, rng)
    latest = judged_late(data, cut)
    other, later = rng.uniform(0, 50, len(data)), latest + rng.uniform(1e-6, 50, len(data))
    is_open = (data.silent_after > latest) & (data.known > latest)
    perturbed = replace(
        data,
        silent_after=np.where(is_open, np.where(rng.random(len(data)) < 0.5, later, np.inf), data.silent_after),
        known=np.where(is_open, later, data.known),
        observable=np.where(data.observable > latest, latest + other, data.observable),
        ended=np.where(is_open, "silence", data.ended),
    )
    before, after = data.known_before(cut), perturbed.known_before(cut)
    np.testing.assert_array_equal(before.abandoned(), after.abandoned())
    assert before.abandonments() == after.abandonments()
    first, second = person_period_rows(before), person_period_rows(after)
    assert all(np.array_equal(vars(first)[name], vars(second)[name]) for name in vars(first))


@LAWS
@given(seeds)
def test_snapshots_from_the_cut_on_are_left_out(make_dataset, seed):
    data, cut = timed(make_dataset, np.random.default_rng(seed))
    kept = data.known_before(cut)
    assert kept.seat.tolist() == data.seat[data.as_of < cut].tolist()


@LAWS
@given(seeds)
def test_no_label_at_a_cut_needs_a_window_that_ends_after_it(make_dataset, seed):
    data, cut = timed(make_dataset, np.random.default_rng(seed))
    past = data.known_before(cut)
    horizon = np.broadcast_to(HORIZONS_DAYS, (len(past), len(HORIZONS_DAYS)))
    judged = ~np.isnan(past.abandoned())
    ends = past.as_of[:, None] + (horizon + past.silence[:, None]) * MICROSECONDS_PER_DAY
    assert (ends[judged] <= cut).all()


def test_long_after_everything_was_judged_nothing_is_censored(make_dataset):
    data, _ = timed(make_dataset, np.random.default_rng(36))
    far = data.known_before(int(data.as_of.max()) + 400 * MICROSECONDS_PER_DAY)
    np.testing.assert_array_equal(far.silent_after, data.silent_after)
    np.testing.assert_array_equal(far.known, data.known)
    np.testing.assert_array_equal(far.abandoned(), data.abandoned())


# --- counts, weights, folds -----------------------------------------------------------------------------------------


def weekly(make_dataset, silences):
    """Weekly snapshots of one seat; silences: T from each of them."""
    n = len(silences)
    as_of = to_microseconds(AS_OF) + 7 * MICROSECONDS_PER_DAY * np.arange(n)
    silent = np.asarray(silences, float)
    return make_dataset(silent, silent, np.full(n, 100.0), as_of=as_of, seat=np.full(n, "acme/s-1"))


def test_a_silence_that_several_snapshots_look_ahead_to_is_one_abandonment(make_dataset):
    assert weekly(make_dataset, [24.0, 17.0, 10.0, 3.0]).abandonments() == 1


def test_a_silence_that_several_snapshots_lie_in_is_one_abandonment(make_dataset):
    """Last use on day 10: the snapshots of days 14, 21, 28 and 35 all begin inside the same silence, at T = 0."""
    assert weekly(make_dataset, [10.0, 3.0, 0.0, 0.0, 0.0, 0.0]).abandonments() == 1


def test_two_silences_of_a_seat_are_two_abandonments(make_dataset):
    """Silent from day 3, one use on day 36, silent again: the last snapshots of each silence begin inside it."""
    assert weekly(make_dataset, [3.0, 0.0, 22.0, 15.0, 8.0, 1.0, 0.0]).abandonments() == 2


def test_silences_of_two_seats_are_two_abandonments(make_dataset):
    assert make_dataset([5.0, 5.0], [5.0, 5.0], [60.0, 60.0]).abandonments() == 2


def test_no_silence_or_one_beyond_eight_weeks_is_no_abandonment(make_dataset):
    assert make_dataset([np.inf, 57.0], [60.0, 57.0], [60.0, 60.0]).abandonments() == 0


def aged(make_dataset, column, seat, week, age_weeks):
    """Snapshots of seats in the given week of the log, so many weeks after their assignment."""
    n = len(seat)
    vectors = np.zeros((n, len(NUMERIC)))
    vectors[:, column["meaningful_28"]], vectors[:, column["life_days"]] = 1, 7.0 * np.array(age_weeks)
    as_of = 1_767_571_200_000_000 + np.array(week) * 7 * MICROSECONDS_PER_DAY
    labels = random_labels(np.random.default_rng(37), n)
    return make_dataset(*labels, seat=np.array(seat), vectors=vectors, as_of=as_of)


def test_a_seat_weighs_as_the_root_of_the_weeks_since_its_assignment(make_dataset, column):
    """The first was assigned in week 0, the second in week 12, and the log ends in week 15: 16 weeks and 4."""
    data = aged(make_dataset, column, ["a/1"] * 3 + ["a/2"] * 2, [0, 5, 15, 13, 14], [0, 5, 15, 1, 2])
    weight = data.seat_weight()
    assert weight.mean() == pytest.approx(1)
    assert np.unique(weight[:3]).size == 1
    assert weight[3] / weight[0] == pytest.approx(2)


def test_a_seat_that_gave_up_early_weighs_no_more_than_one_that_went_on(make_dataset, column):
    weight = aged(make_dataset, column, ["a/1"] + ["a/2"] * 8, [0, *range(8)], [0, *range(8)]).seat_weight()
    np.testing.assert_allclose(weight, 1)


def test_no_snapshots_have_no_weights(make_dataset):
    assert make_dataset([], [], []).seat_weight().shape == (0,)


def test_folds_are_by_person_and_even(make_dataset):
    rng = np.random.default_rng(38)
    person = np.array([f"acme/p-{number}" for number in rng.integers(0, 100, 1_000)])
    fold = make_dataset(*random_labels(rng, 1_000), person=person).folds(3)
    by_person = (
        pl.DataFrame({"person": person, "fold": fold}).group_by("person").agg(pl.col("fold").n_unique(), of="fold")
    )
    people = pl.DataFrame({"person": person, "fold": fold}).unique("person")["fold"].value_counts()
    assert by_person["fold"].to_list() == [1] * len(np.unique(person))
    assert people.height == FOLDS
    assert people["count"].max() - people["count"].min() <= 1


def test_folds_hold_whole_teams_and_of_many_organisations_whole_organisations(make_dataset):
    rng = np.random.default_rng(36)
    team = rng.integers(0, 30, 2_000)
    labels = random_labels(rng, 2_000)
    names = np.char.add("t", team.astype(str))
    of_teams = make_dataset(*labels, team=names)
    assert all(len(np.unique(of_teams.folds(1)[names == name])) == 1 for name in np.unique(names))
    sizes = np.bincount(of_teams.folds(1))
    assert sizes.max() < 1.2 * sizes.min()  # 30 teams of about 67: the last of them fill the smallest folds
    organization = np.char.add("o", (team // 2).astype(str))
    of_organisations = make_dataset(*labels, team=names, organization=organization)
    fold = of_organisations.folds(1)
    assert all(len(np.unique(fold[organization == name])) == 1 for name in np.unique(organization))
    two = make_dataset(*labels, organization=np.char.add("o", (team % 2).astype(str)))
    assert (two.groups() == two.person).all()


def test_folds_depend_on_the_seed_alone(make_dataset):
    data = make_dataset(*random_labels(np.random.default_rng(39), 200))
    order = np.random.default_rng(40).permutation(200)
    np.testing.assert_array_equal(data.folds(1)[order], data.take(order).folds(1))
    assert (data.folds(1) != data.folds(2)).any()


def test_levels_are_names_with_at_least_twenty_snapshots(make_dataset):
    roles = ["analyst"] * 20 + ["nurse"] * 19 + [""] * 30
    data = make_dataset(
        *random_labels(np.random.default_rng(41), 69), categories=[["claude", r, "", ""] for r in roles]
    )
    assert category_levels(data) == {"tool": ("claude",), "role": ("analyst",), "function": (), "region": ()}


# --- weights for censoring by intervention --------------------------------------------------------------------------


def decision(seat, at, none, *, drawn="none"):
    probabilities = {"none": none, "coach_call": 1 - none} if none < 1 else {"none": 1.0}
    probabilities = probabilities if none > 0 else {"coach_call": 1.0}
    return Decision(
        f"{seat}-{at.isoformat()}", seat, at, drawn if drawn in probabilities else "coach_call", probabilities
    )


def expected_weights(seat, as_of, silence, decisions):
    """One snapshot, period and decision at a time."""
    weights = np.ones((len(seat), PERIODS))
    for row, (name, start, window) in enumerate(zip(seat, as_of, silence, strict=True)):
        for period, end in enumerate(PERIOD_ENDS_DAYS):
            until = from_microseconds(start) + (end + int(window)) * DAY
            for one in decisions:
                if (
                    one.seat_id == name
                    and from_microseconds(start) <= one.decided_at < until
                    and one.probabilities.get("none")
                ):
                    weights[row, period] /= one.probabilities["none"]
    return np.minimum(weights, MAX_CENSORING_WEIGHT)


@pytest.mark.parametrize("seed", [50, 51, 52])
def test_censoring_weights_equal_a_loop(seed):
    rng = np.random.default_rng(seed)
    names = [f"acme/s-{number}" for number in range(6)]
    decisions = [
        decision(
            str(rng.choice(names[:5])),
            AS_OF + int(rng.integers(-20, 110)) * DAY / 2,
            float(rng.choice([0.4, 0.9, 1.0, 0.0])),
        )
        for _ in range(60)
    ]
    seat = rng.choice(names, 80)
    as_of = np.array([to_microseconds(AS_OF + int(day) * DAY / 2) for day in rng.integers(-10, 110, 80)])
    silence = rng.choice([7, 28], 80)
    found = censoring_weights(seat, as_of, silence, decisions)
    expected = expected_weights(seat, as_of, silence, decisions)
    assert (expected == MAX_CENSORING_WEIGHT).any()
    np.testing.assert_allclose(found, expected, rtol=1e-9)  # a product by way of logarithms


@pytest.mark.parametrize(
    ("moment", "weight"),
    [
        (timedelta(0), 2.0),
        (-timedelta(microseconds=1), 1.0),
        (28 * DAY, 1.0),
        (28 * DAY - timedelta(microseconds=1), 2.0),
    ],
    ids=["at as_of", "just before", "at the end of the first window", "just before that end"],
)
def test_the_window_of_decisions_is_half_open(moment, weight):
    seat, as_of = np.array(["acme/s-1"]), np.array([to_microseconds(AS_OF)])
    decisions = [decision("acme/s-1", AS_OF + moment, 0.5), decision("acme/s-2", AS_OF + 300 * DAY, 0.5)]
    assert censoring_weights(seat, as_of, np.array([28]), decisions)[0, 0] == pytest.approx(weight)


def test_without_decisions_every_weight_is_one():
    np.testing.assert_array_equal(
        censoring_weights(np.array(["a/1"]), np.array([0]), np.array([28]), []), np.ones((1, PERIODS))
    )


def test_many_seats_over_many_years_have_their_own_weights():
    """100 000 seats over three years, or as here a few thousand over decades, do not fit one 64-bit key in microseconds."""
    seats = [f"acme/s-{number:05}" for number in range(14_000)]
    moments = [datetime(2000, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]
    decisions = [decision(seat, moments[number % 2] + DAY, 0.5) for number, seat in enumerate(seats)]
    as_of = np.array([to_microseconds(moments[number % 2]) for number in range(len(seats))])
    found = censoring_weights(np.array(seats), as_of, np.full(len(seats), 28), decisions)
    np.testing.assert_allclose(found, 2.0)


# --- from features and labels to a dataset --------------------------------------------------------------------------


def frames(meaningful, ever, *, silent=None, tools=("m365_copilot",)):
    """(features, labels, seats) of one snapshot a seat."""
    n = len(meaningful)
    keys = {
        "seat_id": [f"acme/s-{number}" for number in range(n)],
        "as_of": [AS_OF + number * DAY for number in range(n)],
    }
    values = {name: ["" if dtype is pl.String else 0.5] * n for name, dtype in FEATURE_DTYPES.items()}
    values |= {"meaningful_28": meaningful, "meaningful_ever": ever, "tool": [tools[i % len(tools)] for i in range(n)]}
    features = pl.DataFrame({**keys, **values}, schema={**SNAPSHOT_SCHEMA, **FEATURE_DTYPES}, strict=False)
    labels = pl.DataFrame(
        {
            **keys,
            "silent_after_days": silent or [None] * n,
            "known_days": [10.0] * n,
            "observable_days": [12.0] * n,
            "ended": ["end_of_data"] * n,
        },
        schema=LABEL_SCHEMA,
    )
    seats = seats_table(
        [
            Seat(
                seat_id=seat,
                person_id=f"acme/p-{number // 2}",
                organization="acme",
                tool=tools[number % len(tools)],
                assigned_at=AS_OF - 40 * DAY,
            )
            for number, seat in enumerate(keys["seat_id"])
        ]
    )
    return features, labels, seats


def test_only_seats_in_use_are_in_the_dataset():
    features, labels, seats = frames([2.0, 0.0, 0.0, None, 1.0], [9.0, 4.0, 0.0, None, 1.0])
    features = features.with_columns(uses_28=pl.Series([3.0, 3.0, 3.0, 0.0, 3.0]))
    data = build_dataset(features, labels, seats=seats, decisions=[], tools=load_tools())
    assert data.seat.tolist() == ["acme/s-0", "acme/s-4"]
    assert data.person.tolist() == ["acme/p-0", "acme/p-2"]


def test_where_no_source_can_tell_meaningful_use_any_use_is_use():
    features, labels, seats = frames([None, None], [None, None])
    features = features.with_columns(uses_28=pl.Series([1.0, 0.0]))
    data = build_dataset(features, labels, seats=seats, decisions=[], tools=load_tools())
    assert data.seat.tolist() == ["acme/s-0"]


def test_the_dataset_keeps_order_and_alignment():
    features, labels, seats = frames(
        [1.0, 2.0, 3.0], [3.0, 3.0, 3.0], silent=[5.0, None, 0.0], tools=("github_copilot", "claude")
    )
    shuffled = seats.take(pa.array([2, 0, 1]))
    data = build_dataset(features, labels, seats=shuffled, decisions=[], tools=load_tools())
    assert data.silent_after.tolist() == [5.0, np.inf, 0.0]
    assert data.as_of.tolist() == [to_microseconds(AS_OF + number * DAY) for number in range(3)]
    assert data.vectors[:, [feature.name for feature in NUMERIC].index("meaningful_28")].tolist() == [1, 2, 3]
    assert [row[0] for row in data.categories] == ["github_copilot", "claude", "github_copilot"]
    assert (data.known.tolist(), data.observable.tolist()) == ([10.0] * 3, [12.0] * 3)


def test_silence_is_that_of_the_tool():
    tools = load_tools()
    tools["claude"] = tools["claude"].model_copy(update={"silence_days": 14})
    features, labels, seats = frames([1.0, 1.0], [1.0, 1.0], tools=("github_copilot", "claude"))
    assert build_dataset(features, labels, seats=seats, decisions=[], tools=tools).silence.tolist() == [28, 14]


def test_the_dataset_weighs_by_the_logged_decisions():
    features, labels, seats = frames([1.0, 1.0], [1.0, 1.0])
    decisions = [decision("acme/s-1", AS_OF + 2 * DAY, 0.25)]
    data = build_dataset(features, labels, seats=seats, decisions=decisions, tools=load_tools())
    np.testing.assert_allclose(data.censoring_weight, np.repeat([[1.0], [4.0]], PERIODS, axis=1))


def test_no_snapshots_make_an_empty_dataset():
    features, labels, seats = frames([], [])
    assert seats.schema == SEAT_SCHEMA
    data = build_dataset(features, labels, seats=seats, decisions=[], tools=load_tools())
    assert len(data) == 0
    assert data.vectors.shape == (0, len(NUMERIC))
    assert category_levels(data) == {feature.name: () for feature in CATEGORIES}


# --- the version of the data ----------------------------------------------------------------------------------------


def some_events(n=50):
    return events_table(
        [
            Event(
                event_id=f"acme/e{i}",
                seat_id="acme/s-1",
                kind=Kind.TASK,
                occurred_at=AS_OF + i * DAY,
                available_at=AS_OF + i * DAY,
                source="test",
            )
            for i in range(n)
        ]
    )


def some_seats(team="north"):
    return seats_table(
        [Seat(seat_id=f"acme/s-{n}", person_id=f"acme/p-{n}", organization="acme", tool="m365_copilot", team=team, assigned_at=AS_OF)
         for n in range(3)]
    )  # fmt: skip


def version(events, seats=None, tools=None):
    return data_version(events, seats=some_seats() if seats is None else seats, tools=tools or load_tools())


def test_the_version_does_not_depend_on_the_order_of_events_and_seats():
    events = some_events()
    shuffled = events.take(pa.array(np.random.default_rng(60).permutation(50)))
    assert version(shuffled) == version(events)
    assert version(pa.concat_tables([events.slice(20), events.slice(0, 20)])) == version(events)
    assert version(events, some_seats().take(pa.array([2, 0, 1]))) == version(events)


def test_another_event_is_another_version():
    versions = {version(some_events(49)), version(some_events(50)), version(some_events(50).slice(1))}
    assert len(versions) == 3


def test_another_roster_or_profile_is_another_version():
    tools = load_tools()
    name = "m365_copilot"
    other = {**tools, name: tools[name].model_copy(update={"silence_days": 14})}
    fewer = {**tools, name: tools[name].model_copy(update={"meaningful_kinds": ()})}
    events = some_events()
    found = {
        version(events),
        version(events, some_seats("south")),
        version(events, tools=other),
        version(events, tools=fewer),
    }
    assert len(found) == 4


def test_the_version_of_no_events_can_be_said():
    assert version(some_events(0)).startswith("0-none-none-")


def test_the_version_is_the_same_everywhere():
    """A hash that differs with the version of a library would make the same data another."""
    expected = hashlib.sha256(b"".join(f"acme/e{n}".encode() + b"\0" for n in (0, 1, 2))).hexdigest()[:16]
    assert version(some_events(3)).split("-")[3] == expected


def test_a_share_takes_people_with_all_their_seats_and_a_greater_one_takes_them_too():
    seats = seats_table(
        [
            Seat(
                seat_id=f"acme/seat-{n}",
                person_id=f"acme/person-{n // 2}",
                organization="acme",
                tool="m365_copilot",
                assigned_at=AS_OF,
            )
            for n in range(2_000)
        ]
    )
    tenth, half = (set(seats_of_a_share(seats, share)) for share in (0.1, 0.5))
    assert {f"acme/seat-{int(seat.split('-')[1]) ^ 1}" for seat in half} == half
    assert tenth < half
    assert 70 < len(tenth) / 2 < 130  # of 1 000 people: three deviations either way
    assert len(seats_of_a_share(seats, 1.0)) == 2_000
