"""Monitors of what came of scores and decisions: calibration, worth of the policy, its draws, each step, each group."""

import math

from monitoring.bins import MIN_GROUP
from monitoring.findings import COUNTED, NOISE_SD, RARE, Evidence, Finding, Severity, listed, watch_or_act
from monitoring.truth import HARM_ALPHA
from training.offpolicy import MISMATCH_P

GAP_WATCH, GAP_ACT = 0.03, 0.08  # our choice, in share of seats: three and eight in a hundred
GROUP_GAP = 0.08  # our choice: a group's risk is wrong by eight in a hundred
AUC_LOST = 0.05  # our choice, against the AUC at training
SMALLEST_CHANCE = 0.005  # our choice: below one in two hundred an arm teaches nothing within a quarter


def calibration(evidence: Evidence) -> tuple[Finding, ...]:
    """The share that abandoned is not the share that was told, or the order of the seats got worse than at training."""
    found = None if evidence.truth is None else evidence.truth.calibration
    if found is None:
        return ()
    findings = []
    threshold = GAP_WATCH + NOISE_SD * found.error
    if abs(found.gap) >= threshold:
        more = "more" if found.gap > 0 else "fewer"
        findings.append(
            Finding(
                "calibration",
                watch_or_act(abs(found.gap) >= GAP_ACT + NOISE_SD * found.error),
                f"{abs(found.gap):.1%} {more} of the seats were abandoned than the model told: {found.abandoned:,} of "
                f"{found.scores:,} scores of {found.people:,} people (gap ± {1.96 * found.error:.1%}).",
                "share abandoned less mean risk",
                abs(found.gap),
                threshold,
                1.0,
                "People behave otherwise than in the weeks of training, or features mean something else now.",
                "Train again: the labels that show the gap are there to learn from. Until then rank, but do not quote, risks.",
                RARE,
                found.crossing,
            )
        )
    if found.auc_at_training is not None and found.auc.high < found.auc_at_training - AUC_LOST:
        findings.append(
            Finding(
                "calibration",
                Severity.WATCH,
                f"The model tells those who stay from those who leave less well than at training: AUC {found.auc} against "
                f"{found.auc_at_training:.3f}; the riskiest tenth abandons {found.lift.value:.1f} times as often as all.",
                "AUC",
                found.auc.value,
                found.auc_at_training - AUC_LOST,
                None,
                "A feature that the model rests on lost its meaning, or the people who are left are harder to tell apart.",
                "See which features moved; train again.",
                f"The whole 95 % interval lies more than {AUC_LOST} below.",
            )
        )
    return tuple(findings)


def policy_value(evidence: Evidence) -> tuple[Finding, ...]:
    """Deciding is surely worse than leaving people alone."""
    found = None if evidence.truth is None else evidence.truth.policy
    if found is None:
        return ()
    findings = []
    for name, gain in (("teams that were left alone", found.against_holdout), ("doing nothing", found.against_none)):
        if gain is None or not gain.high < 0 or not _is_sure(gain.value, gain.high - gain.value):
            continue
        findings.append(
            Finding(
                "policy_value",
                Severity.ACT,
                f"Decisions lose seats: {1000 * gain.value:+.0f} kept per 1 000 decisions against {name} "
                f"[{1000 * gain.low:+.0f}, {1000 * gain.high:+.0f}], on {found.matured:,} matured decisions.",
                f"gain over {name}",
                gain.value,
                0.0,
                1.0,
                "An intervention does harm, or goes to people whom contact harms.",
                "See the interventions below; take the harmful one out of the catalogue, then `rekindle learn`.",
                RARE,
            )
        )
    return tuple(findings)


