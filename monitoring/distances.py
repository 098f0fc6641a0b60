"""How far two distributions over the same bins lie apart: three effect sizes, for many pairs at once.

They are the ones that Evidently reports (`psi`, `jensenshannon`, `wasserstein`); here they are computed for hundreds of
resampled windows, which Evidently is not made for. A test holds the two together.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EMPTY_SHARE = 1e-4  # what Evidently puts in place of the share of an empty bin


def psi(current: Floats, reference: Floats) -> Floats:
    """(…,) population stability index of (…, bins) shares; 0 is equal. Source: Yurdakul 2018, eq. 1."""
    p, q = np.where(current > 0, current, EMPTY_SHARE), np.where(reference > 0, reference, EMPTY_SHARE)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def jensen_shannon(current: Floats, reference: Floats) -> Floats:
    """(…,) Jensen–Shannon distance of (…, bins) shares: the root of the divergence in nats, from 0 to 0.83.

    Source: Endres and Schindelin 2003, eq. 1.
    """
    middle = (current + reference) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(side > 0, side * np.log(side / middle), 0.0) for side in (current, reference)]
    return np.asarray(np.sqrt(np.maximum((parts[0] + parts[1]).sum(axis=-1) / 2, 0.0)))


def wasserstein(current: Floats, reference: Floats, place: Floats) -> Floats:
    """(…,) earth mover's distance of (…, bins) shares in standard deviations of the reference.

    place: (bins,) ascending, where each bin lies. 0 where the reference has no spread and the two are equal.
    Source: Rubner, Tomasi, Guibas 2000; normed as Evidently does, by max(deviation, 0.001).
    """
    moved = np.abs(np.cumsum(current - reference, axis=-1))[..., :-1] @ np.diff(place)
    mean = reference @ place
    spread = np.sqrt(np.maximum(reference @ place**2 - mean**2, 0.0))
    return np.asarray(moved / np.maximum(spread, 0.001))
