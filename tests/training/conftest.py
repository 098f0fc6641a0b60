"""Synthetic snapshots with known hazards, for every test of this folder: importlib mode has no sibling imports."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest

from features.catalogue import NUMERIC
from features.effects import Seen
from features.events import MICROSECONDS_PER_DAY
from features.instants import to_microseconds
from features.scorer import PERIOD_ENDS_DAYS, PERIODS, cumulative
from training.dataset import Dataset
from training.decided import DecisionData

COLUMN = {feature.name: position for position, feature in enumerate(NUMERIC)}
START = to_microseconds(datetime(2026, 1, 5, tzinfo=UTC))
SILENCE_DAYS = 28


def _dataset(
    silent_after,
    known,
    observable,
    *,
    vectors=None,
    categories=None,
    person=None,
    seat=None,
    organization=None,
    team=None,
    as_of=None,
    censoring_weight=None,
):
    """Snapshots of seats in use, one seat and person each, at one moment, unless said otherwise."""
    n = len(silent_after)
    if vectors is None:
        vectors = np.zeros((n, len(NUMERIC)))
        vectors[:, COLUMN["meaningful_28"]] = 1
    names = np.array([f"acme/s-{number}" for number in range(n)], dtype=str)
    return Dataset(
        vectors=vectors,
        categories=[["m365_copilot", "", "", ""]] * n if categories is None else categories,
        silent_after=np.asarray(silent_after, np.float64),
        known=np.asarray(known, np.float64),
        observable=np.asarray(observable, np.float64),
        ended=np.full(n, "end_of_data"),
        silence=np.full(n, SILENCE_DAYS, np.int64),
        person=names if person is None else person,
        seat=names if seat is None else seat,
        organization=np.full(n, "acme") if organization is None else organization,
        team=np.full(n, "") if team is None else team,
        as_of=np.full(n, START, np.int64) if as_of is None else as_of,
        censoring_weight=np.ones((n, PERIODS)) if censoring_weight is None else censoring_weight,
    )


@dataclass(frozen=True)
class Simulated:
    """hazards: (n, PERIODS) true; silence: (n,) true T in days, inf beyond the last period."""

    dataset: Dataset
    hazards: np.ndarray
    silence: np.ndarray

    @property
    def risk(self):
        """(n, PERIODS) true risk by the end of each period."""
        return cumulative(self.hazards)


def _simulate(seed, *, n=4000, slope=1.0, now=-1.8, later=-3.2, longest=80.0):
    """Silences whose log-odds rise by `slope` per standard deviation of one feature; censored uniformly up to `longest`.

    The other features are noise, always the same, or always missing. Four snapshots a person.
    """
    rng = np.random.default_rng(seed)
    driver = rng.uniform(0, 3.4, n)
    z = (driver - 1.7) / (3.4 / np.sqrt(12))
    base = np.where(np.arange(PERIODS) == 0, now, later)
    hazards = 1 / (1 + np.exp(-(base + slope * z[:, None])))
    vectors = np.zeros((n, len(NUMERIC)))
    vectors[:, COLUMN["meaningful_28"]] = 1 + rng.poisson(5, n)
    vectors[:, COLUMN["days_since_meaningful"]] = np.expm1(driver)
    vectors[:, COLUMN["sessions_28"]] = rng.poisson(10, n)
    vectors[:, COLUMN["confidence_last"]] = np.nan
    is_now = rng.random((n, PERIODS)) < hazards
    period = np.where(is_now.any(axis=1), is_now.argmax(axis=1), PERIODS)
    ends = np.array([*PERIOD_ENDS_DAYS, np.inf])
    silence = np.where(period == 0, 0.0, ends[period] - 7 * rng.random(n))
    observable = rng.uniform(-5, longest, n)
    seen = silence <= observable
    people = np.array([f"acme/p-{number // 4}" for number in range(n)])
    roles = rng.choice(["analyst", "engineer", "nurse"], n)
    dataset = _dataset(
        np.where(seen, silence, np.inf),
        np.where(seen, silence, observable),
        observable,
        vectors=vectors,
        categories=[["m365_copilot", str(role), "", ""] for role in roles],
        person=people,
        as_of=START + rng.integers(0, 150, n) * MICROSECONDS_PER_DAY,
    )
    return Simulated(dataset, hazards, silence)


ARMS = ("none", "in_context_guidance", "peer_champion")


def _decision_data(seed=0, *, n=600, effect=0.0, members=5, arms=ARMS, propensity=None, kept=None, arm=None):
    """Decisions in teams of `members` who share a mood; the last arm keeps more by `effect` where the first number is above 0.

    Logged by a policy that follows the second number, which moves the chance of keeping: confounded, with known
    probabilities.
    """
    rng = np.random.default_rng(seed)
    team = np.arange(n) // members
    x = rng.normal(0, 1, (n, 3))
    if propensity is None:
        score = np.exp(np.column_stack([np.ones(n), 0.8 * x[:, 1], -0.8 * x[:, 1]]))
        propensity = 0.05 + 0.85 * score / score.sum(axis=1, keepdims=True)
    if arm is None:
        drawn = (rng.random(n)[:, None] >= np.cumsum(propensity, axis=1)).sum(axis=1)
        arm = np.minimum(drawn, propensity.shape[1] - 1)
    mood = rng.normal(0, 0.1, team.max() + 1)[team]
    chance = np.clip(0.5 + 0.15 * np.tanh(x[:, 1]) + mood + effect * (arm == len(arms) - 1) * (x[:, 0] > 0), 0, 1)
    expert = np.zeros((n, len(arms)))
    expert[:, 1:] = 0.02
    return DecisionData(
        arms=arms,
        seen=Seen(x, [["north" if t % 2 else "south"] for t in team], expert, (x > 0).astype(float), np.ones(n)),
        arm=arm,
        propensity=propensity,
        kept=(rng.random(n) < chance).astype(np.float64) if kept is None else kept,
        team=np.char.add("t-", team.astype(str)),
        organization=np.full(n, "acme"),
        seat=np.char.add("acme/s-", np.arange(n).astype(str)),
        as_of=START + np.arange(n) * MICROSECONDS_PER_DAY // 24,
        cost=np.arange(len(arms)) * 10.0,
        answers=np.zeros((len(arms), 0)),
    )


@pytest.fixture(scope="session")
def decision_data():
    return _decision_data


@pytest.fixture(scope="session")
def column():
    """Where a numeric feature stands in the vector, by name."""
    return COLUMN


@pytest.fixture(scope="session")
def make_dataset():
    return _dataset


@pytest.fixture(scope="session")
def simulate():
    return _simulate
