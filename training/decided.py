"""Matured decisions as arrays: what was known, what could have been chosen and how likely, what was, what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from features.catalogue import NUMERIC, catalogue_hash
from features.compute import SNAPSHOT_SCHEMA, pack
from features.decisions import NONE, Decision, Stage
from features.effects import Seen, answered_modes, answers, prior_of, seen
from features.events import MICROSECONDS_PER_DAY, Kind
from features.instants import to_microseconds
from features.interventions import Intervention
from features.labels import abandoned_by, label_snapshots
from features.scorer import HORIZONS_DAYS, PRODUCT_HORIZON_DAYS, Scorer
from features.sources import Source
from features.tools import ToolProfile

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]

FOLDS = 5
REACTION_DAYS = 28  # our choice: after it a reaction is hardly to that intervention any more
_ANSWERED = (str(Stage.SEEN), str(Stage.ACCEPTED), str(Stage.DISMISSED))


@dataclass(frozen=True)
class DecisionData:
    """(n,) decisions, aligned. Raises ValueError where the chosen arm had no probability, naming it.

    arms: K names, `none` first; seen: what was known; arm: (n,) position of the chosen one; propensity: (n, K), 0 where it
    was not eligible, rows sum to 1; kept: (n,) 1 or 0 at 28 days, NaN where censored; team, organization, seat: (n,);
    as_of: (n,) microseconds of the decision; cost: (K,) money per use; answers: (K, modes) expert effect by failure mode;
    prior: prior_of(...) the interventions; modes: names of the columns of answers, empty where not known; accepted: (n,) 1
    where the person took up the intervention, 0 where not though seen, NaN where it is not known; None: of no decision.
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
        if len(self.arm) and np.abs(self.propensity.sum(axis=1) - 1).max() > 1e-6:
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
        accepted = None if self.accepted is None else self.accepted[rows]
        columns = {name: getattr(self, name)[rows] for name in names}
        return replace(self, seen=self.seen.take(rows), accepted=accepted, **columns)

    def matured(self) -> "DecisionData":
        """Those of which it is known what came."""
        return self.take(~np.isnan(self.kept))

    def counts(self) -> Integers:
        """(K,) how often each arm was chosen."""
        return np.bincount(self.arm, minlength=len(self.arms))

    def folds(self, seed: int, *, folds: int = FOLDS) -> Integers:
        """(n,) fold of each decision, 0 to folds - 1, by team."""
        teams, inverse = np.unique(self.team, return_inverse=True)
        return np.random.default_rng(seed).permutation(np.arange(len(teams)) % folds)[inverse]


@dataclass(frozen=True)
class Decided:
    """The log as it teaches and as it proves.

    learning: outside the holdout; holdout: whole teams left alone, the control for the proof. policy: (len(learning),) that
    made each. left_out: why and how many decisions could not be used.
    """

    learning: DecisionData
    holdout: DecisionData
    policy: Texts
    left_out: Mapping[str, int]


def build_decisions(
    decisions: Sequence[Decision],
    outcomes: Mapping[str, float],
    seats: pa.Table,
    catalogue: Sequence[Intervention],
    *,
    accepted: Mapping[str, float] = MappingProxyType({}),
) -> Decided:
    """The decisions that were made on today's features.

    outcomes: decision_id to kept at 28 days (1, 0; NaN or absent: not known yet). seats: SEAT_SCHEMA. accepted: decision_id to
    whether it was taken up (`accepted_of`). Raises ValueError
    for an outcome of an unknown decision, an outcome that is neither, a decision on an unknown seat or intervention.
    """
    ordered = [*(item for item in catalogue if item.id == NONE), *(item for item in catalogue if item.id != NONE)]
    _check_outcomes(outcomes, {decision.decision_id for decision in decisions})
    chosen = [decision for decision in decisions if decision.features and decision.catalogue_hash == catalogue_hash()]
    with_risk = [decision for decision in chosen if str(PRODUCT_HORIZON_DAYS) in decision.risk]
    left_out = {
        "without features, or on those of another catalogue": len(decisions) - len(chosen),
        "without a risk at the product horizon": len(chosen) - len(with_risk),
    }
    data = _arrays(with_risk, outcomes, accepted, seats, ordered)
    held = np.array([decision.holdout for decision in with_risk], bool)
    policies = np.array([decision.policy for decision in with_risk], dtype=str)
    return Decided(data.take(~held), data.take(held), policies[~held], {k: v for k, v in left_out.items() if v})


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
    )


