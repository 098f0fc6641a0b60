import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from features.catalogue import BY_NAME, CATEGORIES, FEATURES, NUMERIC, Group
from features.rules import Stratum
from features.scorer import LinearHazard, Method, Scorer
from features.sources import Source
from monitoring.delivery import coverage, enough_data, late_sources, stale_features
from monitoring.drift import Moved, measure
from monitoring.findings import Evidence, Finding, Severity
from monitoring.monitors import MONITORS, feature_drift, missing_values, prediction_drift, unseen_categories
from monitoring.windows import DAYS_SCHEMA, RISK, SEAT, Window

NOW = datetime(2026, 5, 11, 6, tzinfo=UTC)
FRESH = Source("acme", "claude", "otel", timedelta(hours=1), NOW - timedelta(days=90), NOW - timedelta(hours=3))
USE_OF_ONE_WEEK = ("active_days_7", "uses_7", "sessions_7")

Snapshots = Callable[..., pl.DataFrame]
Windows = Callable[..., Window]


def evidence_of(window: Window, *, scorer: Scorer | None = None) -> Evidence:
    return Evidence(window, measure(window) if window.has_verdict else Moved(), (FRESH,), NOW, scorer)


def unmeasured(window: Window) -> Evidence:
    """For monitors that do not ask for the drift."""
    return Evidence(window, Moved(), (FRESH,), NOW)


def findings_of(evidence: Evidence) -> list[Finding]:
    return [finding for monitor in MONITORS for finding in monitor(evidence)]


def scorer_on(name: str, weight: float) -> Scorer:
    """A logistic hazard that listens to one feature; squashed, so that log 30 is about 3.4."""
    n_levels = {feature.name: ("only",) for feature in CATEGORIES}
    weights = [weight * (feature.name == name) for feature in NUMERIC] + [0.0] * len(CATEGORIES)
    flat = tuple([0.0] * len(NUMERIC))
    linear = LinearHazard(flat, flat, tuple([1.0] * len(NUMERIC)), tuple(weights), tuple([-4.0] * 9))
    return Scorer(Method.LOGISTIC, levels=n_levels, linear=linear)


@pytest.fixture(scope="module")
def identical(snapshots: Snapshots, window_of: Windows) -> Evidence:
    frame = snapshots(1500, seed=1)
    return evidence_of(window_of(frame, frame), scorer=scorer_on("prompts_28", 1.0))


@pytest.fixture(scope="module")
def doubled(snapshots: Snapshots, window_of: Windows) -> Window:
    current = snapshots(1500, seed=3).with_columns(pl.col("prompts_28") * 2)
    return window_of(snapshots(1500, seed=2), current)


@pytest.fixture(scope="module")
def doubled_evidence(doubled: Window) -> Evidence:
    return evidence_of(doubled)


@pytest.mark.parametrize("monitor", MONITORS, ids=lambda monitor: monitor.__name__)
def test_monitor_is_quiet_on_identical_windows(
    monitor: Callable[[Evidence], tuple[Finding, ...]], identical: Evidence
) -> None:
    assert monitor(identical) == ()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("n", [400, 3000])
