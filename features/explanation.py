"""Why a seat's risk is what it is: the model's own contributions, summed by failure mode, in sentences with their evidence."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.catalogue import BY_NAME, NUMERIC, Feature, fill_in, is_about_few
from features.interventions import KINDS as INTERVENTION_KINDS

Floats = npt.NDArray[np.float64]

BASE = "base"
OTHER = "other"
WORDS: Mapping[str, str] = {
    "one_shot_training": "training that stayed a single event",
    "no_role_use_cases": "few use cases for the role",
    "leadership_absent": "leaders' own use",
    "surface_use": "use that stays on the surface",
    "silent_struggle": "trouble without a call for help",
    "complexity": "how hard the tool is to use",
    "wrong_metric": "activity without completed work",
    OTHER: "how much and how regularly it is used, and the rest",
}

# What a model weighs although its value alone is no evidence for a person. A value of few possible ones has a phrase each.
PHRASES: Mapping[str, str | Mapping[float, str]] = {
    "active_days_14": "active on {} of 14 whole days",
    "active_days_56": "active on {} of 56 whole days",
    "uses_7": "{} uses of any kind in 7 days",
    "uses_28": "{} uses of any kind in 28 days",
    "used_share_14": "used on {:%} of the days with work in 14 days",
    "used_share_56": "used on {:%} of the days with work in 56 days",
    "meaningful_days_14": "meaningful use on {} of 14 whole days",
    "meaningful_days_56": "meaningful use on {} of 56 whole days",
    "meaningful_gap_variation": "pauses between meaningful uses vary by {} times their mean",
    "assisted_share_14": "{:%} of the high-value tasks in 14 days were completed with AI",
    "assisted_share_56": "{:%} of the high-value tasks in 56 days were completed with AI",
    "no_meaningful_first_14": {
        0: "meaningful use within the first two weeks",
        1: "no meaningful use in the first two weeks",
    },
    "session_seconds_28": "sessions of {} seconds on average in 28 days",
    "work_days_56": "work seen on {} of 56 whole days",
    "work_trend_14": "days with work changed by {} against the two weeks before (-1 stopped, 1 new)",
    "days_since_survey": "last survey answer {} days before the data of tickets and surveys ends",
    "surveys_asked_180": "{} survey questions asked in 180 days",
    "prompt_length_spread_28": "prompt lengths spread over {} doublings in 28 days",
    "confidence_shown_28": "what was tried came off at the first go {} times of 10 in 28 days",
    "life_days": "seat assigned {} days before the data ends",
    "life_week": "week {} of the seat",
    "team_size": "the team has {} seats besides this one",
    "team_size_before_28": "28 days before the team had {} seats besides this one",
    "team_share_28": "{:%} of the team's other seats in meaningful use in 28 days",
    "team_share_change_28": "share of the team's other seats in meaningful use changed by {} in 28 days",
    "team_meaningful_28": "{} meaningful uses in 28 days by each of the team's other seats on average",
    "champions_in_team": "{} champions among the team's other seats",
    "champion_same_role": {0: "no champion of the same role in the team", 1: "a champion of the same role in the team"},
    "role_size": "the role has {} seats besides this one",
    "role_share_28": "{:%} of the role's other seats in meaningful use in 28 days",
    "meaningful_against_role": "{} times the meaningful uses of the role's other seats in 28 days",
    "manager_meaningful_28": "{} meaningful uses by the manager in 28 days",
    "leaders_share_28": "{:%} of the leaders with a seat in meaningful use in 28 days",
    "leaders": "{} leaders with a seat in the organisation",
    "interventions_28": "{} offers decided on in 28 days",
    "delivered_28": "{} offers reported to have reached the person in 28 days",
    "days_since_intervention": "last offer decided on {} days ago",
    "seen_56": "{} offers seen in 56 days",
    "taken_56": "{} offers accepted in 56 days",
    "last_reaction": {-1: "the last offer answered was dismissed", 1: "the last offer answered was accepted"},
    **{f"given_{kind}_56": f"{{}} offers of {kind.replace('_', ' ')} in 56 days" for kind in INTERVENTION_KINDS},
    "tenure_days": "hired {} days before the data ends",
    "has_manager": {0: "the roster names no manager", 1: "the roster names a manager"},
}

_COLUMN = {feature.name: position for position, feature in enumerate(NUMERIC)}


@dataclass(frozen=True)
class ModePart:
    """What all features that speak to one failure mode add to the log-odds; evidence: the weightiest, in words."""

    mode: str
    words: str
    contribution: float
    evidence: str


@dataclass(frozen=True)
class FeaturePart:
    """What one feature adds to the log-odds. value: None where missing or about few others; sentence: it in words."""

    feature: str
    value: float | str | None
    contribution: float
    sentence: str


@dataclass(frozen=True)
class Explanation:
    """Base and parts sum to the raw score: the log-odds, before calibration, that the silence begins now.

    modes, features: the weightiest first, of either sign; of both the contributions sum to raw_score - base.
    """

    title: str
    base: float
    raw_score: float
    modes: tuple[ModePart, ...]
    features: tuple[FeaturePart, ...]


def explain(
    vector: Floats, categories: Mapping[str, str], contributions: Mapping[str, float], *, title: str = ""
) -> Explanation:
    """The contributions of one snapshot, summed and said.

    vector: (n_numeric,) in catalogue order; categories: by feature; contributions: by feature and BASE, from
    Scorer.contributions, whose values must not be missing: the rule has none.
    """
    parts = sorted(
        (_feature_part(name, value, vector, categories) for name, value in contributions.items() if name != BASE),
        key=lambda part: -abs(part.contribution),
    )
    by_mode: dict[str, list[FeaturePart]] = {}
    for part in parts:
        by_mode.setdefault(str(BY_NAME[part.feature].mode or OTHER), []).append(part)
    modes = sorted((_mode_part(mode, own) for mode, own in by_mode.items()), key=lambda part: -abs(part.contribution))
    return Explanation(title, contributions[BASE], float(sum(contributions.values())), tuple(modes), tuple(parts))


def _feature_part(name: str, contribution: float, vector: Floats, categories: Mapping[str, str]) -> FeaturePart:
    if name not in _COLUMN:
        value = categories.get(name, "")
        said = f"{name}: {value.replace('_', ' ')}" if value else f"{name}: unknown"
        return FeaturePart(name, value or None, contribution, said)
    number, feature = float(vector[_COLUMN[name]]), BY_NAME[name]
    if number != number:
        return FeaturePart(name, None, contribution, _unknown(feature))
    row = {feature.name: float(vector[column]) for column, feature in enumerate(NUMERIC)}
    if is_about_few(feature, row):
        return FeaturePart(name, None, contribution, "what few others do, which is not shown")
    return FeaturePart(name, number, contribution, sentence(feature, number))


def sentence(feature: Feature, value: float) -> str:
    """What the value of any numeric feature says, in words. value: not missing, and not about few."""
    phrase = feature.says or PHRASES[feature.name]
    return fill_in(phrase, value) if isinstance(phrase, str) else phrase[value]


def _unknown(feature: Feature) -> str:
    meaning = feature.meaning.removesuffix(".").replace("`as_of`", "now")
    return f"not known ({feature.why_missing}): {meaning[0].lower()}{meaning[1:]}"


def _mode_part(mode: str, parts: list[FeaturePart], *, at_most: int = 3) -> ModePart:
    total = float(sum(part.contribution for part in parts))
    same_way = [part.sentence for part in parts if part.sentence and part.contribution * total > 0]
    return ModePart(mode, WORDS.get(mode, mode.replace("_", " ")), total, ", ".join(same_way[:at_most]))
