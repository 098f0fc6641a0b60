"""What was served in a time window, beside the snapshots that the model was trained on, of the same age."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from features.catalogue import CATEGORIES, FEATURES, MISSING_CATEGORY, NUMERIC, catalogue_hash
from features.log import EventLog
from features.references import AS_OF, OWNERS, team_of
from features.references import TEAM as OWNING_TEAM
from features.rules import Stratum, ages, strata
from features.scorer import PRODUCT_HORIZON_DAYS
from features.tables import Served
from monitoring.chance import Blocks
from monitoring.matching import match, matched_sample

RISK = f"risk_{PRODUCT_HORIZON_DAYS}"
SERVED_RISK = str(PRODUCT_HORIZON_DAYS)  # the key of `Served.risk`
COMPARED = (*(feature.name for feature in FEATURES), RISK)
SEAT, TEAM, WEEK, MOMENT = "seat", "team", "week", "moment"

MAX_ROWS = 20_000  # a side; our choice: a report in seconds, while the noise of a PSI of ten bins is below 0.003
MIN_SEATS = 200  # our choice: below it the noise of a PSI of ten bins is above 0.28 and hides any shift
STALE_AFTER_HOURS = 26  # as features.store has it, which costs seconds to import (design: freshness)
_WEEK_US = 7 * 86_400 * 1_000_000

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

    reference: COMPARED, missing is null, drawn so that its seats are as old as those served. current: COMPARED and `seat`
    and `team`, numbers that mean nothing outside the window; one row for each seat; the risk is null where another model
    than `model` gave it. pool, blocks: the snapshots of the reference that are near in age, with weight, team and moment,
    from which chance is resampled. older: share of served seats that are older than anything in the reference. days:
    DAYS_SCHEMA, one row for each UTC day with what became of the latest snapshot of each seat on that day; `other_model` is
    counted among the seats in use, `stale` among all with features. reference_rows: of seats in use, before drawing.
    categories: by feature, those that the reference has at any age.
    """

    reference: pl.DataFrame
    current: pl.DataFrame
    pool: pl.DataFrame
    blocks: Blocks
    older: float
    since: datetime
    until: datetime
    model: str
    days: pl.DataFrame
    reference_rows: int
    categories: Mapping[str, frozenset[str]]

    @property
    def seats(self) -> int:
        """Distinct seats in the current sample."""
        return self.current[SEAT].n_unique()

    @property
    def teams(self) -> int:
        """Distinct teams in the current sample."""
        return self.current[TEAM].n_unique()

    @property
    def has_verdict(self) -> bool:
        """Whether both samples are large enough to compare."""
        return self.seats >= MIN_SEATS and self.reference.height >= MIN_SEATS

    def total(self, column: str) -> int:
        """The sum of a column of `days`."""
        return int(self.days[column].sum())


@dataclass(frozen=True)
class _Rows:
    """(n,) snapshots of seats in use, one for each seat, of which the MAX_ROWS with the smallest `draw` are kept."""

    draw: npt.NDArray[np.uint64]
    seat_id: npt.NDArray[np.str_]
    vectors: npt.NDArray[np.float64]
    categories: npt.NDArray[np.str_]
    risk: npt.NDArray[np.float64]

    def followed_by(self, other: "_Rows", seen: Sequence[str]) -> "_Rows":
        """The same with a later day, on which the seats `seen` were served: what was known of them before is over."""
        stays = ~np.isin(self.seat_id, np.array(seen, np.str_))
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        both = [np.concatenate((mine[stays], theirs)) for mine, theirs in pairs]
        kept = np.argsort(both[0], kind="stable")[:MAX_ROWS]
        return _Rows(*(column[kept] for column in both))


def read_window(log: EventLog, reference_path: Path, *, since: datetime, until: datetime, model: str) -> Window:
    """What was served in [since, until) beside the reference at `reference_path`; no seat id leaves this function.

    Of each seat the latest snapshot counts. Both samples are of seats in use, the risk set that the model was trained on,
    of today's catalogue, and at most MAX_ROWS, drawn by hash: the same rows at every call. The reference's seats are as
    old as those that were served (`monitoring.matching`).
    model: as `Served.model` has it. Raises ValueError where the window is empty or the reference cannot be read.
    """
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError(f"the window needs time zones, came {since.isoformat()} to {until.isoformat()}")
    if since >= until:
        raise ValueError(f"the window ends at {until.isoformat()}, which is not after its start {since.isoformat()}")
    reference = _read_reference(reference_path)
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
        rows = rows.followed_by(_in_use(in_use, model), list(latest))
    current = _frame(rows, _teams(log, rows))
    return compare(reference, current, since, until, model, pl.DataFrame(days, DAYS_SCHEMA))


