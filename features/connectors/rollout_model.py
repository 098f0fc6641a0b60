"""The people of a simulated rollout: who they are, how their use unfolds, when they fall silent, what changes that.

Every random number is a hash of (seed, seat, day, purpose), so it stays the same whatever was decided and however the
seats are cut into blocks. What a seat would do *while it is not silent* (its path) depends neither on silence nor on
interventions; these only move it between "active" and "silent". Hence the probability of keeping a seat under every
intervention is exact given its path, and so is each counterfactual outcome.

All strengths are our choice: they are set so that the mechanisms of the brief are there to be found, not measured.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from features.decisions import NONE
from features.interventions import FailureMode

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

KEPT_DAYS = (
    28  # an intervention works for this long, and this is when "kept" is judged (design: horizon of the product)
)
TRUTH_DAYS = KEPT_DAYS  # days beyond the last shown one, so that every truth is known
CALIBRATION_DAYS = 90  # "after three months"
LAST_WAVE_DAY = 18
PILOT_SEATS = 12_000  # the share of silent seats in the pilot has a standard error of about 0.7 points
PILOT_SEED = 20_260_105
MAX_DAYS = 730

HEALTHY = "healthy"
MODES: tuple[str, ...] = (HEALTHY, *(str(mode) for mode in FailureMode))
ARMS: tuple[str, ...] = (
    NONE,
    "in_context_guidance",
    "role_use_cases",
    "peer_champion",
    "leader_participation",
    "safe_practice",
    "guided_start",
    "refresher",
    "coach_call",
)
PEER, LEADER, COACH = ARMS.index("peer_champion"), ARMS.index("leader_participation"), ARMS.index("coach_call")
COACH_COOLDOWN_DAYS = 56

FUNCTIONS: Mapping[str, tuple[str, str]] = {
    "sales": ("sales_representative", "account_executive"),
    "finance": ("financial_analyst", "controller"),
    "legal": ("counsel", "contract_manager"),
    "support": ("service_agent", "service_engineer"),
    "operations": ("planner", "buyer"),
    "people": ("recruiter", "people_partner"),
    "logistics": ("dispatcher", "warehouse_lead"),
    "engineering": ("engineer", "product_manager"),
    "marketing": ("campaign_manager", "writer"),
}
FUNCTION_NAMES = tuple(FUNCTIONS)
ROLE_NAMES = tuple(role for roles in FUNCTIONS.values() for role in roles)
# The mode that most teams of a function carry; the last two functions are healthy.
FUNCTION_MODE: tuple[str, ...] = (
    FailureMode.NO_ROLE_USE_CASES,
    FailureMode.COMPLEXITY,
    FailureMode.SURFACE_USE,
    FailureMode.SILENT_STRUGGLE,
    FailureMode.ONE_SHOT_TRAINING,
    FailureMode.LEADERSHIP_ABSENT,
    FailureMode.WRONG_METRIC,
    HEALTHY,
    HEALTHY,
)
OWN_MODE_SHARE, OTHER_MODE_SHARE = 0.75, 0.15  # of the teams of a function; the others are healthy
MEMBER_SHARE = 0.85  # of a team's people who carry its mode

REGIONS: tuple[str, ...] = ("emea", "americas", "apac")
UTC_OFFSET_HOURS: tuple[int, ...] = (1, -5, 8)  # the working day lies within one day of UTC in each
# Month and day, the same every year: close to public holidays, our choice.
HOLIDAYS: tuple[frozenset[tuple[int, int]], ...] = (
    frozenset({(1, 1), (1, 6), (4, 3), (4, 6), (5, 1), (5, 14), (5, 25), (10, 3), (12, 24), (12, 25), (12, 26)}),
    frozenset({(1, 1), (1, 19), (2, 16), (5, 25), (7, 3), (9, 7), (11, 26), (11, 27), (12, 25)}),
    frozenset({(1, 1), (1, 26), (2, 17), (2, 18), (2, 19), (4, 3), (5, 1), (8, 10), (12, 25)}),
)


@dataclass(frozen=True)
class Rollout:
    """What is to be simulated. Raises ValueError naming the setting.

    start: midnight UTC of day 0. silent_share: share of seats silent 90 days after assignment when nothing is done.
    effect_size: multiplies every effect of an intervention, harm included; 0 makes all of them do nothing.
    confounding: log-odds of silence per standard deviation of a trait that is never shown, but that the logging policy
    sees. noise: multiplies what blurs the signals (mood, survey and ticket noise, risk that leaves no trace).
    """

    seats: int = 2000
    days: int = 120
    start: datetime = datetime(2026, 1, 5, tzinfo=UTC)
    seed: int = 7
    organization: str = "simulated"
    tool: str = "m365_copilot"
    silent_share: float = 0.45
    effect_size: float = 1.0
    confounding: float = 0.0
    noise: float = 1.0
    lag_days: int = 2
    team_size: int = 12
    interventions: bool = True

    def __post_init__(self) -> None:
        named = re.fullmatch(r"[A-Za-z0-9._:~-]{1,100}", self.organization) is not None
        _expect(named, "organization", "up to 100 letters, digits and . _ : ~ -", self.organization)
        _expect(3 <= self.seats <= 50_000_000, "seats", "from 3 to 50 000 000", self.seats)
        _expect(1 <= self.days <= MAX_DAYS, "days", f"from 1 to {MAX_DAYS}", self.days)
        aware = self.start.tzinfo is not None
        _expect(aware and self.start.utcoffset() == timedelta(0), "start", "a time in UTC", self.start)
        midnight = (self.start.hour, self.start.minute, self.start.second, self.start.microsecond) == (0, 0, 0, 0)
        _expect(midnight, "start", "midnight", self.start)
        _expect(0 <= self.seed < 2**63, "seed", "from 0 to 2**63 - 1", self.seed)
        _expect(0.02 <= self.silent_share <= 0.95, "silent_share", "from 0.02 to 0.95", self.silent_share)
        _expect(0 <= self.effect_size <= 5, "effect_size", "from 0 to 5", self.effect_size)
        _expect(0 <= self.confounding <= 3, "confounding", "from 0 to 3", self.confounding)
        _expect(0 <= self.noise <= 5, "noise", "from 0 to 5", self.noise)
        _expect(0 <= self.lag_days <= 14, "lag_days", "from 0 to 14", self.lag_days)
        _expect(3 <= self.team_size <= 100, "team_size", "from 3 to 100", self.team_size)


def _expect(holds: bool, setting: str, expected: str, came: object) -> None:
    if not holds:
        raise ValueError(f"{setting}: expected {expected}, came {came!r}")


@dataclass(frozen=True)
class ModeTraits:
    """How a planted mode makes people behave; probabilities are per day on which the tool is opened."""

    memory_half_life_days: float
    session_logit: float
    attempts: float  # of a high-value task
    success_logit: float
    risk_logit: float  # of falling silent, per working day
    quick_close: float  # of a session without success
    extra_session: float
    errors: float
    helps: float
    tickets: float  # times the usual rate
    surface: float  # a surface task
    prompts: float  # mean a day
    prompt_characters: float
    training_lead_days: int


TRAITS: Mapping[str, ModeTraits] = {
    HEALTHY: ModeTraits(60, 0.3, 0.80, 1.0, -0.6, 0.08, 0.30, 0.03, 0.06, 1.0, 0.15, 5.0, 180, 2),
    FailureMode.ONE_SHOT_TRAINING: ModeTraits(10, 0.3, 0.85, 0.9, 0.1, 0.12, 0.30, 0.05, 0.01, 0.6, 0.15, 4.0, 150, 14),
    FailureMode.NO_ROLE_USE_CASES: ModeTraits(40, 0.3, 0.55, 0.6, 0.2, 0.10, 0.30, 0.04, 0.05, 0.8, 0.60, 3.0, 120, 3),
    FailureMode.LEADERSHIP_ABSENT: ModeTraits(40, -0.2, 0.80, 0.8, 0.3, 0.10, 0.20, 0.04, 0.05, 0.6, 0.15, 4.0, 160, 3),
    FailureMode.SURFACE_USE: ModeTraits(40, 0.9, 0.38, 1.0, 0.3, 0.10, 0.30, 0.03, 0.03, 0.3, 0.85, 2.0, 60, 3),
    FailureMode.SILENT_STRUGGLE: ModeTraits(30, 0.5, 0.85, -0.3, 0.1, 0.75, 0.70, 0.30, 0.0, 0.0, 0.10, 3.0, 130, 3),
    FailureMode.COMPLEXITY: ModeTraits(30, 0.4, 0.85, -0.2, 0.1, 0.30, 0.40, 0.12, 0.45, 3.0, 0.10, 8.0, 55, 2),
    FailureMode.WRONG_METRIC: ModeTraits(40, 1.3, 0.45, 0.1, 0.2, 0.05, 0.60, 0.05, 0.04, 0.5, 0.20, 4.0, 110, 3),
}
SURFACE, ABSENT = MODES.index(FailureMode.SURFACE_USE), MODES.index(FailureMode.LEADERSHIP_ABSENT)
KEEPS_LIGHT_USE = (SURFACE, MODES.index(FailureMode.WRONG_METRIC))  # still open the tool when silent

# By how much an intervention lowers the log-odds of falling silent, each day for KEPT_DAYS, where the mode is present.
# Near the shipped expert effects but not equal to them, so that there is something to learn.
RELIEF: Mapping[str, Mapping[str, float]] = {
    "in_context_guidance": {"silent_struggle": 0.26, "complexity": 0.17, "one_shot_training": 0.18},
    "role_use_cases": {"no_role_use_cases": 0.30, "surface_use": 0.13, "wrong_metric": 0.18},
    "peer_champion": {"no_role_use_cases": 0.21, "surface_use": 0.20, "silent_struggle": 0.12},
    "leader_participation": {"leadership_absent": 0.34},
    "safe_practice": {"surface_use": 0.26, "complexity": 0.13},
    "guided_start": {"complexity": 0.26, "silent_struggle": 0.12, "wrong_metric": 0.14},
    "refresher": {"one_shot_training": 0.23},
    "coach_call": {"silent_struggle": 0.24, "complexity": 0.21, "one_shot_training": 0.15},
}
CONTACT_COST = -0.03  # any intervention that does not answer the seat's mode
CONFIDENT_COST = -0.40  # contact of a confident regular user: an interruption
WORRIED_MANAGER_COST = -0.25  # the manager's involvement, to a worried person: a threat
WORRIED = 0.7  # worry above this
RETURN_PER_WORKDAY = 0.0025  # a silent seat comes back by itself
LAPSED_LOGIT = 0.7  # and is readier to fall silent again

HOLDOUT_TEAMS = 0.15
CONSIDERED_PER_WEEK = 0.3  # a seat comes before the logging policy, from its second week on
FLOOR = 0.01  # least probability of an eligible intervention
OBSERVED_DAYS = 14  # the logging policy looks back this far, behind the vendor's lag

# Purposes of random numbers. Traits are drawn once, on a day of their own.
TRAIT_DAY = 100_000
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
PURPOSES_PER_DAY = 64
TEAM_SPACE = 1 << 40


def _mix(x: Keys) -> Keys:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014, fig. 16), in place."""
    x ^= x >> np.uint64(30)
    x *= _MIX_1
    x ^= x >> np.uint64(27)
    x *= _MIX_2
    x ^= x >> np.uint64(31)
    return x


