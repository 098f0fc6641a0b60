"""Calibration of the hazards, chosen on held-out people, and the band that says how far it held at a later time."""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats as distributions
from venn_abers.venn_abers import calc_p0p1

from features.calibration import (
    BETA,
    NONE,
    STAGES,
    VENN_ABERS,
    Band,
    Calibrator,
    Parameters,
    Steps,
    log_odds,
    probability,
    settled,
)
from features.events import MICROSECONDS_PER_DAY
from features.scorer import HORIZON_PERIODS, HORIZONS_DAYS, cumulative
from training.dataset import Dataset, PersonPeriods, person_period_rows

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ENOUGH_TO_CALIBRATE = 20  # events; our choice: below it no curve is better than none
GRID = 50  # raw log-odds are cut to 1/50 for Venn–Abers: a few hundred places say all that the data can
BLOCK_DAYS = 28  # one stretch of later time, as long as the product's horizon
RISK_GROUPS = 3
MIN_SEEN = 10.0  # expected events of either kind in a group of a block; our choice: a rate of fewer says nothing
LEAST_DRIFT = 0.1  # log-odds; our choice: a new month is never known better than this, a tenth of the odds
YOUNG_DRIFT = 0.2  # log-odds; our choice: the same where no model of the past could be followed into its future
LEVEL = 0.975


def choose_calibrator(dataset: Dataset, hazards: Floats, *, seed: int) -> tuple[Calibrator, dict[str, float]]:
    """The best of none, beta and Venn–Abers by the log loss on held-out people, and the loss of each.

    hazards: (n, PERIODS) out-of-sample raw hazards, NaN rows where there are none.
    """
    rows = person_period_rows(dataset)
    rows = rows.take(~np.isnan(hazards[rows.row, 0]))
    if rows.event.sum() < ENOUGH_TO_CALIBRATE:
        return Calibrator(), {}
    half = _halves(dataset.person[rows.row], seed=seed)
    losses = {}
    for kind in (NONE, BETA, VENN_ABERS):
        loss = 0.0
        for side in (0, 1):
            learned = fit_calibrator(kind, hazards, rows.take(half != side), seed=seed)
            judged = rows.take(half == side)
            loss += _total_log_loss(
                judged, learned.apply(hazards[judged.row])[np.arange(len(judged.row)), judged.period]
            )
        (losses[kind],) = settled(np.array([loss / float(rows.weight.sum())]))
    best = min(losses, key=lambda kind: losses[kind])
    return fit_calibrator(best, hazards, rows, seed=seed), losses


def fit_calibrator(kind: str, hazards: Floats, rows: PersonPeriods, *, seed: int) -> Calibrator:
    """The calibrator of that kind for the rows, whose raw hazards are hazards[row, period]."""
    raw = hazards[rows.row, rows.period]
    if kind == BETA:
        return Calibrator(BETA, _beta_parameters(raw, rows))
    if kind == VENN_ABERS:
        stages = (np.minimum(rows.period, 1) == stage for stage in range(STAGES))
        return Calibrator(VENN_ABERS, steps=tuple(_steps(raw[s], rows.take(s), seed=seed) for s in stages))
    return Calibrator()


def _steps(raw: Floats, rows: PersonPeriods, *, seed: int) -> Steps:
    """Venn–Abers by the package's own algorithm, of which only the places where a step is are kept.

    It knows no weights: a row counts as often as its censoring weight says, drawn where that is not whole.
    """
    if not len(raw):
        return Steps((), (0.0,), (), (1.0,))
    whole = np.floor(rows.weight)
    times = (whole + (np.random.default_rng(seed).random(len(raw)) < rows.weight - whole)).astype(np.int64)
    times[0] = max(times[0], 1)
    coarse = np.repeat(probability(np.round(log_odds(raw) * GRID) / GRID), times)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # the package divides 0 by 0 at the end of its diagram
        below, above, places = calc_p0p1(np.column_stack((1 - coarse, coarse)), np.repeat(rows.event, times))
    return Steps(*_kept(places, below[:, 1]), *_kept(places, above[:, 1]))


