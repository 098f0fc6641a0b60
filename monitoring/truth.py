"""What came of what was served: scores whose labels have matured, decisions whose outcome is known, groups of people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from fairlearn.metrics import MetricFrame, false_negative_rate, selection_rate

from features.catalogue import BY_NAME, CATEGORIES, NUMERIC
from features.compute import SNAPSHOT_SCHEMA
from features.interventions import Intervention
from features.labels import abandoned_by, label_snapshots
from features.log import EventLog
from features.scorer import PRODUCT_HORIZON_DAYS
from features.suppression import publishable
from features.tools import ToolProfile
from monitoring.sequences import asymptotic, empirical_bernstein
from monitoring.windows import SERVED_RISK
from training.decided import DecisionData, read_decided
from training.evaluate import ENOUGH_TO_JUDGE, Estimate, auc, ece, estimate, lift
from training.judgement import RELIABILITY_BINS, TENURE_BANDS, Bin
from training.offpolicy import Mismatch, Support, Value, dr_scores, mean_by_team
from training.outcome import outcome_model
from training.proof import Proof, prove

LOOK_BACK = timedelta(
    days=56
)  # our choice: labels of served scores are judged over so long, from when they can be known
HARM_ALPHA = 0.001  # of the bound by which an intervention is said to do harm: shared by all arms, over all time
DIMENSIONS = ("role", "region", "tenure")

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Judged:
    """(n,) served scores whose label has matured: one for each seat and week. label: 1 abandoned within 28 days, else 0."""

    risk: Floats
    label: Floats
    person: Texts
    groups: Mapping[str, Texts]


@dataclass(frozen=True)
class Calibration:
    """How served scores did. gap: share abandoned less mean risk; error: its standard deviation over people; bins: of the
    reliability plot. auc_at_training: of the same model on the snapshots that it was judged by, None where unknown. crossing:
    share of scores on the other side of the alert threshold once the gap is added to the risk.
    """

    scores: int
    people: int
    abandoned: int
    gap: float
    error: float
    auc: Estimate
    lift: Estimate
    ece: Estimate
    bins: Sequence[Bin]
    auc_at_training: float | None
    crossing: float = 0.0


@dataclass(frozen=True)
class Group:
    """One group of people: share alerted on, share of the abandoned that was not, share abandoned less mean risk.

    missed is NaN where nobody abandoned; error: standard deviation of the gap over people.
    """

    dimension: str
    name: str
    people: int
    scores: int
    selected: float
    missed: float
    gap: float
    error: float


@dataclass(frozen=True)
class Arm:
    """What came of one intervention. kept: share of seats kept, with an anytime-valid interval; effect: on keeping a seat
    against `none` by doubly robust scores, with an asymptotic anytime-valid interval, None for `none` itself and where the log
    cannot tell.
    """

    name: str
    decisions: int
    kept: Value
    effect: Value | None
    effect_at_most: float = float("inf")  # surely, whenever one looks: with HARM_ALPHA over all arms


@dataclass(frozen=True)
class PolicyTruth:
    """What the decisions were worth. against_holdout, against_none: seats kept, per decision; None where it cannot be said."""

    matured: int
    against_holdout: Value | None
    against_none: Value | None
    mismatch: Mismatch
    support: Sequence[Support]
    arms: Sequence[Arm]


@dataclass(frozen=True)
class Truth:
    """All of it; each part is None where too little has matured."""

    calibration: Calibration | None = None
    groups: Sequence[Group] = ()
    suppressed: Mapping[str, int] | None = None
    policy: PolicyTruth | None = None


def read_truth(
    log: EventLog,
    *,
    model: str,
    alert: float,
    tools: Mapping[str, ToolProfile],
    catalogue: Sequence[Intervention],
    now: datetime,
    auc_at_training: float | None = None,
) -> Truth:
    """What the log knows by now of the scores of the model and of all decisions. alert: the risk that is alerted on."""
    judged = read_judged(log, model=model, tools=tools, now=now)
    groups, suppressed = fairness_groups(judged, alert)
    return Truth(
        calibration_of(judged, alert=alert, auc_at_training=auc_at_training),
        groups,
        suppressed,
        read_policy(log, tools=tools, catalogue=catalogue),
    )


def read_judged(log: EventLog, *, model: str, tools: Mapping[str, ToolProfile], now: datetime) -> Judged:
    """The scores that the model served and whose label has matured in the last LOOK_BACK, one for each seat and week."""
    sources, silence = log.sources(), max((tool.silence_days for tool in tools.values()), default=28)
    lag = max((source.lag for source in sources), default=timedelta(0))
    until = now - timedelta(days=PRODUCT_HORIZON_DAYS + silence) - lag
    rows = {
        (item.seat_id, item.served_at.isocalendar()[:2]): item
        for item in reversed(log.served(since=until - LOOK_BACK, until=until))
        if item.model == model and item.as_of is not None and item.vector.size == len(NUMERIC)
    }
    served = list(rows.values())
    if not served:
        return Judged(
            np.empty(0), np.empty(0), np.empty(0, np.str_), {name: np.empty(0, np.str_) for name in DIMENSIONS}
        )
    seat_ids = sorted({item.seat_id for item in served})
    seats = log.seats(seat_ids)
    known = set(seats.column("seat_id").to_pylist())
    served = [item for item in served if item.seat_id in known]
    snapshots = pl.DataFrame(
        {"seat_id": [item.seat_id for item in served], "as_of": [item.served_at for item in served]},
        schema=SNAPSHOT_SCHEMA,
    )
    events = log.events(sorted(known), since=until - LOOK_BACK - timedelta(days=silence))
    labels = label_snapshots(snapshots, events=events, seats=seats, sources=sources, tools=tools)
    label = abandoned_by(labels, PRODUCT_HORIZON_DAYS)
    is_known = ~np.isnan(label)
    person_of = dict(zip(*(seats.column(name).to_pylist() for name in ("seat_id", "person_id")), strict=True))
    return Judged(
        np.array([item.risk[SERVED_RISK] for item in served])[is_known],
        label[is_known],
        np.array([person_of[item.seat_id] for item in served], np.str_)[is_known],
        {
            name: values[is_known]
            for name, values in _groups(
                np.stack([item.vector for item in served]) if served else np.empty((0, len(NUMERIC))),
                [item.categories for item in served],
            ).items()
        },
    )


def _groups(vectors: Floats, categories: Sequence[Sequence[str]]) -> dict[str, Texts]:
    place = {feature.name: position for position, feature in enumerate(CATEGORIES)}
    found = {name: np.array([row[place[name]] for row in categories], np.str_) for name in ("role", "region")}
    tenure = vectors[:, [feature.name for feature in NUMERIC].index(BY_NAME["tenure_days"].name)]
    band = np.searchsorted([days for days, _ in TENURE_BANDS[:-1]], np.nan_to_num(tenure), "right")
    names = np.array([name for _, name in TENURE_BANDS])[band]
    return {**found, "tenure": np.where(np.isnan(tenure), "", names)}


def calibration_of(judged: Judged, *, alert: float = 1.0, auc_at_training: float | None) -> Calibration | None:
    """None below ENOUGH_TO_JUDGE scores, or where all or none abandoned."""
    if len(judged.label) < ENOUGH_TO_JUDGE or len(np.unique(judged.label)) < 2:
        return None
    gap = mean_by_team(judged.label - judged.risk, judged.person)
    bins = np.array_split(np.argsort(judged.risk, kind="stable"), RELIABILITY_BINS)
    return Calibration(
        len(judged.label),
        len(np.unique(judged.person)),
        int(judged.label.sum()),
        gap.value,
        (gap.high - gap.low) / 2 / 1.96,
        estimate(auc, judged.label, judged.risk, judged.person),
        estimate(lift, judged.label, judged.risk, judged.person),
        estimate(ece, judged.label, judged.risk, judged.person),
        [_bin(judged, rows) for rows in bins],
        auc_at_training,
        float(np.mean((judged.risk >= alert) != (judged.risk + gap.value >= alert))),
    )


def _bin(judged: Judged, rows: Integers) -> Bin:
    observed, n = float(judged.label[rows].mean()), len(rows)
    half = 1.96 * float(np.sqrt(max(observed * (1 - observed), 0.25 / n) / n))
    return Bin(float(judged.risk[rows].mean()), max(observed - half, 0.0), min(observed + half, 1.0), observed, n)


def fairness_groups(judged: Judged, alert: float) -> tuple[list[Group], dict[str, int]]:
    """By role, region and tenure band; groups that may not be shown beside the others are counted, by dimension."""
    if not len(judged.label):
        return [], {}
    codes = {name: np.unique(values, return_inverse=True) for name, values in judged.groups.items()}
    person = np.unique(judged.person, return_inverse=True)[1]
    shown = publishable({name: code for name, (_, code) in codes.items()}, person)
    selected = judged.risk >= alert
    found: list[Group] = []
    hidden: dict[str, int] = {}
    for dimension, (names, code) in codes.items():
        frame = MetricFrame(
            metrics={"selected": selection_rate, "missed": false_negative_rate},
            y_true=judged.label.astype(int),
            y_pred=selected.astype(int),
            sensitive_features=code,
        ).by_group
        for number, name in enumerate(names.tolist()):
            rows = np.flatnonzero(code == number)
            if not name or not shown[dimension][number]:
                hidden[dimension] = hidden.get(dimension, 0) + 1
                continue
            gap = mean_by_team((judged.label - judged.risk)[rows], judged.person[rows])
            missed = float(frame.loc[number, "missed"]) if judged.label[rows].any() else float("nan")
            found.append(
                Group(
                    dimension, name, len(np.unique(judged.person[rows])), len(rows), float(frame.loc[number, "selected"]),
                    missed, gap.value, (gap.high - gap.low) / 2 / 1.96,
                )
            )  # fmt: skip
    return found, hidden


def read_policy(
    log: EventLog, *, tools: Mapping[str, ToolProfile], catalogue: Sequence[Intervention]
) -> PolicyTruth | None:
    """What the log's decisions were worth; None where no decision outside the holdout has matured."""
    decided = read_decided(log, tools=tools, catalogue=catalogue)
    if not len(decided.learning.matured()):
        return None
    proof = prove(decided, {})
    return PolicyTruth(
        proof.decisions,
        proof.holdout,
        proof.policies[0].against_none,
        proof.mismatch,
        proof.support,
        _arms(decided.learning.matured(), proof),
    )


