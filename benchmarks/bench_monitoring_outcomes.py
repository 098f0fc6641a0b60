"""How often the monitors of outcomes alarm where nothing is wrong, over time, and whether they find what is. Simulated.

    python benchmarks/bench_monitoring_outcomes.py [--streams 400] [--first-seed 1] [--keep FILE]

A stream of decisions: teams that share a mood, three interventions drawn with logged probabilities that follow what moves the
outcome, none with an effect; the monitors look after every 250 of 3 000 matured decisions. Beside it, at each look, 3 000 other
served scores of 500 people with exactly the risk that was told, the labels of one person hanging together. Planted, each in several
sizes and judged once, after 3 000 decisions or scores: an intervention that loses seats; draws of one intervention that are lost;
risks told too low, for all or for one role of five. An alarm is a finding above info.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from features.catalogue import CATEGORIES
from features.effects import Seen
from monitoring.drift import Moved
from monitoring.findings import Evidence, Severity
from monitoring.results import calibration, fairness, interventions, policy_value, sample_ratio
from monitoring.sequences import empirical_bernstein
from monitoring.truth import Arm, Judged, PolicyTruth, Truth, calibration_of, effect_against_none, fairness_groups
from monitoring.windows import COMPARED, DAYS_SCHEMA, MOMENT, SEAT, TEAM, WEEK, Window, compare
from training.decided import DecisionData
from training.evaluate import auc
from training.offpolicy import Value, gain, sample_ratio_mismatch, support

NOW = datetime(2026, 9, 1, tzinfo=UTC)
ARMS = ("none", "hint", "call")
DECISIONS, LOOK_EVERY, TEAM_SIZE = 3_000, 250, 8
PEOPLE, SCORES_EACH, ALERT = 500, 6, 0.4
MONITORS = (calibration, policy_value, sample_ratio, interventions, fairness)


def stream(seed: int, *, n: int = DECISIONS, harm: float = 0.0, lost: float = 0.0) -> DecisionData:
    """Matured decisions in the order they came. harm: by how much `call` lowers keeping; lost: share of its draws that is lost."""
    rng = np.random.default_rng(seed)
    team = rng.permutation(np.arange(n) // TEAM_SIZE)
    x = rng.normal(0, 1, n)
    score = np.exp(np.column_stack([np.ones(n), 0.8 * x, -0.8 * x]))
    propensity = 0.05 + 0.85 * score / score.sum(axis=1, keepdims=True)
    arm = np.minimum((rng.random(n)[:, None] >= np.cumsum(propensity, axis=1)).sum(axis=1), 2)
    arm = np.where((arm == 2) & (rng.random(n) < lost), 0, arm)
    mood = rng.normal(0, 0.1, team.max() + 1)[team]
    chance = np.clip(0.6 + 0.15 * np.tanh(x) + mood - harm * (arm == 2), 0, 1)
    return DecisionData(
        arms=ARMS,
        seen=Seen(x[:, None], [[]] * n, np.zeros((n, 3)), np.zeros((n, 0)), np.ones(n)),
        arm=arm,
        propensity=propensity,
        kept=(rng.random(n) < chance).astype(np.float64),
        team=np.char.add("t-", team.astype(str)),
        organization=np.full(n, "acme"),
        seat=np.char.add("acme/s-", np.arange(n).astype(str)),
        as_of=np.arange(n),
        cost=np.array([0.0, 10.0, 20.0]),
        answers=np.zeros((3, 0)),
    )


def policy_of(data: DecisionData) -> PolicyTruth:
    """What the monitors are told of the decisions, with a flat outcome model, which costs precision and not truth."""
    q = np.full(data.propensity.shape, float(data.kept.mean()))
    alone = np.eye(len(data.arms))[np.zeros(len(data), int)]
    arms = []
    for position, name in enumerate(data.arms):
        own = data.kept[data.arm == position]
        effect, most = effect_against_none(data, q, position) if position else (None, np.inf)
        arms.append(Arm(name, len(own), Value(float(own.mean()), *empirical_bernstein(own)), effect, most))
    against_none = gain(data, data.propensity, alone, q)
    return PolicyTruth(len(data), None, against_none, sample_ratio_mismatch(data), support(data, data.propensity), arms)


def scores(seed: int, *, low_by: float = 0.0, low_for: str | None = None) -> Judged:
    """Served scores with labels. low_by: by how much the risk is told too low, for everybody or for one role."""
    rng = np.random.default_rng(seed)
    n = PEOPLE * SCORES_EACH
    person = np.repeat(np.arange(PEOPLE), SCORES_EACH)
    risk = np.clip(rng.beta(1.2, 4, PEOPLE)[person] + rng.normal(0, 0.03, n), 0.01, 0.95)
    role = rng.choice(["sales", "service", "legal", "writer", "analyst"], PEOPLE)[person]
    region = rng.choice(["eu", "us", "asia"], PEOPLE)[person]
    tenure = rng.choice(["under a year", "1 to 3 years", "over 3 years"], PEOPLE)[person]
    shared = rng.normal(0, 1, PEOPLE)[person]
    latent = np.sqrt(0.5) * shared + np.sqrt(0.5) * rng.normal(0, 1, n)
    true = np.clip(risk + low_by * ((role == low_for) if low_for else np.ones(n)), 0, 1)
    label = (stats.norm.cdf(latent) < true).astype(np.float64)
    return Judged(risk, label, person.astype(str), {"role": role, "region": region, "tenure": tenure})


def truth_of(judged: Judged, auc_at_training: float) -> Truth:
    groups, suppressed = fairness_groups(judged, ALERT)
    return Truth(calibration_of(judged, alert=ALERT, auc_at_training=auc_at_training), groups, suppressed)


def no_window() -> Window:
    """A window in which nothing was served: monitors of outcomes read only what came of earlier ones."""
    names = {feature.name for feature in CATEGORIES}
    frame = pl.DataFrame(schema={name: pl.String() if name in names else pl.Float64() for name in COMPARED})
    owners = {name: pl.Int64() for name in (SEAT, TEAM, WEEK, MOMENT)}
    frame = frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in owners.items())
    return compare(frame, frame, NOW - timedelta(days=7), NOW, "risk/1", pl.DataFrame(schema=DAYS_SCHEMA))


def alarms(truth: Truth, window: Window) -> set[str]:
    """The monitors that alarm."""
    evidence = Evidence(window, Moved(), (), NOW, truth=truth)
    return {one.monitor for monitor in MONITORS for one in monitor(evidence) if one.severity > Severity.INFO}


def looks(data: DecisionData, window: Window) -> Iterator[set[str]]:
    """What is said after every LOOK_EVERY decisions."""
    for n in range(LOOK_EVERY, len(data) + 1, LOOK_EVERY):
        yield alarms(Truth(policy=policy_of(data.take(np.arange(n)))), window)


def judged(seed: int, window: Window, auc_at_training: float, **changes: Any) -> set[str]:
    """What is said of 3 000 served scores. changes: of `scores`. Any: the numbers and names that it takes."""
    return alarms(truth_of(scores(seed, **changes), auc_at_training), window)


def _of_policy(seed: int, window: Window, _auc_at_training: float, **changes: Any) -> set[str]:
    """What is said of a stream of decisions. changes: of `stream`. Any: the numbers that it takes."""
    return alarms(Truth(policy=policy_of(stream(seed, **changes))), window)


# By what was planted: which monitor should name it, and what it says after the last decision or score.
PLANTED: dict[str, tuple[str, Callable[[int, Window, float], set[str]]]] = {
    **{
        f"an intervention that loses {harm:.0%} of its seats": (
            "interventions",
            partial(_of_policy, harm=harm),
        )
        for harm in (0.10, 0.20, 0.30)
    },
    **{
        f"{lost:.0%} of the draws of one intervention are lost": (
            "sample_ratio",
            partial(_of_policy, lost=lost),
        )
        for lost in (0.10, 0.20, 0.30)
    },
    **{
        f"risks told {100 * low:.0f} in a hundred too low": (
            "calibration", partial(judged, low_by=low),
        )
        for low in (0.05, 0.10)
    },
    **{
        f"risks of one role of five told {100 * low:.0f} in a hundred too low": (
            "fairness",
            partial(judged, low_by=low, low_for="writer"),
        )
        for low in (0.20, 0.30, 0.40)
    },
}  # fmt: skip


Record = dict[str, Any]  # Any: a line of JSON, one stream


def record(seed: int, window: Window, auc_at_training: float) -> Record:
    """By look the monitors that alarm on the unchanged stream; by plant those that alarm on the changed one."""
    unchanged = [
        sorted(said | judged(100_000 * number + seed, window, auc_at_training))
        for number, said in enumerate(looks(stream(seed), window))
    ]
    found = {name: sorted(made(seed, window, auc_at_training)) for name, (_, made) in PLANTED.items()}
    return {"seed": seed, "unchanged": unchanged, "found": found}


def told(records: Sequence[Record]) -> str:
    """What came out, of all streams that were judged."""
    said = [look for one in records for look in one["unchanged"]]
    loud = sum(map(bool, said))
    low, high = stats.binomtest(loud, len(said)).proportion_ci(method="exact")
    ever = Counter(monitor for one in records for monitor in set().union(*one["unchanged"]))
    lines = [
        f"unchanged: {loud} of {len(said)} looks alarmed ({loud / len(said):.2%}, 95 % interval {low:.2%} to {high:.2%}) "
        f"{dict(Counter(monitor for look in said for monitor in look))}",
        f"  streams of {len(records)} in which somebody who looks every {LOOK_EVERY} decisions was ever alarmed: {dict(ever)}",
    ]
    for name, (monitor, _) in PLANTED.items():
        found = sum(monitor in one["found"][name] for one in records)
        lines.append(f"{name}: found in {found} of {len(records)} ({found / len(records):.0%})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--streams", type=int, default=400)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a file of JSON lines: streams that are in it are not made again")
    wanted = parser.parse_args()
    window, model = no_window(), scores(0)
    auc_at_training = float(auc(model.label, model.risk, np.ones((1, len(model.label))))[0])
    kept = [json.loads(line) for line in wanted.keep.open()] if wanted.keep and wanted.keep.exists() else []
    seeds = range(wanted.first_seed, wanted.first_seed + wanted.streams)
    records = [one for one in kept if one["seed"] in seeds]
    for seed in sorted(set(seeds) - {one["seed"] for one in records}):
        records.append(record(seed, window, auc_at_training))
        if wanted.keep:
            with wanted.keep.open("a") as file:
                file.write(json.dumps(records[-1]) + "\n")
    print(told(records))


if __name__ == "__main__":
    main()
