"""Metrics with intervals over people, and the paired comparison that the gate rests on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from features.calibration import settled
from features.events import MICROSECONDS_PER_DAY
from features.scorer import PERIOD_ENDS_DAYS
from training.dataset import Dataset

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Metric = Callable[[Floats, Floats, Floats], Floats]

RESAMPLES, FEWEST_RESAMPLES = 500, 100  # of many rows fewer are drawn: their intervals are narrow, and each costs more
ECE_BINS = 15
LIFT_SHARE = 0.1
TAIL = 0.025  # of either side of a 95 % interval
ENOUGH_TO_JUDGE = 50  # snapshots; our choice: below it no metric is shown
ALERT_RATE = 0.1  # our choice: share of snapshots that coaches can be alerted on
ALERT_MEMORY_DAYS = 56  # an alert counts as a warning of a silence that begins within so many days
_CELLS = 3_000_000  # of weights over all resamples, beyond which fewer are drawn
_CHUNK_CELLS = 20_000_000
_TINY = 1e-6


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def auc(label: Floats, score: Floats, weight: Floats) -> Floats:
    """(b,) area under the ROC curve, ties counting half, for (b, n) weights; 0.5 is a coin toss.

    label: (n,) of 0 or 1; score: (n,). NaN where only one class has weight. Source: Hanley and McNeil 1982.
    """
    starts, order = _ties(score)
    positive = np.add.reduceat(weight[:, order] * label[order], starts, axis=1)
    negative = np.add.reduceat(weight[:, order] * (1 - label[order]), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return _ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def average_precision(label: Floats, score: Floats, weight: Floats) -> Floats:
    """(b,) sum over thresholds of the recall gained times the precision there; the base rate is a coin toss."""
    starts, order = _ties(-score)
    positive = np.add.reduceat(weight[:, order] * label[order], starts, axis=1)
    total = np.add.reduceat(weight[:, order], starts, axis=1)
    precision = _ratio(np.cumsum(positive, axis=1), np.cumsum(total, axis=1))
    return _ratio((np.nan_to_num(precision) * positive).sum(axis=1), positive.sum(axis=1))


def log_loss(label: Floats, score: Floats, weight: Floats) -> Floats:
    """(b,) mean of -log of the probability given to what happened; 0 is perfect, 0.693 is a coin toss."""
    return _mean(losses(label, score), weight)


def brier(label: Floats, score: Floats, weight: Floats) -> Floats:
    """(b,) mean squared error of a probability; 0 is perfect, 0.25 is a coin toss. Source: Brier 1950, eq. 2."""
    return _mean((label - score) ** 2, weight)


def ece(label: Floats, score: Floats, weight: Floats) -> Floats:
    """(b,) mean distance of probability and frequency over ECE_BINS bins of equal mass. Source: Naeini 2015."""
    starts, order = _bins(score)
    gap = np.add.reduceat(weight[:, order] * (label - score)[order], starts, axis=1)
    return np.asarray(np.abs(gap).sum(axis=1) / weight.sum(axis=1))


def squared_calibration_error(
    label: Floats, score: Floats, weight: Floats, person: npt.NDArray[np.str_]
) -> tuple[Floats, float]:
    """(b,) mean square of the distance of probability and frequency over the bins of `ece`, and what chance alone adds to it.

    What chance adds is the variance of the distances between persons, of which more bins hold more: less it, scores in few steps
    and in many are judged alike. Source: Kumar, Liang, Ma 2019, definition of the debiased estimator. weight: (b, n), the
    first row that of the data itself.
    """
    starts, order = _bins(score)
    held = np.add.reduceat(weight[:, order], starts, axis=1)
    gap = np.add.reduceat(weight[:, order] * (label - score)[order], starts, axis=1)
    found = np.nansum(_ratio(gap**2, held), axis=1) / weight.sum(axis=1)
    people, owner = np.unique(person[order], return_inverse=True)
    number = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
    mean = _ratio(gap[0], held[0])
    off = np.zeros((len(starts), len(people)))
    np.add.at(off, (number, owner), weight[0, order] * ((label - score)[order] - mean[number]))
    chance = (off**2).sum(axis=1)
    return found, float(_ratio(chance, held[0]).sum() / weight[0].sum())


def lift(label: Floats, score: Floats, weight: Floats) -> Floats:
    """(b,) rate of abandonment among the LIFT_SHARE with the highest scores over the rate among all; 1 is chance."""
    starts, order = _ties(-score)
    positive = np.add.reduceat(weight[:, order] * label[order], starts, axis=1)
    total = np.add.reduceat(weight[:, order], starts, axis=1)
    wanted = LIFT_SHARE * total.sum(axis=1, keepdims=True)
    taken = np.clip(wanted - (np.cumsum(total, axis=1) - total), 0, total)
    caught = np.nansum(_ratio(positive, total) * taken, axis=1)
    return _ratio(caught / wanted[:, 0], _ratio(positive.sum(axis=1), total.sum(axis=1)))


METRICS: Mapping[str, Metric] = MappingProxyType(
    {"auc": auc, "ap": average_precision, "log_loss": log_loss, "brier": brier, "ece": ece, "lift_at_10": lift}
)


def losses(label: Floats, score: Floats) -> Floats:
    """(n,) -log of the probability given to what happened."""
    clipped = np.clip(score, _TINY, 1 - _TINY)
    return np.asarray(-(label * np.log(clipped) + (1 - label) * np.log1p(-clipped)))


def estimate(metric: Metric, label: Floats, score: Floats, person: npt.NDArray[np.str_], *, seed: int = 7) -> Estimate:
    """The metric with its 95 % interval from RESAMPLES bootstraps over people (percentile method, Efron 1979)."""
    value = float(metric(label, score, np.ones((1, len(label))))[0])
    return _interval(value, np.concatenate([metric(label, score, weight) for weight in _resampled(person, seed)]))


def compare(
    label: Floats,
    mine: Floats,
    other: Floats,
    person: npt.NDArray[np.str_],
    *,
    weight: Floats | None = None,
    seed: int = 7,
) -> Estimate:
    """By how much the log loss of `mine` is lower than that of `other`, paired, with its interval over people.

    label, mine, other, weight: (n, n_horizons); NaN labels are left out; weight: of the labels, 1 by default. Above zero
    `mine` is better.
    """
    counts = np.where(np.isnan(label), 0.0, 1.0 if weight is None else weight)
    filled = np.nan_to_num(label)
    gain = (counts * (losses(filled, other) - losses(filled, mine))).sum(axis=1)
    count = counts.sum(axis=1)
    value = float(gain.sum() / count.sum()) if count.any() else 0.0
    drawn = np.concatenate([_ratio(weight @ gain, weight @ count) for weight in _resampled(person, seed)])
    return _interval(value, drawn)


def difference(
    metric: Metric,
    label: Floats,
    first: Floats,
    second: Floats,
    person: npt.NDArray[np.str_],
    *,
    weight: Floats | None = None,
    seed: int = 7,
) -> Estimate:
    """The metric of the first score less that of the second, on the same resampled people. weight: (n,) of the labels."""
    own = np.ones(len(label)) if weight is None else weight
    value = float((metric(label, first, own[None]) - metric(label, second, own[None]))[0])
    draws = _resampled(person, seed)
    drawn = np.concatenate([metric(label, first, draw * own) - metric(label, second, draw * own) for draw in draws])
    return _interval(value, drawn)


def calibration_gain(
    label: Floats,
    mine: Floats,
    other: Floats,
    person: npt.NDArray[np.str_],
    *,
    weight: Floats | None = None,
    seed: int = 7,
) -> Estimate:
    """By how much the squared calibration error of `mine` is lower than that of `other`, each less what chance adds to it.

    label, mine, other, weight: (n,) of one horizon. Paired, on the same resampled people.
    """
    own = np.ones((1, len(label))) if weight is None else weight[None]
    errors, chances = zip(
        *(squared_calibration_error(label, score, own, person) for score in (other, mine)), strict=True
    )
    value = float(errors[0][0] - errors[1][0]) - (chances[0] - chances[1])
    drawn = [
        [squared_calibration_error(label, score, draw * own, person)[0] for score in (other, mine)]
        for draw in _resampled(person, seed)
    ]
    return _recentred(value, np.concatenate([theirs - ours for theirs, ours in drawn]))


def after_tries(found: Estimate, tries: int) -> Estimate:
    """The interval at which one of so many tries is surely better by chance in no more than one of twenty (Bonferroni).

    The tails of so few resamples say nothing, so it is stretched as a normal one would be.
    """
    stretch = float(norm.ppf(1 - TAIL / tries) / norm.ppf(1 - TAIL))
    value = found.value
    return Estimate(value, value - stretch * (value - found.low), value + stretch * (found.high - value))


def evaluate(
    label: Floats,
    scores: Mapping[str, Floats],
    person: npt.NDArray[np.str_],
    *,
    weight: Floats | None = None,
    seed: int = 7,
) -> dict[str, dict[str, Estimate]]:
    """By method and metric, the estimate for one horizon. label: (n,) of 0, 1 or NaN (left out); weight: (n,) of the labels."""
    known = ~np.isnan(label)
    if known.sum() < ENOUGH_TO_JUDGE or len(np.unique(label[known])) < 2:
        return {}
    outcome = label[known]
    own = np.ones(len(outcome)) if weight is None else weight[known]
    cells = [(method, name) for method in scores for name in METRICS]
    drawn: dict[tuple[str, str], list[Floats]] = {cell: [] for cell in cells}
    for draw in _resampled(person[known], seed):
        for method, name in cells:
            drawn[method, name].append(METRICS[name](outcome, scores[method][known], draw * own))
    return {
        method: {
            name: (_of_ece if name == "ece" else _interval)(
                float(METRICS[name](outcome, score[known], own[None])[0]), np.concatenate(drawn[method, name])
            )
            for name in METRICS
        }
        for method, score in scores.items()
    }


@dataclass(frozen=True)
class Lead:
    """Warning before silences, with alerts on ALERT_RATE of the snapshots.

    threshold: the risk alerted from. silences: that began in the test after a seat's first snapshot in it. caught: share
    of them with an alert before they began. days: mean days from the first such alert within ALERT_MEMORY_DAYS to the
    beginning, none counting 0. Both weighted by the inverse of the chance that a silence was left to be seen.
    """

    threshold: float
    silences: int
    caught: Estimate
    days: Estimate


def lead_time(later: Dataset, risk: Floats, *, seed: int = 7) -> Lead | None:
    """How long before a silence the seat was alerted on; None where fewer than ENOUGH_TO_JUDGE silences were seen.

    risk: (n,) at the product's horizon. A silence that had begun at every snapshot of its seat cannot be warned of and is
    left out.
    """
    if not len(later):
        return None
    threshold = float(np.quantile(risk, 1 - ALERT_RATE))
    is_seen = np.isfinite(later.silent_after)
    began = later.as_of + np.where(is_seen, later.silent_after, 0) * MICROSECONDS_PER_DAY
    is_before = is_seen & (later.silent_after > 0) & (later.silent_after <= ALERT_MEMORY_DAYS)
    days = np.round(began[is_before] / MICROSECONDS_PER_DAY).astype(np.int64)
    silence, start = _grouped(later.seat[is_before], days)
    if len(start) < ENOUGH_TO_JUDGE:
        return None
    lead = np.zeros(len(start))
    is_alert = risk[is_before] >= threshold
    np.maximum.at(lead, silence[is_alert], later.silent_after[is_before][is_alert])
    person, weight = later.person[is_before][start], later.horizon_weight()[is_before][start, -1]
    caught, mean = (_mean_estimate(values, weight, person, seed) for values in ((lead > 0).astype(np.float64), lead))
    return Lead(threshold, len(start), caught, mean)


def _grouped(seat: npt.NDArray[np.str_], days: Integers) -> tuple[Integers, Integers]:
    """The number of each row's silence, and one row of each silence."""
    _, codes = np.unique(seat, return_inverse=True)
    keys = codes * (days.max() - days.min() + 1) + days - days.min() if len(days) else codes
    _, start, silence = np.unique(keys, return_index=True, return_inverse=True)
    return silence, start