def _joined_accepted(parts: Sequence[DecisionData]) -> Floats | None:
    if all(part.accepted is None for part in parts):
        return None
    return np.concatenate([np.full(len(part), np.nan) if part.accepted is None else part.accepted for part in parts])


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


def outcomes_of(
    decisions: Sequence[Decision],
    *,
    events: pa.Table,
    seats: pa.Table,
    sources: Sequence[Source],
    tools: Mapping[str, ToolProfile],
) -> dict[str, float]:
    """By decision_id, 1 where no silence had begun 28 days after it, 0 where one had, NaN where not known yet.

    By the code of the labels, but seen past later interventions: an effect is that of the decision with whatever followed from
    it. Guided events are no meaningful use.
    """
    if not decisions:
        return {}
    undisturbed = events.filter(pc.not_equal(events["kind"], str(Kind.INTERVENTION)))
    snapshots = pl.DataFrame(
        {"seat_id": [one.seat_id for one in decisions], "as_of": [one.decided_at for one in decisions]},
        schema=SNAPSHOT_SCHEMA,
    )
    labels = label_snapshots(snapshots, events=undisturbed, seats=seats, sources=sources, tools=tools)
    kept = 1 - abandoned_by(labels, PRODUCT_HORIZON_DAYS)
    return dict(zip((one.decision_id for one in decisions), kept.tolist(), strict=True))


def accepted_of(decisions: Sequence[Decision], events: pa.Table) -> dict[str, float]:
    """By decision_id, 1 where the person accepted what was offered, 0 where it was seen or dismissed and not accepted.

    A reaction belongs to the seat's last intervention before it, at most REACTION_DAYS ago; decisions without one are left out.
    """
    acted = [one for one in decisions if one.intervention != NONE]
    offers = pl.DataFrame(
        {
            "seat_id": [one.seat_id for one in acted],
            "at": [to_microseconds(one.decided_at) for one in acted],
            "decision_id": [one.decision_id for one in acted],
        },
        schema={"seat_id": pl.String, "at": pl.Int64, "decision_id": pl.String},
    ).sort("at")
    reactions = pl.DataFrame(pl.from_arrow(events.select(["seat_id", "occurred_at", "kind", "category"])))
    told = (
        reactions.filter((pl.col("kind") == str(Kind.REACTION)) & pl.col("category").is_in(_ANSWERED))
        .select("seat_id", "category", at=pl.col("occurred_at").cast(pl.Int64))
        .sort("at")
        .join_asof(
            offers, on="at", by="seat_id", tolerance=REACTION_DAYS * MICROSECONDS_PER_DAY, check_sortedness=False
        )
        .drop_nulls("decision_id")
        .group_by("decision_id")
        .agg(accepted=(pl.col("category") == str(Stage.ACCEPTED)).any())
    )
    return dict(zip(told["decision_id"], told["accepted"].cast(pl.Float64), strict=True))


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
    seats: pa.Table,
    catalogue: Sequence[Intervention],
) -> DecisionData:
    place = {intervention.id: position for position, intervention in enumerate(catalogue)}
    wanted = ("seat_id", "team", "organization")
    roster = {row["seat_id"]: row for row in pl.DataFrame(pl.from_arrow(seats.select(wanted))).to_dicts()}
    propensity = np.zeros((len(decisions), len(catalogue)))
    for row, decision in enumerate(decisions):
        if decision.seat_id not in roster:
            raise ValueError(f"decision {decision.decision_id}: seat {decision.seat_id!r} is not in the roster")
        for name, chance in decision.probabilities.items():
            if name not in place:
                raise ValueError(
                    f"decision {decision.decision_id}: intervention {name!r} is not in the catalogue ({', '.join(place)})"
                )
            propensity[row, place[name]] = chance
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
    )
