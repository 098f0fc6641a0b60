"""Scores: the risk of seats with what it rests on, from their online features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from features.diagnosis import Finding, Reason, diagnose, mode_strengths, reasons
from features.live import as_current
from features.rules import strata
from features.scorer import HORIZONS_DAYS, PRODUCT_HORIZON_DAYS, Method
from features.store import STALE_AFTER_HOURS, OnlineRow
from serving.model import LoadedModel

PRODUCT_HORIZON = str(PRODUCT_HORIZON_DAYS)


@dataclass(frozen=True)
class Score:
    """The risk of one seat. risk, low, high: by horizon in days; method: what spoke for this very seat."""

    row: OnlineRow
    stratum: str
    risk: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]
    expected_days: float
    model: LoadedModel
    method: Method
    note: str
    failure_modes: Sequence[Finding]
    reasons: Sequence[Reason] | None


def score_rows(
    rows: Sequence[OnlineRow], model: LoadedModel, *, note: str, explain: bool, now: datetime
) -> list[Score]:
    """The score of each row, in order. note: what is to be said of the model; explain: with reasons; now: a failure mode
    of the last hour shows only where the features are of it.
    """
    if not rows:
        return []
    vectors, categories = np.stack([row.vector for row in rows]), [row.categories for row in rows]
    risk = model.scorer.score(vectors, categories)
    is_learned, stratum = model.scorer.speaks_for(vectors) if explain else np.zeros(len(rows), bool), strata(vectors)
    voices = model.scorer.voices(vectors)
    shown = as_current(vectors, [row.age_seconds(now) for row in rows])
    strengths = {mode: values.tolist() for mode, values in mode_strengths(shown).items()}
    parts = model.scorer.contributions(vectors, categories) if explain and is_learned.any() else {}
    return [
        Score(
            row=row,
            stratum=str(stratum[n]),
            risk=_by_horizon(risk.risk[n]),
            low=_by_horizon(risk.low[n]),
            high=_by_horizon(risk.high[n]),
            expected_days=float(risk.expected_days[n]),
            model=model,
            method=voices[n].method,
            note=_both(voices[n].note, note),
            failure_modes=diagnose(shown[n], strengths={mode: values[n] for mode, values in strengths.items()}),
            reasons=_reasons(row, parts, n, is_learned=bool(is_learned[n])) if explain else None,
        )
        for n, row in enumerate(rows)
    ]


def is_stale(age_s: float) -> bool:
    """Whether features of that age, in seconds, are older than a daily push leaves them."""
    return age_s > STALE_AFTER_HOURS * 3600


def _reasons(row: OnlineRow, parts: Mapping[str, npt.NDArray[np.float64]], n: int, *, is_learned: bool) -> list[Reason]:
    return reasons(row.vector, {name: float(part[n]) for name, part in parts.items()} if is_learned else {})


def _by_horizon(values: npt.NDArray[np.float64]) -> dict[str, float]:
    return {str(days): value for days, value in zip(HORIZONS_DAYS, values.tolist(), strict=True)}


def _both(first: str, second: str) -> str:
    return "; ".join(part for part in (first, second) if part)
