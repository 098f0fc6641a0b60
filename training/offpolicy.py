"""What a policy would have been worth, from decisions that another one made: estimators, intervals, support, the gate.

pi is the policy to be valued, mu the logged probabilities, w = pi / mu of the chosen arm, q the outcome model. Intervals
are of the mean over decisions, clustered by team: people of one team share what happens to them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import stats

from training.decided import DecisionData

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Policy = Callable[[DecisionData], Floats]  # (n, K) probabilities, rows sum to 1

LARGE_WEIGHT = (
    20.0  # our choice: a decision that speaks for more than so many is reported; nothing is clipped unless asked
)
SWITCH_AT = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0, np.inf)
ALPHA_OF_ALL = 0.05  # chance that of all tries against one incumbent any lets through what is truly no better
MOST_UNSUPPORTED = (
    0.1  # of decisions; our choice: counted as left alone they take from a gain and hardly turn a verdict
)
MISMATCH_P = 0.001  # our choice, as is usual for checks that run again and again: once in a thousand by chance
COMMON = 50  # times that an arm should have been drawn, and left; our choice: there chi-squared is right to once in a thousand
FEWEST_TEAMS = 5  # our choice: below it no interval is worth showing
_TINY = 1e-9
_NEVER = 1e-12  # chance below which a count is not looked at


class Estimator(StrEnum):
    """How a policy is valued."""

    IPS = "ips"
    SNIPS = "snips"
    DM = "dm"
    DR = "dr"
    SWITCH_DR = "switch_dr"


class NoSupport(ValueError):
    """The policy chooses arms that the log could never have chosen, so nothing can be said of it."""


@dataclass(frozen=True)
class Value:
    """A mean with its 95 % interval over teams; NaN bounds where there are fewer than FEWEST_TEAMS."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True)
class Support:
    """How well the log knows one arm of the policy.

    chosen: decisions of it in the log; eligible: decisions where it could have been; smallest: its least positive logged
    probability; wanted: mean probability under the policy; unsupported: share of decisions where the policy wants it and
    the log could not have chosen it.
    """

    arm: str
    chosen: int
    eligible: int
    smallest: float
    wanted: float
    unsupported: float


@dataclass(frozen=True)
class Valuation:
    """A policy's value by every estimator, with what the estimates rest on.

    effective: (sum w)^2 / sum w^2 of all decisions (Kish 1965); large: share of decisions with w above LARGE_WEIGHT;
    clipped: share whose w was cut; switched: share of the policy's mass that SWITCH-DR left to the outcome model.
    """

    values: Mapping[Estimator, Value]
    decisions: int
    teams: int
    effective: float
    largest_weight: float
    large: float
    clipped: float
    switched: float
    support: Sequence[Support]


def support(data: DecisionData, target: Floats) -> list[Support]:
    """The support table, by arm. target: (n, K)."""
    eligible, chosen = data.eligible, data.counts()
    rows = []
    for position, arm in enumerate(data.arms):
        own = data.propensity[eligible[:, position], position]
        lacking = (target[:, position] > _TINY) & ~eligible[:, position]
        rows.append(
            Support(
                arm,
                int(chosen[position]),
                int(eligible[:, position].sum()),
                float(own.min()) if own.size else 0.0,
                float(target[:, position].mean()),
                float(lacking.mean()),
            )
        )
    return rows


def check_target(data: DecisionData, target: Floats) -> None:
    """Raises ValueError for what are not probabilities, NoSupport naming the arms that the log could not have chosen."""
    if not len(data):
        raise ValueError("there is no matured decision, so nothing can be valued")
    if np.isnan(data.kept).any():
        raise ValueError("kept: expected matured decisions only; take data.matured()")
    if target.shape != data.propensity.shape:
        raise ValueError(f"target: expected shape {data.propensity.shape}, came {target.shape}")
    if not ((target >= -_TINY).all() and np.abs(target.sum(axis=1) - 1).max() < 1e-6):
        raise ValueError("target: expected probabilities, rows that sum to 1")
    lacking = (target > _TINY) & ~data.eligible
    if lacking.any():
        named = [
            f"{arm} (in {n:,} of {len(data):,} decisions)"
            for arm, n in zip(data.arms, lacking.sum(axis=0), strict=True)
            if n
        ]
        raise NoSupport(
            f"the policy chooses where the log never could: {', '.join(named)}; their logged probability is zero there, so "
            "no weighting of outcomes can value it"
        )


