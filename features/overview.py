"""A rollout at a glance: metrics, segments, failure modes, curves and licences of one population, safe to publish.

What the page shows, what `--json` prints and what the API answers are made of this. Every number of people in it is as coarse
as features.published makes it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from features import adoption
from features.adoption import METRICS, Metric, PublishedSegment, Sample, Standing, estimate, survival
from features.catalogue import MIN_GROUP_SIZE
from features.diagnosis import CHANGES, TITLES, answers
from features.events import Kind
from features.history import Booleans, Integers
from features.intervals import Estimate
from features.interventions import FailureMode, Intervention
from features.licences import Idle, Licences, Price, ToolLicences
from features.population import DIMENSIONS, Population
from features.published import Curve, Grain
from features.segments import Reading, SeatModes, SegmentFinding, is_led, reading, segment_findings
from features.suppression import TOTAL, publishable
from features.switching import Course, Courses, courses
from features.weeks import FirstWeeks, Tickets, first_weeks, ticket_course

DEFAULT_DIMENSIONS = ("function", "role", "tenure", "cohort_week", "team")
NOT_IDLE = "not idle"


@dataclass(frozen=True)
class Group:
    """One published group. seats: rounded. metrics: by name, None where it is withheld or nobody is counted. findings: the
    failure modes that show.
    """

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
class Overview:
    """Everything that is said of a rollout. Shares are in [0, 1]; counts are rounded, and None where they would tell of few.

    joined: how many of the people are known to hold seats of several tools, so that a move would be seen. data_until: by tool.
    standings, published, courses, people_courses: how seats (and people) are spread.
    """

    as_of: datetime
    is_simulated: bool
    tools: tuple[str, ...]
    sources: tuple[str, ...]
    joined: int | None
    data_until: Mapping[str, datetime]
    min_group_size: int
    sees_work: bool
    whole: Group | None
    breakdowns: tuple[Breakdown, ...]
    retention: Curve | None
    cohorts: Mapping[str, Curve]
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
    prices: Mapping[str, Price] = MappingProxyType({}),
) -> Overview:
    """The overview of a population. modes: of the same seats; prices: by tool. Raises ValueError for an unknown dimension or
    setting.
    """
    for dimension in dimensions:
        if dimension not in DIMENSIONS:
            raise ValueError(f"segment-by: expected some of {', '.join(DIMENSIONS)}, came {dimension!r}")
    tables = _Tables(p, DIMENSIONS, min_group_size)  # all of them, so that two pages cannot be taken from each other
    grain = Grain(min_group_size)
    samples = {metric.name: metric.sample(p) for metric in METRICS}
    is_shown = tables.allowed(p.is_held)
    spread = _distributions(p, courses(p), samples["idle_licences"].value > 0, grain)
    enough = bool(is_shown[TOTAL].any())
    groups = {name: tables.groups(name, samples, modes, is_shown[name]) for name in (TOTAL, *dimensions)}
    retention = adoption.retention(p)
    catalogue = tuple(interventions)
    everybody = np.ones(len(p), bool)
    return Overview(
        as_of=p.as_of,
        is_simulated=any(name.startswith("simulated") for name in sources),
        tools=tuple(p.seats["tool"].unique().sort()),
        sources=tuple(sorted(sources)),
        joined=_joined(p, grain),
        data_until=p.data_until,
        min_group_size=min_group_size,
        sees_work=bool(p.sees_work.all()),
        whole=groups[TOTAL].groups[0] if enough else None,
        breakdowns=tuple(groups[name] for name in dimensions),
        retention=grain.curve(survival(retention, everybody))
        if enough and _is_enough(p, retention.counted, min_group_size)
        else None,
        cohorts=tables.curves("cohort_week", retention) if enough else {},
        first_weeks=_first_weeks(p, grain) if enough else None,
        tickets=_tickets(p, grain) if enough and p.of_kind(Kind.TICKET).size else None,
        standings=spread["standings"],
        published=spread["published"],
        courses=spread["courses"],
        people_courses=spread["people_courses"],
        licences=_licences(tables, spread, is_shown["tool"], prices) if enough else None,
        actions={mode: tuple(answers(mode, catalogue)) for mode in FailureMode},
    )


def _is_enough(p: Population, chosen: Booleans, least: int) -> bool:
    return len(np.unique(p.person[chosen])) >= least


def _joined(p: Population, grain: Grain) -> int | None:
    """None where those who are, or those who are not, are few; 0 where there is but one tool, which all know."""
    people, joined = len(np.unique(p.person)), len(np.unique(p.person[p.is_joined]))
    if p.seats["tool"].n_unique() == 1:
        return 0
    return None if 0 < people - joined < grain.least else grain.part(joined)


def _first_weeks(p: Population, grain: Grain) -> FirstWeeks | None:
    found = first_weeks(p, np.ones(len(p), bool))
    if found.seats < grain.least:
        return None
    used, meaningful = (
        tuple(grain.share(round(one.value * one.n), one.n) for one in of) for of in (found.used, found.meaningful)
    )
    if any(one is None for one in (*used, *meaningful)):
        return None
    return FirstWeeks(grain.count(found.seats), *(tuple(filter(None, of)) for of in (used, meaningful)))


def _tickets(p: Population, grain: Grain) -> Tickets:
    found = ticket_course(p, np.ones(len(p), bool), least=10 * grain.least)
    rates = tuple(grain.rate(rate, seats) for rate, seats in zip(found.per_100, found.seats, strict=True))
    return replace(found, per_100=rates, seats=tuple(map(grain.count, found.seats)))


class _Tables:
    """The seats by group of every dimension, and which groups may be shown."""

    def __init__(self, p: Population, dimensions: Iterable[str], min_group_size: int) -> None:
        self._p, self._least, self._grain = p, min_group_size, Grain(min_group_size)
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
        for metric in METRICS:
            name, sample = metric.name, samples[metric.name]
            fits = self.allowed(sample.counted)[dimension] & is_shown
            inside = np.where(fits[codes], codes, -1)
            found = estimate(sample, self._p.person, inside, len(names))
            values[name] = [
                self._published(metric, sample, one) if fits[n] and one.n else None for n, one in enumerate(found)
            ]
        seats = np.bincount(codes[self._p.is_held], minlength=len(names))
        trained = (self._p.total(self._p.of_kind(Kind.TRAINING)) > 0) & self._p.is_held
        groups = []
        for number in np.flatnonzero(is_shown).tolist():
            metrics = {name: of[number] for name, of in values.items()}
            chosen = codes == number
            were_trained = self._grain.share(int(trained[chosen].sum()), int(seats[number]))
            groups.append(
                Group(
                    names[number] or "not known",
                    self._grain.count(int(seats[number])),
                    metrics,
                    _read(metrics, were_trained),
                    tuple(self._findings(modes, chosen, dimension, number)),
                )
            )
        return Breakdown(
            dimension, tuple(sorted(groups, key=lambda group: (-group.seats, group.name))), int((~is_shown).sum())
        )

    def _published(self, metric: Metric, sample: Sample, found: Estimate) -> Estimate | None:
        if sample.is_share:
            return self._grain.share(round(found.value * found.n), found.n)
        return self._grain.mean(found, metric.least_change)

    def _findings(self, modes: SeatModes, chosen: Booleans, dimension: str, number: int) -> list[SegmentFinding]:
        if not self.allowed(modes.in_use)[dimension][number]:
            return []
        found = segment_findings(modes, self._manager, chosen, min_group_size=self._least)
        is_led = self._led(modes)[dimension][number]
        said = (one for one in found if is_led or one.mode is not FailureMode.LEADERSHIP_ABSENT)
        return sorted(filter(None, map(self._grain.finding, said)), key=lambda one: -one.strength)

    def _led(self, modes: SeatModes) -> dict[str, Booleans]:
        """By dimension, of which groups' leaders something may be said: leaders are people too."""
        if self._leaders is None:
            known = is_led(modes, self._manager)
            groups = {name: codes for name, codes in self._codes.items() if name != TOTAL}
            self._leaders = publishable(groups, self._manager, counted=known, min_group_size=self._least)
        return self._leaders

    def curves(self, dimension: str, sample: Sample) -> dict[str, Curve]:
        """The survival curves of all groups that may be shown, in the order of their names."""
        fits = self.allowed(sample.counted)[dimension]
        found = {
            self._names[dimension][n]: self._grain.curve(survival(sample, self._codes[dimension] == n))
            for n in np.flatnonzero(fits).tolist()
        }
        return {name: curve for name, curve in found.items() if curve is not None}

    @property
    def held(self) -> int:
        """Seats that are held, rounded."""
        return self._grain.count(int(self._p.is_held.sum()))

    def licences(self, counts: Mapping[str, Mapping[str, int | None]], is_shown: Booleans) -> list[ToolLicences]:
        """Of every tool, without prices. is_shown: which tools may be shown by the seats held."""
        seats = np.bincount(self._codes["tool"][self._p.is_held], minlength=len(is_shown)).tolist()
        return [
            ToolLicences(tool, self._grain.count(seats[n]) if is_shown[n] else None, counts["tool_idle"][tool], None)
            for n, tool in enumerate(self._names["tool"])
        ]


