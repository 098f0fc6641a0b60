"""FEATURES: the one table from which Feast views, model inputs, reasons, docs and monitors derive.

To add a feature, add a row. Its function gets a Snapshots block and returns one float per snapshot; missing is NaN.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache

import numpy as np
import polars as pl

from features.decisions import Stage
from features.events import SURVEY_KINDS, USE_KINDS, VOICE_KINDS, Kind
from features.history import (
    CATEGORY_CODES,
    DAY,
    END,
    EVER,
    FIXED_POINT,
    HOUR,
    KIND_CODES,
    LAST_HOUR,
    MAX_WORKFLOWS,
    Booleans,
    Channel,
    Clock,
    Events,
    Floats,
    History,
    Integers,
    Mask,
    Window,
    Within,
    ever,
    first_dates,
    last_dates,
    last_days,
    ratio,
)
from features.interventions import KINDS as INTERVENTION_KINDS
from features.interventions import FailureMode
from features.peers import Around

MISSING_CATEGORY = ""
UNTOLD = "no source is known to tell it"
ENGINE_VERSION = "6"  # raise it when a shared definition below changes what features mean
FIRST_WEEKS_DAYS = 14
VOICE_HALF_LIFE_WEEKS = 2  # our choice: a complaint counts half after two weeks
VOICE_WEEKS = 8
TOGETHER = 333  # our choice: both frustration and uncertainty of at least a third, in fixed point
RETRY_WITHIN_MINUTES = 10  # our choice: a prompt so soon after another, with nothing taken between, is another try
FEWEST_PROMPTS = 3  # our choice: below it a spread says nothing
SLOPE_DAYS = 180
SEEN_WITHIN_DAYS = 7  # our choice: a source that began to tell later than this has not seen a seat's first two weeks
MIN_GROUP_SIZE = 10  # design: diagnosis; smaller groups of people are not shown


class Group(StrEnum):
    """Feature groups; each is one Feast view offline."""

    USAGE = "usage"
    DEPTH = "depth"
    FRICTION = "friction"
    OPPORTUNITY = "opportunity"
    CONFIDENCE = "confidence"
    VOICE = "voice"
    ONBOARDING = "onboarding"
    CONTEXT = "context"
    PEERS = "peers"
    HISTORY = "history"


class Judged(StrEnum):
    """What the tool's profile makes of kinds of event: which they are differs from tool to tool."""

    MEANINGFUL = "meaningful use"
    OPPORTUNITY = "opportunity"
    WORKED = "work without the tool"  # opportunity that is no use itself


Need = Kind | Judged | frozenset[Kind]  # of several kinds any one will do


@dataclass(frozen=True)
class Sight:
    """(n,) which kinds of event any source of each snapshot's organisation and tool was known to tell, as bits.

    now: at `as_of`; at_midnight: at the midnight of the peers; judged: the kinds that the tool's profile means; begun:
    since when (microseconds) the sources that tell of meaningful use have told anything.
    """

    now: Integers
    at_midnight: Integers
    judged: Mapping[Judged, Integers]
    begun: Integers
    _unseen: dict[tuple[Need, bool], Booleans | None] = field(default_factory=dict, init=False, repr=False)

    def unseen(self, need: Need, *, at_midnight: bool = False) -> Booleans | None:
        """(n,) where no source can tell it; None where some can everywhere."""
        key = need, at_midnight
        if key not in self._unseen:
            unseen = ~self._sees(need, at_midnight=at_midnight)
            self._unseen[key] = unseen if unseen.any() else None
        return self._unseen[key]

    def _sees(self, need: Need, *, at_midnight: bool) -> Booleans:
        kinds = (need,) if isinstance(need, Kind) else need
        wanted = self.judged[need] if isinstance(need, Judged) else sum(1 << KIND_CODES[kind] for kind in kinds)
        return np.asarray(((self.at_midnight if at_midnight else self.now) & wanted) > 0)


@dataclass(frozen=True)
class Snapshots:
    """A block of (n,) snapshots: the histories behind them, and what the roster said at the time.

    role, function, region, tool: (n,) text, MISSING_CATEGORY where unknown. hired: (n,) microseconds, NaN if unknown.
    """

    history: History
    around: Around
    sight: Sight
    tool: pl.Series
    role: pl.Series
    function: pl.Series
    region: pl.Series
    hired: Floats
    has_manager: Floats

    @property
    def life(self) -> Floats:
        """(n,) days from assignment to the snapshot's end; 0 where the data does not reach that far yet."""
        return np.asarray(np.maximum(self.history.end - self.history.assigned, 0) / DAY)

    @property
    def dates(self) -> Integers:
        """(n,) whole UTC dates of the seat before that of the snapshot's end, the date of assignment the first."""
        return (self.history.date - self.history.birth) // DAY


@dataclass(frozen=True)
class Feature:
    """One column: what it is called, what it means, and how it is computed.

    says: a phrase for people, with the value as `{}`; empty where the value alone would tell a person nothing.
    others: the features that say of how many other people this one speaks, each of which must be enough; none where it
    is of the seat's own. Such values are for the model: what is shown of them keeps to the minimum group size.
    needs: what some source must be able to tell; where none is known to, the value is missing and not zero.
    window: what it looks back on; by default what its name ends with, else everything so far.
    """

    name: str
    group: Group
    unit: str
    meaning: str
    compute: Callable[[Snapshots], np.ndarray | pl.Series]
    missing: str = "never"
    mode: FailureMode | None = None
    says: str = ""
    is_category: bool = False
    others: tuple[str, ...] = ()
    window: str = ""
    needs: tuple[Need, ...] = ()

    def __post_init__(self) -> None:
        length = re.search(r"_(\d+)$", self.name)
        named = f"{length[1]} days" if length else "1 hour" if self.name.endswith("_1h") else "so far"
        object.__setattr__(self, "window", self.window or named)

    def values(self, snapshots: Snapshots) -> np.ndarray | pl.Series:
        """(n,) the feature; missing where nobody can tell what it needs."""
        values = self.compute(snapshots)
        for need in self.needs:
            unseen = snapshots.sight.unseen(need, at_midnight=self.group is Group.PEERS)
            if unseen is not None:
                values = np.where(unseen, np.nan, values)
        return values

    @property
    def why_missing(self) -> str:
        """What it means that a value is missing: by itself, or because no source can tell what it needs."""
        if not self.needs:
            return self.missing
        return UNTOLD if self.missing == "never" else f"{self.missing}, or {UNTOLD}"

    @property
    def dtype(self) -> str:
        """`category` (text) or `float64`."""
        return "category" if self.is_category else "float64"


def _kind(*kinds: Kind) -> Mask:
    codes = [KIND_CODES[kind] for kind in kinds]

    def mask(events: Events) -> Booleans:
        found: Booleans = events.kind == codes[0]
        for code in codes[1:]:
            found |= events.kind == code
        return found

    return mask


def _count_of(events: Events) -> Integers:
    return events.count


def _value_of(events: Events) -> Integers:
    return events.value * events.count


def _frustration_of(events: Events) -> Integers:
    return np.maximum(events.frustration, 0) * events.count


def _uncertainty_of(events: Events) -> Integers:
    return np.maximum(events.uncertainty, 0) * events.count


def _counted(mask: Mask) -> Channel:
    return Channel(mask, _count_of)


def _is_measured(events: Events) -> Booleans:
    return events.value >= 0


def _is_meaningful(events: Events) -> Booleans:
    return events.is_meaningful


def _is_opportunity(events: Events) -> Booleans:
    return events.is_opportunity


