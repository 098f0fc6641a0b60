"""Matured decisions as arrays: what was known, what could have been chosen and how likely, what was, what came of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from features.catalogue import NUMERIC, catalogue_hash
from features.compute import pack
from features.decisions import HOLDOUT_DAYS, LIKELY_HARM, NONE, Decision, Stage
from features.effects import Seen, answered_modes, answers, prior_of, seen
from features.events import MICROSECONDS_PER_DAY, Kind
from features.feedback import reaction_id
from features.holdout import EPOCH_DAYS, epoch_end
from features.instants import to_microseconds
from features.interventions import Intervention
from features.log import EventLog
from features.outcomes import read_outcomes
from features.scorer import HORIZONS_DAYS, PRODUCT_HORIZON_DAYS, Method, Scorer
from features.tools import ToolProfile

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]
FeaturesOf = Callable[[list[str], list[datetime]], pl.DataFrame]  # of seats at instants, one row each, in their order

FOLDS = 5
TRIAL_HORIZON_DAYS = (
    14  # with the silence of 28 days after it 42 of an epoch's 56; what ends at 28 days would run into the next
)
REACTION_DAYS = 28  # our choice: after it a reaction is hardly to that intervention any more
_OWNER = ("seat_id", "person_id", "team", "organization")
_ANSWERED = (str(Stage.SEEN), str(Stage.ACCEPTED), str(Stage.DISMISSED))


@dataclass(frozen=True)
class DecisionData:
    """(n,) decisions, aligned. Raises ValueError where the chosen arm had no probability, naming it.

    arms: K names, `none` first; seen: what was known; arm: (n,) position of the chosen one; propensity: (n, K), 0 where it
    was not eligible, rows sum to 1; kept: (n,) 1 or 0 at 28 days, NaN where censored; team, organization, seat: (n,);
    as_of: (n,) microseconds of the decision; cost: (K,) money per use; answers: (K, modes) expert effect by failure mode;
    prior: prior_of(...) the interventions; modes: names of the columns of answers, empty where not known; accepted: (n,) 1
    where the person took up the intervention, 0 where not though seen, NaN where it is not known; None: of no decision.
    feared: (n, K) what the harm bound alone ruled out, by the effects that were believed then: another policy, which believes
    others, might choose it; None: nothing. person: (n,) who holds the seat, None: every seat has its own.
    """

    arms: tuple[str, ...]
    seen: Seen
    arm: Integers
    propensity: Floats
    kept: Floats
    team: Texts
    organization: Texts
    seat: Texts
    as_of: Integers
    cost: Floats
    answers: Floats
    prior: str = ""
    modes: tuple[str, ...] = ()
    accepted: Floats | None = None
    feared: Booleans | None = None
    person: Texts | None = None

    def __post_init__(self) -> None:
        if not self.arms or self.arms[0] != NONE:
            raise ValueError(f"arms: expected {NONE!r} first, came {self.arms}")
        given = self.propensity[np.arange(len(self.arm)), self.arm]
        if not (given > 0).all():
            row = int(np.flatnonzero(~(given > 0))[0])
            raise ValueError(
                f"decision of seat {self.seat[row]}: {self.arms[self.arm[row]]} was chosen with a logged probability of "
                f"{given[row]:g}; expected above zero"
            )
        if not (np.abs(self.propensity.sum(axis=1) - 1) <= 1e-6).all():  # so that NaN is refused, too
            raise ValueError("propensity: expected rows that sum to 1")

    def __len__(self) -> int:
        return len(self.arm)

    @property
    def eligible(self) -> Booleans:
        """(n, K) what could have been chosen."""
        return np.asarray(self.propensity > 0)

    def take(self, chosen: Booleans | Integers) -> "DecisionData":
        """The chosen decisions."""
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else np.asarray(chosen, np.int64)
        names = ("arm", "propensity", "kept", "team", "organization", "seat", "as_of")
        known = (*names, *(name for name in ("accepted", "feared", "person") if getattr(self, name) is not None))
        return replace(self, seen=self.seen.take(rows), **{name: getattr(self, name)[rows] for name in known})

    def matured(self) -> "DecisionData":
        """Those of which it is known what came."""
        return self.take(~np.isnan(self.kept))

    @property
    def people(self) -> Texts:
        """(n,) the person of each decision."""
        return self.seat if self.person is None else self.person

    def counts(self) -> Integers:
        """(K,) how often each arm was chosen."""
        return np.bincount(self.arm, minlength=len(self.arms))

    def folds(self, seed: int, *, folds: int = FOLDS) -> Integers:
        """(n,) fold of each decision, 0 to folds - 1, by team."""
        teams, inverse = np.unique(self.team, return_inverse=True)
        return np.random.default_rng(seed).permutation(np.arange(len(teams)) % folds)[inverse]


@dataclass(frozen=True)
class Trial:
    """Seats as they entered an epoch of the holdout, by what their team was drawn for: decided about, or left alone.

    Each seat once in an epoch, at its first decision, before which nothing was decided about it in this epoch: what is known of
    it then cannot come of the draw. kept: at TRIAL_HORIZON_DAYS, over before the epoch is and teams are drawn anew. What was
    chosen for a seat is not told: it is the team that was drawn.
    """

    decided: DecisionData
    held: DecisionData


@dataclass(frozen=True)
class Decided:
    """The log as it teaches and as it proves.

    learning: outside the holdout; holdout: whole teams left alone. policy: (len(learning),) that made each. left_out: why and
    how many decisions could not be used. trial: the two compared.
    """

    learning: DecisionData
    holdout: DecisionData
    policy: Texts
    left_out: Mapping[str, int]
    trial: Trial


def build_decisions(
    decisions: Sequence[Decision],
    outcomes: Mapping[str, float],
    seats: pa.Table,
    catalogue: Sequence[Intervention],
    *,
    accepted: Mapping[str, float] = MappingProxyType({}),
    entered: Mapping[str, float] = MappingProxyType({}),
) -> Decided:
    """The decisions that can teach: made on today's features, of seats in the roster, of interventions of the catalogue.

    outcomes: decision_id to kept at 28 days (1, 0; NaN or absent: not known yet). seats: SEAT_SCHEMA. accepted: decision_id to
    whether it was taken up (`accepted_of`). entered: of the decisions at which seats entered the trial (`entries`), kept at
    TRIAL_HORIZON_DAYS. Raises ValueError for an outcome of an unknown decision, and one that is neither.

    A retired intervention: what chose it is left out. Where it could merely have been chosen, the others keep their shares of
    what it leaves: given that it was not drawn they were drawn by just these, so the decisions that stay are a fair
    experiment among today's interventions. They speak of the moments at which one of these was drawn.
    """
    ordered = [*(item for item in catalogue if item.id == NONE), *(item for item in catalogue if item.id != NONE)]
    _check_outcomes(outcomes, {decision.decision_id for decision in decisions})
    roster = {row["seat_id"]: row for row in pl.DataFrame(pl.from_arrow(seats.select(_OWNER))).to_dicts()}
    offered = {item.id for item in catalogue}
    owned = [one for one in decisions if one.seat_id in roster]
    known = [one for one in owned if one.features and one.catalogue_hash == catalogue_hash()]
    with_risk = [one for one in known if str(PRODUCT_HORIZON_DAYS) in one.risk]
    stays = [one for one in with_risk if one.intervention in offered]
    left_out = {
        "of seats that are not in the roster any more": len(decisions) - len(owned),
        "without features, or on those of another catalogue": len(owned) - len(known),
        "without a risk at the product horizon": len(known) - len(with_risk),
        "that chose an intervention which is not in the catalogue any more": len(with_risk) - len(stays),
    }
    data = _arrays(stays, outcomes, accepted, roster, ordered)
    held = np.array([decision.holdout for decision in stays], bool)
    policies = np.array([decision.policy for decision in stays], dtype=str)
    told = {why: count for why, count in left_out.items() if count}
    trial = _trial([one for one in with_risk if one.decision_id in entered], entered, roster, ordered)
    return Decided(data.take(~held), data.take(held), policies[~held], told, trial)


def entries(decisions: Sequence[Decision], silence: Mapping[str, timedelta]) -> list[Decision]:
    """The decisions at which seats entered the trial: the first of each seat in each epoch of the holdout, where it is early
    enough that what came of it is over before the epoch is. Which they are does not depend on what was drawn for the team.

    silence: by seat, W of its tool.
    """
    first: dict[tuple[str, datetime], Decision] = {}
    for one in sorted(decisions, key=lambda made: made.decided_at):
        until = epoch_end(one.decided_at, one.terms.get(HOLDOUT_DAYS, EPOCH_DAYS))
        first.setdefault((one.seat_id, until), one)
    horizon = timedelta(days=TRIAL_HORIZON_DAYS)
    return [one for (seat, until), one in first.items() if one.decided_at + horizon + silence[seat] <= until]


def _trial(
    entered: Sequence[Decision],
    kept: Mapping[str, float],
    roster: Mapping[str, Mapping[str, str | None]],
    catalogue: Sequence[Intervention],
) -> Trial:
    untold = [replace(one, intervention=NONE, probabilities={NONE: 1.0}) for one in entered]
    data = _arrays(untold, kept, {}, roster, catalogue)
    held = np.array([one.holdout for one in entered], bool)
    return Trial(data.take(~held), data.take(held))


def joined(parts: Sequence[DecisionData]) -> DecisionData:
    """One after the other; at least one, all of the same arms."""
    at = [part.seen for part in parts]
    return DecisionData(
        arms=parts[0].arms,
        seen=Seen(
            np.concatenate([one.vectors for one in at]),
            [row for one in at for row in one.categories],
            np.concatenate([one.expert for one in at]),
            np.concatenate([one.strengths for one in at]),
            np.concatenate([one.slope for one in at]),
        ),
        arm=np.concatenate([part.arm for part in parts]),
        propensity=np.concatenate([part.propensity for part in parts]),
        kept=np.concatenate([part.kept for part in parts]),
        team=np.concatenate([part.team for part in parts]),
        organization=np.concatenate([part.organization for part in parts]),
        seat=np.concatenate([part.seat for part in parts]),
        as_of=np.concatenate([part.as_of for part in parts]),
        cost=parts[0].cost,
        answers=parts[0].answers,
        prior=parts[0].prior,
        modes=parts[0].modes,
        accepted=_joined_accepted(parts),
        feared=_joined_feared(parts),
        person=np.concatenate([part.people for part in parts]),
    )


def _joined_accepted(parts: Sequence[DecisionData]) -> Floats | None:
    if all(part.accepted is None for part in parts):
        return None
    return np.concatenate([np.full(len(part), np.nan) if part.accepted is None else part.accepted for part in parts])


def _joined_feared(parts: Sequence[DecisionData]) -> Booleans | None:
    if all(part.feared is None for part in parts):
        return None
    return np.concatenate(
        [np.zeros(part.propensity.shape, bool) if part.feared is None else part.feared for part in parts]
    )


def completed(decisions: Sequence[Decision], features: pl.DataFrame, scorer: Scorer) -> list[Decision]:
    """Decisions that were logged without features (imported ones) with those of their moment and the scorer's risk.

    features: `seat_id`, `as_of` and FEATURES of exactly the decisions without any, in their order. The scorer must not have
    learned from what came of them: the rule has not.
    """
    bare = [position for position, decision in enumerate(decisions) if not decision.features]
    found = list(decisions)
    if not bare:
        return found
    vectors, categories = pack(features)
    risk = scorer.score(vectors, categories).risk[:, HORIZONS_DAYS.index(PRODUCT_HORIZON_DAYS)]
    for row, position in enumerate(bare):
        found[position] = replace(
            decisions[position],
            features=tuple(vectors[row].tolist()),
            categories=tuple(categories[row]),
            catalogue_hash=catalogue_hash(),
            risk={str(PRODUCT_HORIZON_DAYS): float(risk[row])},
        )
    return found


def read_decided(
    log: EventLog,
    *,
    tools: Mapping[str, ToolProfile],
    catalogue: Sequence[Intervention],
    features_of: FeaturesOf | None = None,
) -> Decided:
    """All decisions of the log with what came of them: the one reading from which effects are learned, proven and watched.

    features_of: computes the features of decisions that were logged without any (imported ones), which are left out else.
    """
    decisions = log.decisions()
    seats = log.seats({one.seat_id for one in decisions})
    known = set(seats.column("seat_id").to_pylist())
    mine = [one for one in decisions if one.seat_id in known]
    outcomes = read_outcomes(log, mine, tools, horizon_days=PRODUCT_HORIZON_DAYS)
    accepted = accepted_of(mine, log.events(known, kinds=[Kind.REACTION]))
    bare = [(one.seat_id, one.decided_at) for one in mine if not one.features]
    if bare and features_of is not None:
        mine = completed(mine, features_of([seat for seat, _ in bare], [at for _, at in bare]), Scorer(Method.RULE))
    gone = [one for one in decisions if one.seat_id not in known]
    tool_of = dict(zip(*(seats.column(name).to_pylist() for name in ("seat_id", "tool")), strict=True))
    silence = {seat: timedelta(days=tools[tool].silence_days) for seat, tool in tool_of.items()}
    entered = read_outcomes(log, entries(mine, silence), tools, horizon_days=TRIAL_HORIZON_DAYS)
    return build_decisions([*mine, *gone], outcomes, seats, catalogue, accepted=accepted, entered=entered)


def accepted_of(decisions: Sequence[Decision], events: pa.Table) -> dict[str, float]:
    """By decision_id, 1 where the person accepted what was offered, 0 where it was seen or dismissed and not accepted.

    A reaction belongs to the decision that its event id names (`reaction_id`), one that names none of these to the seat's last
    intervention before it, at most REACTION_DAYS ago. Decisions without one are left out.
    """
    named = {reaction_id(one, Stage(stage)): one.decision_id for one in decisions for stage in _ANSWERED}
    acted = [one for one in decisions if one.intervention != NONE]
    reactions = (
        pl.DataFrame(pl.from_arrow(events.select(["event_id", "seat_id", "occurred_at", "kind", "category"])))
        .filter((pl.col("kind") == str(Kind.REACTION)) & pl.col("category").is_in(_ANSWERED))
        .with_columns(named=pl.col("event_id").replace_strict(named, default=None, return_dtype=pl.String))
    )
    by_time = (
        reactions.filter(pl.col("named").is_null())
        .select("seat_id", "category", at=pl.col("occurred_at").cast(pl.Int64))
        .sort("at")
        .join_asof(
            _offers(acted),
            on="at",
            by="seat_id",
            tolerance=REACTION_DAYS * MICROSECONDS_PER_DAY,
            check_sortedness=False,
        )
        .drop_nulls("decision_id")
    )
    by_name = reactions.select("category", decision_id="named").filter(
        pl.col("decision_id").is_in([one.decision_id for one in acted])
    )
    told = (
        pl.concat([by_name, by_time.select("category", "decision_id")])
        .group_by("decision_id")
        .agg(accepted=(pl.col("category") == str(Stage.ACCEPTED)).any())
    )
    return dict(zip(told["decision_id"], told["accepted"].cast(pl.Float64), strict=True))


def _offers(acted: Sequence[Decision]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "seat_id": [one.seat_id for one in acted],
            "at": [to_microseconds(one.decided_at) for one in acted],
            "decision_id": [one.decision_id for one in acted],
        },
        schema={"seat_id": pl.String, "at": pl.Int64, "decision_id": pl.String},
    ).sort("at")


def _check_outcomes(outcomes: Mapping[str, float], known: set[str]) -> None:
    for decision_id, kept in outcomes.items():
        if decision_id not in known:
            raise ValueError(f"outcome of decision {decision_id!r}: there is no such decision in the log")
        if not (kept != kept or kept in (0, 1)):
            raise ValueError(f"outcome of decision {decision_id!r}: expected 1 (kept), 0 or NaN, came {kept}")


def _arrays(
    decisions: Sequence[Decision],
    outcomes: Mapping[str, float],
    accepted: Mapping[str, float],
    roster: Mapping[str, Mapping[str, str | None]],
    catalogue: Sequence[Intervention],
) -> DecisionData:
    place = {intervention.id: position for position, intervention in enumerate(catalogue)}
    propensity = np.zeros((len(decisions), len(catalogue)))
    feared = np.zeros(propensity.shape, bool)
    for row, decision in enumerate(decisions):
        offered = {name: chance for name, chance in decision.probabilities.items() if name in place}
        share = 1.0 if len(offered) == len(decision.probabilities) else sum(offered.values())  # 1.0: exactly as logged
        for name, chance in offered.items():
            propensity[row, place[name]] = chance / share
        for name, reason in decision.guardrails.items():
            if name in place and reason.startswith(LIKELY_HARM):
                feared[row, place[name]] = True
    vectors = np.array([decision.features for decision in decisions], np.float64).reshape(len(decisions), len(NUMERIC))
    risk = np.array([decision.risk[str(PRODUCT_HORIZON_DAYS)] for decision in decisions], np.float64)
    owners = [roster[decision.seat_id] for decision in decisions]
    return DecisionData(
        arms=tuple(place),
        seen=seen(vectors, [list(decision.categories) for decision in decisions], risk, catalogue),
        arm=np.array([place[decision.intervention] for decision in decisions], np.int64),
        propensity=propensity,
        kept=np.array([outcomes.get(decision.decision_id, np.nan) for decision in decisions], np.float64),
        team=np.array([f"{one['organization']}/{one['team'] or one['seat_id']}" for one in owners], dtype=str),
        organization=np.array([one["organization"] for one in owners], dtype=str),
        seat=np.array([decision.seat_id for decision in decisions], dtype=str),
        as_of=np.array([to_microseconds(decision.decided_at) for decision in decisions], np.int64),
        cost=np.array([intervention.cost for intervention in catalogue]),
        answers=answers(catalogue),
        prior=prior_of(catalogue),
        modes=tuple(str(mode) for mode in answered_modes(catalogue)),
        accepted=np.array([accepted.get(decision.decision_id, np.nan) for decision in decisions], np.float64),
        feared=feared,
        person=np.array([one["person_id"] for one in owners], dtype=str),
    )
