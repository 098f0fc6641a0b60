"""What an attacker can work out from published figures: everything that is consistent with them, found by trying it all."""

from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from features.adoption import METRICS
from features.catalogue import NUMERIC
from features.intervals import Estimate, kaplan_meier
from features.interventions import SHIPPED, FailureMode, load_interventions
from features.licences import Price
from features.overview import document, overview
from features.population import DIMENSIONS
from features.published import Grain
from features.segments import SeatModes, SegmentFinding

LEAST = 10
GRAIN = Grain(LEAST)
MOST = 260
CATALOGUE = load_interventions(SHIPPED)


@cache
def counts_like(published):
    """The least and the greatest number of a shown group that is published so."""
    worlds = [n for n in range(LEAST, MOST) if GRAIN.count(n) == published]
    return worlds[0], worlds[-1]


@cache
def parts_like(published):
    worlds = [n for n in range(MOST) if GRAIN.part(n) == published]
    return worlds[0], worlds[-1]


def _said(found):
    return (
        None
        if found is None
        else tuple(None if np.isnan(one) else one for one in (found.value, found.low, found.high, found.n))
    )


@cache
def _shares():
    worlds = {}
    for n in range(LEAST, MOST):
        for hits in range(n + 1):
            worlds.setdefault(_said(GRAIN.share(hits, n)), []).append((hits, n))
    return {said: np.array(of) for said, of in worlds.items()}


def share_like(published):
    """(worlds, 2) the hits and sizes that are published so."""
    return _shares()[published]


def tells(low, high):
    """Whether somebody who knows that the rest lies between these knows of a group below the minimum."""
    return low >= 1 and high < LEAST


sizes = st.integers(LEAST, MOST - 1)


@settings(deadline=None)
@given(sizes, sizes)
def test_two_counts_taken_from_each_other_tell_of_no_small_group(a, b):
    (low_a, high_a), (low_b, high_b) = (counts_like(GRAIN.count(max(a, b))), counts_like(GRAIN.count(min(a, b))))
    assert not tells(low_a - high_b, high_a - low_b)


@settings(deadline=None)
@given(sizes, st.data())
def test_a_share_tells_of_no_small_group_of_those_who_do_or_do_not(n, data):
    worlds = share_like(_said(GRAIN.share(data.draw(st.integers(0, n)), n)))
    misses = worlds[:, 1] - worlds[:, 0]
    assert not tells(worlds[:, 0].min(), worlds[:, 0].max())
    assert not tells(misses.min(), misses.max())


@settings(max_examples=500, deadline=None)
@given(st.integers(LEAST, 120), st.integers(LEAST, 120), st.data())
def test_nor_do_the_shares_of_a_whole_and_of_one_of_its_two_parts(n, m, data):
    h, k = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    whole, one, other = (share_like(_said(GRAIN.share(*of))) for of in ((h + k, n + m), (h, n), (k, m)))
    for what in (lambda worlds: worlds[:, 0], lambda worlds: worlds[:, 1] - worlds[:, 0]):
        low, high = what(whole).min() - what(one).max(), what(whole).max() - what(one).min()
        assert not tells(max(low, what(other).min()), min(high, what(other).max()))


@settings(deadline=None)
@given(st.integers(0, MOST - 1), st.integers(LEAST, MOST - 1))
def test_a_part_that_may_be_small_is_not_told_from_none(part, whole):
    assume(part <= whole)
    low, high = parts_like(GRAIN.part(part))
    least, most = counts_like(GRAIN.count(whole))
    assert not tells(low, high)
    assert not tells(max(least - high, 0), most - low)


@pytest.mark.parametrize("unit", [metric.least_change for metric in METRICS if metric.least_change])
@settings(deadline=None)
@given(n=sizes, total=st.integers(0, 400))
def test_a_mean_is_as_likely_of_every_group_that_is_rounded_to_the_same_size(unit, n, total):
    """So it does not say how many are in the group behind the rounded number."""
    said = GRAIN.mean(Estimate(total * unit / n, np.nan, np.nan, n), unit)
    low, high = counts_like(said.n)
    for other in range(low, high + 1):
        near = round(said.value * other / unit)
        found = {
            GRAIN.mean(Estimate(k * unit / other, np.nan, np.nan, other), unit).value
            for k in (near - 1, near, near + 1)
        }
        assert said.value in found


@settings(deadline=None)
@given(st.integers(50, 200), st.integers(0, 14))
def test_a_curve_is_the_same_whether_nobody_or_a_few_fell_silent(n, few):
    days = np.full(n, 60.0)
    happened = np.arange(n) < few
    found, quiet = (GRAIN.curve(kaplan_meier(np.where(of, 20.0, days), of)) for of in (happened, np.zeros(n, bool)))
    assert found.silences is None
    assert [found.survival.tolist(), found.low.tolist()] == [quiet.survival.tolist(), quiet.low.tolist()]


