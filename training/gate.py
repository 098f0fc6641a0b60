"""Whether a model may serve: it must beat the rule and the champion on data later than the training of both."""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from features.instants import to_microseconds
from features.scorer import HORIZONS_DAYS, PRODUCT_HORIZON_DAYS, Method, Scorer
from training.dataset import Dataset
from training.evaluate import ENOUGH_TO_JUDGE, Estimate, compare, difference, ece
from training.judgement import MIN_PEOPLE, segments

Floats = npt.NDArray[np.float64]

NOT_WORSE = 0.002  # log loss; our choice: so little may be lost for a better calibration
SEGMENT_WORSE = 0.02  # log loss; our choice: a segment that surely loses more blocks the promotion
ENOUGH_OF_EITHER = 10  # people of either outcome; our choice: resamples of fewer say little of their share
_PRODUCT = HORIZONS_DAYS.index(PRODUCT_HORIZON_DAYS)


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate may serve, and why, in a sentence."""

    is_passed: bool
    why: str


def gate(candidate: Scorer, champion: Scorer | None, later: Dataset, *, seed: int = 7) -> Verdict:
    """The verdict on a candidate, judged by paired log loss over resampled people.

    later: labelled snapshots; those before the end of either training are left out. Of either outcome there must be
    ENOUGH_OF_EITHER people. Against the rule the lower bound of the gain
    must lie above zero. Against the champion too, or the candidate is not worse by more than NOT_WORSE and surely better
    calibrated. No segment may surely lose more than SEGMENT_WORSE against the incumbent.
    """
    if candidate.method is Method.RULE:
        is_newer_rule = champion is None or champion.method is Method.RULE
        return Verdict(is_newer_rule, f"nothing could be learned, so the rule is the model: {candidate.note}")
    fair = later.take(later.as_of >= max(trained_until(candidate), trained_until(champion)))
    label = fair.abandoned()
    judged = int((~np.isnan(label)).any(axis=1).sum())
    if not judged:
        return Verdict(False, "no snapshot later than the training has been judged yet, so nothing can be compared")
    if judged < ENOUGH_TO_JUDGE:
        return Verdict(
            False,
            f"{judged} snapshots later than the training of both models have been judged, {ENOUGH_TO_JUDGE} are needed: "
            "wait for more outcomes to mature",
        )
    gave_up, kept_on = (len(np.unique(fair.person[(label == outcome).any(axis=1)])) for outcome in (1, 0))
    if min(gave_up, kept_on) < ENOUGH_OF_EITHER:
        return Verdict(
            False,
            f"of the people judged later than the training of both models {gave_up} gave up and {kept_on} kept on, at least "
            f"{ENOUGH_OF_EITHER} of each are needed: with fewer whatever says the commoner outcome more boldly wins",
        )
    mine = candidate.score(fair.vectors, fair.categories).risk
    by_rule = candidate.rule.risk(fair.vectors)[0]
    against_rule = compare(label, mine, by_rule, fair.person, weight=fair.horizon_weight(), seed=seed)
    if against_rule.low <= 0:
        return Verdict(False, f"it does not beat the three-warnings rule: log loss lower by {against_rule}")
    theirs = by_rule if champion is None else champion.score(fair.vectors, fair.categories).risk
    verdict = Verdict(True, f"it beats the three-warnings rule: log loss lower by {against_rule}")
    if champion is not None:
        verdict = _against_champion(label, mine, theirs, fair, seed=seed)
    if not verdict.is_passed:
        return verdict
    hurt = _hurt_segment(label, mine, theirs, fair, seed=seed)
    return verdict if hurt is None else Verdict(False, hurt)


def _against_champion(label: Floats, mine: Floats, theirs: Floats, fair: Dataset, *, seed: int) -> Verdict:
    gain = compare(label, mine, theirs, fair.person, weight=fair.horizon_weight(), seed=seed)
    if gain.low > 0:
        return Verdict(True, f"log loss lower than the champion's by {gain}")
    if gain.low > -NOT_WORSE:
        sharper = _calibration_gain(label, mine, theirs, fair, seed=seed)
        if sharper is not None and sharper.low > 0:
            return Verdict(
                True,
                f"its log loss is not worse than the champion's by more than {NOT_WORSE} ({gain}), and it is better "
                f"calibrated: ECE lower by {sharper}",
            )
    return Verdict(False, f"it is no better than the champion: log loss lower by {gain}")


def _calibration_gain(label: Floats, mine: Floats, theirs: Floats, fair: Dataset, *, seed: int) -> Estimate | None:
    known = ~np.isnan(label[:, _PRODUCT])
    if known.sum() < ENOUGH_TO_JUDGE:
        return None
    scores = (theirs[known, _PRODUCT], mine[known, _PRODUCT])
    weight = fair.horizon_weight()[known, _PRODUCT]
    return difference(ece, label[known, _PRODUCT], *scores, fair.person[known], weight=weight, seed=seed)


def _hurt_segment(label: Floats, mine: Floats, theirs: Floats, fair: Dataset, *, seed: int) -> str | None:
    """The sentence on the segment that loses most, where one surely loses more than SEGMENT_WORSE."""
    worst: tuple[float, str] | None = None
    weight = fair.horizon_weight()
    for kind, names in segments(fair).items():
        for name in np.unique(names[names != ""]).tolist():
            rows = names == name
            is_judged = (~np.isnan(label[rows])).any(axis=1)
            if len(np.unique(fair.person[rows])) < MIN_PEOPLE or is_judged.sum() < ENOUGH_TO_JUDGE:
                continue
            gain = compare(label[rows], mine[rows], theirs[rows], fair.person[rows], weight=weight[rows], seed=seed)
            if gain.high < -SEGMENT_WORSE and (worst is None or gain.value < worst[0]):
                worst = (gain.value, f"it is much worse for {kind} {name}: log loss lower by {gain}")
    return None if worst is None else worst[1]


def trained_until(scorer: Scorer | None) -> int:
    """Microseconds up to which the training of the scorer knew; the earliest there is where nothing is written down."""
    if scorer is None or not scorer.trained_until:
        return np.iinfo(np.int64).min
    return to_microseconds(datetime.fromisoformat(scorer.trained_until))


def as_rule(scorer: Scorer, note: str) -> Scorer:
    """The rule with the rates that the scorer's training saw, to serve where the scorer may not."""
    return replace(
        scorer,
        method=Method.RULE,
        booster=None,
        later=None,
        linear=None,
        activation=None,
        speaks_from_days=0.0,
        note=note,
    )
