"""What a monitor says, how urgent it is, and what it judges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

from features.log import Arrivals
from features.scorer import Scorer
from features.sources import Source
from monitoring.drift import Moved
from monitoring.truth import Truth
from monitoring.windows import Window

NAMED_AT_MOST = 5  # our choice: worst columns or feeds that a finding names
NOISE_SD = 3.29  # two-sided quantile of the normal for a false alarm in a thousand, as for the index
COUNTED = "Counted, not estimated."
RARE = "Chance alone shows that in less than one run of a thousand."


class Severity(IntEnum):
    """How urgent a finding is; its number is the exit status of a run."""

    INFO = 0  # worth knowing; nobody is called
    WATCH = 10  # look within days: something moved that the model or the people may feel
    ACT = 20  # today: decisions are wrong, or will be


@dataclass(frozen=True)
class Finding:
    """One thing that changed. value and threshold are of `measure`; affected: share of scores that have it, in [0, 1], or None.

    sure: in words, how sure it is. decisions: share of the decisions whom to alert on that it changes, None where unknown.
    """

    monitor: str
    severity: Severity
    changed: str
    measure: str
    value: float
    threshold: float
    affected: float | None
    cause: str
    action: str
    sure: str
    decisions: float | None = None


@dataclass(frozen=True)
class Evidence:
    """What monitors judge. moved: empty where the window is too small for a verdict. arrivals: of the window, by source.

    rhythm: by source, the longest silence that it made before.
    """

    window: Window
    moved: Moved
    sources: Sequence[Source]
    now: datetime
    scorer: Scorer | None = None
    arrivals: Sequence[Arrivals] = ()
    rhythm: Mapping[str, timedelta] = field(default_factory=dict)
    truth: Truth | None = None


def watch_or_act(is_urgent: bool) -> Severity:
    """ACT where it is urgent, else WATCH."""
    return Severity.ACT if is_urgent else Severity.WATCH


def listed(items: Sequence[str]) -> str:
    """The first NAMED_AT_MOST items, and how many more there are."""
    more = len(items) - NAMED_AT_MOST
    return "; ".join(items[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
