"""What the features and the label mean, in plain Python over lists of events: slow, short, and written apart.

Written from the catalogue's meanings and the design, not from the implementation. Where those leave a choice open:

- Events of one instant are ordered by kind as `Kind` lists them (what was tried before what came of it), then by value
  (missing first), then by `completed` (missing, no, yes).
- An unknown `completed` ends a streak of sessions with nothing completed, but a short session with an unknown
  `completed` is a quick close.
- A week's complaint weighs 0.5 ** (weeks / 2), to the nearest 1/1024; weeks are whole and back from the end.
- A day of use, of meaningful use or of work is a UTC date: one of the last so many before the date of the end, or one of
  the first so many from that of the assignment on. Weeks of such days are seven dates.
- What no source of the organisation and tool was known to tell is missing. The peers' is so if it was at their midnight.
- Tickets and surveys end at the lag of the slowest source known to tell any of them, decisions at that of theirs.
- A lag holds from when it was known; of several the largest. What a source tells holds likewise.
- Completed high-value workflows: guided ones are left out; work without AI counts where its workflow is one of the tool's.
- A total (`count` > 1) is that many things of the same value, scores and outcome. A total of prompts has no instant of
  its own: it is no try and no retry.
- What stands at the last microsecond of a UTC day is no event of this hour, and no single prompt: totals of a
  day stand there, also those of one thing.
- Scores and doublings of length are kept to a thousandth: a third is 0.333.
- The peers' midnight is the last one up to an hour before `as_of`, that instant included. "28 days before" asks the same question at the
  midnight 28 days earlier, of the team that the seat was in then.
- The quarter with the most uses of n seats is a quarter of n, rounded up, and whoever is level with its last; the seat
  itself is among the n. A seat that is not assigned or already removed has no depth and is nobody's peer.
- A manager's uses are those of all the seats of this tool that the person holds, the seat itself among them if it is theirs.
- Training and use of one instant: the training came first. Taken and dismissed of one instant: dismissed.
"""

import math
import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from features.catalogue import FEATURES
from features.compute import SNAPSHOT_SCHEMA, compute_features
from features.events import SEAT_SCHEMA, Event, Kind, Scores, events_table
from features.instants import to_microseconds
from features.interventions import KINDS as INTERVENTIONS
from features.labels import label_snapshots
from features.peers import Peers, days_needed, observe
from features.sources import Source
from features.tables import ROSTER_SCHEMA
from features.tools import SHIPPED, ToolProfile, load_tools

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MICRO = timedelta(microseconds=1)
NAN = float("nan")
START = datetime(2026, 3, 1, tzinfo=UTC)
USES = {"session", "prompt", "accepted", "rejected", "task"}
MOST_USES = 65_534

assert SHIPPED.exists()
PROFILES: dict[str, ToolProfile] = load_tools()
FAST = PROFILES["m365_copilot"].model_copy(
    update={"silence_days": 7, "quick_close_seconds": 12.5, "opportunity_kinds": (Kind.WORK,)}
)
PROFILES = {**PROFILES, "fast": FAST}
TOOLS = ("m365_copilot", "github_copilot", "chatgpt_enterprise", "fast")


@dataclass(frozen=True)
class Version:
    """One version of a seat in the roster."""

    seat_id: str
    tool: str
    assigned_at: datetime
    known_at: datetime
    role: str | None = None
    function: str | None = None
    region: str | None = None
    manager_person_id: str | None = None
    hired_on: date | None = None
    removed_at: datetime | None = None
    team: str | None = None
    person: str | None = None

    @property
    def organization(self) -> str:
        return self.seat_id.split("/")[0]

    @property
    def person_id(self) -> str:
        return self.person or self.seat_id + "p"


@dataclass(frozen=True)
class World:
    """Seats with their versions, what happened, and the moments at which we look."""

    versions: tuple[Version, ...]
    events: tuple[Event, ...]
    sources: tuple[Source, ...]
    snapshots: tuple[tuple[str, datetime], ...]

    def __post_init__(self) -> None:
        """Where no source is described, there is one of each organisation and tool that tells everything at once."""
        if not self.sources:
            feeds = sorted({(version.organization, version.tool) for version in self.versions})
            long_ago = datetime(2000, 1, 1, tzinfo=UTC)
            every = tuple(Source(*feed, "all", timedelta(0), long_ago, START) for feed in feeds)
            object.__setattr__(self, "sources", every)

    def snapshot_frame(self) -> pl.DataFrame:
        return snapshot_frame(self.snapshots)

    def arguments(self) -> dict[str, Any]:
        """The world as the implementation takes it, without the peers."""
        return {
            "events": events_table(self.events),
            "roster": roster_table(self.versions),
            "sources": self.sources,
            "tools": PROFILES,
        }

    def peers(self, *instants: datetime, **changes: Any) -> Peers:
        """The peers that snapshots at the instants need (of all snapshots where none is given)."""
        arguments = {**self.arguments(), **changes}
        looks = instants or {as_of for _, as_of in self.snapshots}
        days = days_needed(np.array([to_microseconds(at) for at in looks], np.int64))
        return observe([arguments.pop("events")], **arguments, days=days)

    def features(self, **changes: Any) -> pl.DataFrame:
        """What the implementation says."""
        arguments = {**self.arguments(), **changes}
        if "peers" not in arguments:
            arguments["peers"] = self.peers(**changes)
        return compute_features(self.snapshot_frame(), **arguments)

    def labels(self) -> pl.DataFrame:
        """What the implementation says became of the snapshots."""
        return label_snapshots(
            self.snapshot_frame(),
            events=events_table(self.events),
            seats=roster_table(latest(self.versions)).select(SEAT_SCHEMA.names),
            sources=self.sources,
            tools=PROFILES,
        )


def snapshot_frame(snapshots: Iterable[tuple[str, datetime]]) -> pl.DataFrame:
    rows = list(snapshots)
    return pl.DataFrame(rows, schema=SNAPSHOT_SCHEMA, orient="row")


def roster_table(versions: Sequence[Version]) -> pa.Table:
    rows = sorted(versions, key=lambda version: (version.seat_id, version.known_at))
    columns = {name: [getattr(row, name) for row in rows] for name in ROSTER_SCHEMA.names}
    return pa.table(columns, schema=ROSTER_SCHEMA)


