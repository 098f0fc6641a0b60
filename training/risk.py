"""Fit the risk model: person-period LightGBM blended with a line, its fallbacks, its calibration and its band."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from features.calibration import log_odds, probability, settled
from features.catalogue import CATEGORIES
from features.cluster import Cluster
from features.events import MICROSECONDS_PER_DAY
from features.rules import COLD_START_DAYS, EXPERT_RATES, EXPERT_RATES_ELSEWHERE, RuleRates, Stratum, ages, fit_rates
from features.scorer import INPUTS, PERIODS, LinearHazard, Method, Scorer, one_hot, period_rows, squash
from training.calibration import (
    ENOUGH_TO_CALIBRATE,
    YOUNG_DRIFT,
    LaterErrors,
    choose_calibrator,
    errors_of_held_out_people,
    later_errors,
    mean_log_loss,
    measure_band,
    risk_at_horizons,
)
from training.dataset import Dataset, PersonPeriods, category_levels, person_period_rows
from training.distributed import DISTRIBUTED_ROWS, grow_on

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

ENOUGH_FOR_TREES = 200  # abandonments (design: risk)
ENOUGH_FOR_LOGISTIC = 20  # our choice: below it one weight per ten events cannot be had even for a handful of features
ENOUGH_PEOPLE = 10  # of either outcome; our choice: two a fold, else a model of some people cannot be judged on others
HELD_OUT_SHARE_OF_TIME = 0.3  # our choice: the last part of the judged time judges the first
GROWN_UP_DAYS = 84  # our choice: models of a shorter time knew only beginners, and say nothing of how a grown one errs
# Our choice: of so many rows two folds, and trees that are fewer, say enough. Their number is searched with BIG_STRIDE times the
# step, and so many times fewer of them.
BIG_ROWS, BIG_FOLDS, BIG_LEARNING_RATE, BIG_STRIDE, BIG_PATIENCE_TREES = 100_000, 2, 0.1, 2, 15
# Stages of the hazard that have trees of their own: whether the silence has begun, and when it will. Of fewer rows one
# forest tells both (ALL_WEEKS), for the later weeks then hold too few silences. The later weeks' trees are half as large.
ALL_WEEKS, PARTED = (None,), (0, 1)
ORIGINS = (
    0.5,
    0.7,
)  # shares of the judged time; our choice: where models of the past stood, whose errors make the band
LOGISTIC_C = 0.01  # our choice: strong shrinkage, the features are many and alike
TREE_WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0)
TREE_PARAMETERS: Mapping[str, object] = MappingProxyType(
    {
        "objective": "binary",
        "learning_rate": 0.03,
        "num_leaves": 15,
        "min_data_in_leaf": 100,
        "feature_fraction": 0.25,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 30.0,
        "max_bin": 63,
        "bin_construct_sample_cnt": 50_000,
        "max_cat_to_onehot": 8,
        "cat_smooth": 50,
        "deterministic": True,
        "force_col_wise": True,  # the same trees in three quarters of the time, as most columns are left out of each
        "verbosity": -1,
    }
)
MAX_TREES = 600
PATIENCE_TREES = 50

# Signs that are beyond doubt: more of the use that counts never raises the risk, more time without it never lowers it.
LOWERS_RISK = ("meaningful_7", "meaningful_14", "meaningful_28", "meaningful_56", "meaningful_days_14",
               "meaningful_days_28", "meaningful_days_56", "meaningful_weeks_8", "used_share_14", "used_share_28",
               "used_share_56", "assisted_share_14", "assisted_share_28", "assisted_share_56")  # fmt: skip
RAISES_RISK = ("days_since_meaningful", "days_since_use")


@dataclass(frozen=True)
class Fit:
    """A fitted scorer and how it came about, for the record.

    trees: of all forests together. held_out_log_loss: by calibrator; blend_log_loss: by weight of the trees; both on people, and where there is enough of
    it at a time, that the models did not see. activation: the fit for seats that never started, where it was tried.
    tree_parameters: what the trees were grown with, empty without any.
    """

    scorer: Scorer
    abandonments: int
    rows: int
    trees: int
    held_out_log_loss: Mapping[str, float]
    blend_log_loss: Mapping[float, float] = field(default_factory=dict)
    activation: "Fit | None" = None
    tree_parameters: Mapping[str, object] = field(default_factory=dict)


def fit(
    dataset: Dataset,
    *,
    elsewhere: Mapping[Stratum, Dataset] = MappingProxyType({}),
    seed: int = 7,
    threads: int = 1,
    method: Method | None = None,
    tree_parameters: Mapping[str, object] = MappingProxyType({}),
    cluster: Cluster | None = None,
) -> Fit:
    """The risk model for the data, or the fallback that so little data can carry; `Scorer.note` says which and why.

    dataset: of seats in use; elsewhere: snapshots of the other strata, whose rule learns its rates from them, and for seats
    that never started a model, up the same ladder. method: force one for seats in use; by default what the number of
    abandonments allows. tree_parameters: over TREE_PARAMETERS. cluster: grows the trees of more rows than DISTRIBUTED_ROWS;
    what is chosen by cross-validation is then chosen on the rows of as many people as that holds.
    """
    parameters = parameters_of(dataset, tree_parameters, seed=seed, threads=threads)
    fitted = _fit_stratum(dataset, Stratum.IN_USE, method=method, parameters=parameters, cluster=cluster)
    rules = {str(stratum): rates_of(part, stratum) for stratum, part in elsewhere.items()}
    young = {
        str(stratum): _young_rates(stratum, part) for stratum, part in {Stratum.IN_USE: dataset, **elsewhere}.items()
    }
    scorer = replace(fitted.scorer, elsewhere={**fitted.scorer.elsewhere, **rules}, young=young)
    if Stratum.NOT_STARTED not in elsewhere:
        return replace(fitted, scorer=scorer)
    activation = _fit_stratum(elsewhere[Stratum.NOT_STARTED], Stratum.NOT_STARTED, method=None, parameters=parameters)
    learned = None if activation.scorer.method is Method.RULE else activation.scorer
    return replace(fitted, scorer=replace(scorer, activation=learned), activation=activation)


def parameters_of(
    dataset: Dataset, tree_parameters: Mapping[str, object], *, seed: int, threads: int = 1
) -> dict[str, object]:
    """What the trees of the data are grown with: `tree_parameters` over what is used without a search."""
    rate = BIG_LEARNING_RATE if len(person_period_rows(dataset).row) > BIG_ROWS else TREE_PARAMETERS["learning_rate"]
    return {**TREE_PARAMETERS, "learning_rate": rate, "seed": seed, "num_threads": threads, **tree_parameters}


def rates_of(dataset: Dataset, stratum: Stratum) -> RuleRates:
    """The rule with the rates of the data. Labels that interventions left standing speak for those they did not."""
    expert = EXPERT_RATES if stratum is Stratum.IN_USE else EXPERT_RATES_ELSEWHERE[stratum]
    weight, person = dataset.horizon_weight(), dataset.person
    return fit_rates(dataset.vectors, dataset.abandoned(), weight, person=person, expert=expert)


def _fit_stratum(
    dataset: Dataset,
    stratum: Stratum,
    *,
    method: Method | None,
    parameters: Mapping[str, object],
    cluster: Cluster | None = None,
) -> Fit:
    abandonments = dataset.abandonments()
    rows = person_period_rows(dataset)
    chosen, note = (method, "") if method is not None else affordable(dataset, abandonments)
    if chosen is not Method.RULE and len(np.unique(rows.event)) < 2:
        chosen, note = (
            Method.RULE,
            "no week in which a silence began has been fully observed: the three-warnings rule is used",
        )
    rates = rates_of(dataset, stratum)
    if chosen is Method.RULE:
        return Fit(Scorer(Method.RULE, rule=rates, note=note), abandonments, 0, 0, {})
    bare = Scorer(chosen, rule=rates, note=note, speaks_from_days=_speaks_from(dataset))
    is_spread = cluster is not None and len(rows.row) > DISTRIBUTED_ROWS
    some = _some_people(dataset, DISTRIBUTED_ROWS / len(rows.row), seed=_seed(parameters)) if is_spread else dataset
    choice = _choose(replace(bare, levels=category_levels(dataset)), some, parameters)
    fitted = _fit_hazard(choice.scorer, dataset, rows, parameters, trees=choice.trees, cluster=cluster)
    band = fitted.band
    if choice.calibrator_losses:
        errors = _errors_after_origins(bare, some, parameters)
        if errors:
            band = measure_band(errors)
        else:
            at_hand = errors_of_held_out_people(
                fitted.calibrator.kind, choice.held.later, choice.hazards, seed=_seed(parameters)
            )
            band = measure_band([at_hand], least_drift=YOUNG_DRIFT)
    return Fit(
        replace(fitted, band=band),
        abandonments,
        len(rows.row),
        sum(choice.trees),
        choice.calibrator_losses,
        choice.blend_losses,
        tree_parameters=parameters if any(choice.trees) else {},
    )


@dataclass(frozen=True)
class Choice:
    """What people (and a later time) that the models did not see chose: the weight of the trees and the calibrator, in `scorer`,
    which has no model yet; and the number of trees by stage. hazards: (n, PERIODS) raw, of `held.later`, by models of others.
    """

    scorer: Scorer
    trees: tuple[int, ...]
    held: "HeldOut"
    hazards: Floats
    calibrator_losses: Mapping[str, float]
    blend_losses: Mapping[float, float]


def _choose(bare: Scorer, dataset: Dataset, parameters: Mapping[str, object]) -> Choice:
    held = hold_out(dataset, seed=_seed(parameters))
    hazards, trees = _held_out_hazards(bare, held, parameters)
    weight, blend_losses = _choose_tree_weight(held.later, hazards) if any(trees) else (0.0, {})
    blended = _blend(hazards, weight)
    calibrator, losses = choose_calibrator(held.later, blended, seed=_seed(parameters))
    scorer = replace(_weighted(bare, weight), calibrator=calibrator)
    return Choice(scorer, trees, held, blended, losses, blend_losses)


def affordable(dataset: Dataset, abandonments: int) -> tuple[Method, str]:
    """The method that so many abandonments can carry, and why it is not the best one, in a sentence."""
    abandoned = dataset.abandoned()
    kept = int((abandoned == 0).any(axis=1).sum())
    rows = person_period_rows(dataset)
    gave_up, kept_on = (len(np.unique(dataset.person[rows.row[rows.event == event]])) for event in (1, 0))
    if abandonments >= ENOUGH_FOR_LOGISTIC and min(gave_up, kept_on) < ENOUGH_PEOPLE:
        return Method.RULE, (
            f"the {abandonments} abandonments are of {gave_up} people in weeks that were fully observed, and {kept_on} people "
            f"kept on, a learned model needs at least {ENOUGH_PEOPLE} people of each: the three-warnings rule is used"
        )
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


@dataclass(frozen=True)
class HeldOut:
    """What models are fitted on and judged by: each fold's people in `later` by a model of the others in `early`.

    early: as it was known when `later` began; the same as `later` where there is too little time to hold any out. A fold
    holds whole teams or organisations (Dataset.groups).
    """

    early: Dataset
    early_fold: Integers
    later: Dataset
    later_fold: Integers

    @property
    def is_big(self) -> bool:
        """Whether there are so many rows that some folds are never held out."""
        return bool((self.early_fold < 0).any())

    @property
    def stride(self) -> int:
        """How many of the final trees each tree of the search stands for."""
        return BIG_STRIDE if self.is_big else 1

    def others(self, number: int) -> Booleans:
        """Which snapshots of `early` are of other groups, and of nobody who also works in one of the fold's."""
        is_other = self.early_fold != number
        judged = self.later.person[self.later_fold == number]
        shared = np.intersect1d(self.early.person[is_other], judged)
        return np.asarray(is_other & ~np.isin(self.early.person, shared)) if shared.size else is_other


