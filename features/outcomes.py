"""Outcomes of decisions: was the seat kept 14 or 28 days later, by the same code that labels snapshots for the risk.

Kept by H is not abandoned by H, seen from the decision. Risk is "if nothing is done" and its labels end at an intervention;
an outcome asks what came of what was done, so it looks past its own intervention and past those that followed, which are
part of what came. A guided use is no meaningful use: what our own intervention led the person through proves nothing.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from features.compute import SNAPSHOT_SCHEMA
from features.decisions import Decision
from features.events import Kind
from features.feedback import HORIZONS_DAYS
from features.labels import abandoned_by, label_snapshots
from features.log import EventLog
from features.sources import Source
from features.tools import ToolProfile

BLOCK_SEATS = 5_000  # whose events are in memory at a time


def kept(
    decisions: Sequence[Decision],
    *,
    events: pa.Table,
    seats: pa.Table,
    sources: Sequence[Source],
    tools: Mapping[str, ToolProfile],
    horizon_days: int,
) -> dict[str, float]:
    """By decision id: 1 kept, 0 abandoned by the horizon, NaN where it is not known (yet): matured when horizon, silence
    and lag have passed, censored at removal and where there was no opportunity.

    events: EVENT_SCHEMA, all of these seats; seats: SEAT_SCHEMA. Raises ValueError for a seat that is not in `seats`.
    """
    if not decisions:
        return {}
    snapshots = pl.DataFrame(
        {"seat_id": [item.seat_id for item in decisions], "as_of": [item.decided_at for item in decisions]},
        schema=SNAPSHOT_SCHEMA,
    )
    untouched = events.filter(pc.not_equal(events.column("kind"), str(Kind.INTERVENTION)))
    labels = label_snapshots(snapshots, events=untouched, seats=seats, sources=sources, tools=tools)
    values = 1.0 - abandoned_by(labels, horizon_days)
    return {item.decision_id: float(value) for item, value in zip(decisions, values, strict=True)}


def read_outcomes(
    log: EventLog, decisions: Sequence[Decision], tools: Mapping[str, ToolProfile], *, horizon_days: int
) -> dict[str, float]:
    """`kept` from the log; what events leave unknown is as it was reported from outside, where it was.

    Our choice: events are judged by one rule for all, so they speak first. Of a seat that is not in the roster any more no
    event is left to speak. Raises ValueError for a horizon that is none of HORIZONS_DAYS.
    """
    if horizon_days not in HORIZONS_DAYS:
        raise ValueError(f"horizon_days: expected one of {', '.join(map(str, HORIZONS_DAYS))}, came {horizon_days}")
    sources = log.sources()
    kinds = {kind for profile in tools.values() for kind in (*profile.meaningful_kinds, *profile.opportunity_kinds)}
    outcomes: dict[str, float] = {}
    for block in _by_seats(decisions):
        seats = log.seats({item.seat_id for item in block})
        known = set(seats.column("seat_id").to_pylist())
        outcomes |= dict.fromkeys((item.decision_id for item in block), float("nan"))
        outcomes |= kept(
            [item for item in block if item.seat_id in known],
            events=log.events(known, kinds=kinds),
            seats=seats,
            sources=sources,
            tools=tools,
            horizon_days=horizon_days,
        )
    reported = log.feedback.reported(outcomes)
    for decision_id, value in outcomes.items():
        told = reported.get((decision_id, horizon_days))
        if np.isnan(value) and told is not None:
            outcomes[decision_id] = float(told.kept)
    return outcomes


def _by_seats(decisions: Sequence[Decision]) -> Iterator[list[Decision]]:
    ordered = sorted({item.seat_id for item in decisions})
    place = {seat_id: number // BLOCK_SEATS for number, seat_id in enumerate(ordered)}
    blocks: dict[int, list[Decision]] = {}
    for item in decisions:
        blocks.setdefault(place[item.seat_id], []).append(item)
    yield from (blocks[number] for number in sorted(blocks))
