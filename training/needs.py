"""Which need stands in a seat's way, learned from which offers people took up: far more is known of that than of outcomes.

An offer that answers what somebody needs is accepted more often than another. The need itself is never seen, so the
likelihood sums over it (a mixture of experts, Jordan and Jacobs 1994, with Bernoulli reactions). Which offers answer a need
that the experts have no word for is learned, too.

Reactions are few beside the decisions. So all decisions teach, those without a reaction by what is said of them so far
(self-training; Nigam et al. 2000): a person needs the same at all of its decisions, and who needs the same behaves alike. That is
believed only where it foretells the reactions of teams that it did not see no worse than reactions alone do.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from features.diagnosis import SIGNS
from features.effects import EffectModel
from features.line import Line
from features.needs import NOTHING, UNNAMED, Needs, design, softmax
from training.decided import DecisionData
from training.offpolicy import mean_by_team
from training.outcome import fit_line

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]
Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

FEWEST_REACTIONS = 500  # our choice: below it the experts' signs are all that is known
# Ridge of the regression, by kind of input; our choice, found on simulated rollouts that no figure is reported of. A sign of a
# mode weighs for it beforehand; a name (role, function) is one of few, a number one of a hundred. The level of a need is held, so
# that none dies out before anything was learned of it.
SIGN_RIDGE, NAME_RIDGE, LEVEL_RIDGE = 300.0, 3.0, 5.0
NUMBER_RIDGES = (100.0, 1_000.0)  # the teams kept aside choose: few numbers may each say much, a hundred rarely do
SIGN_WEIGHT = 2.0
NOTHING_LEVEL, MODE_LEVEL = 1.0, -0.5
LIKELIER, LESS_LIKELY = (
    1.8,
    0.75,
)  # times the mean acceptance, where the offer answers the need, and where not: to start from
# Chances, before any reaction, that an offer answers a need: as the experts say, as they do not say, and where nothing is needed.
SAID, NOT_SAID, NOT_NEEDED = 0.9, 0.1, 0.02
ROUNDS, STEPS = 4, 30  # of weights given what is answered and how gladly it is accepted, and of these given the weights
RATE_DECISIONS = 100.0  # of all interventions together, beside an intervention's own
OWN_ROUNDS, OWN_STEPS, OWN_RIDGE = 8, 12, 100.0  # of what all decisions teach: rounds, steps in each, ridge
LEAST_CHANCE = 1e-9
TRIED_ON = 3  # one team in so many is kept aside to see what foretells reactions
TEMPERS = (0.5, 0.7, 1.0)  # what all decisions teach is too sure of itself, which does not count against it


@dataclass(frozen=True)
class _Reactions:
    """How reactions come about: all (Z, K). answers: chance that the offer answers the need; gladly, rarely: how likely it is
    accepted where it does and where not."""

    answers: Floats
    gladly: Floats
    rarely: Floats

    def likelihood(self, arm: Integers, accepted: Floats) -> Floats:
        """(n, Z) of each reaction under each need."""
        rate = (self.answers * self.gladly + (1 - self.answers) * self.rarely)[:, arm].T
        return np.asarray(np.where(accepted[:, None] > 0, rate, 1 - rate))


def reacted(data: DecisionData) -> Integers:
    """Rows of interventions of which it is known whether they were taken up."""
    if data.accepted is None:
        return np.zeros(0, np.int64)
    return np.flatnonzero((data.arm > 0) & ~np.isnan(data.accepted))


def can_learn_needs(data: DecisionData) -> bool:
    """Whether there are reactions enough, of both kinds, and failure modes that interventions answer."""
    rows = reacted(data)
    return bool(data.modes) and len(rows) >= FEWEST_REACTIONS and len(np.unique(_accepted(data)[rows])) == 2


@dataclass(frozen=True)
class Choice:
    """What teams kept aside chose. ridge: of NUMBER_RIDGES; by_people: whether all decisions teach, or reactions alone; is_telling:
    whether needs surely (95 %) foretell reactions better than the offer by itself does."""

    ridge: float
    by_people: bool
    is_telling: bool = True


@dataclass(frozen=True)
class _Inputs:
    """What the regression reads. rows: (n, inputs) of all decisions; start, ridge: weights before any reaction, and what holds
    them there."""

    kinds: tuple[str, ...]
    line: Line
    rows: Rows
    start: Floats
    ridge: Floats


def fit_needs(data: DecisionData, model: EffectModel, choice: Choice) -> Needs:
    """Needs of (n,) decisions by the reactions to them. model: knows the names of the categories. choice: of choose(...).

    Raises ValueError where can_learn_needs(data) is false.
    """
    _check(data)
    read = _read(data, model, choice.ridge)
    weights, reactions = _by_reactions(data, read.rows, read)
    if choice.by_people:
        weights = _by_people(data, read.rows, weights, reactions)
    fitted = replace(
        read.line, weights=tuple(map(tuple, weights[1:].T.tolist())), intercepts=tuple(weights[0].tolist())
    )
    return Needs(read.kinds, fitted, tuple(map(tuple, _relief(data, reactions).tolist())))


def choose(data: DecisionData, model: EffectModel, *, seed: int = 7) -> Choice:
    """The choice that foretells best the reactions of teams kept aside; the first where there are too few to tell.

    Raises ValueError where can_learn_needs(data) is false.
    """
    _check(data)
    aside = data.folds(seed, folds=TRIED_ON) == 0
    past, later = data.take(~aside), data.take(aside)
    rows = reacted(later)
    if not can_learn_needs(past) or not len(rows):
        return Choice(NUMBER_RIDGES[0], by_people=False, is_telling=False)
    found: list[tuple[float, Choice, Floats]] = []
    for ridge in NUMBER_RIDGES:
        read = _read(data, model, ridge)
        weights, reactions = _by_reactions(past, read.rows[~aside], read)
        likelihood = reactions.likelihood(later.arm[rows], _accepted(later)[rows])
        by_people = _by_people(past, read.rows[~aside], weights, reactions)
        asked = read.rows[aside][rows]
        for is_all, tried in ((False, weights), *((True, temper * by_people) for temper in TEMPERS)):
            foretold = np.log((softmax(asked @ tried) * likelihood).sum(axis=1))
            found.append((float(foretold.mean()), Choice(ridge, is_all), foretold))
    _, choice, foretold = max(found, key=lambda one: one[0])
    gain = mean_by_team(foretold - _by_offer(past, later), later.team[rows])
    return replace(choice, is_telling=bool(gain.low > 0))


def _by_offer(past: DecisionData, later: DecisionData) -> Floats:
    """(n,) log-likelihood of each later reaction where it only matters what was offered."""
    rows, asked = reacted(past), reacted(later)
    taken, offered = (
        np.bincount(past.arm[rows], weights=weight, minlength=len(past.arms))
        for weight in (_accepted(past)[rows], np.ones(len(rows)))
    )
    rate = (taken + RATE_DECISIONS * taken.sum() / offered.sum()) / (offered + RATE_DECISIONS)
    chance = rate[later.arm[asked]]
    return np.asarray(np.log(np.where(_accepted(later)[asked] > 0, chance, 1 - chance)))


def _check(data: DecisionData) -> None:
    if not can_learn_needs(data):
        raise ValueError(f"reactions: expected {FEWEST_REACTIONS} of both kinds at least, came {len(reacted(data))}")


def _read(data: DecisionData, model: EffectModel, number_ridge: float) -> _Inputs:
    kinds = (NOTHING, *data.modes, UNNAMED)
    codes, levels = model.codes(data.seen.categories), [len(names) for names in model.levels]
    line, _ = fit_line(data.seen.vectors, lambda made: made.design(data.seen.vectors[:1], codes[:1], levels))
    inputs = np.concatenate(
        (np.ones((len(data), 1)), design(line, data.seen.strengths, data.seen.vectors, codes, levels)), axis=1
    ).astype(np.float32)  # half the time, and none of the digits that reactions could tell
    start, ridge = _beforehand(data, kinds, len(line.mean), inputs.shape[1], number_ridge)
    return _Inputs(kinds, line, inputs, start, ridge)


def _relief(data: DecisionData, reactions: _Reactions) -> Floats:
    """(Z, K) what the experts expect where an offer answers the need; of what they do not speak of, their usual word."""
    said = np.concatenate((np.zeros((1, len(data.arms))), data.answers.T, np.zeros((1, len(data.arms)))))
    usual = float(said[said > 0].mean())
    relief = reactions.answers * np.where(said > 0, said, usual)
    relief[0] = 0
    return np.asarray(relief)


def _accepted(data: DecisionData) -> Floats:
    assert data.accepted is not None
    return data.accepted


def _beforehand(
    data: DecisionData, kinds: tuple[str, ...], numbers: int, inputs: int, number_ridge: float
) -> tuple[Floats, Floats]:
    """(inputs, Z) weights before any reaction, and (inputs,) the ridge that holds them there."""
    signs = data.seen.strengths.shape[1]
    start = np.zeros((inputs, len(kinds)))
    start[0] = MODE_LEVEL
    start[0, 0] = NOTHING_LEVEL
    for column, mode in enumerate(SIGNS):
        if mode in kinds:
            kind = kinds.index(mode)
            start[1 + column, kind] = SIGN_WEIGHT
            start[0, kind] += SIGN_WEIGHT  # a sign runs from -1: its absence says little
    ridge = np.full(inputs, NAME_RIDGE)
    ridge[0], ridge[1 : 1 + signs], ridge[1 + signs : 1 + signs + numbers] = LEVEL_RIDGE, SIGN_RIDGE, number_ridge
    return start, ridge


def _by_reactions(data: DecisionData, inputs: Rows, read: _Inputs) -> tuple[Floats, _Reactions]:
    """(inputs, Z) weights of the greatest penalised likelihood of the reactions, and what answers what."""
    rows = reacted(data)
    arm, accepted, inputs = data.arm[rows], _accepted(data)[rows], inputs[rows]
    before = _said(data)
    mean = float(accepted.mean())
    gladly, rarely = (np.full(before.shape, rate) for rate in (min(LIKELIER * mean, 0.9), LESS_LIKELY * mean))
    reactions, weights = _Reactions(before, gladly, rarely), read.start
    for _ in range(ROUNDS):
        likelihood = reactions.likelihood(arm, accepted)
        weights = _weights(inputs, likelihood, weights, read.start, read.ridge)
        joint = softmax(inputs @ weights) * likelihood
        reactions = _reactions(joint / joint.sum(axis=1, keepdims=True), before, reactions, arm, accepted)
    return weights, reactions


def _said(data: DecisionData) -> Floats:
    """(Z, K) chances that an offer answers a need before any reaction; 0 for `none`."""
    named = np.where(data.answers.T > 0, SAID, NOT_SAID)
    nothing, unnamed = (np.full((1, len(data.arms)), chance) for chance in (NOT_NEEDED, named[:, 1:].mean()))
    before = np.concatenate((nothing, named, unnamed))
    before[:, 0] = 0
    return np.asarray(before)


def _weights(inputs: Rows, likelihood: Floats, first: Floats, start: Floats, ridge: Floats) -> Floats:
    """(inputs, Z) weights of the greatest penalised likelihood of the reactions."""

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(start.shape)
        chances = softmax(inputs @ weights)
        joint = chances * likelihood
        total = joint.sum(axis=1, keepdims=True)
        away = ridge[:, None] * (weights - start)
        value = -np.log(total).sum() + (away * (weights - start)).sum() / 2
        return float(value), (inputs.T @ (chances - joint / total) + away).ravel()

    found = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return np.asarray(found.x).reshape(start.shape)


def _reactions(posterior: Floats, before: Floats, last: _Reactions, arm: Integers, accepted: Floats) -> _Reactions:
    """What answers what, and how gladly offers are then accepted, given (n, Z) chances of the needs."""
    offered, taken = (
        np.stack([posterior.T @ (weight * (arm == one)) for one in range(before.shape[1])], axis=1)
        for weight in (np.ones(len(arm)), accepted)
    )
    is_open = before > 0
    odds = np.log(np.where(is_open, before, 0.5) / (1 - np.where(is_open, before, 0.5)))
    odds += taken * np.log(last.gladly / last.rarely)
    odds += (offered - taken) * np.log((1 - last.gladly) / (1 - last.rarely))
    answers = np.where(is_open, 1 / (1 + np.exp(-np.clip(odds, -30, 30))), 0.0)
    rates = []
    for weight in (answers, np.where(is_open, 1 - answers, 0.0)):
        own, of = (weight * taken).sum(axis=0), (weight * offered).sum(axis=0)
        whole = own.sum() / max(of.sum(), 1e-9)
        rate = (own + RATE_DECISIONS * whole) / (of + RATE_DECISIONS)
        rates.append(np.broadcast_to(np.clip(rate, 0.01, 0.99), before.shape))
    return _Reactions(answers, rates[0], rates[1])


def _by_people(data: DecisionData, inputs: Rows, weights: Floats, reactions: _Reactions) -> Floats:
    """(inputs, Z) weights taught by all decisions, each person's taken together: whom the reactions say little of is told by
    whom it is like.

    k decisions of one person count as the root of k, for they are much alike; each reaction counts in full. Each round
    moves the shares of the needs toward what the reactions alone made them (Berthelot et al. 2020, section 3.1), else a rare need
    would die out.
    """
    rows = reacted(data)
    people = np.unique(data.seat, return_inverse=True)[1]
    decisions = np.bincount(people)[:, None]
    told = np.zeros((len(decisions), weights.shape[1]))
    np.add.at(told, people[rows], np.log(reactions.likelihood(data.arm[rows], _accepted(data)[rows])))
    shares = softmax(inputs @ weights).mean(axis=0)
    ridge = np.full(inputs.shape[1], OWN_RIDGE)
    ridge[0] = LEVEL_RIDGE
    for _ in range(OWN_ROUNDS):
        said = np.zeros_like(told)
        np.add.at(said, people, np.log(np.maximum(softmax(inputs @ weights), LEAST_CHANCE)))
        scores = said / np.sqrt(decisions) + told
        now = (decisions * softmax(scores)).sum(axis=0) / len(data)
        scores += np.log(shares / np.maximum(now, LEAST_CHANCE))
        weights = _taught(inputs, softmax(scores)[people], weights, ridge)
    return weights


def _taught(inputs: Rows, target: Floats, first: Floats, ridge: Floats) -> Floats:
    """(inputs, Z) weights of the multinomial regression of (n, Z) chances."""

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(first.shape)
        scores = inputs @ weights
        chances = softmax(scores)
        value = -(target * np.log(np.maximum(chances, LEAST_CHANCE))).sum() + (ridge[:, None] * weights**2).sum() / 2
        return float(value), (inputs.T @ (chances - target) + ridge[:, None] * weights).ravel()

    found = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": OWN_STEPS})
    return np.asarray(found.x).reshape(first.shape)
