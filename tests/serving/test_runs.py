"""The gauges of the latest run, and that rules and dashboard ask for nothing that is not told."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from serving.meters import Meters
from serving.runs import RunGauges, Runs

DEPLOY = Path(__file__).parents[2] / "deploy" / "monitoring"
NAME = re.compile(r"\brekindle_[a-z0-9_]+")
PROMTOOL = shutil.which("promtool")
ESTIMATE = {"value": 0.8, "low": 0.7, "high": 0.9}
RUN = {
    "run_id": "20260511T020000000000-risk-3",
    "made_at": "2026-05-11T02:00:00+00:00",
    "since": "2026-05-04T00:00:00+00:00",
    "until": "2026-05-11T00:00:00+00:00",
    "model": "rekindle-risk/3",
    "status": 20,
    "findings": [
        {
            "monitor": "late_sources", "severity": "act", "changed": "1 of 2 sources are silent: <b>export</b>.",
            "measure": "days overdue", "value": 9.0, "threshold": 4.0, "affected": 0.12, "cause": "It stopped.",
            "action": "Start it.",
        },
        {
            "monitor": "model_age", "severity": "info", "changed": "Older.", "measure": "share", "value": 0.6,
            "threshold": 0.5, "affected": None, "cause": "Time.", "action": "Train.",
        },
    ],
    "compared": {"current_seats": 500, "reference_sample": 900},
    "older": 0.6,
    "alerts": {"before": 0.1, "now": 0.14, "limit": 0.03},
    "drift": [
        {"column": "prompts_28", "psi": 0.4, "jensenshannon": 0.2, "wasserstein": 0.9, "limits": {"psi": 0.1, "jensenshannon": 0.1, "wasserstein": 0.2}, "excess": 4.5, "bins": 10},
        {"column": "role", "psi": 0.01, "jensenshannon": 0.02, "limits": {"psi": 0.1, "jensenshannon": 0.1}, "excess": 0.2, "bins": 3},
    ],
    "sources": [{"organization": "acme", "tool": "claude", "source": "export", "lag_days": 1.0, "watermark": "2026-05-01T00:00:00+00:00", "overdue_days": 9.0}],
    "arrivals": [{"source": "export", "events": 200, "late": 50, "worst": 12.0}],
    "truth": {
        "calibration": {
            "scores": 900, "people": 300, "abandoned": 200, "gap": 0.04, "error": 0.01, "auc": ESTIMATE, "lift": ESTIMATE, "ece": ESTIMATE,
            "bins": [{"predicted": 0.1 * k, "low": 0.05 * k, "high": 0.12 * k, "observed": 0.09 * k, "snapshots": 90} for k in range(1, 9)],
            "auc_at_training": 0.82,
        },
        "groups": [{"dimension": "role", "name": "nurse <i>", "people": 40, "scores": 90, "selected": 0.2, "missed": None, "gap": 0.1, "error": 0.02}],
        "suppressed": {"role": 2},
        "policy": {
            "matured": 400, "against_holdout": {"value": 0.02, "low": -0.01, "high": 0.05}, "against_none": ESTIMATE,
            "mismatch": {"p_value": 0.4, "gap": {}},
            "support": [{"arm": "none", "chosen": 300, "eligible": 400, "smallest": 0.5, "wanted": 0.7, "unsupported": 0.0}],
            "arms": [{"name": "none", "decisions": 300, "kept": ESTIMATE, "effect": None, "effect_at_most": None}, {"name": "coach_call", "decisions": 100, "kept": ESTIMATE, "effect": ESTIMATE, "effect_at_most": 1.0}],
        },
    },
}  # fmt: skip


def write_run(home: Path, **changes: object) -> dict[str, object]:
    document = {**RUN, **changes}
    folder = home / "reports" / str(document["run_id"])
    folder.mkdir(parents=True)
    (folder / "findings.json").write_text(json.dumps(document))
    (folder / "drift.html").write_text("<html><head><title>Drift</title></head><body><p>drift</p></body></html>")
    return document


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)  # in whose files unused counters have no name yet
    write_run(tmp_path)
    meters = Meters()
    meters.add(RunGauges(Runs(tmp_path)))
    return meters.render().decode()


def test_the_latest_run_is_told_as_gauges(told: str) -> None:
    assert "\nrekindle_monitor_status 20.0" in told
    assert '\nrekindle_monitor_findings{severity="act"} 1.0' in told
    assert '\nrekindle_source_overdue_seconds{organization="acme",source="export",tool="claude"} 777600.0' in told
    assert '\nrekindle_model_auc{bound="low"} 0.7' in told
    assert "\nrekindle_drift_columns 1.0" in told
    assert "\nrekindle_retrain_signal 0.0" in told


def test_without_a_run_only_the_signal_is_told(tmp_path: Path) -> None:
    meters = Meters()
    meters.add(RunGauges(Runs(tmp_path)))
    told = meters.render().decode()
    assert "rekindle_retrain_signal" in told
    assert "rekindle_monitor_status" not in told


def test_a_half_written_run_and_a_foreign_folder_are_passed_over(tmp_path: Path) -> None:
    write_run(tmp_path)
    for name in ("20260512T020000000000-risk-3", ".partial-x"):
        (tmp_path / "reports" / name).mkdir()
    runs = Runs(tmp_path)
    latest = runs.latest()
    assert latest is not None
    assert latest["run_id"] == RUN["run_id"]
    assert runs.read("../../etc") is None


def names_told(told: str) -> set[str]:
    return set(re.findall(r"^(rekindle_[a-z0-9_]+)", told, re.MULTILINE)) | set(
        re.findall(r"^# TYPE (rekindle_[a-z0-9_]+)", told, re.MULTILINE)
    )


def test_every_alert_asks_for_metrics_that_are_told(told: str) -> None:
    rules = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"][0]["rules"]
    histograms = {f"rekindle_request_seconds_{part}" for part in ("bucket", "count", "sum")}
    told_names = names_told(told) | histograms
    for rule in rules:
        assert set(rule) >= {"alert", "expr", "labels", "annotations"}
        assert set(NAME.findall(rule["expr"])) <= told_names, rule["alert"]


def test_every_panel_asks_for_metrics_that_are_told(told: str) -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    histograms = {f"rekindle_request_seconds_{part}" for part in ("bucket", "count", "sum")}
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            assert set(NAME.findall(target["expr"])) <= names_told(told) | histograms, panel["title"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(DEPLOY / "alerts.yaml")], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_cron_job_runs_what_exists() -> None:
    job = yaml.safe_load((DEPLOY / "cronjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    container = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert "rekindle monitor" in container["args"][0]
