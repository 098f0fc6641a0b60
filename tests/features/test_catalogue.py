import dataclasses
import os
import re
import string
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

import features.catalogue
from features.catalogue import BY_NAME, CATEGORIES, FEATURES, NUMERIC, Group, as_markdown, catalogue_hash, say
from features.compute import FEATURE_DTYPES
from features.decisions import NONE
from features.events import Kind
from features.history import KIND_CODES
from features.interventions import KINDS as INTERVENTIONS
from features.interventions import SHIPPED, FailureMode, load_interventions

NAMES = [feature.name for feature in FEATURES]
SPOKEN = [feature for feature in FEATURES if feature.says]
USES = {"session", "prompt", "accepted", "rejected", "task"}


@dataclass(frozen=True)
class Known:
    """A snapshot and what it could know. seat, own: what the roster said at `as_of`; the seat's events before `end`."""

    oracle: ModuleType
    facts: Any
    seat: Any
    as_of: datetime
    end: datetime
    own: list
    said: list
    acted: list
    sources: tuple

    @property
    def told(self):
        """The kinds that some source was known to tell."""
        return self.oracle.told_of(self.seat, self.sources, self.as_of)

    def is_told(self, name):
        """Whether some source was known to tell what the feature needs."""
        profile, at = self.oracle.PROFILES[self.seat.tool], self.oracle.peers_midnight(self.as_of)
        told = self.told
        if name in self.oracle.OF_PEERS:
            versions = self.facts.versions[self.seat.seat_id]
            told = self.oracle.told_of(self.oracle.version_at(versions, at), self.sources, at)
        return all(kinds & told for kinds in self.oracle.needed(name, profile))

    def dates(self, days, until=0):
        """The window of whole dates."""
        midnight = self.oracle.midnight_of(self.end)
        start, stop = midnight - (days + until) * self.oracle.DAY, midnight - until * self.oracle.DAY
        return [event for event in self.own if start <= event.occurred_at < stop]

    def window(self, days, until=0):
        start, stop = self.end - (days + until) * self.oracle.DAY, self.end - until * self.oracle.DAY
        return [event for event in self.own if start <= event.occurred_at < stop]

    def of(self, *kinds, days=1000):
        for own, clock in ((self.said, self.oracle.VOICES), (self.acted, self.oracle.DECIDED)):
            if set(kinds) <= clock:
                end = self.as_of - self.oracle.lag_of(self.seat, self.sources, self.as_of, clock)
                return [e for e in own if e.kind in kinds and e.occurred_at >= end - days * self.oracle.DAY]
        return [event for event in self.window(days) if event.kind in kinds]

    def answers(self, *kinds, days=1000):
        return [event for event in self.of(*kinds, days=days) if event.value is not None]

    def meaningful(self, days=1000):
        return [e for e in self.window(days) if self.oracle.is_meaningful(e, self.oracle.PROFILES[self.seat.tool])]

    def meaningful_dates(self, days):
        profile = self.oracle.PROFILES[self.seat.tool]
        return {e.occurred_at.date() for e in self.dates(days) if self.oracle.is_meaningful(e, profile)}

    def opportunities(self, days, until=0, *, whole=True):
        profile = self.oracle.PROFILES[self.seat.tool]
        return [
            event
            for event in (self.dates if whole else self.window)(days, until)
            if self.oracle.is_opportunity(event, profile)
        ]

    def first_days(self):
        """What happened on the first 14 dates of the seat."""
        start = self.oracle.midnight_of(self.seat.assigned_at)
        return [event for event in self.own if start <= event.occurred_at < start + 14 * self.oracle.DAY]

    def lived(self):
        """Whole dates of the seat before that of the end."""
        return (self.end.date() - self.seat.assigned_at.date()).days

    def others(self, days_ago=0):
        """What the roster said of the seat at that midnight, and of everybody else with the tool, with their depth."""
        midnight = self.oracle.peers_midnight(self.as_of) - days_ago * self.oracle.DAY
        seat = self.oracle.version_at(self.facts.versions[self.seat.seat_id], midnight)
        everyone = self.facts.colleagues(seat.organization, seat.tool, midnight)
        return seat, [one for name, one in everyone.items() if name != seat.seat_id]

    def team(self, days_ago=0):
        seat, others = self.others(days_ago)
        return [other for other, _ in others if seat.team is not None and other.team == seat.team]

    def role(self):
        seat, others = self.others()
        return [(other, depth) for other, depth in others if seat.role is not None and other.role == seat.role]

    def everyone(self):
        seat, _ = self.others()
        colleagues = self.facts.colleagues(seat.organization, seat.tool, self.oracle.peers_midnight(self.as_of))
        return seat, [other for other, _ in colleagues.values()]


