"""What abandonment means: a silence of W days without meaningful use though there was opportunity.

At `as_of + t` the window `[as_of + t, as_of + t + W)` is *used* (it has meaningful use), *silent* (none, though there
was opportunity) or *unjudgeable* (neither). T is the first t at which it is silent; abandoned by H means T <= H. What
can be said ends where a window cannot be judged: at the first unjudgeable one, where the data ends, where the seat was
removed, where an intervention was delivered (risk is under `none`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np
import polars as pl
import pyarrow as pa

from features.compute import SNAPSHOT_SCHEMA
from features.events import MICROSECONDS_PER_DAY, Kind
from features.history import Floats, Integers
from features.instants import to_microseconds
from features.sources import Source
from features.tools import ToolProfile

DAY = MICROSECONDS_PER_DAY
SNAPSHOT_EVERY_DAYS = 7
FAR = np.iinfo(np.int64).max // 4


class Ended(StrEnum):
    """Why nothing more can be said of a snapshot's seat."""

    SILENCE = "silence"
    NO_OPPORTUNITY = "no_opportunity"
    END_OF_DATA = "end_of_data"
    REMOVED = "removed"
    INTERVENTION = "intervention"


LABEL_SCHEMA = {
    **SNAPSHOT_SCHEMA,
    "silent_after_days": pl.Float64,
    "known_days": pl.Float64,
    "observable_days": pl.Float64,
    "ended": pl.String,
}
_REASONS = (Ended.END_OF_DATA, Ended.REMOVED, Ended.INTERVENTION)


@dataclass(frozen=True)
class _Timeline:
    """Sorted instants of one kind of event by seat, as one composite key, for windows over many seats."""

    keys: Integers
    at: Integers
    low: int
    span: int
    ranked: Integers | None = None

    def before(self, seat: Integers, instant: Integers) -> Integers:
        """How many lie before the instant in the seat (and in all seats before it)."""
        if self.ranked is None:
            place = np.clip(instant - self.low, 0, self.span - 1)
        else:
            place = np.searchsorted(self.ranked, instant)
        return np.asarray(np.searchsorted(self.keys, seat * self.span + place), np.int64)


def weekly_snapshots(roster_latest: pa.Table, *, until: datetime) -> pl.DataFrame:
    """Snapshots of every seat, each week of its life from just after its assignment, to `until` (excluded) or removal.

    roster_latest: SEAT_SCHEMA. The first is one microsecond after the assignment, so that an event at that very instant
    is already known. SNAPSHOT_SCHEMA, by seat and time.
    """
    seats = pl.DataFrame(pl.from_arrow(roster_latest.select(["seat_id", "assigned_at", "removed_at"])))
    until = until.astimezone(UTC)
    last = pl.min_horizontal(pl.lit(until).dt.cast_time_unit("us"), pl.col("removed_at").fill_null(until))
    first = pl.col("assigned_at") + pl.duration(microseconds=1)
    return (
        seats.filter(first < last)
        .with_columns(pl.datetime_ranges(first, last, f"{SNAPSHOT_EVERY_DAYS}d", closed="left").alias("as_of"))
        .select("seat_id", "as_of")
        .explode("as_of")
        .sort("seat_id", "as_of")
    )