def compare(
    reference: pl.DataFrame, current: pl.DataFrame, since: datetime, until: datetime, model: str, days: pl.DataFrame
) -> Window:
    """The window of two samples of seats in use.

    reference: COMPARED and `week`, `team`, `moment`; current: COMPARED and `seat`, `team`, `week`, all whole numbers.
    """
    categories = {
        feature.name: frozenset(reference[feature.name].drop_nulls().unique().to_list()) for feature in CATEGORIES
    }
    if not (reference.height and current.height):
        nothing = np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)
        return Window(
            reference.select(COMPARED), current.drop(WEEK), reference.select(COMPARED), Blocks(*nothing), 0.0,
            since, until, model, days, reference.height, categories,
        )  # fmt: skip
    found = match(reference[WEEK].to_numpy(), current[WEEK].to_numpy())
    pool = reference.filter(pl.Series(found.weight > 0))
    weight = found.weight[found.weight > 0]
    return Window(
        pool.select(COMPARED)[matched_sample(weight, pool.height)],
        current.drop(WEEK),
        pool.select(COMPARED),
        Blocks(weight, pool[TEAM].to_numpy(), pool[MOMENT].to_numpy()),
        found.older,
        since,
        until,
        model,
        days,
        reference.height,
        categories,
    )


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
    return int.from_bytes(hashlib.blake2b(item.seat_id.encode(), digest_size=8).digest(), "big")


def _teams(log: EventLog, rows: _Rows) -> npt.NDArray[np.str_]:
    """(n,) the digest of each row's team; a seat that the roster does not know is a team of its own."""
    wanted = log.seats(rows.seat_id.tolist()).select(["seat_id", "organization", "team"]).to_pylist()
    known = {row["seat_id"]: team_of(row["organization"], row["team"], row["seat_id"]) for row in wanted}
    return np.array([known.get(seat_id, seat_id) for seat_id in rows.seat_id.tolist()], np.str_)


def _frame(rows: _Rows, teams: npt.NDArray[np.str_]) -> pl.DataFrame:
    columns: dict[str, npt.NDArray[np.generic]] = {f.name: rows.vectors[:, i] for i, f in enumerate(NUMERIC)}
    columns |= {f.name: rows.categories[:, i] for i, f in enumerate(CATEGORIES)}
    frame = _clean(pl.DataFrame({**columns, RISK: rows.risk}))
    owners = {SEAT: rows.seat_id, TEAM: teams}
    codes = [pl.Series(name, np.unique(of, return_inverse=True)[1], dtype=pl.Int64) for name, of in owners.items()]
    return frame.with_columns(*codes, _weeks(rows.vectors))


def _weeks(vectors: npt.NDArray[np.float64]) -> pl.Series:
    """The whole weeks since each seat was assigned."""
    return pl.Series(WEEK, np.nan_to_num(ages(vectors)) // 7, dtype=pl.Int64)


def _clean(frame: pl.DataFrame) -> pl.DataFrame:
    numbers = (pl.col(f.name).cast(pl.Float64).fill_nan(None) for f in NUMERIC)
    names = (pl.col(f.name).cast(pl.String).replace(MISSING_CATEGORY, None) for f in CATEGORIES)
    cleaned = frame.select(*numbers, *names, pl.col(RISK).cast(pl.Float64).fill_nan(None))
    return cleaned.select(COMPARED)


def _read_reference(path: Path) -> pl.DataFrame:
    """COMPARED and `week`, `team`, `moment` of the reference's snapshots of seats in use."""
    if not path.is_file():
        raise ValueError(f"there is no reference at {path}; expected the reference.parquet that the model carries")
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the reference {path} cannot be read as Parquet: {reason}") from None
    absent = [name for name in (*COMPARED, AS_OF, *OWNERS) if name not in frame.columns]
    if absent:
        raise ValueError(
            f"the reference {path} lacks {', '.join(absent[:5])}{' and more' if len(absent) > 5 else ''}: "
            "the model was trained by another build or on another feature catalogue; train again"
        )
    try:
        cleaned = _clean(frame)
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the reference {path} has a column of another type than the catalogue's: {reason}") from None
    vectors = cleaned.select(feature.name for feature in NUMERIC).to_numpy()
    return cleaned.with_columns(
        _weeks(vectors),
        pl.Series(TEAM, np.unique(frame[OWNING_TEAM].to_numpy(), return_inverse=True)[1], dtype=pl.Int64),
        (frame[AS_OF].cast(pl.Datetime("us", "UTC")).cast(pl.Int64) // _WEEK_US).alias(MOMENT),
    ).filter(pl.Series(strata(vectors) == str(Stratum.IN_USE), dtype=pl.Boolean))