def net_of_cost(data: DecisionData, outcome_model: Floats, seat_value: float) -> tuple[DecisionData, Floats]:
    """The same with kept seats less the cost of the arm, in units of a kept seat. seat_value: money, above zero."""
    if not seat_value > 0:
        raise ValueError(f"seat_value: expected money above zero, came {seat_value}")
    price = data.cost / seat_value
    return replace(data, kept=data.kept - price[data.arm]), outcome_model - price


def value(data: DecisionData, target: Floats, outcome_model: Floats, *, clip: float = np.inf) -> Valuation:
    """The policy's value by every estimator. outcome_model: (n, K) q, made without the decision's own team.

    clip: weights above it are cut to it (IPS, SNIPS, DR), which trades bias for variance; by default none is.
    Sources: IPS Horvitz and Thompson 1952; SNIPS Swaminathan and Joachims 2015, eq. 8; DR Dudík et al. 2011, eq. 4;
    SWITCH Wang et al. 2017, eq. 6, its threshold by their bound on bias and variance.
    """
    check_target(data, target)
    weight, is_clipped = weights(data, target, clip=clip)
    modelled = (target * outcome_model).sum(axis=1)
    residual = data.kept - outcome_model[np.arange(len(data)), data.arm]
    threshold = switch_threshold(data, target, outcome_model)
    direct_mass = _beyond(data, target, threshold)
    scores = {
        Estimator.IPS: weight * data.kept,
        Estimator.DM: modelled,
        Estimator.DR: modelled + weight * residual,
        Estimator.SWITCH_DR: modelled + np.where(weights(data, target)[0] <= threshold, weight, 0) * residual,
    }
    found = {name: mean_by_team(score, data.team) for name, score in scores.items()}
    found[Estimator.SNIPS] = _self_normalised(weight, data)
    return Valuation(
        values={name: found[name] for name in Estimator},
        decisions=len(data),
        teams=len(np.unique(data.team)),
        effective=float(weight.sum() ** 2 / max((weight**2).sum(), _TINY)),
        largest_weight=float(weight.max()),
        large=float((weight > LARGE_WEIGHT).mean()),
        clipped=float(is_clipped.mean()),
        switched=float(direct_mass.mean()),
        support=support(data, target),
    )


def weights(data: DecisionData, target: Floats, *, clip: float = np.inf) -> tuple[Floats, Booleans]:
    """(n,) w of the chosen arm, cut at `clip`, and whether it was cut."""
    rows = np.arange(len(data))
    weight = target[rows, data.arm] / data.propensity[rows, data.arm]
    return np.minimum(weight, clip), np.asarray(weight > clip)


def dr_scores(data: DecisionData, target: Floats, outcome_model: Floats) -> Floats:
    """(n,) the doubly robust score of each decision; its mean is the value."""
    rows = np.arange(len(data))
    residual = data.kept - outcome_model[rows, data.arm]
    return np.asarray((target * outcome_model).sum(axis=1) + weights(data, target)[0] * residual)


def gain(
    data: DecisionData, candidate: Floats, incumbent: Floats, outcome_model: Floats, *, alpha: float = 0.05
) -> Value:
    """By how much the candidate's DR value exceeds the incumbent's, paired by decision."""
    for target in (candidate, incumbent):
        check_target(data, target)
    scores = dr_scores(data, candidate, outcome_model) - dr_scores(data, incumbent, outcome_model)
    return mean_by_team(scores, data.team, alpha=alpha)


def alpha_of_try(number: int) -> float:
    """Of the number-th try against the same incumbent, the chance of its interval to miss: 0.05, 0.017, 0.008, …

    One-sidedly 0.05 / (k (k + 1)), which over all tries there may ever be sums to 0.05 (a union bound, whatever the tries share):
    so often, at most, is anything promoted that is truly no better, however often one looks. The first try has the usual 95 %.
    """
    return 2 * ALPHA_OF_ALL / (number * (number + 1))


