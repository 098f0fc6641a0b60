"""Events as integers: a table in EVENT_SCHEMA to sorted arrays, with what the tool's profile makes of each event."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from features.events import EVENT_SCHEMA, Kind
from features.history import CATEGORY_CODES, FIXED_POINT, KIND_CODES, Booleans, Events, Floats, Integers, Small
from features.roster import Roster
from features.tools import ToolProfile

# the columns of EVENT_SCHEMA that features are made of
CODED_COLUMNS = tuple(name for name in EVENT_SCHEMA.names if name not in ("event_id", "source"))


def code_events(events: pa.Table, roster: Roster, tools: Mapping[str, ToolProfile]) -> Events:
    """The events of the roster's seats, sorted so that neither arrival nor batching can be seen.

    events: EVENT_SCHEMA (`event_id` and `source` may be left out; text may be dictionary-encoded; a missing value, score,
    outcome or category may be a missing column); those of other seats are left out. Raises KeyError for a tool without a
    profile.
    """
    seat = _numbers(events, roster)
    is_wanted = seat >= 0
    if not is_wanted.all():
        events, seat = events.filter(pa.array(is_wanted)), seat[is_wanted]
    columns: dict[str, npt.NDArray[np.generic]] = {
        "seat": seat,
        "at": _integers(events, "occurred_at"),
        "available": _integers(events, "available_at"),
        "kind": _codes(events, "kind", KIND_CODES, np.int8),
        "count": _integers(events, "count"),
        "value": _fixed(events, "value"),
        "workflow": _workflow(events, roster.tool[seat], [tools[tool] for tool in roster.tools]),
        "completed": _completed(events),
        "frustration": _fixed(events, "frustration"),
        "uncertainty": _fixed(events, "uncertainty"),
        "category": _codes(events, "category", CATEGORY_CODES, np.int8),
        "guided": _combined(events, "guided").to_numpy(zero_copy_only=False),
    }
    order = _order(columns)
    if order is not None:
        columns = {name: column[order] for name, column in columns.items()}
    return _judged(columns, roster, [tools[tool] for tool in roster.tools])


def _numbers(events: pa.Table, roster: Roster) -> Integers:
    """(n,) number of each event's seat in the roster, -1 where it is of none."""
    column = _combined(events, "seat_id")
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    wanted = roster.seat_ids.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(column.dictionary.type)
    found = pc.index_in(column.dictionary, value_set=wanted)
    return np.append(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), -1).astype(np.int64)[_indices(column)]


def of_kinds(events: pa.Table, kinds: Iterable[Kind]) -> pa.Table:
    """The events of these kinds alone."""
    wanted = _codes(events, "kind", dict.fromkeys(map(str, kinds), 1), np.int8) > 0
    return events if wanted.all() else events.filter(pa.array(wanted))


def _combined(events: pa.Table, name: str) -> pa.Array:
    if name not in events.column_names:
        return pa.nulls(len(events), pa.float64())
    column = events.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):  # what pyarrow makes of no chunk at all
        return combined.chunk(0) if combined.num_chunks else pa.array([], column.type)
    return combined


def _codes(
    events: pa.Table, name: str, codes: Mapping[str, int], dtype: type[np.signedinteger] = np.int64
) -> npt.NDArray[np.signedinteger]:
    """(n,) the code of each text, -1 where it is missing or has none."""
    column = _combined(events, name)
    if column.null_count == len(column):
        return np.full(len(column), -1, dtype)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    of_word = np.array([codes.get(word, -1) for word in column.dictionary.to_pylist()] + [-1], dtype)
    return of_word[_indices(column)]


def _indices(column: pa.DictionaryArray) -> Integers:
    """(n,) position in the dictionary, -1 where missing: the last of an array."""
    return np.asarray(pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False))


def _integers(events: pa.Table, name: str) -> Integers:
    return np.asarray(_combined(events, name).cast(pa.int64()).to_numpy())


def _fixed(events: pa.Table, name: str) -> Integers:
    """(n,) in fixed point, -1 where missing."""
    column = _combined(events, name)
    fixed = np.full(len(column), -1, np.int64)
    if column.null_count < len(column):
        known = pc.is_valid(column).to_numpy(zero_copy_only=False) if column.null_count else slice(None)
        fixed[known] = np.rint(column.drop_null().to_numpy() * FIXED_POINT)
    return fixed


def _completed(events: pa.Table) -> Small:
    column = _combined(events, "completed")
    if column.null_count == len(column):
        return np.full(len(column), -1, np.int8)
    return np.asarray(pc.fill_null(column.cast(pa.int8()), -1).to_numpy(), np.int8)


