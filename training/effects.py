"""Effects of interventions from matured decisions: candidates, shrinkage toward the experts, the choice among them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.linear_model import LogisticRegression

from features.effects import EffectModel, Learner, arm_chances, expert_model
from features.instants import from_microseconds
from training.decided import FOLDS, DecisionData
from training.needs import Choice, can_learn_needs, choose, fit_needs
from training.offpolicy import Value, dr_scores, greedy, mean_by_team
from training.outcome import (
    LINE_STRENGTH,
    SOLVER,
    blank,
    fit_arm_trees,
    fit_line,
    fit_trees,
    kept_chance,
    outcome_model,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# m in w = n / (n + m): decisions of an arm after which the learner counts as much as the experts. The variance of an
# outcome (0.2) over that of the experts' effect (0.02 squared) is 500 for one mean; our choice is the double, for a
# learner tells many seats apart.
SHRINKAGE_DECISIONS = 1_000.0
SUPPORT = 150  # decisions of an arm; our choice: below it the experts alone speak of the arm (design: decide, value)
# Standard deviations, at even risk, of departures from the experts: of one arm, of every contact alike, and, as a share of
# what the experts say of a mode, of the modes' strengths. The evidence of the decisions chooses among them.
ARM_DEVIATIONS = (0.003, 0.01, 0.03, 0.06)
CONTACT_DEVIATIONS = (0.003, 0.01, 0.03, 0.1)
MODE_DEVIATIONS = (0.03, 0.1, 0.3, 1.0)
CORRECTION_DEVIATION = 0.01  # of S + shrunk DR correction, at even risk; our choice: half of the experts' own
YOUNG_LOG = 5_000  # matured decisions; our choice: below it nothing beats the experts but by chance, unless clearly
_95 = 1.96
INNER_FOLDS = 3  # of the chance of keeping inside each lesson; our choice: two thirds of the teams tell it well
LEAST_VARIANCE = 0.02  # of one outcome: a chance near 0 or 1 is not known so well that its decisions should rule
# Of what any contact does: few splits, each of many decisions, for all arms together are still little beside the noise.
CONTACT_TREES: Mapping[str, object] = MappingProxyType(
    {
        "objective": "regression",
        "num_leaves": 4,
        "rounds": 40,
        "learning_rate": 0.05,
        "lambda_l2": 100.0,
        "feature_fraction": 0.3,
    }
)
CONTACT_LEAF_SHARE = 0.04  # of the decisions in a leaf, at the least; our choice
LEAST_DRAWN = 1e-3  # a contact that was as good as certain, or ruled out, teaches nothing
# Beforehand, of TAKE_UP: how far what would help does (1: as the experts say), what any contact does, and what it does beside
# that where nothing is needed; our choice: the experts are off by half, contact by more than most effects.
TAKEN_UP_MEAN, TAKEN_UP_DEVIATION = (1.0, 0.0, 0.0), (0.5, 0.03, 0.05)
X_TREES: Mapping[str, object] = MappingProxyType(
    {"objective": "regression", "num_leaves": 7, "min_data_in_leaf": 100, "rounds": 40, "learning_rate": 0.05}
)


@dataclass(frozen=True)
class Fit:
    """What learning came to.

    model: the winner, fitted on all decisions. values: by candidate, the DR gain of its greedy policy over the experts', on
    teams that it never saw. told: (n, K) effects of the winner, cross-fitted by team, for further valuation.
    """

    model: EffectModel
    values: Mapping[Learner, Value]
    told: Floats
    outcome_model: Floats
    decisions: int
    teams: int


@dataclass(frozen=True)
class Lesson:
    """What every candidate is fitted on: decisions, the chance of keeping cross-fitted by team, and how to run."""

    data: DecisionData
    chance: Floats
    seed: int
    threads: int

    def drawn(self) -> Floats:
        """(n, K) indicator of the chosen arm less its logged probability."""
        return np.asarray(np.eye(len(self.data.arms))[self.data.arm] - self.data.propensity)

    def precision(self) -> Floats:
        """(n,) one over the variance of the outcome."""
        return np.asarray(1 / np.maximum(self.chance * (1 - self.chance), LEAST_VARIANCE))

    @cached_property
    def levers(self) -> "_Levers":
        """What reactions tell, and what outcomes say of it; takes minutes. Raises ValueError as training.needs.fit_needs."""
        return _levers(self)


def fit_effects(data: DecisionData, *, seed: int = 7, threads: int = 1) -> Fit:
    """The candidate of the greatest cross-fitted DR value (see _winner), fitted on all matured decisions.

    Where no arm but `none` has SUPPORT decisions, or only one arm was ever chosen, the experts speak and the note says so.
    """
    data = data.matured()
    counts = dict(zip(data.arms, data.counts().tolist(), strict=True))
    needed = SUPPORT * FOLDS / (FOLDS - 1)  # so that each fold is taught by SUPPORT of the other teams' decisions
    supported = [arm for arm in data.arms[1:] if counts[arm] >= needed]
    if not supported or counts[data.arms[0]] < needed or len(np.unique(data.kept)) < 2:
        note = _too_little(counts, data.arms)
        model = expert_model(data.arms, note=note, decisions=counts)
        return Fit(model, {}, data.seen.expert, np.zeros_like(data.propensity), len(data), len(np.unique(data.team)))
    fold = data.folds(seed)
    told = {learner: np.zeros(data.propensity.shape) for learner in CANDIDATES}
    for number in np.unique(fold).tolist():
        inside = fold == number
        lesson = lesson_of(data.take(~inside), seed=seed, threads=threads)
        at = data.take(inside).seen
        for learner, learn in CANDIDATES.items():
            told[learner][inside] = learn(lesson).effects(at).mean
    q = outcome_model(data, seed=seed, threads=threads)
    scores = {learner: dr_scores(data, greedy(effects, data.eligible), q) for learner, effects in told.items()}
    values = {learner: mean_by_team(score - scores[Learner.EXPERT], data.team) for learner, score in scores.items()}
    lesson = lesson_of(data, seed=seed, threads=threads)
    winner = _winner(scores, data, preferred=Learner.TAKE_UP if are_heeded(lesson) else Learner.PRIOR_R)
    if winner is Learner.EXPERT:
        note = f"no candidate is {'surely ' if len(data) < YOUNG_LOG else ''}worth more than the experts: the experts speak"
        model = expert_model(data.arms, note=note, decisions=counts)
        return Fit(model, values, data.seen.expert, q, len(data), len(np.unique(data.team)))
    model = with_intervals(lesson, CANDIDATES[winner](lesson))
    until = from_microseconds(int(data.as_of.max())).isoformat()
    model = replace(model, trained_until=until, note=_note(winner, values[winner], data, supported))
    return Fit(model, values, told[winner], q, len(data), len(np.unique(data.team)))


def _winner(scores: Mapping[Learner, Floats], data: DecisionData, *, preferred: Learner = Learner.PRIOR_R) -> Learner:
    """The greatest DR value; the preferred wherever that is not better than it by one standard error, paired by decision.

    EXPERT where the winner chooses just as it does, and in a log below YOUNG_LOG where it is not surely better.

    One standard error: Breiman et al. 1984, section 3.4.3. Our choice of the preferred: PRIOR_R, whose prior holds the experts'
    rule, or TAKE_UP where reactions are heeded; among candidates as close as this the greatest value is chance.
    """
    best = max(scores, key=lambda learner: float(scores[learner].mean()))
    ahead = mean_by_team(scores[best] - scores[preferred], data.team)
    winner = best if (ahead.high - ahead.value) / _95 < ahead.value else preferred
    gain = mean_by_team(scores[winner] - scores[Learner.EXPERT], data.team)
    differs = bool((scores[winner] != scores[Learner.EXPERT]).any())
    is_trusted = differs and (gain.low > 0 if len(data) < YOUNG_LOG else True)
    return winner if is_trusted else Learner.EXPERT


def lesson_of(data: DecisionData, *, seed: int, threads: int = 1) -> Lesson:
    """What the candidates are fitted on, of matured decisions."""
    return Lesson(
        data, kept_chance(data, data.folds(seed + 1, folds=INNER_FOLDS), seed=seed, threads=threads), seed, threads
    )


def _too_little(counts: Mapping[str, int], arms: tuple[str, ...]) -> str:
    seen = [arm for arm in arms if counts[arm]]
    if len(seen) <= 1:
        only = f"only {seen[0]} was ever chosen" if seen else "no decision has matured"
        return f"{only}, so nothing can be compared: the experts speak"
    best = max(arms[1:], key=lambda arm: counts[arm])
    return (
        f"no intervention has {SUPPORT * FOLDS // (FOLDS - 1)} matured decisions beside as many of {arms[0]} (most: {best}, "
        f"{counts[best]}; {arms[0]}: {counts[arms[0]]}): the experts speak"
    )


def _note(winner: Learner, value: Value, data: DecisionData, supported: list[str]) -> str:
    silent = [arm for arm in data.arms[1:] if arm not in supported]
    told = f"{winner}: {value} more kept per decision than the experts' choice, on teams it never saw"
    return told + (f"; of {', '.join(silent)} the experts speak (fewer than {SUPPORT} decisions)" if silent else "")


def shrinkage(data: DecisionData) -> tuple[float, ...]:
    """(K,) w = n / (n + m) by arm, 0 below SUPPORT decisions."""
    n = data.counts()
    weight = np.where(n >= SUPPORT, n / (n + SHRINKAGE_DECISIONS), 0.0)
    weight[0] = 1.0 if weight.any() else 0.0
    return tuple(weight.tolist())


def learn_expert(lesson: Lesson) -> EffectModel:
    """The experts' effects as they are."""
    data = lesson.data
    return expert_model(data.arms, decisions=dict(zip(data.arms, data.counts().tolist(), strict=True)))


