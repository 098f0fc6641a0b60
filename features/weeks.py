"""A rollout week by week: use in the first eight weeks of a seat, tickets and their second peak."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from features.events import Kind
from features.history import DAY, Booleans, Floats, Integers
from features.intervals import Estimate, wilson
from features.population import Population, SeatDays

FIRST_WEEKS = 8
TICKET_WEEKS = 26
SECOND_PEAK_RATIO, SECOND_PEAK_P = 1.5, 0.01  # our choice: half as many again as in the trough, and not by chance
HIGH_PLATEAU = 0.75  # our choice: of the first peak


@dataclass(frozen=True)
class FirstWeeks:
    """Of seats whose first eight weeks are complete: by week, the share with any use and with meaningful use."""

    seats: int
    used: tuple[Estimate, ...]
    meaningful: tuple[Estimate, ...]


def first_weeks(p: Population, chosen: Booleans) -> FirstWeeks:
    """The first eight weeks of the chosen seats. The same seats stand in every week. Source: the brief, "When to intervene"."""
    whole = chosen & (p.life_days >= 7 * FIRST_WEEKS)
    n = int(whole.sum())

    def shares(days: SeatDays) -> tuple[Estimate, ...]:
        week = (days.day - (p.assigned // DAY)[days.seat]) // 7
        inside = whole[days.seat] & (week >= 0) & (week < FIRST_WEEKS)
        pairs = np.unique(days.seat[inside] * FIRST_WEEKS + week[inside])
        hits = np.bincount(pairs % FIRST_WEEKS, minlength=FIRST_WEEKS)
        return tuple(Estimate(hit / n if n else np.nan, *wilson(hit, n), n) for hit in hits.tolist())

    return FirstWeeks(n, shares(p.uses), shares(p.meaningful))


@dataclass(frozen=True)
class Tickets:
    """Tickets per 100 seats by week of life, of how many seats each week tells, and what their course says.

    second_peak: the week (from 1) of a second peak after the first had ebbed, None where there is none; is_high_plateau:
    whether volume stayed near its first peak.
    """

    per_100: tuple[float, ...]
    seats: tuple[int, ...]
    second_peak: int | None
    is_high_plateau: bool


def ticket_course(p: Population, chosen: Booleans, *, least: int) -> Tickets:
    """Tickets by week of life of the chosen seats; weeks with fewer than `least` seats are left out.

    A rise in the weeks after deployment is expected; a second peak weeks later, or a plateau at high volume, says that the
    first friction was not resolved. Source: the brief, "Support ticket volume"; the test of the peak is our choice: the
    two rates are compared by the exact conditional test of Przyborowski and Wilenski 1940.
    """
    rows = p.of_kind(Kind.TICKET)
    seat = p.events.seat[rows]
    week = (p.events.at[rows] - p.assigned[seat]) // (7 * DAY)
    inside = chosen[seat] & (week >= 0) & (week < TICKET_WEEKS)
    inside &= p.life_days[seat] >= 7 * (week + 1)  # of whole weeks, as the seats below
    tickets = np.bincount(week[inside], p.events.count[rows][inside], TICKET_WEEKS).astype(np.int64)
    lives = p.life_days[chosen]
    seats = np.array([(lives >= 7 * (number + 1)).sum() for number in range(TICKET_WEEKS)])
    known = int((seats >= max(least, 1)).sum())
    tickets, seats = tickets[:known], seats[:known]
    rate = 100 * tickets / seats
    return Tickets(tuple(rate.tolist()), tuple(seats.tolist()), _second_peak(tickets, seats), _is_high_plateau(rate))


def _second_peak(tickets: Integers, seats: Integers) -> int | None:
    """The week, from 1, that stands out from the trough before it; weeks are taken two together, and the chance of as many
    comparisons as there are weeks is allowed for (Bonferroni)."""
    if len(tickets) < 6:
        return None
    double, exposed = tickets[:-1] + tickets[1:], seats[:-1] + seats[1:]
    rate = double / exposed
    first = int(np.argmax(rate[: FIRST_WEEKS // 2]))
    for later in range(first + 4, len(rate)):
        trough = first + 1 + int(np.argmin(rate[first + 1 : later - 1]))
        total = double[later] + double[trough]
        share = exposed[later] / (exposed[later] + exposed[trough])
        if rate[later] >= SECOND_PEAK_RATIO * rate[trough] and total:
            chance = stats.binomtest(int(double[later]), int(total), share, alternative="greater").pvalue
            if chance * len(rate) < SECOND_PEAK_P and rate[trough] < HIGH_PLATEAU * rate[first]:
                return later + 1
    return None


def _is_high_plateau(rate: Floats) -> bool:
    if len(rate) < FIRST_WEEKS + 4:
        return False
    return bool(rate[:FIRST_WEEKS].max() > 0 and rate[FIRST_WEEKS:].mean() >= HIGH_PLATEAU * rate[:FIRST_WEEKS].max())
