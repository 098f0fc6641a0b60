"""Events before `as_of` to features: the same functions for one seat online and a million in a batch."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from features.availability import hide_unavailable
from features.catalogue import CATEGORIES, FEATURES, MISSING_CATEGORY, NUMERIC, Judged, Sight, Snapshots
from features.coding import code_events
from features.events import INTERNAL_KINDS, USE_KINDS, VOICE_KINDS, Kind
from features.history import DAY, Events, History, Integers
from features.parallel import in_order
from features.peers import Peers, around, midnight_of
from features.roster import KIND_BITS, Roster
from features.sources import Source
from features.tools import ToolProfile

BLOCK_SEATS = 5_000  # our choice: about 0.5 GB a block at 100 events a seat, 16 snapshots each and 121 features
_CLOCKS: tuple[Collection[Kind] | None, ...] = (
    None,
    VOICE_KINDS,
    INTERNAL_KINDS,
)  # whose slowest source each waits for
SNAPSHOT_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {"seat_id": pl.String, "as_of": pl.Datetime("us", "UTC")}
FEATURE_DTYPES: dict[str, type[pl.DataType]] = {
    feature.name: pl.String if feature.is_category else pl.Float64 for feature in FEATURES
}


def compute_features(
    snapshots: pl.DataFrame,
    *,
    events: pa.Table,
    roster: pa.Table | Roster,
    sources: Sequence[Source],
    tools: Mapping[str, ToolProfile],
    peers: Peers,
) -> pl.DataFrame:
    """`seat_id`, `as_of` and every feature of FEATURES, one row per snapshot in the order given.

    snapshots: SNAPSHOT_SCHEMA; events: EVENT_SCHEMA (`event_id` and `source` may be left out); roster: ROSTER_SCHEMA,
    every seat of the snapshots in it; peers: observed on every midnight that `features.peers.days_needed` names.
    A snapshot uses an event if it occurred before `as_of - lag` and was available at `as_of`, where lag is that of the
    slowest source of the seat's organisation and tool known by then (for tickets and surveys, and for decisions, of those
    that tell them); features of the last hour use what occurred before `as_of` itself. What none of the sources was known
    to tell is missing. Raises ValueError for a seat not in the roster, or a day without peers.
    """
    if not snapshots.height:
        return pl.DataFrame(schema={**SNAPSHOT_SCHEMA, **FEATURE_DTYPES})
    book = roster if isinstance(roster, Roster) else Roster.of(roster)
    as_of = snapshots["as_of"].cast(pl.Int64).to_numpy()
    number = book.numbers(snapshots["seat_id"])
    order = _order(number, as_of)
    seats, seat = np.unique(number[order], return_inverse=True)
    book = book.take(seats)
    coded = code_events(events, book, tools)
    parts = []
    for first in range(0, len(seats), BLOCK_SEATS):
        inside = slice(*np.searchsorted(seat, (first, first + BLOCK_SEATS)))
        rows = slice(*np.searchsorted(coded.seat, (first, first + BLOCK_SEATS)))
        block = Events(**{name: column[rows] for name, column in vars(coded).items()})
        parts.append(
            _block(block, book, sources, peers, seat=seat[inside], as_of=as_of[order][inside], first=first, tools=tools)
        )
    computed = pl.concat(parts) if len(parts) > 1 else parts[0]
    if (np.diff(order) != 1).any():
        computed = computed[np.argsort(order)]
    return snapshots.select("seat_id", "as_of").hstack(computed)


def seat_blocks(seats: pa.Table, size: int = BLOCK_SEATS) -> Iterator[pa.Table]:
    """The seats (SEAT_SCHEMA, by seat) in blocks: the unit of work for one process or many."""
    return (seats.slice(first, size) for first in range(0, seats.num_rows, size))


def compute_blocks(
    blocks: Iterable[pa.Table],
    *,
    snapshots: Callable[[pa.Table], pl.DataFrame],
    read_events: Callable[[Sequence[str]], pa.Table],
    roster: pa.Table,
    sources: Sequence[Source],
    tools: Mapping[str, ToolProfile],
    peers: Peers,
    threads: int = 1,
) -> Iterator[pl.DataFrame]:
    """What compute_features gives, block by block of seats, so that memory holds `threads` blocks and not the whole.

    blocks: seat_blocks, or as the events are stored; snapshots: those of a block; read_events: their events, read once.
    """
    book = Roster.of(roster)

    def one(block: pa.Table) -> pl.DataFrame:
        wanted = block.column("seat_id").to_pylist()
        own = book.take(np.sort(book.numbers(pl.Series(wanted, dtype=pl.String))))
        return compute_features(
            snapshots(block), events=read_events(wanted), roster=own, sources=sources, tools=tools, peers=peers
        )

    yield from in_order(one, blocks, threads=threads)


def pack(features: pl.DataFrame) -> tuple[np.ndarray, list[list[str]]]:
    """The packed rows: (n, n_numeric) float64 in catalogue order, and n lists of the category names in their order."""
    vectors = features.select([feature.name for feature in NUMERIC]).to_numpy()
    categories = features.select([feature.name for feature in CATEGORIES]).rows()
    return np.ascontiguousarray(vectors, dtype=np.float64), [list(row) for row in categories]


def _order(seat: Integers, as_of: Integers) -> Integers:
    is_sorted = (seat[1:] > seat[:-1]) | ((seat[1:] == seat[:-1]) & (as_of[1:] >= as_of[:-1]))
    return np.arange(len(seat)) if is_sorted.all() else np.lexsort((as_of, seat))


def _block(
    coded: Events,
    book: Roster,
    sources: Sequence[Source],
    peers: Peers,
    *,
    seat: Integers,
    as_of: Integers,
    first: int,
    tools: Mapping[str, ToolProfile],
) -> pl.DataFrame:
    """Every feature of the snapshots, sorted by seat and `as_of`; seats are counted from `first` inside a block."""
    version = book.at(seat, as_of)
    end, voice, decided = (as_of - book.lag(sources, version, as_of, kinds) for kinds in _CLOCKS)
    events, own = hide_unavailable(coded, seat=seat, end=end, as_of=as_of, voice=voice, decided=decided)
    shifted = Events(**{**vars(events), "seat": events.seat - first})
    hired = book.frame["hired_on"].cast(pl.Datetime("us")).cast(pl.Int64).cast(pl.Float64).fill_null(float("nan"))
    snapshots = Snapshots(
        history=History(
            shifted,
            seat=own - first,
            end=end,
            as_of=as_of,
            assigned=book.assigned_at[version],
            voice=voice,
            decided=decided,
        ),
        around=around(peers, roster=book, seat=seat, as_of=as_of),
        sight=_sight(book, sources, tools, seat=seat, version=version, as_of=as_of),
        **{name: _text(book, name, version) for name in ("tool", "role", "function", "region")},
        hired=hired.to_numpy()[version],
        has_manager=book.frame["manager_person_id"].is_not_null().cast(pl.Float64).to_numpy()[version],
    )
    return pl.DataFrame([pl.Series(f.name, f.values(snapshots), dtype=FEATURE_DTYPES[f.name]) for f in FEATURES])


def _sight(
    book: Roster,
    sources: Sequence[Source],
    tools: Mapping[str, ToolProfile],
    *,
    seat: Integers,
    version: Integers,
    as_of: Integers,
) -> Sight:
    profiles = [tools[tool] for tool in book.tools]
    tool = book.tool[seat]
    judged = {
        need: np.array([_bits(_kinds_of(need, profile)) for profile in profiles], np.int64)[tool] for need in Judged
    }
    midnight = midnight_of(as_of) * DAY
    return Sight(
        now=book.sees(sources, version, as_of),
        at_midnight=book.sees(sources, book.at(seat, midnight), midnight),
        judged=judged,
        begun=book.begun(sources, version, as_of, judged[Judged.MEANINGFUL]),
    )


def _kinds_of(need: Judged, profile: ToolProfile) -> Collection[Kind]:
    match need:
        case Judged.MEANINGFUL:
            return profile.meaningful_kinds
        case Judged.OPPORTUNITY:
            return profile.opportunity_kinds
        case Judged.WORKED:
            return set(profile.opportunity_kinds) - set(USE_KINDS) or profile.opportunity_kinds


def _bits(kinds: Collection[Kind]) -> int:
    return sum(KIND_BITS[kind] for kind in set(kinds))


def _text(book: Roster, name: str, version: Integers) -> pl.Series:
    return book.frame[name].fill_null(MISSING_CATEGORY)[version]