def hold_out(dataset: Dataset, *, seed: int) -> HeldOut:
    """Folds of teams or people, and the last HELD_OUT_SHARE_OF_TIME of what was judged held out where the rest is long enough.

    That is where it spans GROWN_UP_DAYS and ENOUGH_FOR_TREES abandonments are on either side; else people alone are held out.
    """
    fold = dataset.folds(seed + 1)
    rows = person_period_rows(dataset)
    if len(rows.row) > BIG_ROWS:
        fold = np.where(fold < BIG_FOLDS, fold, -1)
    judged = dataset.as_of[rows.row]
    cut = int(np.quantile(judged, 1 - HELD_OUT_SHARE_OF_TIME)) if judged.size else 0
    early, later = dataset.known_before(cut), dataset.as_of >= cut
    if _judged_days(early) < GROWN_UP_DAYS or (
        min(early.abandonments(), dataset.take(later).abandonments()) < ENOUGH_FOR_TREES
    ):
        return HeldOut(dataset, fold, dataset, fold)
    return HeldOut(early, fold[dataset.as_of < cut], dataset.take(later), fold[later])


def _judged_days(dataset: Dataset) -> float:
    judged = dataset.as_of[person_period_rows(dataset).row]
    return float(np.ptp(judged)) / MICROSECONDS_PER_DAY if judged.size else 0.0


