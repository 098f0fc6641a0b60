"""Training data: snapshots of seats in use, with features as they were known and what became of them."""

import hashlib
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from features.catalogue import CATEGORIES
from features.compute import pack
from features.decisions import NONE, Decision
from features.events import MICROSECONDS_PER_DAY
from features.instants import to_microseconds
from features.labels import SNAPSHOT_EVERY_DAYS, abandoned_by
from features.references import digest
from features.rules import Stratum, ages, strata
from features.scorer import HORIZON_PERIODS, HORIZONS_DAYS, PERIOD_ENDS_DAYS, PERIODS
from features.tools import ToolProfile

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

MAX_CENSORING_WEIGHT = 20.0  # our choice: beyond it a single snapshot would speak for a crowd
FOLDS = 5
GROUPS_FOR_FOLDS = 2 * FOLDS  # our choice: of fewer organisations or teams a fold would be one of them


@dataclass(frozen=True)
class Dataset:
    """(n,) snapshots of seats in use, aligned.

    vectors: (n, n_numeric); categories: n rows of names; silent_after, known: (n,) days as in features.labels, inf where
    no silence was seen; ended: (n,) why; silence: (n,) W in days; person, seat: (n,) whom; as_of: (n,) microseconds;
    organization, team: (n,) where it works, the team empty where unknown; censoring_weight: (n, PERIODS) inverse probability
    that no intervention was drawn until the period was judged.
    """

    vectors: Floats
    categories: list[list[str]]
    silent_after: Floats
    known: Floats
    observable: Floats
    ended: npt.NDArray[np.str_]
    silence: Integers
    person: npt.NDArray[np.str_]
    seat: npt.NDArray[np.str_]
    organization: npt.NDArray[np.str_]
    team: npt.NDArray[np.str_]
    as_of: Integers
    censoring_weight: Floats

    def __len__(self) -> int:
        return len(self.as_of)

    def take(self, chosen: Booleans | Integers) -> "Dataset":
        """The chosen snapshots."""
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        picked = {name: values[rows] for name, values in vars(self).items() if name != "categories"}
        return Dataset(**picked, categories=[self.categories[row] for row in rows])

    def known_before(self, cut: int) -> "Dataset":
        """The same as it was known at `cut` (microseconds): what was judged later is censored, later snapshots left out."""
        latest = (cut - self.as_of) / MICROSECONDS_PER_DAY - self.silence
        is_seen = self.silent_after <= latest
        silent = np.where(is_seen, self.silent_after, np.inf)
        known = np.where(is_seen, self.known, np.minimum(self.known, latest))
        observable = np.minimum(self.observable, latest)
        return replace(self, silent_after=silent, known=known, observable=observable).take(self.as_of < cut)

    def abandoned(self) -> Floats:
        """(n, len(HORIZONS_DAYS)) of 1, 0 or NaN where censored."""
        return self.abandoned_by(HORIZONS_DAYS)

    def abandoned_by(self, days: Sequence[int]) -> Floats:
        """(n, len(days)) whether a silence had begun by each day: 1, 0 or NaN where censored before."""
        columns = {"silent_after": self.silent_after, "known": self.known, "observable": self.observable}
        frame = pl.DataFrame({f"{name}_days": values for name, values in columns.items()})
        return np.stack([abandoned_by(frame, horizon) for horizon in days], axis=1)

    def horizon_weight(self) -> Floats:
        """(n, len(HORIZONS_DAYS)) inverse probability that a label was not censored by an intervention: it makes the
        labelled snapshots speak for all, as risk under `none` asks for."""
        return self.censoring_weight[:, HORIZON_PERIODS]

    def abandonments(self) -> int:
        """How many silences there are: one that several snapshots look ahead to, or lie in, counts once."""
        seen = np.flatnonzero(self.silent_after <= PERIOD_ENDS_DAYS[-1])
        began = self.as_of[seen] / MICROSECONDS_PER_DAY + self.silent_after[seen]
        order = np.lexsort((began, self.seat[seen]))
        seat, began, silence = self.seat[seen][order], began[order], self.silence[seen][order]
        is_same = (seat[1:] == seat[:-1]) & (np.diff(began) < silence[1:])
        return len(seen) - int(is_same.sum())

    def seat_weight(self) -> Floats:
        """(n,) one over the root of the weeks since the seat's assignment, mean 1: no seat dominates (our choice).

        The weeks that a seat could have been seen in, not those it was: who gives up early has few snapshots, and weights by
        their number would raise every hazard (informative cluster size; Hoffman, Sen, Weinberg 2001).
        """
        if not len(self):
            return np.ones(0)
        _, seat = np.unique(self.seat, return_inverse=True)
        assigned = np.full(seat.max() + 1, np.inf)
        np.minimum.at(assigned, seat, self.as_of / MICROSECONDS_PER_DAY - ages(self.vectors))
        weeks = (self.as_of.max() / MICROSECONDS_PER_DAY - assigned[seat]) / SNAPSHOT_EVERY_DAYS
        weight = 1 / np.sqrt(np.maximum(weeks, 0) + 1)
        return np.asarray(weight / weight.mean())

    def team_names(self) -> npt.NDArray[np.str_]:
        """(n,) the organisation and team of each snapshot; empty where the team is unknown."""
        return np.where(self.team == "", "", np.char.add(np.char.add(self.organization, "/"), self.team))

    def groups(self) -> npt.NDArray[np.str_]:
        """(n,) with whom a snapshot shares what no feature shows: the organisation where there are many, else the team of the
        organisation, else (unknown, or too few for folds) the person.
        """
        team = self.team_names()
        for group in (self.organization, np.where(team == "", self.person, team)):
            if len(np.unique(group)) >= GROUPS_FOR_FOLDS:
                return group
        return self.person

    def folds(self, seed: int) -> Integers:
        """(n,) fold of each snapshot, 0 to FOLDS - 1, by group; the largest groups first, each into the smallest fold."""
        groups, inverse, sizes = np.unique(self.groups(), return_inverse=True, return_counts=True)
        drawn = np.random.default_rng(seed).permutation(len(groups))
        fold, filled = np.empty(len(groups), np.int64), [(0, number) for number in range(FOLDS)]
        for group in drawn[np.argsort(-sizes[drawn], kind="stable")].tolist():
            held, number = heapq.heappop(filled)
            fold[group] = number
            heapq.heappush(filled, (held + int(sizes[group]), number))
        return fold[inverse]


