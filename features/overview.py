"""A rollout at a glance: metrics, segments, failure modes, curves and licences of one population, safe to publish.

What the page shows and what `--json` prints are both made of this.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from features import adoption
from features.adoption import METRICS, PublishedSegment, Sample, Standing, estimate, survival
from features.catalogue import MIN_GROUP_SIZE
from features.diagnosis import CHANGES, TITLES, answers
from features.events import Kind
from features.history import Booleans, Integers
from features.intervals import Estimate, Survival
from features.interventions import FailureMode, Intervention
from features.population import DIMENSIONS, Population
from features.segments import Reading, SeatModes, SegmentFinding, is_led, reading, segment_findings
from features.suppression import TOTAL, publishable
from features.switching import Course, Courses, courses
from features.weeks import FirstWeeks, Tickets, first_weeks, ticket_course

DEFAULT_DIMENSIONS = ("function", "role", "tenure", "cohort_week", "team")
MONTHS = 12
NOT_IDLE = "not idle"
CURVES = 6  # our choice: more cohorts in one picture cannot be told apart


@dataclass(frozen=True)
class Group:
    """One published group. metrics: by name, None where it is withheld or nobody is counted."""

    name: str
    seats: int
    metrics: Mapping[str, Estimate | None]
    reading: Reading | None
    findings: tuple[SegmentFinding, ...]


@dataclass(frozen=True)
class Breakdown:
    """The groups of one dimension, the largest first. withheld: how many groups are not shown."""

    dimension: str
    groups: tuple[Group, ...]
    withheld: int


@dataclass(frozen=True)
class Idle:
    """Licences that can be recovered, by what became of their people; None where that would tell of few."""

    course: Course
    seats: int | None


@dataclass(frozen=True)
class Licences:
    """held: seats now. recoverable: None where that would tell of few. price_a_month: of one licence, in `currency`."""

    held: int
    recoverable: int | None
    price_a_month: float | None
    currency: str
    idle: tuple[Idle, ...]

    def yearly(self, seats: int | None) -> float | None:
        """What so many licences cost a year; None without a price."""
        return None if self.price_a_month is None or seats is None else seats * self.price_a_month * MONTHS


@dataclass(frozen=True)
class Overview:
    """Everything that is said of a rollout. Shares are in [0, 1]; counts of people below `min_group_size` are None.

    joined: how many of the people are known to hold seats of several tools, so that a move would be seen. data_until: by tool.
    """

    as_of: datetime
    is_simulated: bool
    tools: tuple[str, ...]
    sources: tuple[str, ...]
    people: int
    joined: int | None
    data_until: Mapping[str, datetime]
    min_group_size: int
    sees_work: bool
    whole: Group | None
    breakdowns: tuple[Breakdown, ...]
    retention: Survival | None
    cohorts: Mapping[str, Survival]
    first_weeks: FirstWeeks | None
    tickets: Tickets | None
    standings: Mapping[str, int | None]
    published: Mapping[str, int | None]
    courses: Mapping[str, int | None]
    people_courses: Mapping[str, int | None]
    licences: Licences | None
    actions: Mapping[FailureMode, tuple[Intervention, ...]]


def overview(
    p: Population,
    modes: SeatModes,
    *,
    interventions: Iterable[Intervention],
    sources: Sequence[str],
    dimensions: Sequence[str] = DEFAULT_DIMENSIONS,
    min_group_size: int = MIN_GROUP_SIZE,
    price_a_month: float | None = None,
    currency: str = "EUR",
) -> Overview:
    """The overview of a population. modes: of the same seats. Raises ValueError for an unknown dimension or setting."""
    for dimension in dimensions:
        if dimension not in DIMENSIONS:
            raise ValueError(f"segment-by: expected some of {', '.join(DIMENSIONS)}, came {dimension!r}")
    if price_a_month is not None and not 0 <= price_a_month < np.inf:
        raise ValueError(f"licence-price: expected an amount of 0 or more, came {price_a_month}")
    tables = _Tables(p, DIMENSIONS, min_group_size)  # all of them, so that two pages cannot be taken from each other
    samples = {metric.name: metric.sample(p) for metric in METRICS}
    is_shown = tables.allowed(p.is_held)
    spread = _distributions(p, courses(p), samples["idle_licences"].value > 0, min_group_size)
    enough = bool(is_shown[TOTAL].any())
    groups = {name: tables.groups(name, samples, modes, is_shown[name]) for name in (TOTAL, *dimensions)}
    retention = samples["retained_seats"], adoption.retention(p)
    catalogue = tuple(interventions)
    everybody = np.ones(len(p), bool)
    return Overview(
        as_of=p.as_of,
        is_simulated=any(name.startswith("simulated") for name in sources),
        tools=tuple(p.seats["tool"].unique().sort()),
        sources=tuple(sorted(sources)),
        people=p.seats["person_id"].n_unique(),
        joined=_joined(p, min_group_size),
        data_until=p.data_until,
        min_group_size=min_group_size,
        sees_work=bool(p.sees_work.all()),
        whole=groups[TOTAL].groups[0] if enough else None,
        breakdowns=tuple(groups[name] for name in dimensions),
        retention=survival(retention[1], everybody)
        if enough and _is_enough(p, retention[1].counted, min_group_size)
        else None,
        cohorts=tables.curves("cohort_week", retention[1]),
        first_weeks=first_weeks(p, everybody) if _is_enough(p, p.life_days >= 56, min_group_size) else None,
        tickets=ticket_course(p, everybody, least=10 * min_group_size) if p.of_kind(Kind.TICKET).size else None,
        standings=spread["standings"],
        published=spread["published"],
        courses=spread["courses"],
        people_courses=spread["people_courses"],
        licences=_licences(p, spread, price_a_month, currency) if enough else None,
        actions={mode: tuple(answers(mode, catalogue)) for mode in FailureMode},
    )


def _is_enough(p: Population, chosen: Booleans, least: int) -> bool:
    return len(np.unique(p.person[chosen])) >= least


def _joined(p: Population, least: int) -> int | None:
    """None where those who are, or those who are not, are few."""
    people, joined = len(np.unique(p.person)), len(np.unique(p.person[p.is_joined]))
    return None if 0 < joined < least or 0 < people - joined < least else joined


class _Tables:
    """The seats by group of every dimension, and which groups may be shown."""

    def __init__(self, p: Population, dimensions: Iterable[str], min_group_size: int) -> None:
        self._p, self._least = p, min_group_size
        self._names: dict[str, list[str]] = {TOTAL: [TOTAL]}
        self._codes: dict[str, Integers] = {TOTAL: np.zeros(len(p), np.int64)}
        for dimension in dimensions:
            names = p.seats[dimension].unique().sort()
            self._names[dimension] = names.to_list()
            self._codes[dimension] = np.searchsorted(
                names.to_numpy().astype(str), p.seats[dimension].to_numpy().astype(str)
            )
        managers = p.seats["manager_person_id"]
        self._manager = managers.rank("dense").fill_null(0).cast(pl.Int64).to_numpy() - 1
        self._known: dict[bytes, dict[str, Booleans]] = {}
        self._leaders: dict[str, Booleans] | None = None

    def allowed(self, counted: Booleans) -> dict[str, Booleans]:
        """By dimension, which groups may be shown of a table about the seats `counted`."""
        key = counted.tobytes()
        if key not in self._known:
            groups = {name: codes for name, codes in self._codes.items() if name != TOTAL}
            self._known[key] = publishable(groups, self._p.person, counted=counted, min_group_size=self._least)
        return self._known[key]

    def groups(self, dimension: str, samples: Mapping[str, Sample], modes: SeatModes, is_shown: Booleans) -> Breakdown:
        """What is said of every group of the dimension that may be shown."""
        codes, names = self._codes[dimension], self._names[dimension]
        values: dict[str, list[Estimate | None]] = {}
        for name, sample in samples.items():
            fits = self.allowed(sample.counted)[dimension] & is_shown
            inside = np.where(fits[codes], codes, -1)
            found = estimate(sample, self._p.person, inside, len(names))
            values[name] = [one if fits[n] and one.n else None for n, one in enumerate(found)]
        seats = np.bincount(codes[self._p.is_held], minlength=len(names))
        trained = self._p.total(self._p.of_kind(Kind.TRAINING)) > 0
        groups = []
        for number in np.flatnonzero(is_shown).tolist():
            metrics = {name: of[number] for name, of in values.items()}
            chosen = codes == number
            groups.append(
                Group(
                    names[number] or "not known",
                    int(seats[number]),
                    metrics,
                    _read(metrics, float(trained[chosen & self._p.is_held].mean())),
                    tuple(self._findings(modes, chosen, dimension, number)),
                )
            )
        return Breakdown(
            dimension, tuple(sorted(groups, key=lambda group: (-group.seats, group.name))), int((~is_shown).sum())
        )

    def _findings(self, modes: SeatModes, chosen: Booleans, dimension: str, number: int) -> list[SegmentFinding]:
        if not self.allowed(modes.in_use)[dimension][number]:
            return []
        found = segment_findings(modes, self._manager, chosen, min_group_size=self._least)
        is_led = self._led(modes)[dimension][number]
        return [finding for finding in found if is_led or finding.mode is not FailureMode.LEADERSHIP_ABSENT]

    def _led(self, modes: SeatModes) -> dict[str, Booleans]:
        """By dimension, of which groups' leaders something may be said: leaders are people too."""
        if self._leaders is None:
            known = is_led(modes, self._manager)
            groups = {name: codes for name, codes in self._codes.items() if name != TOTAL}
            self._leaders = publishable(groups, self._manager, counted=known, min_group_size=self._least)
        return self._leaders

    def curves(self, dimension: str, sample: Sample) -> dict[str, Survival]:
        """The survival curves of the largest groups that may be shown, in the order of their names."""
        fits = self.allowed(sample.counted)[dimension]
        sizes = np.where(fits, np.bincount(self._codes[dimension][sample.counted], minlength=len(fits)), 0)
        largest = [n for n in np.argsort(-sizes, kind="stable")[:CURVES].tolist() if sizes[n]]
        return {self._names[dimension][n]: survival(sample, self._codes[dimension] == n) for n in sorted(largest)}


