from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitoring.findings import Finding, Severity
from monitoring.report import MonitorRun
from monitoring.retrain import ask_for_retraining
from training.signals import open_signal

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)


def run(*findings: Finding) -> MonitorRun:
    return MonitorRun("r1", Path("r1"), findings)


def finding(monitor: str, severity: Severity) -> Finding:
    return Finding(monitor, severity, "it moved.", "PSI", 0.5, 0.2, None, "a cause", "an action", "counted")


@pytest.mark.parametrize("monitor", ["feature_drift", "prediction_drift", "unseen_categories"])
def test_an_urgent_change_that_a_new_model_would_mend_asks_for_one(tmp_path: Path, monitor: str) -> None:
    asked = ask_for_retraining(tmp_path, run(finding(monitor, Severity.ACT)), now=NOW)
    assert asked is not None
    assert (asked.reason, asked.run) == ("it moved.", "r1")
    assert open_signal(tmp_path) == asked


@pytest.mark.parametrize(("monitor", "severity"), [("feature_drift", Severity.WATCH), ("missing_values", Severity.ACT)])
def test_what_is_not_urgent_or_is_mended_at_its_source_does_not(
    tmp_path: Path, monitor: str, severity: Severity
) -> None:
    assert ask_for_retraining(tmp_path, run(finding(monitor, severity)), now=NOW) is None
    assert open_signal(tmp_path) is None


@pytest.mark.parametrize("broken", ["late_sources", "missing_values", "impossible_values"])
def test_drift_asks_for_nothing_while_a_source_is_broken(tmp_path: Path, broken: str) -> None:
    drift, fault = finding("feature_drift", Severity.ACT), finding(broken, Severity.WATCH)
    assert ask_for_retraining(tmp_path, run(drift, fault), now=NOW) is None
    new = finding("unseen_categories", Severity.ACT)
    assert ask_for_retraining(tmp_path, run(drift, fault, new), now=NOW) is not None