def label_snapshots(
    snapshots: pl.DataFrame,
    *,
    events: pa.Table,
    seats: pa.Table,
    sources: Sequence[Source],
    tools: Mapping[str, ToolProfile],
) -> pl.DataFrame:
    """What became of each snapshot, LABEL_SCHEMA, in the order given.

    silent_after_days: T in days, null where no silence was seen. known_days: up to which t (included) it is known that
    no silence had begun, or when it began; below 0 nothing is known. observable_days: the last t whose window is fully
    observed under `none`, whatever happened before. ended: why (Ended). Raises ValueError for a seat that is
    not in `seats`.
    """
    frame = pl.DataFrame(pl.from_arrow(seats)).with_row_index("seat").with_columns(pl.col("seat").cast(pl.Int64))
    at = (
        snapshots.select("seat_id", "as_of")
        .with_row_index("row")
        .join(frame.select("seat_id", "seat", "tool", "removed_at"), on="seat_id", how="left")
        .sort("row")
    )
    unknown = at.filter(pl.col("seat").is_null())
    if unknown.height:
        raise ValueError(f"seat {unknown['seat_id'][0]!r} was never assigned; send its seat first")
    judged = _judged_events(events, frame, tools)
    seat, as_of = at["seat"].to_numpy(), at["as_of"].cast(pl.Int64).to_numpy()
    silence = (
        at["tool"].replace_strict({t: p.silence_days * DAY for t, p in tools.items()}, return_dtype=pl.Int64).to_numpy()
    )
    uses, opportunities = (_timeline(judged, mask, seats=frame.height) for mask in ("is_meaningful", "is_opportunity"))
    start = _first_unused_window(uses, seat, as_of, silence)
    has_opportunity = opportunities.before(seat, start + silence) > opportunities.before(seat, start)
    observed, reason = _observed_until(judged, at, frame, sources, tools)
    is_observed = start + silence <= observed
    is_silent = is_observed & has_opportunity
    known = np.where(is_observed, np.where(has_opportunity, start, start - 1), observed - silence)
    ended = np.where(is_silent, str(Ended.SILENCE), np.where(is_observed, str(Ended.NO_OPPORTUNITY), reason))
    return snapshots.select("seat_id", "as_of").with_columns(
        pl.Series("silent_after_days", np.where(is_silent, (start - as_of) / DAY, np.nan)).fill_nan(None),
        pl.Series("known_days", (known - as_of) / DAY),
        pl.Series("observable_days", (observed - silence - as_of) / DAY),
        pl.Series("ended", ended, dtype=pl.String),
    )


def abandoned_by(labels: pl.DataFrame, horizon_days: float) -> Floats:
    """(n,) 1 where a silence began by the horizon, 0 where it is known that none had, NaN where censored before.

    A silence is counted only once the whole horizon is observable: else the abandoned would be known sooner than the
    kept, and the young data would hold too many of them.
    """
    silent = labels["silent_after_days"].fill_null(np.inf).to_numpy()
    is_abandoned = (silent <= horizon_days) & (labels["observable_days"].to_numpy() >= horizon_days)
    is_kept = (silent > horizon_days) & (labels["known_days"].to_numpy() >= horizon_days)
    return np.where(is_abandoned, 1.0, np.where(is_kept, 0.0, np.nan))


def _judged_events(events: pa.Table, seats: pl.DataFrame, tools: Mapping[str, ToolProfile]) -> pl.DataFrame:
    """Instants, by seat, of meaningful use, opportunity and delivered interventions, and each event's source."""
    meaningful, opportunity = pl.lit(False), pl.lit(False)
    for tool, profile in tools.items():
        is_tool = pl.col("tool") == tool
        counts = pl.lit(profile.any_workflow) | pl.col("workflow").is_in(list(profile.high_value_workflows))
        is_kind = pl.col("kind").is_in([str(kind) for kind in profile.meaningful_kinds])
        meaningful |= is_tool & is_kind & counts.fill_null(False) & ~pl.col("guided")
        opportunity |= is_tool & pl.col("kind").is_in([str(kind) for kind in profile.opportunity_kinds])
    return (
        pl.DataFrame(pl.from_arrow(events))
        .lazy()
        .join(seats.lazy().select("seat_id", "seat", "tool", "organization"), on="seat_id")
        .select(
            "seat",
            "tool",
            "organization",
            "source",
            pl.col("occurred_at").cast(pl.Int64).alias("at"),
            meaningful.alias("is_meaningful"),
            opportunity.alias("is_opportunity"),
            (pl.col("kind") == str(Kind.INTERVENTION)).alias("is_intervention"),
        )
        .filter(pl.any_horizontal("is_meaningful", "is_opportunity", "is_intervention"))
        .sort("seat", "at")
        .collect()
    )


def _timeline(judged: pl.DataFrame, mask: str, *, seats: int) -> _Timeline:
    chosen = judged.filter(pl.col(mask))
    seat, at = chosen["seat"].to_numpy(), chosen["at"].to_numpy()
    low = int(at.min()) if at.size else 0
    span = (int(at.max()) - low if at.size else 0) + 2
    if seats * span >= 2**63:  # too many seats over too long a time for one key: ranks instead of instants
        ranked = np.unique(at)
        return _Timeline(seat * (ranked.size + 1) + np.searchsorted(ranked, at), at, low, ranked.size + 1, ranked)
    return _Timeline(seat * span + (at - low), at, low, span)