def learn_logistic_t(lesson: Lesson) -> EffectModel:
    """One ridge logistic regression for each arm; below SUPPORT decisions, or with one outcome only, that of all."""
    data, model = lesson.data, _started(lesson, Learner.LOGISTIC_T)
    codes = model.codes(data.seen.categories)
    counts = [len(names) for names in model.levels]
    line, design = fit_line(data.seen.vectors, lambda made: made.design(data.seen.vectors, codes, counts))
    common = LogisticRegression(C=LINE_STRENGTH, solver=SOLVER).fit(design, data.kept)
    weights, intercepts = [], []
    for arm in range(len(data.arms)):
        rows = data.arm == arm
        is_known = rows.sum() >= SUPPORT and len(np.unique(data.kept[rows])) == 2
        fitted = (
            LogisticRegression(C=LINE_STRENGTH / 10, solver=SOLVER).fit(design[rows], data.kept[rows])
            if is_known
            else common
        )
        weights.append(tuple(fitted.coef_[0].tolist()))
        intercepts.append(float(fitted.intercept_[0]))
    return replace(model, line=replace(line, weights=tuple(weights), intercepts=tuple(intercepts)))


def learn_s(lesson: Lesson) -> EffectModel:
    """Trees that know the arm; the effect is the difference that it makes to them."""
    model = _started(lesson, Learner.S)
    return replace(model, boosters=(fit_arm_trees(lesson.data, model, seed=lesson.seed, threads=lesson.threads),))


