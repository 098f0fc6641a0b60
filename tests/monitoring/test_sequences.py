import numpy as np
import pytest

from monitoring.sequences import asymptotic, empirical_bernstein


def paths(chance: float, n: int, *, seed: int, runs: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((runs, n)) < chance).astype(float)


@pytest.mark.parametrize("chance", [0.1, 0.7])
def test_the_mean_is_never_left_out_more_often_than_said(chance: float) -> None:
    """At the end and at every moment before, as the running intersection remembers; 5 % of 300 paths is 15, and the
    sequence is conservative, so more than 5 % (21 by three deviations) would be a wrong formula."""
    missed = 0
    for values in paths(chance, 600, seed=3, runs=300):
        low, high = empirical_bernstein(values)
        missed += not low <= chance <= high
    assert missed <= 21


def test_the_interval_narrows_and_stays_inside_0_to_1() -> None:
    values = paths(0.5, 5_000, seed=1, runs=1)[0]
    widths = [high - low for low, high in (empirical_bernstein(values[:n]) for n in (50, 500, 5_000))]
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 0.08
    assert empirical_bernstein(np.empty(0)) == (0.0, 1.0)


def test_the_sequence_is_that_of_the_paper_step_by_step() -> None:
    """The same by a plain loop over theorem 2, without numpy's cumulative sums."""
    values, alpha = paths(0.3, 40, seed=2, runs=1)[0], 0.05
    mean, spread, total, weighted, cost, low, high = 0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 1.0
    seen, squares = 0.0, 0.0
    for t, x in enumerate(values, 1):
        bet = min(np.sqrt(2 * np.log(2 / alpha) / (spread * t * np.log(1 + t))), 0.5)
        cost += 4 * (x - mean) ** 2 * (-np.log(1 - bet) - bet) / 4
        total, weighted, seen = total + bet, weighted + bet * x, seen + x
        mean = (0.5 + seen) / (t + 1)
        squares += (x - mean) ** 2
        spread = (0.25 + squares) / (t + 1)
        half = (np.log(2 / alpha) + cost) / total
        low, high = max(low, weighted / total - half), min(high, weighted / total + half)
    assert empirical_bernstein(values) == pytest.approx((low, high))


def test_the_asymptotic_sequence_covers_at_every_moment() -> None:
    """Looked at after each of 20 to 2 000 values: a 95 % interval for one moment would miss about half of the paths."""
    rng, missed, missed_by_usual = np.random.default_rng(4), 0, 0
    for _ in range(200):
        values = rng.normal(0.2, 1.0, 2_000)
        n = np.arange(1, 2_001)
        mean = np.cumsum(values) / n
        spread = np.sqrt(np.maximum(np.cumsum(values**2) / n - mean**2, 1e-12))
        looks = range(100, 2_000, 50)
        bounds = [asymptotic(mean[k], spread[k], k + 1) for k in looks]
        missed += any(not low <= 0.2 <= high for low, high in bounds)
        missed_by_usual += any(abs(mean[k] - 0.2) > 1.96 * spread[k] / np.sqrt(k + 1) for k in looks)
    assert missed <= 19  # 10 expected at most, plus three deviations
    assert missed_by_usual > 30


def test_values_outside_0_to_1_are_refused() -> None:
    with pytest.raises(ValueError, match="expected from 0 to 1, came from 0 to 3"):
        empirical_bernstein(np.array([0.0, 3.0]))