def keys(seed: int, index: Ints) -> Keys:
    """One 64-bit key per seat (or team) number, (n,)."""
    salt = _mix(np.array([seed + 1], dtype=np.uint64) * _GOLDEN)
    return _mix((index.astype(np.uint64) + np.uint64(1)) * _GOLDEN ^ salt)


def uniforms(key: Keys, day: Ints | int, purpose: int) -> tuple[Floats, Floats]:
    """Two fixed uniforms in (0, 1) per key, day and purpose; key and day broadcast. 23 bits each."""
    # At least one dimension: NumPy warns when a scalar wraps around, which is what a hash does.
    counter = np.atleast_1d(np.asarray(day, dtype=np.uint64)) * np.uint64(PURPOSES_PER_DAY) + np.uint64(purpose + 1)
    bits = _mix(key + counter * _GOLDEN)
    scale = np.float32(2.0**-23)
    first = ((bits >> np.uint64(41)).astype(np.float32) + np.float32(0.5)) * scale
    second = ((bits & np.uint64(0x7FFFFF)).astype(np.float32) + np.float32(0.5)) * scale
    return first, second


def bell(u: Floats) -> Floats:
    """A uniform as a draw of mean 0 and standard deviation 1 (logistic quantile)."""
    scaled: Floats = (np.log(u / (1 - u)) * np.float32(0.5513)).astype(np.float32)  # sqrt(3) / pi
    return scaled


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x))."""
    value: Floats = np.float32(1) / (np.float32(1) + np.exp(-x))
    return value


@dataclass(frozen=True)
class People:
    """Who holds the seats of a block: fixed traits, one array (n,) per trait. Days count from the rollout's start.

    team: number within the organisation. manager, director, champion: seat numbers, -1 where there is none.
    relief: (n, arms) by how much each intervention lowers the log-odds of silence, at effect size 1.
    """

    number: Ints
    key: Keys
    team: Ints
    function: Ints
    role: Ints
    region: Ints
    mode: Ints
    team_mode: Ints
    worry: Floats
    skill: Floats
    need: Floats
    hidden: Floats
    untraced: Floats
    is_manager: Bools
    is_champion: Bools
    manager: Ints
    director: Ints
    champion: Ints
    holdout: Bools
    assigned_day: Ints
    removed_day: Ints
    training_lead: Ints
    tenure_days: Ints
    leave_start: Ints
    leave_days: Ints
    relief: Floats


def team_starts(rollout: Rollout) -> Ints:
    """First seat of each team, and the number of seats at the end: (teams + 1,). More seats only add teams."""
    spread = max(1, rollout.team_size // 3)
    at_most = rollout.seats // max(1, rollout.team_size - spread) + 2
    u, _ = uniforms(keys(rollout.seed, np.arange(at_most) + TEAM_SPACE), TRAIT_DAY, 0)
    sizes = rollout.team_size - spread + (u * (2 * spread + 1)).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    starts = starts[starts <= rollout.seats - min(3, rollout.seats)]
    return np.concatenate([starts, [rollout.seats]]).astype(np.int64)


def people(rollout: Rollout, starts: Ints, first: int, last: int) -> People:
    """The people of teams [first, last)."""
    sizes = np.diff(starts[first : last + 1])
    local = (starts[first:last] - starts[first]).astype(np.int64)
    team = np.repeat(np.arange(first, last), sizes)
    number = np.arange(starts[first], starts[last])
    key, team_key = keys(rollout.seed, number), keys(rollout.seed, np.arange(first, last) + TEAM_SPACE)
    function, team_mode = _team_modes(team_key)
    _, u_region = uniforms(team_key, TRAIT_DAY, 3)
    region = np.searchsorted(np.array([0.5, 0.8]), u_region)
    u_wave, u_holdout = uniforms(team_key, TRAIT_DAY, 4)
    u_champion, _ = uniforms(team_key, TRAIT_DAY, 5)
    u_worry, u_skill = uniforms(key, TRAIT_DAY, 10)
    u_need, u_hidden = uniforms(key, TRAIT_DAY, 11)
    u_untraced, u_member = uniforms(key, TRAIT_DAY, 12)
    u_role, u_leaver = uniforms(key, TRAIT_DAY, 13)
    u_removed, u_tenure = uniforms(key, TRAIT_DAY, 14)
    leave_start, leave_days = _leave(key, rollout.days)

    is_manager = np.zeros(len(number), dtype=bool)
    is_manager[local] = True
    mode = np.where(u_member < MEMBER_SHARE, np.repeat(team_mode, sizes), 0)
    mode = np.where(is_manager & (np.repeat(team_mode, sizes) == ABSENT), ABSENT, mode)
    skill = bell(u_skill)
    worry = np.clip(u_worry * 0.75 + 0.3 * (mode == SURFACE), 0, 1).astype(np.float32)
    # The most able and least worried member is the champion of a team that has one.
    fitness = np.where(is_manager, -100, skill - 2 * worry)
    best = np.maximum.reduceat(fitness, local)
    is_champion = (fitness == np.repeat(best, sizes)) & np.repeat(u_champion < 0.7, sizes)
    champion = np.full(last - first, -1)
    champion[team[is_champion] - first] = number[is_champion]
    mode = np.where(is_champion, 0, mode)
    skill = np.where(is_champion, np.maximum(skill, 0) + 1, skill).astype(np.float32)
    lead = np.array([TRAITS[name].training_lead_days for name in MODES])[team_mode]
    group = np.arange(first, last) // 8 * 8  # eight teams report to the manager of the first of them
    director = np.where(group == np.arange(first, last), -1, starts[group])
    return People(
        number=number,
        key=key,
        team=team,
        function=np.repeat(function, sizes),
        role=np.repeat(function, sizes) * 2 + (u_role < 0.4),
        region=np.repeat(region, sizes),
        mode=mode,
        team_mode=np.repeat(team_mode, sizes),
        worry=worry,
        skill=skill,
        need=(0.25 + 0.4 * u_need).astype(np.float32),
        hidden=bell(u_hidden),
        untraced=bell(u_untraced),
        is_manager=is_manager,
        is_champion=is_champion,
        manager=np.repeat(starts[first:last], sizes),
        director=np.repeat(director, sizes),
        champion=np.repeat(champion, sizes),
        holdout=np.repeat(u_holdout < HOLDOUT_TEAMS, sizes),
        assigned_day=np.repeat(np.array([0, 4, 7, 11, 14, LAST_WAVE_DAY])[(u_wave * 6).astype(int)], sizes),
        removed_day=np.where(u_leaver < 0.04, 40 + (u_removed * 320).astype(np.int64), 10 * MAX_DAYS),
        training_lead=np.repeat(lead, sizes),
        tenure_days=(30 + 4000 * u_tenure**2).astype(np.int64),
        leave_start=leave_start,
        leave_days=leave_days,
        relief=_relief(mode, skill, worry, is_champion),
    )


def _team_modes(team_key: Keys) -> tuple[Ints, Ints]:
    u_function, u_kind = uniforms(team_key, TRAIT_DAY, 1)
    u_other, _ = uniforms(team_key, TRAIT_DAY, 2)
    function = (u_function * len(FUNCTIONS)).astype(np.int64)
    own = np.array([MODES.index(str(mode)) for mode in FUNCTION_MODE])[function]
    other = 1 + (u_other * (len(MODES) - 1)).astype(np.int64)
    mode = np.where(u_kind < OWN_MODE_SHARE, own, np.where(u_kind < OWN_MODE_SHARE + OTHER_MODE_SHARE, other, 0))
    return function, mode


def _leave(key: Keys, days: int) -> tuple[Ints, Ints]:
    """Start and length of a holiday per quarter of a year that has one, (n, 90-day periods)."""
    periods = (days + TRUTH_DAYS) // 90 + 1
    start = np.zeros((len(key), periods), dtype=np.int64)
    length = np.zeros((len(key), periods), dtype=np.int64)
    for period in range(periods):
        u_start, u_taken = uniforms(key, TRAIT_DAY, 20 + period)
        start[:, period] = 90 * period + (u_start * 75).astype(np.int64)
        length[:, period] = np.select([u_taken < 0.25, u_taken < 0.55], [14, 7], 0)
    return start, length


def _relief(mode: Ints, skill: Floats, worry: Floats, is_champion: Bools) -> Floats:
    table = np.full((len(MODES), len(ARMS)), CONTACT_COST, dtype=np.float32)
    table[:, 0] = 0
    for arm, answers in RELIEF.items():
        for name, log_odds in answers.items():
            table[MODES.index(name), ARMS.index(arm)] = log_odds
    relief: Floats = table[mode]
    relief[confident(mode, skill) | is_champion, 1:] = CONFIDENT_COST
    worried = worry > WORRIED
    relief[worried, LEADER] = WORRIED_MANAGER_COST
    return relief


def confident(mode: Ints, skill: Floats) -> Bools:
    """Regular users whom nothing ails and who know it: contact is an interruption."""
    healthy: Bools = mode == 0
    return healthy & (skill > 0)


@dataclass(frozen=True)
class Paths:
    """What seats would do while not silent: arrays (days, n); odds (days + KEPT_DAYS, n) of falling silent that day.

    odds are at an intercept of 0 and without interventions; 0 on days off. workday includes leave and holidays as False.
    """

    workday: Bools
    used: Bools
    attempted: Bools
    succeeded: Bools
    confidence: Floats
    frustration: Floats
    uncertainty: Floats
    odds: Floats


def workdays(rollout: Rollout, group: People, days: int) -> Bools:
    """(days, n): assigned and neither weekend, public holiday nor leave."""
    dates = [rollout.start + timedelta(days=day) for day in range(days)]
    free = np.array([[d.weekday() >= 5 or (d.month, d.day) in holidays for holidays in HOLIDAYS] for d in dates])
    day = np.arange(days)[:, None]
    open_: Bools = ~free[:, group.region] & (day >= group.assigned_day)
    return open_ & ~on_leave(group, days)


def on_leave(group: People, days: int) -> Bools:
    """(days, n): the seat's person is on leave."""
    day = np.arange(days)[:, None]
    away = np.zeros((days, len(group.number)), dtype=bool)
    for start, length in zip(group.leave_start.T, group.leave_days.T, strict=True):
        away |= (day >= start) & (day < start + length)
    return away


