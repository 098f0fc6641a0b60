"""What is judged beside the features themselves: how much is done on an active day, whatever the calendar.

How often people work moves with the calendar: public holidays fall into some weeks and not into others, and a reference knows
only a few weeks. So an amount over a window says little about a change by a third. What is done on a day on which something is
done hardly knows the calendar; it moves where a tool or a source counts differently.
"""

import re

import polars as pl

from features.catalogue import BY_NAME, FEATURES, Feature

_WINDOW = re.compile(r"_(7|14|28|56)$|_weeks_8$")
_AMOUNTS = frozenset({"days", "weeks", "uses", "sessions", "prompts", "tasks", "errors", "lookups", "failures"})

# Amounts over a window, which the calendar moves: fewer working days, less of everything.
CALENDAR = frozenset(f.name for f in FEATURES if f.unit in _AMOUNTS and _WINDOW.search(f.name))


def _per(days: str, *amounts: str) -> dict[str, tuple[str, str]]:
    return {f"{BY_NAME[amount].name}_per_{days.rpartition('_')[0][:-1]}": (amount, days) for amount in amounts}


# By name the amount and the days that it is divided by; null where there was no such day.
RATES = {
    **_per("active_days_7", "uses_7", "sessions_7", "meaningful_7"),
    **_per("active_days_28", "uses_28", "sessions_28", "prompts_28", "meaningful_28", "errors_28", "help_28"),
    **_per("work_days_7", "unassisted_7"),
    **_per("work_days_28", "unassisted_28"),
}


def feature_of(name: str) -> Feature:
    """The feature of a column: of a rate that of its amount."""
    return BY_NAME[RATES[name][0] if name in RATES else name]


def column(frame: pl.DataFrame, name: str) -> pl.Series:
    """The values of a column of COMPARED or of RATES; null where they are missing."""
    if name not in RATES:
        return frame[name]
    amount, days = RATES[name]
    return frame.select(pl.when(pl.col(days) > 0).then(pl.col(amount) / pl.col(days)).alias(name)).to_series()
