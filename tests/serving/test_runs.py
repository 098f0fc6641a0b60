"""The gauges of the latest run, and that rules and dashboard ask for nothing that is not told."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI

from serving import meters
from serving.advisor import Advisor
from serving.meters import Meters
from serving.runs import RunGauges, Runs
from serving.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy" / "monitoring"
NAME = re.compile(r"\brekindle_[a-z0-9_]+")
PROMTOOL = shutil.which("promtool")
RUN = json.loads((Path(__file__).parents[1] / "data" / "monitor_run.json").read_text("utf-8"))


def write_run(home: Path, **changes: object) -> dict[str, object]:
    document = {**RUN, **changes}
    folder = home / "reports" / str(document["run_id"])
    folder.mkdir(parents=True)
    (folder / "findings.json").write_text(json.dumps(document))
    (folder / "drift.html").write_text("<html><head><title>Drift</title></head><body><p>drift</p></body></html>")
    return document


@pytest.fixture
def told(tmp_path: Path) -> str:
    write_run(tmp_path)
    own = Meters()
    own.add(RunGauges(Runs(tmp_path)))
    return own.render().decode()


def test_the_latest_run_is_told_as_gauges(told: str) -> None:
    assert "\nrekindle_monitor_status 20.0" in told
    assert '\nrekindle_monitor_findings{severity="act"} 1.0' in told
    assert '\nrekindle_source_overdue_seconds{source="export",tool="claude"} 777600.0' in told
    assert '\nrekindle_model_auc{bound="low"} 0.7' in told
    assert "\nrekindle_drift_columns 1.0" in told
    assert "\nrekindle_retrain_signal 0.0" in told


def test_gauges_name_no_organisation(tmp_path: Path) -> None:
    """They are read without a key; of two feeds of one kind the one that waits longest is told."""
    feed = {"tool": "claude", "source": "export"}
    feeds = [{**feed, "organization": name, "overdue_days": days} for name, days in (("globex", 9.0), ("initech", 2.0))]
    write_run(tmp_path, sources=feeds)
    own = Meters()
    own.add(RunGauges(Runs(tmp_path)))

    told = own.render().decode()

    assert '\nrekindle_source_overdue_seconds{source="export",tool="claude"} 777600.0' in told
    assert "globex" not in told
    assert "organization" not in told


def test_without_a_run_only_the_signal_is_told(tmp_path: Path) -> None:
    own = Meters()
    own.add(RunGauges(Runs(tmp_path)))
    told = own.render().decode()
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
    """Those of the text, and those that the meters declare: in files of several workers an unused one has no name yet."""
    declared = re.findall(r'"(rekindle_[a-z_]+)"', Path(meters.__file__).read_text("utf-8"))
    counted = {name + end for name in declared for end in ("", "_total", "_bucket", "_count", "_sum")}
    return set(NAME.findall(told)) | counted


def test_every_alert_asks_for_metrics_that_are_told(told: str) -> None:
    rules = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"][0]["rules"]
    told_names = names_told(told)
    for rule in rules:
        assert set(rule) >= {"alert", "expr", "labels", "annotations"}
        assert set(NAME.findall(rule["expr"])) <= told_names, rule["alert"]


def test_every_panel_asks_for_metrics_that_are_told(told: str) -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            assert set(NAME.findall(target["expr"])) <= names_told(told), panel["title"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(DEPLOY / "alerts.yaml")], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_runs_may_lie_in_the_state_folder_of_the_monitors(
    tmp_path: Path, settings: Settings, make_advisor: Callable[[Settings], Advisor],
    make_app: Callable[[Advisor], FastAPI], make_client: Any,
) -> None:  # fmt: skip
    write_run(tmp_path)
    client = make_client(make_app(make_advisor(replace(settings, runs=tmp_path))))
    assert "rekindle_monitor_status" in client.get("/metrics").text
