"""Whether the interventions kept anyone: each policy against the holdout, against doing nothing and the incumbent."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from features.catalogue import CATEGORIES
from features.instants import to_microseconds
from training.decided import TRIAL_HORIZON_DAYS, Decided, DecisionData, joined
from training.judgement import MIN_PEOPLE, finite
from training.offpolicy import (
    FEWEST_TEAMS,
    Mismatch,
    NoSupport,
    Policy,
    Support,
    Valuation,
    Value,
    dr_scores,
    gain,
    mean_by_team,
    sample_ratio_mismatch,
    support,
    value,
    within_support,
)
from training.outcome import fit_kept, outcome_model

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.str_]

SEGMENTS = ("tool", "role", "function", "region")
POLICY = "policy"  # the segment of the decisions that one policy made
LOGGED, LEARNED = "as decided", "learned effects"


@dataclass(frozen=True)
class Cost:
    """Money per licence kept: cost over gain, with the bounds that the gain's interval gives.

    high is NaN where the gain may be nothing: then no amount of money is surely enough.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Proved:
    """What one policy is worth. Gains are licences kept, per decision.

    against_none, against_incumbent: by DR from the randomised decisions; None where the log cannot tell, and `why` says so.
    left_alone: a sentence on the few decisions where it wants what the log never could have chosen, empty for none.
    """

    name: str
    valuation: Valuation | None
    against_none: Value | None
    against_incumbent: Value | None
    money_per_decision: float
    cost_per_kept: Cost | None
    why: str = ""
    left_alone: str = ""


@dataclass(frozen=True)
class Segment:
    """Gain of what was decided over doing nothing in one group of at least MIN_PEOPLE people."""

    kind: str
    name: str
    people: int
    decisions: int
    gain: Value