def test_random_halves_of_the_same_data_are_quiet(n: int, seed: int, snapshots: Snapshots, window_of: Windows) -> None:
    mixed = snapshots(n, seed=10 + seed)
    assert findings_of(evidence_of(window_of(mixed.head(n // 2), mixed.tail(n // 2)))) == []


def test_doubled_prompts_are_found_and_named(doubled_evidence: Evidence) -> None:
    (finding,) = feature_drift(doubled_evidence)
    assert finding.severity is Severity.ACT
    assert finding.changed.startswith("2 of 22 usage columns moved: prompts_28")


def test_a_drift_that_no_decision_listens_to_is_only_to_look_at(doubled_evidence: Evidence) -> None:
    (finding,) = feature_drift(replace(doubled_evidence, scorer=scorer_on("prompts_28", 0.0)))
    assert (finding.severity, finding.decisions) == (Severity.WATCH, 0.0)


def test_a_drift_that_changes_decisions_calls_for_action_and_says_how_many(
    doubled: Window, doubled_evidence: Evidence
) -> None:
    scorer = scorer_on("prompts_28", 1.0)
    vectors = doubled.reference.select(f.name for f in NUMERIC).to_numpy()
    risk = scorer.score(vectors, [("",) * len(CATEGORIES)] * len(vectors)).risk[:, -1]
    window = replace(doubled, reference=doubled.reference.with_columns(pl.Series(RISK, risk)))
    (finding,) = feature_drift(replace(doubled_evidence, window=window, scorer=scorer))
    assert finding.severity is Severity.ACT
    assert finding.decisions is not None
    assert finding.decisions > 0.05
    assert f"It changes {finding.decisions:.1%} of the decisions" in finding.changed


def test_use_that_went_to_zero_points_at_a_stopped_source(snapshots: Snapshots, window_of: Windows) -> None:
    stopped = snapshots(1500, seed=5).with_columns(pl.lit(0.0).alias(name) for name in USE_OF_ONE_WEEK)
    (finding,) = feature_drift(evidence_of(window_of(snapshots(1500, seed=4), stopped)))
    assert finding.severity is Severity.ACT
    assert "3 of 20 usage columns" in finding.changed
    assert finding.cause.startswith("A source most likely stopped")


def test_numbers_that_grow_with_the_rollout_are_only_to_look_at(snapshots: Snapshots, window_of: Windows) -> None:
    older = snapshots(1500, seed=7).with_columns(pl.col("surveys_asked_180") + 20)
    (finding,) = feature_drift(evidence_of(window_of(snapshots(1500, seed=6), older)))
    assert finding.severity is Severity.WATCH
    assert "older than at training" in finding.cause


def test_a_risk_that_rose_is_said_in_alerts(snapshots: Snapshots, window_of: Windows) -> None:
    riskier = snapshots(1500, seed=9).with_columns((pl.col(RISK) * 1.6).clip(0, 1))
    (finding,) = prediction_drift(evidence_of(window_of(snapshots(1500, seed=8), riskier)))
    assert finding.severity is Severity.ACT
    assert "of their like in training (riskiest 10%)" in finding.changed


def test_scores_of_another_model_get_no_verdict_on_the_risk(snapshots: Snapshots, window_of: Windows) -> None:
    other = snapshots(400, seed=9).with_columns(pl.lit(None, pl.Float64).alias(RISK))
    (finding,) = prediction_drift(unmeasured(window_of(snapshots(400, seed=8), other)))
    assert finding.changed.startswith("No verdict on the risk: 0 seats in use")


def test_values_that_went_missing_are_named(snapshots: Snapshots, window_of: Windows) -> None:
    lost = snapshots(400, seed=9).with_columns(pl.lit(None, pl.Float64).alias("confidence_last"))
    (finding,) = missing_values(evidence_of(window_of(snapshots(400, seed=8), lost)))
    assert finding.severity is Severity.ACT
    assert re.search(r"confidence_last \d\d% → 100%", finding.changed)


def test_values_that_are_known_more_often_are_only_to_look_at(snapshots: Snapshots, window_of: Windows) -> None:
    asked = snapshots(400, seed=9).with_columns(pl.lit(7.0).alias("confidence_last"))
    before = snapshots(400, seed=8).with_columns(pl.lit(None, pl.Float64).alias("confidence_last"))
    (finding,) = missing_values(evidence_of(window_of(before, asked)))
    assert finding.severity is Severity.WATCH


def with_role(frame: pl.DataFrame, role: str, n: int) -> pl.DataFrame:
    return frame.with_columns(pl.when(pl.col(SEAT) < n).then(pl.lit(role)).otherwise("role").alias("role"))


def test_a_new_category_is_named(snapshots: Snapshots, window_of: Windows) -> None:
    new = with_role(snapshots(1500, seed=9), "robotics", 150)
    (finding,) = unseen_categories(unmeasured(window_of(snapshots(1500, seed=8), new)))
    assert finding.severity is Severity.ACT
    assert finding.affected == pytest.approx(0.1)
    assert "a role that the model was not trained on: 'robotics'" in finding.changed


def test_a_category_that_training_knew_at_another_age_is_not_new(snapshots: Snapshots, window_of: Windows) -> None:
    """A department that joined when the rollout was old: its seats grow beyond the age that training saw them at."""
    new = with_role(snapshots(1500, seed=9), "robotics", 150)
    window = window_of(snapshots(1500, seed=8), new)
    known = {**window.categories, "role": window.categories["role"] | {"robotics"}}

    assert unseen_categories(unmeasured(replace(window, categories=known))) == ()


def test_a_new_category_of_few_seats_is_counted_but_not_named(snapshots: Snapshots, window_of: Windows) -> None:
    new = with_role(snapshots(400, seed=9), "the only robotics lead", 9)
    (finding,) = unseen_categories(unmeasured(window_of(snapshots(1500, seed=8), new)))
    assert "each at fewer than 10 seats" in finding.changed
    assert "robotics" not in str(finding)


def test_too_few_seats_give_no_verdict_and_say_so(snapshots: Snapshots, window_of: Windows) -> None:
    few = snapshots(150, seed=1)
    (finding,) = findings_of(evidence_of(window_of(snapshots(400, seed=2), few)))
    assert finding.changed == (
        "Not enough data for a verdict: 150 seats in use were served, and 0 snapshots of seats silent or not started; "
        "200 are needed."
    )


def test_many_days_of_few_seats_are_still_few_seats(snapshots: Snapshots, window_of: Windows) -> None:
    week = pl.concat([snapshots(150, seed=seed) for seed in range(7)])
    (finding,) = enough_data(unmeasured(window_of(snapshots(400, seed=2), week)))
    assert finding.value == 150


def test_a_small_reference_gives_no_verdict_and_says_so(snapshots: Snapshots, window_of: Windows) -> None:
    (finding,) = enough_data(unmeasured(window_of(snapshots(20, seed=1), snapshots(400, seed=2))))
    assert "the reference has 20 snapshots" in finding.changed


def table_of(*rows: dict[str, Any]) -> pl.DataFrame:
    empty = dict.fromkeys(DAYS_SCHEMA, 0)
    return pl.DataFrame([empty | {"day": date(2026, 5, 4 + i)} | row for i, row in enumerate(rows)], DAYS_SCHEMA)


def days_evidence(identical: Evidence, *rows: dict[str, Any]) -> Evidence:
    return replace(identical, window=replace(identical.window, days=table_of(*rows)))


def test_seats_in_use_that_vanish_within_the_window_call_for_action(identical: Evidence) -> None:
    rows = ({"seats": 900, Stratum.IN_USE: 800, Stratum.SILENT: 100}, {"seats": 900, Stratum.SILENT: 900})
    (finding,) = coverage(days_evidence(identical, *rows))
    assert finding.severity is Severity.ACT
    assert finding.changed == "Seats in use fell from 89% of those served on 2026-05-04 to 0% on 2026-05-05."


@pytest.mark.parametrize(
    ("column", "count", "severity"),
    [
        ("without_features", 5, None),
        ("without_features", 20, Severity.WATCH),
        ("without_features", 100, Severity.ACT),
        ("other_catalogue", 500, Severity.WATCH),
    ],
)
def test_snapshots_that_were_left_out_are_said(
    column: str, count: int, severity: Severity | None, identical: Evidence
) -> None:
    evidence = days_evidence(identical, {"seats": 1000, column: count, Stratum.IN_USE: 1000 - count})
    assert [finding.severity for finding in coverage(evidence)] == ([] if severity is None else [severity])


@pytest.mark.parametrize(("stale", "severity"), [(9, None), (30, Severity.WATCH), (500, Severity.ACT)])
def test_stale_features_are_said_by_their_share(stale: int, severity: Severity | None, identical: Evidence) -> None:
    evidence = days_evidence(identical, {"seats": 1000, Stratum.IN_USE: 1000, "stale": stale})
    assert [finding.severity for finding in stale_features(evidence)] == ([] if severity is None else [severity])


@pytest.mark.parametrize(
    ("silent_days", "severity"), [(4, None), (6, Severity.WATCH), (20, Severity.ACT), (60, Severity.INFO)]
)
def test_a_source_among_others_is_late_beyond_its_own_lag_until_it_counts_as_retired(
    silent_days: int, severity: Severity | None, identical: Evidence
) -> None:
    slow = replace(FRESH, source="export", lag=timedelta(days=2), watermark=NOW - timedelta(days=silent_days))
    found = late_sources(replace(identical, sources=(FRESH, slow)))
    assert [finding.severity for finding in found] == ([] if severity is None else [severity])


@pytest.mark.parametrize(("silent_days", "severity"), [(5, Severity.WATCH), (10, Severity.ACT), (60, Severity.ACT)])
def test_silence_of_every_source_calls_for_action(silent_days: int, severity: Severity, identical: Evidence) -> None:
    silent = replace(FRESH, lag=timedelta(0), watermark=NOW - timedelta(days=silent_days))
    (finding,) = late_sources(replace(identical, sources=(silent, replace(silent, source="export"))))
    assert finding.severity is severity


def test_a_late_source_is_named_with_its_last_sign_of_life(identical: Evidence) -> None:
    slow = replace(FRESH, source="export", watermark=NOW - timedelta(days=10))
    (finding,) = late_sources(replace(identical, sources=(FRESH, slow)))
    assert finding.changed == "1 of 2 sources are silent: export (acme, claude) since 2026-05-01 06:00."


def test_every_group_has_a_cause_to_offer(identical: Evidence, snapshots: Snapshots, window_of: Windows) -> None:
    shifted = snapshots(400, seed=9).with_columns(pl.col(f.name) * 5 + 5 for f in NUMERIC)
    found = feature_drift(evidence_of(window_of(snapshots(400, seed=8), shifted)))
    assert len(found) == len({BY_NAME[f.name].group for f in FEATURES}) == len(Group)
    assert all(finding.cause and finding.action for finding in found)