@pytest.fixture(scope="session")
def answers(oracle):
    """The features of many random snapshots, with what each snapshot could know."""
    frames, known = [], []
    for seed in (101, 102, 103):
        world = oracle.random_world(seed, seats=200)
        frames.append(world.features())
        facts = oracle.Facts(world)
        for seat_id, as_of in world.snapshots:
            seat = oracle.version_at(facts.versions[seat_id], as_of)
            end = as_of - oracle.lag_of(seat, world.sources, as_of)
            ends = [
                end,
                *(as_of - oracle.lag_of(seat, world.sources, as_of, k) for k in (oracle.VOICES, oracle.DECIDED)),
            ]
            own = [
                [e for e in facts.events.get(seat_id, []) if e.occurred_at < one and e.available_at <= as_of]
                for one in ends
            ]
            known.append(Known(oracle, facts, seat, as_of, end, *own, world.sources))
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
    frame, known = answers
    expected = [not one.is_told(feature.name) for one in known]
    assert frame[feature.name].is_nan().to_list() == expected


def _none_of(*kinds, days=1000):
    return lambda known: not known.of(*kinds, days=days)


def _none_answered(*kinds, days=1000):
    return lambda known: not known.answers(*kinds, days=days)


def _no_work(days):
    def missing(known):
        return not [e for e in known.dates(days) if e.kind in USES] and not known.opportunities(days)

    return missing


def _no_high_value_task_or_work(days):
    def missing(known):
        profile = known.oracle.PROFILES[known.seat.tool]

        def unassisted(days):
            every = known.of("work", days=days)
            return [e for e in every if profile.any_workflow or known.oracle.is_high_value(e, profile)]

        assisted = [event for event in known.meaningful(days) if event.kind == "task"]
        return not unassisted(1000) or not (assisted or unassisted(days))

    return missing


def _few_days(known):
    return len(known.meaningful_dates(56)) < 3


def _unmeasured(kind, days=28):
    return lambda known: not [event for event in known.of(kind, days=days) if event.value is not None]


def _untold_of_delivery(known):
    return bool(known.of("intervention", days=28)) and not [e for e in known.of("reaction", days=28) if e.category]


def _young_or_unused(known):
    return known.lived() < 28 or not [event for event in known.first_days() if event.kind in USES]


def _no_training_before(uses):
    def missing(known):
        used, trainings = ([event.occurred_at for event in of] for of in (uses(known), known.of("training")))
        return not used or not trainings or min(trainings) > min(used)

    return missing


def _few_answered_days(known):
    return len({answer.occurred_at.date() for answer in known.answers("confidence", days=180)}) < 2


def _single_prompts(known):
    return [event for event in known.window(28) if known.oracle.is_single_prompt(event)]


def _known_outcomes(known):
    return [event for event in known.of("session", days=28) if event.completed is not None]


def _nobody_uses_the_role(known):
    return not any(depth for _, depth in known.role())


def _manager_without_a_seat(known):
    seat, everyone = known.everyone()
    return seat.manager_person_id not in {other.person_id for other in everyone}


def _no_leader(known):
    _, everyone = known.everyone()
    return not {other.manager_person_id for other in everyone} & {other.person_id for other in everyone}


