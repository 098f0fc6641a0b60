"""The three early warnings as a plain rule: baseline, fallback and cold start.

Source: the brief, "When to intervene": no meaningful use in the first two weeks; a drop of use in weeks three and four
after an initial period; frustration and uncertainty together in a ticket or survey.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
import numpy.typing as npt
from scipy import stats as distributions

from features.catalogue import NUMERIC

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

DROP_BELOW = 0.5  # weeks 3 and 4 below half of weeks 1 and 2 (design: risk)
EARLY_DAYS = 56  # our choice: the first two speak of a rollout's first eight weeks; who uses it after has answered them
COLD_START_DAYS = 7  # younger seats have the rule to themselves until enough of them were seen (design: risk)
TOGETHER_ABOVE = 0.1  # our choice: scores of about a third each in a recent ticket or survey


class Warning(IntEnum):
    """The early warnings, in the order of their columns."""

    NO_EARLY_MEANINGFUL_USE = 0
    DROP_IN_WEEKS_3_AND_4 = 1
    FRUSTRATED_AND_UNCERTAIN = 2


SENTENCES = {
    Warning.NO_EARLY_MEANINGFUL_USE: "no meaningful use in the first two weeks",
    Warning.DROP_IN_WEEKS_3_AND_4: "use in weeks 3 and 4 fell below half of weeks 1 and 2",
    Warning.FRUSTRATED_AND_UNCERTAIN: "a ticket or survey shows frustration and uncertainty together",
}

# Chance of abandonment by H = 0, 7, 14, 28 days with 0, 1, 2, 3 warnings, before anything was learned: our choice,
# an expert guess. Training replaces it by what was observed.
EXPERT_RATES = ((0.15, 0.20, 0.25, 0.30), (0.35, 0.42, 0.48, 0.55), (0.50, 0.57, 0.63, 0.70), (0.60, 0.66, 0.72, 0.78))

# The same for seats that are not in use. They are silent or have not begun, so the silence mostly goes on: our choice.
_SILENT = ((0.80, 0.82, 0.84, 0.86), (0.85, 0.87, 0.88, 0.90), (0.88, 0.90, 0.91, 0.92), (0.90, 0.92, 0.93, 0.94))
_NOT_STARTED = ((0.60, 0.63, 0.66, 0.70), (0.75, 0.77, 0.79, 0.82), (0.80, 0.82, 0.84, 0.86), (0.85, 0.87, 0.88, 0.90))

_TINY = 1e-12
_COLUMN = {feature.name: position for position, feature in enumerate(NUMERIC)}


def warnings_of(vectors: Floats) -> Booleans:
    """(n, 3) which early warnings each snapshot shows; a missing feature is no warning.

    vectors: (n, n_numeric) in catalogue order.
    """
    with np.errstate(invalid="ignore"):
        is_early = vectors[:, _COLUMN["life_days"]] < EARLY_DAYS
        has_not_started = ~(vectors[:, _COLUMN["meaningful_ever"]] > 0)  # time does not answer this warning, use does
        return np.stack(
            (
                (is_early | has_not_started) & (vectors[:, _COLUMN["no_meaningful_first_14"]] == 1),
                is_early & (vectors[:, _COLUMN["weeks_3_4_ratio"]] < DROP_BELOW),
                vectors[:, _COLUMN["frustration_and_uncertainty"]] > TOGETHER_ABOVE,
            ),
            axis=1,
        )


class Stratum(StrEnum):
    """Where a seat stands; the learned model speaks of those in use, the rule of all."""

    IN_USE = "in_use"  # meaningful use in the last 28 days: the risk set
    NOT_STARTED = "not_started"  # no meaningful use yet
    SILENT = "silent"  # had meaningful use, none in the last 28 days


EXPERT_RATES_ELSEWHERE = {Stratum.SILENT: _SILENT, Stratum.NOT_STARTED: _NOT_STARTED}


def strata(vectors: Floats) -> npt.NDArray[np.str_]:
    """(n,) the Stratum of each snapshot.

    Where no source can tell meaningful use, any use stands for it.
    """
    meaningful_28, ever_meaningful = (vectors[:, _COLUMN[name]] for name in ("meaningful_28", "meaningful_ever"))
    was_used = ~np.isnan(vectors[:, _COLUMN["days_since_use"]])
    recent = np.where(np.isnan(meaningful_28), vectors[:, _COLUMN["uses_28"]] > 0, meaningful_28 > 0)
    ever = np.where(np.isnan(ever_meaningful), was_used, ever_meaningful > 0)
    return np.where(recent, str(Stratum.IN_USE), np.where(ever, str(Stratum.SILENT), str(Stratum.NOT_STARTED)))


def ages(vectors: Floats) -> Floats:
    """(n,) days from the assignment of the seat to the end of its data."""
    return vectors[:, _COLUMN["life_days"]]


@dataclass(frozen=True)
class RuleRates:
    """Chance of abandonment by horizon (columns) and number of warnings (rows), never falling along both.

    rates, low, high: (4, n_horizons); low and high bound the rate with 95 % (Beta posterior, the expert's guess its
    prior, as many observations as the snapshots are worth: those of one person are alike). learned_from: snapshots.
    """

    rates: tuple[tuple[float, ...], ...]
    low: tuple[tuple[float, ...], ...]
    high: tuple[tuple[float, ...], ...]
    learned_from: int = 0

    def risk(self, vectors: Floats) -> tuple[Floats, Floats, Floats]:
        """Risk by each horizon with its bounds, (n, n_horizons) each. vectors: (n, n_numeric) in catalogue order."""
        return self.risk_of(warnings_of(vectors).sum(axis=1))

    def risk_of(self, number: npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """The same from the (n,) number of warnings of each."""
        return np.asarray(self.rates)[number], np.asarray(self.low)[number], np.asarray(self.high)[number]


def fit_rates(
    vectors: Floats,
    abandoned: Floats,
    weight: Floats,
    *,
    person: npt.NDArray[np.str_] | None = None,
    expert: Sequence[Sequence[float]] = EXPERT_RATES,
) -> RuleRates:
    """Observed rates by number of warnings, shrunk toward the expert's by PRIOR_SNAPSHOTS, made monotone.

    abandoned: (n, n_horizons) of 1, 0 or NaN (censored); weight: the same, or (n,) for all horizons alike; person: (n,)
    whose snapshot, by default each of another. n may be 0: then the expert's guess.
    """
    number = warnings_of(vectors).sum(axis=1)
    prior = np.asarray(expert, np.float64)
    own = np.where(np.isnan(abandoned), 0.0, weight if weight.ndim == 2 else weight[:, None])
    owner = np.arange(len(vectors)) if person is None else np.unique(person, return_inverse=True)[1]
    worth, events = np.zeros_like(prior), np.zeros_like(prior)
    for level in range(len(prior)):
        rows = number == level
        worth[level], rate = _worth(np.nan_to_num(abandoned[rows]), own[rows], owner[rows])
        events[level] = worth[level] * rate
    alpha, beta = events + PRIOR_SNAPSHOTS * prior, worth - events + PRIOR_SNAPSHOTS * (1 - prior)
    tables = (
        alpha / (alpha + beta),
        distributions.beta.ppf(0.025, alpha, beta),
        distributions.beta.ppf(0.975, alpha, beta),
    )
    monotone = [np.maximum.accumulate(np.maximum.accumulate(table, axis=0), axis=1) for table in tables]
    rates, low, high = (tuple(tuple(map(float, row)) for row in table) for table in monotone)
    return RuleRates(rates, low, high, len(vectors))


def _worth(label: Floats, weight: Floats, owner: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """How many independent observations the (n, m) labels are worth, (m,), and their weighted mean, (m,).

    The variance of the mean is that between persons (linearised, Cochran 1977, section 9.3); observations are as many as would
    have it, at least those of one a person and at most those of one a snapshot, by their weights (Kish 1965).
    """
    total = weight.sum(axis=0)
    if not len(label) or not total.any():
        return np.zeros(label.shape[1]), np.zeros(label.shape[1])
    total = np.where(total > 0, total, 1.0)
    mean = (weight * label).sum(axis=0) / total
    _, person = np.unique(owner, return_inverse=True)
    held, off = np.zeros((person.max() + 1, label.shape[1])), np.zeros((person.max() + 1, label.shape[1]))
    np.add.at(held, person, weight)
    np.add.at(off, person, weight * (label - mean))
    people = (held > 0).sum(axis=0)
    squares = np.maximum((weight**2).sum(axis=0), _TINY)
    at_least, at_most = total**2 / np.maximum((held**2).sum(axis=0), _TINY), total**2 / squares
    variance = (off**2).sum(axis=0) / total**2 * people / np.maximum(people - 1, 1)
    worth = mean * (1 - mean) / np.maximum(variance, _TINY)
    is_known = weight.sum(axis=0) > 0
    return np.where(is_known, np.clip(worth, at_least, at_most), 0.0), mean


def expert_rates(expert: Sequence[Sequence[float]] = EXPERT_RATES) -> RuleRates:
    """The rule before anything was learned."""
    nothing = np.empty((0, len(NUMERIC))), np.empty((0, len(expert[0]))), np.empty((0, len(expert[0])))
    return fit_rates(*nothing, expert=expert)


def expert_rates_elsewhere() -> dict[str, RuleRates]:
    """By stratum, the rule of seats that are not in use, before anything was learned."""
    return {str(stratum): expert_rates(expert) for stratum, expert in EXPERT_RATES_ELSEWHERE.items()}


PRIOR_SNAPSHOTS = 20.0  # our choice: the expert's guess weighs as much as twenty snapshots