def _kept(places: Floats, values: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    changes = np.flatnonzero(np.diff(values) != 0)
    return _floats(places[changes]), _floats(np.append(values[:1], values[changes + 1]))


@dataclass(frozen=True)
class LaterErrors:
    """How far calibrated risks were off in stretches of time after a model's training, on the log-odds scale.

    One entry per stretch, horizon and group of risk: error: (m,) the shift of the log-odds that would have made the mean
    prediction right; variance: (m,) of the error by sampling people; at: (m,) mean log-odds of the group; horizon, block: (m,).
    """

    error: Floats
    variance: Floats
    at: Floats
    horizon: Integers
    block: Integers


def later_errors(later: Dataset, risk: Floats, *, origin: int) -> LaterErrors:
    """The errors of risks (n, n_horizons) at the snapshots of `later`, in blocks of BLOCK_DAYS from `origin` (microseconds)."""
    label = later.abandoned()
    block = (later.as_of - origin) // (BLOCK_DAYS * MICROSECONDS_PER_DAY)
    found: list[tuple[float, float, float, int, int]] = []
    for horizon in range(len(HORIZONS_DAYS)):
        known = ~np.isnan(label[:, horizon])
        if not known.any():
            continue
        edges = np.quantile(risk[known, horizon], np.arange(1, RISK_GROUPS) / RISK_GROUPS)
        group = np.searchsorted(edges, risk[:, horizon])
        for cell in np.unique(block[known] * RISK_GROUPS + group[known]).tolist():
            rows = np.flatnonzero(known & (block * RISK_GROUPS + group == cell))
            chance, weight = risk[rows, horizon], later.censoring_weight[rows, HORIZON_PERIODS[horizon]]
            if min((weight * chance).sum(), (weight * (1 - chance)).sum()) < MIN_SEEN:
                continue
            _, person = np.unique(later.person[rows], return_inverse=True)
            error = _shift(log_odds(chance), label[rows, horizon], weight)
            shifted = probability(log_odds(chance) + error)
            spread = float((weight * shifted * (1 - shifted)).sum())
            score = np.bincount(person, weight * (label[rows, horizon] - shifted))
            variance = float((score**2).sum()) / spread**2
            at = float(log_odds(np.average(chance, weights=weight)))
            found.append((error, variance, at, horizon, cell // RISK_GROUPS))
    columns = np.array(found, np.float64).reshape(-1, 5)
    whole = columns[:, 3:].astype(np.int64)
    return LaterErrors(columns[:, 0], columns[:, 1], columns[:, 2], whole[:, 0], whole[:, 1])


def errors_of_held_out_people(kind: str, later: Dataset, hazards: Floats, *, seed: int) -> LaterErrors:
    """How far a model was off on other people, month by month: what a young log can say of change in time.

    hazards: (n, PERIODS) out-of-sample raw hazards, NaN rows where there are none. Each month of either half of the people is
    calibrated by the other months of the other half; by that half's own month too where the rest knows too little.
    """
    seen = ~np.isnan(hazards[:, 0])
    others, raw = later.take(seen), hazards[seen]
    origin = int(others.as_of.min())
    block, half = (others.as_of - origin) // (BLOCK_DAYS * MICROSECONDS_PER_DAY), _halves(others.person, seed=seed)
    rows, risk = person_period_rows(others), np.empty((len(others), len(HORIZONS_DAYS)))
    for side in (0, 1):
        for month in np.unique(block[half == side]).tolist():
            is_apart = half[rows.row] != side
            learned = rows.take(is_apart & (block[rows.row] != month))
            if learned.event.sum() < ENOUGH_TO_CALIBRATE:
                learned = rows.take(is_apart)
            own = (half == side) & (block == month)
            risk[own] = risk_at_horizons(fit_calibrator(kind, raw, learned, seed=seed), raw[own])
    return later_errors(others, risk, origin=origin)


def _halves(person: npt.NDArray[np.str_], *, seed: int) -> Integers:
    """(n,) 0 or 1, by person."""
    people, inverse = np.unique(person, return_inverse=True)
    return np.random.default_rng(seed).permutation(np.arange(len(people)) % 2)[inverse]


def _shift(odds: Floats, label: Floats, weight: Floats) -> float:
    """The shift of the log-odds with which as many events are expected as were seen, half an event added on either side."""
    total = float(weight.sum())
    wanted = (float(weight @ label) + 0.5) / (total + 1) * total
    shift = 0.0
    for _ in range(30):
        chance = probability(odds + shift)
        step = (wanted - float(weight @ chance)) / max(float(weight @ (chance * (1 - chance))), 1e-9)
        shift += float(np.clip(step, -1, 1))
        if abs(step) < 1e-6:
            break
    return shift


def measure_band(parts: list[LaterErrors], *, least_drift: float = LEAST_DRIFT) -> Band:
    """The band that what was seen after each origin supports: errors of one step of time, and what sampling leaves open.

    The variance of the error between stretches is what its square exceeds the sampling variance by, on average (method of
    moments, DerSimonian and Laird 1986), taken about zero, so that a trend widens the band; Student's t with as many
    degrees of freedom as there are stretches. No stretch at a horizon: the horizon before it speaks, and of none the band is empty.
    """
    if not parts:
        return Band()
    errors = [
        np.concatenate([getattr(part, name) for part in parts]) for name in ("error", "variance", "at", "horizon")
    ]
    stretch = (
        np.concatenate([part.block + 1_000 * number for number, part in enumerate(parts)]) if parts else np.empty(0)
    )
    places, widths = [], []
    for horizon in range(len(HORIZONS_DAYS)):
        chosen = errors[3] == horizon
        if not chosen.any():
            continue
        error, variance, at = (values[chosen] for values in errors[:3])
        least = least_drift * (1 + HORIZONS_DAYS[horizon] / 56)  # our choice: half as much again at 28 days
        drift = max(float(np.mean(error**2 - variance)), least**2)
        freedom = len(np.unique(stretch[chosen]))
        order = np.argsort(at, kind="stable")
        groups = np.array_split(order, min(RISK_GROUPS, len(order)))
        pooled = np.array([1 / np.sum(1 / np.maximum(variance[group], 1e-12)) for group in groups])
        place = np.maximum.accumulate(np.array([at[group].mean() for group in groups]))
        places.append(settled(place))
        spread = np.sqrt(drift * (1 + 1 / freedom) + pooled)
        widths.append(settled(distributions.t.ppf(LEVEL, freedom + 1) * spread))
    if not places:
        return Band()
    missing = len(HORIZONS_DAYS) - len(places)
    return Band(tuple(places + places[-1:] * missing), tuple(widths + widths[-1:] * missing))


def risk_at_horizons(calibrator: Calibrator, hazards: Floats) -> Floats:
    """(n, n_horizons) calibrated risk of (n, PERIODS) raw hazards."""
    return cumulative(calibrator.apply(hazards))[:, HORIZON_PERIODS]


def _beta_parameters(raw: Floats, rows: PersonPeriods) -> Parameters:
    """(a, b, c) for T = 0 and for later weeks, by penalised maximum likelihood around "none" (a = b = 1, c = 0)."""
    clipped = np.clip(raw, 1e-9, 1 - 1e-9)
    inputs = np.column_stack((np.log(clipped), -np.log1p(-clipped), np.ones_like(clipped)))
    first, later = ((rows.period > 0) == is_later for is_later in (False, True))
    return tuple(_newton(inputs[s], rows.event[s], rows.weight[s]) for s in (first, later))  # type: ignore[return-value]  # two of them


def _newton(inputs: Floats, event: Floats, weight: Floats, *, ridge: float = 5.0) -> tuple[float, float, float]:
    """Penalised logistic regression shrunk toward (1, 1, 0); ridge in events: our choice."""
    center = np.array([1.0, 1.0, 0.0])
    beta = center.copy()
    penalty = np.diag([ridge, ridge, 0.1])

    def loss(at: Floats) -> float:
        linear = inputs @ at
        return float(weight @ (np.logaddexp(0, linear) - event * linear) + (at - center) @ penalty @ (at - center) / 2)

    for _ in range(50):
        predicted = 1 / (1 + np.exp(-np.clip(inputs @ beta, -30, 30)))
        gradient = inputs.T @ (weight * (predicted - event)) + penalty @ (beta - center)
        curvature = (inputs * (weight * predicted * (1 - predicted))[:, None]).T @ inputs + penalty
        step = np.linalg.solve(curvature, gradient)
        before = loss(beta)
        noise = 1e-12 * abs(before)  # of the sum itself, which must not shorten the last steps
        while loss(beta - step) > before + noise and np.abs(step).max() >= 1e-8:
            step = step / 2  # far from the optimum a whole step overshoots, and the next one further
        beta = beta - step
        if np.abs(step).max() < 1e-8:
            break
    a, b, c = settled(beta)
    return (max(a, 0.0), max(b, 0.0), c)


def mean_log_loss(rows: PersonPeriods, hazards: Floats) -> float:
    """Weighted mean log loss of (n, PERIODS) hazards at the rows."""
    return _total_log_loss(rows, hazards[rows.row, rows.period]) / float(rows.weight.sum())


def _total_log_loss(rows: PersonPeriods, predicted: Floats) -> float:
    clipped = np.clip(predicted, 1e-9, 1 - 1e-9)
    loss = -(rows.event * np.log(clipped) + (1 - rows.event) * np.log1p(-clipped))
    return float((rows.weight * loss).sum())


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
