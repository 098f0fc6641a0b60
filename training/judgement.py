"""How one model did on later snapshots: every metric with its interval, beside the baselines, by segment and week of life."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from features.catalogue import BY_NAME, CATEGORIES, NUMERIC
from features.rules import ages
from features.scorer import HORIZONS_DAYS, PRODUCT_HORIZON_DAYS, Scorer
from training.baselines import Baselines
from training.dataset import Dataset
from training.evaluate import ENOUGH_TO_JUDGE, Estimate, Lead, auc_by_time, evaluate, lead_time

Floats = npt.NDArray[np.float64]
Table = Mapping[str, Mapping[str, Estimate]]

MIN_PEOPLE = 10  # in a group that is shown (design: people)
SEGMENTS = ("role", "function", "tool", "region")
TENURE_BANDS = ((90, "under 3 months"), (365, "3 to 12 months"), (1095, "1 to 3 years"), (np.inf, "over 3 years"))
TENURE = "tenure"
JUDGED_HORIZONS_DAYS = (0, PRODUCT_HORIZON_DAYS)  # of segments and weeks of life
RELIABILITY_BINS = 10
_PRODUCT = HORIZONS_DAYS.index(PRODUCT_HORIZON_DAYS)


@dataclass(frozen=True)
class Bin:
    """Seats scored alike: mean predicted risk, mean bounds of the interval, observed share, and how many."""

    predicted: float
    low: float
    high: float
    observed: float
    snapshots: int


@dataclass(frozen=True)
class Group:
    """The model's metrics in one group of at least MIN_PEOPLE people, by horizon in days and metric."""

    kind: str
    name: str
    people: int
    snapshots: int
    metrics: Mapping[int, Mapping[str, Estimate]]


@dataclass(frozen=True)
class Judgement:
    """How a model did. metrics: by horizon in days, method and metric.

    activation: the same for seats that never started, the model beside their rule, whether it serves or was refused; empty
    without such a model. unseen: by whom (people, teams) the training held no snapshot of, the metrics of the model by
    horizon in days; empty where too few of them were judged.
    suppressed: by kind, how many groups had fewer than MIN_PEOPLE people and are not shown. unjudged: by horizon in days
    without metrics, why there are none and how much is needed.
    """

    snapshots: int
    people: int
    metrics: Mapping[int, Table]
    auc_by_time: Mapping[int, Estimate]
    lead: Lead | None
    reliability: Mapping[int, Sequence[Bin]]
    groups: Sequence[Group]
    weeks: Sequence[Group]
    suppressed: Mapping[str, int]
    activation: Mapping[int, Table]
    notes: Sequence[str] = ()
    unjudged: Mapping[int, str] = field(default_factory=dict)
    unseen: Mapping[str, Mapping[int, Table]] = field(default_factory=dict)

    def coverage(self) -> Mapping[int, float]:
        """By horizon in days, the share of bins of the reliability plot whose observed share lies in their interval."""
        return {
            days: float(np.mean([one.low <= one.observed <= one.high for one in bins]))
            for days, bins in self.reliability.items()
        }

    def document(self) -> dict[str, Any]:
        """The same for JSON; what cannot be computed is null."""
        return {**finite(asdict(self)), "coverage_of_bins": dict(self.coverage())}


def judge(
    scorer: Scorer,
    later: Dataset,
    *,
    baselines: Baselines | None = None,
    past: Dataset | None = None,
    not_started: Dataset | None = None,
    activation: Scorer | None = None,
    seed: int = 7,
) -> Judgement:
    """The model on snapshots that are later than its training.

    baselines: of the same snapshots; past: what it was trained on; activation: of seats that never started, the scorer's
    own by default.
    """
    score = scorer.score(later.vectors, later.categories)
    risks = {"model": score.risk, **({} if baselines is None else baselines.risks)}
    label, weight = later.abandoned(), later.horizon_weight()
    metrics = _by_horizon(later, risks, seed=seed)
    groups, suppressed = _groups(later, score.risk, segments(later), seed=seed)
    weeks, few = _groups(later, score.risk, {"week of life": _weeks(later)}, seed=seed)
    return Judgement(
        snapshots=int((~np.isnan(label)).any(axis=1).sum()),
        people=len(np.unique(later.person)),
        metrics=metrics,
        auc_by_time=auc_by_time(later, score.curve, seed=seed),
        lead=lead_time(later, score.risk[:, _PRODUCT], seed=seed),
        reliability=reliability(label, score.risk, score.low, score.high, weight=weight),
        groups=groups,
        weeks=weeks,
        suppressed={**suppressed, **few},
        activation=judge_activation(
            scorer if activation is None else replace(scorer, activation=activation), not_started, seed=seed
        ),
        notes=() if baselines is None else baselines.notes,
        unjudged={
            days: _why_unjudged(label[:, horizon], days)
            for horizon, days in enumerate(HORIZONS_DAYS)
            if not metrics[days]
        },
        unseen={} if past is None else _unseen(past, later, risks, seed=seed),
    )


