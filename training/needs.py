"""Which need stands in a seat's way, learned from which offers people took up: far more is known of that than of outcomes.

An offer that answers what somebody needs is accepted more often than another. The need itself is never seen, so the
likelihood sums over it (a mixture of experts, Jordan and Jacobs 1994, with Bernoulli reactions).
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from features.diagnosis import SIGNS
from features.effects import EffectModel
from features.needs import NOTHING, UNNAMED, Needs, design, softmax
from training.decided import DecisionData
from training.outcome import fit_line

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

FEWEST_REACTIONS = 500  # our choice: below it the experts' signs are all that is known
# Ridge of the regression, by kind of input; our choice, found on simulated rollouts that no figure is reported of. A sign of a
# mode weighs for it beforehand; a name (role, function) is one of few, a number one of a hundred.
SIGN_RIDGE, NUMBER_RIDGE, NAME_RIDGE, LEVEL_RIDGE = 30.0, 100.0, 3.0, 0.5
SIGN_WEIGHT = 2.0
NOTHING_LEVEL, MODE_LEVEL = 1.0, -0.5
LIKELIER, LESS_LIKELY = (
    1.8,
    0.75,
)  # times the mean acceptance, where the offer answers the need, and where not: to start from
ROUNDS = 2  # of weights given acceptance and acceptance given weights
RATE_DECISIONS = 100.0  # of all interventions together, beside an intervention's own
STEPS = 100


def reacted(data: DecisionData) -> Integers:
    """Rows of interventions of which it is known whether they were taken up."""
    if data.accepted is None:
        return np.zeros(0, np.int64)
    return np.flatnonzero((data.arm > 0) & ~np.isnan(data.accepted))


def can_learn_needs(data: DecisionData) -> bool:
    """Whether there are reactions enough, of both kinds, and failure modes that interventions answer."""
    rows = reacted(data)
    return bool(data.modes) and len(rows) >= FEWEST_REACTIONS and len(np.unique(_accepted(data)[rows])) == 2


def fit_needs(data: DecisionData, model: EffectModel) -> Needs:
    """Needs of (n,) decisions by the reactions to them. model: knows the names of the categories.

    Raises ValueError where can_learn_needs(data) is false.
    """
    if not can_learn_needs(data):
        raise ValueError(f"reactions: expected {FEWEST_REACTIONS} of both kinds at least, came {len(reacted(data))}")
    answered = np.concatenate((np.zeros((1, len(data.arms))), data.answers.T, np.zeros((1, len(data.arms)))))
    kinds = (NOTHING, *data.modes, UNNAMED)
    rows = reacted(data)
    codes, levels = model.codes(data.seen.categories), [len(names) for names in model.levels]
    line, _ = fit_line(data.seen.vectors, lambda made: made.design(data.seen.vectors[:1], codes[:1], levels))
    at = data.seen.take(rows)
    inputs = np.concatenate(
        (np.ones((len(rows), 1)), design(line, at.strengths, at.vectors, codes[rows], levels)), axis=1
    )
    start, ridge = _beforehand(data, kinds, len(line.mean), inputs.shape[1])
    arm, accepted = data.arm[rows], _accepted(data)[rows]
    answers_it = answered[:, arm].T > 0
    mean = float(accepted.mean())
    rate = np.where(answers_it, min(LIKELIER * mean, 0.9), LESS_LIKELY * mean)
    rate[:, -1] = mean
    weights = start
    for _ in range(ROUNDS):
        likelihood = np.where(accepted[:, None] > 0, rate, 1 - rate)
        weights = _weights(inputs, likelihood, weights, start, ridge)
        posterior = softmax(inputs @ weights) * likelihood
        posterior /= posterior.sum(axis=1, keepdims=True)
        rate = _rates(posterior, answers_it, arm, accepted, len(data.arms))
    fitted = type(line)(
        line.fill, line.mean, line.scale, tuple(map(tuple, weights[1:].T.tolist())), tuple(weights[0].tolist())
    )
    return Needs(kinds, fitted, tuple(map(tuple, answered.tolist())))


def _accepted(data: DecisionData) -> Floats:
    assert data.accepted is not None
    return data.accepted


def _beforehand(data: DecisionData, kinds: tuple[str, ...], numbers: int, inputs: int) -> tuple[Floats, Floats]:
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
    ridge[0], ridge[1 : 1 + signs], ridge[1 + signs : 1 + signs + numbers] = LEVEL_RIDGE, SIGN_RIDGE, NUMBER_RIDGE
    return start, ridge


def _weights(inputs: Floats, likelihood: Floats, first: Floats, start: Floats, ridge: Floats) -> Floats:
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


def _rates(posterior: Floats, answers_it: Booleans, arm: Integers, accepted: Floats, arms: int) -> Floats:
    """(n, Z) how likely each need accepts the offered arm: by arm and by whether it answers, shrunk to that of all arms.

    UNNAMED has rates of its own.
    """
    rate = np.zeros_like(posterior)
    is_named = np.arange(posterior.shape[1]) < posterior.shape[1] - 1
    for group in (answers_it & is_named, ~answers_it & is_named, np.broadcast_to(~is_named, posterior.shape)):
        mass = np.where(group, posterior, 0).sum(axis=1)
        whole = float((mass @ accepted) / max(mass.sum(), 1e-9))
        taken, offered = (np.bincount(arm, weights=w, minlength=arms) for w in (mass * accepted, mass))
        own = (taken + RATE_DECISIONS * whole) / (offered + RATE_DECISIONS)
        rate = np.where(group, own[arm][:, None], rate)
    return np.asarray(np.clip(rate, 0.01, 0.99))
