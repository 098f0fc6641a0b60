"""The chance of keeping a seat under each arm, told by models that never saw its team: the q of doubly robust values."""

from collections.abc import Callable

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from features.effects import EffectModel, Learner, arm_chances
from features.line import Line
from features.scorer import squash
from training.decided import DecisionData

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Our choice: shallow and slow, for what an arm adds is small beside the risk; nothing was searched.
TREES = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.06,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.5,
    "lambda_l2": 5.0,
    "max_bin": 63,
    "verbose": -1,
    "deterministic": True,
    "force_row_wise": True,
}
FEWEST_ROUNDS, MOST_ROUNDS, ROWS_PER_ROUND = 20, 80, 300
LEVEL_AT_LEAST = 20  # decisions, as for the risk model
SOLVER = "newton-cholesky"  # exact within few steps where decisions outnumber columns by far
LINE_STRENGTH = 0.1  # of the ridge, C of scikit-learn; our choice
FEWEST_FOR_TREES = 1_000  # decisions; our choice: below it a line is all that can be learned


def blank(data: DecisionData) -> EffectModel:
    """A model without effects that knows the names of the data's categories; names of few decisions are unknown."""
    columns = list(zip(*data.seen.categories, strict=True)) if data.seen.categories else []
    levels = []
    for column in columns:
        names, counts = np.unique(np.array(column, dtype=str), return_counts=True)
        levels.append(tuple(names[(counts >= LEVEL_AT_LEAST) & (names != "")].tolist()))
    return EffectModel(Learner.EXPERT, data.arms, (0.0,) * len(data.arms), levels=tuple(levels), prior=data.prior)


def rounds(n: int) -> int:
    """Boosting rounds for n decisions."""
    return int(np.clip(n // ROWS_PER_ROUND, FEWEST_ROUNDS, MOST_ROUNDS))


def fit_trees(rows: Floats, target: Floats, *, seed: int, threads: int, **more: object) -> lgb.Booster:
    """Trees of (n, inputs) rows for (n,) targets."""
    weight = more.pop("weight", None)
    count = more.pop("rounds", rounds(len(rows)))
    data = lgb.Dataset(rows, target, weight=weight, free_raw_data=True)
    return lgb.train({**TREES, **more, "seed": seed, "num_threads": threads}, data, count)


def fit_line(vectors: Floats, design_of: Callable[[Line], Floats]) -> tuple[Line, Floats]:
    """The standardisation of (n, p) numbers and the design under it."""
    known = ~np.isnan(vectors)
    fill = np.where(known.any(axis=0), np.nanmedian(np.where(known.any(axis=0), vectors, 0.0), axis=0), 0.0)
    squashed = squash(np.where(known, vectors, fill))
    scale = squashed.std(axis=0)
    line = Line(
        tuple(fill.tolist()), tuple(squashed.mean(axis=0).tolist()), tuple(np.where(scale > 1e-9, scale, 1.0).tolist())
    )
    return line, design_of(line)


def fit_arm_trees(data: DecisionData, model: EffectModel, *, seed: int, threads: int) -> lgb.Booster:
    """Trees that know the arm (the S learner)."""
    codes = model.codes(data.seen.categories)
    rows = np.concatenate((model.rows(data.seen, codes), np.eye(len(data.arms))[data.arm]), axis=1)
    return fit_trees(rows, data.kept, seed=seed, threads=threads)


def kept_chance(data: DecisionData, fold: Integers, *, seed: int = 7, threads: int = 1) -> Floats:
    """(n,) chance of keeping under the logged choices, each told by a model without its fold; in [0.01, 0.99]."""
    chance = np.empty(len(data))
    for number in np.unique(fold).tolist():
        inside = fold == number
        chance[inside] = fit_kept(data.take(~inside), seed=seed, threads=threads)(data.take(inside))
    return chance


def fit_kept(data: DecisionData, *, seed: int, threads: int) -> Callable[[DecisionData], Floats]:
    """The chance of keeping whatever is done, as a function of other decisions."""
    model = blank(data)
    counts = [len(names) for names in model.levels]
    if len(np.unique(data.kept)) < 2:
        level = float(np.clip(data.kept.mean(), 0.01, 0.99)) if len(data) else 0.5
        return lambda other: np.full(len(other), level)
    if len(data) >= FEWEST_FOR_TREES:
        rows = model.rows(data.seen, model.codes(data.seen.categories))
        booster = fit_trees(rows, data.kept, seed=seed, threads=threads)

        def by_trees(other: DecisionData) -> Floats:
            told = model.rows(other.seen, model.codes(other.seen.categories))
            return np.asarray(np.clip(booster.predict(told, num_threads=threads), 0.01, 0.99), np.float64)

        return by_trees
    codes = model.codes(data.seen.categories)
    line, design = fit_line(data.seen.vectors, lambda made: made.design(data.seen.vectors, codes, counts))
    fitted = LogisticRegression(C=LINE_STRENGTH, solver=SOLVER).fit(design, data.kept)

    def by_line(other: DecisionData) -> Floats:
        told = line.design(other.seen.vectors, model.codes(other.seen.categories), counts)
        return np.asarray(np.clip(fitted.predict_proba(told)[:, 1], 0.01, 0.99), np.float64)

    return by_line


def outcome_model(data: DecisionData, *, seed: int = 7, threads: int = 1) -> Floats:
    """(n, K) chance of keeping under each arm, cross-fitted by team.

    Trees that know the arm where there are enough decisions; else the chance under the logged choices for every arm, moved
    by the experts' effects: a wrong q costs a doubly robust value precision, not truth.
    """
    fold = data.folds(seed)
    if len(data) < FEWEST_FOR_TREES or len(np.unique(data.kept)) < 2:
        return around_kept(data, kept_chance(data, fold, seed=seed, threads=threads))
    chances = np.empty(data.propensity.shape)
    for number in np.unique(fold).tolist():
        inside, past = fold == number, data.take(fold != number)
        model = blank(past)
        booster = fit_arm_trees(past, model, seed=seed, threads=threads)
        other = data.take(inside)
        chances[inside] = arm_chances(
            booster, model.rows(other.seen, model.codes(other.seen.categories)), len(data.arms)
        )
    return chances


def around_kept(data: DecisionData, chance: Floats) -> Floats:
    """(n, K) the chance under the logged choices, moved by the experts' effects less their mean under those choices."""
    expert = data.seen.expert
    usual = (data.propensity * expert).sum(axis=1, keepdims=True)
    return np.asarray(np.clip(chance[:, None] + expert - usual, 0.0, 1.0))
