"""How often the monitors alarm on unchanged data, and whether they find planted shifts. Simulated data throughout.

    python benchmarks/bench_monitoring.py [--runs 400] [--plants 100] [--seats 800] [--first-seed 100] [--keep FILE]

One rollout after another is simulated (each with a seed of its own, interventions included); a logistic risk model is
fitted on what was known at a moment, and the reference is what training keeps. Unchanged: windows of the same rollout
served 0 to 8 weeks after that training, as they come. Planted: the same windows after one thing was changed in the events
(a new department: in the snapshots). An alarm is an exit status of 10 or more. Every draw has its seed.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from features.catalogue import CATEGORIES, NUMERIC
from features.compute import compute_features, pack
from features.connectors.simulated import Rollout, open_simulated
from features.events import MICROSECONDS_PER_DAY, Kind
from features.labels import label_snapshots, weekly_snapshots
from features.peers import Peers, days_needed, observe
from features.rules import Stratum, ages, strata
from features.scorer import Method, Scorer
from features.sources import Source
from features.tables import ROSTER_SCHEMA
from features.tools import load_tools
from monitoring.drift import measure
from monitoring.findings import Evidence, Finding, Severity
from monitoring.monitors import MONITORS
from monitoring.windows import DAYS_SCHEMA, MIN_SEATS, MOMENT, RISK, SEAT, TEAM, WEEK, Window, compare
from training.dataset import Dataset
from training.risk import fit
from training.train import datasets

DAYS, TRAINED_AFTER_WEEKS, SERVED_WEEKS_LATER = 200, (13, 16, 19), (0, 1, 2, 3, 4, 5, 6, 7)
PLANTED_WEEKS_LATER = (1, 3)
WEEK_US = 7 * MICROSECONDS_PER_DAY
REFERENCE_ROWS = 20_000


Feeds = tuple[list[Source], dict[str, timedelta]]


@dataclass(frozen=True)
class World:
    """A simulated rollout: its events, and what is needed to compute features from them."""

    seats: pa.Table
    roster: pa.Table
    events: pa.Table
    sources: Sequence[Source]
    peers: Peers
    grid: Sequence[datetime]
    weekly: pl.DataFrame

    def features(self, snapshots: pl.DataFrame, events: pa.Table | None = None) -> pl.DataFrame:
        return compute_features(
            snapshots,
            events=self.events if events is None else events,
            roster=self.roster,
            sources=self.sources,
            tools=load_tools(),
            peers=self.peers,
        )

    def served(self, at: datetime) -> pl.DataFrame:
        """A snapshot of every seat that is assigned at the moment."""
        there = pl.DataFrame(pl.from_arrow(self.seats.select(["seat_id", "assigned_at", "removed_at"]))).filter(
            pl.col("assigned_at") < at, pl.col("removed_at").is_null() | (pl.col("removed_at") > at)
        )
        return there.select("seat_id", pl.lit(at).dt.cast_time_unit("us").alias("as_of"))


def world(seed: int, seats: int) -> World:
    tools, rollout = load_tools(), Rollout(seats=seats, days=DAYS, seed=seed)
    grid = [rollout.start + timedelta(days=7 * week, hours=5) for week in range(1, DAYS // 7)]
    batches = list(open_simulated(rollout))
    roster = pa.concat_tables([batch.seats for batch in batches]).sort_by("seat_id")
    events = pa.concat_tables([batch.events for batch in batches])
    known = roster.append_column(ROSTER_SCHEMA.field("known_at"), roster.column("assigned_at")).cast(ROSTER_SCHEMA)
    lags = batches[0].lags
    spoken = events.group_by("source").aggregate([("available_at", "min"), ("available_at", "max")]).to_pylist()
    sources = [
        Source(
            rollout.organization, rollout.tool, row["source"], lags.get(row["source"], timedelta(0)),
            row["available_at_min"], row["available_at_max"],
        )
        for row in spoken
    ]  # fmt: skip
    weekly = weekly_snapshots(roster, until=grid[-1])
    moments = [*weekly["as_of"].cast(pl.Int64).to_list(), *(int(at.timestamp() * 1e6) for at in grid)]
    peers = observe([events], roster=known, sources=sources, tools=tools, days=days_needed(np.array(moments)))
    return World(roster, known, events, sources, peers, grid, weekly)


def model(known: dict[Stratum, Dataset], until: datetime) -> Scorer:
    """A logistic risk model of what was known at the moment."""
    cut = int(until.timestamp() * 1e6)
    elsewhere: dict[Stratum, Dataset] = {
        stratum: part.known_before(cut) for stratum, part in known.items() if stratum is not Stratum.IN_USE
    }
    return fit(known[Stratum.IN_USE].known_before(cut), elsewhere=elsewhere, seed=7, method=Method.LOGISTIC).scorer


def labelled(found: World, features: pl.DataFrame) -> dict[Stratum, Dataset]:
    tools = load_tools()
    labels = label_snapshots(found.weekly, events=found.events, seats=found.seats, sources=found.sources, tools=tools)
    return datasets(features, labels, seats=found.seats, decisions=(), tools=tools)


def side(features: pl.DataFrame, seats: pa.Table, scorer: Scorer) -> pl.DataFrame:
    """Snapshots in use as `monitoring.windows` has them, with the risk, seat, team, week of life and moment."""
    vectors, categories = pack(features)
    in_use = np.flatnonzero(strata(vectors) == str(Stratum.IN_USE))
    features, vectors = features[in_use], vectors[in_use]
    risk = scorer.score(vectors, [categories[row] for row in in_use]).risk[:, -1]
    team = dict(zip(*(seats.column(name).to_pylist() for name in ("seat_id", "team")), strict=True))
    return features.select(
        *(pl.col(f.name).fill_nan(None) for f in NUMERIC),
        *(pl.col(f.name).replace("", None) for f in CATEGORIES),
        pl.Series(RISK, risk),
        pl.col("seat_id").rank("dense").cast(pl.Int64).alias(SEAT),
        pl.Series(TEAM, [team[seat] or seat for seat in features["seat_id"]]).rank("dense").cast(pl.Int64),
        pl.Series(WEEK, ages(vectors) // 7, dtype=pl.Int64),
        (pl.col("as_of").cast(pl.Int64) // WEEK_US).alias(MOMENT),
    )


def window(reference: pl.DataFrame, current: pl.DataFrame, at: datetime) -> Window:
    day = dict.fromkeys(DAYS_SCHEMA, 0) | {"day": at.date(), "seats": current.height, "in_use": current.height}
    return compare(
        reference.drop(SEAT),
        current.drop(MOMENT),
        at - timedelta(days=7),
        at,
        "risk/1",
        pl.DataFrame([day], DAYS_SCHEMA),
    )


def run(made: Window, known: Feeds, scorer: Scorer, at: datetime) -> list[Finding]:
    """What a run of the monitors says. Nothing has matured, so monitors of outcomes are silent."""
    moved = measure(made) if made.has_verdict else None
    assert moved is not None, f"{made.seats} seats in use; expected at least {MIN_SEATS}"
    sources, rhythm = known
    evidence = Evidence(made, moved, sources, at, scorer, rhythm=rhythm)
    return [finding for monitor in MONITORS for finding in monitor(evidence)]


def feeds(found: World, events: pa.Table, at: datetime) -> tuple[list[Source], dict[str, timedelta]]:
    """The feeds as they stood at the moment, and the longest silence that each had made by then."""
    told = events.select(["source", "available_at"]).filter(pc.less(events.column("available_at"), pa.scalar(at)))
    days = pl.DataFrame(pl.from_arrow(told)).with_columns(pl.col("available_at").dt.date().alias("day"))
    gaps = days.group_by("source").agg(
        pl.col("available_at").max(), pl.col("day").unique().sort().diff().max().alias("gap")
    )
    by_source = {row["source"]: row for row in gaps.to_dicts()}
    sources = [
        replace(one, watermark=by_source[one.source]["available_at"])
        for one in found.sources
        if one.source in by_source
    ]
    return sources, {name: row["gap"] or timedelta(0) for name, row in by_source.items()}


def changed_since(events: pa.Table, at: datetime, days: int, kind: Kind) -> npt.NDArray[np.bool_]:
    since = int((at - timedelta(days=days)).timestamp() * 1e6)
    occurred = events.column("occurred_at").cast(pa.int64()).to_numpy()
    is_kind = events.column("kind").to_numpy(zero_copy_only=False) == str(kind)
    return np.asarray((occurred >= since) & is_kind)


def double_prompts(events: pa.Table, at: datetime, days: int) -> pa.Table:
    """A tool upgrade after which every prompt is counted twice."""
    is_prompt = changed_since(events, at, days, Kind.PROMPT)
    count = events.column("count").to_numpy(zero_copy_only=False)
    place = events.schema.get_field_index("count")
    return events.set_column(
        place,
        events.schema.field(place),
        pa.array(np.where(is_prompt, 2 * count, count)).cast(events.schema.field(place).type),
    )


def minutes_for_seconds(events: pa.Table, at: datetime, days: int) -> pa.Table:
    """A source that tells the length of sessions in minutes where it was seconds."""
    is_session = changed_since(events, at, days, Kind.SESSION)
    value = events.column("value").to_numpy(zero_copy_only=False).astype(np.float64)
    place = events.schema.get_field_index("value")
    return events.set_column(
        place, events.schema.field(place), pa.array(np.where(is_session, value / 60, value), from_pandas=True)
    )


def stopped(events: pa.Table, at: datetime, days: int) -> pa.Table:
    """The connector of the tool's usage stopped so many days ago."""
    since = int((at - timedelta(days=days)).timestamp() * 1e6)
    is_lost = pc.and_(
        pc.equal(events.column("source"), "simulated:usage"),
        pc.greater_equal(events.column("available_at").cast(pa.int64()), since),
    )
    return events.filter(pc.invert(is_lost))


