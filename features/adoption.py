"""Adoption metrics: what each is, of whom it speaks, where its definition comes from. The licence count is none of them.

Each function takes the population and gives a sample: what every seat adds. `estimate` makes of it a value with its
interval for each group. Definitions for readers: docs/adoption.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from features.events import Kind
from features.history import DAY, Booleans, Floats, Integers
from features.intervals import Estimate, Survival, kaplan_meier, ratios, wilson
from features.population import Population, SeatDays

WINDOW_DAYS = 28
SURVEY_DAYS = 90  # our choice: an answer speaks of a quarter of a year
PROFICIENT_USES, PROFICIENT_DAYS = 3, 2  # in each of the two weeks (design: diagnosis)
SETTLED_DAYS = 56  # before that a licence may still be taken up (design: labels)
PUBLISHED_WEEKS, PUBLISHED_ACTIVE, PUBLISHED_ACTIONS = 12, 9, 15
PROMOTERS, DETRACTORS = 9, 6
SEED = 7


@dataclass(frozen=True)
class Sample:
    """What each seat adds to a metric: arrays (n_seats,).

    counted: of whom it speaks. value, of: the metric is the sum of `value` over the sum of `of`. happened: where it is
    given, `value` is a time in days that ended so or was still going on. is_share: `value` is 0 or 1 and `of` is 1.
    """

    counted: Booleans
    value: Floats
    of: Floats
    happened: Booleans | None = None
    is_share: bool = False


def _share(counted: Booleans, hit: Booleans) -> Sample:
    return Sample(counted, (hit & counted).astype(np.float64), counted.astype(np.float64), is_share=True)


def usage_rate(p: Population) -> Sample:
    """Of the seats that are held, those used in any way within 28 days.

    The denominator is the roster: most exports leave out who never used the tool. Source: the brief, "Signal 1".
    """
    return _share(p.is_held, p.days_in(p.uses, last=WINDOW_DAYS) > 0)


def depth(p: Population) -> Sample:
    """Of the seats used within 28 days, those with meaningful use in every other week or more: on two days or more.

    Source: the brief, "Signal 2"; what is meaningful is the tool's profile. Two days in four weeks are our choice: once
    is a trial.
    """
    used = p.is_held & (p.days_in(p.uses, last=WINDOW_DAYS) > 0)
    return _share(used, p.days_in(p.meaningful, last=WINDOW_DAYS) >= 2)


def meaningful_per_week(p: Population) -> Sample:
    """Meaningful uses a week, per seat used within 28 days. Source: the brief, "Signal 2"."""
    used = p.is_held & (p.days_in(p.uses, last=WINDOW_DAYS) > 0)
    uses = p.count_in(p.meaningful, last=WINDOW_DAYS) / (WINDOW_DAYS / 7)
    return Sample(used, np.where(used, uses, 0), used.astype(np.float64))


def task_completion_rate(p: Population) -> Sample:
    """Of the high-value tasks seen within 28 days, those completed with AI.

    Assisted tasks over assisted and unassisted ones, of seats whose organisation reports work without AI; guided tasks
    are not counted. Source: the brief, "Task completion rate on AI-assisted workflows".
    """
    events, tasks, works = p.events, p.of_kind(Kind.TASK), p.of_kind(Kind.WORK)
    works = works[events.is_high_value[works]]
    assisted = p.total(tasks[events.is_meaningful[tasks]], days=WINDOW_DAYS)
    every = assisted + p.total(works, days=WINDOW_DAYS)
    counted = p.is_held & p.sees_work & (every > 0)
    return Sample(counted, np.where(counted, assisted, 0), np.where(counted, every, 0))


def time_to_proficiency(p: Population) -> Sample:
    """Days from assignment to the first 14-day window with three meaningful uses on two days in each of its weeks.

    The time is that at which the window begins; who has had none is still on the way. The median is by Kaplan–Meier.
    Source: the brief, "Time-to-proficiency"; the window is the design's.
    """
    start, followed = first_proficient_day(p), p.life_days - 14
    happened = start >= 0
    days = np.where(happened, start, np.maximum(followed, 0))
    return Sample(happened | (followed > 0), days, np.ones(len(p)), happened=happened)


def first_proficient_day(p: Population) -> Floats:
    """(n_seats,) day of life, from 0, on which the first proficient fortnight begins; -1 where there is none."""
    days = p.meaningful
    age = days.day - (p.assigned // DAY)[days.seat]
    width = int(max(age.max(initial=0) + 1, 14))
    uses = np.zeros((len(p), width + 1), np.int64)
    active = np.zeros((len(p), width + 1), np.int64)
    inside = age >= 0
    uses[days.seat[inside], age[inside] + 1] = days.count[inside]
    active[days.seat[inside], age[inside] + 1] = 1
    week = [np.diff(_spaced(np.cumsum(part, axis=1), 7), axis=0)[0] for part in (uses, active)]
    good = (week[0] >= PROFICIENT_USES) & (week[1] >= PROFICIENT_DAYS)
    both = good[:, :-7] & good[:, 7:]
    return np.where(both.any(axis=1), both.argmax(axis=1), -1).astype(np.float64)


def _spaced(sums: Integers, width: int) -> Integers:
    return np.stack((sums[:, :-width], sums[:, width:]))


def ticket_volume(p: Population) -> Sample:
    """Support tickets about the tool per 100 seats and week, within 28 days. Source: the brief, "Support ticket volume"."""
    held = p.is_held
    weeks = np.minimum(p.life_days, WINDOW_DAYS) / 7
    tickets = 100 * p.total(p.of_kind(Kind.TICKET), days=WINDOW_DAYS)
    return Sample(held, np.where(held, tickets, 0), np.where(held, weeks, 0))


def confidence(p: Population) -> Sample:
    """Mean of the latest answers (0 to 10) to how confident people feel, of those who answered within 90 days.

    Source: the brief, "Signal 3". Who does not answer is left out, and they are not like the others.
    """
    return _mean(p.is_held, p.last_value(p.of_kind(Kind.CONFIDENCE), days=SURVEY_DAYS))


def nps(p: Population) -> Sample:
    """Net promoter score: answers of 9 and 10 less those of 0 to 6, in per cent, of the latest within 90 days.

    Source: Reichheld 2003.
    """
    answer = p.last_value(p.of_kind(Kind.NPS), days=SURVEY_DAYS)
    score = np.where(np.isnan(answer), np.nan, 100.0 * (answer >= PROMOTERS) - 100.0 * (answer <= DETRACTORS))
    return _mean(p.is_held, score)


def _mean(counted: Booleans, value: Floats) -> Sample:
    known = counted & ~np.isnan(value)
    return Sample(known, np.where(known, value, 0), known.astype(np.float64))


def retained_seats(p: Population) -> Sample:
    """Of the seats with a first meaningful use at least W days ago, those with another within the last W days.

    W: the tool's silence. Removed seats are not retained. Left out: seats at which no work was seen for W days where
    work is seen at all (a holiday is no loss). Source: design, sections 1 and 5.
    """
    first = _first(p, p.meaningful)
    began = (first >= 0) & (first <= p.end_day - p.silence_days)
    uses = _in_silence_window(p, p.meaningful)
    counted = began & ((uses > 0) | ~p.is_held | _had_opportunity(p))
    return _share(counted, p.is_held & (uses > 0))


def retention(p: Population) -> Sample:
    """Days from the first meaningful use until a silence of W days begins though there was work. For survival curves.

    Still going on where no such silence was seen; followed until the last moment that can be judged: W days before the
    data ends or the seat was removed, or the start of a gap in which there was no work either.
    Source: design, section 5 (labels).
    """
    days = p.meaningful
    n, stop = len(p), np.minimum(p.end, p.removed) // DAY
    first = _first(p, days)
    before_stop = days.day < stop[days.seat]
    seat, day = days.seat[before_stop], days.day[before_stop]
    following = np.append(day[1:], 0)
    is_last = np.append(seat[1:] != seat[:-1], True)[: len(seat)]
    following = np.where(is_last, stop[seat], following[: len(seat)])
    opens = following - day > p.silence_days[seat]
    begun = np.full(n, -1, np.int64)
    begun[seat[opens][::-1]] = day[opens][::-1] + 1  # the first of each seat stays
    judged = begun >= 0
    worked = np.zeros(n, bool)
    chances = p.opportunities
    since = begun[chances.seat]
    in_gap = judged[chances.seat] & (chances.day >= since) & (chances.day < since + p.silence_days[chances.seat])
    worked[chances.seat[in_gap]] = True
    happened = judged & (worked | ~p.sees_work)
    last = np.full(n, -1, np.int64)
    last[seat] = day  # the latest of each seat stays
    until = np.where(judged, begun, np.maximum(last, stop - p.silence_days))
    return Sample(first >= 0, np.where(first >= 0, until - first, 0).astype(np.float64), np.ones(n), happened=happened)


def _first(p: Population, days: SeatDays) -> Integers:
    first = np.full(len(p), -1, np.int64)
    first[days.seat[::-1]] = days.day[::-1]
    return first


def _in_silence_window(p: Population, days: SeatDays) -> Floats:
    """On how many of the last W days of each seat."""
    recent = days.day >= (p.end_day - p.silence_days)[days.seat]
    return np.bincount(days.seat[recent], minlength=len(p)).astype(np.float64)


def _had_opportunity(p: Population) -> Booleans:
    """Whether work was seen in the last W days; where none is ever seen, every day counts as one of work."""
    return ~p.sees_work | (_in_silence_window(p, p.opportunities) > 0)


def idle_licences(p: Population) -> Sample:
    """Of the seats held for 56 days or more, those not used in any way for W days though there was work: recoverable.

    Seats of a tool whose data ended more than W days ago are left out: nobody can tell. A little use of any kind keeps a seat out of this count: what it lacks is depth, not a licence. Source: the brief,
    "licences sit unused"; 56 days are our choice, as in the labels: before, a licence may still be taken up.
    """
    settled = p.is_held & (p.life_days >= SETTLED_DAYS) & ~p.is_stale
    return _share(settled, settled & (_in_silence_window(p, p.uses) == 0) & _had_opportunity(p))


@dataclass(frozen=True)
class Metric:
    """A metric by name. unit: `share`, `days`, `per week`, `per 100 seats and week`, `0 to 10` or `-100 to 100`.

    least_change: by what the least that one seat can add moves the sum over the seats, in the unit; 0 where the metric is no
    sum over seats.
    """

    name: str
    title: str
    unit: str
    sample: Callable[[Population], Sample]
    least_change: float = 0.0


METRICS = (
    Metric("usage_rate", "Usage rate", "share", usage_rate),
    Metric("depth", "Depth", "share", depth),
    Metric("meaningful_per_week", "Meaningful uses a week", "per week", meaningful_per_week, 7 / WINDOW_DAYS),
    Metric("task_completion_rate", "Tasks completed with AI", "share", task_completion_rate),
    Metric("time_to_proficiency", "Time to proficiency", "days", time_to_proficiency),
    Metric("ticket_volume", "Tickets", "per 100 seats and week", ticket_volume, 100 * 7 / WINDOW_DAYS),
    Metric("confidence", "Confidence", "0 to 10", confidence, 1.0),
    Metric("nps", "Net promoter score", "-100 to 100", nps, 100.0),
    Metric("retained_seats", "Retained seats", "share", retained_seats),
    Metric("idle_licences", "Licences recoverable", "share", idle_licences),
)


def estimate(sample: Sample, person: Integers, group: Integers, groups: int) -> list[Estimate]:
    """The metric in each group. group: (n_seats,) from 0, -1 for none. n is how many seats it speaks of.

    Shares: Wilson; sums over sums: bootstrap over people; times: the median by Kaplan–Meier. A share counts seats: where
    people hold several the interval is a little too narrow.
    """
    inside = np.where(sample.counted, group, -1)
    n = np.bincount(inside[inside >= 0], minlength=groups)
    if sample.happened is not None:
        return [survival(sample, group == number).quantile() for number in range(groups)]
    if sample.is_share:
        hits = np.bincount(inside[inside >= 0], sample.value[inside >= 0], groups)
        ends = [wilson(hit, size) for hit, size in zip(hits, n, strict=True)]
        return [
            Estimate(hit / size if size else np.nan, *end, int(size))
            for hit, size, end in zip(hits, n, ends, strict=True)
        ]
    value, low, high = ratios(sample.value, sample.of, person, inside, groups, seed=SEED)
    return [Estimate(float(v), float(a), float(b), int(k)) for v, a, b, k in zip(value, low, high, n, strict=True)]


def survival(sample: Sample, chosen: Booleans) -> Survival:
    """The survival curve of the chosen seats. sample: one of times."""
    assert sample.happened is not None
    rows = chosen & sample.counted
    return kaplan_meier(sample.value[rows], sample.happened[rows])


class PublishedSegment(StrEnum):
    """Usage segments as published by Microsoft for Copilot (R package vivainsights, `identify_usage_segments`)."""

    POWER = "power"
    HABITUAL = "habitual"
    NOVICE = "novice"
    LOW = "low"
    NONE = "non-user"
    TOO_NEW = "under 12 weeks"


class Standing(StrEnum):
    """How a seat stands by our reading: what it was last used for, and when."""

    MEANINGFUL = "meaningful use"
    SURFACE = "surface use only"
    LAPSED = "no use any more"
    NEVER = "never used"


def published_segments(p: Population) -> Integers:
    """(n_seats,) place in PublishedSegment, over the last 12 weeks; -1 for seats that are not held.

    Power: 15 actions or more a week on average, and active in 9 of the 12 weeks or more; habitual: active in 9 of 12;
    novice: one action or more a week on average; low: any; non-user: none. Source: see PublishedSegment.
    """
    weeks = np.zeros((PUBLISHED_WEEKS, len(p)), bool)
    for week in range(PUBLISHED_WEEKS):
        weeks[week] = p.days_in(p.uses, last=7, until=7 * week) > 0
    actions = p.count_in(p.uses, last=7 * PUBLISHED_WEEKS) / PUBLISHED_WEEKS
    active = weeks.sum(axis=0)
    found = np.select(
        [
            p.life_days < 7 * PUBLISHED_WEEKS,
            (actions >= PUBLISHED_ACTIONS) & (active >= PUBLISHED_ACTIVE),
            active >= PUBLISHED_ACTIVE,
            actions >= 1,
            actions > 0,
        ],
        [list(PublishedSegment).index(PublishedSegment.TOO_NEW), 0, 1, 2, 3],
        list(PublishedSegment).index(PublishedSegment.NONE),
    )
    return np.where(p.is_held, found, -1)


def standings(p: Population) -> Integers:
    """(n_seats,) place in Standing, over 28 days; -1 for seats that are not held. Source: design, section 1."""
    found = np.select(
        [
            p.days_in(p.meaningful, last=WINDOW_DAYS) > 0,
            p.days_in(p.uses, last=WINDOW_DAYS) > 0,
            np.bincount(p.uses.seat, minlength=len(p)) > 0,
        ],
        [0, 1, 2],
        3,
    )
    return np.where(p.is_held, found, -1)
