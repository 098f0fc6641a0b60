"""The risk model on a simulated rollout, beside what the simulator itself knows; how long a fit and a million scores take.

    python benchmarks/bench_risk.py [--seats 20000] [--days 180] [--seeds 7] [--why] [--in-turn] [--million] [--million-only]

Every figure is of simulated data. Trained on what was known at the cut, judged on later snapshots: of everyone, and of a third
of the people, who are left out of training; with `--in-turn` of each third, left out one after the other. Labels that an intervention left standing are weighted by the inverse of their
logged chance to be: risk is under `none`. Two scores stand beside the model, neither of which any model can see:

- the hazard: the simulator's chance that an active seat falls silent on a day, as it stands at the snapshot (the people's
  traits, habit, memory, frustration; whether the seat has been silent before), over the working days of the next 28;
- all that the simulator knows: whether the silence has begun, unseen by any source, and how the seat's next weeks will go.

They are compared on the snapshots that fall on a day for which the simulator wrote its truth down (about half), so that
neither looks ahead of the model; and again where the silence has not begun.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from features.bulk import score_parquet
from features.catalogue import FEATURES
from features.compute import compute_features
from features.connectors.rollout_model import KEPT_DAYS, course, hazard, intercept, people, team_starts, walk
from features.connectors.simulated import Rollout, open_simulated, open_truth
from features.events import MICROSECONDS_PER_DAY
from features.instants import to_microseconds
from features.labels import label_snapshots, weekly_snapshots
from features.log import EventLog
from features.observed import observed
from features.peers import days_needed
from features.rules import Stratum
from features.scorer import HORIZONS_DAYS, Method, Scorer
from features.tools import load_tools
from training.baselines import baselines
from training.dataset import Dataset, category_levels, person_period_rows
from training.evaluate import METRICS, evaluate
from training.judgement import reliability
from training.risk import TREE_PARAMETERS, fit
from training.train import Split, datasets, default_cut, split_at

Floats = npt.NDArray[np.float64]

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


@dataclass(frozen=True)
class Truth:
    """What the simulator knows of (n,) snapshots. known: (n, n_horizons) risk, NaN off the days of its truth.

    traits: (n, k) what a person is like and never changes: worry, skill, need, what leaves no trace, planted mode.
    """

    known: Floats
    hazard: Floats
    is_silent: npt.NDArray[np.bool_]
    is_holdout: npt.NDArray[np.bool_]
    traits: Floats


def simulators_own(dataset: Dataset, weeks: pa.Table, rollout: Rollout) -> Truth:
    """The simulator's risk at the very moment of each snapshot, and its hazard there over the working days of 28."""
    truth = pl.DataFrame(pl.from_arrow(weeks))
    day = (dataset.as_of - to_microseconds(rollout.start)) // MICROSECONDS_PER_DAY
    midnight = pl.Series("as_of", to_microseconds(rollout.start) + day * MICROSECONDS_PER_DAY)
    asked = pl.DataFrame({"seat_id": dataset.seat, "as_of": midnight.cast(truth["as_of"].dtype)})
    joined = asked.join(truth, on=["seat_id", "as_of"], how="left", maintain_order="left")
    known = joined.select(f"risk_{days}" for days in HORIZONS_DAYS).to_numpy().astype(np.float64)
    starts = team_starts(rollout)
    group = people(rollout, starts, 0, len(starts) - 1)
    paths = walk(rollout, group)
    odds = paths.odds * np.float32(np.exp(intercept(rollout)))
    came = course(rollout, group, paths, odds, {})
    seat = np.array([int(name.rpartition("/s")[2]) for name in dataset.seat.tolist()])
    latest = np.maximum.accumulate(np.where(odds > 0, np.arange(len(odds))[:, None], 0), axis=0)[day, seat]
    week = day // 7
    boost = np.where(came.boosted_until[week, seat] > day, came.boost[week, seat], 1.0)
    daily = hazard(odds[latest, seat], came.lapsed[day, seat], boost.astype(np.float32))
    work = np.concatenate((np.zeros((1, len(group.number))), np.cumsum(odds > 0, axis=0)))
    ahead = work[np.minimum(day + KEPT_DAYS, len(odds)), seat] - work[day, seat]
    traits = np.column_stack((group.worry, group.skill, group.need, group.untraced, group.is_champion, group.mode))
    score = 1 - (1 - daily.astype(np.float64)) ** ahead
    return Truth(known, score, came.silent[day, seat], group.holdout[seat], traits[seat].astype(np.float64))