@dataclass(frozen=True)
class PersonPeriods:
    """Person-period rows: which snapshot, which period, whether the silence began in it.

    weight: of the censoring, for calibration, which speaks of snapshots as they are scored; fit_weight: times that of
    the seat, for fitting, where no seat may dominate.
    """

    row: Integers
    period: Integers
    event: Floats
    weight: Floats
    fit_weight: Floats

    def take(self, chosen: Booleans) -> "PersonPeriods":
        """The chosen rows."""
        return PersonPeriods(**{name: values[chosen] for name, values in vars(self).items()})


def person_period_rows(dataset: Dataset) -> PersonPeriods:
    """One row per snapshot and period in which the seat was still at risk, if the whole period is observable.

    A silence early in a period that is not observable to its end does not count: its seat would be there only because
    it fell silent. Source: discrete-time survival, Singer and Willett 1993, eq. 3.
    """
    ends = np.asarray(PERIOD_ENDS_DAYS, np.float64)
    silent, known, observable = (
        values[:, None] for values in (dataset.silent_after, dataset.known, dataset.observable)
    )
    starts = np.concatenate(([-np.inf], ends[:-1]))
    at_risk = silent > starts
    event = at_risk & (silent <= ends)
    row, period = np.nonzero(at_risk & (observable >= ends) & (event | (known >= ends)))
    weight = dataset.censoring_weight[row, period]
    fit_weight = weight * dataset.seat_weight()[row]
    return PersonPeriods(row, period, event[row, period].astype(np.float64), weight, fit_weight)


def build_dataset(
    features: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    seats: pa.Table,
    decisions: Sequence[Decision],
    tools: Mapping[str, ToolProfile],
    stratum: Stratum = Stratum.IN_USE,
) -> Dataset:
    """The snapshots of a stratum; by default the risk set: meaningful use in the last 28 days.

    features: `seat_id`, `as_of` and FEATURES; labels: LABEL_SCHEMA; both of the same snapshots in the same order.
    """
    people = pl.DataFrame(pl.from_arrow(seats.select(["seat_id", "person_id", "tool", "organization", "team"])))
    joined = (
        pl.concat([features, labels.drop("seat_id", "as_of")], how="horizontal")
        .drop("tool")
        .join(people, on="seat_id", how="left", maintain_order="left")
    )
    vectors, categories = pack(joined)
    silence = joined["tool"].replace_strict({t: p.silence_days for t, p in tools.items()}, return_dtype=pl.Int64)
    as_of = joined["as_of"].cast(pl.Int64).to_numpy()
    everything = Dataset(
        vectors=vectors,
        categories=categories,
        silent_after=joined["silent_after_days"].fill_null(np.inf).to_numpy(),
        known=joined["known_days"].to_numpy(),
        observable=joined["observable_days"].to_numpy(),
        ended=joined["ended"].to_numpy().astype(str),
        silence=silence.to_numpy(),
        person=joined["person_id"].to_numpy().astype(str),
        seat=joined["seat_id"].to_numpy().astype(str),
        organization=joined["organization"].to_numpy().astype(str),
        team=joined["team"].fill_null("").to_numpy().astype(str),
        as_of=as_of,
        censoring_weight=censoring_weights(
            joined["seat_id"].to_numpy().astype(str), as_of, silence.to_numpy(), decisions
        ),
    )
    return everything.take(strata(vectors) == str(stratum))