def latest(versions: Iterable[Version]) -> list[Version]:
    last: dict[str, Version] = {}
    for version in sorted(versions, key=lambda version: version.known_at):
        last[version.seat_id] = version
    return [last[seat_id] for seat_id in sorted(last)]


# --- the features ---------------------------------------------------------------------------------------------------


VOICES, DECIDED = {"ticket", "confidence", "nps"}, {"intervention", "reaction"}


def told_by(source: Source, as_of: datetime) -> set[str]:
    """The kinds that the source was known to tell at `as_of`."""
    if source.kinds is None:
        return set(KINDS) - DECIDED if source.first_available_at <= as_of else set()
    return {str(kind) for known_at, kind in source.kinds if known_at <= as_of}


def own_sources(version: Version, sources: Iterable[Source]) -> list[Source]:
    return [s for s in sources if (s.organization, s.tool) == (version.organization, version.tool)]


def told_of(version: Version, sources: Iterable[Source], as_of: datetime) -> set[str]:
    """The kinds that any source of the seat's organisation and tool was known to tell at `as_of`."""
    return {kind for source in own_sources(version, sources) for kind in told_by(source, as_of)}


def lag_of(version: Version, sources: Iterable[Source], as_of: datetime, of: set[str] | None = None) -> timedelta:
    """The largest lag known at `as_of` among the sources of the seat's organisation and tool (that tell one of `of`)."""
    longest = timedelta(0)
    for source in own_sources(version, sources):
        if of is not None and not told_by(source, as_of) & of:
            continue
        for known_at, lag in source.lags or [(source.first_available_at, source.lag)]:
            if known_at <= as_of and lag > longest:
                longest = lag
    return longest


def version_at(versions: Sequence[Version], as_of: datetime) -> Version:
    """What the roster said at `as_of`; its first version where it said nothing yet."""
    ordered = sorted(versions, key=lambda version: version.known_at)
    said = ordered[0]
    for version in ordered:
        if version.known_at <= as_of:
            said = version
    return said


def is_high_value(event: Event, profile: ToolProfile) -> bool:
    return event.workflow is not None and event.workflow in profile.high_value_workflows


def is_meaningful(event: Event, profile: ToolProfile) -> bool:
    counts = profile.any_workflow or is_high_value(event, profile)
    return event.kind in profile.meaningful_kinds and counts and not event.guided


def is_opportunity(event: Event, profile: ToolProfile) -> bool:
    return event.kind in profile.opportunity_kinds


def is_quick_close(event: Event, profile: ToolProfile) -> bool:
    is_short = event.value is not None and event.value < profile.quick_close_seconds
    return event.kind == "session" and is_short and event.completed is not True


def in_order(event: Event) -> tuple[datetime, int, float, int]:
    value = -1.0 if event.value is None else event.value
    return event.occurred_at, KINDS.index(event.kind), value, {None: 0, False: 1, True: 2}[event.completed]


def ends_day(event: Event) -> bool:
    """At the last microsecond of a UTC day."""
    return (event.occurred_at + MICRO).time() == time()


def is_single_prompt(event: Event) -> bool:
    return event.kind == "prompt" and event.count == 1 and not ends_day(event)


def number(events: Iterable[Event]) -> int:
    return sum(event.count for event in events)


def dates_of(events: Iterable[Event]) -> list[date]:
    """The UTC dates with an event."""
    return sorted({event.occurred_at.date() for event in events})


def over(part: float, whole: float) -> float:
    return part / whole if whole else NAN


def change(now: float, before: float) -> float:
    return over(now - before, now + before)


def mean_value(events: Iterable[Event]) -> float:
    measured = [event for event in events if event.value is not None]
    return over(math.fsum(event.value * event.count for event in measured), number(measured))


class Facts:
    """Everything that ever became known in a world, by seat."""

    def __init__(self, world: World) -> None:
        self.sources = world.sources
        self.versions: dict[str, list[Version]] = {}
        self.events: dict[str, list[Event]] = {}
        self._colleagues: dict[tuple[str, str, datetime], dict[str, tuple[Version, int]]] = {}
        for version in world.versions:
            self.versions.setdefault(version.seat_id, []).append(version)
        for event in world.events:
            self.events.setdefault(event.seat_id, []).append(event)

    def depth(self, seat: Version, midnight: datetime) -> int:
        """Meaningful uses in the 28 days that end at `midnight - lag`, of what was known at midnight."""
        end = midnight - lag_of(seat, self.sources, midnight)
        in_time = (
            e
            for e in self.events.get(seat.seat_id, [])
            if end - 28 * DAY <= e.occurred_at < end and e.available_at <= midnight
        )
        return min(number(e for e in in_time if is_meaningful(e, PROFILES[seat.tool])), MOST_USES)

    def colleagues(self, organization: str, tool: str, midnight: datetime) -> dict[str, tuple[Version, int]]:
        """What the roster said at midnight of each seat that could be used then, and the seat's depth."""
        key = organization, tool, midnight
        if key not in self._colleagues:
            said = [version_at(versions, midnight) for versions in self.versions.values()]
            self._colleagues[key] = {
                seat.seat_id: (seat, self.depth(seat, midnight))
                for seat in said
                if (seat.organization, seat.tool) == (organization, tool)
                and seat.assigned_at <= midnight
                and not (seat.removed_at is not None and seat.removed_at <= midnight)
            }
        return self._colleagues[key]


def share_using(group: Sequence[tuple[Version, int]]) -> float:
    return over(sum(1 for _, depth in group if depth), len(group))


