"""Synthetic snapshots with known hazards, for every test of this folder: importlib mode has no sibling imports."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest

from features.catalogue import NUMERIC
from features.events import MICROSECONDS_PER_DAY
from features.instants import to_microseconds
from features.scorer import PERIOD_ENDS_DAYS, PERIODS, cumulative
from training.dataset import Dataset

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