def censoring_weights(
    seat: npt.NDArray[np.str_], as_of: Integers, silence_days: Integers, decisions: Sequence[Decision]
) -> Floats:
    """(n, PERIODS) product of 1 / P(none) over the seat's decisions until the period's last window ends, capped.

    A snapshot is censored at an intervention; those that drew `none` stand in for those that did not.
    Source: inverse probability of censoring weights, Robins and Finkelstein 2000.
    """
    weights = np.ones((len(seat), PERIODS))
    offered = [decision for decision in decisions if decision.intervention == NONE]
    if not offered:
        return weights
    names = np.array([decision.seat_id for decision in offered])
    instants = np.array([to_microseconds(decision.decided_at) for decision in offered], np.int64)
    log_weight = -np.log([decision.probabilities[NONE] for decision in offered])
    codes = {name: code for code, name in enumerate(np.unique(np.concatenate((seat, names))))}
    owner = np.array([codes[name] for name in names], np.int64)
    order = np.lexsort((instants, owner))
    moments = np.unique(instants)  # ranks in place of instants: seats times microseconds do not fit 64 bits
    span = len(moments) + 1
    keys = owner[order] * span + np.searchsorted(moments, instants[order])
    sums = np.concatenate(([0.0], np.cumsum(log_weight[order])))
    base = np.array([codes[name] for name in seat], np.int64) * span
    start = np.searchsorted(keys, base + np.searchsorted(moments, as_of))
    for period, end in enumerate(PERIOD_ENDS_DAYS):
        until = as_of + (end + silence_days) * MICROSECONDS_PER_DAY
        stop = np.searchsorted(keys, base + np.searchsorted(moments, until))
        weights[:, period] = np.exp(sums[stop] - sums[start])
    return np.minimum(weights, MAX_CENSORING_WEIGHT)


def category_levels(dataset: Dataset, *, at_least: int = 20) -> dict[str, tuple[str, ...]]:
    """By category feature, the names with at least that many snapshots; rarer ones are treated as unknown."""
    levels = {}
    for position, feature in enumerate(CATEGORIES):
        names, counts = np.unique([row[position] for row in dataset.categories] or [""], return_counts=True)
        levels[feature.name] = tuple(str(n) for n, c in zip(names, counts, strict=True) if n and c >= at_least)
    return levels


def seats_of_a_share(seats: pa.Table, share: float) -> pl.Series:
    """Ids of the seats of that share of the people, (0, 1]: the same people whenever it is drawn, with all of their seats."""
    ids = pl.DataFrame(pl.from_arrow(seats.select(["seat_id", "person_id"])))
    drawn = [int(digest(person)[:8], 16) < share * 2**32 for person in ids["person_id"].to_list()]
    return ids["seat_id"].filter(pl.Series(drawn, dtype=pl.Boolean))


def data_version(events: pa.Table, *, seats: pa.Table, tools: Mapping[str, ToolProfile]) -> str:
    """Identifies what a model saw: the number, range and ids of the events, whatever their order, and `facts_version`."""
    frame = pl.DataFrame(pl.from_arrow(events.select(["event_id", "available_at"])))
    first, last = (frame["available_at"].min(), frame["available_at"].max()) if frame.height else (None, None)
    ids = _digest(frame["event_id"].sort().to_list())
    return f"{frame.height}-{_compact(first)}-{_compact(last)}-{ids}-{facts_version(seats, tools)}"


def facts_version(seats: pa.Table, tools: Mapping[str, ToolProfile]) -> str:
    """Identifies what labels rest on beside events: the roster, in whatever order, and the profiles of the tools."""
    frame = pl.DataFrame(pl.from_arrow(seats))
    told = frame.select(pl.concat_str(pl.all().cast(pl.String).fill_null(""), separator="\x1f")).to_series()
    profiles = [f"{name} {tools[name].feature_hash} {tools[name].silence_days}" for name in sorted(tools)]
    return _digest([*told.sort().to_list(), *profiles])


def _digest(texts: Sequence[str]) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode() + b"\0")
    return found.hexdigest()[:16]


def _compact(instant: object) -> str:
    return instant.strftime("%Y%m%dT%H%M%S") if isinstance(instant, datetime) else "none"
