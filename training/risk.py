"""Fit the risk model: person-period LightGBM, its fallbacks, its calibration."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from features.catalogue import CATEGORIES
from features.rules import EXPERT_RATES_ELSEWHERE, Stratum, fit_rates
from features.scorer import (
    INPUTS,
    PERIODS,
    Calibrator,
    LinearHazard,
    Method,
    Scorer,
    calibrate,
    one_hot,
    squash,
)
from training.dataset import Dataset, PersonPeriods, category_levels, person_period_rows

Floats = npt.NDArray[np.float64]

ENOUGH_FOR_TREES = 200  # abandonments (design: risk)
ENOUGH_FOR_LOGISTIC = 20  # our choice: below it one weight per ten events cannot be had even for a handful of features
CALIBRATION_SHARE_OF_TIME = 0.3  # our choice: the last part of the training time judges the first
RESAMPLES = 100
LOGISTIC_C = 0.01  # our choice: strong shrinkage, the features are many and alike
TREE_PARAMETERS: Mapping[str, object] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_cat_to_onehot": 8,
    "cat_smooth": 50,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
MAX_TREES = 600
PATIENCE_TREES = 50


@dataclass(frozen=True)
class Fit:
    """A fitted scorer and how it came about: `trees` and `calibration` for the record."""

    scorer: Scorer
    abandonments: int
    rows: int
    trees: int
    held_out_log_loss: Mapping[str, float]


def fit(
    dataset: Dataset,
    *,
    elsewhere: Mapping[Stratum, Dataset] = MappingProxyType({}),
    seed: int = 7,
    threads: int = 1,
    method: Method | None = None,
) -> Fit:
    """The risk model for the data, or the fallback that so little data can carry; `Scorer.note` says which and why.

    dataset: of seats in use; elsewhere: snapshots of the other strata, whose rule learns its rates from them.
    method: force one; by default what the number of abandonments allows.
    """
    fitted = _fit_in_use(dataset, seed=seed, threads=threads, method=method)
    rules = {
        str(stratum): fit_rates(
            part.vectors, part.abandoned(), np.ones(len(part)), expert=EXPERT_RATES_ELSEWHERE[stratum]
        )
        for stratum, part in elsewhere.items()
    }
    return replace(fitted, scorer=replace(fitted.scorer, elsewhere={**fitted.scorer.elsewhere, **rules}))


def _fit_in_use(dataset: Dataset, *, seed: int, threads: int, method: Method | None) -> Fit:
    abandonments = dataset.abandonments()
    rows = person_period_rows(dataset)
    chosen, note = (method, "") if method is not None else affordable(dataset, abandonments)
    if chosen is not Method.RULE and len(np.unique(rows.event)) < 2:
        chosen, note = (
            Method.RULE,
            "no week in which a silence began has been fully observed: the three-warnings rule is used",
        )
    rates = fit_rates(dataset.vectors, dataset.abandoned(), np.ones(len(dataset)))
    if chosen is Method.RULE:
        return Fit(Scorer(Method.RULE, rule=rates, note=note), abandonments, 0, 0, {})
    levels = category_levels(dataset)
    bare = Scorer(chosen, rule=rates, levels=levels, note=note)
    trees = _best_number_of_trees(bare, dataset, rows, seed=seed, threads=threads) if chosen is Method.LIGHTGBM else 0
    calibrator, losses = _fit_calibrator(bare, dataset, seed=seed, threads=threads, trees=trees)
    fitted = _fit_hazard(bare, dataset, rows, seed=seed, threads=threads, trees=trees)
    return Fit(_with(fitted, calibrator=calibrator), abandonments, len(rows.row), trees, losses)


def affordable(dataset: Dataset, abandonments: int) -> tuple[Method, str]:
    """The method that so many abandonments can carry, and why it is not the best one, in a sentence."""
    abandoned = dataset.abandoned()
    kept = int((abandoned == 0).any(axis=1).sum())
    if abandonments < ENOUGH_FOR_LOGISTIC or kept < ENOUGH_FOR_LOGISTIC:
        return Method.RULE, (
            f"{abandonments} abandonments and {kept} kept snapshots are in the data, a learned model needs at least "
            f"{ENOUGH_FOR_LOGISTIC} of each: the three-warnings rule is used"
        )
    if abandonments < ENOUGH_FOR_TREES:
        return Method.LOGISTIC, (
            f"{abandonments} abandonments are in the data, the tree model needs {ENOUGH_FOR_TREES}: "
            "a regularised logistic model is used"
        )
    return Method.LIGHTGBM, ""


def _with(scorer: Scorer, **changes: object) -> Scorer:
    return Scorer(**{**vars(scorer), **changes})


def _fit_hazard(bare: Scorer, dataset: Dataset, rows: PersonPeriods, *, seed: int, threads: int, trees: int) -> Scorer:
    codes = bare.codes(dataset.categories)
    if bare.method is Method.LIGHTGBM:
        data = _tree_data(bare, dataset, rows)
        parameters = {**TREE_PARAMETERS, "seed": seed, "num_threads": threads}
        return _with(bare, booster=lgb.train(parameters, data, num_boost_round=trees))
    return _with(bare, linear=_fit_linear(dataset, rows, codes, [len(bare.levels[f.name]) for f in CATEGORIES]))


def _tree_data(bare: Scorer, dataset: Dataset, rows: PersonPeriods) -> lgb.Dataset:
    inputs = np.column_stack((dataset.vectors, bare.codes(dataset.categories)))
    return lgb.Dataset(
        np.column_stack((inputs[rows.row], rows.period)),
        label=rows.event,
        weight=rows.fit_weight,
        feature_name=list(INPUTS),
        categorical_feature=[feature.name for feature in CATEGORIES],
        free_raw_data=False,
    )


def _best_number_of_trees(bare: Scorer, dataset: Dataset, rows: PersonPeriods, *, seed: int, threads: int) -> int:
    """By cross-validated log loss over folds of people."""
    fold = dataset.folds(seed)[rows.row]
    splits = [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in np.unique(fold)]
    result = lgb.cv(
        {**TREE_PARAMETERS, "seed": seed, "num_threads": threads, "metric": "binary_logloss"},
        _tree_data(bare, dataset, rows),
        num_boost_round=MAX_TREES,
        folds=splits,
        callbacks=[lgb.early_stopping(PATIENCE_TREES, verbose=False)],
    )
    return max(len(result["valid binary_logloss-mean"]), 1)


def _fit_linear(dataset: Dataset, rows: PersonPeriods, codes: Floats, levels: list[int]) -> LinearHazard:
    with np.errstate(invalid="ignore"):
        known = ~np.isnan(dataset.vectors)
        count = np.maximum(known.sum(axis=0), 1)
        fill = np.where(known, dataset.vectors, 0).sum(axis=0) / count
    squashed = squash(np.where(known, dataset.vectors, fill))
    mean, scale = squashed.mean(axis=0), squashed.std(axis=0)
    blank = LinearHazard(
        _floats(fill), _floats(mean), _floats(np.where(scale > 1e-12, scale, 1.0)), (), (0.0,) * PERIODS
    )
    design = blank.design(dataset.vectors, codes, levels)
    periods = one_hot(rows.period[:, None].astype(np.float64), [PERIODS])
    # the period columns are scaled up so that the shrinkage leaves the baseline hazard free
    model = LogisticRegression(C=LOGISTIC_C, solver="newton-cholesky", max_iter=200, fit_intercept=False)
    model.fit(np.column_stack((design[rows.row], 100 * periods)), rows.event, sample_weight=rows.fit_weight)
    weights = model.coef_[0]
    # a week that no snapshot has lived to its end has no rows: its hazard is that of the last one that has
    intercepts = 100 * weights[-PERIODS:][np.minimum(np.arange(PERIODS), rows.period.max())]
    return LinearHazard(blank.fill, blank.mean, blank.scale, _floats(weights[:-PERIODS]), _floats(intercepts))


def _fit_calibrator(
    bare: Scorer, dataset: Dataset, *, seed: int, threads: int, trees: int
) -> tuple[Calibrator, dict[str, float]]:
    """None or beta, whichever has the lower log loss on people and at a time that the judged hazards were not fitted on.

    Each fold of people is scored by a model of the other people and of the time before the last part (of all their
    time where that would leave fewer than ENOUGH_FOR_LOGISTIC abandonments on either side).
    """
    cut = int(np.quantile(dataset.as_of, 1 - CALIBRATION_SHARE_OF_TIME))
    if (
        dataset.known_before(cut).abandonments() < ENOUGH_FOR_LOGISTIC
        or _events_after(dataset, cut) < ENOUGH_FOR_LOGISTIC
    ):
        cut = int(dataset.as_of.min())  # too little to hold out a time as well: other people only
    fold = dataset.folds(seed + 1)
    early = dataset.known_before(cut) if cut > dataset.as_of.min() else dataset
    early_fold = fold[dataset.as_of < cut] if cut > dataset.as_of.min() else fold
    hazards = np.full((len(dataset), PERIODS), np.nan)
    for number in np.unique(fold):
        others = early.take(early_fold != number)
        judged = np.flatnonzero((fold == number) & (dataset.as_of >= cut))
        rows = person_period_rows(others)
        if not judged.size or len(np.unique(rows.event)) < 2:
            continue
        model = _fit_hazard(bare, others, rows, seed=seed, threads=threads, trees=trees)
        part = dataset.take(judged)
        hazards[judged] = model.hazards(part.vectors, model.codes(part.categories))
    return choose_calibrator(dataset, hazards, seed=seed)


def _events_after(dataset: Dataset, cut: int) -> float:
    return float(person_period_rows(dataset.take(dataset.as_of >= cut)).event.sum())


def choose_calibrator(dataset: Dataset, hazards: Floats, *, seed: int) -> tuple[Calibrator, dict[str, float]]:
    """The better of none and beta on held-out people, with its spread over resampled people.

    hazards: (n, PERIODS) out-of-sample raw hazards, NaN rows where there are none.
    """
    rows = person_period_rows(dataset)
    rows = rows.take(~np.isnan(hazards[rows.row, 0]))
    if rows.event.sum() < ENOUGH_FOR_LOGISTIC:
        return Calibrator(), {}
    people, person = np.unique(dataset.person[rows.row], return_inverse=True)
    half = np.random.default_rng(seed).permutation(np.arange(len(people)) % 2)[person]
    raw = hazards[rows.row, rows.period]
    crossed = np.empty_like(raw)
    for side in (0, 1):
        parameters = _beta_parameters(raw, rows, rows.weight * (half != side))
        chosen = half == side
        crossed[chosen] = _calibrated(raw[chosen], rows.period[chosen], parameters)
    losses = {"none": _log_loss(rows.event, raw, rows.weight), "beta": _log_loss(rows.event, crossed, rows.weight)}
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(people), np.full(len(people), 1 / len(people)), size=RESAMPLES)
    resampled = tuple(_beta_parameters(raw, rows, rows.weight * draw[person]) for draw in draws)
    if losses["beta"] < losses["none"]:
        return Calibrator("beta", _beta_parameters(raw, rows, rows.weight), resampled), losses
    return Calibrator("none", resampled=resampled), losses


Parameters = tuple[tuple[float, float, float], tuple[float, float, float]]


def _beta_parameters(raw: Floats, rows: PersonPeriods, weight: Floats) -> Parameters:
    """(a, b, c) for T = 0 and for later weeks, by penalised maximum likelihood around "none" (a = b = 1, c = 0)."""
    clipped = np.clip(raw, 1e-9, 1 - 1e-9)
    inputs = np.column_stack((np.log(clipped), -np.log1p(-clipped), np.ones_like(clipped)))
    stages = []
    for later in (False, True):
        chosen = ((rows.period > 0) == later) & (weight > 0)
        stages.append(_newton(inputs[chosen], rows.event[chosen], weight[chosen]))
    return stages[0], stages[1]


def _newton(inputs: Floats, event: Floats, weight: Floats, *, ridge: float = 5.0) -> tuple[float, float, float]:
    """Penalised logistic regression shrunk toward (1, 1, 0); ridge in events: our choice."""
    center = np.array([1.0, 1.0, 0.0])
    beta = center.copy()
    penalty = np.diag([ridge, ridge, 0.1])

    def loss(at: Floats) -> float:
        linear = inputs @ at
        return float(weight @ (np.logaddexp(0, linear) - event * linear) + (at - center) @ penalty @ (at - center) / 2)

    for _ in range(50):
        predicted = 1 / (1 + np.exp(-np.clip(inputs @ beta, -30, 30)))
        gradient = inputs.T @ (weight * (predicted - event)) + penalty @ (beta - center)
        curvature = (inputs * (weight * predicted * (1 - predicted))[:, None]).T @ inputs + penalty
        step = np.linalg.solve(curvature, gradient)
        before = loss(beta)
        while loss(beta - step) > before and np.abs(step).max() >= 1e-8:
            step = step / 2  # far from the optimum a whole step overshoots, and the next one further
        beta = beta - step
        if np.abs(step).max() < 1e-8:
            break
    a, b, c = (float(value) for value in beta)
    return (max(a, 0.0), max(b, 0.0), c)


def _calibrated(raw: Floats, period: npt.NDArray[np.int64], parameters: Parameters) -> Floats:
    both = calibrate(np.repeat(raw[:, None], 2, axis=1), np.asarray(parameters)[None])[0]
    return np.asarray(both[np.arange(len(raw)), np.minimum(period, 1)])


def _log_loss(event: Floats, predicted: Floats, weight: Floats) -> float:
    clipped = np.clip(predicted, 1e-9, 1 - 1e-9)
    loss = -(event * np.log(clipped) + (1 - event) * np.log1p(-clipped))
    return float((weight * loss).sum() / weight.sum())


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
