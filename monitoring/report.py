"""One run of the monitors: its findings, its files, its exit status."""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from features.log import EventLog
from features.rules import Stratum
from features.scorer import Scorer
from monitoring.drift import Drift, DriftReport, measure
from monitoring.findings import Evidence, Finding, Severity
from monitoring.monitors import MONITORS
from monitoring.page import page
from monitoring.windows import Window, read_window

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
    reports: Path,
    since: datetime,
    until: datetime,
    model: str,
    scorer: Scorer | None = None,
    now: datetime,
) -> MonitorRun:
    """Compare what was served in [since, until) with the reference and write the run to a new folder in `reports`.

    The folder appears whole or not at all; it holds no seat or person. scorer: of `model`, to say what a drift does to
    decisions. Raises ValueError for an impossible window, an unreadable reference or a folder that cannot be written.
    """
    if now.tzinfo is None:
        raise ValueError(f"the time of the run needs a time zone, came {now.isoformat()}")
    run_id = f"{now.astimezone(UTC):%Y%m%dT%H%M%S%f}-{re.sub(r'[^A-Za-z0-9.]+', '-', model).strip('-')}"
    if (reports / run_id).exists():
        raise ValueError(f"the run {run_id} is already in {reports}")
    window = read_window(log, reference_path, since=since, until=until, model=model)
    drift = measure(window) if window.has_verdict else None
    evidence = Evidence(window, {} if drift is None else drift.drifts, log.sources(), now, scorer)
    found = (finding for monitor in MONITORS for finding in monitor(evidence))
    findings = tuple(sorted(found, key=lambda finding: -finding.severity))
    run = MonitorRun(run_id, reports / run_id, findings)
    _write(_files(run, window, drift, now), run.folder)
    return run


def _files(run: MonitorRun, window: Window, drift: DriftReport | None, now: datetime) -> dict[str, str]:
    drifts: Mapping[str, Drift] = {} if drift is None else drift.drifts
    document = {
        "run_id": run.run_id,
        "made_at": now.astimezone(UTC).isoformat(),
        "since": window.since.astimezone(UTC).isoformat(),
        "until": window.until.astimezone(UTC).isoformat(),
        "model": window.model,
        "status": run.status,
        "findings": [{**asdict(f), "severity": f.severity.name.lower()} for f in run.findings],
        "compared": compared(window),
        "drift": [
            {"column": d.name, "psi": d.psi, "threshold": d.threshold, "bins": d.bins}
            for d in sorted(drifts.values(), key=lambda d: -d.psi)
        ],
    }
    evidently = {} if drift is None else {DRIFT_PAGE_FILE: drift.html, DRIFT_FILE: drift.json}
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
