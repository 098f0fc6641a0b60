"""MONITORS: what can go wrong between training and serving, each said in sentences that a person can act on.

To add a monitor, write a function from Evidence to findings and name it in MONITORS. It is silent where all is well.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from features.catalogue import BY_NAME, CATEGORIES, FEATURES, Group
from monitoring.bins import MIN_GROUP
from monitoring.delivery import coverage, enough_data, late_events, late_sources, stale_features
from monitoring.drift import ALERT_QUANTILE, GROWING, OLD_FACTOR, OLD_SHARE, RUN_ALPHA, Drift, alert_threshold
from monitoring.findings import COUNTED, Evidence, Finding, Severity, listed, watch_or_act
from monitoring.impact import changed_decisions, lost_decisions
from monitoring.rates import column, feature_of
from monitoring.results import calibration, fairness, interventions, policy_value, sample_ratio
from monitoring.windows import MIN_SEATS, RISK, SEAT, Window

DECISIONS_ACT = 0.05  # our choice: one alert decision in twenty is wrong
ALERTS_WATCH = 0.02  # our choice: with a tenth alerted on, a fifth more or fewer work for coaches
MISSING_WATCH, MISSING_ACT = 0.05, 0.20  # our choice, in share of snapshots
RANGE_WATCH, RANGE_ACT = 0.001, 0.05  # our choice, in share of snapshots
SEEN_BY_CHANCE = 0.999  # chance that the reference would have had a category, were it as frequent there
UNSEEN_WATCH, UNSEEN_ACT = 0.01, 0.05  # our choice: the model knows nothing about such a name


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
_RANGES = {
    **dict.fromkeys(("share", "0 or 1"), (0.0, 1.0)),
    "-1 to 1": (-1.0, 1.0),
    "0 to 10": (0.0, 10.0),
    **dict.fromkeys(
        ("days", "weeks", "uses", "sessions", "prompts", "tasks", "seconds", "characters", "ratio"), (0.0, math.inf)
    ),
}
_NOT_AMOUNTS = frozenset({"category", "-1 to 1", "points", "0 or 1"})  # of these zero does not say that nothing came
_MEASURES = {"psi": "PSI", "jensenshannon": "Jensen–Shannon distance", "wasserstein": "shift in deviations"}
_LOST = "A source or roster field was lost."
_MORE_KNOWN = (
    "More is known of each seat: the rollout is older than at training, or a source or roster field was added."
)
_AGED = "The rollout is older than at training: these numbers grow with time."
_WENT_TO_ZERO = "A source most likely stopped or lost a kind of event: typical values fell to zero."


def feature_drift(evidence: Evidence) -> tuple[Finding, ...]:
    """One finding for each group of features in which some moved, the worst of them named."""
    moved = [d for d in evidence.moved.drifts.values() if d.name != RISK and d.is_shift]
    groups = {g: [d for d in moved if feature_of(d.name).group is g] for g in Group}
    return tuple(_group_drift(evidence, group, drifts) for group, drifts in groups.items() if drifts)


def _group_drift(evidence: Evidence, group: Group, drifts: list[Drift]) -> Finding:
    window = evidence.window
    worst = sorted(drifts, key=lambda drift: -drift.excess)
    judged = sum(feature_of(name).group is group for name in evidence.moved.drifts if name != RISK)
    named = listed([_moved(window, drift) for drift in worst])
    changed = f"{len(drifts)} of {judged} {group} columns moved: {named}."
    is_ageing = all(drift.name in GROWING for drift in drifts)
    share = None
    if evidence.scorer is not None and RISK in evidence.moved.drifts:
        share = changed_decisions(evidence.scorer, window, {feature_of(drift.name).name for drift in drifts})
        changed += f" It changes {share:.1%} of the decisions whom to alert on."
        severity = watch_or_act(share >= DECISIONS_ACT)
    else:
        severity = watch_or_act(any(drift.is_large and drift.name not in GROWING for drift in drifts))
    cause = _AGED if is_ageing else _WENT_TO_ZERO if _fell_to_zero(window, worst) else _CAUSES[group]
    action = "Check the sources behind these features; where the change is real, train again on recent weeks."
    return Finding(
        "feature_drift",
        severity,
        changed,
        f"{_MEASURES[worst[0].worst]} of {worst[0].name}",
        worst[0].values[worst[0].worst],
        worst[0].limits[worst[0].worst],
        None,
        cause,
        action,
        _beyond_chance(worst[0].excess),
        share,
    )


def _beyond_chance(times: float) -> str:
    return f"{times:.1f} times the limit, which any column at all passes by chance in about one run of {1 / RUN_ALPHA:.0f}."


def _moved(window: Window, drift: Drift) -> str:
    said = f"{_MEASURES[drift.worst]} {drift.values[drift.worst]:.2f}, limit {drift.limits[drift.worst]:.2f}"
    if feature_of(drift.name).is_category:
        return f"{drift.name} ({said})"
    before, now = _middle(window, drift.name)
    return f"{drift.name} ({before} → {now}; {said})"


def _middle(window: Window, name: str) -> tuple[str, str]:
    """The medians before and now; the means where the medians are equal, as those of rare things are."""
    sides = [column(side, name).drop_nulls().to_numpy() for side in (window.reference, window.current)]
    before, now = (float(np.median(side)) for side in sides)
    if before != now:
        return f"median {_short(before)}", _short(now)
    return f"mean {_short(float(sides[0].mean()))}", _short(float(sides[1].mean()))


def _short(value: float) -> str:
    return f"{0.0 if abs(value) < 0.005 else value:.3g}"


def _fell_to_zero(window: Window, drifts: list[Drift]) -> bool:
    names = [drift.name for drift in drifts if feature_of(drift.name).unit not in _NOT_AMOUNTS]
    return any(_median(column(window.current, name)) == 0 != _median(column(window.reference, name)) for name in names)


def prediction_drift(evidence: Evidence) -> tuple[Finding, ...]:
    """The risk moved, or another share of seats is above the alert threshold."""
    window, drift, alerts = evidence.window, evidence.moved.drifts.get(RISK), evidence.moved.alerts
    if not window.has_verdict:
        return ()
    if drift is None or alerts is None:
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
                COUNTED,
            ),
        )
    gap = abs(alerts.now - alerts.before)
    if not drift.is_shift and not (alerts.is_shift and gap >= ALERTS_WATCH):
        return ()
    before, now = (_median(side[RISK]) for side in (window.reference, window.current))
    changed = (
        f"{alerts.now:.1%} of the seats are above the alert threshold of {alert_threshold(window):.2f}, "
        f"{alerts.before:.1%} of their like in training (riskiest {1 - ALERT_QUANTILE:.0%}); "
        f"median risk {before:.2f} → {now:.2f}."
    )
    is_urgent = (drift.is_shift and drift.is_large) or (alerts.is_shift and gap >= DECISIONS_ACT)
    return (
        Finding(
            "prediction_drift",
            watch_or_act(is_urgent),
            changed,
            f"{_MEASURES[drift.worst]} of {RISK}",
            drift.values[drift.worst],
            drift.limits[drift.worst],
            None,
            "The features moved (see there), or the seats are others than in training.",
            "Explain it by the feature findings; else check calibration as labels mature.",
            _beyond_chance(max(drift.excess, gap / alerts.limit)),
            gap,
        ),
    )


def model_age(evidence: Evidence) -> tuple[Finding, ...]:
    """Most of the seats that are served are older than any that the model saw; then only large shifts are told."""
    window = evidence.window
    if not window.has_verdict or window.older <= OLD_SHARE:
        return ()
    changed = (
        f"{window.older:.0%} of the seats have had the tool for longer than any seat that the model was trained on."
    )
    cause = "The rollout has grown older since the last training."
    action = (
        "Train again: recent weeks have matured since. Until then columns are told of only from "
        f"{OLD_FACTOR:g} times their usual limit on."
    )
    share = window.older
    return (
        Finding("model_age", Severity.INFO, changed, "share older", share, OLD_SHARE, share, cause, action, COUNTED),
    )


def missing_values(evidence: Evidence) -> tuple[Finding, ...]:
    """One finding for each group with features that are missing more, or less, often than in training.

    Only values that were lost are urgent: as a rollout ages, more people have answered, trained, been helped.
    """
    found = []
    for group in Group:
        worst = [
            (name, change)
            for name, change in evidence.moved.missing.items()
            if BY_NAME[name].group is group and change.is_shift and abs(change.now - change.before) >= MISSING_WATCH
        ]
        if not worst:
            continue
        worst.sort(key=lambda pair: -abs(pair[1].now - pair[1].before))
        named = listed([f"{name} {change.before:.0%} → {change.now:.0%}" for name, change in worst])
        lost = max(change.now - change.before for _, change in worst)
        first = worst[0][1]
        found.append(
            Finding(
                "missing_values",
                watch_or_act(lost >= MISSING_ACT),
                f"The share of missing values changed in {len(worst)} {group} features: {named}.",
                f"change in share missing of {worst[0][0]}",
                abs(first.now - first.before),
                max(first.limit, MISSING_WATCH),
                abs(first.now - first.before),
                _LOST if lost > 0 else _MORE_KNOWN,
                "Compare the sources and the roster with those of the weeks of training.",
                _beyond_chance(abs(first.now - first.before) / first.limit),
                _decisions_lost(evidence, [name for name, _ in worst]),
            )
        )
    return tuple(found)


def _decisions_lost(evidence: Evidence, names: Sequence[str]) -> float | None:
    if evidence.scorer is None or evidence.moved.alerts is None:
        return None
    return lost_decisions(evidence.scorer, evidence.window, names)


def impossible_values(evidence: Evidence) -> tuple[Finding, ...]:
    """Values that the unit of the feature does not allow: a share above one, a count below zero."""
    window, found = evidence.window, []
    for feature in FEATURES:
        if feature.unit not in _RANGES:
            continue
        low, high = _RANGES[feature.unit]
        values = window.current[feature.name].drop_nulls().to_numpy()
        share = float(((values < low) | (values > high)).sum() / max(window.current.height, 1))
        if share < RANGE_WATCH:
            continue
        found.append(
            Finding(
                "impossible_values",
                watch_or_act(share >= RANGE_ACT),
                f"{share:.1%} of the seats have a {feature.name} outside {low:g} to {high:g} ({feature.unit}).",
                "share out of range",
                share,
                RANGE_WATCH,
                share,
                "A source changed the unit of a field, or sends values that cannot be.",
                "Look at the latest events of the source; correct them there and send them again.",
                COUNTED,
            )
        )
    return tuple(found)


def unseen_categories(evidence: Evidence) -> tuple[Finding, ...]:
    """Categories that the reference does not have, at whatever age; named only where at least MIN_GROUP seats have them."""
    window = evidence.window
    if not window.has_verdict:
        return ()
    found = []
    for feature in CATEGORIES:
        known = sorted(window.categories[feature.name])  # at any age: the model learned them from all of its training
        new = window.current.filter(pl.col(feature.name).is_not_null() & ~pl.col(feature.name).is_in(known))
        share = new.height / window.current.height
        would_be_seen = 1 - (1 - share) ** window.reference.height  # chance, had it been as frequent in training
        if share < UNSEEN_WATCH or would_be_seen < SEEN_BY_CHANCE:
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
                f"Counted; training would have had them with a chance above {SEEN_BY_CHANCE:.1%}, were they as frequent there.",
                None if evidence.scorer is None else changed_decisions(evidence.scorer, window, [feature.name]),
            )
        )
    return tuple(found)


def _median(values: pl.Series) -> float:
    return float(np.median(values.drop_nulls().to_numpy()))


MONITORS: tuple[Callable[[Evidence], tuple[Finding, ...]], ...] = (
    enough_data,
    coverage,
    stale_features,
    late_sources,
    late_events,
    impossible_values,
    missing_values,
    unseen_categories,
    feature_drift,
    prediction_drift,
    model_age,
    calibration,
    policy_value,
    sample_ratio,
    interventions,
    fairness,
)
