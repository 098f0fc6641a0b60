"""Runs of the monitors as they lie on disk: what ops sees, and the gauges of the latest one."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

REPORTS, FINDINGS_FILE, DRIFT_PAGE_FILE = "reports", "findings.json", "drift.html"
SIGNAL_FILE = Path("signals") / "retrain.json"
RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.-]{0,120}$")
SHOWN_RUNS = 200  # our choice: of hourly runs a week
Document = dict[str, Any]  # Any: the JSON document that `rekindle monitor` wrote


@dataclass(frozen=True)
class Runs:
    """The runs below a state folder. Folders that are not runs, or half written, are passed over."""

    home: Path

    def names(self) -> list[str]:
        """The ids of the latest SHOWN_RUNS runs, newest first; they start with their time."""
        try:
            names = [path.name for path in (self.home / REPORTS).iterdir()]
        except OSError:
            return []
        return sorted((name for name in names if RUN_ID.match(name)), reverse=True)[:SHOWN_RUNS]

    def all(self) -> list[Document]:
        """The latest runs, newest first."""
        return [run for run in map(self.read, self.names()) if run is not None]

    def latest(self) -> Document | None:
        """The newest run, or None."""
        return next((run for run in map(self.read, self.names()) if run is not None), None)

    def read(self, run_id: str) -> Document | None:
        """The run of that id, or None."""
        if not RUN_ID.match(run_id):
            return None
        try:
            document = json.loads((self.home / REPORTS / run_id / FINDINGS_FILE).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return None
        return document if isinstance(document, dict) and "sources" in document else None

    def drift_page(self, run_id: str) -> Path | None:
        """The file with Evidently's report of the run, or None where it has none."""
        path = self.home / REPORTS / run_id / DRIFT_PAGE_FILE
        return path if RUN_ID.match(run_id) and path.is_file() else None

    def signal(self) -> Document | None:
        """The retrain signal that waits for a new champion, or None."""
        try:
            document = json.loads((self.home / SIGNAL_FILE).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return None
        return document if isinstance(document, dict) else None


class RunGauges(Collector):
    """The latest run as gauges; none of them where there is no run. Read from disk at every scrape."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges, by name."""
        yield _gauge(
            "rekindle_retrain_signal", "1 while monitoring waits for a new champion.", self._runs.signal() is not None
        )
        run = self._runs.latest()
        if run is None:
            return
        made = datetime.fromisoformat(run["made_at"]).timestamp()
        yield _gauge("rekindle_monitor_run_timestamp_seconds", "When the latest run of the monitors was made.", made)
        yield _gauge(
            "rekindle_monitor_status", "Exit status of the latest run: 0 quiet, 10 look, 20 act.", run["status"]
        )
        by_severity = GaugeMetricFamily("rekindle_monitor_findings", "Findings of the latest run.", labels=["severity"])
        for severity in ("info", "watch", "act"):
            number = sum(finding["severity"] == severity for finding in run["findings"])
            by_severity.add_metric([severity], number)
        yield by_severity
        told = GaugeMetricFamily(
            "rekindle_monitor_finding", "Highest severity by monitor in the latest run: 0, 10, 20.", labels=["monitor"]
        )
        levels = {"info": 0, "watch": 10, "act": 20}
        highest: dict[str, int] = {}
        for finding in run["findings"]:
            highest[finding["monitor"]] = max(highest.get(finding["monitor"], 0), levels[finding["severity"]])
        for monitor, level in sorted(highest.items()):
            told.add_metric([monitor], level)
        yield told
        yield _gauge(
            "rekindle_monitor_seats", "Seats in use that the latest run compared.", run["compared"]["current_seats"]
        )
        moved = sum(drift["excess"] >= 1 for drift in run["drift"])
        yield _gauge("rekindle_drift_columns", "Columns that moved beyond what chance makes.", moved)
        worst = max((drift["excess"] for drift in run["drift"]), default=0.0)
        yield _gauge("rekindle_drift_worst", "Largest shift in units of its limit; 1 and more is a shift.", worst)
        if run["alerts"] is not None:
            yield _gauge("rekindle_alert_share", "Share of seats above the alert threshold.", run["alerts"]["now"])
            yield _gauge(
                "rekindle_alert_share_training", "The same of their like in training.", run["alerts"]["before"]
            )
        yield from _sources(run)
        yield from _truth(run["truth"] or {})


def _sources(run: Document) -> Iterator[GaugeMetricFamily]:
    family = GaugeMetricFamily(
        "rekindle_source_overdue_seconds",
        "How long a feed has told nothing beyond its stated lag, of the organisation that waits longest, at the latest run.",
        labels=["tool", "source"],
    )
    overdue: dict[tuple[str, str], float] = {}
    for one in run["sources"]:  # whose it is, is not said: gauges are read without a key
        feed = one["tool"], one["source"]
        overdue[feed] = max(overdue.get(feed, -math.inf), 86_400 * one["overdue_days"])
    for (tool, source), seconds in sorted(overdue.items()):
        family.add_metric([tool, source], seconds)
    yield family
    late = GaugeMetricFamily(
        "rekindle_source_late_share", "Share of events later than the stated lag, in the window.", labels=["source"]
    )
    for one in run["arrivals"]:
        late.add_metric([one["source"]], one["late"] / max(one["events"], 1))
    yield late


def _truth(truth: Document) -> Iterator[GaugeMetricFamily]:
    judged, policy = truth.get("calibration"), truth.get("policy")
    if judged:
        yield _gauge("rekindle_calibration_gap", "Share abandoned less mean risk, on matured labels.", judged["gap"])
        yield _bounds("rekindle_model_auc", "AUC on matured labels, with its 95 % interval.", judged["auc"])
        yield _bounds("rekindle_model_lift", "Lift of the riskiest tenth on matured labels.", judged["lift"])
    if policy:
        for name, what in (("against_holdout", "teams left alone"), ("against_none", "doing nothing")):
            if policy[name]:
                yield _bounds(f"rekindle_policy_gain_{name}", f"Seats kept per decision against {what}.", policy[name])
        yield _gauge(
            "rekindle_sample_ratio_p_value", "Of the test that draws are as logged.", policy["mismatch"]["p_value"]
        )


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, value=float(value))


def _bounds(name: str, what: str, estimate: Document) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=["bound"])
    for bound in ("value", "low", "high"):
        if estimate[bound] is not None:
            family.add_metric([bound], estimate[bound])
    return family