@dataclass(frozen=True)
class Proof:
    """The report.

    holdout, holdout_raw: difference of the shares kept TRIAL_HORIZON_DAYS after seats entered an epoch, teams decided about
    less teams left alone, adjusted for what was known when they entered, and raw (training.decided, Trial).
    trial_seats, holdout_seats: entries of the two, in trial_teams and holdout_teams.
    """

    decisions: int
    people: int
    teams: int
    trial_seats: int
    trial_teams: int
    holdout_seats: int
    holdout_teams: int
    censored: int
    holdout_raw: Value | None
    holdout: Value | None
    policies: tuple[Proved, ...]
    segments: tuple[Segment, ...]
    suppressed: Mapping[str, int]
    mismatch: Mismatch
    support: tuple[Support, ...]
    left_out: Mapping[str, int]
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The same for JSON; what cannot be computed is null."""
        found: dict[str, Any] = finite(asdict(self))
        return found


def prove(
    decided: Decided,
    policies: Mapping[str, Policy],
    *,
    learned_until: Mapping[str, datetime] | None = None,
    incumbent: str = LOGGED,
    seed: int = 7,
    threads: int = 1,
) -> Proof:
    """What each policy is worth, on matured decisions.

    policies: by name; LOGGED, what was decided, is always among them. learned_until: of policies that learned from
    decisions, when the last of those was made: only later ones value them, for on those that taught it a policy looks
    better than it is. incumbent: the name of the one to beat. Raises ValueError where no decision has matured yet or the
    incumbent is not among the policies.
    """
    data, held = decided.learning.matured(), decided.holdout.matured()
    entered, left_alone = decided.trial.decided.matured(), decided.trial.held.matured()
    if not len(data):
        waiting = len(decided.learning)
        raise ValueError(
            f"none of {waiting:,} decisions outside the holdout has matured: an outcome is known when 28 days and the silence "
            "after them are over"
            if waiting
            else "the log has no decision outside the holdout, so there is nothing to prove"
            + "".join(f" ({count:,} left out: {why})" for why, count in decided.left_out.items())
        )
    named: dict[str, Policy] = {LOGGED: lambda of: of.propensity, **policies}
    if incumbent not in named:
        raise ValueError(f"incumbent: expected one of {', '.join(named)}, came {incumbent!r}")
    q = outcome_model(data, seed=seed, threads=threads)
    raw, adjusted = _against_holdout(entered, left_alone, seed=seed, threads=threads)
    segments, suppressed = _segments(data, q, made_by=decided.policy[~np.isnan(decided.learning.kept)])
    return Proof(
        decisions=len(data),
        people=len(np.unique(data.people)),
        teams=len(np.unique(data.team)),
        trial_seats=len(entered),
        trial_teams=len(np.unique(entered.team)),
        holdout_seats=len(left_alone),
        holdout_teams=len(np.unique(left_alone.team)),
        censored=len(decided.learning) + len(decided.holdout) - len(data) - len(held),
        holdout_raw=raw,
        holdout=adjusted,
        policies=tuple(
            _proved(name, policy, data, q, named[incumbent], since=(learned_until or {}).get(name))
            for name, policy in named.items()
        ),
        segments=tuple(segments),
        suppressed=suppressed,
        mismatch=sample_ratio_mismatch(decided.learning),
        support=tuple(support(data, data.propensity)),
        left_out=decided.left_out,
        notes=tuple(_notes(data, left_alone)),
    )


def leave_alone(data: DecisionData) -> Floats:
    """The policy that gives `none` to everyone."""
    return np.eye(len(data.arms))[np.zeros(len(data), np.int64)]


def _notes(data: DecisionData, held: DecisionData) -> list[str]:
    notes = []
    if len(np.unique(held.team)) < FEWEST_TEAMS:
        notes.append(
            f"fewer than {FEWEST_TEAMS} teams of the holdout have seats of which it is known whether they were kept "
            f"{TRIAL_HORIZON_DAYS} days after they entered it: nothing is said against it"
        )
    if len(np.unique(data.arm)) < 2:
        notes.append(f"only {data.arms[int(data.arm[0])]} was ever chosen, so nothing can be said of any other step")
    return notes


def _proved(
    name: str, policy: Policy, data: DecisionData, q: Floats, incumbent: Policy, *, since: datetime | None = None
) -> Proved:
    if since is not None:
        later = data.as_of > to_microseconds(since)
        if not later.any():
            why = f"no decision made after it learned ({since.date()}) has matured, so nothing can judge it fairly"
            return Proved(name, None, None, None, float("nan"), None, why)
        data, q = data.take(later), q[later]
    target, left_alone = within_support(data, policy(data))
    money = float((target @ data.cost).mean())
    try:
        found = value(data, target, q)
        against_none = gain(data, target, leave_alone(data), q)
        against_incumbent = gain(data, target, within_support(data, incumbent(data))[0], q)
    except NoSupport as error:
        return Proved(name, None, None, None, money, None, str(error))
    cost = cost_per_kept(money, against_none)
    return Proved(name, found, against_none, against_incumbent, money, cost, left_alone=left_alone)


def cost_per_kept(money: float, kept: Value) -> Cost | None:
    """Money per licence kept; None where nothing seems to have been kept."""
    if not kept.value > 0:
        return None
    high = money / kept.low if kept.low > 0 else float("nan")
    return Cost(money / kept.value, money / kept.high if kept.high > 0 else float("nan"), high)


def _against_holdout(
    data: DecisionData, held: DecisionData, *, seed: int, threads: int
) -> tuple[Value | None, Value | None]:
    """Difference of the means, raw and of kept less what was expected; Welch's t over teams.

    data, held: the two parts of a Trial. What is expected is told from what was known when the seat entered, by models that never
    saw its team; nothing of that can come of what the team was drawn for, so both are unbiased whatever the models are worth.
    A team that is in both, in different epochs, only widens the interval.
    """
    if min(len(np.unique(data.team)), len(np.unique(held.team))) < FEWEST_TEAMS:
        return None, None
    both = joined([data, held])
    chance = np.empty(len(both))
    fold = both.folds(seed)
    for number in np.unique(fold).tolist():
        inside = fold == number
        chance[inside] = fit_kept(both.take(~inside), seed=seed, threads=threads)(both.take(inside))
    split = len(data)
    raw = _difference(data.kept, held.kept, data, held)
    return raw, _difference(data.kept - chance[:split], held.kept - chance[split:], data, held)


def _difference(mine: Floats, theirs: Floats, data: DecisionData, held: DecisionData) -> Value:
    """Difference of two means with teams as clusters. Source: Welch 1947, with cluster-robust variances."""
    parts = [mean_by_team(scores, of.team) for scores, of in ((mine, data), (theirs, held))]
    counts = [len(np.unique(of.team)) for of in (data, held)]
    variances = [((p.high - p.value) / stats.t.ppf(0.975, g - 1)) ** 2 for p, g in zip(parts, counts, strict=True)]
    total = sum(variances)
    freedom = total**2 / max(sum(v**2 / (g - 1) for v, g in zip(variances, counts, strict=True)), 1e-300)
    half = float(stats.t.ppf(0.975, max(freedom, 1.0)) * np.sqrt(total))
    mean = parts[0].value - parts[1].value
    return Value(mean, mean - half, mean + half)


def _segments(data: DecisionData, q: Floats, *, made_by: Texts) -> tuple[list[Segment], dict[str, int]]:
    """Gain of what was decided over doing nothing, by the policy that decided it and by segment; how many groups are too
    small to be shown. made_by: (n,) names of policies.
    """
    scores = dr_scores(data, data.propensity, q) - dr_scores(data, leave_alone(data), q)
    found: list[Segment] = []
    suppressed: dict[str, int] = {}
    place = {feature.name: position for position, feature in enumerate(CATEGORIES)}
    kinds: dict[str, Texts] = {POLICY: np.array([rule_of(name) for name in made_by.tolist()], dtype=str)}
    if data.seen.categories:
        for kind in SEGMENTS:
            if kind in place:
                kinds[kind] = np.array([row[place[kind]] for row in data.seen.categories], dtype=str)
    for kind, names in kinds.items():
        groups = {name: np.flatnonzero(names == name) for name in np.unique(names[names != ""]).tolist()}
        people = {name: len(np.unique(data.people[rows])) for name, rows in groups.items()}
        hidden = {name for name, count in people.items() if count < MIN_PEOPLE}
        if len(hidden) == 1 and len(groups) > 1:  # else it could be told from the whole
            hidden.add(min((name for name in groups if name not in hidden), key=people.__getitem__))
        if hidden:
            suppressed[kind] = len(hidden)
        found += [
            Segment(kind, name, people[name], len(rows), mean_by_team(scores[rows], data.team[rows]))
            for name, rows in groups.items()
            if name not in hidden
        ]
    return found, suppressed


def rule_of(policy: str) -> str:
    """`rule:effects` of a policy's name, without the digest of what it decided by."""
    return ":".join(policy.split(":")[:2])
