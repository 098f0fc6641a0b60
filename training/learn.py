"""One run of learning effects: fit on matured decisions, gate against what chooses now, register, promote."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.effects import REGISTERED_EFFECTS, EffectModel, Learner, expert_model
from features.instants import to_microseconds
from training import registry
from training.decided import DecisionData
from training.effects import Fit, fit_effects
from training.offpolicy import Value, Verdict, greedy, net_of_cost, promotion, support
from training.outcome import outcome_model

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Learned:
    """What a run came to. values: DR gain of each candidate over the experts' choice. why: of the verdict, in a sentence."""

    learner: Learner
    note: str
    version: str | None
    run_id: str | None
    is_promoted: bool
    why: str
    decisions: int
    teams: int
    values: Mapping[str, Value]


def learn(home: Path, data: DecisionData, *, seat_value: float, seed: int = 7, threads: int = 1) -> Learned:
    """Fit, register and, where the gate allows, promote the effects.

    data: decisions outside the holdout. seat_value: money of a kept seat; policies choose by effect times it less cost, and
    are valued net of cost. Where too little has matured nothing is registered, and the experts go on.
    """
    fit = fit_effects(data, seed=seed, threads=threads)
    told = {str(learner): found for learner, found in fit.values.items()}
    if fit.model.learner is Learner.EXPERT:
        why = fit.model.note or "no candidate is worth more than the experts, by the DR value on teams it never saw"
        return Learned(Learner.EXPERT, fit.model.note, None, None, False, why, fit.decisions, fit.teams, told)
    verdict = _verdict(home, fit, data.matured(), seat_value=seat_value)
    registered = registry.register_effects(
        home,
        fit.model,
        params={
            "learner": str(fit.model.learner),
            "decisions": fit.decisions,
            "teams": fit.teams,
            "seed": seed,
            "seat_value": seat_value,
            "trained_until": fit.model.trained_until,
        },
        metrics={f"gain_{name}": found.value for name, found in told.items()}
        | {f"decisions_{arm}": float(count) for arm, count in zip(fit.model.arms, fit.model.decisions, strict=True)},
        documents={
            "candidates.json": {name: asdict(found) for name, found in told.items()},
            "support.json": [asdict(row) for row in support(data, data.propensity)],
            "verdict.json": asdict(verdict),
        },
    )
    if verdict.is_passed:
        registry.promote(home, registered.version, name=REGISTERED_EFFECTS)
    return Learned(
        fit.model.learner, fit.model.note, registered.version, registered.run_id, verdict.is_passed, verdict.why,
        fit.decisions, fit.teams, told,
    )  # fmt: skip


@dataclass(frozen=True)
class EffectsPromotion:
    """What became of a version that was proposed. decisions: matured ones made after it learned, on which it was judged."""

    version: str
    is_promoted: bool
    why: str
    decisions: int


def promote_effects(
    home: Path, data: DecisionData, *, seat_value: float, version: str | None = None, seed: int = 7, threads: int = 1
) -> EffectsPromotion:
    """Promote a registered version, the newest by default, if it passes the gate on decisions made after it learned.

    Raises ValueError where there is no such version, or it knows other arms than the decisions.
    """
    wanted = version or registry.latest_version(home, name=REGISTERED_EFFECTS)
    model = registry.load_effects_version(home, wanted)
    if model.arms != data.arms:
        raise ValueError(
            f"version {wanted} knows {', '.join(model.arms)}; the decisions are among {', '.join(data.arms)}"
        )
    if registry.champion_version(home, name=REGISTERED_EFFECTS) == wanted:
        return EffectsPromotion(wanted, True, "it tells the effects already", 0)
    learned_until = (
        datetime.fromisoformat(model.trained_until) if model.trained_until else datetime.min.replace(tzinfo=UTC)
    )
    later = data.matured()
    later = later.take(later.as_of > to_microseconds(learned_until))
    if not len(later):
        why = f"no decision made after it learned ({learned_until.date()}) has matured, so nothing can judge it fairly"
        return EffectsPromotion(wanted, False, why, 0)
    incumbent = incumbent_effects(home, data.arms, prior=data.prior)
    mine, theirs = (choose(later, one.effects(later.seen).mean, seat_value) for one in (model, incumbent))
    net, q = net_of_cost(later, outcome_model(later, seed=seed, threads=threads), seat_value)
    verdict = promotion(net, mine, theirs, q)
    if verdict.is_passed:
        registry.promote(home, wanted, name=REGISTERED_EFFECTS)
    return EffectsPromotion(wanted, verdict.is_passed, verdict.why, len(later))


def _verdict(home: Path, fit: Fit, data: DecisionData, *, seat_value: float) -> Verdict:
    """The gate, the candidate's effects cross-fitted by team; the incumbent may have seen them, which favours it."""
    incumbent = incumbent_effects(home, data.arms, prior=data.prior)
    mine, theirs = (choose(data, effects, seat_value) for effects in (fit.told, incumbent.effects(data.seen).mean))
    net, q = net_of_cost(data, fit.outcome_model, seat_value)
    return promotion(net, mine, theirs, q)


def incumbent_effects(home: Path, arms: tuple[str, ...], *, prior: str = "") -> EffectModel:
    """The champion's effects; the experts' where there is none, or it knows other arms or features, as serving does."""
    try:
        loaded = registry.load_effects(home)
    except ValueError:
        loaded = None
    if loaded is None or loaded[0].arms != arms or (prior and loaded[0].prior not in ("", prior)):
        return expert_model(arms)
    return loaded[0]


def choose(data: DecisionData, effects: Floats, seat_value: float) -> Floats:
    """(n, K) the arm of the greatest worth, effect times the value of a kept seat less its cost."""
    return greedy(effects * seat_value - data.cost, data.eligible)
