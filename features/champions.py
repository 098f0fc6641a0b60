"""Champions: colleagues in the team with the same role whose depth is in the top quarter of those who use the tool.

They are counted with the peers of a midnight (features.peers); here they get their names, so that one can be asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from features.instants import EPOCH
from features.log import EventLog
from features.peers import NOT_COUNTED, Peers, Scope

STALE_DAYS = 2  # our choice: who was deep in the tool two days ago still is; the sweep of every night has newer ones
_GROUP = ("organization", "tool", "team", "role")

Group = tuple[str, str, str, str]


@dataclass(frozen=True)
class Candidate:
    """Somebody who may be asked. uses: meaningful uses in the 28 days before midnight."""

    person_id: str
    uses: int


@dataclass(frozen=True)
class Champions:
    """The champions of a midnight. day: since 1970, None where none was observed; by_group: deepest first."""

    day: int | None = None
    by_group: Mapping[Group, tuple[Candidate, ...]] = field(default_factory=dict)

    def of(self, seat: Mapping[str, Any]) -> tuple[Candidate, ...]:
        """Those whom the seat's person may ask, deepest first, never itself. seat: a row of SEAT_SCHEMA."""
        found = self.by_group.get((seat["organization"], seat["tool"], seat["team"], seat["role"]), ())
        return tuple(candidate for candidate in found if candidate.person_id != seat["person_id"])


def champion_depths(peers: Peers, day: int) -> pl.DataFrame:
    """`seat_id` and `uses` of every seat in the top quarter of its feed at the midnight `day` (since 1970).

    Raises ValueError for a day that was not observed.
    """
    place = int(peers.place(np.array([day]))[0])
    depth = peers.depth[:, place]
    thresholds = peers.keys[Scope.FEED].with_columns(
        pl.Series("threshold", peers.counts[Scope.FEED]["threshold"][:, place], dtype=pl.Int64)
    )
    return (
        peers.held.with_columns(pl.Series("uses", np.where(depth == NOT_COUNTED, 0, depth), dtype=pl.Int64))
        .join(thresholds, on=["organization", "tool"])
        .filter((pl.col("uses") > 0) & (pl.col("uses") >= pl.col("threshold")))
        .select("seat_id", "uses")
    )


def champions_of(depths: pl.DataFrame, seats: pa.Table, *, now: datetime) -> dict[Group, tuple[Candidate, ...]]:
    """The champions by organisation, tool, team and role as the roster knows them. seats: SEAT_SCHEMA, of `depths`."""
    roster = pl.DataFrame(pl.from_arrow(seats.select([*_GROUP, "seat_id", "person_id", "removed_at"])))
    active = pl.col("removed_at").is_null() | (pl.col("removed_at") > now)
    rows = (
        depths.join(roster.filter(active), on="seat_id")
        .drop_nulls(list(_GROUP))
        .group_by(*_GROUP, "person_id")
        .agg(pl.col("uses").sum())
        .sort(*_GROUP, "uses", "person_id", descending=[False, False, False, False, True, False])
    )
    found: dict[Group, list[Candidate]] = {}
    for organization, tool, team, role, person_id, uses in rows.iter_rows():
        found.setdefault((organization, tool, team, role), []).append(Candidate(person_id, uses))
    return {group: tuple(candidates) for group, candidates in found.items()}


def read_champions(log: EventLog, *, now: datetime, known: Champions | None = None) -> Champions:
    """The champions of the latest midnight that was observed, none where that is longer ago than STALE_DAYS.

    known: what was read before; given back where it is still the latest.
    """
    day = log.peers_day()
    if day is None or now - (EPOCH + timedelta(days=day)) > timedelta(days=STALE_DAYS):
        return Champions()
    if known is not None and known.day == day:
        return known
    body = log.peers(day)
    if body is None:  # the next day's took its place just now
        return known or Champions()
    depths = champion_depths(Peers.from_bytes(body), day)
    return Champions(day, champions_of(depths, log.seats(depths["seat_id"].to_list()), now=now))