def rates(dataset: Dataset, weeks: pa.Table, rollout: Rollout) -> None:
    """Whether weighted labels speak for those who were contacted: beside teams that never are."""
    label, weight = (values[:, HORIZONS_DAYS.index(28)] for values in (dataset.abandoned(), dataset.horizon_weight()))
    is_holdout, known = simulators_own(dataset, weeks, rollout).is_holdout, ~np.isnan(label)
    others = known & ~is_holdout
    print(
        f"abandoned by 28 days: {label[known & is_holdout].mean():.3f} in teams that are never contacted; elsewhere "
        f"{label[others].mean():.3f} of what is left to judge, weighted {np.average(label[others], weights=weight[others]):.3f}"
    )


def why(past: Dataset, later: Dataset, weeks: pa.Table, rollout: Rollout) -> None:
    """What would be gained at 28 days by showing trees what no source shows: a classifier with and without it."""
    horizon = HORIZONS_DAYS.index(28)
    coder = Scorer(Method.LIGHTGBM, levels=category_levels(past))
    parts = []
    for part in (past, later):
        own, label = simulators_own(part, weeks, rollout), part.abandoned()[:, horizon]
        rows = np.flatnonzero(~np.isnan(label))
        seen = np.column_stack((part.vectors, coder.codes(part.categories)))[rows]
        hidden = {"silence begun": own.is_silent[rows, None], "traits": own.traits[rows]}
        parts.append((seen, hidden, label[rows], part.horizon_weight()[rows, horizon]))
    (seen, hidden, label, weight), (asked, asked_hidden, outcome, own_weight) = parts
    print("\n| shown to the trees | AUC at 28 days |\n|---|---|")
    for shown in ((), ("traits",), ("silence begun",), ("traits", "silence begun")):
        data = lgb.Dataset(np.column_stack((seen, *(hidden[name] for name in shown))), label, weight=weight)
        trees = lgb.train({**TREE_PARAMETERS, "learning_rate": 0.05, "seed": 7, "num_threads": 1}, data, 150)
        score = trees.predict(np.column_stack((asked, *(asked_hidden[name] for name in shown))), num_threads=1)
        found = METRICS["auc"](outcome, np.asarray(score), own_weight[None])[0]
        print(f"| {' and '.join(('the features', *shown))} | {found:.3f} |", flush=True)


def thirds(dataset: Dataset, seed: int) -> dict[str, int]:
    """Which third of the people each person is of; the first is kept out of training."""
    persons = np.unique(dataset.person)
    return dict(
        zip(persons.tolist(), (3 * np.random.default_rng(seed).random(len(persons))).astype(int).tolist(), strict=True)
    )


def in_turn(split: Split, third: dict[str, int]) -> None:
    """Judge each third of the people by a model of the two others: three times as many snapshots of people never seen."""
    own, asked = (np.array([third[person] for person in part.person.tolist()]) for part in (split.past, split.later))
    label, weight = split.later.abandoned(), split.later.horizon_weight()
    risk = np.full(label.shape, np.nan)
    for number in range(3):
        scorer = fit(split.past.take(own != number), elsewhere=split.past_elsewhere, seed=7).scorer
        left_out = split.later.take(asked == number)
        risk[asked == number] = scorer.score(left_out.vectors, left_out.categories).risk
    print("each third of the people by a model of the two others\n")
    print("| by | of | n | " + " | ".join(METRICS) + " | ECE of a score that is right |\n|---|---|---|" + "---|" * 7)
    for horizon, days in enumerate(HORIZONS_DAYS):
        for of, rows in (("all", np.ones(len(asked), bool)), *((f"third {n + 1}", asked == n) for n in range(3))):
            known = rows & ~np.isnan(label[:, horizon])
            mine, own_weight, person = risk[known, horizon], weight[known, horizon], split.later.person[known]
            found = evaluate(label[known, horizon], {"Rekindle": mine}, person, weight=own_weight)["Rekindle"]
            cells = " | ".join(str(found[metric]) for metric in METRICS)
            least, most = expected_ece(mine, own_weight, person)
            print(f"| {days} days | {of} | {known.sum():,} | {cells} | {least:.3f} to {most:.3f} |", flush=True)


def expected_ece(
    risk: Floats, weight: Floats, person: npt.NDArray[np.str_], *, draws: int = 100
) -> tuple[float, float]:
    """The mean ECE of these risks were every one of them right: outcomes drawn from them, each snapshot's by itself, and one
    draw for all of a person's. Snapshots of a person a week apart share most of their 28 days: the truth lies between.
    """
    people, owner = np.unique(person, return_inverse=True)
    generator = np.random.default_rng(0)
    alone, together = list[float](), list[float]()
    for _ in range(draws):
        for found, chance in (
            (alone, generator.random(len(risk))),
            (together, generator.random(len(people))[owner]),
        ):
            found.append(METRICS["ece"]((chance < risk).astype(np.float64), risk, weight[None])[0])
    return float(np.mean(alone)), float(np.mean(together))


