import dataclasses
import string

import numpy as np
import polars as pl
import pytest

import features.catalogue
from features.catalogue import BY_NAME, CATEGORIES, FEATURES, NUMERIC, Group, catalogue_hash, say
from features.compute import FEATURE_DTYPES
from features.events import Kind
from features.history import KIND_CODES
from features.interventions import FailureMode

NAMES = [feature.name for feature in FEATURES]
SPOKEN = [feature for feature in FEATURES if feature.says]
USES = {"session", "prompt", "accepted", "rejected", "task"}


@pytest.fixture(scope="session")
def answers(oracle):
    """The features of many random snapshots, with what each snapshot could know."""
    frames, known = [], []
    for seed in (101, 102):
        world = oracle.random_world(seed, seats=200)
        frames.append(world.features())
        versions = {}
        for version in world.versions:
            versions.setdefault(version.seat_id, []).append(version)
        for seat_id, as_of in world.snapshots:
            seat = oracle.version_at(versions[seat_id], as_of)
            end = as_of - oracle.lag_of(seat, world.sources, as_of)
            own = [e for e in world.events if e.seat_id == seat_id and e.occurred_at < end and e.available_at <= as_of]
            known.append((oracle, seat, end, own))
    return pl.concat(frames), known


# --- every member ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feature", FEATURES, ids=NAMES)
def test_a_feature_is_one_float_or_text_per_snapshot(feature, answers):
    frame, known = answers
    assert (
        frame[feature.name].dtype == (pl.String if feature.is_category else pl.Float64) == FEATURE_DTYPES[feature.name]
    )
    assert frame[feature.name].len() == len(known)
    assert frame[feature.name].null_count() == 0  # missing is NaN, or the empty text


@pytest.mark.parametrize("feature", NUMERIC, ids=[feature.name for feature in NUMERIC])
def test_a_feature_is_never_infinite(feature, answers):
    assert not answers[0][feature.name].is_infinite().any()


@pytest.mark.parametrize("feature", [f for f in NUMERIC if f.missing == "never"], ids=lambda feature: feature.name)
def test_a_feature_that_is_never_missing_never_is(feature, answers):
    assert not answers[0][feature.name].is_nan().any()


def _window(known, days, until=0):
    oracle, _, end, own = known
    start, stop = end - (days + until) * oracle.DAY, end - until * oracle.DAY
    return [event for event in own if start <= event.occurred_at < stop]


def _none_of(*kinds, days=1000):
    return lambda known: not [event for event in _window(known, days) if event.kind in kinds]


def _no_meaningful(known, days=1000):
    return not [
        event for event in _window(known, days) if known[0].is_meaningful(event, known[0].PROFILES[known[1].tool])
    ]


def _no_work(days, until=0):
    def missing(known):
        oracle, profile = known[0], known[0].PROFILES[known[1].tool]
        return not [event for event in _window(known, days, until) if oracle.is_opportunity(event, profile) or event.kind in USES]  # fmt: skip

    return missing


def _few_days(known):
    oracle, profile = known[0], known[0].PROFILES[known[1].tool]
    return len(oracle.day_numbers(e for e in _window(known, 56) if oracle.is_meaningful(e, profile))) < 3


def _unmeasured(kind):
    return lambda known: not [event for event in _window(known, 28) if event.kind == kind and event.value is not None]


def _young_or_unused(known):
    oracle, seat, end, own = known
    first = [
        e for e in own if e.kind in USES and seat.assigned_at <= e.occurred_at < seat.assigned_at + 14 * oracle.DAY
    ]
    return end - seat.assigned_at < 28 * oracle.DAY or not first


def _no_training_before(known):
    oracle, seat, _, own = known
    uses = [event.occurred_at for event in own if oracle.is_meaningful(event, oracle.PROFILES[seat.tool])]
    trainings = [event.occurred_at for event in own if event.kind == "training"]
    return not uses or not trainings or min(trainings) > min(uses)


def _no_opportunity(days):
    def missing(known):
        oracle, profile = known[0], known[0].PROFILES[known[1].tool]
        return not [event for event in _window(known, days) if oracle.is_opportunity(event, profile)]

    return missing