def peers_oracle(facts: Facts, seat_id: str, as_of: datetime) -> dict[str, float]:
    """What happens around one seat, as of the last midnight."""
    midnight = peers_midnight(as_of)

    def around(at: datetime) -> tuple[Version, dict[str, tuple[Version, int]], list[tuple[Version, int]]]:
        seat = version_at(facts.versions[seat_id], at)
        everyone = facts.colleagues(seat.organization, seat.tool, at)
        others = [(other, depth) for name, (other, depth) in everyone.items() if name != seat_id]
        return seat, everyone, [(other, depth) for other, depth in others if seat.team and other.team == seat.team]

    seat, everyone, team = around(midnight)
    seat_before, _, team_before = around(midnight - 28 * DAY)
    role = [
        (other, depth)
        for name, (other, depth) in everyone.items()
        if name != seat_id and seat.role and other.role == seat.role
    ]
    own = everyone[seat_id][1] if seat_id in everyone else 0
    ranked = sorted((depth for _, depth in everyone.values() if depth), reverse=True)
    least = ranked[math.ceil(len(ranked) / 4) - 1] if ranked else math.inf
    champions = [other for other, depth in team if depth >= least]
    of_manager = [depth for other, depth in everyone.values() if other.person_id == seat.manager_person_id]
    managers = {other.manager_person_id for other, _ in everyone.values()}
    uses_of_leader: dict[str, int] = {}
    for other, depth in everyone.values():
        if other.person_id in managers:
            uses_of_leader[other.person_id] = uses_of_leader.get(other.person_id, 0) + depth
    return {
        "team_size": len(team) if seat.team else NAN,
        "team_size_before_28": len(team_before) if seat_before.team else NAN,
        "team_share_28": share_using(team),
        "team_share_change_28": share_using(team) - share_using(team_before),
        "team_meaningful_28": over(sum(depth for _, depth in team), len(team)),
        "champions_in_team": len(champions) if seat.team else NAN,
        "champion_same_role": int(any(c.role == seat.role for c in champions)) if seat.team and seat.role else NAN,
        "role_size": len(role) if seat.role else NAN,
        "role_share_28": share_using(role),
        "meaningful_against_role": over(own, over(sum(depth for _, depth in role), len(role) or 1)),
        "manager_meaningful_28": sum(of_manager) if of_manager else NAN,
        "leaders_share_28": over(sum(1 for uses in uses_of_leader.values() if uses), len(uses_of_leader)),
        "leaders": len(uses_of_leader),
    }


def slope(answers: Sequence[Event]) -> float:
    """Of the values over their UTC days, in values a day: covariance over variance, exact."""
    days = [Fraction(answer.occurred_at.toordinal()) for answer in answers]
    values = [Fraction(answer.value) for answer in answers]
    if len(set(days)) < 2:
        return NAN
    mean_day, mean_value = sum(days) / len(days), sum(values) / len(values)
    joint = sum((day - mean_day) * (value - mean_value) for day, value in zip(days, values, strict=True))
    return float(joint / sum((day - mean_day) ** 2 for day in days))


def retries_of(ever: Sequence[Event]) -> list[Event]:
    """The single prompts within ten minutes after another one with nothing accepted or done between. ever: in order."""
    tries = [e for e in ever if e.kind in ("accepted", "task") or is_single_prompt(e)]
    return [
        again
        for before, again in pairwise(tries)
        if before.kind == again.kind == "prompt" and again.occurred_at - before.occurred_at <= timedelta(minutes=10)
    ]


