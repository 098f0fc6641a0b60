"""Peers read from the log as it is."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from features.coding import CODED_COLUMNS
from features.compute import BLOCK_SEATS
from features.events import MICROSECONDS_PER_DAY, Kind
from features.history import Integers
from features.instants import from_microseconds
from features.log import EventLog
from features.parallel import in_order
from features.peers import DEPTH_DAYS, Peers, observe
from features.sources import Source
from features.tools import ToolProfile


def observed(
    log: EventLog,
    tools: Mapping[str, ToolProfile],
    days: Integers,
    *,
    threads: int = 1,
    organization: str | None = None,
) -> Peers:
    """The peers of the midnights `days` (days since 1970, ascending), of one organisation or of all, read from the log in
    blocks of seats.
    """
    roster, sources = log.roster(), log.sources()
    if organization is not None:
        roster = roster.filter(pc.equal(roster.column("organization"), organization))
        sources = [source for source in sources if source.organization == organization]
    first, kinds = looked_at(roster, sources, tools, days)
    seats = pc.unique(roster.column("seat_id")).to_pylist()

    def read(start: int) -> pa.Table:
        return log.events(seats[start : start + BLOCK_SEATS], since=first, kinds=kinds, columns=CODED_COLUMNS)

    tables = in_order(read, range(0, len(seats), BLOCK_SEATS), threads=threads)
    return observe(tables, roster=roster, sources=sources, tools=tools, days=days)


def looked_at(
    roster: pa.Table, sources: Sequence[Source], tools: Mapping[str, ToolProfile], days: Integers
) -> tuple[datetime, set[Kind]]:
    """From when on, and of which kinds, the events are that the peers of the midnights `days` are counted from."""
    slowest = max((source.lag for source in sources), default=timedelta(0))
    first = from_microseconds(int(days[0]) * MICROSECONDS_PER_DAY) - timedelta(days=DEPTH_DAYS) - slowest
    kinds = {kind for tool in pc.unique(roster.column("tool")).to_pylist() for kind in tools[tool].meaningful_kinds}
    return first, kinds