def _no_high_value_task_or_work(days):
    def missing(known):
        oracle, profile = known[0], known[0].PROFILES[known[1].tool]
        tasks = [e for e in _window(known, days) if e.kind == "task" and oracle.is_meaningful(e, profile)]
        return not tasks and _none_of("work", days=days)(known)

    return missing


MISSING = {
    "days_since_use": _none_of(*USES),
    "use_trend_14": _none_of(*USES, days=28),
    "use_against_first_weeks": _young_or_unused,
    "weeks_3_4_ratio": _young_or_unused,
    "used_share_14": _no_work(14),
    "used_share_28": _no_work(28),
    "used_share_56": _no_work(56),
    "days_since_meaningful": _no_meaningful,
    "meaningful_trend_14": lambda known: _no_meaningful(known, 28),
    "meaningful_gap_mean": _few_days,
    "meaningful_gap_variation": _few_days,
    "meaningful_overdue": _few_days,
    "high_value_share_28": _none_of("task", days=28),
    "quick_close_share_7": _none_of("session", days=7),
    "quick_close_share_28": _none_of("session", days=28),
    "session_seconds_28": _unmeasured("session"),
    "rejected_share_28": _none_of("accepted", "rejected", days=28),
    "help_per_session_28": _none_of("session", days=28),
    "prompts_per_task_28": _none_of("task", days=28),
    "days_since_work": _no_opportunity(1000),
    "work_trend_14": _no_opportunity(28),
    "confidence_last": _none_of("confidence"),
    "confidence_change": lambda known: len([event for event in known[3] if event.kind == "confidence"]) < 2,
    "nps_last": _none_of("nps"),
    "days_since_survey": _none_of("confidence", "nps"),
    "prompt_length_28": _unmeasured("prompt"),
    "days_since_training": _none_of("training"),
    "training_to_use_days": _no_training_before,
    "days_to_first_meaningful": _no_meaningful,
    "days_since_intervention": _none_of("intervention"),
    "assisted_share_14": _no_high_value_task_or_work(14),
    "assisted_share_28": _no_high_value_task_or_work(28),
    "assisted_share_56": _no_high_value_task_or_work(56),
    "tenure_days": lambda known: known[1].hired_on is None,
}
STATED_ELSEWHERE = {"assisted_trend", "no_meaningful_first_14"}


def test_every_feature_that_may_be_missing_is_checked():
    assert set(MISSING) | STATED_ELSEWHERE == {f.name for f in NUMERIC if f.missing != "never"}


@pytest.mark.parametrize("name", MISSING)
def test_a_feature_is_missing_exactly_where_it_says_so(name, answers):
    frame, known = answers
    expected = [MISSING[name](one) for one in known]
    assert any(expected)
    assert not all(expected)
    assert frame[name].is_nan().to_list() == expected


@pytest.mark.parametrize("days", [14, 28, 56])
def test_shares_that_state_the_same_reason_are_missing_together(days, answers):
    one, other = BY_NAME[f"used_share_{days}"], BY_NAME[f"assisted_share_{days}"]
    are_together = answers[0][one.name].is_nan().equals(answers[0][other.name].is_nan())
    assert are_together or one.missing != other.missing


def test_no_meaningful_first_14_is_missing_exactly_in_young_seats_without_one(answers):
    frame, known = answers

    def is_missing(one):
        oracle, seat, end, own = one
        first = [event for event in own if seat.assigned_at <= event.occurred_at < seat.assigned_at + 14 * oracle.DAY]
        is_young = end - seat.assigned_at < 14 * oracle.DAY
        return is_young and not [e for e in first if oracle.is_meaningful(e, oracle.PROFILES[seat.tool])]

    assert frame["no_meaningful_first_14"].is_nan().to_list() == [is_missing(one) for one in known]


@pytest.mark.parametrize("feature", [f for f in NUMERIC if f.unit == "share"], ids=lambda feature: feature.name)
def test_a_share_is_between_0_and_1(feature, answers):
    values = answers[0][feature.name].to_numpy()
    assert np.nanmin(values) >= 0
    assert np.nanmax(values) <= 1


@pytest.mark.parametrize("feature", [f for f in NUMERIC if f.unit == "-1 to 1"], ids=lambda feature: feature.name)
def test_a_trend_is_between_minus_1_and_1(feature, answers):
    values = answers[0][feature.name].to_numpy()
    assert np.nanmin(values) >= -1
    assert np.nanmax(values) <= 1