def _of_mode(attribute: str, mode: Ints) -> Floats:
    return np.array([getattr(TRAITS[name], attribute) for name in MODES], dtype=np.float32)[mode]


def walk(rollout: Rollout, group: People) -> Paths:
    """The paths of a block: habit, confidence, memory of training and frustration, day by day."""
    total, n, f4 = rollout.days + KEPT_DAYS, len(group.number), np.float32
    workday = workdays(rollout, group, total)
    used, attempted, succeeded = (np.zeros((rollout.days, n), dtype=bool) for _ in range(3))
    shown_confidence, shown_frustration, shown_uncertainty = (np.zeros((rollout.days, n), dtype=f4) for _ in range(3))
    odds = np.zeros((total, n), dtype=f4)

    absent_manager = group.is_manager & (group.mode == ABSENT)
    session_logit = _of_mode("session_logit", group.mode) - 2 * absent_manager - f4(1.0) + group.is_champion
    attempts = _of_mode("attempts", group.mode)
    success_logit = _of_mode("success_logit", group.mode) + f4(0.5) * group.skill
    half_life = _of_mode("memory_half_life_days", group.mode)
    forgetting = np.exp2(-1 / half_life)
    restoring = f4(0.18) * np.minimum(half_life / 40, 1)  # who forgets fast also keeps less of a success
    risk_logit = (
        _of_mode("risk_logit", group.mode)
        + f4(0.8) * (group.worry - f4(0.4))
        + f4(0.4 * rollout.noise) * group.untraced
        + f4(rollout.confounding) * group.hidden
        + f4(2) * absent_manager
        - f4(1) * group.is_champion
    ).astype(f4)
    age_of_day = np.arange(total + LAST_WAVE_DAY + 1, dtype=f4) - LAST_WAVE_DAY
    novelty_by_age = np.where(age_of_day < 0, 0, np.exp(-age_of_day / 12)).astype(f4)
    # Weeks 3 and 4 are when curiosity has worn off (the brief's second warning); the first days lose nobody.
    bump_by_age = (1.4 * np.exp(-(((age_of_day - 20.5) / 5) ** 2) / 2) - 3 * np.exp(-age_of_day / 3)).astype(f4)

    memory = (forgetting**group.training_lead).astype(f4)
    habit, frustration, mood = (np.full(n, level, dtype=f4) for level in (0.25, 0.1, 0.0))
    confidence = np.clip(f4(0.5) + f4(0.08) * group.skill - f4(0.2) * (group.worry - f4(0.4)), 0.1, 0.9).astype(f4)
    for day in range(total):
        at_work = workday[day]
        age = np.maximum(day - group.assigned_day, -LAST_WAVE_DAY) + LAST_WAVE_DAY
        u_session, u_attempt = uniforms(group.key, day, 0)
        u_success, u_mood = uniforms(group.key, day, 1)
        mood = f4(0.85) * mood + f4(1.2 * rollout.noise) * (u_mood - f4(0.5))
        opens = at_work & (u_session < sigmoid(session_logit + f4(1.8) * habit + novelty_by_age[age] + f4(0.6) * mood))
        tries = opens & (u_attempt < attempts * (f4(0.6) + f4(0.6) * confidence))
        succeeds = tries & (u_success < sigmoid(success_logit + f4(2.4) * (memory - f4(0.4))))
        uncertainty = np.clip(f4(0.55) * (1 - memory) + f4(0.6) * (f4(0.9) - confidence), 0, 1)
        logit = (
            risk_logit
            + f4(1.8) * (f4(0.4) - habit)
            + f4(1.6) * frustration
            + f4(1.4) * (uncertainty - f4(0.4))
            + bump_by_age[age]
        )
        odds[day] = np.exp(logit) * at_work
        if day < rollout.days:
            used[day], attempted[day], succeeded[day] = opens, tries, succeeds
            shown_confidence[day], shown_frustration[day], shown_uncertainty[day] = confidence, frustration, uncertainty
        success, failure = succeeds.astype(f4), (tries & ~succeeds).astype(f4)
        idle = (at_work & ~opens).astype(f4)
        memory = memory * np.where(day >= group.assigned_day, forgetting, 1) + restoring * success * (1 - memory)
        habit += f4(0.09) * success * (1 - habit) - (f4(0.03) * idle + f4(0.02) * failure) * habit
        confidence += f4(0.07) * success * (1 - confidence) - f4(0.09) * failure * confidence
        frustration = frustration * (f4(0.97) - f4(0.2) * success) + f4(0.16) * failure * (1 - frustration)
    return Paths(workday, used, attempted, succeeded, shown_confidence, shown_frustration, shown_uncertainty, odds)