def test_a_curve_ends_before_few_are_followed():
    days = np.concatenate((np.full(60, 40.0), np.full(6, 300.0)))
    assert GRAIN.curve(kaplan_meier(days, np.zeros(66, bool))).followed_days == 35


def test_a_mode_that_does_not_show_is_not_mentioned_and_of_few_no_share():
    finding = SegmentFinding(FailureMode.COMPLEXITY, 0.6, 0.24, 100, True, "exact", 24, ("many retries",))
    assert GRAIN.finding(finding).evidence == "shows at about 20% of about 100 seats in use; typically many retries"
    few = GRAIN.finding(SegmentFinding(FailureMode.COMPLEXITY, 1.0, 0.5, 16, True, "exact", 8))
    assert (few.share, few.evidence) == (None, "shows at one in five or more of about 20 seats in use")
    assert GRAIN.finding(SegmentFinding(FailureMode.COMPLEXITY, 0.2, 0.03, 100, False, "exact", 3)) is None


# ---------------------------------------------------------------- the whole document


@pytest.fixture(autouse=True, scope="module")
def _few_resamples():
    """The ends of bootstrap intervals are not what is looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("features.intervals.RESAMPLES", 10)
        yield


def _overview(people, seats):
    """seats: (role, tool, uses, tasks, answers) of each."""
    crowd = people.People()
    for number, (_, tool, uses, tasks, answers) in enumerate(seats):
        days = {"session": [80 + day for day in range(uses)], "task": [82 + 2 * day for day in range(tasks)]}
        told = {"confidence": [(90, 5)] if answers else []}
        crowd.seat(f"s{number}", tool=tool, **days, **told)
    p = crowd.population(100)
    order = [int(name.removeprefix("acme/s")) for name in p.seats["seat_id"]]
    roles = pl.Series("role", [seats[number][0] for number in order])
    object.__setattr__(p, "seats", p.seats.with_columns(roles))
    n = len(p)
    nothing = np.full(n, np.nan)
    shows = {mode: (np.arange(n) % 3 == 0).astype(float) for mode in (FailureMode.COMPLEXITY, FailureMode.SURFACE_USE)}
    modes = SeatModes(np.ones(n, bool), shows, np.full((n, len(NUMERIC)), np.nan), nothing, nothing)
    prices = {"claude": Price(20.0, "EUR"), "m365_copilot": Price(30.0, "EUR")}
    return p, overview(p, modes, interventions=CATALOGUE, sources=["hand"], dimensions=DIMENSIONS, prices=prices)


def _share_of(metric):
    return (
        None
        if metric is None
        else tuple(
            None if one is None or np.isnan(one) else one
            for one in (metric["value"], metric["low"], metric["high"], metric["n"])
        )
    )


def _sets(said, group):
    """By the name of a set of seats of a published group: the least and the greatest size that it may have."""
    sets = {"held": counts_like(group["seats"])}
    for metric in METRICS:
        found = group["metrics"][metric.name]
        if found is None:
            continue
        sets[f"{metric.name}: counted"] = counts_like(found["n"])
        if metric.unit == "share":
            worlds = share_like(_share_of(found))
            for name, of in (("hits", worlds[:, 0]), ("misses", worlds[:, 1] - worlds[:, 0])):
                sets[f"{metric.name}: {name}"] = of.min(), of.max()
    for finding in group["failure_modes"]:
        sets[f"{finding['mode']}: in use"] = counts_like(finding["seats"])
    if group is said["whole"]:
        found = said["licences"]
        sets["recoverable"] = parts_like(found["recoverable"])
        for name, n in said["standings"].items():
            if n is not None:
                sets[f"standing: {name}"] = counts_like(n)
        for name, n in said["courses"]["seats"].items():
            sets[f"course: {name}"] = parts_like(n)
        for one in said["licences"]["by_course"]:
            sets[f"idle: {one['course']}"] = counts_like(one["seats"])
    return sets


WITHIN = (  # the first holds the second
    ("held", "usage_rate: counted"),
    ("held", "usage_rate: hits"),
    ("held", "usage_rate: misses"),
    ("held", "depth: counted"),
    ("usage_rate: counted", "depth: counted"),
    ("usage_rate: hits", "depth: counted"),
    ("usage_rate: hits", "depth: hits"),
    ("usage_rate: hits", "depth: misses"),
    ("depth: counted", "depth: hits"),
    ("held", "meaningful_per_week: counted"),
    ("held", "confidence: counted"),
    ("held", "ticket_volume: counted"),
    ("held", "idle_licences: counted"),
    ("idle_licences: counted", "idle_licences: hits"),
    ("held", "recoverable"),
    ("usage_rate: misses", "recoverable"),
    ("held", "standing: meaningful use"),
    ("usage_rate: hits", "standing: meaningful use"),
    ("usage_rate: hits", "standing: surface use only"),
    ("usage_rate: misses", "standing: never used"),
    ("held", "course: using"),
    ("held", "course: never"),
    ("course: never", "idle: never"),
    ("recoverable", "idle: never"),
    ("recoverable", "idle: left_tool"),
    ("held", "complexity: in use"),
)


@st.composite
def rollouts(draw):
    """A few kinds of seats, some of them few, so that small groups lie beside large ones."""
    kinds = st.tuples(
        st.sampled_from(["buyer", "seller", "lawyer"]), st.sampled_from(["claude", "m365_copilot"]),
        st.integers(0, 3), st.integers(0, 3), st.booleans(),
    )  # fmt: skip
    parts = draw(st.lists(st.tuples(kinds, st.integers(1, 45)), min_size=1, max_size=6))
    return [kind for kind, n in parts for _ in range(n)]


@settings(max_examples=60, deadline=None)
@given(seats=rollouts())
def test_no_two_numbers_of_the_document_taken_from_each_other_tell_of_a_small_group(people, seats):
    assume(len(seats) >= LEAST)
    _, found = _overview(people, seats)
    said = document(found)
    groups = [said["whole"], *(group for part in said["segments"].values() for group in part["groups"])]
    whole = _sets(said, said["whole"])
    told = []
    for group in groups:
        sets = _sets(said, group)
        inside = [(group["name"], outer, inner, sets, sets) for outer, inner in WITHIN]
        across = [(group["name"], outer, inner, whole, sets) for outer, inner in ((name, name) for name in sets)]
        told += [
            (name, outer, inner)
            for name, outer, inner, first, second in inside + (across if group is not said["whole"] else [])
            if outer in first and inner in second
            and tells(max(first[outer][0] - second[inner][1], 0), first[outer][1] - second[inner][0])
        ]  # fmt: skip
    assert told == []


@settings(max_examples=60, deadline=None)
@given(seats=rollouts())
def test_nor_does_the_whole_less_all_its_published_parts_but_one(people, seats):
    assume(len(seats) >= LEAST)
    _, found = _overview(people, seats)
    said = document(found)
    whole, told = _sets(said, said["whole"]), []
    for dimension, breakdown in said["segments"].items():
        parts = {group["name"]: _sets(said, group) for group in breakdown["groups"]}
        for name, own in parts.items():
            if breakdown["withheld"]:
                continue  # then there is another unknown
            others = [sets for other, sets in parts.items() if other != name]
            for what, (least, most) in own.items():
                if what in whole and all(what in sets for sets in others):
                    low = max(whole[what][0] - sum(sets[what][1] for sets in others), least)
                    high = min(whole[what][1] - sum(sets[what][0] for sets in others), most)
                    told += [(dimension, name, what)] if tells(low, high) else []
    assert told == []


@settings(max_examples=40, deadline=None)
@given(seats=rollouts())
def test_every_number_of_people_in_the_document_is_rounded(people, seats):
    _, found = _overview(people, seats)
    said = document(found)
    numbers = list(_numbers(said))
    assert [(path, n) for path, n in numbers if n % LEAST] == []


def _numbers(value, path=""):
    """Every whole number of the document that counts people or seats, with its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, f"{path}/{name}")
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(inner, path)
    elif isinstance(value, int) and not isinstance(value, bool) and not path.endswith(("/withheld", "/second_peak")):
        yield path, value


def test_who_does_not_use_it_is_not_the_difference_of_two_numbers_of_one_group(people):
    """34 seats, 33 used: exact numbers would say that one person of the team does not use the tool."""
    _, found = _overview(people, [("buyer", "claude", 3, 2, True)] * 33 + [("buyer", "claude", 0, 0, False)])
    buyer = next(group for part in found.breakdowns if part.dimension == "role" for group in part.groups)
    usage, depth = buyer.metrics["usage_rate"], buyer.metrics["depth"]
    assert (buyer.seats, usage.n, depth.n) == (30, 30, 30)
    assert (usage.low, usage.high) == (0.5, 1.0)


def test_shares_of_large_groups_stay_close_to_the_truth():
    for n in (100, 500, 5000):
        for hits in range(20, n - 19, 7):
            found = GRAIN.share(hits, n)
            assert found.low <= hits / n <= found.high
            assert np.isnan(found.value) or abs(found.value - hits / n) <= LEAST / n
