"""Metrics with intervals, baselines beside the model, and the paired comparison that the gate rests on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from features.catalogue import NUMERIC
from features.scorer import HORIZONS_DAYS, Scorer
from training.dataset import Dataset

Floats = npt.NDArray[np.float64]
Metric = Callable[[Floats, Floats, Floats], Floats]

RESAMPLES = 500
ECE_BINS = 15
LIFT_SHARE = 0.1
ENOUGH_TO_JUDGE = 50  # snapshots; our choice: below it no metric is shown
_CHUNK_CELLS = 20_000_000
_TINY = 1e-6

_RECENCY = [feature.name for feature in NUMERIC].index("days_since_meaningful")


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
    runs, order = _ties(score)  # equal scores share a bin, else the order of the rows would decide
    edges = np.linspace(0, len(score), ECE_BINS, endpoint=False).astype(int)
    starts = np.unique(runs[np.searchsorted(runs, edges, side="right") - 1])
    gap = np.add.reduceat(weight[:, order] * (label - score)[order], starts, axis=1)
    return np.asarray(np.abs(gap).sum(axis=1) / weight.sum(axis=1))


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
    values = np.concatenate([metric(label, score, weight) for weight in _resampled(person, seed)])
    return Estimate(value, *(float(bound) for bound in np.nanquantile(values, (0.025, 0.975))))


def compare(label: Floats, mine: Floats, other: Floats, person: npt.NDArray[np.str_], *, seed: int = 7) -> Estimate:
    """By how much the log loss of `mine` is lower than that of `other`, paired, with its interval over people.

    label, mine, other: (n, n_horizons); NaN labels are left out. Above zero `mine` is better.
    """
    known = ~np.isnan(label)
    filled = np.where(known, label, 0)
    gain = np.where(known, losses(filled, other) - losses(filled, mine), 0).sum(axis=1)
    count = known.sum(axis=1)
    value = float(gain.sum() / max(count.sum(), 1))
    drawn = np.concatenate([_ratio(weight @ gain, weight @ count) for weight in _resampled(person, seed)])
    return Estimate(value, *(float(bound) for bound in np.nanquantile(drawn, (0.025, 0.975))))


def evaluate(
    label: Floats, scores: Mapping[str, Floats], person: npt.NDArray[np.str_], *, seed: int = 7
) -> dict[str, dict[str, Estimate]]:
    """By method and metric, the estimate for one horizon. label: (n,) of 0, 1 or NaN (left out)."""
    known = ~np.isnan(label)
    if known.sum() < ENOUGH_TO_JUDGE or len(np.unique(label[known])) < 2:
        return {}
    return {
        method: {
            name: estimate(metric, label[known], score[known], person[known], seed=seed)
            for name, metric in METRICS.items()
        }
        for method, score in scores.items()
    }


def baselines(train: Dataset, test: Dataset, horizon: int, logistic: Scorer) -> dict[str, Floats]:
    """By name, (n_test,) risk at HORIZONS_DAYS[horizon] from what a model has to beat.

    recency: a logistic regression on days since the last meaningful use alone; warnings: the three-signal rule with
    the rates of the training data; logistic: the regularised logistic model (already fitted).
    """
    return {
        "recency": _recency(train, test, horizon),
        "warnings": logistic.rule.risk(test.vectors)[0][:, horizon],
        "logistic": logistic.score(test.vectors, test.categories).risk[:, horizon],
    }


def _recency(train: Dataset, test: Dataset, horizon: int) -> Floats:
    label = train.abandoned()[:, horizon]
    known = ~np.isnan(label)
    if len(np.unique(label[known])) < 2:
        return np.full(len(test), float(np.nanmean(label)) if known.any() else 0.5)
    model = LogisticRegression().fit(np.log1p(train.vectors[known][:, [_RECENCY]]), label[known])
    return np.asarray(model.predict_proba(np.log1p(test.vectors[:, [_RECENCY]]))[:, 1])


def metrics_by_horizon(
    scorer: Scorer, logistic: Scorer, train: Dataset, test: Dataset, *, seed: int = 7
) -> dict[int, dict[str, dict[str, Estimate]]]:
    """By horizon in days, method and metric: the model beside its baselines, on the test snapshots."""
    label, risk = test.abandoned(), scorer.score(test.vectors, test.categories).risk
    return {
        days: evaluate(
            label[:, horizon],
            {"model": risk[:, horizon], **baselines(train, test, horizon, logistic)},
            test.person,
            seed=seed,
        )
        for horizon, days in enumerate(HORIZONS_DAYS)
    }


def _resampled(person: npt.NDArray[np.str_], seed: int) -> Iterator[Floats]:
    """Weights of RESAMPLES bootstraps over people, (b, n) in chunks that fit the memory."""
    people, inverse = np.unique(person, return_inverse=True)
    generator = np.random.default_rng(seed)
    size = max(_CHUNK_CELLS // max(len(person), 1), 1)
    chunks = [min(size, RESAMPLES - start) for start in range(0, RESAMPLES, size)]
    share = np.full(len(people), 1 / len(people))
    for chunk in chunks:
        yield np.asarray(generator.multinomial(len(people), share, size=chunk), np.float64)[:, inverse]


def _ties(score: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where each run of equal scores starts in ascending order, and that order."""
    order = np.argsort(score, kind="stable")
    sorted_score = score[order]
    return np.flatnonzero(np.append(True, sorted_score[1:] != sorted_score[:-1])), order


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole != 0))


def _mean(loss: Floats, weight: Floats) -> Floats:
    return np.asarray(weight @ loss / weight.sum(axis=1))