@dataclass(frozen=True)
class Logged:
    """Decisions of the logging policy, one row each, by day and seat. seat: position in the block.

    probabilities: (decisions, arms), 0 where not eligible.
    """

    seat: Ints
    day: Ints
    arm: Ints
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """What came of a block. silent: (days + KEPT_DAYS + 1, n) at the start of each day; lapsed: has been silent before.

    boosted_until, boost: (weeks, n): an earlier intervention still at work at each weekly snapshot, until which day, and
    the factor it puts on the odds.
    """

    silent: Bools
    lapsed: Bools
    logged: Logged
    boosted_until: Ints
    boost: Floats


@lru_cache(maxsize=64)
def _calibrated(pilot: Rollout) -> float:
    starts = team_starts(pilot)
    group = people(pilot, starts, 0, len(starts) - 1)
    odds = walk(pilot, group).odds
    low, high = -14.0, 4.0  # from nobody silent to everybody
    for _ in range(22):
        middle = (low + high) / 2
        silent = _undisturbed(group, odds * np.float32(np.exp(middle)))
        at = group.assigned_day + CALIBRATION_DAYS
        share = silent[at, np.arange(len(at))].mean()
        low, high = (middle, high) if share < pilot.silent_share else (low, middle)
    return (low + high) / 2