def _is_work_evidence(events: Events) -> Booleans:
    return events.is_opportunity | IS_USE(events)


def _is_quick(events: Events) -> Booleans:
    return events.is_quick_close


def _is_soon_known(events: Events) -> Booleans:
    """Known within the hour: what a window of the last hour can hold at all. Not at the last microsecond of a UTC day, where
    the totals of days stand: those are of no moment.
    """
    return np.asarray((events.available - events.at <= HOUR) & ~_ends_day(events))


def _ends_day(events: Events) -> Booleans:
    return np.asarray(events.at % DAY == DAY - 1)


def _has_failed(events: Events) -> Booleans:
    return np.asarray(events.completed == 0)


def _has_completed(events: Events) -> Booleans:
    return np.asarray(events.completed == 1)


def _is_done(events: Events) -> Booleans:
    return np.asarray((events.kind == KIND_CODES[Kind.TASK]) | (events.completed == 1))


def _is_retry(events: Events) -> Booleans:
    """Of single prompts and what was taken: a prompt within RETRY_WITHIN_MINUTES after another of its seat, with nothing
    accepted or done between.
    """
    is_prompt: Booleans = events.kind == KIND_CODES[Kind.PROMPT]
    is_next = np.zeros(is_prompt.size, bool)
    is_next[1:] = is_prompt[1:] & is_prompt[:-1] & (events.seat[1:] == events.seat[:-1])
    is_next[1:] &= events.at[1:] - events.at[:-1] <= RETRY_WITHIN_MINUTES * MINUTE
    return is_next


def _is_single(events: Events) -> Booleans:
    """With an instant of its own: not a total, also not that of a day on which there was one."""
    return np.asarray((events.count == 1) & ~_ends_day(events))


def _is_single_or_taken(events: Events) -> Booleans:
    return np.asarray(_is_single(events) | (events.kind != KIND_CODES[Kind.PROMPT]))


def _doublings(events: Events) -> Integers:
    """log2(1 + characters), in fixed point: lengths differ by factors."""
    return np.asarray(np.rint(np.log2(1 + np.maximum(events.value, 0) / FIXED_POINT) * FIXED_POINT), np.int64)


def _doublings_squared(events: Events) -> Integers:
    return _doublings(events) ** 2


def _says_both(events: Events) -> Booleans:
    return np.asarray((events.frustration >= TOGETHER) & (events.uncertainty >= TOGETHER))


def _is_of_category(name: str) -> Mask:
    code = CATEGORY_CODES[name]
    return lambda events: events.category == code


def _is_high_value(events: Events) -> Booleans:
    return events.is_high_value


def _is_of_workflow(number: int) -> Mask:
    return lambda events: events.workflow == number


MINUTE = HOUR // 60

IS_USE = _kind(*USE_KINDS)
_IS_SESSION = _kind(Kind.SESSION)
_IS_ERROR = _kind(Kind.ERROR)
_IS_REJECTED = _kind(Kind.REJECTED)
_IS_PROMPT = _kind(Kind.PROMPT)
_IS_TASK = _kind(Kind.TASK)
_IS_WORK = _kind(Kind.WORK)
_IS_TRAINING = _kind(Kind.TRAINING)
_IS_VOICE = _kind(Kind.TICKET, Kind.CONFIDENCE, Kind.NPS)
_IS_CONFIDENCE = _kind(Kind.CONFIDENCE)
_IS_NPS = _kind(Kind.NPS)
_IS_INTERVENTION = _kind(Kind.INTERVENTION)
_IS_REACTION = _kind(Kind.REACTION)
_IS_SURVEY = _kind(Kind.CONFIDENCE, Kind.NPS)
_IS_ANSWERED_CONFIDENCE = Within(_IS_CONFIDENCE, _is_measured)
_IS_ANSWERED_NPS = Within(_IS_NPS, _is_measured)
_IS_MEASURED_PROMPT = Within(_IS_PROMPT, _is_measured)
_IS_MEASURED_SESSION = Within(_IS_SESSION, _is_measured)
_IS_ANSWERED = Within(_IS_SURVEY, _is_measured)
_IS_QUICK_CLOSE = Within(_IS_SESSION, _is_quick)
_IS_FAILED_ATTEMPT = Within(_IS_SESSION, _has_failed)
_IS_COMPLETED = Within(_IS_SESSION, _has_completed)
_ENDS_OPEN_STREAK = Within(_IS_SESSION, lambda events: events.completed != 0)
_ENDS_QUICK_CLOSES = Within(_kind(Kind.SESSION, Kind.TASK), _is_done)
_IS_SINGLE_PROMPT = Within(_IS_PROMPT, _is_single)
_IS_SIZED_PROMPT = Within(_IS_SINGLE_PROMPT, _is_measured)
_IS_EXCHANGE = Within(_kind(Kind.PROMPT, Kind.ACCEPTED, Kind.TASK), _is_single_or_taken)
_IS_RETRY = Within(_IS_EXCHANGE, _is_retry)

USE = _counted(IS_USE)
SESSIONS = _counted(_IS_SESSION)
PROMPTS = _counted(_IS_PROMPT)
ACCEPTED = _counted(_kind(Kind.ACCEPTED))
REJECTED = _counted(_IS_REJECTED)
TASKS = _counted(_IS_TASK)
ASSISTED = _counted(Within(_IS_TASK, _is_meaningful))
WORK = _counted(_IS_WORK)
UNASSISTED = _counted(Within(_IS_WORK, _is_high_value))
ERRORS = _counted(_IS_ERROR)
HELP = _counted(_kind(Kind.HELP))
TRAININGS = _counted(_IS_TRAINING)
TICKETS = _counted(_kind(Kind.TICKET))
INTERVENTIONS = _counted(_IS_INTERVENTION)
MEANINGFUL = _counted(_is_meaningful)
QUICK_CLOSES = _counted(_IS_QUICK_CLOSE)
PROMPT_LENGTH = Channel(_IS_MEASURED_PROMPT, _value_of)
PROMPTS_MEASURED = Channel(_IS_MEASURED_PROMPT, _count_of)
SESSION_SECONDS = Channel(_IS_MEASURED_SESSION, _value_of)
SESSIONS_MEASURED = Channel(_IS_MEASURED_SESSION, _count_of)
FRUSTRATION = Channel(_IS_VOICE, _frustration_of)
UNCERTAINTY = Channel(_IS_VOICE, _uncertainty_of)
WORKFLOWS = tuple(_counted(Within(_is_meaningful, _is_of_workflow(number))) for number in range(MAX_WORKFLOWS))
_REACTED = {stage: Within(_IS_REACTION, _is_of_category(str(stage))) for stage in Stage}
_GIVEN = {name: Within(_IS_INTERVENTION, _is_of_category(name)) for name in INTERVENTION_KINDS}
REACHED, SEEN, TAKEN, DISMISSED = (
    _counted(_REACTED[stage]) for stage in (Stage.DELIVERED, Stage.SEEN, Stage.ACCEPTED, Stage.DISMISSED)
)
LIVE_QUICK_CLOSES, LIVE_FAILED, LIVE_ERRORS, LIVE_REJECTED = (
    _counted(Within(mask, _is_soon_known)) for mask in (_IS_QUICK_CLOSE, _IS_FAILED_ATTEMPT, _IS_ERROR, _IS_REJECTED)
)
COMPLETED = _counted(_IS_COMPLETED)
FAILED = _counted(_IS_FAILED_ATTEMPT)
SINGLE_PROMPTS, RETRIES = _counted(_IS_SINGLE_PROMPT), _counted(_IS_RETRY)
SIZED_PROMPTS = _counted(_IS_SIZED_PROMPT)
DOUBLINGS, DOUBLINGS_SQUARED = Channel(_IS_SIZED_PROMPT, _doublings), Channel(_IS_SIZED_PROMPT, _doublings_squared)
ASKED, ANSWERED = _counted(_IS_SURVEY), _counted(_IS_ANSWERED)
VOICED_TOGETHER = _counted(Within(_IS_VOICE, _says_both))

