"""What was not yet known: hides from each snapshot the events that became available after it."""

from collections.abc import Iterator

import numpy as np

from features.events import INTERNAL_KINDS, VOICE_KINDS
from features.history import HOUR, KIND_CODES, Events, Integers

_IS_VOICE, _IS_DECIDED = (
    np.isin(np.arange(len(KIND_CODES)), [KIND_CODES[kind] for kind in kinds]) for kinds in (VOICE_KINDS, INTERNAL_KINDS)
)


def hide_unavailable(
    events: Events,
    *,
    seat: Integers,
    end: Integers,
    as_of: Integers,
    voice: Integers | None = None,
    decided: Integers | None = None,
) -> tuple[Events, Integers]:
    """The events, and (n,) the seat of each snapshot in them: one of its own where something had come too late for it.

    Snapshots are sorted by seat and `as_of`; end, voice, decided: as of features.history.History. Such snapshots are few: every other shares its seat's one history.
    """
    lags = np.stack([as_of - (end if clock is None else clock) for clock in (end, voice, decided)])
    troubled = _with_late_events(events, seat=seat, lags=lags, as_of=as_of)
    if not troubled.size:
        return events, seat
    starts = np.searchsorted(events.seat, seat[troubled], side="left")
    lengths = np.searchsorted(events.seat, seat[troubled], side="right") - starts
    owner = np.repeat(np.arange(troubled.size), lengths)
    position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + np.repeat(starts, lengths)
    is_known = events.available[position] <= as_of[troubled][owner]
    owner, position = owner[is_known], position[is_known]
    new_seats = int(max(events.seat.max(initial=0), seat.max(initial=0))) + 1
    columns = {name: np.concatenate((column, column[position])) for name, column in vars(events).items()}
    columns["seat"] = np.concatenate((events.seat, new_seats + owner))
    moved = seat.copy()
    moved[troubled] = new_seats + np.arange(troubled.size)
    return Events(**columns), moved


def _with_late_events(events: Events, *, seat: Integers, lags: Integers, as_of: Integers) -> Integers:
    """Positions of the snapshots that some event concerns although it was not available at `as_of`.

    With the snapshot's lag L an event concerns the `as_of` from its instant + L on (that of its clock, for tickets and
    surveys and for decisions), and those within the hour after it, whatever the lag: those of the live windows. Too late
    are the ones before it was available: one range an event. lags: (3, n) of the clocks end, voice, decided.
    """
    is_troubled = np.zeros(as_of.size, bool)
    if not as_of.size:
        return np.flatnonzero(is_troubled)
    delay = events.available - events.at
    for one, group in _by_lags(lags):
        lag = np.where(_IS_VOICE[events.kind], one[1], np.where(_IS_DECIDED[events.kind], one[2], one[0]))
        waits = np.where(delay <= HOUR, 0, lag)
        late = np.flatnonzero(delay > waits + 1)
        if not late.size:
            continue
        instants = np.unique(as_of[group])  # keys by rank: a seat's number times a span of time could exceed 64 bits
        keys = seat[group] * (instants.size + 1) + np.searchsorted(instants, as_of[group])
        owner = events.seat[late] * (instants.size + 1)
        first = np.searchsorted(keys, owner + np.searchsorted(instants, events.at[late] + waits[late] + 1))
        stop = np.searchsorted(keys, owner + np.searchsorted(instants, events.available[late]))
        marks = np.zeros(group.size + 1, np.int64)
        np.add.at(marks, first, 1)
        np.add.at(marks, np.maximum(stop, first), -1)
        is_troubled[group] |= np.cumsum(marks[:-1]) > 0
    return np.flatnonzero(is_troubled)


def _by_lags(lags: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Each combination of the three lags, and which snapshots have it."""
    if (lags == lags[:, :1]).all():
        yield lags[:, 0], np.arange(lags.shape[1])
        return
    number = np.zeros(lags.shape[1], np.int64)
    for lag in lags:
        values, place = np.unique(lag, return_inverse=True)
        number = number * len(values) + place
    for one in np.unique(number):
        group = np.flatnonzero(number == one)
        yield lags[:, group[0]], group
