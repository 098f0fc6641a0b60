"""Columns in bins: deciles of the reference for numbers, names for categories; none that shows fewer than ten seats."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from features.catalogue import CATEGORIES, FEATURES
from monitoring.chance import MISSING, Binned
from monitoring.rates import column
from monitoring.windows import Window

DECILES = np.linspace(0, 1, 11)
MIN_BIN_SHARE = 0.05  # of either side; our choice: rarer bins say little and make the index noisy
MIN_GROUP = 10  # design: people; fewer seats than these are never shown apart
OTHER = "other"
RECENCY = frozenset(f.name for f in FEATURES if f.name.startswith("days_since_"))  # in whole weeks: weekdays differ
_CATEGORY_NAMES = frozenset(feature.name for feature in CATEGORIES)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Column:
    """One column of a window in bins. current, reference, pool: (n,) bin of each snapshot, MISSING where null.

    labels: what to call each bin; place: (bins,) its median, ascending; None for names.
    """

    name: str
    current: Integers
    reference: Integers
    pool: Integers
    labels: tuple[str, ...]
    place: Floats | None

    @property
    def binned(self) -> Binned:
        """The pool's side, which is resampled."""
        return Binned(self.pool, len(self.labels), self.place)

    def shares(self) -> tuple[Floats, Floats]:
        """(bins,) of the current side and of the reference, among what is known."""
        counts = [
            np.bincount(side[side != MISSING], minlength=len(self.labels)) for side in (self.current, self.reference)
        ]
        return counts[0] / counts[0].sum(), counts[1] / counts[1].sum()


def column_of(window: Window, name: str) -> Column:
    """The column in bins; a bin holds on either side nobody or at least MIN_GROUP seats."""
    if name in _CATEGORY_NAMES:
        return _named(window, name)
    sides = [_numbers(column(frame, name)) for frame in (window.current, window.reference, window.pool)]
    known = [side[~np.isnan(side)] for side in sides]
    edges = _edges(known[1], known[0])
    codes = [np.where(np.isnan(s), MISSING, np.searchsorted(edges, np.nan_to_num(s))).astype(np.int64) for s in sides]
    place = _places(edges, np.concatenate((known[1], known[0])))
    return Column(name, codes[0], codes[1], codes[2], _labels(edges), place)


def _numbers(values: pl.Series) -> Floats:
    numbers = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return np.asarray(np.floor(numbers / 7) * 7 if values.name in RECENCY else numbers)


def _edges(reference: Floats, current: Floats) -> Floats:
    """Upper edges (included) of the bins but the last: reference deciles, without those of bins that are too small."""
    edges = np.unique(np.quantile(reference, DECILES, method="inverted_cdf"))
    while edges.size:
        before, now = (
            np.bincount(np.searchsorted(edges, side), minlength=edges.size + 1) for side in (reference, current)
        )
        too_rare = np.maximum(before / before.sum(), now / now.sum()) < MIN_BIN_SHARE
        small = too_rare | _is_few(before) | _is_few(now)
        if not small.any():
            break
        worst = int(np.flatnonzero(small)[np.argmin(before[small])])
        beside = [b for b in (worst - 1, worst + 1) if 0 <= b <= edges.size]
        edges = np.delete(edges, min(worst, min(beside, key=lambda b: before[b])))
    return edges


def _places(edges: Floats, values: Floats) -> Floats:
    """(bins,) the median of what either side has in each bin; every bin has something."""
    where = np.searchsorted(edges, values)
    return np.array([np.median(values[where == number]) for number in range(edges.size + 1)])


def _labels(edges: Floats) -> tuple[str, ...]:
    if not edges.size:
        return ("any",)
    low, high = [f"{edge:.3g}" for edge in edges[:-1]], [f"{edge:.3g}" for edge in edges[1:]]
    middle = [f"over {a} to {b}" for a, b in zip(low, high, strict=True)]
    texts = [f"up to {edges[0]:.3g}", *middle, f"over {edges[-1]:.3g}"]
    return tuple(f"{number:02d}: {text}" for number, text in enumerate(texts, 1))  # Evidently sorts bins by their names


def _named(window: Window, name: str) -> Column:
    shown = _merged_names(window.reference[name], window.current[name])
    labels = tuple(sorted(set(shown.values())))
    code = {category: labels.index(label) for category, label in shown.items()}
    sides = [
        np.array([code.get(item, MISSING) for item in frame[name].to_list()], np.int64)
        for frame in (window.current, window.reference, window.pool)
    ]
    return Column(name, sides[0], sides[1], sides[2], labels, None)


def _merged_names(reference: pl.Series, current: pl.Series) -> dict[str, str]:
    """The name to show for each category: its own, or OTHER for those that too few seats have."""
    before, now = (Counter(side.drop_nulls().to_list()) for side in (reference, current))
    shown = sorted({*before, *now}, key=lambda name: (min(before[name] or np.inf, now[name] or np.inf), name))
    hidden = [name for name in shown if 0 < before[name] < MIN_GROUP or 0 < now[name] < MIN_GROUP]
    shown = [name for name in shown if name not in hidden]
    while hidden and shown and (_sum_small(before, hidden) or _sum_small(now, hidden)):
        hidden.append(shown.pop(0))
    return {**{name: name for name in shown}, **dict.fromkeys(hidden, OTHER)}


def _sum_small(counts: Counter[str], names: list[str]) -> bool:
    return 0 < sum(counts[name] for name in names) < MIN_GROUP


def _is_few(counts: Integers) -> npt.NDArray[np.bool_]:
    return (counts > 0) & (counts < MIN_GROUP)