def judge(rollout: Rollout, *, with_why: bool = False, is_in_turn: bool = False) -> Scorer:
    """Fit, judge, print; the scorer."""
    by_stratum, _, weeks = world(rollout)
    dataset = by_stratum[Stratum.IN_USE]
    split = split_at(by_stratum, default_cut(dataset))
    third = thirds(dataset, rollout.seed)
    aside = [person for person, number in third.items() if number == 0]
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
    for group, chosen in (
        ("everyone", np.ones(len(split.later), bool)),
        ("people kept aside", np.isin(split.later.person, aside)),
    ):
        later = split.later.take(chosen)
        label, weight = later.abandoned(), later.horizon_weight()
        scored = fitted.scorer.score(later.vectors, later.categories)
        own = simulators_own(later, weeks, rollout)
        beside = baselines(past, later, fitted.scorer).risks if chosen.all() else {}
        print(f"\n{group}: {len(later):,} later snapshots\n")
        print("| by | of | method | n | " + " | ".join(METRICS) + " |\n|---|---|---|---|" + "---|" * len(METRICS))
        for horizon, days in enumerate(HORIZONS_DAYS):
            if days not in (0, 28):
                continue
            mine = {"Rekindle": scored.risk[:, horizon]}
            simple = {
                name: beside[name][:, horizon] for name in ("recency", "warnings", "boosting", "cox") if name in beside
            }
            known = own.known[:, horizon]
            beyond = {"the simulator's hazard": own.hazard, "all that the simulator knows": np.nan_to_num(known)}
            outcome, own_weight = label[:, horizon], weight[:, horizon]
            on_the_day = np.where(np.isnan(known), np.nan, outcome)
            for of, judged, scores in (
                ("all", outcome, {**mine, **simple}),
                ("truth's days", on_the_day, {**mine, **beyond}),
                ("truth's days, silence not begun", np.where(own.is_silent, np.nan, on_the_day), {**mine, **beyond}),
            ):
                count = f"{int((~np.isnan(judged)).sum()):,}"
                for name, values in evaluate(judged, scores, later.person, weight=own_weight).items():
                    cells = " | ".join(str(values[metric]) for metric in METRICS)
                    print(f"| {days} days | {of} | {name} | {count} | {cells} |")
        bins = reliability(label, scored.risk, scored.low, scored.high, weight=weight)
        inside = {days: sum(one.low <= one.observed <= one.high for one in found) for days, found in bins.items()}
        print(f"\nbins of ten whose observed share lies in their interval: {inside}\n", flush=True)
    rates(dataset, weeks, rollout)
    if is_in_turn:
        in_turn(split, third)
    if with_why:
        why(past, split.later, weeks, rollout)
    return fitted.scorer


def million(scorer: Scorer, features: pl.DataFrame) -> None:
    """A million rows of features, these repeated, from Parquet to Parquet on two threads."""
    wanted = features.select("seat_id", "as_of", *(feature.name for feature in FEATURES))
    is_in_use = wanted.filter(pl.col("meaningful_28") > 0)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "features.parquet", Path(folder) / "risks.parquet"
        pl.concat([is_in_use] * (MILLION // is_in_use.height + 1)).head(MILLION).write_parquet(
            source, row_group_size=100_000
        )
        started, processor = time.perf_counter(), time.process_time()
        scored = score_parquet(source, target, scorer, threads=2)
        print(
            f"{scored:,} seats in use scored from Parquet to Parquet in {time.perf_counter() - started:.1f} s on two threads, "
            f"{time.process_time() - processor:.1f} s of processor time"
        )


def main() -> None:
    """Judge each seed, then a million."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seats", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=180)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--million", action="store_true", help="also score a million seats")
    parser.add_argument(
        "--million-only", action="store_true", help="score a million seats with a model of these, and judge nothing"
    )
    parser.add_argument(
        "--why", action="store_true", help="also say what would be gained by knowing what no source shows"
    )
    parser.add_argument(
        "--in-turn", action="store_true", help="also judge each third of the people by a model of the others"
    )
    arguments = parser.parse_args()
    if arguments.million_only:
        rollout = Rollout(seats=arguments.seats, days=arguments.days, seed=arguments.seeds[-1])
        by_stratum, features, _ = world(rollout)
        split = split_at(by_stratum, default_cut(by_stratum[Stratum.IN_USE]))
        fitted = fit(split.past, elsewhere=split.past_elsewhere, seed=7)
        print(f"{fitted.scorer.method}, {fitted.trees} trees, calibration {fitted.scorer.calibrator.kind}", flush=True)
        million(fitted.scorer, features)
        return
    for seed in arguments.seeds:
        scorer = judge(
            Rollout(seats=arguments.seats, days=arguments.days, seed=seed),
            with_why=arguments.why,
            is_in_turn=arguments.in_turn,
        )
    if arguments.million:
        _, features, _ = world(Rollout(seats=2_000, days=arguments.days, seed=arguments.seeds[-1]))
        million(scorer, features)


if __name__ == "__main__":
    main()
