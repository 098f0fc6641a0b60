"""What would help whom, told from features: the failure mode that stands in a seat's way, none, or one without a name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.line import Line

Floats = npt.NDArray[np.float64]

NOTHING, UNNAMED = "nothing", "unnamed"  # beside the failure modes: nothing would help; what would is not known


@dataclass(frozen=True)
class Needs:
    """Chances of the needs at a seat, and what the experts expect of each intervention where one of them is present.

    kinds: Z names, NOTHING first and UNNAMED last. line: multinomial logistic regression, weights (Z, p), intercepts (Z,), on
    design(...). relief: (Z, K) the experts' answers at even risk, without what any contact does; 0 for NOTHING and UNNAMED.
    """

    kinds: tuple[str, ...]
    line: Line
    relief: tuple[tuple[float, ...], ...]

    def chances(self, strengths: Floats, vectors: Floats, codes: Floats, levels: Sequence[int]) -> Floats:
        """(n, Z) rows sum to 1. strengths, vectors: as in features.effects.Seen; codes: (n, n_categories), NaN unknown."""
        told = design(self.line, strengths, vectors, codes, levels)
        return softmax(told @ np.asarray(self.line.weights).T + np.asarray(self.line.intercepts))

    def helps(self, strengths: Floats, vectors: Floats, codes: Floats, levels: Sequence[int]) -> Floats:
        """(n, K) what the experts expect of each intervention at even risk, given these chances."""
        return np.asarray(self.chances(strengths, vectors, codes, levels) @ np.asarray(self.relief))


def design(line: Line, strengths: Floats, vectors: Floats, codes: Floats, levels: Sequence[int]) -> Floats:
    """(n, p) the strengths from -1 to 1, and the line's own inputs."""
    return np.concatenate((2 * strengths - 1, line.design(vectors, codes, levels)), axis=1)


def softmax(scores: Floats) -> Floats:
    """(n, Z) probabilities of the scores, row by row."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
