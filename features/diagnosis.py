"""Failure modes of one seat, from its features: how strongly each shows, and the evidence in words.

We report behaviour and never label a person.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.catalogue import BY_NAME, NUMERIC, say
from features.interventions import FailureMode
from features.live import live_strength
from features.rules import SENTENCES, Warning, warnings_of

Floats = npt.NDArray[np.float64]

_COLUMN = {feature.name: position for position, feature in enumerate(NUMERIC)}
MAX_EVIDENCE = 3


@dataclass(frozen=True)
class Sign:
    """One sign of a mode: 0 at `healthy`, 1 at `troubled`, in between in proportion; missing says nothing.

    is_needed: where it is missing the mode cannot be seen, for the other signs only say what did not happen.
    """

    feature: str
    healthy: float
    troubled: float
    is_needed: bool = False

    def strength(self, vectors: Floats) -> Floats:
        """(n,) in [0, 1]; NaN where the feature is missing."""
        value = vectors[:, _COLUMN[self.feature]]
        return np.clip((value - self.healthy) / (self.troubled - self.healthy), 0, 1)


# Our choice of thresholds, from the wording of the brief; the segment view and the simulator's planted modes judge them.
SIGNS: Mapping[FailureMode, tuple[Sign, ...]] = {
    FailureMode.ONE_SHOT_TRAINING: (
        Sign("days_since_training", 14, 56, is_needed=True),
        Sign("meaningful_28", 6, 0),
        Sign("help_28", 2, 0),
    ),
    FailureMode.NO_ROLE_USE_CASES: (
        Sign("active_days_28", 3, 8),
        Sign("workflows_28", 3, 1),
        Sign("high_value_share_28", 0.6, 0.2),
    ),
    FailureMode.SURFACE_USE: (Sign("surface_days_28", 2, 8),),
    FailureMode.SILENT_STRUGGLE: (
        Sign("quick_close_share_28", 0.15, 0.5, is_needed=True),
        Sign("open_streak", 2, 8),
        Sign("tickets_28", 1, 0),
    ),
    FailureMode.COMPLEXITY: (
        Sign("prompts_per_task_28", 4, 12),
        Sign("rejected_share_28", 0.4, 0.8),
        Sign("confidence_last", 7, 3),
    ),
}


@dataclass(frozen=True)
class Finding:
    """A failure mode that shows at a seat."""

    mode: FailureMode
    strength: float
    evidence: str


def mode_strengths(vectors: Floats) -> dict[FailureMode, Floats]:
    """Strength in [0, 1] of each failure mode that can be seen at a seat: the mean of its signs, 0 without any.

    vectors: (n, n_numeric) in catalogue order.
    """
    strengths = {}
    for mode, signs in SIGNS.items():
        values = np.stack([sign.strength(vectors) for sign in signs])
        known = ~np.isnan(values)
        total = np.where(known, values, 0).sum(axis=0)
        needed = known[[sign.is_needed for sign in signs]].all(axis=0)
        strengths[mode] = np.where(needed & known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), 0.0)
    struggle = FailureMode.SILENT_STRUGGLE  # at this moment it shows before the month does
    strengths[struggle] = np.maximum(strengths[struggle], live_strength(vectors))
    return strengths


def diagnose(
    vector: Floats, *, at_least: float = 0.5, strengths: Mapping[FailureMode, float] | None = None
) -> list[Finding]:
    """The failure modes that show at one seat with at least that strength, the strongest first.

    vector: (n_numeric,) in catalogue order; strengths: `mode_strengths` of it, where many are computed at once.
    """
    if strengths is None:
        strengths = {mode: float(strength[0]) for mode, strength in mode_strengths(vector[None, :]).items()}
    findings = [
        Finding(mode, strength, evidence([sign.feature for sign in SIGNS[mode]], vector))
        for mode, strength in strengths.items()
        if strength >= at_least
    ]
    return sorted(findings, key=lambda finding: -finding.strength)


@dataclass(frozen=True)
class Reason:
    """Something that raises (or lowers) a seat's risk, with its evidence in words.

    contribution: to the raw log-odds that the silence begins now; None where the rule speaks.
    """

    feature: str
    sentence: str
    contribution: float | None


def reasons(vector: Floats, contributions: Mapping[str, float], *, at_most: int = MAX_EVIDENCE) -> list[Reason]:
    """Why the risk is what it is, the weightiest first: what raises it, or the early warnings where the rule speaks.

    vector: (n_numeric,) in catalogue order; contributions: by feature, from Scorer.contributions, empty for the rule.
    """
    if not contributions:
        shown = np.flatnonzero(warnings_of(vector[None, :])[0])
        return [Reason(Warning(int(n)).name.lower(), SENTENCES[Warning(int(n))], None) for n in shown]
    found: list[Reason] = []
    for name, contribution in sorted(contributions.items(), key=lambda item: -item[1]):
        phrase = say(BY_NAME[name], float(vector[_COLUMN[name]])) if name in _COLUMN else ""
        if phrase and contribution > 0:
            found.append(Reason(name, phrase, contribution))
        if len(found) == at_most:
            break
    return found


def evidence(names: Sequence[str], vector: Floats) -> str:
    """What the named features say of the seat, in words: "6 sessions in 7 days, 5 …"; empty where they say nothing."""
    phrases = (say(BY_NAME[name], float(vector[_COLUMN[name]])) for name in names if name in _COLUMN)
    return ", ".join([phrase for phrase in phrases if phrase][:MAX_EVIDENCE])
