"""How often the monitors of outcomes alarm where nothing is wrong, over time, and whether they find what is. Simulated.

    python benchmarks/bench_monitoring_outcomes.py [--streams 400] [--first-seed 1]

A stream of decisions: teams that share a mood, three interventions drawn with logged probabilities that follow what moves the
outcome, none with an effect; the monitors look after every 250 of 3 000 matured decisions. Beside it 3 000 served scores of 500
people with exactly the risk that was told, the labels of one person hanging together. Planted: an intervention that loses ten
seats in a hundred; decisions of which a tenth of one intervention is lost; risks told ten in a hundred too low; the same for one
role only. An alarm is a finding above info.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
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
        cost=np.arange(3) * 10.0,
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--streams", type=int, default=400)
    parser.add_argument("--first-seed", type=int, default=1)
    wanted = parser.parse_args()
    started, window = time.perf_counter(), no_window()
    seeds = range(wanted.first_seed, wanted.first_seed + wanted.streams)
    told = scores(0)
    auc_at_training = float(auc(told.label, told.risk, np.ones((1, len(told.label))))[0])

    def judged(seed: int, **changes: Any) -> set[str]:  # Any: the numbers and names that `scores` takes
        return alarms(truth_of(scores(seed, **changes), auc_at_training), window)

    runs, loud, ever = 0, Counter[str](), Counter[str]()
    for seed in seeds:
        said = [
            monitors | judged(100_000 * number + seed) for number, monitors in enumerate(looks(stream(seed), window))
        ]
        runs += len(said)
        loud.update(monitor for one in said for monitor in (*one, *(["any"] if one else [])))
        ever.update(set().union(*said))
    print(f"unchanged: {loud.pop('any', 0)} of {runs} looks alarmed {dict(loud)}", flush=True)
    print(
        f"  streams in which somebody who looks every {LOOK_EVERY} decisions was ever alarmed: {dict(ever)} of {len(seeds)}"
    )
    planted: dict[str, tuple[str, Callable[[int], set[str]]]] = {
        "an intervention that loses ten seats in a hundred": (
            "interventions", lambda seed: alarms(Truth(policy=policy_of(stream(seed, harm=0.10))), window),
        ),
        "a tenth of the draws of one intervention is lost": (
            "sample_ratio", lambda seed: alarms(Truth(policy=policy_of(stream(seed, lost=0.10))), window),
        ),
        "risks told ten in a hundred too low": ("calibration", lambda seed: judged(seed, low_by=0.10)),
        "risks of one role told twenty in a hundred too low": (
            "fairness", lambda seed: judged(seed, low_by=0.20, low_for="writer"),
        ),
    }  # fmt: skip
    for name, (monitor, made) in planted.items():
        found = sum(monitor in made(seed) for seed in seeds)
        print(f"{name}: found in {found} of {len(seeds)} ({found / len(seeds):.0%})", flush=True)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