def _first_unused_window(uses: _Timeline, seat: Integers, as_of: Integers, silence: Integers) -> Integers:
    """The first instant from `as_of` on at which a window without meaningful use starts.

    That is `as_of` itself, or just after a use whose next one is further away than the window is long.
    """
    following = np.append(uses.at[1:], FAR)
    owner = uses.keys // uses.span
    following = np.where(np.append(owner[1:] != owner[:-1], True)[: owner.size], FAR, following[: owner.size])
    position = uses.before(seat, as_of)
    stop = uses.before(seat, np.full(seat.shape, FAR))
    start = as_of.copy()
    for one_silence in np.unique(silence):
        opens_gap = following - uses.at > one_silence
        next_gap = np.where(opens_gap, np.arange(owner.size), owner.size)
        next_gap = np.minimum.accumulate(next_gap[::-1])[::-1]
        chosen = (silence == one_silence) & (position < stop)
        first_use = np.where(chosen, uses.at[np.minimum(position, owner.size - 1)] if owner.size else 0, FAR)
        continues = chosen & (first_use < as_of + one_silence)
        start[continues] = uses.at[next_gap[position[continues]]] + 1
    return start


def _tells_use(source: Source, tools: Mapping[str, ToolProfile]) -> bool:
    profile = tools.get(source.tool)
    return profile is not None and any(kind in profile.meaningful_kinds for _, kind in source.known_kinds)


def _observed_until(
    judged: pl.DataFrame,
    at: pl.DataFrame,
    seats: pl.DataFrame,
    sources: Sequence[Source],
    tools: Mapping[str, ToolProfile],
) -> tuple[Integers, np.ndarray]:
    """(n,) instant up to which each snapshot's seat is observed under `none`, and (n,) why it ends there.

    That is where the slowest of the sources that told of the seat ends. Where none of them told of meaningful use of it,
    those must have reached as far that can tell of any; where none can, no silence is known.
    """
    complete = pl.DataFrame(
        [
            (s.organization, s.tool, s.source, to_microseconds(s.watermark - s.lag), _tells_use(s, tools))
            for s in sources
        ],
        schema={
            "organization": pl.String,
            "tool": pl.String,
            "source": pl.String,
            "complete": pl.Int64,
            "tells_use": pl.Boolean,
        },
        orient="row",
    )
    feeds = (
        judged.filter(pl.col("is_meaningful") | pl.col("is_opportunity"))
        .group_by("seat", "organization", "tool", "source")
        .agg(pl.col("is_meaningful").any())
    )
    own = (
        feeds.join(complete, on=["organization", "tool", "source"])
        .group_by("seat")
        .agg(pl.col("complete").min(), pl.col("is_meaningful").any())
    )
    usual = complete.filter("tells_use").group_by("organization", "tool").agg(pl.col("complete").max().alias("usual"))
    told = (
        pl.when(pl.col("is_meaningful").fill_null(False)).then(pl.lit(FAR)).otherwise(pl.col("usual").fill_null(-FAR))
    )
    ends = (
        seats.select("seat", "organization", "tool")
        .join(own, on="seat", how="left")
        .join(usual, on=["organization", "tool"], how="left")
        .select("seat", pl.min_horizontal("complete", told).alias("complete"))
    )
    data_end = at.select("row", "seat").join(ends, on="seat", how="left").sort("row")["complete"].to_numpy()
    removed = at["removed_at"].cast(pl.Int64).fill_null(FAR).to_numpy()
    touched = _timeline(judged, "is_intervention", seats=seats.height)
    seat, as_of = at["seat"].to_numpy(), at["as_of"].cast(pl.Int64).to_numpy()
    position = touched.before(seat, as_of)
    has_next = position < touched.before(seat, np.full(seat.shape, FAR))
    nearest = np.where(has_next, np.append(touched.at, FAR)[np.minimum(position, touched.at.size)], FAR)
    ends_at = np.stack((data_end, removed, nearest))
    return ends_at.min(axis=0), np.array([str(reason) for reason in _REASONS])[ends_at.argmin(axis=0)]