def _arms(data: DecisionData, proof: Proof) -> list[Arm]:
    order = np.argsort(data.as_of, kind="stable")
    data = data.take(order)
    q = outcome_model(data)
    found = []
    for position, support in enumerate(proof.support):
        own = data.kept[data.arm == position]
        if not len(own):
            continue
        low, high = empirical_bernstein(own)
        kept = Value(float(own.mean()), low, high)
        effect, most = effect_against_none(data, q, position) if position else (None, np.inf)
        found.append(Arm(support.arm, len(own), kept, effect, most))
    return found


def effect_against_none(data: DecisionData, q: Floats, position: int) -> tuple[Value | None, float]:
    """What the arm at a position keeps against `none`, where both could have been chosen, and what it surely does not exceed.

    data: matured decisions; q: (n, K) chance of keeping under each arm. The interval (95 %, over teams) and the bound (with
    HARM_ALPHA over all arms) hold however often somebody looks; (None, inf) where the log cannot tell.
    """
    rows = np.flatnonzero(data.eligible[:, position] & data.eligible[:, 0])
    both = data.take(rows)
    if not ((both.arm == position).any() and (both.arm == 0).any()):
        return None, np.inf
    arm, none = (np.eye(len(data.arms))[np.full(len(rows), place)] for place in (position, 0))
    scores = dr_scores(both, arm, q[rows]) - dr_scores(both, none, q[rows])
    value = mean_by_team(scores, both.team)
    error = (value.high - value.low) / 2 / 1.96  # over teams: people of one team share what happens to them
    if not np.isfinite(error):
        return None, np.inf
    deviation = error * float(np.sqrt(len(rows)))
    low, high = asymptotic(value.value, deviation, len(rows))
    _, most = asymptotic(value.value, deviation, len(rows), alpha=HARM_ALPHA / len(data.arms))
    return Value(value.value, low, high), most
