"""How far each column of a window moved from the reference, measured and drawn by Evidently.

One measure for all: the population stability index, on bins that are ours: deciles of the reference for numbers, names
for categories. Evidently's own bins are of equal width over both samples, so one heavy user decides them all.
"""

import os
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats as distributions

from features.catalogue import CATEGORIES
from monitoring.windows import COMPARED, MIN_SEATS, SEAT, Window

os.environ.setdefault("DO_NOT_TRACK", "1")  # Evidently asks for it before it sends anything

with warnings.catch_warnings():  # its import touches numpy.core and deprecated names of litestar (0.7.23)
    warnings.simplefilter("ignore", DeprecationWarning)
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

PSI_WATCH, PSI_ACT = 0.10, 0.25  # tradition, as in Yurdakul 2018, abstract: little below 0.10, real above 0.25
NOISE_QUANTILE = 0.999  # our choice: about 120 columns a run, so one false alarm in eight runs even without the margin
DECILES = np.linspace(0, 1, 11)
MIN_BIN_SHARE = 0.05  # of either side; our choice: rarer bins say little and make the index noisy
MIN_GROUP = 10  # design: people; fewer seats than these are never shown apart
OTHER = "other"
_CATEGORY_NAMES = frozenset(feature.name for feature in CATEGORIES)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Drift:
    """How far one column moved. noise: the index that equal distributions stay below (see psi_noise)."""

    name: str
    psi: float
    noise: float
    bins: int

    @property
    def threshold(self) -> float:
        """The index from which on a person should look."""
        return PSI_WATCH + self.noise

    @property
    def is_shift(self) -> bool:
        """Whether a person should look."""
        return self.psi >= self.threshold

    @property
    def is_large(self) -> bool:
        """Whether the index alone calls for action."""
        return self.psi >= PSI_ACT + self.noise


@dataclass(frozen=True)
class DriftReport:
    """drifts: by column, of those that could be judged; html, json: Evidently's report, complete in itself."""

    drifts: Mapping[str, Drift]
    html: str
    json: str


def psi_noise(bins: int, n_reference: int, n_current: int) -> float:
    """The index that two samples of one distribution exceed with a chance of 1 - NOISE_QUANTILE.

    Between samples of n and m the index of k bins is about (1/n + 1/m) chi-squared(k - 1), so its mean is not 0 but
    (k - 1)(1/n + 1/m): 0.09 for 200 against 200 and ten bins. n_current counts seats, not rows: the days of one seat
    are alike. Source: Yurdakul 2018, Statistical Properties of Population Stability Index (the law of the index).
    """
    return float(distributions.chi2.ppf(NOISE_QUANTILE, max(bins - 1, 1)) * (1 / n_reference + 1 / n_current))


def measure(window: Window) -> DriftReport:
    """Evidently's drift of every column that at least MIN_SEATS on both sides have a value for."""
    seat = window.current[SEAT].to_numpy()
    reference, current, sizes = {}, {}, {}
    for name in COMPARED:
        known = window.current[name].is_not_null().to_numpy()
        n_reference, n_current = window.reference.height - window.reference[name].null_count(), _distinct(seat[known])
        if min(n_reference, n_current) < MIN_SEATS:
            continue
        reference[name], current[name] = binned(window.reference[name], window.current[name], seat)
        sizes[name] = (pl.concat([reference[name], current[name]]).drop_nulls().n_unique(), n_reference, n_current)
    noises = {name: psi_noise(*size) for name, size in sizes.items()}
    definition = DataDefinition(categorical_columns=list(sizes))
    snapshot = Report([ValueDrift(column=n, method="psi", threshold=PSI_WATCH + noises[n]) for n in sizes]).run(
        Dataset.from_pandas(pl.DataFrame(current).to_pandas(), data_definition=definition),
        Dataset.from_pandas(pl.DataFrame(reference).to_pandas(), data_definition=definition),
    )
    psi = {metric["config"]["column"]: float(metric["value"]) for metric in snapshot.dict()["metrics"]}
    drifts = {name: Drift(name, psi[name], noises[name], sizes[name][0]) for name in sizes}
    return DriftReport(drifts, _titled(snapshot.get_html_str(as_iframe=False)), snapshot.json())


def binned(reference: pl.Series, current: pl.Series, seat: Integers) -> tuple[pl.Series, pl.Series]:
    """Both columns as names of bins, null where missing; a bin holds on either side nobody or at least MIN_GROUP.

    seat: (n,) of the current rows. The reference has no seats, there rows count.
    """
    if reference.name in _CATEGORY_NAMES:
        names = _merged_names(reference, current, seat)
        return reference.replace_strict(names, default=None), current.replace_strict(names, default=None)
    known = current.is_not_null().to_numpy()
    edges = _merged_edges(reference.drop_nulls().to_numpy(), current.drop_nulls().to_numpy(), seat[known])
    return _labelled(reference, edges), _labelled(current, edges)


def _merged_edges(reference: Floats, current: Floats, seat: Integers) -> Floats:
    """Upper edges (included) of the bins but the last: reference deciles, without those of bins that are too small."""
    edges = np.unique(np.quantile(reference, DECILES, method="inverted_cdf"))
    while edges.size:
        before = np.bincount(np.searchsorted(edges, reference), minlength=edges.size + 1)
        in_bin = np.unique(np.searchsorted(edges, current) * len(seat) + np.unique(seat, return_inverse=True)[1])
        now = np.bincount(in_bin // len(seat), minlength=edges.size + 1)  # seats, each once a bin
        too_rare = np.maximum(before / before.sum(), now / now.sum()) < MIN_BIN_SHARE
        small = too_rare | _is_few(before) | _is_few(now)
        if not small.any():
            break
        worst = int(np.flatnonzero(small)[np.argmin(before[small])])
        beside = [b for b in (worst - 1, worst + 1) if 0 <= b <= edges.size]
        edges = np.delete(edges, min(worst, min(beside, key=lambda b: before[b])))
    return edges


def _labels(edges: Floats) -> list[str]:
    if not edges.size:
        return ["any"]
    low, high = [f"{edge:.3g}" for edge in edges[:-1]], [f"{edge:.3g}" for edge in edges[1:]]
    middle = [f"over {a} to {b}" for a, b in zip(low, high, strict=True)]
    texts = [f"up to {edges[0]:.3g}", *middle, f"over {edges[-1]:.3g}"]
    return [f"{number:02d}: {text}" for number, text in enumerate(texts, 1)]  # Evidently sorts bins by their names


def _labelled(values: pl.Series, edges: Floats) -> pl.Series:
    named = np.array(_labels(edges))[np.searchsorted(edges, values.fill_null(0).to_numpy())]
    return pl.select(pl.when(values.is_not_null()).then(pl.Series(named))).to_series().alias(values.name)


def _merged_names(reference: pl.Series, current: pl.Series, seat: Integers) -> dict[str, str]:
    """The name to show for each category: its own, or OTHER for those that too few seats have."""
    before = Counter(reference.drop_nulls().to_list())
    pairs = pl.DataFrame({"name": current, "seat": seat}).drop_nulls().unique()
    now = Counter(pairs["name"].to_list())
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


def _distinct(values: Integers) -> int:
    return int(np.unique(values).size)


def _titled(html: str) -> str:
    return html.replace("<head>", "<head><title>Rekindle: drift by column</title>", 1)
