"""What was served in a time window, beside the snapshots that the model was trained on."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from features.catalogue import CATEGORIES, FEATURES, MISSING_CATEGORY, NUMERIC, catalogue_hash
from features.instants import to_microseconds
from features.log import EventLog, Served
from features.rules import Stratum, strata
from features.scorer import PRODUCT_HORIZON_DAYS

RISK = f"risk_{PRODUCT_HORIZON_DAYS}"
SERVED_RISK = str(PRODUCT_HORIZON_DAYS)  # the key of `Served.risk`
COMPARED = (*(feature.name for feature in FEATURES), RISK)
SEAT = "seat"

MAX_ROWS = 20_000  # a side; our choice: a report in seconds, while the noise of a PSI of ten bins is below 0.003
MIN_SEATS = 200  # our choice: below it the noise of a PSI of ten bins is above 0.28 and hides any shift
STALE_AFTER_HOURS = 26  # as features.store has it, which costs seconds to import (design: freshness)

DAYS_SCHEMA = pl.Schema(
    {
        "day": pl.Date(),
        **{
            name: pl.Int64()
            for name in ("seats", "without_features", "other_catalogue", *Stratum, "other_model", "stale")
        },
    }
)


@dataclass(frozen=True)
class Window:
    """Two samples of snapshots of seats in use, and what was left out of them.

    reference: COMPARED, missing is null. current: COMPARED and `seat`, a number that means nothing outside the window;
    the risk is null where another model than `model` gave it. days: DAYS_SCHEMA, one row for each UTC day with what
    became of the latest snapshot of each seat on that day; `other_model` is counted among the seats in use, `stale`
    among all with features. reference_rows: how many snapshots the reference was drawn from.
    """

    reference: pl.DataFrame
    current: pl.DataFrame
    since: datetime
    until: datetime
    model: str
    days: pl.DataFrame
    reference_rows: int

    @property
    def seats(self) -> int:
        """Distinct seats in the current sample."""
        return self.current[SEAT].n_unique()

    @property
    def has_verdict(self) -> bool:
        """Whether both samples are large enough to compare."""
        return self.seats >= MIN_SEATS and self.reference.height >= MIN_SEATS

    def total(self, column: str) -> int:
        """The sum of a column of `days`."""
        return int(self.days[column].sum())


@dataclass(frozen=True)
class _Rows:
    """(n,) snapshots of seats in use, of which the MAX_ROWS with the smallest `draw` are kept."""

    draw: npt.NDArray[np.uint64]
    seat_id: npt.NDArray[np.str_]
    vectors: npt.NDArray[np.float64]
    categories: npt.NDArray[np.str_]
    risk: npt.NDArray[np.float64]

    def joined(self, other: "_Rows") -> "_Rows":
        both = [np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)]
        kept = np.argsort(both[0], kind="stable")[:MAX_ROWS]
        return _Rows(*(column[kept] for column in both))


def read_window(log: EventLog, reference_path: Path, *, since: datetime, until: datetime, model: str) -> Window:
    """What was served in [since, until) beside the reference at `reference_path`; no seat id leaves this function.

    Of each seat and UTC day the latest snapshot counts, once. Both samples are of seats in use, the risk set that the
    model was trained on, of today's catalogue, and at most MAX_ROWS, drawn by hash: the same rows at every call.
    model: as `Served.model` has it. Raises ValueError where the window is empty or the reference cannot be read.
    """
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError(f"the window needs time zones, came {since.isoformat()} to {until.isoformat()}")
    if since >= until:
        raise ValueError(f"the window ends at {until.isoformat()}, which is not after its start {since.isoformat()}")
    reference, reference_rows = _read_reference(reference_path)
    rows, days = _in_use((), model), []
    for start, end in _utc_days(since, until):
        latest = {item.seat_id: item for item in log.served(since=start, until=end)}  # oldest first: the latest stays
        if not latest:
            continue
        featured = [item for item in latest.values() if item.as_of is not None and item.vector.size]
        known = [item for item in featured if item.catalogue_hash == catalogue_hash()]
        stratum = strata(np.stack([item.vector for item in known])) if known else np.empty(0, np.str_)
        in_use = [item for item, where in zip(known, stratum, strict=True) if where == Stratum.IN_USE]
        days.append(
            {
                "day": start.astimezone(UTC).date(),
                "seats": len(latest),
                "without_features": len(latest) - len(featured),
                "other_catalogue": len(featured) - len(known),
                **{str(name): int((stratum == str(name)).sum()) for name in Stratum},
                "other_model": sum(item.model != model for item in in_use),
                "stale": sum(_is_stale(item) for item in known),
            }
        )
        rows = rows.joined(_in_use(in_use, model))
    return Window(reference, _frame(rows), since, until, model, pl.DataFrame(days, DAYS_SCHEMA), reference_rows)


def _utc_days(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    start = since
    while start < until:
        midnight = datetime.combine(start.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
        yield start, min(midnight, until)
        start = midnight


def _is_stale(item: Served) -> bool:
    return item.as_of is not None and item.served_at - item.as_of > timedelta(hours=STALE_AFTER_HOURS)


def _in_use(items: Sequence[Served], model: str) -> _Rows:
    n = len(items)
    return _Rows(
        np.array([_draw(item) for item in items], np.uint64),
        np.array([item.seat_id for item in items], np.str_),
        np.array([item.vector for item in items], np.float64).reshape(n, len(NUMERIC)),
        np.array([item.categories for item in items], np.str_).reshape(n, len(CATEGORIES)),
        np.array([item.risk.get(SERVED_RISK, np.nan) if item.model == model else np.nan for item in items], np.float64),
    )


def _draw(item: Served) -> int:
    key = f"{item.seat_id}|{0 if item.as_of is None else to_microseconds(item.as_of)}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def _frame(rows: _Rows) -> pl.DataFrame:
    columns: dict[str, npt.NDArray[np.generic]] = {f.name: rows.vectors[:, i] for i, f in enumerate(NUMERIC)}
    columns |= {f.name: rows.categories[:, i] for i, f in enumerate(CATEGORIES)}
    columns |= {RISK: rows.risk, SEAT: np.unique(rows.seat_id, return_inverse=True)[1]}
    return _clean(pl.DataFrame(columns)).with_columns(pl.Series(SEAT, columns[SEAT], dtype=pl.Int64))


def _clean(frame: pl.DataFrame) -> pl.DataFrame:
    numbers = (pl.col(f.name).cast(pl.Float64).fill_nan(None) for f in NUMERIC)
    names = (pl.col(f.name).cast(pl.String).replace(MISSING_CATEGORY, None) for f in CATEGORIES)
    cleaned = frame.select(*numbers, *names, pl.col(RISK).cast(pl.Float64).fill_nan(None))
    return cleaned.select(COMPARED)


def _read_reference(path: Path) -> tuple[pl.DataFrame, int]:
    """The sample of the reference, and how many snapshots of seats in use it was drawn from."""
    if not path.is_file():
        raise ValueError(f"there is no reference at {path}; expected the reference.parquet that the model carries")
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the reference {path} cannot be read as Parquet: {reason}") from None
    absent = [name for name in COMPARED if name not in frame.columns]
    if absent:
        raise ValueError(
            f"the reference {path} lacks {', '.join(absent[:5])}{' and more' if len(absent) > 5 else ''}: "
            "the model was trained on another feature catalogue; train again"
        )
    try:
        frame = _clean(frame)
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the reference {path} has a column of another type than the catalogue's: {reason}") from None
    vectors = frame.select(feature.name for feature in NUMERIC).to_numpy()
    in_use = frame.filter(pl.Series(strata(vectors) == str(Stratum.IN_USE), dtype=pl.Boolean))
    kept = np.sort(np.argsort(_scattered(in_use.height), kind="stable")[:MAX_ROWS])
    return in_use[kept], in_use.height


def _scattered(n: int) -> npt.NDArray[np.uint64]:
    """(n,) a fixed hash of each row's position: every k-th row would follow the weeks of the snapshots.

    Source: Steele, Lea, Flood 2014, SplitMix64, with the constants of Stafford's Mix13.
    """
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