@pytest.mark.parametrize("feature", FEATURES, ids=NAMES)
def test_a_feature_is_described(feature):
    assert feature.group in Group
    assert feature.unit
    assert feature.meaning.endswith(".")
    assert feature.missing
    assert feature.mode is None or feature.mode in FailureMode
    assert set(feature.name) <= set(string.ascii_lowercase + string.digits + "_")


def test_names_are_unique():
    assert len(set(NAMES)) == len(NAMES) == len(BY_NAME)


def test_meanings_are_unique():
    assert len({feature.meaning for feature in FEATURES}) == len(FEATURES)


def test_numbers_and_categories_are_all_there_is_in_catalogue_order():
    assert [f.name for f in FEATURES if f in NUMERIC] == [f.name for f in NUMERIC]
    assert [f.name for f in FEATURES if f in CATEGORIES] == [f.name for f in CATEGORIES]
    assert len(NUMERIC) + len(CATEGORIES) == len(FEATURES)


def test_every_kind_has_its_own_code():
    assert sorted(KIND_CODES.values()) == list(range(len(Kind)))


# --- the hash -------------------------------------------------------------------------------------------------------


def test_the_hash_is_stable():
    assert catalogue_hash() == catalogue_hash()
    assert len(catalogue_hash()) == 16


@pytest.mark.parametrize("change", ["name", "unit", "meaning", "missing"])
@pytest.mark.parametrize("position", [0, 40, -1])
def test_the_hash_changes_with_any_definition(monkeypatch, change, position):
    before, changed = catalogue_hash(), list(FEATURES)
    changed[position] = dataclasses.replace(changed[position], **{change: "something else"})
    monkeypatch.setattr(features.catalogue, "FEATURES", tuple(changed))
    assert catalogue_hash() != before


@pytest.mark.parametrize("changed", [FEATURES[::-1], FEATURES[1:]], ids=["order", "fewer"])
def test_the_hash_changes_with_order_and_number(monkeypatch, changed):
    before = catalogue_hash()
    monkeypatch.setattr(features.catalogue, "FEATURES", changed)
    assert catalogue_hash() != before


def test_the_hash_changes_with_the_engine(monkeypatch):
    before = catalogue_hash()
    monkeypatch.setattr(features.catalogue, "ENGINE_VERSION", "next")
    assert catalogue_hash() != before


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feature", SPOKEN, ids=lambda feature: feature.name)
@pytest.mark.parametrize("value", [0.0, 0.25, 1.0, 123.456])
def test_a_phrase_holds_the_value_and_no_placeholder(feature, value):
    phrase = say(feature, value)
    assert phrase
    assert "{" not in phrase
    assert any(digit in phrase for digit in string.digits)


@pytest.mark.parametrize("feature", SPOKEN, ids=lambda feature: feature.name)
def test_a_missing_value_is_not_put_into_words(feature):
    assert say(feature, float("nan")) == ""


@pytest.mark.parametrize("feature", SPOKEN, ids=lambda feature: feature.name)
def test_a_phrase_has_one_placeholder_and_shares_are_percentages(feature):
    assert feature.says.count("{") == 1
    assert ("{:%}" in feature.says) == (feature.unit == "share")


def test_a_feature_without_words_says_nothing():
    assert say(BY_NAME["active_days_14"], 3.0) == ""


@pytest.mark.parametrize(
    ("name", "value", "phrase"),
    [
        ("sessions_7", 6.0, "6 sessions in 7 days"),
        ("days_since_use", 2.26, "last used 2.3 days ago"),
        ("days_since_use", 12.6, "last used 13 days ago"),
        ("quick_close_share_7", 5 / 6, "83% of sessions in 7 days closed quickly with nothing completed"),
        ("confidence_change", -2.0, "confidence answer changed by -2 points"),
    ],
)
def test_phrases(name, value, phrase):
    assert say(BY_NAME[name], value) == phrase


@pytest.mark.parametrize("value", [-0.0, -0.04])
def test_nothing_is_called_minus_zero(value):
    assert say(BY_NAME["assisted_trend"], value) in {
        "share of work done with AI changed by 0",
        "share of work done with AI changed by 0.0",
    }
