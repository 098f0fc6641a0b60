"""How far each column of a window moved from the reference, beyond what chance alone makes.

Effect sizes, not p-values: the population stability index, the Jensen–Shannon distance and, for numbers, the earth mover's
distance in standard deviations; as Evidently has them, which draws the report (`monitoring.drawing`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from features.catalogue import BY_NAME, FEATURES, Group
from monitoring.bins import column_of
from monitoring.chance import MISSING, Binned, by_chance, distances, limit
from monitoring.rates import CALENDAR, RATES, column
from monitoring.windows import COMPARED, MIN_SEATS, RISK, Window

RUN_ALPHA = (
    0.005  # chance that anything in an unchanged window is called moved: half of what a run may (one in a hundred)
)
FLOOR = 0.10  # of each measure: below it a shift is of no account, however sure (Evidently's default; Yurdakul 2018 for PSI)
SHARE_FLOOR = 0.02  # of shares: fewer in a hundred are no finding
LARGE = 0.25  # of the PSI: a real shift by tradition (Yurdakul 2018, abstract)
OLD_SHARE = (
    0.5  # our choice: with more seats older than the reference than this, columns have to move OLD_FACTOR as far
)
OLD_FACTOR = 2.0  # our choice
# Our choice, for amounts over a window. Of 9 weeks that are compared, a window of 28 days leaves two that share no day: what
# holidays do to it cannot be read off the reference. A source that stops moves them twenty times as far.
CALENDAR_FACTOR = 2.0
OLDER_AT_ALL = 0.05  # our choice: with more than so many older seats, what only grows with time is not judged
ALERT_QUANTILE = 0.9  # the riskiest tenth of the reference: the fixed alert rate at which the model is evaluated
SEED = 0  # of the resampling: the same window gets the same limits

Floats = npt.NDArray[np.float64]


def _names(*names: str) -> frozenset[str]:
    return frozenset(BY_NAME[name].name for name in names)


# What the calendar alone moves. Seats are matched by their age, tenure grows by itself, and how long ago somebody was due
# to use the tool depends on the weekday, of which a reference may know only one.
MATCHED = _names("life_days", "life_week", "tenure_days", "meaningful_overdue")
# One number for everybody in a role or organisation: there is one of it, however many seats show it.
SHARED = _names("role_size", "role_share_28", "leaders_share_28", "leaders")
GROWING = frozenset(f.name for f in FEATURES if f.group is Group.ONBOARDING) | _names(
    "meaningful_ever", "surveys_asked_180", "response_share_180", "days_since_survey", "days_since_intervention"
)


@dataclass(frozen=True)
class Drift:
    """How far one column moved. values, limits: by measure; chance alone stays below the limits (see `by_chance`)."""

    name: str
    values: Mapping[str, float]
    limits: Mapping[str, float]
    bins: int

    @property
    def psi(self) -> float:
        """The population stability index."""
        return self.values["psi"]

    @property
    def worst(self) -> str:
        """The measure that is farthest beyond its limit."""
        return max(self.values, key=lambda measure: self.values[measure] / self.limits[measure])

    @property
    def excess(self) -> float:
        """By how many times the worst measure exceeds its limit; below 1 nothing moved."""
        return self.values[self.worst] / self.limits[self.worst]

    @property
    def is_shift(self) -> bool:
        """Whether a person should look."""
        return self.excess >= 1

    @property
    def is_large(self) -> bool:
        """Whether the index alone calls for action."""
        return self.psi >= max(LARGE, self.limits["psi"])


@dataclass(frozen=True)
class Change:
    """A share before and now, and the difference that chance alone stays below."""

    before: float
    now: float
    limit: float

    @property
    def is_shift(self) -> bool:
        """Whether it is more than chance."""
        return abs(self.now - self.before) >= self.limit


@dataclass(frozen=True)
class Moved:
    """What moved. drifts: by column, of those that could be judged; missing: by feature, the share of nulls; alerts: the
    share of seats above the alert threshold, None where the risk cannot be compared.
    """

    drifts: Mapping[str, Drift] = field(default_factory=dict)
    missing: Mapping[str, Change] = field(default_factory=dict)
    alerts: Change | None = None


def judged(window: Window) -> Iterator[str]:
    """The columns that can be judged: those that enough seats on both sides have, and that the calendar does not move."""
    left_out = MATCHED | SHARED | (GROWING if window.older > OLDER_AT_ALL else frozenset())
    for name in (*COMPARED, *RATES):
        known = min(column(side, name).count() for side in (window.reference, window.current))
        if name not in left_out and known >= MIN_SEATS:
            yield name


def alert_threshold(window: Window) -> float:
    """The risk from which on a seat belongs to the riskiest tenth of the reference."""
    return float(np.quantile(window.reference[RISK].drop_nulls().to_numpy(), ALERT_QUANTILE))


def measure(window: Window) -> Moved:
    """Every column that can be judged, every share of nulls and the share of alerts, each with its limit."""
    columns = {name: column_of(window, name) for name in judged(window)}
    shares = {f.name: _nulls(window, f.name) for f in FEATURES if f.name not in MATCHED}
    alerts = _alerts(window) if RISK in columns else None
    asked = {name: binned.binned for name, binned in columns.items()}
    asked |= {f"missing {name}": share.binned for name, share in shares.items()}
    asked |= {} if alerts is None else {"alerts": alerts.binned}
    chance = by_chance(asked, window.blocks, teams=window.teams, seed=SEED)
    alpha = RUN_ALPHA / max(sum(len(found) for found in chance.values()), 1)
    drifts = {}
    for name, binned in columns.items():
        values = {measure: float(value) for measure, value in distances(*binned.shares(), binned.place).items()}
        factor = (OLD_FACTOR if window.older > OLD_SHARE else 1) * (CALENDAR_FACTOR if name in CALENDAR else 1)
        limits = {measure: factor * max(FLOOR, limit(chance[name][measure], alpha)) for measure in values}
        drifts[name] = Drift(name, values, limits, len(binned.labels))
    missing = {name: share.change(limit(chance[f"missing {name}"]["share"], alpha)) for name, share in shares.items()}
    return Moved(drifts, missing, None if alerts is None else alerts.change(limit(chance["alerts"]["share"], alpha)))


@dataclass(frozen=True)
class _Share:
    """Whether each snapshot has something, by side; MISSING where it cannot be said."""

    current: npt.NDArray[np.int64]
    pool: npt.NDArray[np.int64]
    weight: Floats

    @property
    def binned(self) -> Binned:
        return Binned(self.pool, 2, is_share=True)

    def change(self, beyond: float) -> Change:
        known = self.pool != MISSING
        before = float((self.weight * (self.pool == 1)).sum() / self.weight[known].sum()) if known.any() else 0.0
        return Change(before, float((self.current == 1).mean()), max(beyond, SHARE_FLOOR))


def _nulls(window: Window, name: str) -> _Share:
    now, before = (side[name].is_null().to_numpy().astype(np.int64) for side in (window.current, window.pool))
    return _Share(now, before, window.blocks.weight)


def _alerts(window: Window) -> _Share:
    alert = alert_threshold(window)
    now = (window.current[RISK].drop_nulls() >= alert).to_numpy().astype(np.int64)
    before = (window.pool[RISK] >= alert).cast(int).fill_null(MISSING).to_numpy().astype(np.int64)
    return _Share(now, before, window.blocks.weight)