def _read(metrics: Mapping[str, Estimate | None], trained: Estimate | None) -> Reading | None:
    """Of what is published, so that it tells no more. None where usage is not known, or depth where it is needed: of a
    group that nobody uses there is no depth.
    """
    usage, deep = (_about(metrics[name]) for name in ("usage_rate", "depth"))
    if usage is None:
        return None
    if deep is None:
        is_stall = reading(usage, np.nan, np.nan, np.nan) is Reading.BROAD_STALL
        return Reading.BROAD_STALL if is_stall else None
    confident = metrics["confidence"]
    return reading(usage, deep, np.nan if confident is None else confident.value, _about(trained) or 0.0)


def _about(share: Estimate | None) -> float | None:
    """The share, or the middle of the bounds that are said of it."""
    if share is None:
        return None
    return (share.low + share.high) / 2 if np.isnan(share.value) else share.value


def _distributions(p: Population, known: Courses, idle: Booleans, grain: Grain) -> dict[str, dict[str, int | None]]:
    """How seats are spread over standings, published segments and what became of them; people over the last; idle
    licences too, by tool as well. Parts of few people are withheld (None), and so are those that nobody is in; the others
    are rounded, so that a total less its parts, or a part of one table less one of another, tells of no small part either.
    """
    tools = p.seats["tool"].unique().sort().to_list()
    tool = np.searchsorted(tools, p.seats["tool"].to_numpy().astype(str))
    named: dict[str, tuple[Integers, list[str]]] = {
        "standings": (adoption.standings(p), [str(one) for one in Standing]),
        "published": (adoption.published_segments(p), [str(one) for one in PublishedSegment]),
        "courses": (known.seat, [str(one) for one in Course]),
        "people_courses": (known.person[p.person], [str(one) for one in Course]),
        "idle": (np.where(idle, known.seat, len(Course)), [*map(str, Course), NOT_IDLE]),
        "is_idle": (np.where(idle, 0, 1), ["idle", NOT_IDLE]),
        "tool_idle": (np.where(idle, tool, tool + len(tools)), [*tools, *(f"{name} {NOT_IDLE}" for name in tools)]),
    }
    found = {}
    for name, (codes, words) in named.items():
        inside, person = np.maximum(codes, 0)[p.is_held], p.person[p.is_held]
        is_first = np.zeros(len(person), bool)
        is_first[np.unique(inside * (person.max(initial=0) + 1) + person, return_index=True)[1]] = True
        people = np.bincount(inside[is_first], minlength=len(words))
        counts = people if name == "people_courses" else np.bincount(inside, minlength=len(words))
        found[name] = {
            word: None if grain.part(int(held)) is None else grain.count(int(n))
            for word, n, held in zip(words, counts, people, strict=True)
        }
    return found