def intercept(rollout: Rollout) -> float:
    """The log-odds that hit `silent_share`, found on a pilot rollout with the same mechanisms and its own seed."""
    pilot = replace(
        rollout,
        seats=PILOT_SEATS,
        days=LAST_WAVE_DAY + CALIBRATION_DAYS,
        seed=PILOT_SEED,
        organization="pilot",
        tool="",
        effect_size=0.0,
        lag_days=0,
        interventions=False,
    )
    return _calibrated(pilot)


def _undisturbed(group: People, odds: Floats) -> Bools:
    silent = np.zeros((len(odds) + 1, len(group.number)), dtype=bool)
    lapsed = np.zeros(len(group.number), dtype=bool)
    for day, today in enumerate(odds):
        silent[day + 1] = step(group.key, day, silent[day], lapsed, today, np.float32(1))
        lapsed |= silent[day + 1]
    return silent


def step(key: Keys, day: int, silent: Bools, lapsed: Bools, odds: Floats, boost: Floats | np.float32) -> Bools:
    """Who is silent after `day`: the active fall silent, the silent come back (odds 0 marks a day off)."""
    u_silence, u_return = uniforms(key, day, 2)
    falls = u_silence < hazard(odds, lapsed, boost)
    returns = u_return < comeback(odds, boost)
    return np.where(silent, ~returns, falls)


