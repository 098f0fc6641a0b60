"""Rolling-origin backtest: models as they would have been fitted at moments in the past, judged on the month that followed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from features.events import MICROSECONDS_PER_DAY
from features.instants import from_microseconds
from features.rules import Stratum
from features.scorer import HORIZONS_DAYS, Method
from training.dataset import Dataset
from training.evaluate import Estimate, evaluate
from training.risk import fit

STEP_DAYS = 28
ORIGINS = 4


@dataclass(frozen=True)
class Origin:
    """One model of the past. metrics: by horizon in days, method (model, warnings) and metric."""

    origin: str
    method: Method
    train_snapshots: int
    test_snapshots: int
    abandonments: int
    metrics: Mapping[int, Mapping[str, Mapping[str, Estimate]]]


@dataclass(frozen=True)
class Backtest:
    """Every origin, and all their tests pooled: what was predicted at the time against what came of it."""

    origins: tuple[Origin, ...]
    pooled: Mapping[int, Mapping[str, Mapping[str, Estimate]]]

    def document(self) -> dict[str, object]:
        """The same for JSON."""
        return {
            "origins": [{**asdict(one), "metrics": _by_text(one.metrics)} for one in self.origins],
            "pooled": _by_text(self.pooled),
        }


def backtest(
    by_stratum: Mapping[Stratum, Dataset], *, origins: int = ORIGINS, seed: int = 7, threads: int = 1
) -> Backtest:
    """The last `origins` moments, STEP_DAYS apart, after which a stretch of STEP_DAYS has been judged.

    Raises ValueError where the judged time is too short for one.
    """
    dataset = by_stratum[Stratum.IN_USE]
    judged = dataset.as_of[~np.isnan(dataset.abandoned()[:, 0])]
    step = STEP_DAYS * MICROSECONDS_PER_DAY
    ends = [int(judged.max()) - number * step for number in range(1, origins + 1)] if judged.size else []
    first = int(judged.min()) + int(dataset.silence.max(initial=28)) * MICROSECONDS_PER_DAY if judged.size else 0
    usable = sorted(end for end in ends if end > first)
    if not usable:
        raise ValueError(
            f"the judged snapshots span {np.ptp(judged) / MICROSECONDS_PER_DAY if judged.size else 0:.0f} days: a backtest "
            f"needs {STEP_DAYS} to judge and a silence of {int(dataset.silence.max(initial=28))} days before them to learn from"
        )
    found, labels, risks, people, weights = [], [], [], [], []
    for origin in usable:
        past = dataset.known_before(origin)
        test = dataset.take((dataset.as_of >= origin) & (dataset.as_of < origin + step))
        fitted = fit(past, seed=seed, threads=threads)
        label, weight = test.abandoned(), test.horizon_weight()
        mine = fitted.scorer.score(test.vectors, test.categories).risk
        scores = {"model": mine, "warnings": fitted.scorer.rule.risk(test.vectors)[0]}
        metrics = {
            days: evaluate(
                label[:, h],
                {name: risk[:, h] for name, risk in scores.items()},
                test.person,
                weight=weight[:, h],
                seed=seed,
            )
            for h, days in enumerate(HORIZONS_DAYS)
        }
        name = from_microseconds(origin).isoformat()
        found.append(Origin(name, fitted.scorer.method, len(past), len(test), fitted.abandonments, metrics))
        labels.append(label)
        risks.append(scores)
        people.append(test.person)
        weights.append(weight)
    label, person, weight = np.concatenate(labels), np.concatenate(people), np.concatenate(weights)
    pooled = {
        days: evaluate(
            label[:, h],
            {name: np.concatenate([r[name][:, h] for r in risks]) for name in risks[0]},
            person,
            weight=weight[:, h],
            seed=seed,
        )
        for h, days in enumerate(HORIZONS_DAYS)
    }
    return Backtest(tuple(found), pooled)


def _by_text(metrics: Mapping[int, Mapping[str, Mapping[str, Estimate]]]) -> dict[str, object]:
    return {
        str(days): {
            method: {name: asdict(estimate) for name, estimate in values.items()} for method, values in table.items()
        }
        for days, table in metrics.items()
    }