def _read(metrics: Mapping[str, Estimate | None], trained: float) -> Reading | None:
    """None where usage is not known, or depth where it is needed: of a group that nobody uses there is no depth."""
    usage, deep, confident = (metrics[name] for name in ("usage_rate", "depth", "confidence"))
    if usage is None:
        return None
    if deep is None:
        is_stall = reading(usage.value, np.nan, np.nan, np.nan) is Reading.BROAD_STALL
        return Reading.BROAD_STALL if is_stall else None
    return reading(usage.value, deep.value, np.nan if confident is None else confident.value, trained)


def _distributions(p: Population, known: Courses, idle: Booleans, least: int) -> dict[str, dict[str, int | None]]:
    """How seats are spread over standings, published segments and what became of them; people over the last; idle
    licences too. Parts that are small, or that would let a small one be worked out, are withheld (None).
    """
    named: dict[str, tuple[Integers, list[str]]] = {
        "standings": (adoption.standings(p), [str(one) for one in Standing]),
        "published": (adoption.published_segments(p), [str(one) for one in PublishedSegment]),
        "courses": (known.seat, [str(one) for one in Course]),
        "people_courses": (known.person[p.person], [str(one) for one in Course]),
        "idle": (np.where(idle, known.seat, len(Course)), [*map(str, Course), NOT_IDLE]),
    }
    codes = {name: np.maximum(of, 0) for name, (of, _) in named.items()}
    codes["is_idle"] = idle.astype(np.int64)
    allowed = publishable(codes, p.person, counted=p.is_held, min_group_size=least)
    found = {}
    for name, (_, words) in named.items():
        inside, person = codes[name][p.is_held], p.person[p.is_held]
        if name == "people_courses":
            inside = inside[np.unique(person, return_index=True)[1]]
        counts = np.bincount(inside, minlength=len(words))
        safe = np.append(allowed[name], np.zeros(len(words) - len(allowed[name]), bool))
        found[name] = {word: int(n) if ok or not n else None for word, n, ok in zip(words, counts, safe, strict=True)}
    if any(n is None for word, n in found["idle"].items() if word != NOT_IDLE):
        # the total less the other parts would be the one that is withheld
        found["idle"] = {word: n and None for word, n in found["idle"].items()}
    found["is_idle"] = {"idle": int(idle.sum()) if allowed["is_idle"].all() or not idle.any() else None}
    return found


