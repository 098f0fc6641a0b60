"""The roster as arrays: what it said of a seat at any instant."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa

from features.events import Kind
from features.history import KIND_CODES, Booleans, Integers
from features.instants import MICROSECOND, to_microseconds
from features.sources import Source

KIND_BITS: Mapping[str, int] = {kind: 1 << code for kind, code in KIND_CODES.items()}
NEVER = np.iinfo(np.int64).max // 4


@dataclass(frozen=True)
class Roster:
    """Versions of seats, sorted by seat and `known_at`; a seat's first version also speaks of the time before it.

    frame: ROSTER_SCHEMA. seat_ids: (n_seats,) each once, ascending: a seat's number is its position there.
    """

    frame: pl.DataFrame
    seat_ids: pl.Series
    _offsets: Integers = field(repr=False)

    @staticmethod
    def of(table: pa.Table) -> "Roster":
        """The roster of a table in ROSTER_SCHEMA, in any order."""
        frame = pl.DataFrame(pl.from_arrow(table)).sort("seat_id", "known_at")
        runs = frame["seat_id"].rle()
        lengths = runs.struct.field("len").cast(pl.Int64).to_numpy()
        return Roster(frame, runs.struct.field("value"), np.concatenate(([0], np.cumsum(lengths))))

    def __len__(self) -> int:
        return len(self.seat_ids)

    def take(self, seats: Integers) -> "Roster":
        """The roster of these seats alone. seats: (n,) numbers, ascending."""
        if len(seats) == len(self):
            return self
        lengths = np.diff(self._offsets)[seats]
        starts = np.cumsum(lengths) - lengths
        rows = np.arange(lengths.sum()) - np.repeat(starts, lengths) + np.repeat(self._offsets[seats], lengths)
        return Roster(self.frame[rows], self.seat_ids[seats], np.concatenate(([0], np.cumsum(lengths))))

    def versions(self, block: slice) -> slice:
        """The rows of `frame` that speak of a block of seats, given and found by number."""
        return slice(int(self._offsets[block.start]), int(self._offsets[block.stop]))

    def numbers(self, seat_ids: pl.Series) -> Integers:
        """(n,) the number of each seat. Raises ValueError for a seat that is not in the roster."""
        known = pl.DataFrame({"seat_id": self.seat_ids}).with_row_index("number")
        found = pl.DataFrame({"seat_id": seat_ids}).join(known, on="seat_id", how="left", maintain_order="left")
        if found["number"].null_count():
            missing = found.filter(pl.col("number").is_null())["seat_id"][0]
            raise ValueError(f"seat {missing!r} was never assigned; send its seat first")
        return found["number"].cast(pl.Int64).to_numpy()

    def at(self, seat: Integers, instant: Integers) -> Integers:
        """(n,) row of the version that spoke of each seat at the instant (microseconds, included)."""
        first = self._offsets[seat]
        if len(self.frame) == len(self):
            return first
        times, keys = self._times
        wanted = seat * (len(times) + 1) + np.searchsorted(times, instant, side="right")
        return np.maximum(np.searchsorted(keys, wanted, side="right") - 1, first)

    @cached_property
    def known_at(self) -> Integers:
        """(n_versions,) from when each version was known."""
        return self._instants("known_at")

    @cached_property
    def assigned_at(self) -> Integers:
        """(n_versions,) when the seat was assigned."""
        return self._instants("assigned_at")

    @cached_property
    def removed_at(self) -> Integers:
        """(n_versions,) when the seat was removed; NEVER where it was not."""
        return self._instants("removed_at")

    @cached_property
    def tool(self) -> Integers:
        """(n_seats,) position of each seat's tool in `tools`: a seat never changes its tool."""
        names = self.frame["tool"].gather(self._offsets[:-1]).to_numpy()
        return np.searchsorted(np.array(self.tools, dtype=object), names)

    @cached_property
    def tools(self) -> list[str]:
        """The tools of the roster, each once."""
        return sorted(self.frame["tool"].unique().to_list())

    @cached_property
    def feed(self) -> Integers:
        """(n_versions,) position of each version's organisation and tool in `feeds`."""
        return self.positions(self.feeds)

    @cached_property
    def feeds(self) -> pl.DataFrame:
        """The pairs of organisation and tool, each once."""
        return self.frame.select("organization", "tool").unique().sort("organization", "tool")

    def positions(self, keys: pl.DataFrame) -> Integers:
        """(n_versions,) row of `keys` that has the version's values in all of its columns; -1 where none has."""
        numbered = keys.with_row_index("position")
        found = self.frame.select(keys.columns).join(numbered, on=keys.columns, how="left", maintain_order="left")
        return found["position"].cast(pl.Int64).fill_null(-1).to_numpy()

    def is_active(self, version: Integers, instant: Integers | int) -> Booleans:
        """Whether the version speaks of a seat that was assigned and not removed at the instant."""
        return (self.assigned_at[version] <= instant) & (self.removed_at[version] > instant)

    def lag(
        self, sources: Sequence[Source], version: Integers, as_of: Integers, kinds: Collection[Kind] | None = None
    ) -> Integers:
        """(n,) microseconds: lag of the slowest source of the seat's organisation and tool, as it was known at `as_of`.

        kinds: of those sources alone that were known to tell one of these.
        """
        lag = np.zeros(as_of.shape, np.int64)
        for source, own in self._feeds_of(sources, version):
            tells = [at for at, kind in source.known_kinds if kinds is None or kind in kinds]
            if kinds is not None and not tells:
                continue
            since = 0 if kinds is None else to_microseconds(min(tells))
            for known_at, one in source.known_lags:
                if one:
                    applies = (as_of >= max(to_microseconds(known_at), since)) & own
                    np.maximum(lag, round(one.total_seconds() * 1_000_000), out=lag, where=applies)
        return lag

    def sees(self, sources: Sequence[Source], version: Integers, as_of: Integers) -> Integers:
        """(n,) which kinds any source of the seat's organisation and tool was known to tell at `as_of`: KIND_BITS."""
        seen = np.zeros(as_of.shape, np.int64)
        for source, own in self._feeds_of(sources, version):
            told: dict[datetime, int] = {}
            for known_at, kind in source.known_kinds:
                told[known_at] = told.get(known_at, 0) | KIND_BITS[kind]
            for known_at, bits in told.items():
                np.bitwise_or(seen, bits, out=seen, where=(as_of >= to_microseconds(known_at)) & own)
        return seen

    def begun(self, sources: Sequence[Source], version: Integers, as_of: Integers, bits: Integers) -> Integers:
        """(n,) since when (microseconds) sources that at `as_of` were known to tell one of the kinds had told anything: what
        was before, they have not seen. NEVER where there is none. bits: (n,) KIND_BITS.
        """
        begun = np.full(as_of.shape, NEVER, np.int64)
        for source, own in self._feeds_of(sources, version):
            first = to_microseconds(source.first_available_at) - source.known_lags[0][1] // MICROSECOND
            for known_at, kind in source.known_kinds:
                applies = own & (as_of >= to_microseconds(known_at)) & ((bits & KIND_BITS[kind]) > 0)
                np.minimum(begun, first, out=begun, where=applies)
        return begun

    def _feeds_of(self, sources: Sequence[Source], version: Integers) -> Iterator[tuple[Source, Booleans]]:
        """Each source that speaks of some of the seats, and (n,) of which."""
        own = self.feed[version]
        feeds: Mapping[tuple[str, str], int] = {row: number for number, row in enumerate(self.feeds.iter_rows())}
        for source in sources:
            number = feeds.get((source.organization, source.tool))
            if number is not None:
                yield source, own == number

    @cached_property
    def _times(self) -> tuple[Integers, Integers]:
        """The instants at which something became known, each once; and (n_versions,) seat and rank of the version's."""
        times, rank = np.unique(self.known_at, return_inverse=True)
        owner = np.repeat(np.arange(len(self)), np.diff(self._offsets))
        return times, owner * (len(times) + 1) + rank + 1

    def _instants(self, name: str) -> Integers:
        return self.frame[name].cast(pl.Int64).fill_null(NEVER).to_numpy()