def oracle(facts: Facts, seat_id: str, as_of: datetime) -> dict[str, float | str]:
    """Every feature of one seat at `as_of`, in the order of the catalogue."""
    sources, events = facts.sources, facts.events.get(seat_id, [])
    seat = version_at(facts.versions[seat_id], as_of)
    end = as_of - lag_of(seat, sources, as_of)
    profile = PROFILES[seat.tool]
    ever = sorted((e for e in events if e.occurred_at < end and e.available_at <= as_of), key=in_order)
    said_end, acted_end = (as_of - lag_of(seat, sources, as_of, kinds) for kinds in (VOICES, DECIDED))
    said = sorted((e for e in events if e.occurred_at < said_end and e.available_at <= as_of), key=in_order)
    said = [e for e in said if e.kind in VOICES]
    acted = sorted((e for e in events if e.occurred_at < acted_end and e.available_at <= as_of), key=in_order)
    acted = [e for e in acted if e.kind in DECIDED]
    hour = [e for e in events if as_of - HOUR <= e.occurred_at < as_of and e.available_at <= as_of and not ends_day(e)]

    def between(start: datetime, stop: datetime) -> list[Event]:
        return [e for e in ever if start <= e.occurred_at < stop]

    def last_days(days: int, until: int = 0) -> list[Event]:
        return between(end - (days + until) * DAY, end - until * DAY)

    def of(window: Iterable[Event], *kinds: str) -> list[Event]:
        return [e for e in window if e.kind in kinds]

    def used(window: Iterable[Event]) -> list[Event]:
        return of(window, *USES)

    def meaningful(window: Iterable[Event]) -> list[Event]:
        return [e for e in window if is_meaningful(e, profile)]

    def opportunities(window: Iterable[Event]) -> list[Event]:
        return [e for e in window if is_opportunity(e, profile)]

    def quick(window: Iterable[Event]) -> list[Event]:
        return [e for e in window if is_quick_close(e, profile)]

    def on_dates(first: date, number: int) -> list[Event]:
        wanted = {first + n * DAY for n in range(number)}
        return [e for e in ever if e.occurred_at.date() in wanted]

    def last_dates(number: int, until: int = 0) -> list[Event]:
        return on_dates(end.date() - (number + until) * DAY, number)

    def on_days(window: Iterable[Event]) -> int:
        return len(dates_of(window))

    def since(happened: Sequence[Event], until: datetime = end) -> float:
        return (until - happened[-1].occurred_at) / DAY if happened else NAN

    def said_in(days: int, until: int = 0) -> list[Event]:
        return [e for e in said if said_end - (days + until) * DAY <= e.occurred_at < said_end - until * DAY]

    def acted_in(days: int) -> list[Event]:
        return [e for e in acted if acted_end - days * DAY <= e.occurred_at]

    def last_value(answers: Sequence[Event], back: int = 0) -> float:
        return answers[-1 - back].value if len(answers) > back else NAN

    d7, d14, d28, d56 = (last_days(days) for days in (7, 14, 28, 56))
    four_weeks_before = last_days(28, until=14)
    w7, w14, w28, w56 = (last_dates(days) for days in (7, 14, 28, 56))
    w14_before = last_dates(14, until=14)
    weeks = [last_dates(7, until=7 * week) for week in range(8)]
    weeks_1_2 = on_dates(seat.assigned_at.date(), 14)
    weeks_3_4 = on_dates(seat.assigned_at.date() + 14 * DAY, 14)
    said_28, said_56, said_180 = (said_in(days) for days in (28, 56, 180))
    acted_28, acted_56 = acted_in(28), acted_in(56)
    dates_of_life = (end.date() - seat.assigned_at.date()).days
    life = max((end - seat.assigned_at) / DAY, 0)

    def used_share(window: list[Event]) -> float:  # of whole dates
        work = [e for e in window if e.kind in USES or is_opportunity(e, profile)]
        return over(on_days(used(window)), on_days(work))

    def unassisted(window: Iterable[Event]) -> list[Event]:
        return [e for e in of(window, "work") if profile.any_workflow or is_high_value(e, profile)]

    def assisted_share(window: list[Event]) -> float:
        assisted = number(of(meaningful(window), "task"))
        return over(assisted, assisted + number(unassisted(window))) if unassisted(ever) else NAN

    days = dates_of(meaningful(w56))
    gaps = [(after - before).days for before, after in pairwise(days)] if len(days) >= 3 else []
    gap = over(sum(gaps), len(gaps))
    spread = math.sqrt(over(sum((one - gap) ** 2 for one in gaps), len(gaps))) if gaps else NAN

    def streak(counts: Callable[[Event], bool], ends: Callable[[Event], bool], events: Sequence[Event] = ever) -> int:
        total = 0
        for event in reversed(events):
            if ends(event):
                break
            total += event.count if counts(event) else 0
        return total

    def answered(window: Iterable[Event], *kinds: str) -> list[Event]:
        return [e for e in of(window, *kinds) if e.value is not None]

    surveys = ("confidence", "nps")
    done = number(e for e in of(d28, "session") if e.completed is True)
    failed = number(e for e in of(d28, "session") if e.completed is False)
    single = [e for e in d28 if is_single_prompt(e)]
    retried = [e for e in retries_of(ever) if e.occurred_at >= end - 28 * DAY]
    doublings = [round(math.log2(1 + e.value), 3) for e in single if e.value is not None]
    taken, refused = number(of(d28, "accepted")), number(of(d28, "rejected"))
    came_off = (over(done, done + failed), 1 - over(len(retried), len(single)), over(taken, taken + refused))
    known_shares = [one for one in came_off if one == one]

    def is_voiced(event: Event, score: str) -> bool:
        scored = getattr(event.scores, score) if event.scores else None
        return scored is not None and round(scored, 3) >= 0.333

    def voiced(score: str) -> float:
        total = 0.0
        for week in range(8):
            for event in of(said_in(7, until=7 * week), "ticket", "confidence", "nps"):
                scored = getattr(event.scores, score) if event.scores else None
                total += event.count * round(scored or 0, 3) * round(1024 * 0.5 ** (week / 2)) / 1024
        return total

    first_meaningful = meaningful(ever)[0].occurred_at if meaningful(ever) else None
    first_training = of(ever, "training")[0].occurred_at if of(ever, "training") else None
    trained_before = first_meaningful and first_training and first_training <= first_meaningful
    first_use = used(ever)[0].occurred_at if used(ever) else None
    trained_before_any = first_use and first_training and first_training <= first_use
    last_training = of(ever, "training")[-1].occurred_at if of(ever, "training") else None
    used_since = [e for e in meaningful(ever) if last_training and e.occurred_at >= last_training]
    answers = answered(said, "confidence")
    reactions = [e for e in of(acted, "reaction") if e.category in ("accepted", "dismissed")]
    last_reactions = {e.category for e in reactions if e.occurred_at == reactions[-1].occurred_at}
    hired = seat.hired_on and datetime(seat.hired_on.year, seat.hired_on.month, seat.hired_on.day, tzinfo=UTC)
    is_four_weeks_old = dates_of_life >= 28
    no_early_use = int(not meaningful(weeks_1_2))
    began = [
        source.first_available_at - min(source.lags or [(source.first_available_at, source.lag)])[1]
        for source in own_sources(seat, sources)
        if told_by(source, as_of) & {str(kind) for kind in profile.meaningful_kinds}
    ]
    saw_first_week = bool(began) and min(began) <= midnight_of(seat.assigned_at) + 7 * DAY
    measured = [e for e in of(ever, "session") if e.value is not None]
    measured_7, measured_28 = ([e for e in measured if e in window] for window in (d7, d28))
    reached = max(
        number(e for e in of(acted_28, "reaction") if e.category == stage)
        for stage in ("delivered", "seen", "accepted", "dismissed")
    )
    values = {
        "active_days_7": on_days(used(w7)),
        "active_days_14": on_days(used(w14)),
        "active_days_28": on_days(used(w28)),
        "active_days_56": on_days(used(w56)),
        "uses_7": number(used(d7)),
        "uses_28": number(used(d28)),
        "sessions_7": number(of(d7, "session")),
        "sessions_28": number(of(d28, "session")),
        "prompts_28": number(of(d28, "prompt")),
        "days_since_use": since(used(ever)),
        "use_trend_14": change(on_days(used(w14)), on_days(used(w14_before))),
        "use_against_first_weeks": over(on_days(used(w14)), on_days(used(weeks_1_2))) if is_four_weeks_old else NAN,
        "weeks_3_4_ratio": over(on_days(used(weeks_3_4)), on_days(used(weeks_1_2))) if is_four_weeks_old else NAN,
        "active_weeks_8": sum(1 for week in weeks if used(week)),
        "used_share_14": used_share(w14),
        "used_share_28": used_share(w28),
        "used_share_56": used_share(w56),
        "meaningful_7": number(meaningful(d7)),
        "meaningful_14": number(meaningful(d14)),
        "meaningful_28": number(meaningful(d28)),
        "meaningful_56": number(meaningful(d56)),
        "meaningful_ever": number(meaningful(ever)),
        "meaningful_days_14": on_days(meaningful(w14)),
        "meaningful_days_28": on_days(meaningful(w28)),
        "meaningful_days_56": on_days(meaningful(w56)),
        "meaningful_weeks_8": sum(1 for week in weeks if meaningful(week)),
        "days_since_meaningful": since(meaningful(ever)),
        "meaningful_trend_14": change(on_days(meaningful(w14)), on_days(meaningful(w14_before))),
        "meaningful_gap_mean": gap,
        "meaningful_gap_variation": over(spread, gap) if gaps else NAN,
        "meaningful_overdue": over(since(meaningful(ever)), gap) if gaps else NAN,
        "high_value_share_28": over(number(of(meaningful(d28), "task")), number(of(d28, "task"))),
        "workflows_28": len({e.workflow for e in meaningful(d28) if is_high_value(e, profile)}),
        "assisted_share_14": assisted_share(d14),
        "assisted_share_28": assisted_share(d28),
        "assisted_share_56": assisted_share(d56),
        "assisted_trend": assisted_share(d14) - assisted_share(four_weeks_before),
        "no_meaningful_first_14": no_early_use if (dates_of_life >= 14 and saw_first_week) or not no_early_use else NAN,
        "surface_days_28": 0
        if meaningful(w28) or meaningful(e for e in ever if e.occurred_at.date() == end.date())
        else on_days(used(w28)),
        "quick_close_share_7": over(number(quick(d7)), number(measured_7)),
        "quick_close_share_28": over(number(quick(d28)), number(measured_28)),
        "quick_closes_1h": number(quick(hour)),
        "failed_attempts_1h": number(e for e in of(hour, "session") if e.completed is False),
        "errors_1h": number(of(hour, "error")),
        "rejected_1h": number(of(hour, "rejected")),
        "quick_close_streak": streak(
            lambda e: is_quick_close(e, profile), lambda e: e.kind == "task" or e.completed is True
        )
        if measured or not of(ever, "session")
        else NAN,
        "open_streak": streak(
            lambda e: e.kind == "session", lambda e: e.kind == "session" and e.completed is not False
        ),
        "session_seconds_28": mean_value(of(d28, "session")),
        "rejected_share_28": over(number(of(d28, "rejected")), number(of(d28, "rejected", "accepted"))),
        "errors_28": number(of(d28, "error")),
        "help_28": number(of(d28, "help")),
        "help_per_session_28": over(number(of(d28, "help")), number(of(d28, "session"))),
        "prompts_per_task_28": over(number(of(d28, "prompt")), number(of(d28, "task"))),
        "work_days_7": on_days(opportunities(w7)),
        "work_days_28": on_days(opportunities(w28)),
        "work_days_56": on_days(opportunities(w56)),
        "unassisted_7": number(of(d7, "work")),
        "unassisted_28": number(of(d28, "work")),
        "days_since_work": since(opportunities(ever)),
        "work_trend_14": change(on_days(opportunities(w14)), on_days(opportunities(w14_before))),
        "confidence_last": last_value(answers),
        "confidence_change": last_value(answers) - last_value(answers, back=1),
        "nps_last": last_value(answered(said, "nps")),
        "days_since_survey": since(answered(said, *surveys), said_end),
        "confidence_slope": 28 * slope(answered(said_180, "confidence")),
        "surveys_asked_180": number(of(said_180, *surveys)),
        "response_share_180": over(number(answered(said_180, *surveys)), number(of(said_180, *surveys))),
        "unanswered_streak": streak(
            lambda e: e.kind in surveys, lambda e: e.kind in surveys and e.value is not None, said
        ),
        "prompt_length_28": mean_value(of(d28, "prompt")),
        "prompt_length_spread_28": statistics.pstdev(doublings) if len(doublings) >= 3 else NAN,
        "retry_share_28": over(len(retried), len(single)),
        "session_completion_28": over(done, done + failed),
        "attempts_per_completion_28": over(done + failed, done),
        "confidence_shown_28": 10 * over(sum(known_shares), len(known_shares)),
        "tickets_28": number(of(said_28, "ticket")),
        "frustration": voiced("frustration"),
        "uncertainty": voiced("uncertainty"),
        "frustration_and_uncertainty": voiced("frustration") * voiced("uncertainty"),
        "together_56": number(
            e for e in of(said_56, "ticket", *surveys) if is_voiced(e, "frustration") and is_voiced(e, "uncertainty")
        ),
        "life_days": life,
        "life_week": math.floor(life / 7) + 1,
        "days_since_training": since(of(ever, "training")),
        "trainings": number(of(ever, "training")),
        "training_to_use_days": (first_meaningful - first_training) / DAY if trained_before else NAN,
        "training_to_any_use_days": (first_use - first_training) / DAY if trained_before_any else NAN,
        "trained_unused_days": 0 if used_since else since(of(ever, "training")),
        "days_to_first_meaningful": max((first_meaningful - seat.assigned_at) / DAY, 0) if first_meaningful else NAN,
        **peers_oracle(facts, seat_id, as_of),
        "interventions_28": number(of(acted_28, "intervention")),
        "delivered_28": NAN if of(acted_28, "intervention") and not reached else reached,
        "days_since_intervention": since(of(acted, "intervention"), acted_end),
        "seen_56": number(e for e in of(acted_56, "reaction") if e.category == "seen"),
        "taken_56": number(e for e in of(acted_56, "reaction") if e.category == "accepted"),
        "dismissed_56": number(e for e in of(acted_56, "reaction") if e.category == "dismissed"),
        "last_reaction": (-1 if "dismissed" in last_reactions else 1) if reactions else NAN,
        **{
            f"given_{name}_56": number(e for e in of(acted_56, "intervention") if e.category == name)
            for name in INTERVENTIONS
        },
        "tenure_days": (end - hired) / DAY if hired else NAN,
        "has_manager": int(seat.manager_person_id is not None),
        "tool": seat.tool,
        "role": seat.role or "",
        "function": seat.function or "",
        "region": seat.region or "",
    }
    told = told_of(seat, sources, as_of)
    midnight = peers_midnight(as_of)
    told_then = told_of(version_at(facts.versions[seat_id], midnight), sources, midnight)
    return {
        name: value if all(one & (told_then if name in OF_PEERS else told) for one in needed(name, profile)) else NAN
        for name, value in values.items()
    }


