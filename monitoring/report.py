"""One run of the monitors: its findings, its files, its exit status."""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from features.interventions import Intervention
from features.log import EventLog
from features.rules import Stratum
from features.scorer import Scorer
from features.tools import ToolProfile
from monitoring.delivery import LATE_SLACK
from monitoring.drawing import draw, draw_worst, keep, page_of
from monitoring.drift import Moved, alert_threshold, measure
from monitoring.findings import Evidence, Finding, Severity
from monitoring.keeping import thin
from monitoring.monitors import MONITORS
from monitoring.page import page
from monitoring.truth import read_truth
from monitoring.windows import RISK, Window, read_window
from training.judgement import finite

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

REPORTS = "reports"  # folder of the state folder, one folder below it for each run
DAY = timedelta(days=1)
RHYTHM = timedelta(days=180)  # our choice: how far back a source's usual silences are looked for

PAGE_FILE, FINDINGS_FILE = "index.html", "findings.json"
DRIFT_PAGE_FILE, DRIFT_FILE = "drift.html", "drift.json"  # not there where the window was too small for a verdict


@dataclass(frozen=True)
class MonitorRun:
    """A finished run. folder: with PAGE_FILE and FINDINGS_FILE, and with a verdict the two files of Evidently."""

    run_id: str
    folder: Path
    findings: tuple[Finding, ...]

    @property
    def status(self) -> int:
        """Exit status for schedulers: 0 nothing to do, 10 look (also: not enough data for a verdict), 20 act."""
        return int(max((finding.severity for finding in self.findings), default=Severity.INFO))


def run_monitors(
    log: EventLog,
    *,
    reference_path: Path,
    home: Path,
    since: datetime,
    until: datetime,
    model: str,
    scorer: Scorer | None = None,
    tools: Mapping[str, ToolProfile] | None = None,
    catalogue: Sequence[Intervention] = (),
    auc_at_training: float | None = None,
    now: datetime,
) -> MonitorRun:
    """Compare what was served in [since, until) with the reference and write the run to a new folder in `reports`.

    The folder appears whole or not at all, below `home`; it holds no seat or person. Of older runs the drift reports are taken
    away (`monitoring.keeping`). scorer: of `model`, to say what a
    drift does to decisions. tools, catalogue: to judge what came of scores and decisions, which is left out without tools.
    Raises ValueError for an impossible window, an unreadable reference or a folder that cannot be written.
    """
    if now.tzinfo is None:
        raise ValueError(f"the time of the run needs a time zone, came {now.isoformat()}")
    run_id = f"{now.astimezone(UTC):%Y%m%dT%H%M%S%f}-{re.sub(r'[^A-Za-z0-9.]+', '-', model).strip('-')}"
    reports = home / REPORTS
    if (reports / run_id).exists():
        raise ValueError(f"the run {run_id} is already in {reports}")
    window = read_window(log, reference_path, since=since, until=until, model=model)
    moved = measure(window) if window.has_verdict else Moved()
    alert = alert_threshold(window) if window.reference[RISK].count() else 1.0
    truth = (
        None
        if tools is None
        else read_truth(
            log, model=model, alert=alert, tools=tools, catalogue=catalogue, now=now, auc_at_training=auc_at_training
        )
    )
    arrivals = log.arrivals(since=since, until=until, slack=LATE_SLACK)
    rhythm = log.longest_silence(since=now - RHYTHM, until=now)
    evidence = Evidence(window, moved, log.sources(), now, scorer, arrivals, rhythm, truth)
    found = (finding for monitor in MONITORS for finding in monitor(evidence))
    findings = tuple(sorted(found, key=lambda finding: -finding.severity))
    run = MonitorRun(run_id, reports / run_id, findings)
    drawn = draw_worst(window, moved.drifts) if moved.drifts else None
    _write(_files(run, evidence, drawn), run.folder)
    thin(reports, page=PAGE_FILE, linked=DRIFT_PAGE_FILE, drawn=(DRIFT_PAGE_FILE, DRIFT_FILE))
    if drawn is not None:
        keep(drawn, home, name=run_id)
    return run


def _files(run: MonitorRun, evidence: Evidence, drawn: "Snapshot | None") -> dict[str, str]:
    window, moved = evidence.window, evidence.moved
    document = {
        "run_id": run.run_id,
        "made_at": evidence.now.astimezone(UTC).isoformat(),
        "since": window.since.astimezone(UTC).isoformat(),
        "until": window.until.astimezone(UTC).isoformat(),
        "model": window.model,
        "status": run.status,
        "findings": [{**asdict(f), "severity": f.severity.name.lower()} for f in run.findings],
        "compared": compared(window),
        "older": window.older,
        "alerts": None if moved.alerts is None else asdict(moved.alerts),
        "drift": [
            {"column": d.name, **d.values, "limits": dict(d.limits), "excess": d.excess, "bins": d.bins}
            for d in sorted(moved.drifts.values(), key=lambda d: -d.excess)
        ],
        "sources": [
            {
                "organization": s.organization,
                "tool": s.tool,
                "source": s.source,
                "lag_days": s.lag / DAY,
                "watermark": s.watermark.astimezone(UTC).isoformat(),
                "overdue_days": max((evidence.now - s.watermark - s.lag) / DAY, 0.0),
            }
            for s in evidence.sources
        ],
        "arrivals": [{**asdict(one), "worst": one.worst / DAY} for one in evidence.arrivals],
        "truth": None if evidence.truth is None else asdict(evidence.truth),
    }
    document = finite(document)
    evidently = (
        {} if drawn is None else {DRIFT_PAGE_FILE: page_of(drawn), DRIFT_FILE: str(draw(window, moved.drifts).json())}
    )
    return {
        PAGE_FILE: page(document, DRIFT_PAGE_FILE if evidently else None),
        FINDINGS_FILE: json.dumps(document, indent=2) + "\n",
        **evidently,
    }


def compared(window: Window) -> dict[str, int]:
    """How many snapshots were compared, and how many were not and why."""
    return {
        "reference_snapshots": window.reference_rows,
        "reference_sample": window.reference.height,
        "served_snapshots": window.total("seats"),
        "in_use": window.total(Stratum.IN_USE),
        "current_sample": window.current.height,
        "current_seats": window.seats,
        "left_out_silent": window.total(Stratum.SILENT),
        "left_out_not_started": window.total(Stratum.NOT_STARTED),
        "left_out_without_features": window.total("without_features"),
        "left_out_other_catalogue": window.total("other_catalogue"),
        "risk_of_other_model": window.total("other_model"),
    }


def _write(files: Mapping[str, str], folder: Path) -> None:
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
        for name, text in files.items():
            (partial / name).write_text(text, encoding="utf-8")
        partial.chmod(0o755)  # mkdtemp gives 0700; the service that shows runs may be another user
        partial.rename(folder)
    except OSError as error:
        raise ValueError(f"cannot write the run to {folder}: {error.strerror or error}") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
