"""What a model has to beat, fitted on the same training snapshots: recency, the rule, a line, trees, a survival model."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError
from sklearn.linear_model import LogisticRegression

from features.catalogue import CATEGORIES, NUMERIC
from features.scorer import HORIZONS_DAYS, Scorer, squash
from training.dataset import Dataset
from training.risk import TREE_PARAMETERS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

BOOSTING_TREES = 150  # our choice: as many as the hazard model takes on data of this kind
SURVIVAL_ROWS = 10_000  # of the snapshots, drawn: Cox's likelihood sorts every silence
SURVIVAL_PENALTY = 0.1
NOW_DAYS = 0.5  # a silence that has begun at the snapshot: Cox needs a duration above zero
SURVIVAL_FEATURES = ("days_since_meaningful", "meaningful_28", "meaningful_days_56", "active_days_28", "used_share_28",
                     "assisted_share_28", "meaningful_trend_14", "work_days_28", "life_days", "meaningful_ever")  # fmt: skip

_COLUMN = {feature.name: position for position, feature in enumerate(NUMERIC)}


@dataclass(frozen=True)
class Baselines:
    """By name, (n_test, n_horizons) risks; notes: on those that could not be fitted, in sentences."""

    risks: Mapping[str, Floats]
    notes: tuple[str, ...] = ()


def baselines(train: Dataset, test: Dataset, logistic: Scorer, *, seed: int = 7) -> Baselines:
    """Every baseline's risk of the test snapshots.

    recency: a logistic regression on days since the last meaningful use alone; warnings: the three-signal rule with the
    rates of the training data; logistic: the regularised logistic hazard model (already fitted); boosting: a LightGBM classifier
    for each horizon by itself; cox: Cox's proportional hazards on SURVIVAL_FEATURES. All count a label by the inverse of its
    chance to be left alone, as they are judged.
    """
    risks = {
        "recency": _recency(train, test),
        "warnings": logistic.rule.risk(test.vectors)[0],
        "logistic": logistic.score(test.vectors, test.categories).risk,
        "boosting": _boosting(train, test, logistic, seed=seed),
    }
    cox, note = _cox(train, test, seed=seed)
    if cox is None:
        return Baselines(risks, (note,))
    return Baselines({**risks, "cox": cox})


def _recency(train: Dataset, test: Dataset) -> Floats:
    column = _COLUMN["days_since_meaningful"]
    known = ~np.isnan(train.vectors[:, column])
    past, inputs = train.take(known), squash(test.vectors[:, [column]])
    return _by_horizon(
        past,
        test,
        lambda rows, label, weight: (
            LogisticRegression()
            .fit(squash(past.vectors[rows][:, [column]]), label, sample_weight=weight)
            .predict_proba(np.nan_to_num(inputs, nan=squash(np.array([365.0]))[0]))[:, 1]
        ),
    )


def _boosting(train: Dataset, test: Dataset, coder: Scorer, *, seed: int) -> Floats:
    inputs, asked = (np.column_stack((part.vectors, coder.codes(part.categories))) for part in (train, test))
    parameters = {**TREE_PARAMETERS, "seed": seed, "num_threads": 1}
    of_seat = train.seat_weight()
    categories = list(range(len(NUMERIC), len(NUMERIC) + len(CATEGORIES)))

    def predicted(rows: Integers, label: Floats, weight: Floats) -> Floats:
        data = lgb.Dataset(inputs[rows], label, weight=weight * of_seat[rows], categorical_feature=categories)
        return np.asarray(lgb.train(parameters, data, num_boost_round=BOOSTING_TREES).predict(asked, num_threads=1))

    return _by_horizon(train, test, predicted)


def _by_horizon(train: Dataset, test: Dataset, predicted: Callable[[Integers, Floats, Floats], Floats]) -> Floats:
    """Columns by horizon, each from the rows, labels and censoring weights known of it; the base rate where only one class is."""
    label, weight, columns = train.abandoned(), train.horizon_weight(), []
    for horizon in range(len(HORIZONS_DAYS)):
        rows = np.flatnonzero(~np.isnan(label[:, horizon]))
        outcome = label[rows, horizon]
        if len(np.unique(outcome)) < 2:
            columns.append(np.full(len(test), float(outcome.mean()) if len(rows) else 0.5))
        else:
            columns.append(np.asarray(predicted(rows, outcome, weight[rows, horizon])))
    return np.stack(columns, axis=1)


def _cox(train: Dataset, test: Dataset, *, seed: int) -> tuple[Floats | None, str]:
    names = [name for name in SURVIVAL_FEATURES if name in _COLUMN]
    usable = np.flatnonzero((train.known >= 0) & (train.observable >= 0))
    rows = np.sort(np.random.default_rng(seed).permutation(usable)[:SURVIVAL_ROWS])
    silent = train.silent_after[rows]
    event = silent <= train.observable[rows]
    if event.sum() < len(names):
        return None, f"cox: not fitted, {int(event.sum())} silences are too few for {len(names)} features"
    duration = np.maximum(np.where(event, silent, train.known[rows]), NOW_DAYS)
    columns = [_COLUMN[name] for name in names]
    raw, asked = train.vectors[rows][:, columns], test.vectors[:, columns]
    with np.errstate(invalid="ignore"):
        fill = np.nan_to_num([np.nanmean(column) if (~np.isnan(column)).any() else 0.0 for column in raw.T])
    inputs, questions = (squash(np.where(np.isnan(part), fill, part)) for part in (raw, asked))
    scale = inputs.std(axis=0)
    varies = scale > 1e-9
    inputs, questions = (
        ((part - inputs.mean(axis=0)) / np.where(varies, scale, 1))[:, varies] for part in (inputs, questions)
    )
    frame = pd.DataFrame(inputs).assign(duration=duration, event=event, weight=train.horizon_weight()[rows, -1])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = CoxPHFitter(penalizer=SURVIVAL_PENALTY).fit(frame, "duration", "event", weights_col="weight")
            times = [max(float(days), NOW_DAYS) for days in HORIZONS_DAYS]
            survival = model.predict_survival_function(pd.DataFrame(questions), times=times)
    except (ConvergenceError, np.linalg.LinAlgError) as error:
        return None, f"cox: did not converge ({str(error).splitlines()[0][:120]})"
    return np.asarray(1 - survival.to_numpy().T), ""