OF_PEERS = [
    "team_share_28",
    "team_share_change_28",
    "team_meaningful_28",
    "champions_in_team",
    "champion_same_role",
    "role_share_28",
    "meaningful_against_role",
    "manager_meaningful_28",
    "leaders_share_28",
]
COUNTED_KINDS = {
    "sessions": {"session"}, "quick": {"session"}, "open": {"session"}, "failed": {"session"}, "session": {"session"},
    "errors": {"error"}, "rejected": {"rejected"}, "help": {"help"}, "unassisted": {"work"}, "tickets": {"ticket"},
    "trainings": {"training"}, "prompts": {"prompt"}, "active": USES, "uses": USES, "use": USES, "weeks": USES,
    "surveys": {"confidence", "nps"}, "unanswered": {"confidence", "nps"}, "response": {"confidence", "nps"},
    "frustration": VOICES, "uncertainty": VOICES, "together": VOICES,
}  # fmt: skip


def needed(name: str, profile: ToolProfile) -> list[set[str]]:
    """Of each set some source must tell one kind for the feature to be known."""
    means = {str(kind) for kind in profile.meaningful_kinds}
    chances = {str(kind) for kind in profile.opportunity_kinds}
    if name in OF_PEERS or name in ("workflows_28", "no_meaningful_first_14", "days_since_meaningful"):
        return [means]
    special = {
        "days_since_use": [USES],
        "days_since_work": [chances],
        "days_to_first_meaningful": [means],
        "surface_days_28": [USES, means],
        "high_value_share_28": [{"task"}],
        "rejected_share_28": [{"accepted"}, {"rejected"}],
        "help_per_session_28": [{"help"}, {"session"}],
        "prompts_per_task_28": [{"prompt"}, {"task"}],
        "retry_share_28": [{"prompt"}, {"accepted", "task"}],
        "session_completion_28": [],
        "training_to_use_days": [{"training"}, means],
        "training_to_any_use_days": [{"training"}, USES],
        "trained_unused_days": [{"training"}, means],
    }
    if name in special:
        return special[name]
    first, second = (*name.split("_"), "")[:2]
    if first == "used":
        return [USES, chances - USES or chances]
    if first == "assisted":
        return [{"task"}, {"work"}]
    if first == "meaningful":
        return [means]
    if first == "work":
        return [chances]
    return [COUNTED_KINDS[first]] if first in COUNTED_KINDS and second != "length" else []