MISSING = {
    "days_since_use": _none_of(*USES),
    "use_trend_14": lambda known: not [event for event in known.dates(28) if event.kind in USES],
    "use_against_first_weeks": _young_or_unused,
    "weeks_3_4_ratio": _young_or_unused,
    "used_share_14": _no_work(14),
    "used_share_28": _no_work(28),
    "used_share_56": _no_work(56),
    "days_since_meaningful": lambda known: not known.meaningful(),
    "meaningful_trend_14": lambda known: not known.meaningful_dates(28),
    "meaningful_gap_mean": _few_days,
    "meaningful_gap_variation": _few_days,
    "meaningful_overdue": _few_days,
    "high_value_share_28": _none_of("task", days=28),
    "quick_close_share_7": _unmeasured("session", days=7),
    "quick_close_share_28": _unmeasured("session"),
    "quick_close_streak": lambda known: known.of("session") and _unmeasured("session", days=1000)(known),
    "session_seconds_28": _unmeasured("session"),
    "rejected_share_28": _none_of("accepted", "rejected", days=28),
    "help_per_session_28": _none_of("session", days=28),
    "prompts_per_task_28": _none_of("task", days=28),
    "days_since_work": lambda known: not known.opportunities(999, whole=False),
    "work_trend_14": lambda known: not known.opportunities(28),
    "confidence_last": _none_answered("confidence"),
    "confidence_change": lambda known: len(known.answers("confidence")) < 2,
    "nps_last": _none_answered("nps"),
    "days_since_survey": _none_answered("confidence", "nps"),
    "confidence_slope": _few_answered_days,
    "response_share_180": _none_of("confidence", "nps", days=180),
    "prompt_length_28": _unmeasured("prompt"),
    "prompt_length_spread_28": lambda known: len([e for e in _single_prompts(known) if e.value is not None]) < 3,
    "retry_share_28": lambda known: not _single_prompts(known),
    "session_completion_28": lambda known: not _known_outcomes(known),
    "attempts_per_completion_28": lambda known: not [event for event in _known_outcomes(known) if event.completed],
    "confidence_shown_28": lambda known: not [
        *_known_outcomes(known), *_single_prompts(known), *known.of("accepted", "rejected", days=28)
    ],
    "days_since_training": _none_of("training"),
    "training_to_use_days": _no_training_before(Known.meaningful),
    "training_to_any_use_days": _no_training_before(lambda known: known.of(*USES)),
    "trained_unused_days": _none_of("training"),
    "days_to_first_meaningful": lambda known: not known.meaningful(),
    "team_size": lambda known: known.others()[0].team is None,
    "team_size_before_28": lambda known: known.others(days_ago=28)[0].team is None,
    "team_share_28": lambda known: not known.team(),
    "team_share_change_28": lambda known: not known.team() or not known.team(days_ago=28),
    "team_meaningful_28": lambda known: not known.team(),
    "champions_in_team": lambda known: known.others()[0].team is None,
    "champion_same_role": lambda known: None in (known.others()[0].team, known.others()[0].role),
    "role_size": lambda known: known.others()[0].role is None,
    "role_share_28": lambda known: not known.role(),
    "meaningful_against_role": _nobody_uses_the_role,
    "manager_meaningful_28": _manager_without_a_seat,
    "leaders_share_28": _no_leader,
    "days_since_intervention": _none_of("intervention"),
    "delivered_28": _untold_of_delivery,
    "last_reaction": lambda known: not [e for e in known.of("reaction") if e.category in {"accepted", "dismissed"}],
    "assisted_share_14": _no_high_value_task_or_work(14),
    "assisted_share_28": _no_high_value_task_or_work(28),
    "assisted_share_56": _no_high_value_task_or_work(56),
    "tenure_days": lambda known: known.seat.hired_on is None,
}  # fmt: skip
STATED_ELSEWHERE = {"assisted_trend", "no_meaningful_first_14"}