def held_out_loss(
    dataset: Dataset, tree_parameters: Mapping[str, object], *, seed: int = 7, threads: int = 1
) -> tuple[float, int]:
    """The held-out log loss per person-period row of trees with these parameters, and how many trees reach it."""
    parameters = parameters_of(dataset, tree_parameters, seed=seed, threads=threads)
    bare = Scorer(Method.LIGHTGBM, levels=category_levels(dataset))
    held = hold_out(dataset, seed=seed)
    found = [_cross_validated(bare, held, parameters, stage=stage)[1] for stage in _stages(held)]
    judged = [of_stage(person_period_rows(held.later), stage).fit_weight.sum() for stage in _stages(held)]
    return float(np.average([losses[-1] for losses in found], weights=judged)), held.stride * sum(map(len, found))


def _stages(held: HeldOut) -> tuple[int | None, ...]:
    """PARTED where there are so many rows that each stage can have trees of its own."""
    rows = person_period_rows(held.early)
    events = [of_stage(rows, stage).event for stage in PARTED]
    is_enough = all(min(event.sum(), (1 - event).sum()) >= ENOUGH_FOR_TREES for event in events)
    return PARTED if held.is_big and is_enough else ALL_WEEKS


def of_stage(rows: PersonPeriods, stage: int | None) -> PersonPeriods:
    """The rows of a stage, all for None."""
    return rows if stage is None else rows.take(np.minimum(rows.period, 1) == stage)


