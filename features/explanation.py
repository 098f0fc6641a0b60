"""Why a seat's risk is what it is: the model's own contributions, summed by failure mode, in sentences with their evidence."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.catalogue import BY_NAME, NUMERIC, is_about_few, say

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
    """What one feature adds to the log-odds. value: None where missing; sentence: its phrase, else its name and value."""

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
        return FeaturePart(name, value or None, contribution, f"{name}: {value.replace('_', ' ')}" if value else "")
    number = float(vector[_COLUMN[name]])
    if number != number:
        feature = BY_NAME[name]
        return FeaturePart(name, None, contribution, f"{name.replace('_', ' ')} unknown: {feature.missing}")
    row = {feature.name: float(vector[column]) for column, feature in enumerate(NUMERIC)}
    if is_about_few(BY_NAME[name], row):
        return FeaturePart(name, None, contribution, "what few others do, which is not shown")
    said = say(BY_NAME[name], number) or f"{name.replace('_', ' ')}: {number:.3g} {BY_NAME[name].unit}"
    return FeaturePart(name, number, contribution, said)


def _mode_part(mode: str, parts: list[FeaturePart], *, at_most: int = 3) -> ModePart:
    total = float(sum(part.contribution for part in parts))
    same_way = [part.sentence for part in parts if part.sentence and part.contribution * total > 0]
    return ModePart(mode, WORDS.get(mode, mode.replace("_", " ")), total, ", ".join(same_way[:at_most]))
