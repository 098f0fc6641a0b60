"""What a drift does to decisions: the share of seats that it moves across the alert threshold."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import polars as pl

from features.catalogue import CATEGORIES, MISSING_CATEGORY, NUMERIC
from features.scorer import HORIZONS_DAYS, PRODUCT_HORIZON_DAYS, Scorer
from monitoring.drift import alert_threshold
from monitoring.windows import Window

IMPACT_ROWS = 5_000  # our choice: scored once per drifted group; a share of 5 % is then known to 1 %

Floats = npt.NDArray[np.float64]


def changed_decisions(scorer: Scorer, window: Window, columns: Collection[str]) -> float:
    """Share of current snapshots that are alerted on only with, or only without, the drift of the features `columns`.

    Without the drift: each number is replaced by the reference's value at the same rank, so a feature that did not
    move changes nothing, and one that became constant turns into the reference's median; a category that the
    reference never had is replaced by its most frequent one. Missing stays missing.
    """
    current = window.current.head(IMPACT_ROWS)  # the sample is in the order of its draw
    undrifted = current.with_columns(
        _as_before(window.reference[feature.name], window.current[feature.name]).head(IMPACT_ROWS)
        for feature in NUMERIC
        if feature.name in columns
    ).with_columns(
        _known_before(window.reference[feature.name], current[feature.name])
        for feature in CATEGORIES
        if feature.name in columns
    )
    return _crossing(scorer, window, current, undrifted)


def lost_decisions(scorer: Scorer, window: Window, columns: Collection[str]) -> float:
    """Share of current snapshots that are alerted on only with, or only without, the values of `columns` that went missing.

    Without the loss: so many missing numbers as the reference has fewer of are filled in with its own, evenly over its ranks.
    """
    current = window.current.head(IMPACT_ROWS)
    whole = current.with_columns(
        _filled(window.reference[feature.name], current[feature.name]) for feature in NUMERIC if feature.name in columns
    )
    return _crossing(scorer, window, current, whole)


def _crossing(scorer: Scorer, window: Window, current: pl.DataFrame, without: pl.DataFrame) -> float:
    threshold = alert_threshold(window)
    return float(np.mean((_risk(scorer, current) >= threshold) != (_risk(scorer, without) >= threshold)))


def _filled(reference: pl.Series, current: pl.Series) -> pl.Series:
    known = reference.drop_nulls().to_numpy()
    rows = np.flatnonzero(current.is_null().to_numpy())
    lost = len(rows) - round(reference.null_count() / max(len(reference), 1) * len(current))
    if lost <= 0 or not len(known):
        return current
    ranks = np.random.default_rng(0).permutation((np.arange(lost) + 0.5) / lost)
    values = current.to_numpy().astype(np.float64)
    values[rows[:lost]] = np.quantile(known, ranks, method="inverted_cdf")
    return pl.Series(current.name, values).fill_nan(None)


def _risk(scorer: Scorer, frame: pl.DataFrame) -> Floats:
    vectors = frame.select(feature.name for feature in NUMERIC).to_numpy()
    categories = frame.select(pl.col(feature.name).fill_null(MISSING_CATEGORY) for feature in CATEGORIES).rows()
    return scorer.score(vectors, categories).risk[:, HORIZONS_DAYS.index(PRODUCT_HORIZON_DAYS)]


def _as_before(reference: pl.Series, current: pl.Series) -> pl.Series:
    known = reference.drop_nulls().to_numpy()
    if not len(known):
        return current
    rank = ((current.rank("average") - 0.5) / max(current.count(), 1)).to_numpy()
    is_known = ~np.isnan(rank)
    values = np.full(len(current), np.nan)
    values[is_known] = np.quantile(known, rank[is_known], method="inverted_cdf")
    return pl.Series(current.name, values).fill_nan(None)


def _known_before(reference: pl.Series, current: pl.Series) -> pl.Series:
    counts = reference.drop_nulls().value_counts(sort=True)
    if not counts.height:
        return current
    is_new = current.is_not_null() & ~current.is_in(counts[reference.name].to_list())
    return (
        pl.select(pl.when(is_new).then(pl.lit(counts[reference.name][0])).otherwise(current))
        .to_series()
        .alias(current.name)
    )
