"""Snapshots as served: counts, shares and days that hang together, with what is missing where the catalogue says so."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.catalogue import CATEGORIES, MISSING_CATEGORY, NUMERIC, catalogue_hash
from features.references import AS_OF, OWNERS
from features.rules import Stratum
from features.tables import Served
from monitoring.windows import COMPARED, DAYS_SCHEMA, MOMENT, RISK, SEAT, SERVED_RISK, TEAM, WEEK, Window, compare

SINCE = datetime(2026, 5, 4, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=7)
LEVELS = {
    "tool": ["claude"],
    "role": ["sales", "service", "legal"],
    "function": ["field", "office"],
    "region": ["eu", "us"],
}
ALWAYS_IN_USE = ("meaningful_28", "meaningful_ever")

Snapshots = Callable[..., pl.DataFrame]
Windows = Callable[..., Window]


def draw_snapshots(n: int, *, seed: int) -> pl.DataFrame:
    """COMPARED and `seat` of n seats in use."""
    rng = np.random.default_rng(seed)
    activity = rng.gamma(2.0, 1.0, n)
    columns: dict[str, object] = {}
    for position, feature in enumerate(NUMERIC):
        if feature.unit in ("share", "-1 to 1", "score"):
            values = rng.beta(2, 3, n)
        elif feature.unit == "0 or 1":
            values = (rng.random(n) < 0.3).astype(float)
        elif feature.unit in ("ratio", "seconds", "characters"):
            values = rng.lognormal(1, 0.6, n)
        else:
            values = rng.poisson(activity * (1 + position % 7)).astype(float)
        is_missing = (rng.random(n) < 0.2) & (feature.missing != "never")
        if feature.unit == "0 to 10":
            values = np.minimum(values, 9.0)
        columns[feature.name] = np.where(is_missing, np.nan, values + (feature.name in ALWAYS_IN_USE))
    for feature in CATEGORIES:
        columns[feature.name] = rng.choice(LEVELS[feature.name], n)
    columns[RISK] = rng.beta(1 + 1 / (activity + 0.5), 6, n)
    return pl.DataFrame(columns).with_columns(pl.col(pl.Float64).fill_nan(None), pl.int_range(n).alias(SEAT))


@pytest.fixture(scope="session")
def snapshots() -> Snapshots:
    return draw_snapshots


def day(in_use: int, **counts: int) -> dict[str, object]:
    row = dict.fromkeys(DAYS_SCHEMA, 0) | {"seats": in_use + sum(counts.values())}
    return row | {"day": date(2026, 5, 4), str(Stratum.IN_USE): in_use} | counts


@pytest.fixture(scope="session")
def reference_of() -> Callable[[pl.DataFrame], pl.DataFrame]:
    """What training would have kept of the snapshots: seats in teams of eight, over five weeks."""

    def make(frame: pl.DataFrame) -> pl.DataFrame:
        number = pl.int_range(pl.len())
        owners = {name: (number // 8 if name == "team" else number).cast(pl.String) for name in OWNERS}
        week = pl.lit(SINCE).dt.cast_time_unit("us") - pl.duration(weeks=number % 5)
        return frame.select(COMPARED).with_columns(week.alias(AS_OF), **owners)

    return make


@pytest.fixture(scope="session")
def window_of() -> Windows:
    def make(reference: pl.DataFrame, current: pl.DataFrame, *, days: Sequence[dict[str, object]] = ()) -> Window:
        table = pl.DataFrame(list(days) or [day(current.height)], DAYS_SCHEMA)
        dated = (
            frame.with_columns((pl.col(SEAT) // 8).alias(TEAM), (pl.col(SEAT) % 3 + 8).alias(WEEK))
            for frame in (reference, current)
        )
        before, now = dated
        before = before.drop(SEAT).with_columns((pl.int_range(pl.len()) % 5).alias(MOMENT))
        return compare(before, now, SINCE, UNTIL, "risk/3", table)

    return make


@pytest.fixture(scope="session")
def served_of() -> Callable[..., list[Served]]:
    """What the service would have recorded for the snapshots, by seat number."""

    def make(
        frame: pl.DataFrame, *, at: datetime = SINCE + timedelta(hours=9), age_hours: float = 1, model: str = "risk/3"
    ) -> list[Served]:
        vectors = frame.select(feature.name for feature in NUMERIC).to_numpy()
        names = frame.select(pl.col(f.name).fill_null(MISSING_CATEGORY) for f in CATEGORIES).rows()
        return [
            Served(
                f"acme:seat-{seat:05d}", at, at - timedelta(hours=age_hours), model, catalogue_hash(),
                {SERVED_RISK: risk}, vector, tuple(categories),
            )
            for seat, risk, vector, categories in zip(frame[SEAT], frame[RISK], vectors, names, strict=True)
        ]  # fmt: skip

    return make