def learn_x(lesson: Lesson) -> EffectModel:
    """The X learner, one regression of imputed effects for each arm.

    Imputed: y - q(none) where the arm was chosen, q(arm) - y where `none` was; weighted by one less its own share of the two, as
    their effects are weighted by the propensity. Source: Künzel et al. 2019, eqs. 8 to 10.
    """
    data, model = lesson.data, _started(lesson, Learner.X)
    trees = fit_arm_trees(data, model, seed=lesson.seed, threads=lesson.threads)
    rows = model.rows(data.seen, model.codes(data.seen.categories))
    chances = arm_chances(trees, rows, len(data.arms))
    boosters: list[lgb.Booster] = []
    for arm in range(1, len(data.arms)):
        treated, control = data.arm == arm, (data.arm == 0) & data.eligible[:, arm]
        both = treated | control
        imputed = np.where(treated, data.kept - chances[:, 0], chances[:, arm] - data.kept)[both]
        pair = data.propensity[:, arm] / np.maximum(data.propensity[:, arm] + data.propensity[:, 0], 1e-9)
        weight = np.where(treated, 1 - pair, pair)[both]
        if not both.any():
            both, imputed, weight = np.ones(len(data), bool), np.zeros(len(data)), np.ones(len(data))
        boosters.append(
            fit_trees(rows[both], imputed, weight=weight, seed=lesson.seed, threads=lesson.threads, **X_TREES)
        )
    return replace(model, boosters=tuple(boosters))


