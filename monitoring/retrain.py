"""Which findings ask for a new model, and the signal that `rekindle train --on-signal` heeds."""

from datetime import datetime
from pathlib import Path

from monitoring.findings import Severity
from monitoring.report import MonitorRun
from training.signals import RetrainSignal, raise_signal

# Of what a new model would mend. Stale features, late sources and lost values are mended at their source.
RETRAIN_MONITORS = ("feature_drift", "prediction_drift", "unseen_categories", "calibration", "fairness")


def ask_for_retraining(home: Path, run: MonitorRun, *, now: datetime) -> RetrainSignal | None:
    """Raise the retrain signal where a finding that a new model would mend is urgent; the open signal, None where none was."""
    urgent = [f for f in run.findings if f.monitor in RETRAIN_MONITORS and f.severity is Severity.ACT]
    if not urgent:
        return None
    return raise_signal(home, reason=urgent[0].changed, run=run.run_id, now=now)
