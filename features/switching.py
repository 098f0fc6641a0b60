"""Who left one tool for another, and who left AI altogether: a lost seat is not a lost person.

It can be told where the seats of several tools are loaded and joined by `person_id`.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import polars as pl

from features.history import Booleans, Integers
from features.population import Population


class Course(StrEnum):
    """What became of a person with a tool.

    USING: used it within the last W days (the tool's silence). SWITCHED: used it before, not within W days, and within the
    last W days used another tool, last after this one. LEFT: used it before, and within W days used none at all, though
    there was work; said only of people who are joined across tools (seats of several), all of
    them told of until now. LEFT_TOOL: the same of the others, so that nobody knows of another tool. NEVER: has a seat that
    was never used. AWAY: no use, and no work seen either. UNKNOWN: the tool's data ended more than W days ago.
    """

    USING = "using"
    SWITCHED = "switched"
    LEFT = "left"
    LEFT_TOOL = "left_tool"
    NEVER = "never"
    AWAY = "away"
    UNKNOWN = "unknown"


SENTENCES = {
    Course.USING: "in use",
    Course.SWITCHED: "moved to another tool",
    Course.LEFT: "uses no AI tool any more",
    Course.LEFT_TOOL: "not used any more; the person is not joined with data of another tool, so a move would not be seen",
    Course.NEVER: "never used",
    Course.AWAY: "not used, and no work was seen either",
    Course.UNKNOWN: "not known: the tool's data ends too early",
}
_COURSES = tuple(Course)
_IN_ORDER = (Course.USING, Course.UNKNOWN, Course.NEVER, Course.SWITCHED, Course.AWAY, Course.LEFT_TOOL)


@dataclass(frozen=True)
class Courses:
    """seat: (n_seats,) place in Course. person: (n_people,) the same over all of a person's tools. moved_to: (n_seats,) seat
    of the tool that a switched person uses now, -1 for others.
    """

    seat: Integers
    person: Integers
    moved_to: Integers

    def is_(self, course: Course) -> Booleans:
        """(n_seats,) whether that became of the seat."""
        return np.asarray(self.seat == _COURSES.index(course))


def courses(p: Population) -> Courses:
    """What became of every seat and person. Our definition, in the words of Course.

    A person is USING where any of their tools is in use and none was left for it, SWITCHED where one was; else what
    became of the tool used last.
    """
    last = np.full(len(p), -1, np.int64)
    last[p.uses.seat] = p.uses.day  # in the order of days: the latest stays
    in_use = ~p.is_stale & (last >= 0) & (last >= p.end_day - p.silence_days)
    latest, second = _latest_tools(p, np.where(in_use, last, -1))
    # the person's most recently used seat in use; where that is of this very tool, the best of any other tool
    tools = p.seats["tool"].rank("dense").cast(pl.Int64).to_numpy()
    same = (latest[p.person] >= 0) & (tools[latest[p.person]] == tools)
    other = np.where(same, second[p.person], latest[p.person])
    moved = other >= 0  # in use, and so used after this one
    is_dark = np.zeros(int(p.person.max(initial=-1)) + 1, bool)  # whether of some tool of the person nobody can tell
    is_dark[p.person[p.is_stale]] = True
    tools_loaded = p.seats.select(pl.col("tool").n_unique().over("organization"))["tool"].to_numpy()
    is_alone = ~p.is_joined | is_dark[p.person] | (tools_loaded < 2)
    recent = p.opportunities.day >= (p.end_day - p.silence_days)[p.opportunities.seat]
    worked = np.zeros(int(p.person.max(initial=-1)) + 1, bool)
    worked[p.person[p.opportunities.seat[recent]]] = True
    worked[p.person[~p.sees_work]] = True
    seat = np.select(
        [in_use, p.is_stale, last < 0, moved, ~worked[p.person], is_alone],
        [_COURSES.index(one) for one in _IN_ORDER],
        _COURSES.index(Course.LEFT),
    )
    moved_to = np.where(seat == _COURSES.index(Course.SWITCHED), other, -1)
    return Courses(seat, _of_people(p, seat, last), moved_to)


def _latest_tools(p: Population, last: Integers) -> tuple[Integers, Integers]:
    """By person, the seat in use that was used last, and the one of another tool; -1 where there is none."""
    frame = (
        pl.DataFrame({"seat": np.arange(len(p)), "person": p.person, "tool": p.seats["tool"], "last": last})
        .filter(pl.col("last") >= 0)
        .sort("last", "seat", descending=[True, False])
        .unique(["person", "tool"], keep="first", maintain_order=True)
        .with_columns(pl.int_range(pl.len()).over("person").alias("rank"))
    )
    people = int(p.person.max(initial=-1)) + 1
    found = np.full((2, people), -1, np.int64)
    for rank in range(2):
        chosen = frame.filter(pl.col("rank") == rank)
        found[rank, chosen["person"].to_numpy()] = chosen["seat"].to_numpy()
    return found[0], found[1]


def _of_people(p: Population, seat: Integers, last: Integers) -> Integers:
    people = int(p.person.max(initial=-1)) + 1
    order = np.lexsort((last, p.person))
    found = np.full(people, _COURSES.index(Course.NEVER), np.int64)
    found[p.person[order]] = seat[order]  # of the tool used last
    switched = seat == _COURSES.index(Course.SWITCHED)
    found[p.person[switched]] = _COURSES.index(Course.SWITCHED)
    return found
