"""Failure modes of groups of seats: what their people showed while they used the tool, how strongly, in words.

What somebody shows who has given up says little of why. So each seat is looked at over the last three windows of 28 days,
and counts in those in which it was used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np
import polars as pl

from features.catalogue import BY_NAME, MIN_GROUP_SIZE, say
from features.compute import SNAPSHOT_SCHEMA, pack
from features.diagnosis import (
    COLUMN,
    MAX_EVIDENCE,
    SESSIONS_WITHOUT_RESULT,
    SHOWS_FROM,
    SIGNS,
    combined,
    mode_strengths,
)
from features.history import Booleans, Floats, Integers
from features.intervals import wilson
from features.interventions import FailureMode

WINDOW_DAYS, WINDOWS = 28, 3
IN_USE_DAYS = 3  # our choice: of a window, before what it shows is looked at
# Our choice: a mode shows in a segment where it does at one seat in five, and not by the chance of a few
SHOWS_AT, SHOWS_AT_LEAST, FULLY_AT = 0.2, 0.1, 0.4
TEAM_USES = 0.2  # our choice: below this share of users there is no use that leaders could fall behind
# Our choice: leaders are absent where use is less than seven tenths as common among them as in their teams; fully at a tenth
ABSENT_BELOW, ABSENT_FULLY = 0.7, 0.1
# A week's reading of a segment (design: diagnosis): our choice of halves
USED, DEEP, CONFIDENT, TRAINED = 0.5, 0.5, 5.0, 0.5


class Reading(StrEnum):
    """What usage, depth and confidence together say of a segment. Source: the brief, "Diagnosing AI adoption stalls"."""

    BROAD_STALL = "broad stall"
    SURFACE_STALL = "surface stall"
    NOT_TRANSFERRING = "guidance not transferring"
    HEALTHY = "healthy"


def reading(usage: float, depth: float, confidence: float, trained: float) -> Reading:
    """Shares of the seats used, of those used with depth, and trained; confidence from 0 to 10. NaN is not known.

    Most do not use it: broad stall. Most use it, most of them without depth: surface stall. Used with depth or not known,
    but confidence is low although most were trained: guidance does not transfer.
    """
    if usage < USED:
        return Reading.BROAD_STALL
    if depth < DEEP:
        return Reading.SURFACE_STALL
    if confidence < CONFIDENT and trained >= TRAINED:
        return Reading.NOT_TRANSFERRING
    return Reading.HEALTHY


def window_snapshots(seat_ids: Sequence[str], as_of: datetime) -> pl.DataFrame:
    """The snapshots to compute features for: every seat at the end of each window. SNAPSHOT_SCHEMA."""
    ends = [as_of - timedelta(days=WINDOW_DAYS * number) for number in range(WINDOWS)]
    return pl.DataFrame(
        {"seat_id": [seat for seat in seat_ids for _ in ends], "as_of": ends * len(seat_ids)}, schema=SNAPSHOT_SCHEMA
    )


@dataclass(frozen=True)
class SeatModes:
    """What each seat showed in its windows of use: arrays (n_seats,).

    in_use: it has such a window. strengths: by mode, mean over them, NaN for a seat without. last: (n_seats, n_numeric)
    features of the latest such window. manager_used: share of the seat's windows in which its manager used the tool in
    any way, NaN where none has a seat; used: share of them in which the seat itself was used, NaN before it was assigned.
    """

    in_use: Booleans
    strengths: dict[FailureMode, Floats]
    last: Floats
    manager_used: Floats
    used: Floats


def seat_modes(features: pl.DataFrame, seats: pl.DataFrame) -> SeatModes:
    """What the seats showed. features: of `window_snapshots`, in any order; seats: (n_seats,) SEAT_SCHEMA, the order of the
    answer.
    """
    seat_ids = seats["seat_id"]
    frame = features.sort("seat_id", "as_of", descending=[False, True])
    position = pl.DataFrame({"seat_id": seat_ids}).with_row_index("seat")
    seat = frame.select("seat_id").join(position, on="seat_id", how="left", maintain_order="left")["seat"].to_numpy()
    vectors, _ = pack(frame)
    n = len(seat_ids)
    days, is_there = np.nan_to_num(vectors[:, COLUMN["active_days_28"]]), vectors[:, COLUMN["life_days"]] > 0
    used = is_there & (days >= IN_USE_DAYS)
    windows = np.bincount(seat[used], minlength=n)
    by_row = mode_strengths(vectors)
    del by_row[FailureMode.LEADERSHIP_ABSENT]  # of the organisation; of a segment its own leaders speak
    explained = np.max([by_row[mode] for mode in _EXPLAINING], axis=0)
    by_row[FailureMode.WRONG_METRIC] = np.minimum(combined(SESSIONS_WITHOUT_RESULT, vectors), 1 - explained)
    with np.errstate(invalid="ignore"):
        strengths = {mode: np.bincount(seat[used], rows[used], n) / windows for mode, rows in by_row.items()}
    last = np.full((n, vectors.shape[1]), np.nan)
    last[seat[used][::-1]] = vectors[used][::-1]  # the latest of each seat stays
    is_used = np.where(is_there, days > 0, np.nan)
    own = frame.select("seat_id", "as_of").with_columns(is_used=is_used)
    people = seats.select("seat_id", "organization", "tool", "person_id", "manager_person_id")
    same = ["organization", "tool", "as_of"]
    of_person = own.join(people, on="seat_id").group_by(*same, "person_id").agg(pl.col("is_used").fill_nan(None).max())
    managers = of_person.rename({"person_id": "manager_person_id", "is_used": "manager_used"})
    joined = own.join(people, on="seat_id", how="left", maintain_order="left").join(
        managers, on=[*same, "manager_person_id"], how="left", maintain_order="left"
    )
    of_manager = joined["manager_used"].fill_null(np.nan).to_numpy()
    is_own = (joined["manager_person_id"] == joined["person_id"]).fill_null(False).to_numpy()
    both = is_there & ~np.isnan(of_manager) & ~is_own  # windows of which both can be said
    return SeatModes(
        windows > 0,
        strengths,
        last,
        _mean_of_known(np.where(both, of_manager, np.nan), seat, n),
        _mean_of_known(np.where(both, is_used, np.nan), seat, n),
    )


# What a lack of results comes from where one of these shows; training and leaders do not say what sessions are like
_EXPLAINING = (
    FailureMode.NO_ROLE_USE_CASES,
    FailureMode.SURFACE_USE,
    FailureMode.SILENT_STRUGGLE,
    FailureMode.COMPLEXITY,
)


def _mean_of_known(values: Floats, seat: Integers, n: int) -> Floats:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(seat[known], values[known], n) / np.bincount(seat[known], minlength=n))


@dataclass(frozen=True)
class SegmentFinding:
    """A failure mode in a segment. share: of its `seats` in use that show it; for absent leaders, their use over their
    teams'; None where it may not be said. shows: whether it is a finding. strength: in [0, 1], from 0.5 on where it shows.
    shown: how many seats show it, or how many leaders are spoken of; typical: what is typical of those, in words.
    """

    mode: FailureMode
    strength: float
    share: float | None
    seats: int
    shows: bool
    evidence: str
    shown: int = 0
    typical: tuple[str, ...] = ()


def segment_findings(
    modes: SeatModes, manager: Integers, chosen: Booleans, *, min_group_size: int = MIN_GROUP_SIZE
) -> list[SegmentFinding]:
    """Every failure mode of which something can be said in a segment, the strongest first.

    chosen: (n_seats,) the segment's seats; manager: (n_seats,) number of each seat's manager, -1 where none is named.
    Nothing is said of fewer than `min_group_size` seats in use, or of fewer leaders.
    """
    inside = chosen & modes.in_use
    seats = int(inside.sum())
    found = []
    if seats >= min_group_size:
        for mode, strengths in modes.strengths.items():
            shown = inside & (strengths >= SHOWS_FROM)
            share = float(shown.sum() / seats)
            # our choice: half strength where it shows at one seat in five, full from two in five on
            strength = min(share / FULLY_AT, 1.0)
            shows = share >= SHOWS_AT and wilson(shown.sum(), seats)[0] >= SHOWS_AT_LEAST
            typical = _typical(mode, modes.last[shown], min_group_size)
            words = f"shows at {share:.0%} of {seats} seats in use"
            words = f"{words}; typically {', '.join(typical)}" if typical else words
            strength = strength if shows else min(strength, 0.49)
            found.append(SegmentFinding(mode, strength, share, seats, shows, words, int(shown.sum()), typical))
    found += _leaders(modes, manager, chosen, min_group_size)
    return sorted(found, key=lambda finding: -finding.strength)


def is_led(modes: SeatModes, manager: Integers) -> Booleans:
    """(n_seats,) whether the seat's use can be set beside its manager's."""
    return np.asarray((manager >= 0) & ~np.isnan(modes.manager_used) & ~np.isnan(modes.used))


def _leaders(modes: SeatModes, manager: Integers, chosen: Booleans, min_group_size: int) -> list[SegmentFinding]:
    """Whether use is clearly less common among the managers of the segment's seats than in their teams.

    Use of any kind: whether a leader is there at all is what their people see, and what a few leaders tell most surely.
    """
    known = np.flatnonzero(chosen & is_led(modes, manager))
    count = len(np.unique(manager[known]))
    if count < min_group_size:
        return []
    leaders = float(modes.manager_used[known].mean())  # a leader counts as often as they have people here
    team = float(modes.used[known].mean())
    if team < TEAM_USES:
        return []
    ratio = leaders / team
    strength = float(np.clip(0.5 + 0.5 * (ABSENT_BELOW - ratio) / (ABSENT_BELOW - ABSENT_FULLY), 0, 1))
    words = (
        f"of {count} leaders with a seat {leaders:.0%} used it in 28 days, of their teams {team:.0%} "
        f"(by people led, mean of {WINDOWS} windows)"
    )
    shows = strength >= SHOWS_FROM
    return [SegmentFinding(FailureMode.LEADERSHIP_ABSENT, strength, ratio, len(known), shows, words, count)]


def _typical(mode: FailureMode, shown: Floats, min_group_size: int) -> tuple[str, ...]:
    if len(shown) < min_group_size:
        return ()
    signs = SESSIONS_WITHOUT_RESULT if mode is FailureMode.WRONG_METRIC else SIGNS[mode]
    typical = []
    for one in (one for sign in signs for one in sign.signs):
        known = shown[:, COLUMN[one.feature]]
        median = np.full((1, shown.shape[1]), np.nan if np.isnan(known).all() else np.nanmedian(known))
        if one.strength(median)[0] >= SHOWS_FROM:  # what is as it should be is no evidence
            typical.append(say(BY_NAME[one.feature], float(median[0, 0])))
    return tuple(dict.fromkeys(phrase for phrase in typical if phrase))[:MAX_EVIDENCE]