def days_lost(events: pa.Table, at: datetime, days: int, every: int) -> pa.Table:
    """The usage of one day in `every` is lost since then, that of the other days is whole."""
    since = int((at - timedelta(days=days)).timestamp() * 1e6)
    occurred = events.column("occurred_at").cast(pa.int64()).to_numpy()
    is_usage = pc.equal(events.column("source"), "simulated:usage").to_numpy()
    is_lost = is_usage & (occurred >= since) & (occurred // MICROSECONDS_PER_DAY % every == 0)
    return events.filter(pa.array(~is_lost))


def department(current: pl.DataFrame, young: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """A new department of a sixth of the seats, four to six weeks with the tool, whose role no seat had before."""
    new = young.sample(min(current.height // 5, young.height), seed=int(rng.integers(2**31)))
    new = new.with_columns(pl.lit("nurse").alias("role"), pl.lit("care").alias("function"))
    new = new.with_columns(pl.col(SEAT) + current[SEAT].max(), pl.col(TEAM) + current[TEAM].max())
    return pl.concat([current, new.select(current.columns)])


PLANTS: dict[str, tuple[str, ...]] = {  # which monitors may name it
    "connector stops, 7 days ago": ("late_sources",),
    "connector stops, 14 days ago, its silence unseen": ("feature_drift", "coverage", "missing_values"),
    "prompts doubled, 7 days ago": ("feature_drift",),
    "prompts doubled, 14 days ago": ("feature_drift",),
    "prompts doubled, 28 days ago": ("feature_drift",),
    "session length in minutes, 7 days ago": ("feature_drift",),
    "new department": ("unseen_categories",),
    "usage of every other day lost, 14 days": ("feature_drift", "missing_values"),
    "usage of every fourth day lost, 14 days": ("feature_drift", "missing_values"),
}


def planted(
    found: World, scorer: Scorer, young: pl.DataFrame, at: datetime, seed: int
) -> Iterator[tuple[str, pl.DataFrame, Feeds]]:
    snapshots, sources = found.served(at), feeds(found, found.events, at)

    def served(events: pa.Table) -> pl.DataFrame:
        return side(found.features(snapshots, events), found.seats, scorer)

    silent = stopped(found.events, at, 7)
    yield "connector stops, 7 days ago", served(silent), feeds(found, silent, at)
    yield "connector stops, 14 days ago, its silence unseen", served(stopped(found.events, at, 14)), sources
    for days in (7, 14, 28):
        yield f"prompts doubled, {days} days ago", served(double_prompts(found.events, at, days + 2)), sources
    yield "session length in minutes, 7 days ago", served(minutes_for_seconds(found.events, at, 9)), sources
    yield "new department", department(served(found.events), young, np.random.default_rng(seed)), sources
    for every, name in ((2, "other"), (4, "fourth")):
        yield f"usage of every {name} day lost, 14 days", served(days_lost(found.events, at, 16, every)), sources


Record = dict[str, Any]  # Any: a line of JSON, one window that was judged


def record(seed: int, trained: int, later: int, shift: str | None, made: Window, said: Sequence[Finding]) -> Record:
    return {
        "seed": seed,
        "trained": trained,
        "later": later,
        "shift": shift,
        "older": round(made.older, 3),
        "findings": [
            [one.monitor, int(one.severity), one.changed, one.value, one.threshold, one.affected] for one in said
        ],
    }


def judged(seed: int, *, seats: int, plants: int) -> Iterator[Record]:
    """Every window of one rollout, as it is and, of so many of them, with each shift planted."""
    here = world(seed, seats)
    weekly = here.features(here.weekly)
    known = labelled(here, weekly)
    moments = sorted({trained + later for trained in TRAINED_AFTER_WEEKS for later in SERVED_WEEKS_LATER})
    unchanged = here.features(pl.concat([here.served(here.grid[week]) for week in moments]))
    for trained in TRAINED_AFTER_WEEKS:
        until = here.grid[trained]
        past = weekly.filter(pl.col("as_of") < until)
        scorer = model(known, until)
        reference = side(past.sample(min(REFERENCE_ROWS, past.height), seed=0).sort("as_of"), here.seats, scorer)
        young = reference.filter(pl.col(WEEK).is_between(4, 6)).unique(SEAT, keep="first", maintain_order=True)
        for later in SERVED_WEEKS_LATER:
            at = here.grid[trained + later]
            made = window(reference, side(unchanged.filter(pl.col("as_of") == at), here.seats, scorer), at)
            yield record(seed, trained, later, None, made, run(made, feeds(here, here.events, at), scorer, at))
            if later not in PLANTED_WEEKS_LATER or plants <= 0:
                continue
            plants -= 1
            for name, shifted, sources in planted(here, scorer, young, at, seed):
                made = window(reference, shifted, at)
                yield record(seed, trained, later, name, made, run(made, sources, scorer, at))


def told(records: Sequence[Record]) -> str:
    """What came out, of all windows that were judged: false alarms with an interval, and how many shifts were found."""
    unchanged = [one for one in records if one["shift"] is None]
    loud = [one for one in unchanged if alarms(one)]
    low, high = stats.binomtest(len(loud), len(unchanged)).proportion_ci(method="exact") if unchanged else (0.0, 1.0)
    by = dict(Counter(monitor for one in loud for monitor in alarms(one)))
    rollouts = len({one["seed"] for one in unchanged})
    lines = [
        f"unchanged: {len(loud)} of {len(unchanged)} windows of {rollouts} rollouts alarmed "
        f"({len(loud) / max(len(unchanged), 1):.2%}, 95 % interval {low:.2%} to {high:.2%}) {by or ''}"
    ]
    for name, wanted in PLANTS.items():
        tried = [alarms(one) for one in records if one["shift"] == name]
        if tried:
            found = sum(bool(said & set(wanted)) for said in tried)
            named = ", ".join(f"{m} {n}" for m, n in Counter(m for said in tried for m in said).most_common())
            lines.append(f"{name}: found in {found} of {len(tried)} ({found / len(tried):.0%}); {named}")
    return "\n".join(lines)


def alarms(one: Record) -> set[str]:
    """The monitors that alarmed."""
    return {monitor for monitor, severity, *_ in one["findings"] if severity > Severity.INFO}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--plants", type=int, default=100, help="windows into which every shift is planted")
    parser.add_argument("--seats", type=int, default=800)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="a file of JSON lines: rollouts that are in it are not made again")
    wanted = parser.parse_args()
    a_rollout = len(TRAINED_AFTER_WEEKS) * len(SERVED_WEEKS_LATER)
    rollouts = -(-wanted.runs // a_rollout)
    plants = -(-wanted.plants // rollouts)
    kept = [json.loads(line) for line in wanted.keep.open()] if wanted.keep and wanted.keep.exists() else []
    seeds = range(wanted.first_seed, wanted.first_seed + rollouts)
    records = [one for one in kept if one["seed"] in seeds]
    for seed in seeds:
        if any(one["seed"] == seed for one in records):
            continue
        started = time.perf_counter()
        made = list(judged(seed, seats=wanted.seats, plants=plants))
        records += made
        if wanted.keep:
            with wanted.keep.open("a") as file:  # a whole rollout at a time, so that one that was stopped is made anew
                file.write("".join(json.dumps(one) + "\n" for one in made))
        loud = [one for one in made if one["shift"] is None and alarms(one)]
        print(f"seed {seed}: {len(loud)} of {a_rollout} alarmed; {time.perf_counter() - started:.0f} s", flush=True)
        for one in loud:
            said = " | ".join(f[2] for f in one["findings"] if f[1] > Severity.INFO)
            print(f"  trained {one['trained']}, {one['later']} weeks later: {said}", flush=True)
    print(told(records))


if __name__ == "__main__":
    main()
