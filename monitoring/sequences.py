"""Confidence sequences: intervals that hold at every moment at once, however often somebody looks."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
TRUNCATED_AT = 0.5  # c of the paper, which recommends 1/2 or 3/4
TUNED_FOR = 500  # of the asymptotic sequence: it is tightest after so many; our choice


def empirical_bernstein(values: Floats, *, alpha: float = ALPHA) -> tuple[float, float]:
    """The latest interval for the mean of values in [0, 1], in the order they came; it never left out the mean before.

    values: (n,). Holds for any n, any stopping rule, and values whose conditional mean is the same; (0, 1) where n is 0.
    Source: predictable plug-in empirical Bernstein sequence, Waudby-Smith and Ramdas 2024, theorem 2 (eq. 13 to 15), running
    intersection as they recommend.
    """
    n = len(values)
    if not n:
        return 0.0, 1.0
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"values: expected from 0 to 1, came from {values.min():g} to {values.max():g}")
    t = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(values)) / (t + 1)
    spread = (0.25 + np.cumsum((values - mean) ** 2)) / (t + 1)
    mean_before, spread_before = np.concatenate(([0.5], mean[:-1])), np.concatenate(([0.25], spread[:-1]))
    bet = np.minimum(np.sqrt(2 * np.log(2 / alpha) / (spread_before * t * np.log1p(t))), TRUNCATED_AT)
    cost = 4 * (values - mean_before) ** 2 * (-np.log1p(-bet) - bet) / 4
    total = np.cumsum(bet)
    centre = np.cumsum(bet * values) / total
    half = (np.log(2 / alpha) + np.cumsum(cost)) / total
    return float(max(np.max(centre - half), 0.0)), float(min(np.min(centre + half), 1.0))


def asymptotic(mean: float, deviation: float, n: int, *, alpha: float = ALPHA) -> tuple[float, float]:
    """The interval after n values of that mean and standard deviation; in the limit it holds at every moment at once.

    For unbounded values, such as doubly robust scores. Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024,
    Time-uniform central limit theory and asymptotic confidence sequences, theorem 2.2 and eq. 14 (rho for TUNED_FOR values).
    """
    if n < 2:
        return -np.inf, np.inf
    rho2 = (-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)) / TUNED_FOR
    half = deviation * np.sqrt(2 * (n * rho2 + 1) / (n**2 * rho2) * np.log(np.sqrt(n * rho2 + 1) / alpha))
    return float(mean - half), float(mean + half)