def _workflow(events: pa.Table, tool: Integers, profiles: Sequence[ToolProfile]) -> Small:
    """(n,) number of the high-value workflow among those of the event's tool, -1 for any other."""
    column = _combined(events, "workflow")
    if column.null_count == len(column):
        return np.full(len(column), -1, np.int8)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    words = [*column.dictionary.to_pylist(), None]
    numbers = np.full((len(profiles), len(words)), -1, np.int8)
    for row, profile in enumerate(profiles):
        for number, workflow in enumerate(profile.high_value_workflows):
            if workflow in words:
                numbers[row, words.index(workflow)] = number
    return numbers[tool, _indices(column)]


def _order(columns: Mapping[str, npt.NDArray[np.generic]]) -> Integers | None:
    """The order by seat and instant, and of those of one instant by what they say; None where that is how they come."""
    seat, at = columns["seat"].astype(np.int64, copy=False), columns["at"].astype(np.int64, copy=False)
    if not seat.size:
        return None
    order = _by_instant(seat, at)
    if order is not None:
        seat, at = seat[order], at[order]
    starts = np.append(True, (seat[1:] != seat[:-1]) | (at[1:] != at[:-1]))
    if starts.all():
        return order
    order = np.arange(len(seat)) if order is None else order
    tied = np.flatnonzero(~(starts & np.append(starts[1:], True)))
    among = order[tied]
    key = np.cumsum(starts)[tied] * len(KIND_CODES) + columns["kind"][among]  # the kind settles most of them
    by_kind = np.argsort(key, kind="stable")
    among, key = among[by_kind], key[by_kind]
    starts = np.append(True, key[1:] != key[:-1])
    level = np.flatnonzero(~(starts & np.append(starts[1:], True)))
    among[level] = _by_content(columns, key[level], among[level])
    order[tied] = among
    return order


def _by_content(columns: Mapping[str, npt.NDArray[np.generic]], key: Integers, among: Integers) -> Integers:
    """The events `among`, of one key each time, by all that they say: only they need the slow sort."""
    given = {name: column[among].astype(np.int64) for name, column in columns.items()}
    by = (
        key,
        given["value"],
        8 * given["completed"] + given["workflow"],
        given["count"],
        given["available"],
        given["frustration"] * (FIXED_POINT + 2) + given["uncertainty"],
        2 * given["category"] + given["guided"],
    )
    return among[np.lexsort(by[::-1])]


def _by_instant(seat: Integers, at: Integers) -> Integers | None:
    low = int(at.min())
    span = int(at.max()) - low + 1
    if (int(seat.max()) + 1) * span >= 2**63:
        return np.lexsort((at, seat))
    keys = seat * span + (at - low)
    if (keys[1:] >= keys[:-1]).all():
        return None
    return pl.Series(keys).arg_sort().to_numpy().astype(np.int64)


def _judged(columns: Mapping[str, npt.NDArray[np.generic]], roster: Roster, profiles: Sequence[ToolProfile]) -> Events:
    """Adds what the tool's profile makes of each event: meaningful, opportunity, quick close."""
    given: dict[str, npt.NDArray[np.signedinteger]] = dict(columns)  # type: ignore[arg-type]  # all are integers but one
    seat, kind, value = given["seat"], given["kind"], given["value"]
    place = kind.astype(np.int64) if len(profiles) == 1 else roster.tool[seat] * len(KIND_CODES) + kind
    meaningful = _by_kind([profile.meaningful_kinds for profile in profiles])[place]
    if all(profile.any_workflow for profile in profiles):
        high_value = np.ones(len(kind), bool)
    else:
        any_workflow = np.array([profile.any_workflow for profile in profiles])
        high_value = given["workflow"] >= 0
        if any_workflow.any():
            high_value |= any_workflow[roster.tool][seat]
        meaningful &= high_value
    limits: Floats = np.array([profile.quick_close_seconds * FIXED_POINT for profile in profiles])
    limit = np.rint(limits).astype(np.int64)[roster.tool][seat]
    is_session: Booleans = kind == KIND_CODES[Kind.SESSION]
    return Events(
        **given,  # type: ignore[arg-type]  # by name
        is_meaningful=meaningful & ~columns["guided"].astype(bool),
        is_opportunity=_by_kind([profile.opportunity_kinds for profile in profiles])[place],
        is_quick_close=is_session & (value >= 0) & (value < limit) & (given["completed"] != 1),
        is_high_value=high_value,
    )


def _by_kind(kinds: Sequence[Sequence[Kind]]) -> Booleans:
    """Flat (n_tools * n_kinds,) whether each tool counts the kind."""
    counts = np.zeros((len(kinds), len(KIND_CODES)), bool)
    for row, wanted in enumerate(kinds):
        counts[row, [KIND_CODES[kind] for kind in wanted]] = True
    return counts.ravel()