def test_every_feature_that_may_be_missing_is_checked():
    assert set(MISSING) | STATED_ELSEWHERE == {f.name for f in NUMERIC if f.missing != "never"}


@pytest.mark.parametrize("name", MISSING)
def test_a_feature_is_missing_exactly_where_it_says_so(name, answers):
    frame, known = answers
    expected = [bool(MISSING[name](one)) or not one.is_told(name) for one in known]
    assert any(expected)
    assert not all(expected)
    assert frame[name].is_nan().to_list() == expected


@pytest.mark.parametrize("days", [14, 28, 56])
def test_shares_with_reasons_of_their_own_are_not_missing_together(days, answers):
    one, other = BY_NAME[f"used_share_{days}"], BY_NAME[f"assisted_share_{days}"]
    assert one.missing != other.missing
    assert not answers[0][one.name].is_nan().equals(answers[0][other.name].is_nan())


def test_no_meaningful_first_14_is_missing_exactly_in_young_seats_without_one(answers):
    frame, known = answers

    def is_missing(one):
        profile = one.oracle.PROFILES[one.seat.tool]
        if not one.is_told("no_meaningful_first_14"):
            return True
        means = {str(kind) for kind in profile.meaningful_kinds}
        began = [
            source.first_available_at - source.known_lags[0][1]
            for source in one.oracle.own_sources(one.seat, one.sources)
            if one.oracle.told_by(source, one.as_of) & means
        ]
        unseen = min(began) > one.oracle.midnight_of(one.seat.assigned_at) + 7 * one.oracle.DAY
        return (one.lived() < 14 or unseen) and not [
            event for event in one.first_days() if one.oracle.is_meaningful(event, profile)
        ]

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
    """Type, unit, window, one sentence, meaning of missing, and the failure mode it speaks to or none."""
    assert feature.group in Group
    assert feature.dtype == ("category" if feature in CATEGORIES else "float64")
    assert feature.unit
    assert re.fullmatch(r"[A-Z][^.!?\n|]*\.", feature.meaning)
    assert feature.window
    assert feature.missing
    assert "|" not in feature.missing + feature.unit + feature.window
    assert feature.mode is None or feature.mode in FailureMode
    assert set(feature.name) <= set(string.ascii_lowercase + string.digits + "_")


IN_DAYS = [feature for feature in FEATURES if re.search(r"_(7|14|28|56|180)$", feature.name)]


@pytest.mark.parametrize("feature", IN_DAYS, ids=lambda feature: feature.name)
def test_a_feature_named_after_a_window_says_it(feature):
    days = feature.name.rpartition("_")[2]
    assert re.search(rf"\b{days} days\b", feature.meaning)


@pytest.mark.parametrize("feature", [f for f in FEATURES if f.name.endswith("_1h")], ids=lambda feature: feature.name)
def test_a_feature_of_the_hour_says_it(feature):
    assert "within the last hour" in feature.meaning


def test_the_catalogue_has_every_group_of_the_design():
    assert {feature.group for feature in FEATURES} == set(Group)
    assert set(map(str, Group)) >= {
        "usage", "depth", "friction", "confidence", "voice", "onboarding", "context", "peers", "history",
    }  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in FEATURES if f.others])
def test_who_is_spoken_of_is_a_number_of_the_catalogue(name):
    """What is shown of others keeps to the minimum group size: so the size must be there."""
    assert {BY_NAME[others] for others in BY_NAME[name].others} <= set(NUMERIC)


def test_what_is_said_of_others_is_not_put_into_words():
    assert [feature.name for feature in FEATURES if feature.others and feature.says] == []


def test_each_shipped_intervention_but_none_has_its_own_count():
    shipped = [intervention.id for intervention in load_interventions(SHIPPED)]
    assert [name for name in shipped if name != NONE] == list(INTERVENTIONS)
    assert [name for name in NAMES if name.startswith("given_")] == [f"given_{name}_56" for name in INTERVENTIONS]


# --- the document ---------------------------------------------------------------------------------------------------