def learn_s_dr(lesson: Lesson) -> EffectModel:
    """S, and a ridge regression of what the outcomes say beyond it, on the basis: its deviation is CORRECTION_DEVIATION.

    The correction solves the doubly robust moment in its residual form: y - m(x) - sum_a (1[a] - mu_a) tau_S,a on
    (1[a] - mu_a) times the basis (Robinson 1988; Nie and Wager 2021, eq. 4, for several arms).
    """
    data, model = lesson.data, learn_s(lesson)
    raw = replace(model, weights=(1.0,) * len(data.arms)).effects(data.seen).mean
    loadings = np.eye(len(data.arms))[:, 1:]
    moments = _moments(lesson, model, raw, loadings)
    posterior = _posterior(moments, np.full(loadings.shape[1], CORRECTION_DEVIATION))
    correction, _ = _by_arm(posterior, loadings)
    return replace(model, learner=Learner.S_DR, correction=_nested(correction))


def learn_prior_r(lesson: Lesson) -> EffectModel:
    """The experts' effects as a normal prior, updated by the decisions; already shrunk, so its weights are 1.

    tau_a(x) = expert_a(x) + slope(x) phi(x)' beta_a, with beta_a the sum of a departure of its own, one of every contact, and
    one of the modes' strengths, which moves all arms that answer a mode together; each normal with mean 0. Their deviations are
    those of the greatest evidence. Our choice of structure: arms of a few hundred decisions learn from each other.
    The likelihood is that of the R learner (Nie and Wager 2021, eq. 4) with logged propensities, which confounding by what
    is seen does not bias. What every contact does is told first, by trees (_learn_contact), as far as they held up on teams that
    they did not see; the rest is what they leave.
    """
    data, model = lesson.data, _started(lesson, Learner.PRIOR_R)
    trees, contact, told = _learn_contact(lesson, model)
    model = replace(model, boosters=trees, contact=contact)
    arms = len(data.arms)
    contact_of = (np.arange(arms) > 0).astype(float)
    loadings = np.concatenate((np.eye(arms)[:, 1:], contact_of[:, None], data.answers), axis=1)
    kinds = np.repeat([0, 1, 2], [arms - 1, 1, data.answers.shape[1]])
    moments = _moments(lesson, model, data.seen.expert + told[:, None] * contact_of[None], loadings)
    choices = [
        np.array([own, every, mode])[kinds]
        for own in ARM_DEVIATIONS
        for every in CONTACT_DEVIATIONS
        for mode in (MODE_DEVIATIONS if data.answers.size else MODE_DEVIATIONS[:1])
    ]
    posterior = max((_posterior(moments, deviations) for deviations in choices), key=lambda found: found.evidence)
    correction, covariance = _by_arm(posterior, loadings)
    is_taught = np.array(shrinkage(data)) > 0
    return replace(
        model,
        weights=tuple(is_taught.astype(float).tolist()),
        correction=_nested(correction),
        covariance=tuple(_nested(part) for part in covariance),
    )


def learn_take_up(lesson: Lesson) -> EffectModel:
    """What helps is what answers the need that reactions tell of (training.needs); the experts where they tell nothing.

    tau_a(x) = slope(x) (b sum_z P(z | x) answers(z, a) + c + u P(nothing | x)): b, c and u by the R learner's regression, as in
    learn_prior_r, on chances cross-fitted by team. Three numbers, our choice: an outcome says so little that more of them would
    be chance.
    """
    if not can_learn_needs(lesson.data):
        return learn_expert(lesson)
    model = _started(lesson, Learner.TAKE_UP)
    taught = (np.array(model.weights) > 0).astype(float)
    levers = lesson.levers
    scale = np.array(TAKEN_UP_DEVIATION) ** -2.0
    found = np.linalg.solve(levers.gram + np.diag(scale), levers.cross + scale * np.array(TAKEN_UP_MEAN))
    return replace(
        model,
        weights=tuple(taught.tolist()),
        needs=fit_needs(lesson.data, model, levers.choice),
        taken_up=(float(found[0]), float(found[1])),
        unneeded=float(found[2]),
    )