def _licences(
    tables: _Tables, found: Mapping[str, Mapping[str, int | None]], is_shown: Booleans, prices: Mapping[str, Price]
) -> Licences:
    rows = tuple(Idle(course, found["idle"][course]) for course in Course if found["idle"][course] is not None)
    tools = tuple(replace(one, price=prices.get(one.tool)) for one in tables.licences(found, is_shown))
    return Licences(tables.held, found["is_idle"]["idle"], rows, tools)


def document(o: Overview) -> dict[str, Any]:
    """The overview for machines: everything that the page says, and every group. Missing and infinite numbers are null."""
    whole = None if o.whole is None else _group_document(o.whole)
    curve = None if o.retention is None else _curve_document(o.retention)
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
        "licences": None if o.licences is None else licences_document(o.licences),
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
        "failure_modes": [_finding_document(finding) for finding in group.findings],
    }


def _finding_document(finding: SegmentFinding) -> dict[str, Any]:
    """Without how many seats show it: the share says that, as coarsely as it may be said."""
    names = ("mode", "strength", "share", "seats", "shows", "evidence", "typical")
    return {name: getattr(finding, name) for name in names}


def _curve_document(curve: Curve) -> dict[str, Any]:
    parts = {name: getattr(curve, name).tolist() for name in ("times", "survival", "low", "high")}
    return {"seats": curve.seats, "silences": curve.silences, "followed_days": curve.followed_days, **parts}


def licences_document(found: Licences) -> dict[str, Any]:
    """Licences for machines; money by currency, for prices may stand in several."""
    price = found.one_price
    return {
        "held": found.held,
        "recoverable": found.recoverable,
        "recoverable_a_year": found.yearly,
        "left_out": list(found.left_out),
        "by_tool": [
            {
                "tool": one.tool,
                "held": one.held,
                "recoverable": one.recoverable,
                "price_a_month": None if one.price is None else one.price.amount,
                "currency": None if one.price is None else one.price.currency,
                "recoverable_a_year": one.yearly,
            }
            for one in found.tools
        ],
        "by_course": [
            {
                "course": one.course,
                "seats": one.seats,
                "a_year": None if price is None else price.yearly(one.seats),
                "currency": None if price is None else price.currency,
            }
            for one in found.idle
        ],
    }