def _table_rows():
    rows = [line.strip("|").split("|") for line in as_markdown().splitlines() if line.startswith("| ")]
    header = [cell.strip() for cell in rows[0]]
    return [dict(zip(header, (cell.strip() for cell in row), strict=True)) for row in rows if row != rows[0]]


def test_the_document_has_one_row_a_feature_in_catalogue_order_of_each_group():
    expected = [f"`{feature.name}`" for group in Group for feature in FEATURES if feature.group is group]
    assert [row["feature"] for row in _table_rows()] == expected


@pytest.mark.parametrize("column", ["type", "unit", "window", "meaning", "missing", "speaks to"])
def test_the_document_leaves_no_cell_empty(column):
    assert [row["feature"] for row in _table_rows() if not row[column]] == []


@pytest.mark.parametrize(
    ("column", "of"),
    [
        ("type", lambda feature: feature.dtype),
        ("unit", lambda feature: feature.unit),
        ("window", lambda feature: feature.window),
        ("missing", lambda feature: feature.missing),
        ("speaks to", lambda feature: feature.mode or "none by itself"),
    ],
    ids=["type", "unit", "window", "missing", "speaks to"],
)
def test_the_document_says_what_the_catalogue_says(column, of):
    assert {row["feature"]: row[column] for row in _table_rows()} == {f"`{f.name}`": of(f) for f in FEATURES}


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


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_has_the_same_hash_whatever_it_hashes_text_to(seed):
    code = "from features.catalogue import catalogue_hash; print(catalogue_hash())"
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == catalogue_hash()
    assert len(catalogue_hash()) == 16


@pytest.mark.parametrize("change", ["name", "unit", "window", "meaning", "missing"])
@pytest.mark.parametrize("position", [0, 40, -1])
def test_the_hash_changes_with_any_definition(monkeypatch, change, position):
    before, changed = catalogue_hash.__wrapped__(), list(FEATURES)
    changed[position] = dataclasses.replace(changed[position], **{change: "something else"})
    monkeypatch.setattr(features.catalogue, "FEATURES", tuple(changed))
    assert catalogue_hash.__wrapped__() != before


@pytest.mark.parametrize("changed", [FEATURES[::-1], FEATURES[1:]], ids=["order", "fewer"])
def test_the_hash_changes_with_order_and_number(monkeypatch, changed):
    before = catalogue_hash.__wrapped__()
    monkeypatch.setattr(features.catalogue, "FEATURES", changed)
    assert catalogue_hash.__wrapped__() != before


def test_the_hash_changes_with_the_engine(monkeypatch):
    before = catalogue_hash.__wrapped__()
    monkeypatch.setattr(features.catalogue, "ENGINE_VERSION", "next")
    assert catalogue_hash.__wrapped__() != before


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
        ("days_since_use", 2.26, "last used 2.3 days before the data ends"),
        ("days_since_use", 12.6, "last used 13 days before the data ends"),
        ("quick_close_share_7", 5 / 6, "83% of sessions in 7 days closed quickly with nothing completed"),
        ("confidence_change", -2.0, "confidence answer changed by -2 points"),
        ("meaningful_28", 1.0, "1 meaningful use in 28 days"),
        ("quick_closes_1h", 1.0, "1 quick close within the hour"),
        ("workflows_28", 1.0, "1 distinct high-value workflow in 28 days"),
        ("active_days_7", 1.0, "active on 1 of 7 whole days"),
        ("sessions_7", 1.0, "1 session in 7 days"),
        ("surface_days_28", 1.0, "1 active day in 28 without meaningful use"),
    ],
)
def test_phrases(name, value, phrase):
    assert say(BY_NAME[name], value) == phrase


@pytest.mark.parametrize("value", [-0.0, -0.04])
def test_nothing_is_called_minus_zero(value):
    assert say(BY_NAME["assisted_trend"], value) in {
        "share of high-value tasks completed with AI changed by 0",
        "share of high-value tasks completed with AI changed by 0.0",
    }
