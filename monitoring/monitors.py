"""MONITORS: what can go wrong between training and serving, each said in sentences that a person can act on.

To add a monitor, write a function from Evidence to findings and name it in MONITORS. It is silent where all is well.
"""

import math
from collections.abc import Callable

import numpy as np
import polars as pl

from features.catalogue import BY_NAME, CATEGORIES, FEATURES, Feature, Group
from monitoring.delivery import coverage, enough_data, late_sources, stale_features
from monitoring.drift import MIN_GROUP, NOISE_QUANTILE, Drift
from monitoring.findings import NOISE_SD, Evidence, Finding, Severity, listed, watch_or_act
from monitoring.impact import ALERT_QUANTILE, alert_threshold, changed_decisions
from monitoring.windows import MIN_SEATS, RISK, SEAT, Window

DECISIONS_ACT = 0.05  # our choice: one alert decision in twenty is wrong
ALERTS_WATCH = 0.02  # our choice: with a tenth alerted on, a fifth more or fewer work for coaches
MISSING_WATCH, MISSING_ACT = 0.05, 0.20  # our choice, in share of snapshots
UNSEEN_WATCH, UNSEEN_ACT = 0.01, 0.05  # our choice: the model knows nothing about such a name


_GROWING = ("meaningful_ever", "tenure_days", "days_since_survey", "days_since_intervention")
_AGEING = frozenset(f.name for f in FEATURES if f.group is Group.ONBOARDING) | {BY_NAME[n].name for n in _GROWING}
_CAUSES = {
    Group.USAGE: "People use the tool differently, or a source of use was added, stopped or counts differently.",
    Group.DEPTH: "People use the tool for other work, or the workflows of the tool profile or of a source changed.",
    Group.FRICTION: "The tool itself changed, or a source reports sessions, errors or suggestions differently.",
    Group.OPPORTUNITY: "A source of work without AI was added or lost, or it is a holiday season.",
    Group.CONFIDENCE: "A survey was sent or changed, or prompt lengths are measured differently.",
    Group.VOICE: "A wave of tickets, or another way of scoring their text.",
    Group.ONBOARDING: "The rollout is older than at training, or a new cohort got seats.",
    Group.CONTEXT: "Other teams use the tool now, or the roster names roles, functions or regions differently.",
    Group.PEERS: "Teams, roles or managers changed in the roster, or whole teams took it up or let go of it.",
    Group.HISTORY: "More or fewer interventions were sent than in the weeks of training.",
}
_NOT_AMOUNTS = frozenset({"category", "-1 to 1", "points", "0 or 1"})  # of these zero does not say that nothing came
_LOST = "A source or roster field was lost."
_MORE_KNOWN = (
    "More is known of each seat: the rollout is older than at training, or a source or roster field was added."
)
_AGED = "The rollout is older than at training: these numbers grow with time."
_WENT_TO_ZERO = "A source most likely stopped or lost a kind of event: typical values fell to zero."


def feature_drift(evidence: Evidence) -> tuple[Finding, ...]:
    """One finding for each group of features in which some moved, the worst of them named."""
    moved = [d for d in evidence.drifts.values() if d.name != RISK and d.is_shift]
    groups = {g: [d for d in moved if BY_NAME[d.name].group is g] for g in Group}
    return tuple(_group_drift(evidence, group, drifts) for group, drifts in groups.items() if drifts)


def _group_drift(evidence: Evidence, group: Group, drifts: list[Drift]) -> Finding:
    window = evidence.window
    worst = sorted(drifts, key=lambda drift: -drift.psi)
    judged = sum(BY_NAME[name].group is group for name in evidence.drifts if name != RISK)
    named = listed([_moved(window, BY_NAME[drift.name], drift) for drift in worst])
    changed = f"{len(drifts)} of {judged} {group} features moved: {named}."
    is_ageing = all(drift.name in _AGEING for drift in drifts)
    share = None
    if evidence.scorer is not None and RISK in evidence.drifts:
        share = changed_decisions(evidence.scorer, window, [drift.name for drift in drifts])
        changed += f" It changes {share:.1%} of the decisions whom to alert on."
        severity = watch_or_act(share >= DECISIONS_ACT)
    else:
        severity = watch_or_act(any(drift.is_large and drift.name not in _AGEING for drift in drifts))
    cause = _AGED if is_ageing else _WENT_TO_ZERO if _fell_to_zero(window, worst) else _CAUSES[group]
    action = "Check the sources behind these features; where the change is real, train again on recent weeks."
    return Finding(
        "feature_drift",
        severity,
        changed,
        f"PSI of {worst[0].name}",
        worst[0].psi,
        worst[0].threshold,
        share,
        cause,
        action,
    )


def _moved(window: Window, feature: Feature, drift: Drift) -> str:
    if feature.is_category:
        return f"{feature.name} (PSI {drift.psi:.2f})"
    before, now = _median(window.reference[feature.name]), _median(window.current[feature.name])
    return f"{feature.name} (PSI {drift.psi:.2f}, median {before:.3g} → {now:.3g})"


def _fell_to_zero(window: Window, drifts: list[Drift]) -> bool:
    columns = [drift.name for drift in drifts if BY_NAME[drift.name].unit not in _NOT_AMOUNTS]
    return any(_median(window.current[name]) == 0 != _median(window.reference[name]) for name in columns)