def hazard(odds: Floats, lapsed: Bools, boost: Floats | np.float32) -> Floats:
    """Probability that an active seat falls silent on a day. boost: factor that an intervention puts on the odds."""
    raised = odds * boost * np.where(lapsed, np.float32(np.exp(LAPSED_LOGIT)), np.float32(1))
    value: Floats = raised / (1 + raised)
    return value


def comeback(odds: Floats, boost: Floats | np.float32) -> Floats:
    """Probability that a silent seat comes back on a day; an intervention that answers its mode makes it likelier."""
    value: Floats = np.where(odds > 0, np.float32(RETURN_PER_WORKDAY) / boost, np.float32(0))
    return value


def course(
    rollout: Rollout, group: People, paths: Paths, odds: Floats, forced: Mapping[tuple[int, int], int]
) -> Course:
    """Silence and decisions, day by day.

    odds: (days + KEPT_DAYS, n) with the intercept in. forced: (seat number, day) of a logged decision to the arm that is
    taken in place of the drawn one.
    """
    total, n = len(odds), len(group.number)
    silent, ever = np.zeros((total + 1, n), dtype=bool), np.zeros((total + 1, n), dtype=bool)
    boost, until = np.ones(n, dtype=np.float32), np.full(n, -1, dtype=np.int64)
    coached = np.full(n, -COACH_COOLDOWN_DAYS, dtype=np.int64)
    counts = np.zeros((3, n), dtype=np.float32)
    weeks_until, weeks_boost = [], []
    rows: list[Logged] = []
    slot = (uniforms(group.key, TRAIT_DAY, 15)[0] * 5).astype(np.int64)
    light, _ = light_use(group)
    for day in range(total):
        seen = day - rollout.lag_days
        if day < rollout.days:
            for at, sign in ((seen - 1, 1), (seen - 1 - OBSERVED_DAYS, -1)):
                if at >= 0:
                    counts += np.float32(sign) * _observed(group, paths, silent[at], at, light)
            if day % 7 == 0:
                weeks_until.append(until.copy())
                weeks_boost.append(boost.copy())
            today = (rollout.start.weekday() + day) % 7
            asked = (slot == today) & paths.workday[day] & (day >= group.assigned_day + 7) & (day < group.removed_day)
            seats = np.flatnonzero(asked & (until <= day)) if rollout.interventions else np.empty(0, dtype=np.int64)
            if len(seats):
                logged = _decide(rollout, group, seats, day, counts[:, seats], coached, forced)
                rows.append(logged)
                acted = logged.arm > 0
                where, arm = logged.seat[acted], logged.arm[acted]
                until[where] = day + KEPT_DAYS
                boost[where] = np.exp(np.float32(-rollout.effect_size) * group.relief[where, arm])
                coached[where[arm == COACH]] = day
        working = np.where(until > day, boost, np.float32(1))
        silent[day + 1] = step(group.key, day, silent[day], ever[day], odds[day], working)
        ever[day + 1] = ever[day] | silent[day + 1]
    return Course(silent, ever, _joined(rows), np.array(weeks_until), np.array(weeks_boost))