def within_support(data: DecisionData, target: Floats) -> tuple[Floats, str]:
    """The policy with `none` in the few decisions where it wants what the log could never have chosen, and a sentence on them.

    Where they are more than MOST_UNSUPPORTED it is as it came: it cannot be valued, and check_target names the arms.
    """
    lacking = np.atleast_2d((target > _TINY) & ~data.eligible)
    rows = np.flatnonzero(lacking.any(axis=1))
    share = len(rows) / max(len(data), 1)
    if not len(rows) or share > MOST_UNSUPPORTED:
        return target, ""
    arms = ", ".join(data.arms[arm] for arm in np.unique(np.nonzero(lacking)[1]).tolist())
    spared = target.copy()
    spared[rows] = np.eye(len(data.arms))[0]
    return (
        spared,
        f"in {share:.1%} of the decisions it would choose {arms} where the log never could: counted as left alone",
    )


def switch_threshold(data: DecisionData, target: Floats, outcome_model: Floats) -> float:
    """Of SWITCH_AT the weight beyond which the outcome model alone speaks: least variance plus squared bound on bias."""
    weight, _ = weights(data, target)
    modelled = (target * outcome_model).sum(axis=1)
    residual = data.kept - outcome_model[np.arange(len(data)), data.arm]
    best, least = np.inf, np.inf
    for threshold in SWITCH_AT:
        scores = modelled + np.where(weight <= threshold, weight, 0) * residual
        error = _variance(scores, data.team) + _beyond(data, target, threshold).mean() ** 2
        if error < least:
            best, least = threshold, error
    return best


def _beyond(data: DecisionData, target: Floats, threshold: float) -> Floats:
    """(n,) the policy's mass on arms whose weight would be above the threshold."""
    ratio = np.divide(target, data.propensity, out=np.zeros_like(target), where=data.eligible)
    return np.asarray(np.where(ratio > threshold, target, 0).sum(axis=1))


def mean_by_team(scores: Floats, team: npt.NDArray[np.str_], *, alpha: float = 0.05) -> Value:
    """The mean of (n,) scores with its interval: clustered by team, Student's t with G - 1 degrees of freedom.

    alpha: chance, in all, that the truth lies outside.
    Source: cluster-robust variance with the factor G / (G - 1), Cameron and Miller 2015, eq. 11.
    """
    mean = float(scores.mean())
    teams = len(np.unique(team))
    if teams < FEWEST_TEAMS:
        return Value(mean, float("nan"), float("nan"))
    half = float(stats.t.ppf(1 - alpha / 2, teams - 1)) * np.sqrt(_variance(scores, team))
    return Value(mean, mean - half, mean + half)


def _variance(scores: Floats, team: npt.NDArray[np.str_]) -> float:
    _, inverse = np.unique(team, return_inverse=True)
    totals = np.bincount(inverse, weights=scores - scores.mean())
    return float(len(totals) / max(len(totals) - 1, 1) * (totals**2).sum() / len(scores) ** 2)


def _self_normalised(weight: Floats, data: DecisionData) -> Value:
    """SNIPS by its influence function w (y - theta) / mean(w)."""
    total = float(weight.mean())
    if total <= _TINY:
        return Value(float("nan"), float("nan"), float("nan"))
    theta = float((weight * data.kept).mean() / total)
    around = mean_by_team(weight * (data.kept - theta) / total, data.team)
    return Value(theta, theta + around.low, theta + around.high)


@dataclass(frozen=True)
class Mismatch:
    """Whether the arms came up as often as logged. gap: by arm, share observed less share expected."""

    p_value: float
    gap: Mapping[str, float]

    @property
    def is_mismatched(self) -> bool:
        """Whether chance alone would do this less than once in a thousand times."""
        return self.p_value < MISMATCH_P


def sample_ratio_mismatch(data: DecisionData) -> Mismatch:
    """Whether the chosen arms were drawn with the logged probabilities (censored decisions too).

    Draws are independent given their probabilities, so counts have mean sum p and covariance sum (diag p - p p'): a chi-squared
    test of the common arms, the rare ones as one. Each rare arm by itself has an exact test, for there chi-squared calls
    chance a mismatch several times too often. The p-value is the least of them times their number (Bonferroni).
    """
    if not len(data):
        return Mismatch(1.0, dict.fromkeys(data.arms, 0.0))
    counts, expected = data.counts(), data.propensity.sum(axis=0)
    rare = np.flatnonzero(np.minimum(expected, len(data) - expected) < COMMON)
    tests = [_exact(data.propensity[:, arm], int(counts[arm])) for arm in rare.tolist() if expected[arm] > 0]
    groups = [[arm] for arm in np.argsort(-expected).tolist() if arm not in rare]
    if rare.size and expected[rare].sum() >= COMMON:
        groups.append(rare.tolist())
    elif groups:
        groups[-1] += rare.tolist()
    if len(groups) > 1:
        tests.append(_chi_squared(data, [np.array(group) for group in groups]))
    gaps = dict(zip(data.arms, ((counts - expected) / len(data)).tolist(), strict=True))
    return Mismatch(min(1.0, len(tests) * min(tests, default=1.0)), gaps)