def oracle_rows(world: World) -> list[dict[str, float | str]]:
    """The oracle's answer for every snapshot of the world."""
    facts = Facts(world)
    return [oracle(facts, seat_id, as_of) for seat_id, as_of in world.snapshots]


# --- the label ------------------------------------------------------------------------------------------------------


def label_oracle(seat: Version, events: Sequence[Event], sources: Iterable[Source], as_of: datetime) -> tuple:
    """(T in days or None, known days, why it ended, observable days), by looking at every moment at which a window can change.

    A window [t, t + W) starts or stops holding an event just after it and W before; between such moments nothing can
    change. Of those moments, the windows that are observed: inside the data, before removal and before the first
    intervention from `as_of` on.
    """
    profile = PROFILES[seat.tool]
    silence = profile.silence_days * DAY
    uses = [e.occurred_at for e in events if is_meaningful(e, profile)]
    chances = [e.occurred_at for e in events if is_opportunity(e, profile)]
    touches = [e.occurred_at for e in events if e.kind == "intervention" and e.occurred_at >= as_of]
    own_feeds = own_sources(seat, sources)
    complete = {s.source: s.watermark - s.lag for s in own_feeds}
    of_use = [
        complete[s.source]
        for s in own_feeds
        if {str(kind) for _, kind in s.known_kinds} & set(profile.meaningful_kinds)
    ]
    judged = [e for e in events if is_meaningful(e, profile) or is_opportunity(e, profile)]
    own = {e.source for e in judged} & set(complete)
    is_told = any(is_meaningful(e, profile) for e in judged if e.source in complete)
    ends = [(complete[source], "end_of_data") for source in own]
    if not is_told:
        ends.append((max(of_use, default=datetime.min.replace(tzinfo=UTC)), "end_of_data"))
    is_known = is_told or bool(of_use)
    if seat.removed_at is not None:
        ends.append((seat.removed_at, "removed"))
    if touches:
        ends.append((min(touches), "intervention"))
    observed, reason = min(ends, key=lambda end: end[0])  # the first named wins a tie
    observable = (observed - silence - as_of) / DAY if is_known else None
    moments = {as_of}
    for at in uses + chances:
        moments |= {at + MICRO, at - silence + MICRO}
    for t in sorted(moment for moment in moments if moment >= as_of):
        if not is_known or t + silence > observed:
            break
        if any(t <= at < t + silence for at in uses):
            continue
        if any(t <= at < t + silence for at in chances):
            return (t - as_of) / DAY, (t - as_of) / DAY, "silence", observable
        return None, (t - MICRO - as_of) / DAY, "no_opportunity", observable
    return None, observable, reason, observable


def label_rows(world: World) -> list[tuple]:
    seats = {version.seat_id: version for version in latest(world.versions)}
    events: dict[str, list[Event]] = {}
    for event in world.events:
        events.setdefault(event.seat_id, []).append(event)
    return [
        label_oracle(seats[seat_id], events.get(seat_id, []), world.sources, as_of)
        for seat_id, as_of in world.snapshots
    ]


# --- random worlds --------------------------------------------------------------------------------------------------

KINDS = [str(kind) for kind in Kind]
WORDS = ("sales", "legal", "support", None)
THEMES = (
    KINDS,
    ["prompt", "prompt", "prompt", "accepted", "rejected"],
    ["session", "session", "session", "task"],
    ["confidence", "confidence", "nps", "ticket"],
    ["training", "intervention", "reaction", "task"],
)  # what half of a seat's events are about
TEAMS = ("red", "red", "blue", "green", None)
ORGANIZATIONS = ("acme", "zeta")


def any_event(rng: random.Random, number: int, seat: Version, at: datetime, **fixed: Any) -> Event:
    """A random event of the seat at the instant."""
    kind = fixed.pop("kind", None) or rng.choice(["session", "prompt", "task", "task", "work", "work", *KINDS])
    own = list(PROFILES[seat.tool].high_value_workflows)
    workflow = rng.choice([None, "lunch_menu", "proposal_draft", "commit", *own, *own])
    is_survey = kind in {"confidence", "nps"}
    values = [0.0, 12.499, 12.5, 29.999, 30.0, rng.randrange(0, 100_000) / 1000, 5_000.0]
    value = rng.choice([rng.randrange(0, 10_001) / 1000, 0.0, 10.0, None] if is_survey else [None, *values])
    scores = None
    if is_survey or kind == "ticket":
        numbers = [None, 0.0, 1.0, 0.3324, 0.333, 0.6, rng.randrange(0, 1001) / 1000]
        scores = rng.choice([None, Scores(frustration=rng.choice(numbers), uncertainty=rng.choice(numbers))])
    soon = rng.choice([timedelta(minutes=5), HOUR, HOUR + MICRO])
    late = rng.choice([timedelta(0), timedelta(0), timedelta(0), soon, 2 * HOUR, 3 * DAY, rng.random() * 30 * DAY])
    categories = {
        "reaction": ["delivered", "seen", "accepted", "dismissed", None],
        "intervention": [*INTERVENTIONS, "own_workshop", "accepted", None],
    }
    fields = {
        "event_id": f"{seat.organization}/e{number}",
        "seat_id": seat.seat_id,
        "kind": kind,
        "occurred_at": at,
        "available_at": at + late,
        "source": rng.choice(["vendor", "git", "survey"]),
        "workflow": workflow if rng.random() < 0.9 else None,
        "value": value,
        "count": 1 if is_survey or rng.random() < 0.75 else rng.randrange(2, 40),
        "completed": rng.choice([None, False, False, True]) if kind == "session" else None,
        "scores": scores,
        "category": rng.choice(categories[kind]) if kind in categories else None,
        "guided": rng.random() < 0.15,
    }
    return Event(**{**fields, **fixed})