def light_use(group: People) -> tuple[Floats, Bools]:
    """Share of its usual days on which a silent seat still opens the tool, (n,), and whether it does so habitually."""
    keeps = np.isin(group.mode, KEEPS_LIGHT_USE)
    return np.where(keeps, np.float32(0.9), np.float32(0.06)), keeps


def shown_use(group: People, paths: Paths, silent: Bools, day: int | slice, light: Floats) -> Bools:
    """Whether the tool was opened: on all days of the path while active, on few of them while silent."""
    days = np.arange(len(paths.used))[day]
    u_light, _ = uniforms(group.key, days[..., None] if days.ndim else days, 3)
    return paths.used[day] & (~silent | (u_light < light)) & (days[..., None] < group.removed_day)


def _observed(group: People, paths: Paths, silent: Bools, day: int, light: Floats) -> Floats:
    used = shown_use(group, paths, silent, day, light)
    succeeded = paths.succeeded[day] & used & ~silent
    failed = paths.attempted[day] & used & ~silent & ~succeeded
    return np.stack([used, succeeded, failed]).astype(np.float32)


def _decide(
    rollout: Rollout,
    group: People,
    seats: Ints,
    day: int,
    counts: Floats,
    coached: Ints,
    forced: Mapping[tuple[int, int], int],
) -> Logged:
    u_asked, u_arm = uniforms(group.key[seats], day, 4)
    kept = u_asked < CONSIDERED_PER_WEEK
    seats, counts, u_arm = seats[kept], counts[:, kept], u_arm[kept]
    eligible = np.ones((len(seats), len(ARMS)), dtype=bool)
    eligible[:, PEER] = (group.champion[seats] >= 0) & ~group.is_champion[seats]
    eligible[:, LEADER] = ~group.is_manager[seats]
    eligible[:, COACH] = day >= coached[seats] + COACH_COOLDOWN_DAYS
    eligible[group.holdout[seats], 1:] = False
    probabilities = propensities(counts, group.hidden[seats] * rollout.confounding, eligible)
    reached = np.cumsum(probabilities, axis=1)
    arm = np.minimum((u_arm[:, None] > reached).sum(axis=1), len(ARMS) - 1)
    arm = np.where(np.take_along_axis(probabilities, arm[:, None], axis=1)[:, 0] > 0, arm, 0)  # rounding at the end
    if forced:
        numbers = group.number[seats]
        arm = np.array([forced.get((int(n), day), int(a)) for n, a in zip(numbers, arm, strict=True)], dtype=np.int64)
    return Logged(seats, np.full(len(seats), day), arm, probabilities)


def propensities(counts: Floats, hidden: Floats, eligible: Bools) -> NDArray[np.float64]:
    """The logging policy: probabilities over the arms, at least FLOOR where eligible, 0 elsewhere; (n, arms).

    counts: (3, n) days with use, with success and with failure in the observed window; hidden: (n,) the trait that is
    never shown, times the knob. It looks at the same signals that foretell silence, hence the confounding.
    """
    used, succeeded, failed = counts.astype(np.float64)
    idle, shallow, stuck = used == 0, (used > 0) & (succeeded == 0), np.minimum(failed, 5)
    urge = 1.4 * idle + 1.1 * shallow + 0.35 * stuck + 1.2 * hidden.astype(np.float64)
    contact = 0.1 + 0.5 / (1 + np.exp(1.6 - urge))
    leaning = np.zeros((len(used), len(ARMS)))
    leaning[:, ARMS.index("in_context_guidance")] = 0.3 * stuck
    leaning[:, ARMS.index("guided_start")] = 0.3 * stuck
    leaning[:, ARMS.index("role_use_cases")] = 0.8 * shallow
    leaning[:, ARMS.index("safe_practice")] = 0.6 * shallow
    leaning[:, ARMS.index("refresher")] = 0.9 * idle
    leaning[:, COACH] = 0.5 * idle + 0.2 * stuck
    weight = np.where(eligible, np.exp(leaning), 0)
    weight[:, 0] = 0
    others = (eligible[:, 1:]).sum(axis=1, keepdims=True)
    spread = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    arms: NDArray[np.float64] = np.where(eligible, FLOOR, 0) + (contact[:, None] - FLOOR * others) * spread
    arms[:, 0] = 0
    arms[:, 0] = 1 - arms.sum(axis=1)
    return arms


