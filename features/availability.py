"""What was not yet known: hides from each snapshot the events that became available after it."""

import numpy as np

from features.history import HOUR, Events, Integers


def hide_unavailable(events: Events, *, seat: Integers, end: Integers, as_of: Integers) -> tuple[Events, Integers]:
    """The events, and (n,) the seat of each snapshot in them: one of its own where something had come too late for it.

    Snapshots are sorted by seat and `as_of`. Such snapshots are few: every other shares its seat's one history.
    """
    troubled = _with_late_events(events, seat=seat, end=end, as_of=as_of)
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


def _with_late_events(events: Events, *, seat: Integers, end: Integers, as_of: Integers) -> Integers:
    """Positions of the snapshots that some event concerns although it was not available at `as_of`.

    With the snapshot's lag L an event concerns the `as_of` from its instant + L on, and those within the hour after it,
    whatever the lag: those of the live windows. Too late are the ones before it was available: one range an event.
    """
    lag = as_of - end
    is_troubled = np.zeros(as_of.size, bool)
    delay = events.available - events.at
    for one_lag in np.unique(lag):
        waits = np.where(delay <= HOUR, 0, one_lag)
        late = np.flatnonzero(delay > waits + 1)
        group = np.flatnonzero(lag == one_lag)
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