def are_heeded(lesson: Lesson) -> bool:
    """Whether TAKE_UP is preferred: needs foretell the reactions of teams kept aside better than the offers by themselves do, and
    outcomes are likelier if answering these needs keeps seats, about as the experts expect, than if it does nothing.

    Our choice: even odds beforehand. People may like what does not help them; the gate asks for proof of whatever was learned.
    """
    if not can_learn_needs(lesson.data):
        return False
    levers, mean, deviation = lesson.levers, np.array(TAKEN_UP_MEAN), np.array(TAKEN_UP_DEVIATION)
    helping = _evidence(levers.gram, levers.cross, mean, deviation)
    nothing = _evidence(levers.gram[1:, 1:], levers.cross[1:], mean[1:], deviation[1:])
    return levers.choice.is_telling and helping > nothing


def _evidence(gram: Floats, cross: Floats, mean: Floats, deviation: Floats) -> float:
    """Log of the likelihood of a regression, its coefficients integrated out under normal priors, up to a constant."""
    scaled = deviation[:, None] * gram * deviation + np.eye(len(mean))
    left = deviation * (cross - gram @ mean)
    fit = mean @ cross - mean @ gram @ mean / 2
    return float(fit + left @ np.linalg.solve(scaled, left) / 2 - np.linalg.slogdet(scaled)[1] / 2)


@dataclass(frozen=True)
class _Levers:
    """Normal equations, (3, 3) and (3,), of what the outcome leaves on three levers: what helps by needs told from other teams,
    any contact, and contact where nothing is needed; each drawn less expected, times the slope. choice: of training.needs.choose."""

    gram: Floats
    cross: Floats
    choice: Choice


def _levers(lesson: Lesson) -> _Levers:
    data, drawn, model = lesson.data, lesson.drawn(), _started(lesson, Learner.TAKE_UP)
    choice = choose(data, model, seed=lesson.seed)
    codes, levels = model.codes(data.seen.categories), [len(names) for names in model.levels]
    helps, nothing = np.zeros(data.propensity.shape), np.zeros(len(data))
    fold = data.folds(lesson.seed + 5, folds=INNER_FOLDS)
    for number in np.unique(fold).tolist():
        past, inside = data.take(fold != number), fold == number
        needs = fit_needs(past if can_learn_needs(past) else data, model, choice)
        at = data.seen.strengths[inside], data.seen.vectors[inside], codes[inside], levels
        helps[inside], nothing[inside] = needs.helps(*at), needs.chances(*at)[:, 0]
    rows = np.stack(((drawn * helps).sum(axis=1), -drawn[:, 0], -drawn[:, 0] * nothing), axis=1)
    rows *= data.seen.slope[:, None]
    weighted = rows * lesson.precision()[:, None]
    return _Levers(weighted.T @ rows, weighted.T @ (data.kept - lesson.chance), choice)


def _learn_contact(lesson: Lesson, model: EffectModel) -> tuple[tuple[lgb.Booster, ...], tuple[float, float], Floats]:
    """Trees of what any contact does beyond the experts' effects, how far they are believed, and (n,) what that is.

    The R learner for contact against none (Nie and Wager 2021, eq. 4), all interventions together: the one question of
    which every decision says something. How far they are believed is the slope of the residuals on what trees of other teams
    say, between nothing and all of it: mean and deviation of its posterior under an even prior on [0, 1].
    """
    data = lesson.data
    drawn = lesson.drawn()
    contacted, precision = -drawn[:, 0], lesson.precision()
    residual = data.kept - lesson.chance - (drawn * data.seen.expert).sum(axis=1)
    rows = model.rows(data.seen, model.codes(data.seen.categories))
    nothing = (), (0.0, 0.0), np.zeros(len(data))
    if min(data.counts()[0], len(data) - data.counts()[0]) < SUPPORT:
        return nothing

    def grown(chosen: Integers) -> lgb.Booster:
        used = chosen[np.abs(contacted[chosen]) > LEAST_DRAWN]
        return fit_trees(
            rows[used],
            residual[used] / contacted[used],
            weight=contacted[used] ** 2 * precision[used],
            seed=lesson.seed,
            threads=lesson.threads,
            min_data_in_leaf=max(int(CONTACT_LEAF_SHARE * len(used)), 20),
            **CONTACT_TREES,
        )

    fold, told = data.folds(lesson.seed + 5, folds=INNER_FOLDS), np.zeros(len(data))
    for number in np.unique(fold).tolist():
        told[fold == number] = grown(np.flatnonzero(fold != number)).predict(
            rows[fold == number], num_threads=lesson.threads
        )
    lever = contacted * told
    information = float(precision @ lever**2)
    if information <= 0:
        return nothing
    slope, error = float(precision @ (lever * residual)) / information, information**-0.5
    posterior = stats.truncnorm(-slope / error, (1 - slope) / error, loc=slope, scale=error)
    believed = float(posterior.mean()), float(posterior.std())
    return (grown(np.arange(len(data))),), believed, believed[0] * told