def _joined(rows: list[Logged]) -> Logged:
    if not rows:
        none = np.empty(0, dtype=np.int64)
        return Logged(none, none, none, np.empty((0, len(ARMS))))
    names = ("seat", "day", "arm", "probabilities")
    return Logged(*(np.concatenate([getattr(row, name) for row in rows]) for name in names))


@dataclass(frozen=True)
class Effects:
    """What each decision could have done: arrays (decisions, arms).

    kept: probability of being active KEPT_DAYS later given the path, with nothing else done in between.
    realised: whether the seat would have been, by the fixed random numbers, its other logged decisions staying as they
    are; column of the logged arm: what happened.
    """

    kept: Floats
    realised: Bools


def effects(rollout: Rollout, group: People, odds: Floats, came: Course) -> Effects:
    """The true effect of every arm at every logged decision (see Effects)."""
    logged, n_arms = came.logged, len(ARMS)
    seat, day = logged.seat, logged.day
    own = np.exp(np.float32(-rollout.effect_size) * group.relief[seat])
    other, other_from = _next_boost(logged, own)
    silent, lapsed = came.silent[day, seat], came.lapsed[day, seat]
    p_first = np.repeat((~silent & ~lapsed).astype(np.float32)[:, None], n_arms, axis=1)
    p_later = np.repeat((~silent & lapsed).astype(np.float32)[:, None], n_arms, axis=1)
    p_silent = np.repeat(silent.astype(np.float32)[:, None], n_arms, axis=1)
    state, past = np.repeat(silent[:, None], n_arms, axis=1), np.repeat(lapsed[:, None], n_arms, axis=1)
    fresh, worn = np.zeros((1, 1), dtype=bool), np.ones((1, 1), dtype=bool)
    key = group.key[seat]
    for ahead in range(KEPT_DAYS):
        at = day + ahead
        today = odds[at, seat][:, None]
        falls_first, falls_later, back = hazard(today, fresh, own), hazard(today, worn, own), comeback(today, own)
        p_first, p_later, p_silent = (
            p_first * (1 - falls_first),
            p_later * (1 - falls_later) + p_silent * back,
            p_silent * (1 - back) + p_first * falls_first + p_later * falls_later,
        )
        # A later logged decision takes over only where this one did nothing, as cooldown has it.
        factor = np.where((at >= other_from)[:, None], own * other[:, None], own)
        u_silence, u_return = (u[:, None] for u in uniforms(key, at, 2))
        state = np.where(state, ~(u_return < comeback(today, factor)), u_silence < hazard(today, past, factor))
        past = past | state
    return Effects(p_first + p_later, ~state)


def _next_boost(logged: Logged, own: Floats) -> tuple[Floats, Ints]:
    """For each decision, the factor of the seat's next intervention and the day on which it starts (never: far away)."""
    n = len(logged.seat)
    order = np.lexsort((logged.day, logged.seat))
    acted = np.flatnonzero(logged.arm[order] > 0)
    following = np.searchsorted(acted, np.arange(n), side="right")
    later = order[np.append(acted, 0)[following]] if n else order
    exists = (following < len(acted)) & (logged.seat[later] == logged.seat[order])
    factor, start = np.ones(n, dtype=np.float32), np.full(n, 100 * MAX_DAYS)
    factor[order] = np.where(exists, own[later, logged.arm[later]], np.float32(1))
    start[order] = np.where(exists, logged.day[later], 100 * MAX_DAYS)
    return factor, start


def weekly_risk(odds: Floats, came: Course, weeks: int) -> dict[int, Floats]:
    """Horizon in days to the true probability (weeks, n) that silence has begun by then if nothing more is done."""
    horizons = (0, 7, 14, KEPT_DAYS)
    risk = {horizon: np.empty((weeks, odds.shape[1]), dtype=np.float32) for horizon in horizons}
    for week in range(weeks):
        day = 7 * week
        survives = (~came.silent[day]).astype(np.float32)
        for ahead in range(KEPT_DAYS + 1):
            if ahead in risk:
                risk[ahead][week] = 1 - survives
            if ahead < KEPT_DAYS:
                working = np.where(came.boosted_until[week] > day + ahead, came.boost[week], np.float32(1))
                survives = survives * (1 - hazard(odds[day + ahead], came.lapsed[day], working))
    return risk
