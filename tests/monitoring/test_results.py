"""Monitors of outcomes on simulated streams: silent where nothing is wrong, however often they look; loud where something is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from benchmarks.bench_monitoring_outcomes import alarms, looks, no_window, policy_of, scores, stream, truth_of
from features.log import Arrivals
from monitoring.delivery import FEWEST_ARRIVALS, late_events
from monitoring.drift import Moved
from monitoring.findings import Evidence, Finding, Severity
from monitoring.results import calibration, interventions, policy_value, sample_ratio
from monitoring.truth import PolicyTruth, Truth, effect_against_none
from monitoring.windows import Window
from training.offpolicy import Value

NOW = datetime(2026, 9, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def window() -> Window:
    return no_window()


@pytest.fixture(scope="module")
def policy() -> PolicyTruth:
    return policy_of(stream(1, n=1_000))


def evidence(window: Window, **changes: object) -> Evidence:
    return replace(Evidence(window, Moved(), (), NOW), **changes)  # type: ignore[arg-type]  # by name, in tests


def test_nothing_is_said_while_nothing_has_matured(window: Window) -> None:
    for truth in (None, Truth()):
        assert alarms(truth or Truth(), window) == set()


def test_streams_without_a_fault_are_quiet_at_every_look(window: Window) -> None:
    """60 streams, 12 looks each: at one false alarm in a hundred looks seven would be expected; 3 allow for what hangs together."""
    loud = sum(bool(said) for seed in range(60) for said in looks(stream(seed), window))
    assert loud <= 3


def test_the_interval_of_an_effect_holds_over_all_looks() -> None:
    """The truth is zero. 95 % at every moment at once: of 60 streams at most 3 expected to leave it out, 8 by three deviations."""
    missed = missed_by_usual = 0
    for seed in range(60):
        data = stream(1_000 + seed)
        q = np.full(data.propensity.shape, 0.6)
        found = [effect_against_none(data.take(np.arange(n)), q, 2)[0] for n in range(250, 3_001, 250)]
        known = [value for value in found if value is not None]
        assert len(known) == 12
        missed += any(not value.low <= 0 <= value.high for value in known)
        missed_by_usual += any(abs(value.value) > (value.high - value.low) / 4 for value in known)
    assert missed <= 8
    assert missed_by_usual > missed


def test_an_intervention_that_loses_seats_is_named(window: Window) -> None:
    (finding,) = interventions(evidence(window, truth=Truth(policy=policy_of(stream(3, harm=0.25)))))
    assert finding.severity is Severity.ACT
    assert finding.changed.startswith("call loses seats: -")
    assert "whenever one looks" in finding.changed
    assert finding.decisions == finding.affected
    assert "interventions.yaml" in finding.action


def test_lost_draws_are_a_sample_ratio_mismatch(window: Window) -> None:
    found = sample_ratio(evidence(window, truth=Truth(policy=policy_of(stream(3, lost=0.3)))))
    assert [(one.monitor, one.severity) for one in found] == [("sample_ratio", Severity.ACT)]
    assert "call came up -" in found[0].changed


def test_an_arm_that_is_hardly_tried_is_told_as_information(window: Window, policy: PolicyTruth) -> None:
    rare = replace(policy, support=[replace(policy.support[1], smallest=0.001)])
    (finding,) = sample_ratio(evidence(window, truth=Truth(policy=rare)))
    assert (finding.monitor, finding.severity) == ("support", Severity.INFO)


@pytest.mark.parametrize(
    ("gain", "is_told"),
    [
        (Value(-0.05, -0.06, -0.04), True),
        (Value(-0.05, -0.099, -0.001), False),  # below zero with 95 %, not with one in a thousand
        (Value(0.05, 0.04, 0.06), False),
        (Value(-0.05, float("nan"), float("nan")), False),
        (None, False),
    ],
)
def test_decisions_that_surely_lose_seats_call_for_action(
    gain: Value | None, is_told: bool, window: Window, policy: PolicyTruth
) -> None:
    found = policy_value(evidence(window, truth=Truth(policy=replace(policy, against_holdout=gain))))
    assert [(one.monitor, one.severity) for one in found] == ([("policy_value", Severity.ACT)] if is_told else [])
    assert not found or "teams that were left alone [-60, -40]" in found[0].changed


def test_risks_that_are_told_too_low_are_said_with_the_decisions_that_would_change(window: Window) -> None:
    (finding,) = calibration(evidence(window, truth=truth_of(scores(2, low_by=0.15), 0.7)))
    assert finding.severity is Severity.ACT
    assert "more of the seats were abandoned than the model told" in finding.changed
    assert finding.decisions is not None
    assert 0 < finding.decisions < 0.5


def test_a_model_that_lost_its_order_is_told(window: Window) -> None:
    (finding,) = calibration(evidence(window, truth=truth_of(scores(2), 0.99)))
    assert (finding.measure, finding.severity) == ("AUC", Severity.WATCH)


def test_a_role_whose_risk_is_wrong_is_found_as_unfair(window: Window) -> None:
    assert "fairness" in alarms(truth_of(scores(2, low_by=0.35, low_for="writer"), 0.7), window)


@pytest.mark.parametrize(
    ("events", "late", "severity"),
    [
        (1_000, 20, None),
        (1_000, 60, Severity.WATCH),
        (1_000, 600, Severity.ACT),
        (FEWEST_ARRIVALS - 1, FEWEST_ARRIVALS - 1, None),
        (0, 0, None),
    ],
)
def test_late_events_are_said_by_their_share_of_enough_events(
    events: int, late: int, severity: Severity | None, window: Window
) -> None:
    told: tuple[Finding, ...] = late_events(
        evidence(window, arrivals=(Arrivals("usage", events, late, timedelta(days=9)),))
    )
    assert [one.severity for one in told] == ([] if severity is None else [severity])
    assert all("usage came more than 1 day later" in one.changed and "up to 9 days" in one.changed for one in told)