def _for_stage(parameters: Mapping[str, object], stage: int | None) -> dict[str, object]:
    leaves = int(str(parameters["num_leaves"]))
    return {**parameters, **_signs(), "num_leaves": max(leaves // 2, 2) if stage == 1 else leaves}


def _folds(fold: Integers) -> list[int]:
    """The folds that are held out one after the other; people of fold -1 are in every training."""
    return [int(number) for number in np.unique(fold) if number >= 0]


def _held_out_hazards(
    bare: Scorer, held: HeldOut, parameters: Mapping[str, object]
) -> tuple[dict[Method, Floats], tuple[int, ...]]:
    """By kind of model, (n, PERIODS) hazards of `held.later` by models of other people; the best number of trees by stage."""
    codes = bare.codes(held.later.categories)
    line = np.full((len(held.later), PERIODS), np.nan)
    has_no_line = bare.method is Method.LIGHTGBM and held.is_big  # so many rows have no need of one
    for number in [] if has_no_line else _folds(held.later_fold):
        others, own = held.early.take(held.others(number)), held.later_fold == number
        rows = person_period_rows(others)
        if len(np.unique(rows.event)) < 2:
            continue
        model = replace(bare, method=Method.LOGISTIC, linear=_fit_linear(bare, others, rows))
        line[own] = model.hazards(held.later.vectors[own], codes[own])
    if bare.method is not Method.LIGHTGBM:
        return {Method.LOGISTIC: line}, ()
    found = [_cross_validated(bare, held, parameters, stage=stage) for stage in _stages(held)]
    forest, threads = np.full((len(held.later), PERIODS), np.nan), int(str(parameters["num_threads"]))
    for number in sorted(set.intersection(*(set(boosters) for boosters, _ in found))):
        own, (first, *later) = held.later_fold == number, [boosters[number] for boosters, _ in found]
        model = replace(bare, booster=first, later=later[0] if later else None)
        forest[own] = model.hazards(held.later.vectors[own], codes[own], threads=threads)
    return {Method.LIGHTGBM: forest, Method.LOGISTIC: line}, tuple(held.stride * len(losses) for _, losses in found)


def _cross_validated(
    bare: Scorer, held: HeldOut, parameters: Mapping[str, object], *, stage: int | None
) -> tuple[dict[int, lgb.Booster], list[float]]:
    """By fold, the stage's trees of the other people; and the mean held-out log loss after each tree, up to the lowest."""
    is_same = held.early is held.later
    parts = (
        [(held.early, held.early_fold)] if is_same else [(held.early, held.early_fold), (held.later, held.later_fold)]
    )
    rows = [of_stage(person_period_rows(part), stage) for part, _ in parts]
    fold = [folds[row.row] for (_, folds), row in zip(parts, rows, strict=True)]
    start = 0 if is_same else len(fold[0])  # where the rows by which models are judged begin
    fitted_on = {number: held.others(number)[rows[0].row] for number in _folds(fold[-1])}
    splits = {
        number: (np.flatnonzero(is_fitted), start + np.flatnonzero(fold[-1] == number))
        for number, is_fitted in fitted_on.items()
        if len(np.unique(rows[0].event[is_fitted])) == 2
    }
    data = [_tree_rows(bare, part, row) for (part, _), row in zip(parts, rows, strict=True)]
    patience = BIG_PATIENCE_TREES if held.is_big else PATIENCE_TREES
    step = held.stride * float(str(parameters["learning_rate"]))
    found = lgb.cv(
        {**_for_stage(parameters, stage), "learning_rate": step, "metric": "binary_logloss"},
        _tree_data(
            np.concatenate(data),
            np.concatenate([row.event for row in rows]),
            np.concatenate([row.fit_weight for row in rows]),
        ),
        num_boost_round=MAX_TREES,
        folds=[split for split in splits.values() if len(split[1])],
        callbacks=[lgb.early_stopping(patience, verbose=False)],
        return_cvbooster=True,
    )
    names = [number for number, split in splits.items() if len(split[1])]
    boosters = dict(zip(names, found["cvbooster"].boosters, strict=True))
    losses = [float(loss) for loss in found["valid binary_logloss-mean"]]
    for booster in boosters.values():
        booster.best_iteration = len(losses)  # a prediction stops there
    return boosters, losses


def _choose_tree_weight(later: Dataset, hazards: Mapping[Method, Floats]) -> tuple[float, dict[float, float]]:
    """The weight of the trees beside the line, on the log-odds scale, with the lowest held-out log loss."""
    rows = person_period_rows(later)
    known = ~np.isnan(hazards[Method.LIGHTGBM][:, 0]) & ~np.isnan(hazards[Method.LOGISTIC][:, 0])
    rows = rows.take(known[rows.row])
    if rows.event.sum() < ENOUGH_TO_CALIBRATE:
        return 1.0, {}
    losses = {weight: mean_log_loss(rows, _blend(hazards, weight)) for weight in TREE_WEIGHTS}
    return min(losses, key=lambda weight: losses[weight]), losses


def _blend(hazards: Mapping[Method, Floats], weight: float) -> Floats:
    if weight == 0.0:
        return hazards[Method.LOGISTIC]
    if weight == 1.0:
        return hazards[Method.LIGHTGBM]
    return probability(weight * log_odds(hazards[Method.LIGHTGBM]) + (1 - weight) * log_odds(hazards[Method.LOGISTIC]))


def _weighted(bare: Scorer, weight: float) -> Scorer:
    if bare.method is Method.LIGHTGBM and weight == 0.0:
        note = "on held-out people the regularised logistic model alone had the lowest log loss: it is used"
        return replace(bare, method=Method.LOGISTIC, note=note)
    return replace(bare, tree_weight=weight)


def _errors_after_origins(bare: Scorer, dataset: Dataset, parameters: Mapping[str, object]) -> list[LaterErrors]:
    """How far models of the same kind, as they would have been fitted at moments in the past, were off in the time that followed.

    All of such a model, its calibrator too, rests on what was known at its moment. None where no moment has GROWN_UP_DAYS
    of judged time before it.
    """
    judged = dataset.as_of[person_period_rows(dataset).row]
    found = []
    for share in ORIGINS:
        origin = int(np.quantile(judged, share))
        model = model_at(bare, dataset.known_before(origin), parameters)
        if model is not None:
            later = dataset.take(dataset.as_of >= origin)
            hazards = model.hazards(later.vectors, model.codes(later.categories))
            found.append(later_errors(later, risk_at_horizons(model.calibrator, hazards), origin=origin))
    return found


def model_at(bare: Scorer, past: Dataset, parameters: Mapping[str, object]) -> Scorer | None:
    """The calibrated model of the method of `bare` from what was known at a moment; None where that was too little."""
    rows = person_period_rows(past)
    enough = ENOUGH_FOR_TREES if bare.method is Method.LIGHTGBM else ENOUGH_FOR_LOGISTIC
    if _judged_days(past) < GROWN_UP_DAYS or past.abandonments() < enough or len(np.unique(rows.event)) < 2:
        return None
    choice = _choose(replace(bare, levels=category_levels(past)), past, parameters)
    return _fit_hazard(choice.scorer, past, rows, parameters, trees=choice.trees) if choice.calibrator_losses else None


def _fit_hazard(
    bare: Scorer,
    dataset: Dataset,
    rows: PersonPeriods,
    parameters: Mapping[str, object],
    *,
    trees: tuple[int, ...],
    cluster: Cluster | None = None,
) -> Scorer:
    """The scorer with its trees, its line or both, as its method and the weight of its trees ask for."""
    is_forest = bare.method is Method.LIGHTGBM
    forests = []
    for stage, count in zip(PARTED if len(trees) > 1 else ALL_WEEKS, trees if is_forest else (), strict=False):
        own, spoken = of_stage(rows, stage), _for_stage(parameters, stage)
        inputs = _tree_rows(bare, dataset, own)
        if cluster is not None and len(rows.row) > DISTRIBUTED_ROWS:
            forests.append(grow_on(cluster, inputs, own.event, own.fit_weight, parameters=spoken, trees=count))
        else:
            data = _tree_data(inputs, own.event, own.fit_weight)
            forests.append(lgb.train(spoken, data, num_boost_round=count))
    booster, later = (*forests, None, None)[:2]
    needs_line = not is_forest or bare.tree_weight < 1.0
    linear = _fit_linear(bare, dataset, rows) if needs_line else None
    return replace(bare, booster=booster, later=later, linear=linear)


def _some_people(dataset: Dataset, share: float, *, seed: int) -> Dataset:
    """The snapshots of that share of the people."""
    people, inverse = np.unique(dataset.person, return_inverse=True)
    return dataset.take((np.random.default_rng(seed).random(len(people)) < share)[inverse])


def _tree_rows(bare: Scorer, dataset: Dataset, rows: PersonPeriods) -> Floats:
    return period_rows(dataset.vectors[rows.row], bare.codes(dataset.categories)[rows.row], rows.period)


def _tree_data(inputs: Floats, event: Floats, weight: Floats) -> lgb.Dataset:
    return lgb.Dataset(
        inputs,
        label=event,
        weight=weight,
        feature_name=list(INPUTS),
        categorical_feature=[feature.name for feature in CATEGORIES],
    )


def _signs() -> dict[str, list[int]]:
    """Monotone constraints in the order of INPUTS; names that the catalogue does not have are left out."""
    return {"monotone_constraints": [(name in RAISES_RISK) - (name in LOWERS_RISK) for name in INPUTS]}


def _fit_linear(bare: Scorer, dataset: Dataset, rows: PersonPeriods) -> LinearHazard:
    codes, levels = bare.codes(dataset.categories), [len(bare.levels[feature.name]) for feature in CATEGORIES]
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
    return LinearHazard(blank.fill, blank.mean, blank.scale, settled(weights[:-PERIODS]), settled(intercepts))


def _speaks_from(dataset: Dataset) -> float:
    """0 where enough seats younger than COLD_START_DAYS were seen to give up and to keep on, else that age."""
    with np.errstate(invalid="ignore"):
        outcome = dataset.abandoned()[ages(dataset.vectors) < COLD_START_DAYS, 0]
    is_enough = min((outcome == 1).sum(), (outcome == 0).sum()) >= ENOUGH_FOR_LOGISTIC
    return 0.0 if is_enough else float(COLD_START_DAYS)


def _young_rates(stratum: Stratum, dataset: Dataset) -> RuleRates:
    with np.errstate(invalid="ignore"):
        young = dataset.take(ages(dataset.vectors) < COLD_START_DAYS)
    return rates_of(young, stratum)


def _seed(parameters: Mapping[str, object]) -> int:
    return int(str(parameters["seed"]))


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