def prediction_drift(evidence: Evidence) -> tuple[Finding, ...]:
    """The risk moved, or another share of seats is above the alert threshold."""
    window, drift = evidence.window, evidence.drifts.get(RISK)
    if not window.has_verdict:
        return ()
    if drift is None:
        n = window.current.filter(pl.col(RISK).is_not_null())[SEAT].n_unique()
        trained = window.reference[RISK].count()
        changed = (
            f"No verdict on the risk: {n} seats in use and {trained} snapshots of the reference have one of model "
            f"{window.model}; {MIN_SEATS} are needed."
        )
        return (
            Finding(
                "prediction_drift",
                Severity.WATCH,
                changed,
                "seats",
                n,
                MIN_SEATS,
                None,
                "Another model answered in this window.",
                "Compare with the model that served, or choose a later window.",
            ),
        )
    before, now = window.reference[RISK].drop_nulls(), window.current.filter(pl.col(RISK).is_not_null())
    alert = alert_threshold(window)
    usual, share = (float(np.mean(side.to_numpy() >= alert)) for side in (before, now[RISK]))
    noise = NOISE_SD * math.sqrt(usual * (1 - usual) * (1 / before.len() + 1 / now[SEAT].n_unique()))
    if not drift.is_shift and abs(share - usual) < ALERTS_WATCH + noise:
        return ()
    changed = (
        f"{share:.1%} of the scores are above the alert threshold of {alert:.2f}, {usual:.1%} in training (riskiest "
        f"{1 - ALERT_QUANTILE:.0%}); median risk {_median(before):.2f} → {_median(now[RISK]):.2f}."
    )
    severity = watch_or_act(drift.is_large or abs(share - usual) >= DECISIONS_ACT + noise)
    return (
        Finding(
            "prediction_drift",
            severity,
            changed,
            f"PSI of {RISK}",
            drift.psi,
            drift.threshold,
            abs(share - usual),
            "The features moved (see there), or the seats are others than in training.",
            "Explain it by the feature findings; else check calibration as labels mature.",
        ),
    )


def missing_values(evidence: Evidence) -> tuple[Finding, ...]:
    """One finding for each group with features that are missing more, or less, often than in training.

    Only values that were lost are urgent: as a rollout ages, more people have answered, trained, been helped.
    """
    window = evidence.window
    if not window.has_verdict:
        return ()
    n, m = window.reference.height, window.seats
    changes = {f: _null_share(window.current, f.name) - _null_share(window.reference, f.name) for f in FEATURES}
    found = []
    for group in Group:
        worst = []
        for feature in (f for f in FEATURES if f.group is group):
            before = _null_share(window.reference, feature.name)
            pooled = before + changes[feature] / 2
            noise = NOISE_SD * math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
            if abs(changes[feature]) >= MISSING_WATCH + noise:
                worst.append((abs(changes[feature]), MISSING_WATCH + noise, feature.name, before))
        if not worst:
            continue
        worst.sort(reverse=True)
        named = listed([f"{name} {b:.0%} → {_null_share(window.current, name):.0%}" for _, _, name, b in worst])
        change, threshold, name, _ = worst[0]
        lost = max(changes[BY_NAME[name]] for _, _, name, _ in worst)
        found.append(
            Finding(
                "missing_values",
                watch_or_act(lost >= MISSING_ACT),
                f"The share of missing values changed in {len(worst)} {group} features: {named}.",
                f"change in share missing of {name}",
                change,
                threshold,
                change,
                _LOST if lost > 0 else _MORE_KNOWN,
                "Compare the sources and the roster with those of the weeks of training.",
            )
        )
    return tuple(found)


def unseen_categories(evidence: Evidence) -> tuple[Finding, ...]:
    """Categories that the reference does not have; named only where at least MIN_GROUP seats have them."""
    window = evidence.window
    if not window.has_verdict:
        return ()
    found = []
    for feature in CATEGORIES:
        known = window.reference[feature.name].drop_nulls().unique().to_list()
        new = window.current.filter(pl.col(feature.name).is_not_null() & ~pl.col(feature.name).is_in(known))
        share = new.height / window.current.height
        would_be_seen = 1 - (1 - share) ** window.reference.height  # chance, had it been as frequent in training
        if share < UNSEEN_WATCH or would_be_seen < NOISE_QUANTILE:
            continue
        sizes = (
            new.group_by(feature.name).agg(pl.col(SEAT).n_unique().alias("n")).sort("n", feature.name, descending=True)
        )
        shown = sizes.filter(pl.col("n") >= MIN_GROUP)[feature.name].to_list()
        named = listed([repr(name) for name in shown]) or f"each at fewer than {MIN_GROUP} seats"
        found.append(
            Finding(
                "unseen_categories",
                watch_or_act(share >= UNSEEN_ACT),
                f"{share:.1%} of the scores have a {feature.name} that the model was not trained on: {named}.",
                "share unseen",
                share,
                UNSEEN_WATCH,
                share,
                "New teams got seats, or the roster renamed its categories.",
                "Map renamed categories back to the old names; for new ones train again once labels have matured.",
            )
        )
    return tuple(found)


def _median(values: pl.Series) -> float:
    return float(np.median(values.drop_nulls().to_numpy()))


def _null_share(frame: pl.DataFrame, name: str) -> float:
    return frame[name].null_count() / frame.height


MONITORS: tuple[Callable[[Evidence], tuple[Finding, ...]], ...] = (
    enough_data,
    coverage,
    stale_features,
    late_sources,
    missing_values,
    unseen_categories,
    feature_drift,
    prediction_drift,
)