def _by_horizon(later: Dataset, risks: Mapping[str, Floats], *, seed: int) -> dict[int, Table]:
    label, weight = later.abandoned(), later.horizon_weight()
    return {
        days: evaluate(
            label[:, horizon],
            {name: risk[:, horizon] for name, risk in risks.items()},
            later.person,
            weight=weight[:, horizon],
            seed=seed,
        )
        for horizon, days in enumerate(HORIZONS_DAYS)
    }


def _unseen(past: Dataset, later: Dataset, risks: Mapping[str, Floats], *, seed: int) -> dict[str, Mapping[int, Table]]:
    """The metrics of people, and of teams or organisations, of whom the training held nothing."""
    found: dict[str, Mapping[int, Table]] = {}
    for of, before, now in (("people", past.person, later.person), ("teams", past.team_names(), later.team_names())):
        rows = ~np.isin(now, np.unique(before)) & (now != "")
        if len(np.unique(later.person[rows])) < MIN_PEOPLE:
            continue
        table = _by_horizon(later.take(rows), {name: risk[rows] for name, risk in risks.items()}, seed=seed)
        if any(table.values()):
            found[of] = {days: methods for days, methods in table.items() if methods}
    return found


def _why_unjudged(label: Floats, days: int) -> str:
    abandoned, kept = int((label == 1).sum()), int((label == 0).sum())
    return (
        f"the risk by {days} days cannot be judged: of the later snapshots {abandoned:,} are known to be abandoned and {kept:,} "
        f"to be kept; at least {ENOUGH_TO_JUDGE} are needed, some of either kind"
    )


def judge_activation(scorer: Scorer, not_started: Dataset | None, *, seed: int = 7) -> dict[int, Table]:
    """By horizon in days, method (model, rule) and metric, on seats that never started; empty without a model of them."""
    if scorer.activation is None or not_started is None or not len(not_started):
        return {}
    mine = scorer.score(not_started.vectors, not_started.categories).risk
    rule = scorer.activation.rule.risk(not_started.vectors)[0]
    return _by_horizon(not_started, {"model": mine, "rule": rule}, seed=seed)


def reliability(
    label: Floats, risk: Floats, low: Floats, high: Floats, *, weight: Floats | None = None
) -> dict[int, list[Bin]]:
    """By horizon in days, RELIABILITY_BINS bins of as many judged snapshots each; none where they are too few.

    weight: (n, n_horizons) of the labels, 1 by default; all columns are weighted means.
    """
    own = np.ones_like(label) if weight is None else weight
    found = {}
    for horizon, days in enumerate(HORIZONS_DAYS):
        known = np.flatnonzero(~np.isnan(label[:, horizon]))
        if len(known) < ENOUGH_TO_JUDGE:
            continue
        bins = np.array_split(known[np.argsort(risk[known, horizon], kind="stable")], RELIABILITY_BINS)
        means = [
            [
                float(np.average(values[rows, horizon], weights=own[rows, horizon]))
                for values in (risk, low, high, label)
            ]
            for rows in bins
        ]
        found[days] = [
            Bin(predicted, lower, upper, observed, len(rows))
            for rows, (predicted, lower, upper, observed) in zip(bins, means, strict=True)
        ]
    return found


def segments(dataset: Dataset) -> dict[str, npt.NDArray[np.str_]]:
    """By kind of segment, (n,) the name of each snapshot's group; empty where unknown."""
    position = {feature.name: place for place, feature in enumerate(CATEGORIES)}
    found = {
        kind: np.array([names[position[kind]] for names in dataset.categories], dtype=str)
        for kind in SEGMENTS
        if kind in position
    }
    if "tenure_days" in BY_NAME:
        tenure = dataset.vectors[:, [feature.name for feature in NUMERIC].index("tenure_days")]
        band = np.searchsorted([days for days, _ in TENURE_BANDS[:-1]], np.nan_to_num(tenure), "right")
        found[TENURE] = np.where(np.isnan(tenure), "", np.array([name for _, name in TENURE_BANDS])[band])
    return found


def _weeks(dataset: Dataset) -> npt.NDArray[np.str_]:
    age = np.nan_to_num(ages(dataset.vectors))
    return np.array([f"{int(week) + 1:03d}" for week in np.maximum(age // 7, 0)], dtype=str)


def _groups(
    later: Dataset, risk: Floats, segments: Mapping[str, npt.NDArray[np.str_]], *, seed: int
) -> tuple[list[Group], dict[str, int]]:
    label, weight, groups = later.abandoned(), later.horizon_weight(), []
    suppressed: dict[str, int] = {}
    for kind, names in segments.items():
        for name in np.unique(names[names != ""]).tolist():
            rows = np.flatnonzero(names == name)
            person = later.person[rows]
            people = len(np.unique(person))
            if people < MIN_PEOPLE:
                suppressed[kind] = suppressed.get(kind, 0) + 1
                continue
            metrics = {
                days: evaluate(
                    label[rows, horizon],
                    {"model": risk[rows, horizon]},
                    person,
                    weight=weight[rows, horizon],
                    seed=seed,
                ).get("model", {})
                for horizon, days in enumerate(HORIZONS_DAYS)
                if days in JUDGED_HORIZONS_DAYS
            }
            groups.append(Group(kind, name, people, len(rows), metrics))
    return groups, suppressed


def finite(value: Any) -> Any:
    """Mappings with text keys, and None for what is not a number: JSON has neither other keys nor NaN."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