def auc_by_time(later: Dataset, curve: Floats, *, seed: int = 7) -> dict[int, Estimate]:
    """By day, the cumulative/dynamic AUC: of those whose silence has begun by then against those known to be in use.

    curve: (n, PERIODS). Either side counts only where it was observed so long, hence with the same chance, which cancels where the
    end of the data is independent of the silence; interventions are not, and are weighted for. Source: Hung and Chiang 2010.
    """
    outcome = later.abandoned_by(PERIOD_ENDS_DAYS)
    found = {}
    for period, days in enumerate(PERIOD_ENDS_DAYS):
        known = ~np.isnan(outcome[:, period])
        label = outcome[known, period]
        if known.sum() < ENOUGH_TO_JUDGE or len(np.unique(label)) < 2:
            continue
        own = later.censoring_weight[known, period]
        value = float(auc(label, curve[known, period], own[None])[0])
        weights = _resampled(later.person[known], seed)
        drawn = np.concatenate([auc(label, curve[known, period], weight * own) for weight in weights])
        found[days] = _interval(value, drawn)
    return found


def _mean_estimate(values: Floats, own: Floats, person: npt.NDArray[np.str_], seed: int) -> Estimate:
    drawn = np.concatenate([_mean(values, weight * own) for weight in _resampled(person, seed)])
    return _interval(float(np.average(values, weights=own)), drawn)


