"""A rollout read from the log: its seats as they stand at a moment, and what each showed in the windows up to it."""

from collections.abc import Callable, Mapping
from datetime import datetime

import numpy as np
import polars as pl
import pyarrow.compute as pc

from features.compute import compute_blocks, seat_blocks
from features.instants import to_microseconds
from features.log import EventLog
from features.observed import observed
from features.peers import days_needed
from features.population import Population, latest_kept, read_population
from features.segments import WINDOWS, SeatModes, seat_modes, window_snapshots
from features.tools import ToolProfile

Progress = Callable[[str, int], None]  # what is being done, and how many seats more of it


def read_rollout(
    log: EventLog,
    tools: Mapping[str, ToolProfile],
    as_of: datetime,
    *,
    organization: str | None = None,
    progress: Progress = lambda _what, _seats: None,
) -> tuple[Population, SeatModes]:
    """The population at `as_of`, of one organisation or of all, and its modes. Raises ValueError where nobody has a seat."""
    roster, sources, read = log.roster(), log.sources(), latest_kept(log.events)
    if organization is not None:
        roster = roster.filter(pc.equal(roster.column("organization"), organization))
        sources = [source for source in sources if source.organization == organization]
    population = read_population(
        as_of,
        roster=roster,
        read_events=read,
        sources=log.sources_of_use(organization),
        tools=tools,
        progress=lambda seats: progress("reading seats", seats),
    )
    seat_ids = population.seats["seat_id"]
    moments = window_snapshots(seat_ids[:1].to_list(), as_of)["as_of"]
    progress("observing teams, roles and managers", 0)
    days = days_needed(np.array([to_microseconds(moment) for moment in moments]))
    blocks = compute_blocks(
        seat_blocks(log.seats(seat_ids.to_list())),
        snapshots=lambda block: window_snapshots(block.column("seat_id").to_pylist(), as_of),
        read_events=read,
        roster=roster,
        sources=sources,
        tools=tools,
        peers=observed(log, tools, days, organization=organization),
    )
    features = []
    for block in blocks:
        features.append(block)
        progress("computing features", block.height // WINDOWS)
    return population, seat_modes(pl.concat(features), population.seats)