def _licences(
    p: Population, found: Mapping[str, Mapping[str, int | None]], price: float | None, currency: str
) -> Licences:
    rows = tuple(Idle(course, found["idle"][course]) for course in Course if found["idle"][course] != 0)
    return Licences(int(p.is_held.sum()), found["is_idle"]["idle"], price, currency, rows)


def document(o: Overview) -> dict[str, Any]:
    """The overview for machines: everything that the page says, and every group. Missing and infinite numbers are null."""
    whole = None if o.whole is None else _group_document(o.whole)
    curve = None if o.retention is None else _curve_document(o.retention)
    found = o.licences
    return {
        "as_of": o.as_of,
        "is_simulated": o.is_simulated,
        "tools": list(o.tools),
        "sources": list(o.sources),
        "data_until": dict(o.data_until),
        "joined_people": o.joined,
        "min_group_size": o.min_group_size,
        "sees_work": o.sees_work,
        "whole": whole,
        "segments": {
            one.dimension: {"groups": [_group_document(group) for group in one.groups], "withheld": one.withheld}
            for one in o.breakdowns
        },
        "retention": {"whole": curve, "cohort_week": {name: _curve_document(of) for name, of in o.cohorts.items()}},
        "first_weeks": None if o.first_weeks is None else asdict(o.first_weeks),
        "tickets": None if o.tickets is None else asdict(o.tickets),
        "standings": dict(o.standings),
        "published_segments": dict(o.published),
        "courses": {"seats": dict(o.courses), "people": dict(o.people_courses)},
        "licences": None
        if found is None
        else {
            "held": found.held,
            "recoverable": found.recoverable,
            "price_a_month": found.price_a_month,
            "currency": found.currency,
            "recoverable_a_year": found.yearly(found.recoverable),
            "by_course": [
                {"course": one.course, "seats": one.seats, "a_year": found.yearly(one.seats)} for one in found.idle
            ],
        },
        "failure_modes": {
            mode: {"title": TITLES[mode], "change": CHANGES[mode], "interventions": [one.id for one in actions]}
            for mode, actions in o.actions.items()
        },
    }


def _group_document(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "seats": group.seats,
        "reading": group.reading,
        "metrics": {name: None if found is None else asdict(found) for name, found in group.metrics.items()},
        "failure_modes": [asdict(finding) for finding in group.findings],
    }


def _curve_document(curve: Survival) -> dict[str, Any]:
    parts = {name: getattr(curve, name).tolist() for name in ("times", "survival", "low", "high")}
    return {"seats": curve.n, "silences": curve.events, "followed_days": curve.last, **parts}