def _interval(value: float, drawn: Floats) -> Estimate:
    if np.isnan(drawn).all():
        return Estimate(*settled(np.array([value, np.nan, np.nan])))
    return Estimate(*settled(np.array([value, *np.nanquantile(drawn, (TAIL, 1 - TAIL))])))


def _recentred(value: float, drawn: Floats) -> Estimate:
    """The interval where chance adds to a value whatever it is: to a resample it adds once more, and that is taken off."""
    return _interval(value, drawn - np.nanmean(drawn) + value)


def _of_ece(value: float, drawn: Floats) -> Estimate:
    found = _recentred(value, drawn)
    return Estimate(found.value, max(found.low, 0.0), found.high)


def _resampled(person: npt.NDArray[np.str_], seed: int) -> Iterator[Floats]:
    """Weights of up to RESAMPLES bootstraps over people, (b, n) in chunks that fit the memory."""
    people, inverse = np.unique(person, return_inverse=True)
    generator = np.random.default_rng(seed)
    size = max(_CHUNK_CELLS // max(len(person), 1), 1)
    resamples = int(np.clip(_CELLS // max(len(person), 1), FEWEST_RESAMPLES, RESAMPLES))
    chunks = [min(size, resamples - start) for start in range(0, resamples, size)]
    share = np.full(len(people), 1 / len(people))
    for chunk in chunks:
        yield np.asarray(generator.multinomial(len(people), share, size=chunk), np.float64)[:, inverse]


def _bins(score: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where each of ECE_BINS bins of equal mass starts in ascending order, and that order."""
    runs, order = _ties(score)  # equal scores share a bin, else the order of the rows would decide
    edges = np.linspace(0, len(score), ECE_BINS, endpoint=False).astype(int)
    return np.unique(runs[np.searchsorted(runs, edges, side="right") - 1]), order


def _ties(score: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where each run of equal scores starts in ascending order, and that order."""
    order = np.argsort(score, kind="stable")
    sorted_score = score[order]
    return np.flatnonzero(np.append(True, sorted_score[1:] != sorted_score[:-1])), order


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole != 0))


def _mean(loss: Floats, weight: Floats) -> Floats:
    return np.asarray(weight @ loss / weight.sum(axis=1))