@dataclass(frozen=True)
class _Moments:
    """Normal equations of the residual regression, factor by factor of the loadings: (f q, f q) and (f q,)."""

    gram: Floats
    cross: Floats
    columns: int


@dataclass(frozen=True)
class _Posterior:
    mean: Floats
    covariance: Floats
    evidence: float
    columns: int


def _moments(lesson: Lesson, model: EffectModel, effects: Floats, loadings: Floats) -> _Moments:
    data = lesson.data
    basis = model.basis(data.seen, model.codes(data.seen.categories)) * data.seen.slope[:, None]
    drawn = lesson.drawn()
    residual = data.kept - lesson.chance - (drawn * effects).sum(axis=1)
    factors = drawn @ loadings
    root = np.sqrt(lesson.precision())
    rows = (factors[:, :, None] * (basis * root[:, None])[:, None, :]).reshape(len(data), -1)
    return _Moments(rows.T @ rows, rows.T @ (residual * root), basis.shape[1])


def _posterior(moments: _Moments, deviations: Floats) -> _Posterior:
    """Normal posterior under independent priors of these deviations by factor, and the log evidence up to a constant."""
    scale = np.repeat(deviations, moments.columns)
    gram = scale[:, None] * moments.gram * scale + np.eye(len(scale))
    cross = scale * moments.cross
    chol = np.linalg.cholesky(gram)
    inverse = np.linalg.inv(chol)
    white = inverse @ cross
    evidence = float(white @ white / 2 - np.log(np.diag(chol)).sum())
    covariance = scale[:, None] * (inverse.T @ inverse) * scale
    return _Posterior(scale * (inverse.T @ white), covariance, evidence, moments.columns)


def _by_arm(posterior: _Posterior, loadings: Floats) -> tuple[Floats, list[Floats]]:
    """(K, q) mean of each arm's coefficients and its (q, q) covariance."""
    factors = loadings.shape[1]
    mean = loadings @ posterior.mean.reshape(factors, posterior.columns)
    blocks = posterior.covariance.reshape(factors, posterior.columns, factors, posterior.columns)
    return np.asarray(mean), [np.einsum("f,fqgr,g->qr", own, blocks, own, optimize=True) for own in loadings]


def _started(lesson: Lesson, learner: Learner) -> EffectModel:
    data = lesson.data
    counts = tuple(data.counts().tolist())
    return replace(blank(data), learner=learner, weights=shrinkage(data), decisions=counts)


def _nested(table: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())


def with_intervals(lesson: Lesson, model: EffectModel) -> EffectModel:
    """The model with the posterior covariance of the basis, whatever its learner: how far its effects may be off."""
    if model.covariance or model.learner is Learner.EXPERT:
        return model
    return replace(model, covariance=learn_prior_r(lesson).covariance)


CANDIDATES: Mapping[Learner, Callable[[Lesson], EffectModel]] = MappingProxyType(
    {
        Learner.EXPERT: learn_expert,
        Learner.LOGISTIC_T: learn_logistic_t,
        Learner.S: learn_s,
        Learner.X: learn_x,
        Learner.S_DR: learn_s_dr,
        Learner.PRIOR_R: learn_prior_r,
        Learner.TAKE_UP: learn_take_up,
    }
)
