"""Failure modes of one seat, from its features: how strongly each shows, and the evidence in words.

We report behaviour and never label a person.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from features.catalogue import BY_NAME, MIN_GROUP_SIZE, NUMERIC, say
from features.interventions import FailureMode, Intervention
from features.live import live_strength
from features.rules import SENTENCES, Warning, warnings_of

Floats = npt.NDArray[np.float64]

COLUMN = {feature.name: position for position, feature in enumerate(NUMERIC)}
MAX_EVIDENCE = 3
SHOWS_FROM = 0.5  # our choice: half way from healthy to troubled


class Weight(StrEnum):
    """What a sign is to its mode.

    PART: it adds to the mean. LIMIT: the mode is no stronger than it, where it is known. NEEDED: a limit without which the
    mode cannot be seen, for the other signs only say what did not happen.
    """

    PART = "part"
    LIMIT = "limit"
    NEEDED = "needed"


@dataclass(frozen=True)
class Sign:
    """One sign of a mode: 0 at `healthy`, 1 at `troubled`, in between in proportion; missing says nothing."""

    feature: str
    healthy: float
    troubled: float
    weight: Weight = Weight.PART

    @property
    def signs(self) -> "tuple[Sign, ...]":
        """Itself: as AnyOf has several."""
        return (self,)

    def strength(self, vectors: Floats) -> Floats:
        """(n,) in [0, 1]; NaN where the feature is missing."""
        return np.asarray(_Layout([(self,)]).values(vectors)[0])


@dataclass(frozen=True)
class AnyOf:
    """Signs of one thing that sources show in different ways: as strong as the strongest of them."""

    signs: tuple[Sign, ...]
    weight: Weight = Weight.PART

    def strength(self, vectors: Floats) -> Floats:
        """(n,) in [0, 1]; NaN where every feature is missing."""
        return np.asarray(_Layout([(self,)]).values(vectors)[0])


_LIMIT, _NEEDED = Weight.LIMIT, Weight.NEEDED

# Our choice of thresholds, from the wording of the brief (docs/diagnosis.md gives each its sentence). They were looked at
# on some simulated rollouts and are reported on others (benchmarks/bench_diagnosis.py).
SIGNS: Mapping[FailureMode, tuple[Sign | AnyOf, ...]] = {
    # one session, well before there was anything to apply it to, and nothing since
    FailureMode.ONE_SHOT_TRAINING: (
        Sign("days_since_training", 14, 56, _NEEDED),
        Sign("trainings", 2, 1, _NEEDED),
        AnyOf((Sign("training_to_any_use_days", 3, 14), Sign("trained_unused_days", 14, 56)), _NEEDED),
        Sign("meaningful_28", 12, 0),
        Sign("help_28", 2, 0),
    ),
    # in use, but for one workflow, mostly for what the tool was not bought for, and no more of value than peers in the role
    FailureMode.NO_ROLE_USE_CASES: (
        Sign("meaningful_28", 0, 4, _NEEDED),
        Sign("workflows_28", 3, 1, _NEEDED),
        Sign("high_value_share_28", 0.8, 0.3, _NEEDED),
        Sign("meaningful_against_role", 1.5, 0.5),
    ),
    # regular use that completes things, hardly any of them of value
    FailureMode.SURFACE_USE: (
        Sign("active_days_28", 3, 8, _NEEDED),
        AnyOf((Sign("high_value_share_28", 0.5, 0.1), Sign("surface_days_28", 2, 8)), _NEEDED),
        Sign("session_completion_28", 0.2, 0.4, _LIMIT),
    ),
    # opened, closed at once, failed: and nobody was told
    FailureMode.SILENT_STRUGGLE: (
        Sign("quick_close_share_28", 0.15, 0.4, _NEEDED),
        AnyOf((Sign("errors_28", 0, 3), Sign("open_streak", 2, 8))),
        Sign("tickets_28", 1, 0, _LIMIT),
        Sign("help_28", 3, 0, _LIMIT),
    ),
    # help is looked for, tries are many and short, little is completed
    FailureMode.COMPLEXITY: (
        AnyOf(
            (Sign("help_per_session_28", 0.05, 0.2), Sign("tickets_28", 0, 2), Sign("retry_share_28", 0.1, 0.4)),
            _NEEDED,
        ),
        Sign("session_completion_28", 0.5, 0.2),
        Sign("prompts_per_task_28", 5, 12),
        Sign("prompt_length_28", 150, 60),
        Sign("rejected_share_28", 0.4, 0.8),
        Sign("confidence_last", 7, 3),
    ),
    # of all leaders of the organisation: what the seat's own manager does is said of nobody
    FailureMode.LEADERSHIP_ABSENT: (
        Sign("leaders", MIN_GROUP_SIZE - 1, MIN_GROUP_SIZE, _NEEDED),
        Sign("leaders_share_28", 0.5, 0.1, _NEEDED),
    ),
}
# What a mode is called, and what is to be changed in the rollout beside what can be done for single seats (the brief).
TITLES: Mapping[FailureMode, str] = {
    FailureMode.ONE_SHOT_TRAINING: "Training came once, and too early",
    FailureMode.NO_ROLE_USE_CASES: "No use cases for the role",
    FailureMode.LEADERSHIP_ABSENT: "Leaders do not use it themselves",
    FailureMode.SURFACE_USE: "Used for the surface only",
    FailureMode.SILENT_STRUGGLE: "Struggling without a word",
    FailureMode.COMPLEXITY: "Too open to get started",
    FailureMode.WRONG_METRIC: "Sessions without results",
}
CHANGES: Mapping[FailureMode, str] = {
    FailureMode.ONE_SHOT_TRAINING: "Spread training out and give it at the moment of use.",
    FailureMode.NO_ROLE_USE_CASES: "Write down the three to five workflows of this role, with worked examples.",
    FailureMode.LEADERSHIP_ABSENT: "Ask leaders to show their own use in meetings: a signal, not a mandate.",
    FailureMode.SURFACE_USE: "Make it safe to try, and say what the tool is for; more training is not the answer.",
    FailureMode.SILENT_STRUGGLE: "Offer help where it fails, without anybody having to ask.",
    FailureMode.COMPLEXITY: "Give a simplified start in place of the blank prompt.",
    FailureMode.WRONG_METRIC: "Steer by tasks completed with AI, not by sessions or licences.",
}
# Of a seat it says too little, so that no finding is made of it: the sum over a segment does.
SESSIONS_WITHOUT_RESULT = (
    Sign("active_days_28", 4, 8, _NEEDED),
    Sign("assisted_share_28", 0.3, 0.1, _NEEDED),
    Sign("session_completion_28", 0.4, 0.2, _LIMIT),
)


@dataclass(frozen=True)
class Finding:
    """A failure mode that shows at a seat."""

    mode: FailureMode
    strength: float
    evidence: str


def mode_strengths(vectors: Floats) -> dict[FailureMode, Floats]:
    """Strength in [0, 1] of each failure mode that can be seen at a seat, 0 without evidence: the mean of its signs, no
    more than any that limits it.

    vectors: (n, n_numeric) in catalogue order. WRONG_METRIC is a matter of segments and not among them.
    """
    strengths = dict(zip(SIGNS, _SHIPPED.strengths(vectors), strict=True))
    struggle = FailureMode.SILENT_STRUGGLE  # at this moment it shows before the month does
    strengths[struggle] = np.maximum(strengths[struggle], live_strength(vectors))
    return strengths


def combined(signs: Sequence[Sign | AnyOf], vectors: Floats) -> Floats:
    """(n,) in [0, 1] the mean of the signs that are known, no more than those that limit it; 0 where a needed one is not."""
    return np.asarray(_Layout([signs]).strengths(vectors)[0])


class _Layout:
    """Signs of several modes as arrays, so that one seat costs as few calls of NumPy as a thousand."""

    def __init__(self, modes: Sequence[Sequence[Sign | AnyOf]]) -> None:
        signs = [sign for mode in modes for sign in mode]
        single = [one for sign in signs for one in sign.signs]
        self._columns = [COLUMN[one.feature] for one in single]
        self._healthy = np.array([[one.healthy] for one in single], np.float64)
        self._span = np.array([[one.troubled] for one in single], np.float64) - self._healthy
        self._first_single = _starts([len(sign.signs) for sign in signs])
        self._first_sign = _starts([len(mode) for mode in modes])
        self._is_part = [number for number, sign in enumerate(signs) if sign.weight is Weight.PART]
        self._without = np.array([[0.0 if sign.weight is Weight.NEEDED else 1.0] for sign in signs])

    def values(self, vectors: Floats) -> Floats:
        """(n_signs, n) the strength of each sign, NaN where none of its features is known."""
        values = (vectors.T[self._columns] - self._healthy) / self._span
        return np.asarray(np.fmax.reduceat(np.minimum(np.maximum(values, 0), 1), self._first_single, axis=0))

    def strengths(self, vectors: Floats) -> Floats:
        """(n_modes, n) the signs of each mode combined."""
        values = self.values(vectors)
        unknown = np.isnan(values)
        known = np.add.reduceat(~unknown, self._first_sign, axis=0, dtype=np.int64)
        mean = np.add.reduceat(np.where(unknown, 0, values), self._first_sign, axis=0) / np.maximum(known, 1)
        limits = np.where(unknown, self._without, values)
        limits[self._is_part] = np.inf
        return np.asarray(np.minimum(mean, np.minimum.reduceat(limits, self._first_sign, axis=0)))


def _starts(lengths: Sequence[int]) -> list[int]:
    return [0, *accumulate(lengths[:-1])]


_SHIPPED = _Layout(list(SIGNS.values()))


def diagnose(
    vector: Floats, *, at_least: float = SHOWS_FROM, strengths: Mapping[FailureMode, float] | None = None
) -> list[Finding]:
    """The failure modes that show at one seat with at least that strength, the strongest first.

    vector: (n_numeric,) in catalogue order; strengths: `mode_strengths` of it, where many are computed at once.
    """
    if strengths is None:
        strengths = {mode: float(strength[0]) for mode, strength in mode_strengths(vector[None, :]).items()}
    findings = [
        Finding(mode, strength, _evidence_of(mode, vector))
        for mode, strength in strengths.items()
        if strength >= at_least
    ]
    return sorted(findings, key=lambda finding: -finding.strength)


def _evidence_of(mode: FailureMode, vector: Floats) -> str:
    if mode is FailureMode.LEADERSHIP_ABSENT:
        leaders, share = (vector[COLUMN[name]] for name in ("leaders", "leaders_share_28"))
        if not leaders >= MIN_GROUP_SIZE or share != share:
            return ""
        return f"of the organisation's {leaders:.0f} leaders with a seat, {share:.0%} had meaningful use in 28 days"
    return evidence([one.feature for sign in SIGNS[mode] for one in sign.signs], vector)


def answers(mode: FailureMode, interventions: Iterable[Intervention]) -> list[Intervention]:
    """The interventions that answer the mode, the most effective by the experts' opinion first."""
    fitting = [one for one in interventions if one.answers.get(mode, 0) > 0]
    return sorted(fitting, key=lambda one: (-one.answers[mode], one.cost))


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
        phrase = say(BY_NAME[name], float(vector[COLUMN[name]])) if name in COLUMN else ""
        if phrase and contribution > 0:
            found.append(Reason(name, phrase, contribution))
        if len(found) == at_most:
            break
    return found


def evidence(names: Sequence[str], vector: Floats) -> str:
    """What the named features say of the seat, in words: "6 sessions in 7 days, 5 …"; empty where they say nothing."""
    phrases = (say(BY_NAME[name], float(vector[COLUMN[name]])) for name in names if name in COLUMN)
    return ", ".join([phrase for phrase in phrases if phrase][:MAX_EVIDENCE])