def _chi_squared(data: DecisionData, groups: Sequence[Integers]) -> float:
    """p-value of the counts of groups of arms, of which each decision has one."""
    chances = np.column_stack([data.propensity[:, group].sum(axis=1) for group in groups])
    chosen = np.column_stack([np.isin(data.arm, group) for group in groups])
    difference = (chosen - chances).sum(axis=0)
    covariance = np.diag(chances.sum(axis=0)) - chances.T @ chances
    rank = int(np.linalg.matrix_rank(covariance, tol=1e-9 * len(data), hermitian=True))
    statistic = float(difference @ np.linalg.pinv(covariance, rcond=1e-9, hermitian=True) @ difference)
    return float(stats.chi2.sf(statistic, rank)) if rank else 1.0


def _exact(chances: Floats, count: int) -> float:
    """Two-sided p-value of how often one arm was chosen, which is a sum of independent draws (Poisson binomial)."""
    known, repeats = np.unique(chances[chances > 0], return_counts=True)
    law = np.ones(1)
    for chance, times in zip(known.tolist(), repeats.tolist(), strict=True):
        if times == 1:
            part = np.array([1 - chance, chance])
        else:
            most = int(stats.binom.ppf(1 - _NEVER, times, chance))
            part = stats.binom.pmf(np.arange(most + 1), times, chance)
        law = np.convolve(law, part)
        law = law[: int(np.flatnonzero(law > _NEVER)[-1]) + 1]
    return float(min(1.0, 2 * min(law[: count + 1].sum(), law[count:].sum())))


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate may replace the incumbent, and why, in a sentence."""

    is_passed: bool
    why: str
    gain: Value | None = None


def promotion(
    data: DecisionData,
    candidate: Floats,
    incumbent: Floats,
    outcome_model: Floats,
    *,
    drawn: DecisionData | None = None,
    number: int = 1,
) -> Verdict:
    """The gate: the lower bound of the DR gain over the incumbent lies above zero, and the draws are as logged.

    data: matured decisions that taught neither policy, or outcome models and policies cross-fitted by team. drawn: all
    decisions, those too of which it is not known what came: where seats leave more often under one arm, the matured alone
    would look as if they had been drawn otherwise. number: of the try against this incumbent, from 1 (`alpha_of_try`).
    """
    mismatch = sample_ratio_mismatch(data if drawn is None else drawn)
    if mismatch.is_mismatched:
        arm = max(mismatch.gap, key=lambda name: abs(mismatch.gap[name]))
        return Verdict(
            False,
            f"sample-ratio mismatch (p = {mismatch.p_value:.1e}): {arm} came up {mismatch.gap[arm]:+.1%} against its logged "
            "probabilities, so the log cannot be trusted; find out why before anything is promoted",
        )
    candidate, left_alone = within_support(data, candidate)
    level = alpha_of_try(number)
    try:
        found = gain(data, candidate, within_support(data, incumbent)[0], outcome_model, alpha=level)
    except NoSupport as error:
        return Verdict(False, str(error))
    how = "" if number == 1 else f" (try {number} against this incumbent, so the interval is of {1 - level:.2%})"
    more = f"; {left_alone}" if left_alone else ""
    if not found.low > 0:
        why = f"it is not surely better than the incumbent: {found} more seats kept per decision{how}{more}"
        return Verdict(False, why, found)
    return Verdict(True, f"it keeps {found} more seats per decision than the incumbent{how}{more}", found)


def greedy(scores: Floats, eligible: Booleans) -> Floats:
    """(n, K) all probability on the eligible arm of the highest score, the first of equals."""
    best = np.where(eligible, scores, -np.inf).argmax(axis=1)
    return np.asarray(np.eye(scores.shape[1])[best])


def explore(target: Floats, eligible: Booleans, epsilon: float) -> Floats:
    """(n, K) epsilon / K on each of the K eligible arms and the rest by the target."""
    floor = eligible / eligible.sum(axis=1, keepdims=True)
    return np.asarray(epsilon * floor + (1 - epsilon) * target)