def midnight_of(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def peers_midnight(as_of: datetime) -> datetime:
    """The last midnight that is at least an hour old."""
    return midnight_of(as_of - HOUR)


def random_sources(rng: random.Random) -> list[Source]:
    """Feeds with lags, some of which become known on the way, at a midnight or within a day; some lags grow, and some feeds
    cannot tell everything or learn to on the way.
    """
    sources = []
    for organization in ORGANIZATIONS:
        for tool in TOOLS:
            if tool == TOOLS[0]:  # no lag at all, and everything told
                sources.append(Source(organization, tool, "all", timedelta(0), START - 300 * DAY, START + 120 * DAY))
                continue
            for name in rng.sample(["vendor", "git", "survey"], k=2):
                lag = rng.choice([timedelta(0), 2 * HOUR, DAY, 3 * DAY])
                first = START + rng.choice([-30, 0, 40, 60]) * DAY + rng.choice([timedelta(0), 5 * HOUR])
                grown = first + rng.choice([10, 30.3, 50]) * DAY
                lags = rng.choice([(), (), ((first, lag), (grown, lag + rng.choice([HOUR, 2 * DAY])))])
                told = rng.sample(KINDS, k=rng.choice([2, 5, len(KINDS)]))
                known = tuple((rng.choice([first, first, grown]), Kind(kind)) for kind in told)
                largest = max((one for _, one in lags), default=lag)
                kinds = rng.choice([None, None, known])
                sources.append(Source(organization, tool, name, largest, first, START + 120 * DAY, lags, kinds))
    return sources


def random_versions(rng: random.Random, number: int, shared: Sequence[datetime]) -> list[Version]:
    """A seat and what the roster said of it later: other roles, teams and managers, a removal, a return."""
    organization = rng.choice(ORGANIZATIONS)
    # those with the low numbers are managers, of some other tool's seats, too; a few seats are one person's second
    people = [None, None, f"{organization}/m0", f"{organization}/m1", f"{organization}/m2", f"{organization}/boss"]
    assigned_at = rng.choice([START + rng.random() * 40 * DAY, START + rng.random() * 40 * DAY, rng.choice(shared)])
    seat = Version(
        f"{organization}/s{number:05d}",
        rng.choice(TOOLS),
        assigned_at=assigned_at,
        known_at=assigned_at,
        role=rng.choice(WORDS),
        function=rng.choice(WORDS),
        region=rng.choice(WORDS),
        manager_person_id=rng.choice(people),
        hired_on=rng.choice([None, date(2020, 2, 29), date(2026, 3, 20)]),
        team=rng.choice(TEAMS),
        person=f"{organization}/m{rng.randrange(3)}" if rng.random() < 0.15 else None,
    )
    own = [seat]
    for _ in range(rng.choice([0, 0, 1, 2, 3])):
        step = own[-1].known_at + MICRO + rng.random() * 30 * DAY
        later = [at for at in shared if at > own[-1].known_at]
        known_at = rng.choice([step, step, rng.choice([*later, step])])
        own.append(
            replace(
                own[-1],
                known_at=known_at,
                role=rng.choice(WORDS),
                region=rng.choice(WORDS),
                manager_person_id=rng.choice([*people, f"{organization}/s{number:05d}p"]),
                team=rng.choice(TEAMS),
                assigned_at=seat.assigned_at + rng.choice([0, 0, 0, 2]) * DAY,
                removed_at=rng.choice([None, None, None, known_at, known_at + 5 * DAY]),
            )
        )
        if own[-1].removed_at is not None and own[-1].removed_at < own[-1].assigned_at:
            own[-1] = replace(own[-1], removed_at=None)
    return own


def random_world(seed: int, *, seats: int, looks: int = 5, most_events: int = 36) -> World:
    """Seats with short histories crowded on the edges where windows open and close, their own and their peers'."""
    rng = random.Random(seed)
    sources = random_sources(rng)
    shared = [START + rng.random() * 110 * DAY for _ in range(8)]
    shared = [
        rng.choice([at, at, midnight_of(at), midnight_of(at) + HOUR, midnight_of(at) + HOUR - MICRO]) for at in shared
    ]
    versions: list[Version] = []
    events: list[Event] = []
    snapshots: list[tuple[str, datetime]] = []
    for index in range(seats):
        own = random_versions(rng, index, shared)
        seat = own[0]
        versions += own
        moments = [rng.choice([START + rng.random() * 110 * DAY, rng.choice(shared)]) for _ in range(looks - 2)]
        moments.append(rng.choice([seat.assigned_at, own[-1].known_at, own[-1].known_at - MICRO]))
        moments.append(
            rng.choice([seat.assigned_at, midnight_of(seat.assigned_at)]) + rng.choice([-1, 1, 14, 28]) * DAY
        )
        firsts = [
            at
            for s in own_sources(seat, sources)
            for at, _ in (*(s.lags or [(s.first_available_at, None)]), *(s.kinds or ()))
        ]
        if firsts and rng.random() < 0.3:
            moments[0] = rng.choice(firsts) + rng.choice([-1, 0]) * MICRO
        snapshots += [(seat.seat_id, moment) for moment in moments]
        midnights = [peers_midnight(moment) for moment in [*moments, *shared]]
        ends = [
            moment - lag
            for moment in moments
            for kinds in (None, VOICES, DECIDED)
            for lag in {timedelta(0), lag_of(seat, sources, moment, kinds)}
        ]
        ends_of_days = [midnight - lag_of(seat, sources, midnight) for midnight in midnights]
        theme = rng.choice(THEMES)
        at, dice = START, 0.0
        for _ in range(rng.choice([0, 1, *(rng.randrange(most_events) for _ in range(4))])):
            is_burst = 0.84 <= dice < 0.95 and rng.random() < 0.7
            dice = dice if is_burst else rng.random()
            edge, fixed = timedelta(0), {"kind": rng.choice([None, rng.choice(theme)])}
            if dice < 0.25:
                at = START + rng.random() * 110 * DAY
            elif dice < 0.45:
                at = rng.choice(ends) - rng.choice([0, 0, 7, 14, 28, 42, 49, 56, 180]) * DAY
                edge = rng.choice([-1, 0, 1]) * MICRO
            elif dice < 0.55:
                at = rng.choice(moments) - rng.choice([HOUR, HOUR, timedelta(minutes=30), timedelta(0)])
                edge = rng.choice([-1, 0, 1]) * MICRO
                fixed = {"kind": rng.choice(["session", "session", "error", "rejected"])}
            elif dice < 0.70:
                at = rng.choice(ends_of_days) - rng.choice([0, 0, 28, 28, 56]) * DAY
                edge = rng.choice([-1, 0, 1]) * MICRO
                fixed = {"kind": "task", "workflow": rng.choice([*PROFILES[seat.tool].high_value_workflows, "commit"])}
            elif dice < 0.77:
                born = rng.choice([seat.assigned_at, midnight_of(seat.assigned_at)])
                at = rng.choice([born, born, midnight_of(rng.choice(ends)) - 49 * DAY]) + rng.choice([0, 14, 28]) * DAY
                edge = rng.choice([-1, 0, 1]) * MICRO
            elif dice < 0.84:
                at = START + rng.randrange(1, 110) * DAY - MICRO
            elif dice < 0.95:
                at += rng.choice([timedelta(seconds=1), timedelta(minutes=10), timedelta(minutes=10) + MICRO])
                fixed = {"kind": rng.choice([*["prompt"] * 6, "accepted", "task", "session"])}
            event = any_event(rng, len(events), seat, at + edge, **fixed)  # else: the instant of the event before
            if rng.random() < 0.15:
                known = rng.choice([*moments, *midnights]) + rng.choice([0, 1]) * MICRO
                event = event.model_copy(update={"available_at": max(known, event.occurred_at)})
            events.append(event)
            at = event.occurred_at
    return World(tuple(versions), tuple(events), tuple(sources), tuple(snapshots))


def random_label_world(seed: int, *, seats: int, looks: int = 5) -> World:
    """Seats with rhythms and pauses near W, work or none, removals, interventions and ends of data."""
    rng = random.Random(seed)
    sources = []
    for organization in ("acme", "zeta"):
        for tool in TOOLS:
            for name in rng.sample(["vendor", "git", "survey"], k=rng.choice([0, 1, 2, 3])):
                lag = rng.choice([timedelta(0), DAY, 3 * DAY])
                until = START + rng.choice([60, 90, 119.5, 150]) * DAY
                told = rng.choice([None, None, ((START, Kind.WORK), (START, Kind.PROMPT)), ((START, Kind.TASK),)])
                sources.append(Source(organization, tool, name, lag, START, until, kinds=told))
    versions: list[Version] = []
    events: list[Event] = []
    snapshots: list[tuple[str, datetime]] = []
    for index in range(seats):
        seat_id = f"{rng.choice(['acme', 'zeta'])}/s{index:05d}"
        seat = Version(seat_id, rng.choice(TOOLS), assigned_at=START, known_at=START)
        silence = PROFILES[seat.tool].silence_days * DAY
        if rng.random() < 0.3:
            seat = replace(seat, removed_at=START + rng.random() * 140 * DAY)
        versions.append(seat)
        instants = [START + rng.random() * 20 * DAY]
        for _ in range(rng.randrange(14)):
            pause = rng.choice([rng.random() * 6 * DAY, silence + rng.choice([-1, 0, 1, 2]) * MICRO, silence * 0.6])
            instants.append(instants[-1] + pause)
        own = []
        works = rng.random() < 0.7
        feed = rng.choice([["vendor"], ["git"], ["vendor", "git", "survey"]])
        for at in instants:
            for kind in {"task", rng.choice(["task", "work", "session"])}:
                workflow = rng.choice(["proposal_draft", "commit", "proposal_draft", "lunch_menu"])
                own.append((at, {"kind": kind, "workflow": workflow, "guided": rng.random() < 0.1}))
            if works and rng.random() < 0.7:
                edge = at + rng.choice([MICRO, silence, silence + MICRO, rng.random() * silence])
                own.append((edge, {"kind": "work"}))
        if rng.random() < 0.25:
            at = rng.choice(instants) + rng.choice([timedelta(0), MICRO, silence, 3 * DAY])
            own.append((at, {"kind": "intervention"}))
        rng.shuffle(own)
        for at, fixed in own:
            events.append(any_event(rng, len(events), seat, at, source=rng.choice(feed), **fixed))
        looked = [START + rng.random() * 100 * DAY for _ in range(looks - 3)]
        looked += [rng.choice(instants), rng.choice(instants) + MICRO, rng.choice(instants) - silence]
        snapshots += [(seat_id, moment) for moment in looked]
    return World(tuple(versions), tuple(events), tuple(sources), tuple(snapshots))


def same(one: float | str, other: float | str) -> bool:
    """Equal to the bit, with missing equal to missing."""
    return one == other or (one != one and other != other)


def differences(world: World, answers: Mapping[str, Sequence[Any]], names: Iterable[str]) -> dict[str, list[str]]:
    """By feature, where the oracle disagrees: counts and texts to the bit, the rest to 1e-9 (a spread to 1e-6)."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for row, expected in enumerate(oracle_rows(world)):
        for name, wanted in expected.items():
            came = answers[name][row]
            if isinstance(wanted, int | str) or wanted != wanted:
                agrees = same(came, wanted)
            else:
                near = 1e-6 if name == "prompt_length_spread_28" else 1e-9  # a difference of squares near 10^9
                agrees = abs(came - wanted) <= near * max(1, abs(wanted))
            if not agrees:
                seat_id, as_of = world.snapshots[row]
                found[name].append(f"{seat_id} at {as_of.isoformat()}: came {came!r}, oracle {wanted!r}")
    return found


def all_names() -> list[str]:
    return [feature.name for feature in FEATURES]