H1 = LAST_HOUR
D7, D14, D28, D56 = (last_days(days) for days in (7, 14, 28, 56))  # to the moment, for amounts
DATES_7, DATES_14, DATES_28, DATES_56 = (last_dates(dates) for dates in (7, 14, 28, 56))  # whole dates, for days
DATES_14_BEFORE = last_dates(14, until=14)
WEEKS = tuple(last_dates(7, until=7 * week) for week in range(8))
WEEKS_1_2, WEEKS_3_4 = first_dates(0, 14), first_dates(14, 28)
VOICE_28, VOICE_56, VOICE_180 = (last_days(days, clock="voice") for days in (28, 56, SLOPE_DAYS))
VOICED = ever("voice")
VOICE_WEEKLY = tuple(last_days(7, until=7 * week, clock="voice") for week in range(VOICE_WEEKS))
DECIDED_28, DECIDED_56 = (last_days(days, clock="decided") for days in (28, 56))


def count(channel: Channel, window: Window) -> Callable[[Snapshots], Floats]:
    """How many in the window."""
    return lambda s: s.history.count(channel, window)


def days(mask: Mask, window: Window) -> Callable[[Snapshots], Floats]:
    """On how many dates of the window."""
    return lambda s: s.history.days(mask, window)


def since(mask: Mask, clock: Clock = "end") -> Callable[[Snapshots], Floats]:
    """Days from the last one to where the data ends."""
    return lambda s: s.history.since_last(mask, clock)


def share(part: Channel, whole: Channel, window: Window) -> Callable[[Snapshots], Floats]:
    """Part of the whole in the window, in [0, 1]; missing where there is no whole."""
    return lambda s: ratio(s.history.count(part, window), s.history.count(whole, window))


def _trend(mask: Mask, window: Window, before: Window) -> Callable[[Snapshots], Floats]:
    """(now - before) / (now + before) of the days with one, in [-1, 1]; missing where there were none in either."""

    def compute(s: Snapshots) -> Floats:
        now, then = s.history.days(mask, window), s.history.days(mask, before)
        return ratio(now - then, now + then)

    return compute


def _used_share(window: Window) -> Callable[[Snapshots], Floats]:
    return lambda s: ratio(s.history.days(IS_USE, window), s.history.days(_is_work_evidence, window))


def _assisted_share(window: Window) -> Callable[[Snapshots], Floats]:
    """Of the completed high-value workflows, the share with AI. Where none without AI was ever seen it is missing: the
    sources may just not tell of them.
    """

    def compute(s: Snapshots) -> Floats:
        assisted = s.history.count(ASSISTED, window)
        share_of_all = ratio(assisted, assisted + s.history.count(UNASSISTED, window))
        return np.where(s.history.count(UNASSISTED, EVER) > 0, share_of_all, np.nan)

    return compute


def _assisted_trend(s: Snapshots) -> Floats:
    """Assisted share of the last 14 days less that of the 28 days before."""
    return _assisted_share(D14)(s) - _assisted_share(last_days(28, until=14))(s)


def _active_weeks(mask: Mask) -> Callable[[Snapshots], Floats]:
    return lambda s: np.sum([s.history.days(mask, week) > 0 for week in WEEKS], axis=0, dtype=np.float64)


def _gap_mean(s: Snapshots) -> Floats:
    return s.history.day_gaps(_is_meaningful, DATES_56)[0]


def _gap_variation(s: Snapshots) -> Floats:
    mean, deviation = s.history.day_gaps(_is_meaningful, DATES_56)
    return ratio(deviation, mean)


def _overdue(s: Snapshots) -> Floats:
    return ratio(s.history.since_last(_is_meaningful), s.history.day_gaps(_is_meaningful, DATES_56)[0])


def _against_first_weeks(s: Snapshots) -> Floats:
    share_of_first = ratio(s.history.days(IS_USE, DATES_14), s.history.days(IS_USE, WEEKS_1_2))
    return np.where(s.dates >= 2 * FIRST_WEEKS_DAYS, share_of_first, np.nan)


def _weeks_3_4_drop(s: Snapshots) -> Floats:
    share_of_first = ratio(s.history.days(IS_USE, WEEKS_3_4), s.history.days(IS_USE, WEEKS_1_2))
    return np.where(s.dates >= 2 * FIRST_WEEKS_DAYS, share_of_first, np.nan)


def _no_early_meaningful_use(s: Snapshots) -> Floats:
    none = (s.history.count(MEANINGFUL, WEEKS_1_2) == 0).astype(np.float64)
    was_seen = s.sight.begun <= s.history.birth + SEEN_WITHIN_DAYS * DAY
    return np.where(((s.dates >= FIRST_WEEKS_DAYS) & was_seen) | (none == 0), none, np.nan)


def _distinct_workflows(window: Window) -> Callable[[Snapshots], Floats]:
    return lambda s: np.sum([s.history.count(flow, window) > 0 for flow in WORKFLOWS], axis=0, dtype=np.float64)


def _surface_days(s: Snapshots) -> Floats:
    active = s.history.days(IS_USE, DATES_28)
    return np.where(s.history.count(MEANINGFUL, Window(DATES_28.start, END)) == 0, active, 0)


def _decayed(channel: Channel) -> Callable[[Snapshots], Floats]:
    """Sum of scores, halved every VOICE_HALF_LIFE_WEEKS; whole weights in 1/1024, so that the sum is exact."""

    def compute(s: Snapshots) -> Floats:
        weights = [round(1024 * 0.5 ** (week / VOICE_HALF_LIFE_WEEKS)) for week in range(VOICE_WEEKS)]
        parts = (weight * s.history.total(channel, week) for weight, week in zip(weights, VOICE_WEEKLY, strict=True))
        return np.asarray(sum(parts), np.float64) / (1024 * 1000)

    return compute


def _frustrated_and_uncertain(s: Snapshots) -> Floats:
    return _decayed(FRUSTRATION)(s) * _decayed(UNCERTAINTY)(s)


def _confidence_change(s: Snapshots) -> Floats:
    last, before = (s.history.last_value(_IS_ANSWERED_CONFIDENCE, back, VOICED) for back in (0, 1))
    return last - before


def _confidence_slope(s: Snapshots) -> Floats:
    return 28 * s.history.trend_line(_IS_ANSWERED_CONFIDENCE, VOICE_180)


def _session_completion(s: Snapshots) -> Floats:
    done, failed = s.history.count(COMPLETED, D28), s.history.count(FAILED, D28)
    return ratio(done, done + failed)


def _attempts_per_completion(s: Snapshots) -> Floats:
    done, failed = s.history.count(COMPLETED, D28), s.history.count(FAILED, D28)
    return ratio(done + failed, done)


def _prompt_length_spread(s: Snapshots) -> Floats:
    return s.history.spread(DOUBLINGS, DOUBLINGS_SQUARED, SIZED_PROMPTS, D28, least=FEWEST_PROMPTS)


