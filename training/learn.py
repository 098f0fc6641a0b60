"""One run of learning effects: fit on matured decisions, gate against what chooses now, register, promote."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from features.effects import REGISTERED_EFFECTS, EffectModel, Effects, Learner, expert_model
from features.instants import to_microseconds
from training import registry
from training.decided import DecisionData
from training.effects import Fit, fit_effects
from training.offpolicy import Value, Verdict, greedy, net_of_cost, promotion, support
from training.outcome import outcome_model

Floats = npt.NDArray[np.float64]

JUDGED_IN = 3  # parts of the teams; our choice: more would learn from a little more, and take longer


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


@dataclass(frozen=True)
class Worth:
    """By what `decide` chooses, and so by what policies are judged. seat_value: money of a kept seat; harm_bound: what harms with
    more than this probability is not chosen.
    """

    seat_value: float
    harm_bound: float


def learn(home: Path, data: DecisionData, *, worth: Worth, seed: int = 7, threads: int = 1) -> Learned:
    """Fit, register and, where the gate allows, promote the effects.

    data: decisions outside the holdout. Policies choose as `decide` does with these effects, and are valued net of cost. Where
    too little has matured nothing is registered, and the experts go on.
    """
    fit = fit_effects(data, seed=seed, threads=threads)
    told = {str(learner): found for learner, found in fit.values.items()}
    if fit.model.learner is Learner.EXPERT:
        why = fit.model.note or "no candidate is worth more than the experts, by the DR value on teams it never saw"
        return Learned(Learner.EXPERT, fit.model.note, None, None, False, why, fit.decisions, fit.teams, told)
    verdict = judged(
        fit,
        data,
        incumbent_effects(home, data.arms, prior=data.prior),
        worth=worth,
        number=registry.tries_against_champion(home) + 1,
        seed=seed,
        threads=threads,
    )
    registered = registry.register_effects(
        home,
        fit.model,
        params={
            "learner": str(fit.model.learner),
            "decisions": fit.decisions,
            "teams": fit.teams,
            "seed": seed,
            **asdict(worth),
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
    home: Path, data: DecisionData, *, worth: Worth, version: str | None = None, seed: int = 7, threads: int = 1
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
    mine, theirs = (choose(later, one.effects(later.seen), worth) for one in (model, incumbent))
    net, q = net_of_cost(later, outcome_model(later, seed=seed, threads=threads), worth.seat_value)
    number = registry.tries_against_champion(home) + 1
    verdict = promotion(net, mine, theirs, q, drawn=data, number=number)
    registry.count_proposal(home, wanted)
    if verdict.is_passed:
        registry.promote(home, wanted, name=REGISTERED_EFFECTS)
    return EffectsPromotion(wanted, verdict.is_passed, verdict.why, len(later))


def judged(
    fit: Fit,
    data: DecisionData,
    incumbent: EffectModel,
    *,
    worth: Worth,
    number: int = 1,
    seed: int = 7,
    threads: int = 1,
) -> Verdict:
    """The gate, on the decisions that taught the fit. What is judged is learning itself, the choice among the candidates with it:
    each third of the teams by what is learned, in the same way, from the other two. number: of the try against the incumbent,
    which may have seen all of the decisions, and that favours it.
    """
    matured = data.matured()
    mine = np.empty(matured.propensity.shape)
    fold = matured.folds(seed + 2, folds=JUDGED_IN)
    for part in np.unique(fold).tolist():
        inside = fold == part
        model = fit_effects(matured.take(~inside), seed=seed, threads=threads).model
        at = matured.take(inside)
        mine[inside] = choose(at, model.effects(at.seen), worth)
    theirs = choose(matured, incumbent.effects(matured.seen), worth)
    net, q = net_of_cost(matured, fit.outcome_model, worth.seat_value)
    return promotion(net, mine, theirs, q, drawn=data, number=number)


def incumbent_effects(home: Path, arms: tuple[str, ...], *, prior: str = "") -> EffectModel:
    """The champion's effects; the experts' where there is none, or it knows other arms or features, as serving does."""
    try:
        loaded = registry.load_effects(home)
    except ValueError:
        loaded = None
    if loaded is None or loaded[0].arms != arms or (prior and loaded[0].prior not in ("", prior)):
        return expert_model(arms)
    return loaded[0]


def choose(data: DecisionData, effects: Effects, worth: Worth) -> Floats:
    """(n, K) what `decide` would choose by these effects: the greatest effect times the value of a kept seat less its cost, of
    what is not likelier to harm than the bound. What the harm bound alone ruled out when it was logged may be chosen again.
    """
    known = effects.deviation > 0
    harm = np.where(known, stats.norm.cdf(-effects.mean / np.where(known, effects.deviation, 1.0)), effects.mean < 0)
    open_ = (data.eligible if data.feared is None else data.eligible | data.feared) & (harm <= worth.harm_bound)
    open_[:, 0] = True
    return greedy(effects.mean * worth.seat_value - data.cost, open_)
