"""Whether a model may serve: it must beat the rule and the champion on data later than the training of both."""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from features.instants import to_microseconds
from features.scorer import HORIZONS_DAYS, PRODUCT_HORIZON_DAYS, Method, Scorer
from training.dataset import Dataset
from training.evaluate import ENOUGH_TO_JUDGE, Estimate, after_tries, calibration_gain, compare
from training.judgement import MIN_PEOPLE, segments

Floats = npt.NDArray[np.float64]

NOT_WORSE = 0.002  # log loss; our choice: so little may be lost for a better calibration, and at any one horizon
SEGMENT_WORSE = 0.02  # log loss; our choice: a segment that surely loses more blocks the promotion
ENOUGH_OF_EITHER = 10  # people of either outcome; our choice: resamples of fewer say little of their share
_PRODUCT = HORIZONS_DAYS.index(PRODUCT_HORIZON_DAYS)
_RULE = "the three-warnings rule"


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate may serve, and why, in a sentence."""

    is_passed: bool
    why: str


def gate(
    candidate: Scorer,
    champion: Scorer | None,
    later: Dataset,
    *,
    not_started: Dataset | None = None,
    tries: int = 1,
    seed: int = 7,
) -> Verdict:
    """The verdict on a candidate, judged by paired log loss over resampled people.

    later, not_started: labelled snapshots of seats in use and of those that never started; those before the end of either
    training are left out. tries: candidates judged against this champion on this data, this one included: what speaks for it
    must be surer by as much. At the product's horizon ENOUGH_TO_JUDGE snapshots must have been judged, of
    ENOUGH_OF_EITHER people of either outcome. Against the rule the lower bound of the gain must lie above zero, and at no
    horizon may it surely lose more than NOT_WORSE. Against the champion the same, or the candidate is not worse by more
    than NOT_WORSE and surely better calibrated. No segment, and not the seats that never started, may surely lose more than
    SEGMENT_WORSE against the incumbent.
    """
    if candidate.method is Method.RULE:
        is_newer_rule = champion is None or champion.method is Method.RULE
        return Verdict(is_newer_rule, f"nothing could be learned, so the rule is the model: {candidate.note}")
    since = max(trained_until(candidate), trained_until(champion))
    fair = later.take(later.as_of >= since)
    mine = candidate.score(fair.vectors, fair.categories).risk
    by_rule = candidate.rule.risk(fair.vectors)[0]
    verdict = beats_rule(fair, mine, by_rule, tries=tries, seed=seed)
    if not verdict.is_passed:
        return verdict
    theirs = by_rule
    if champion is not None:
        theirs = champion.score(fair.vectors, fair.categories).risk
        verdict = _against_champion(fair, mine, theirs, tries=tries, seed=seed)
        if not verdict.is_passed:
            return verdict
    hurt = _hurt_segment(fair, mine, theirs, seed=seed)
    if hurt is None and not_started is not None:
        hurt = _hurt_before_start(candidate, champion, not_started.take(not_started.as_of >= since), seed=seed)
    return verdict if hurt is None else Verdict(False, hurt)


def beats_rule(
    later: Dataset, mine: Floats, rule: Floats, *, whose: str = _RULE, tries: int = 1, seed: int = 7
) -> Verdict:
    """Whether the risks `mine` of the snapshots are surely better than those of a rule; the same for seats in use and others."""
    label = later.abandoned()
    if np.isnan(label).all():
        return Verdict(False, "no snapshot later than the training has been judged yet, so nothing can be compared")
    product = label[:, _PRODUCT]
    judged = int((~np.isnan(product)).sum())
    if judged < ENOUGH_TO_JUDGE:
        return Verdict(
            False,
            f"{judged} snapshots later than the training of both models have been judged by {PRODUCT_HORIZON_DAYS} days, "
            f"{ENOUGH_TO_JUDGE} are needed: wait for more outcomes to mature",
        )
    gave_up, kept_on = (len(np.unique(later.person[product == outcome])) for outcome in (1, 0))
    if min(gave_up, kept_on) < ENOUGH_OF_EITHER:
        return Verdict(
            False,
            f"of the people judged later than the training of both models {gave_up} gave up and {kept_on} kept on by "
            f"{PRODUCT_HORIZON_DAYS} days, at least {ENOUGH_OF_EITHER} of each are needed: with fewer whatever says the "
            "commoner outcome more boldly wins",
        )
    gain = _gain(later, mine, rule, tries=tries, seed=seed)
    if gain.low <= 0:
        return Verdict(False, f"it does not beat {whose}: log loss lower by {gain}{_said(tries)}")
    worse = _worse_horizon(later, mine, rule, whose=f"{whose}'s", seed=seed)
    return (
        Verdict(False, worse) if worse else Verdict(True, f"it beats {whose}: log loss lower by {gain}{_said(tries)}")
    )


def _gain(later: Dataset, mine: Floats, theirs: Floats, *, tries: int, seed: int) -> Estimate:
    label, weight = later.abandoned(), later.horizon_weight()
    return after_tries(compare(label, mine, theirs, later.person, weight=weight, seed=seed), tries)


def _said(tries: int) -> str:
    return "" if tries == 1 else f" (bounds for the best of {tries} candidates judged on this data)"


def _worse_horizon(later: Dataset, mine: Floats, theirs: Floats, *, whose: str, seed: int) -> str | None:
    """The sentence on the horizon that loses most, where one surely loses more than NOT_WORSE."""
    label, weight = later.abandoned(), later.horizon_weight()
    worst: tuple[float, str] | None = None
    for horizon, days in enumerate(HORIZONS_DAYS):
        if (~np.isnan(label[:, horizon])).sum() < ENOUGH_TO_JUDGE:
            continue
        known, ours, others, own = (values[:, [horizon]] for values in (label, mine, theirs, weight))
        gain = compare(known, ours, others, later.person, weight=own, seed=seed)
        if gain.high < -NOT_WORSE and (worst is None or gain.value < worst[0]):
            said = f"by {days} days its log loss is surely worse than {whose} by more than {NOT_WORSE}: lower by {gain}"
            worst = (gain.value, said)
    return None if worst is None else worst[1]


def _against_champion(fair: Dataset, mine: Floats, theirs: Floats, *, tries: int, seed: int) -> Verdict:
    gain = _gain(fair, mine, theirs, tries=tries, seed=seed)
    why = f"log loss lower than the champion's by {gain}{_said(tries)}"
    if gain.low <= 0:
        sharper = after_tries(_calibration_gain(fair, mine, theirs, seed=seed), tries)
        if gain.low <= -NOT_WORSE or sharper.low <= 0:
            return Verdict(False, f"it is no better than the champion: log loss lower by {gain}{_said(tries)}")
        why = (
            f"its log loss is not worse than the champion's by more than {NOT_WORSE} ({gain}), and it is better "
            f"calibrated: squared error of the frequencies lower by {sharper}{_said(tries)}"
        )
    worse = _worse_horizon(fair, mine, theirs, whose="the champion's", seed=seed)
    return Verdict(False, worse) if worse else Verdict(True, why)


def _calibration_gain(fair: Dataset, mine: Floats, theirs: Floats, *, seed: int) -> Estimate:
    label = fair.abandoned()[:, _PRODUCT]
    known = ~np.isnan(label)
    scores, weight = (mine[known, _PRODUCT], theirs[known, _PRODUCT]), fair.horizon_weight()[known, _PRODUCT]
    return calibration_gain(label[known], *scores, fair.person[known], weight=weight, seed=seed)


def _hurt_segment(fair: Dataset, mine: Floats, theirs: Floats, *, seed: int) -> str | None:
    """The sentence on the segment that loses most, where one surely loses more than SEGMENT_WORSE."""
    worst: tuple[float, str] | None = None
    for kind, names in segments(fair).items():
        for name in np.unique(names[names != ""]).tolist():
            rows = names == name
            gain = _surely_lost(fair.take(rows), mine[rows], theirs[rows], seed=seed)
            if gain is not None and (worst is None or gain.value < worst[0]):
                worst = (gain.value, f"it is much worse for {kind} {name}: log loss lower by {gain}")
    return None if worst is None else worst[1]


def _hurt_before_start(candidate: Scorer, champion: Scorer | None, fair: Dataset, *, seed: int) -> str | None:
    """The sentence on the seats that never started, where they surely lose more than SEGMENT_WORSE."""
    incumbent = replace(candidate, activation=None) if champion is None else champion
    mine, theirs = (scorer.score(fair.vectors, fair.categories).risk for scorer in (candidate, incumbent))
    gain = _surely_lost(fair, mine, theirs, seed=seed)
    return None if gain is None else f"it is much worse for seats that never started: log loss lower by {gain}"


def _surely_lost(part: Dataset, mine: Floats, theirs: Floats, *, seed: int) -> Estimate | None:
    """The gain of a part that surely loses more than SEGMENT_WORSE; None where it does not or is too small to say."""
    is_judged = (~np.isnan(part.abandoned())).any(axis=1)
    if len(np.unique(part.person)) < MIN_PEOPLE or is_judged.sum() < ENOUGH_TO_JUDGE:
        return None
    gain = _gain(part, mine, theirs, tries=1, seed=seed)
    return gain if gain.high < -SEGMENT_WORSE else None


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