def _confidence_shown(s: Snapshots) -> Floats:
    """Mean of the shares of sessions completed, of prompts that were no retry, of suggestions taken: our choice.

    Each says how much of what was tried came off at the first go; missing ones are left out.
    """
    taken, refused = s.history.count(ACCEPTED, D28), s.history.count(REJECTED, D28)
    shares = np.stack(
        (
            _session_completion(s),
            1 - share(RETRIES, SINGLE_PROMPTS, D28)(s),
            ratio(taken, taken + refused),
        )
    )
    known = ~np.isnan(shares)
    return 10 * ratio(np.where(known, shares, 0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def _training_to_use(s: Snapshots) -> Floats:
    """Days from the first training to the first meaningful use, where the training came first."""
    first_use = s.history.first_at(_is_meaningful)
    first_training = s.history.first_at(_IS_TRAINING)
    return np.where(first_training <= first_use, (first_use - first_training) / DAY, np.nan)


def _training_to_any_use(s: Snapshots) -> Floats:
    """Days from the first training to the first use of any kind after it."""
    first_training = s.history.first_at(_IS_TRAINING)
    first_use = s.history.first_at(IS_USE)
    return np.where(first_training <= first_use, (first_use - first_training) / DAY, np.nan)


def _trained_unused(s: Snapshots) -> Floats:
    """Days from the last training to where the data ends where no meaningful use came after it, else 0."""
    training, used = s.history.since_last(_IS_TRAINING), s.history.since_last(_is_meaningful)
    with np.errstate(invalid="ignore"):
        return np.where(used <= training, 0 * training, training)


def _life_week(s: Snapshots) -> Floats:
    return np.floor(s.life / 7) + 1


def _quick_close_streak(s: Snapshots) -> Floats:
    has_unmeasured = (s.history.count(SESSIONS, EVER) > 0) & (s.history.count(SESSIONS_MEASURED, EVER) == 0)
    return np.where(has_unmeasured, np.nan, s.history.streak(QUICK_CLOSES, _ENDS_QUICK_CLOSES))


def _delivered(s: Snapshots) -> Floats:
    """Each stage is told once and implies the earlier ones, which may have gone untold: the most of any stage."""
    stages = (REACHED, SEEN, TAKEN, DISMISSED)
    told = np.max([s.history.count(stage, DECIDED_28) for stage in stages], axis=0)
    return np.where((told == 0) & (s.history.count(INTERVENTIONS, DECIDED_28) > 0), np.nan, told)


def _last_reaction(s: Snapshots) -> Floats:
    """1 accepted, -1 dismissed: whichever of the two came last; of one instant the dismissal counts."""
    taken, dismissed = (s.history.since_last(_REACTED[stage], "decided") for stage in (Stage.ACCEPTED, Stage.DISMISSED))
    with np.errstate(invalid="ignore"):
        is_taken = (taken < dismissed) | (np.isnan(dismissed) & ~np.isnan(taken))
    return np.where(is_taken, 1.0, np.where(np.isnan(dismissed), np.nan, -1.0))


def _days_to_first_use(s: Snapshots) -> Floats:
    return np.maximum(s.history.first_at(_is_meaningful) - s.history.assigned, 0) / DAY


def _work_trend(s: Snapshots) -> Floats:
    return _trend(_is_opportunity, DATES_14, DATES_14_BEFORE)(s)


def _tenure_days(s: Snapshots) -> Floats:
    return (s.history.end - s.hired) / DAY


_NO_WORK = "no evidence of work in the window"
_NO_TASK = "no high-value workflow completed in the window, or none without AI ever seen (the sources may not tell)"
_MODE = FailureMode
_G = Group

_USES, _TAKEN = frozenset(USE_KINDS), frozenset((Kind.ACCEPTED, Kind.TASK))
_SURVEYS, _VOICE = SURVEY_KINDS, VOICE_KINDS
_MEANINGFUL, _OPPORTUNITY, _WORKED = Judged.MEANINGFUL, Judged.OPPORTUNITY, Judged.WORKED

FEATURES: tuple[Feature, ...] = (
    # usage
    Feature("active_days_7", _G.USAGE, "days", "Days of use in 7 days.", days(IS_USE, DATES_7), says="active on {} of 7 whole days", needs=(_USES,)),
    Feature("active_days_14", _G.USAGE, "days", "Days of use in 14 days.", days(IS_USE, DATES_14), needs=(_USES,)),
    Feature("active_days_28", _G.USAGE, "days", "Days of use in 28 days.", days(IS_USE, DATES_28), says="active on {} of 28 whole days", needs=(_USES,)),
    Feature("active_days_56", _G.USAGE, "days", "Days of use in 56 days.", days(IS_USE, DATES_56), needs=(_USES,)),
    Feature("uses_7", _G.USAGE, "uses", "Interactions of any kind in 7 days.", count(USE, D7), needs=(_USES,)),
    Feature("uses_28", _G.USAGE, "uses", "Interactions of any kind in 28 days.", count(USE, D28), needs=(_USES,)),
    Feature("sessions_7", _G.USAGE, "sessions", "Sessions in 7 days.", count(SESSIONS, D7), says="{} sessions in 7 days", needs=(Kind.SESSION,)),
    Feature("sessions_28", _G.USAGE, "sessions", "Sessions in 28 days.", count(SESSIONS, D28), says="{} sessions in 28 days", needs=(Kind.SESSION,)),
    Feature("prompts_28", _G.USAGE, "prompts", "Prompts in 28 days.", count(PROMPTS, D28), says="{} prompts in 28 days", needs=(Kind.PROMPT,)),
    Feature("days_since_use", _G.USAGE, "days", "Days from the last use of any kind to where the data ends.", since(IS_USE), missing="never used", says="last used {} days before the data ends", needs=(_USES,)),
    Feature("use_trend_14", _G.USAGE, "-1 to 1", "Days of use in the last 14 days against the 14 before.", _trend(IS_USE, DATES_14, DATES_14_BEFORE), missing="no use in 28 days", says="use changed by {} against the two weeks before (-1 stopped, 1 new)", window="28 days", needs=(_USES,)),
    Feature("use_against_first_weeks", _G.USAGE, "ratio", "Days of use in the last 14 days over those in the first 14 days of the seat.", _against_first_weeks, missing="seat younger than 28 days or unused in its first 14", says="{} times the activity of the first two weeks", window="14 days and the first 14", needs=(_USES,)),
    Feature("weeks_3_4_ratio", _G.USAGE, "ratio", "Days of use in weeks 3 and 4 of the seat over those in weeks 1 and 2.", _weeks_3_4_drop, missing="seat younger than 28 days or unused in its first 14", mode=_MODE.ONE_SHOT_TRAINING, says="weeks 3 and 4 had {} times the active days of weeks 1 and 2", window="first 28 days", needs=(_USES,)),
    Feature("active_weeks_8", _G.USAGE, "weeks", "Of the last 8 weeks, those with use.", _active_weeks(IS_USE), says="active in {} of the last 8 weeks", window="8 weeks", needs=(_USES,)),
    Feature("used_share_14", _G.USAGE, "share", "Share of the days with evidence of work on which the tool was used, 14 days.", _used_share(DATES_14), missing=_NO_WORK, needs=(_USES, _WORKED)),
    Feature("used_share_28", _G.USAGE, "share", "Share of the days with evidence of work on which the tool was used, 28 days.", _used_share(DATES_28), missing=_NO_WORK, says="used on {:%} of the days with work in 28 days", needs=(_USES, _WORKED)),
    Feature("used_share_56", _G.USAGE, "share", "Share of the days with evidence of work on which the tool was used, 56 days.", _used_share(DATES_56), missing=_NO_WORK, needs=(_USES, _WORKED)),
    # depth
    Feature("meaningful_7", _G.DEPTH, "uses", "Meaningful uses in 7 days.", count(MEANINGFUL, D7), says="{} meaningful uses in 7 days", needs=(_MEANINGFUL,)),
    Feature("meaningful_14", _G.DEPTH, "uses", "Meaningful uses in 14 days.", count(MEANINGFUL, D14), says="{} meaningful uses in 14 days", needs=(_MEANINGFUL,)),
    Feature("meaningful_28", _G.DEPTH, "uses", "Meaningful uses in 28 days.", count(MEANINGFUL, D28), mode=_MODE.SURFACE_USE, says="{} meaningful uses in 28 days", needs=(_MEANINGFUL,)),
    Feature("meaningful_56", _G.DEPTH, "uses", "Meaningful uses in 56 days.", count(MEANINGFUL, D56), says="{} meaningful uses in 56 days", needs=(_MEANINGFUL,)),
    Feature("meaningful_ever", _G.DEPTH, "uses", "Meaningful uses so far.", count(MEANINGFUL, EVER), says="{} meaningful uses so far", needs=(_MEANINGFUL,)),
    Feature("meaningful_days_14", _G.DEPTH, "days", "Days with meaningful use in 14 days.", days(_is_meaningful, DATES_14), needs=(_MEANINGFUL,)),
    Feature("meaningful_days_28", _G.DEPTH, "days", "Days with meaningful use in 28 days.", days(_is_meaningful, DATES_28), says="meaningful use on {} of 28 whole days", needs=(_MEANINGFUL,)),
    Feature("meaningful_days_56", _G.DEPTH, "days", "Days with meaningful use in 56 days.", days(_is_meaningful, DATES_56), needs=(_MEANINGFUL,)),
    Feature("meaningful_weeks_8", _G.DEPTH, "weeks", "Of the last 8 weeks, those with meaningful use.", _active_weeks(_is_meaningful), says="meaningful use in {} of the last 8 weeks", window="8 weeks", needs=(_MEANINGFUL,)),
    Feature("days_since_meaningful", _G.DEPTH, "days", "Days from the last meaningful use to where the data ends.", since(_is_meaningful), missing="no meaningful use yet", mode=_MODE.SURFACE_USE, says="last meaningful use {} days before the data ends", needs=(_MEANINGFUL,)),
    Feature("meaningful_trend_14", _G.DEPTH, "-1 to 1", "Days with meaningful use in the last 14 days against the 14 before.", _trend(_is_meaningful, DATES_14, DATES_14_BEFORE), missing="no meaningful use in 28 days", says="days with meaningful use changed by {} against the two weeks before (-1 stopped, 1 new)", window="28 days", needs=(_MEANINGFUL,)),
    Feature("meaningful_gap_mean", _G.DEPTH, "days", "Mean gap between days with meaningful use, 56 days.", _gap_mean, missing="fewer than three such days", says="usually {} days between meaningful uses", window="56 days", needs=(_MEANINGFUL,)),
    Feature("meaningful_gap_variation", _G.DEPTH, "ratio", "Standard deviation of that gap over its mean: regularity.", _gap_variation, missing="fewer than three such days", window="56 days", needs=(_MEANINGFUL,)),
    Feature("meaningful_overdue", _G.DEPTH, "ratio", "Days from the last meaningful use to where the data ends, over the usual gap.", _overdue, missing="fewer than three such days", says="{} times the usual pause", window="56 days", needs=(_MEANINGFUL,)),
    Feature("high_value_share_28", _G.DEPTH, "share", "Assisted tasks that were high-value ones, 28 days.", share(ASSISTED, TASKS, D28), missing="no assisted task", mode=_MODE.NO_ROLE_USE_CASES, says="{:%} of assisted tasks were high-value ones", needs=(Kind.TASK,)),
    Feature("workflows_28", _G.DEPTH, "workflows", "Distinct high-value workflows completed with AI in 28 days.", _distinct_workflows(D28), mode=_MODE.NO_ROLE_USE_CASES, says="{} distinct high-value workflows in 28 days", needs=(_MEANINGFUL,)),
    Feature("assisted_share_14", _G.DEPTH, "share", "Task completion rate on AI-assisted workflows: of the completions of high-value workflows in 14 days, guided ones left out, those with AI.", _assisted_share(D14), missing=_NO_TASK, needs=(Kind.TASK, Kind.WORK)),
    Feature("assisted_share_28", _G.DEPTH, "share", "Task completion rate on AI-assisted workflows: of the completions of high-value workflows in 28 days, guided ones left out, those with AI.", _assisted_share(D28), missing=_NO_TASK, mode=_MODE.WRONG_METRIC, says="{:%} of the high-value tasks in 28 days were completed with AI", needs=(Kind.TASK, Kind.WORK)),
    Feature("assisted_share_56", _G.DEPTH, "share", "Task completion rate on AI-assisted workflows: of the completions of high-value workflows in 56 days, guided ones left out, those with AI.", _assisted_share(D56), missing=_NO_TASK, needs=(Kind.TASK, Kind.WORK)),
    Feature("assisted_trend", _G.DEPTH, "-1 to 1", "Task completion rate on AI-assisted workflows in 14 days less that of the 28 days before.", _assisted_trend, missing="in either window no high-value workflow completed, or none without AI ever seen", says="share of high-value tasks completed with AI changed by {}", window="42 days", needs=(Kind.TASK, Kind.WORK)),
    Feature("no_meaningful_first_14", _G.DEPTH, "0 or 1", "No meaningful use in the first 14 days of the seat.", _no_early_meaningful_use, missing="without one: seat younger than 14 days, or what tells of it began too late to have seen them", mode=_MODE.ONE_SHOT_TRAINING, window="first 14 days", needs=(_MEANINGFUL,)),
    Feature("surface_days_28", _G.DEPTH, "days", "Days of use in 28 days where none of it was meaningful, else 0.", _surface_days, mode=_MODE.SURFACE_USE, says="{} active days in 28 without meaningful use", needs=(_USES, _MEANINGFUL)),
    # friction
    Feature("quick_close_share_7", _G.FRICTION, "share", "Sessions of known length in 7 days that were closed quickly with nothing completed.", share(QUICK_CLOSES, SESSIONS_MEASURED, D7), missing="no session of known length in 7 days", mode=_MODE.SILENT_STRUGGLE, says="{:%} of sessions in 7 days closed quickly with nothing completed", needs=(Kind.SESSION,)),
    Feature("quick_close_share_28", _G.FRICTION, "share", "Sessions of known length in 28 days that were closed quickly with nothing completed.", share(QUICK_CLOSES, SESSIONS_MEASURED, D28), missing="no session of known length in 28 days", mode=_MODE.SILENT_STRUGGLE, says="{:%} of sessions in 28 days closed quickly with nothing completed", needs=(Kind.SESSION,)),
    Feature("quick_closes_1h", _G.FRICTION, "sessions", "Quick closes within the last hour, up to this moment whatever the lag of the sources: struggling right now.", count(LIVE_QUICK_CLOSES, H1), mode=_MODE.SILENT_STRUGGLE, says="{} quick closes within the hour", needs=(Kind.SESSION,)),
    Feature("failed_attempts_1h", _G.FRICTION, "sessions", "Sessions within the last hour that ended with nothing completed.", count(LIVE_FAILED, H1), mode=_MODE.SILENT_STRUGGLE, says="{} sessions within the hour with nothing completed", needs=(Kind.SESSION,)),
    Feature("errors_1h", _G.FRICTION, "errors", "Failures or undone results within the last hour.", count(LIVE_ERRORS, H1), mode=_MODE.SILENT_STRUGGLE, says="{} failures within the hour", needs=(Kind.ERROR,)),
    Feature("rejected_1h", _G.FRICTION, "suggestions", "Suggestions refused within the last hour.", count(LIVE_REJECTED, H1), mode=_MODE.SILENT_STRUGGLE, says="{} suggestions refused within the hour", needs=(Kind.REJECTED,)),
    Feature("quick_close_streak", _G.FRICTION, "sessions", "Quick closes since the last completed session or assisted task.", _quick_close_streak, missing="no session of known length", mode=_MODE.SILENT_STRUGGLE, says="{} quick closes since anything was completed", needs=(Kind.SESSION,)),
    Feature("open_streak", _G.FRICTION, "sessions", "Latest sessions in a row with nothing completed.", lambda s: s.history.streak(SESSIONS, _ENDS_OPEN_STREAK), mode=_MODE.SILENT_STRUGGLE, says="{} sessions in a row with nothing completed", needs=(Kind.SESSION,)),
    Feature("session_seconds_28", _G.FRICTION, "seconds", "Mean length of a session, 28 days.", lambda s: s.history.mean(SESSION_SECONDS, SESSIONS_MEASURED, D28), missing="no measured session", needs=(Kind.SESSION,)),
    Feature("rejected_share_28", _G.FRICTION, "share", "Suggestions refused, of those taken or refused, 28 days.", lambda s: ratio(s.history.count(REJECTED, D28), s.history.count(REJECTED, D28) + s.history.count(ACCEPTED, D28)), missing="nothing offered", mode=_MODE.COMPLEXITY, says="{:%} of suggestions refused", needs=(Kind.ACCEPTED, Kind.REJECTED)),
    Feature("errors_28", _G.FRICTION, "errors", "Failures or undone results, 28 days.", count(ERRORS, D28), mode=_MODE.SILENT_STRUGGLE, says="{} failures in 28 days", needs=(Kind.ERROR,)),
    Feature("help_28", _G.FRICTION, "lookups", "Help lookups, 28 days.", count(HELP, D28), mode=_MODE.COMPLEXITY, says="{} help lookups in 28 days", needs=(Kind.HELP,)),
    Feature("help_per_session_28", _G.FRICTION, "ratio", "Help lookups per session, 28 days.", share(HELP, SESSIONS, D28), missing="no session in 28 days", mode=_MODE.COMPLEXITY, says="{} help lookups per session", needs=(Kind.HELP, Kind.SESSION)),
    Feature("prompts_per_task_28", _G.FRICTION, "ratio", "Prompts per assisted task, 28 days: retries.", share(PROMPTS, TASKS, D28), missing="no assisted task", mode=_MODE.COMPLEXITY, says="{} prompts per completed task", needs=(Kind.PROMPT, Kind.TASK)),
    # opportunity
    Feature("work_days_7", _G.OPPORTUNITY, "days", "Days with work that the tool could have helped with, 7 days.", days(_is_opportunity, DATES_7), says="work seen on {} of 7 whole days", needs=(_OPPORTUNITY,)),
    Feature("work_days_28", _G.OPPORTUNITY, "days", "Days with work that the tool could have helped with, 28 days.", days(_is_opportunity, DATES_28), says="work seen on {} of 28 whole days", needs=(_OPPORTUNITY,)),
    Feature("work_days_56", _G.OPPORTUNITY, "days", "Days with work that the tool could have helped with, 56 days.", days(_is_opportunity, DATES_56), needs=(_OPPORTUNITY,)),
    Feature("unassisted_7", _G.OPPORTUNITY, "tasks", "Pieces of work done without AI, 7 days.", count(WORK, D7), says="{} pieces of work without AI in 7 days", needs=(Kind.WORK,)),
    Feature("unassisted_28", _G.OPPORTUNITY, "tasks", "Pieces of work done without AI, 28 days.", count(WORK, D28), mode=_MODE.WRONG_METRIC, says="{} pieces of work without AI in 28 days", needs=(Kind.WORK,)),
    Feature("days_since_work", _G.OPPORTUNITY, "days", "Days from the last sign of work to where the data ends.", since(_is_opportunity), missing="no work seen yet", says="last sign of work {} days before the data ends", needs=(_OPPORTUNITY,)),
    Feature("work_trend_14", _G.OPPORTUNITY, "-1 to 1", "Days with work in the last 14 days against the 14 before.", _work_trend, missing="no work in 28 days", window="28 days", needs=(_OPPORTUNITY,)),
    # confidence
    Feature("confidence_last", _G.CONFIDENCE, "0 to 10", "Latest survey answer on confidence.", lambda s: s.history.last_value(_IS_ANSWERED_CONFIDENCE, window=VOICED), missing="never answered", mode=_MODE.COMPLEXITY, says="rated own confidence {} of 10"),
    Feature("confidence_change", _G.CONFIDENCE, "points", "Latest answer on confidence less the one before.", _confidence_change, missing="fewer than two answers", mode=_MODE.COMPLEXITY, says="confidence answer changed by {} points"),
    Feature("nps_last", _G.CONFIDENCE, "0 to 10", "Latest answer on recommending the tool.", lambda s: s.history.last_value(_IS_ANSWERED_NPS, window=VOICED), missing="never answered", says="would recommend it {} of 10"),
    Feature("days_since_survey", _G.CONFIDENCE, "days", "Days from the last survey answer to where the data of tickets and surveys ends.", since(_IS_ANSWERED, "voice"), missing="never answered"),
    Feature("confidence_slope", _G.CONFIDENCE, "points per 28 days", "Least-squares slope of the answers on confidence over 180 days.", _confidence_slope, missing="answers on fewer than two UTC dates", mode=_MODE.COMPLEXITY, says="confidence answers change by {} points in four weeks", window="180 days"),
    Feature("surveys_asked_180", _G.CONFIDENCE, "questions", "Survey questions asked in 180 days, answered or not.", count(ASKED, VOICE_180), needs=(_SURVEYS,)),
    Feature("response_share_180", _G.CONFIDENCE, "share", "Survey questions that were answered, of those asked in 180 days.", share(ANSWERED, ASKED, VOICE_180), missing="never asked", says="{:%} of survey questions answered", needs=(_SURVEYS,)),
    Feature("unanswered_streak", _G.CONFIDENCE, "questions", "Latest survey questions in a row without an answer.", lambda s: s.history.streak(ASKED, _IS_ANSWERED, VOICED), says="the latest {} survey questions not answered", needs=(_SURVEYS,)),
    Feature("prompt_length_28", _G.CONFIDENCE, "characters", "Mean length of a prompt, 28 days.", lambda s: s.history.mean(PROMPT_LENGTH, PROMPTS_MEASURED, D28), missing="no measured prompt", mode=_MODE.COMPLEXITY, says="prompts of {} characters on average"),
    Feature("prompt_length_spread_28", _G.CONFIDENCE, "doublings", "Standard deviation of log2(1 + length) of single prompts, 28 days.", _prompt_length_spread, missing="fewer than three measured single prompts", mode=_MODE.COMPLEXITY),
    Feature("retry_share_28", _G.CONFIDENCE, "share", "Single prompts within ten minutes after another with nothing accepted or done between, 28 days.", share(RETRIES, SINGLE_PROMPTS, D28), missing="no single prompt", mode=_MODE.COMPLEXITY, says="{:%} of prompts were another try", needs=(Kind.PROMPT, _TAKEN)),
    Feature("session_completion_28", _G.CONFIDENCE, "share", "Sessions in which something was completed, of those whose outcome is known, 28 days.", _session_completion, missing="no session of known outcome", mode=_MODE.COMPLEXITY, says="{:%} of sessions completed something"),
    Feature("attempts_per_completion_28", _G.CONFIDENCE, "ratio", "Sessions of known outcome for each that completed something, 28 days.", _attempts_per_completion, missing="none completed anything", mode=_MODE.COMPLEXITY, says="{} sessions for each that completed something"),
    Feature("confidence_shown_28", _G.CONFIDENCE, "0 to 10", "What came off at the first go, for those nobody asked: mean of the shares of sessions completed, prompts that were no retry and suggestions taken, 28 days.", _confidence_shown, missing="no session of known outcome, single prompt or suggestion", mode=_MODE.COMPLEXITY),
    # voice
    Feature("tickets_28", _G.VOICE, "tickets", "Support tickets about the tool, 28 days.", count(TICKETS, VOICE_28), says="{} tickets in 28 days", needs=(Kind.TICKET,)),
    Feature("frustration", _G.VOICE, "score", "Frustration scored in tickets and surveys, halved every two weeks.", _decayed(FRUSTRATION), says="frustration of {} in tickets and surveys", window="56 days", needs=(_VOICE,)),
    Feature("uncertainty", _G.VOICE, "score", "Uncertainty scored in tickets and surveys, halved every two weeks.", _decayed(UNCERTAINTY), mode=_MODE.COMPLEXITY, says="uncertainty of {} in tickets and surveys", window="56 days", needs=(_VOICE,)),
    Feature("frustration_and_uncertainty", _G.VOICE, "score", "Frustration times uncertainty: the two together.", _frustrated_and_uncertain, mode=_MODE.COMPLEXITY, says="frustration and uncertainty together ({})", window="56 days", needs=(_VOICE,)),
    Feature("together_56", _G.VOICE, "tickets and answers", "Tickets and survey answers in 56 days that show both frustration and uncertainty, each of at least a third.", count(VOICED_TOGETHER, VOICE_56), mode=_MODE.COMPLEXITY, says="{} tickets or answers in 56 days with frustration and uncertainty together", needs=(_VOICE,)),
    # onboarding
    Feature("life_days", _G.ONBOARDING, "days", "Days from the assignment of the seat to where the data ends; 0 where it does not reach that far.", lambda s: s.life, window="now"),
    Feature("life_week", _G.ONBOARDING, "weeks", "Week of the seat's life in which the data ends, from 1.", _life_week, window="now"),
    Feature("days_since_training", _G.ONBOARDING, "days", "Days from the last training to where the data ends.", since(_IS_TRAINING), missing="no training", mode=_MODE.ONE_SHOT_TRAINING, says="last training {} days before the data ends"),
    Feature("trainings", _G.ONBOARDING, "trainings", "Trainings attended so far.", count(TRAININGS, EVER), mode=_MODE.ONE_SHOT_TRAINING, says="{} trainings so far", needs=(Kind.TRAINING,)),
    Feature("training_to_use_days", _G.ONBOARDING, "days", "Days from the first training to the first meaningful use.", _training_to_use, missing="no training yet, no meaningful use yet, or the first one came before the first training", mode=_MODE.ONE_SHOT_TRAINING, says="{} days from training to the first meaningful use", needs=(Kind.TRAINING, _MEANINGFUL)),
    Feature("training_to_any_use_days", _G.ONBOARDING, "days", "Days from the first training to the first use of any kind.", _training_to_any_use, missing="no training yet, no use yet, or the first one came before the first training", mode=_MODE.ONE_SHOT_TRAINING, says="{} days from training to the first use", needs=(Kind.TRAINING, _USES)),
    Feature("trained_unused_days", _G.ONBOARDING, "days", "Days from the last training to where the data ends where no meaningful use came after it, else 0.", _trained_unused, missing="no training", mode=_MODE.ONE_SHOT_TRAINING, says="{} days of data since training without meaningful use", needs=(Kind.TRAINING, _MEANINGFUL)),
    Feature("days_to_first_meaningful", _G.ONBOARDING, "days", "Days from assignment to the first meaningful use; 0 where that came before.", _days_to_first_use, missing="no meaningful use yet", mode=_MODE.ONE_SHOT_TRAINING, says="first meaningful use {} days after assignment", needs=(_MEANINGFUL,)),
    # peers: as of the last midnight an hour old, of others only; for the model, not for words
    Feature("team_size", _G.PEERS, "seats", "Other seats of the team with this tool.", lambda s: s.around.team_size, missing="team unknown", window="now"),
    Feature("team_size_before_28", _G.PEERS, "seats", "Other seats of the team with this tool 28 days before.", lambda s: s.around.team_size_before, missing="team unknown then"),
    Feature("team_share_28", _G.PEERS, "share", "Share of the team's other seats with meaningful use in 28 days.", lambda s: s.around.team_share, missing="team unknown or no other seat", mode=_MODE.LEADERSHIP_ABSENT, others=("team_size",), needs=(_MEANINGFUL,)),
    Feature("team_share_change_28", _G.PEERS, "-1 to 1", "That share less what it was 28 days before.", lambda s: s.around.team_share_change, missing="no other seat in the team now or then", others=("team_size", "team_size_before_28"), window="56 days", needs=(_MEANINGFUL,)),
    Feature("team_meaningful_28", _G.PEERS, "uses", "Mean meaningful uses of the team's other seats in 28 days.", lambda s: s.around.team_mean, missing="team unknown or no other seat", others=("team_size",), needs=(_MEANINGFUL,)),
    Feature("champions_in_team", _G.PEERS, "seats", "Other seats of the team in the top quarter of depth: of those of the organisation that used this tool meaningfully in 28 days, the quarter with the most uses.", lambda s: s.around.team_champions, missing="team unknown", others=("champions_in_team",), window="28 days", needs=(_MEANINGFUL,)),
    Feature("champion_same_role", _G.PEERS, "0 or 1", "One of those champions has the same role.", lambda s: s.around.role_champion, missing="team or role unknown", mode=_MODE.NO_ROLE_USE_CASES, others=("champions_in_team",), window="28 days", needs=(_MEANINGFUL,)),
    Feature("role_size", _G.PEERS, "seats", "Other seats of the same role in the organisation with this tool.", lambda s: s.around.role_size, missing="role unknown", window="now"),
    Feature("role_share_28", _G.PEERS, "share", "Share of the role's other seats with meaningful use in 28 days.", lambda s: s.around.role_share, missing="role unknown or no other seat", mode=_MODE.NO_ROLE_USE_CASES, others=("role_size",), needs=(_MEANINGFUL,)),
    Feature("meaningful_against_role", _G.PEERS, "ratio", "Own meaningful uses in 28 days over the mean of the role's other seats.", lambda s: s.around.against_role, missing="role unknown or no meaningful use in it", mode=_MODE.NO_ROLE_USE_CASES, others=("role_size",), window="28 days", needs=(_MEANINGFUL,)),
    Feature("manager_meaningful_28", _G.PEERS, "uses", "The manager's own meaningful uses of this tool in 28 days.", lambda s: s.around.manager_uses, missing="manager unknown or without a seat", mode=_MODE.LEADERSHIP_ABSENT, others=("has_manager",), needs=(_MEANINGFUL,)),
    Feature("leaders_share_28", _G.PEERS, "share", "Of the organisation's managers with a seat of this tool, those with meaningful use in 28 days.", lambda s: s.around.leaders_share, missing="no manager has a seat", mode=_MODE.LEADERSHIP_ABSENT, others=("leaders",), needs=(_MEANINGFUL,)),
    Feature("leaders", _G.PEERS, "people", "Managers of the organisation's seats of this tool who hold one themselves.", lambda s: s.around.leaders, window="now"),
    # history
    Feature("interventions_28", _G.HISTORY, "interventions", "Interventions decided on for the seat in 28 days, delivered or not.", count(INTERVENTIONS, DECIDED_28)),
    Feature("delivered_28", _G.HISTORY, "interventions", "Interventions that reached the person in 28 days, as far as was reported: the most of those reported delivered, seen, accepted or dismissed.", _delivered, missing="some were decided on, and nothing was reported of any"),
    Feature("days_since_intervention", _G.HISTORY, "days", "Days from the last decision for an intervention to `as_of`.", since(_IS_INTERVENTION, "decided"), missing="none yet"),
    Feature("seen_56", _G.HISTORY, "reactions", "Interventions seen in 56 days.", count(SEEN, DECIDED_56)),
    Feature("taken_56", _G.HISTORY, "reactions", "Interventions accepted in 56 days.", count(TAKEN, DECIDED_56)),
    Feature("dismissed_56", _G.HISTORY, "reactions", "Interventions dismissed in 56 days.", count(DISMISSED, DECIDED_56), says="{} offers dismissed in 56 days"),
    Feature("last_reaction", _G.HISTORY, "-1 or 1", "The last answer to an intervention: 1 accepted, -1 dismissed.", _last_reaction, missing="neither yet"),
    *(
        Feature(f"given_{name}_56", _G.HISTORY, "interventions", f"Interventions of the kind {name} decided on in 56 days.", count(_counted(_GIVEN[name]), DECIDED_56))
        for name in INTERVENTION_KINDS
    ),
    # context
    Feature("tenure_days", _G.CONTEXT, "days", "Days from the person's hiring to where the data ends.", _tenure_days, missing="hire date unknown", window="now"),
    Feature("has_manager", _G.CONTEXT, "0 or 1", "The roster names a manager.", lambda s: s.has_manager, window="now"),
    Feature("tool", _G.CONTEXT, "category", "The tool.", lambda s: s.tool, is_category=True, window="now"),
    Feature("role", _G.CONTEXT, "category", "The person's role.", lambda s: s.role, missing="unknown", is_category=True, window="now"),
    Feature("function", _G.CONTEXT, "category", "The person's function.", lambda s: s.function, missing="unknown", is_category=True, window="now"),
    Feature("region", _G.CONTEXT, "category", "The person's region.", lambda s: s.region, missing="unknown", is_category=True, window="now"),
)  # fmt: skip

NUMERIC = tuple(feature for feature in FEATURES if not feature.is_category)
CATEGORIES = tuple(feature for feature in FEATURES if feature.is_category)
BY_NAME = {feature.name: feature for feature in FEATURES}


@cache
def catalogue_hash() -> str:
    """Identifies what the vector means: names, order, units and definitions. Travels with every vector and model."""
    described = "\n".join(
        f"{f.name}|{f.dtype}|{f.unit}|{f.window}|{f.meaning}|{f.missing}|{_told_by(f)}" for f in FEATURES
    )
    return hashlib.sha256(f"{ENGINE_VERSION}\n{described}".encode()).hexdigest()[:16]


def is_about_few(feature: Feature, row: Mapping[str, float]) -> bool:
    """Whether the feature's value in the row tells what fewer than MIN_GROUP_SIZE other people do; nothing where it is
    missing. row: by name.
    """
    is_known = row[feature.name] == row[feature.name]
    return is_known and any(not row[others] >= MIN_GROUP_SIZE for others in feature.others)


def say(feature: Feature, value: float) -> str:
    """The feature's value as a phrase for people, or an empty text where it has none."""
    return "" if not feature.says or value != value else fill_in(feature.says, value)


def fill_in(phrase: str, value: float) -> str:
    """The phrase with the value in place of its `{}` or `{:%}`. value: not missing."""
    if "{:%}" in phrase:
        return phrase.replace("{:%}", f"{value:.0%}")
    value = round(value, 1) + 0.0 if abs(value) < 10 else value  # no minus zero
    number = f"{value:.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.1f}"
    said = phrase.replace("{}", number)
    return _ONE_OF_MANY.sub(r"1 \1", said, count=1) if number == "1" else said


_ONE_OF_MANY = re.compile(r"\b1 ((?:(?!in )[\w-]+ ){0,2}?\w+[^\Ws])s\b")


def _told_by(feature: Feature) -> str:
    """What some source must be able to tell, in words."""
    named = (
        f"`{need}`" if isinstance(need, Kind) else need if isinstance(need, Judged) else _any_of(need)
        for need in feature.needs
    )
    return ", and ".join(named)


def _any_of(kinds: frozenset[Kind]) -> str:
    return " or ".join(f"`{kind}`" for kind in Kind if kind in kinds)


def as_markdown() -> str:
    """docs/features.md: the whole table, group by group."""
    lines = [
        "# Features",
        "",
        "Made from `FEATURES` in `features/catalogue.py` by `make docs`; a test keeps it true. A feature at `as_of` uses an",
        "event only if it occurred before `as_of − lag` and was available at `as_of`; windows are half-open and end at",
        "`as_of − lag`, where lag is that of the slowest source of the seat's organisation and tool, as it was known then: that is",
        "where the data ends, and days since something count to there. Tickets and surveys end at the lag of the slowest source that",
        "tells them, interventions and reactions at that of theirs, which is none for what this product decided itself. Features of",
        "the last hour end at `as_of` itself, whatever the lag, and leave out what stands at the last microsecond of a UTC day, as",
        "totals of a day do; peers are of others only, and as of the last UTC midnight that is at least an hour old.",
        "",
        "What is counted in days of use, meaningful use or work, and in weeks of them, counts whole UTC dates: the last 7, 14, 28 or",
        "56 dates before the date on which the data ends, whatever the hour, and for a seat's first weeks the dates from that of its",
        "assignment on. Totals of a day stand at the last microsecond of theirs. Amounts (uses, sessions, prompts, tickets) are",
        "counted to the moment, over so many times 24 hours.",
        "",
        "Missing is not zero. Where no source of the seat's organisation and tool was known at `as_of` to tell what the column *told",
        "by* names, the feature is missing. A connector says which kinds of event its format can tell; a sender of plain events can",
        "tell the kinds that it has sent. Meaningful use and opportunity are those kinds that the tool's profile names; work",
        "without the tool is what it names as opportunity and is no use itself. Whether the first two weeks went by without",
        f"meaningful use is said only where the sources that tell of it had begun within the seat's first {SEEN_WITHIN_DAYS} days.",
        "",
    ]
    for group in Group:
        lines += [
            f"## {group}",
            "",
            "| feature | type | unit | window | meaning | missing | told by | speaks to |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for feature in FEATURES:
            if feature.group is group:
                mode = feature.mode or "none by itself"
                cells = (
                    f"`{feature.name}`",
                    feature.dtype,
                    feature.unit,
                    feature.window,
                    feature.meaning,
                    feature.missing,
                    _told_by(feature) or "any",
                    mode,
                )
                lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)