def sample_ratio(evidence: Evidence) -> tuple[Finding, ...]:
    """Interventions come up more or less often than their logged probabilities say, or too seldom to teach."""
    found = None if evidence.truth is None else evidence.truth.policy
    if found is None:
        return ()
    findings = []
    if found.mismatch.is_mismatched:
        arm = max(found.mismatch.gap, key=lambda name: abs(found.mismatch.gap[name]))
        gap = found.mismatch.gap[arm]
        findings.append(
            Finding(
                "sample_ratio",
                Severity.ACT,
                f"Interventions are not drawn as logged (p = {found.mismatch.p_value:.1e}): {arm} came up {gap:+.1%} "
                "against its logged probabilities.",
                "p-value",
                found.mismatch.p_value,
                MISMATCH_P,
                abs(gap),
                "Decisions are lost or filtered after they are drawn, or a client overrules them without saying so.",
                "Find where decisions get lost before anything is learned or promoted; the gate is closed until then.",
                f"Draws as logged would show that with a chance of {found.mismatch.p_value:.1e}.",
                abs(gap),
            )
        )
    rare = [one for one in found.support if one.eligible >= MIN_GROUP and 0 < one.smallest < SMALLEST_CHANCE]
    if rare:
        named = listed([f"{one.arm} (at least {one.smallest:.2%})" for one in rare])
        findings.append(
            Finding(
                "support",
                Severity.INFO,
                f"Some interventions are tried too seldom to learn what they do: {named}.",
                "smallest probability",
                min(one.smallest for one in rare),
                SMALLEST_CHANCE,
                None,
                "The share of exploration is small for the number of interventions.",
                "Raise REKINDLE_EPSILON, or offer fewer interventions.",
                COUNTED,
            )
        )
    return tuple(findings)


def interventions(evidence: Evidence) -> tuple[Finding, ...]:
    """An intervention that surely loses seats against doing nothing, whenever one looks."""
    found = None if evidence.truth is None else evidence.truth.policy
    if found is None:
        return ()
    total = max(sum(arm.decisions for arm in found.arms), 1)
    return tuple(
        Finding(
            "interventions",
            Severity.ACT,
            f"{arm.name} loses seats: {1000 * arm.effect.value:+.0f} kept per 1 000 against doing nothing "
            f"[{1000 * arm.effect.low:+.0f}, {1000 * arm.effect.high:+.0f}, whenever one looks]; {arm.kept.value:.0%} of "
            f"{arm.decisions:,} were kept.",
            f"effect of {arm.name}",
            arm.effect.value,
            0.0,
            arm.decisions / total,
            "It does harm, at least to those it is given to.",
            "Take it out of the catalogue (interventions.yaml), then `rekindle learn`.",
            f"However often one looks, and over all interventions, chance says so at most once in {1 / HARM_ALPHA:,.0f} rollouts.",
            arm.decisions / total,
        )
        for arm in found.arms
        if arm.effect is not None and arm.decisions >= MIN_GROUP and arm.effect_at_most < 0
    )


def fairness(evidence: Evidence) -> tuple[Finding, ...]:
    """Groups for which the risk is wrong by far more than for all: they are alerted on too often, or too seldom."""
    if evidence.truth is None or evidence.truth.calibration is None:
        return ()
    groups, overall = evidence.truth.groups, evidence.truth.calibration.gap
    noise = NOISE_SD + math.log1p(len(groups)) / 2  # our choice: a little more for each further group that is looked at
    wrong = [one for one in groups if abs(one.gap - overall) >= GROUP_GAP + noise * one.error]
    if not wrong:
        return ()
    wrong.sort(key=lambda one: -abs(one.gap - overall))
    named = listed(
        [
            f"{one.dimension} {one.name} ({one.people} people, {one.gap:+.1%} against what was told, {one.selected:.0%} "
            "alerted on)"
            for one in wrong
        ]
    )
    people = sum(one.scores for one in groups if one.dimension == wrong[0].dimension)
    return (
        Finding(
            "fairness",
            watch_or_act(any(abs(one.gap - overall) >= 2 * GROUP_GAP for one in wrong)),
            f"The risk is wrong for some groups while it holds for the others: {named}.",
            f"gap of {wrong[0].dimension} {wrong[0].name}",
            abs(wrong[0].gap - overall),
            GROUP_GAP + noise * wrong[0].error,
            wrong[0].scores / max(people, 1),
            "The model saw few of them, or their work shows otherwise in the sources.",
            "Check their sources; train again once enough of their labels have matured.",
            f"Beyond {noise:.1f} deviations of chance over people, more than {NOISE_SD} because many groups are looked at.",
        ),
    )


def _is_sure(value: float, half: float) -> bool:
    """Whether a gain lies beyond NOISE_SD deviations, given half of its 95 % interval."""
    return abs(value) >= NOISE_SD * half / 1.96
