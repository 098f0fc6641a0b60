"""The risk model on a simulated rollout, beside the simulator's own hazard; how long a fit and a million scores take.

    python benchmarks/bench_risk.py [--seats 20000] [--days 180] [--seeds 7] [--million]

Every figure is of simulated data. Trained on what was known at the cut, judged on later snapshots: of everyone, and of the
people of a third of the teams, who are left out of training. The truth of a snapshot is the simulator's own probability
that the silence begins by H if nothing is done, which no model sees.
"""

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from features.bulk import score_parquet
from features.catalogue import FEATURES
from features.compute import compute_features
from features.connectors.simulated import Rollout, open_simulated, open_truth
from features.labels import label_snapshots, weekly_snapshots
from features.log import EventLog
from features.observed import observed
from features.peers import days_needed
from features.rules import Stratum
from features.scorer import HORIZONS_DAYS, Scorer
from features.tools import load_tools
from training.baselines import baselines
from training.dataset import Dataset, person_period_rows
from training.evaluate import METRICS, evaluate
from training.judgement import reliability
from training.risk import fit
from training.train import datasets, default_cut, split_at

NOW = datetime(2027, 1, 1, tzinfo=UTC)
MILLION = 1_000_000


def world(rollout: Rollout) -> tuple[dict[Stratum, Dataset], pl.DataFrame, pa.Table]:
    """The datasets by stratum, the features, and the truth of every seat and week."""
    tools = load_tools()
    with tempfile.TemporaryDirectory() as folder:
        log = EventLog(f"sqlite:///{Path(folder) / 'log.db'}")
        for batch in open_simulated(rollout):
            log.append(batch, now=NOW, source="simulated")
        seats, events, sources = log.seats(), log.events(), log.sources()
        snapshots = weekly_snapshots(seats, until=max(source.watermark for source in sources))
        peers = observed(log, tools, days_needed(snapshots["as_of"].cast(pl.Int64).to_numpy()))
        features = compute_features(
            snapshots, events=events, roster=log.roster(), sources=sources, tools=tools, peers=peers
        )
        labels = label_snapshots(snapshots, events=events, seats=seats, sources=sources, tools=tools)
        found = datasets(features, labels, seats=seats, decisions=log.decisions(), tools=tools)
        log.close()
    return found, features, pa.concat_tables([truth.weeks for truth in open_truth(rollout)])


def true_risk(dataset: Dataset, weeks: pa.Table) -> npt.NDArray[np.float64]:
    """(n, n_horizons) the simulator's own risk at the moment of the truth that lies nearest to the snapshot: up to half a week away."""
    truth = pl.DataFrame(pl.from_arrow(weeks)).sort("as_of")
    at = pl.from_epoch(pl.Series("as_of", dataset.as_of), time_unit="us").dt.replace_time_zone("UTC")
    asked = pl.DataFrame({"seat_id": dataset.seat, "as_of": at}).with_row_index("row").sort("as_of")
    joined = asked.join_asof(truth, on="as_of", by="seat_id", strategy="nearest").sort("row")
    return joined.select(f"risk_{days}" for days in HORIZONS_DAYS).to_numpy().astype(np.float64)


def judge(rollout: Rollout) -> Scorer:
    """Fit, judge, print; the scorer."""
    by_stratum, _, weeks = world(rollout)
    dataset = by_stratum[Stratum.IN_USE]
    split = split_at(by_stratum, default_cut(dataset))
    people = np.unique(dataset.person)
    aside = people[np.random.default_rng(rollout.seed).random(len(people)) < 1 / 3]
    past = split.past.take(~np.isin(split.past.person, aside))
    rows = len(person_period_rows(past).row)
    started = time.process_time()
    fitted = fit(past, elsewhere=split.past_elsewhere, seed=7)
    seconds = time.process_time() - started
    print(
        f"seed {rollout.seed}: {len(past):,} snapshots, {rows:,} person-period rows, {fitted.abandonments:,} abandonments; fitted in "
        f"{seconds:.1f} s of one core ({seconds / rows * 100_000:.1f} s per 100 000 rows, calibration, band and the model of seats "
        f"that never started included); {fitted.scorer.method}, {fitted.trees} trees, weight {fitted.scorer.tree_weight}, "
        f"calibration {fitted.scorer.calibrator.kind}"
    )
    logistic = fitted.scorer
    for group, chosen in (
        ("everyone", np.ones(len(split.later), bool)),
        ("people kept aside", np.isin(split.later.person, aside)),
    ):
        later = split.later.take(chosen)
        label, scored = later.abandoned(), fitted.scorer.score(later.vectors, later.categories)
        truth = true_risk(later, weeks)
        beside = baselines(past, later, logistic).risks
        print(f"\n{group}: {len(later):,} later snapshots\n")
        print("| by | method | " + " | ".join(METRICS) + " |\n|---|---|" + "---|" * len(METRICS))
        for horizon, days in enumerate(HORIZONS_DAYS):
            if days not in (0, 28):
                continue
            has_truth = ~np.isnan(truth[:, horizon])
            outcome = np.where(has_truth, label[:, horizon], np.nan)
            scores = {"Rekindle": scored.risk[:, horizon], "the simulator's hazard": np.nan_to_num(truth[:, horizon])}
            scores |= {
                name: beside[name][:, horizon] for name in ("recency", "warnings", "boosting", "cox") if name in beside
            }
            # the truth knows whether the silence has begun, which no source shows: fair only where it has not
            begun = truth[:, 0] >= 1
            apart = {name: scores[name] for name in ("Rekindle", "the simulator's hazard")}
            for name, values in evaluate(np.where(begun, np.nan, outcome), apart, later.person).items():
                print(
                    f"| {days} days, not begun | {name} | "
                    + " | ".join(str(values[metric]) for metric in METRICS)
                    + " |"
                )
            for name, values in evaluate(outcome, scores, later.person).items():
                print(f"| {days} days | {name} | " + " | ".join(str(values[metric]) for metric in METRICS) + " |")
        bins = reliability(label, scored.risk, scored.low, scored.high)
        inside = {days: sum(one.low <= one.observed <= one.high for one in found) for days, found in bins.items()}
        print(f"\nbins of ten whose observed share lies in their interval: {inside}\n", flush=True)
    return fitted.scorer


def million(scorer: Scorer, rollout: Rollout) -> None:
    """A million rows of features from Parquet to Parquet on two threads."""
    _, features, _ = world(rollout)
    wanted = features.select("seat_id", "as_of", *(feature.name for feature in FEATURES))
    is_in_use = wanted.filter(pl.col("meaningful_28") > 0)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "features.parquet", Path(folder) / "risks.parquet"
        pl.concat([is_in_use] * (MILLION // is_in_use.height + 1)).head(MILLION).write_parquet(
            source, row_group_size=100_000
        )
        started = time.perf_counter()
        scored = score_parquet(source, target, scorer, threads=2)
        print(
            f"{scored:,} seats in use scored from Parquet to Parquet in {time.perf_counter() - started:.1f} s on two threads"
        )


def main() -> None:
    """Judge each seed, then a million."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seats", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=180)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--million", action="store_true", help="also score a million seats")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        scorer = judge(Rollout(seats=arguments.seats, days=arguments.days, seed=seed))
    if arguments.million:
        million(scorer, Rollout(seats=2_000, days=arguments.days, seed=arguments.seeds[-1]))


if __name__ == "__main__":
    main()
