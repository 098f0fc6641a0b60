"""Which findings ask for a new model, and the signal that `rekindle train --on-signal` heeds."""

from datetime import datetime
from pathlib import Path

from monitoring.findings import Severity
from monitoring.report import MonitorRun
from training.signals import RetrainSignal, raise_signal

# Of what a new model would mend. Stale features, late sources and lost values are mended at their source.
RETRAIN_MONITORS = ("feature_drift", "prediction_drift", "unseen_categories", "calibration", "fairness")
# While any of these is open, what moved most likely moved because of it: a model trained on it would learn the fault.
AT_THE_SOURCE = ("late_sources", "impossible_values", "missing_values", "stale_features", "coverage")
MOVED = ("feature_drift", "prediction_drift")


def ask_for_retraining(home: Path, run: MonitorRun, *, now: datetime) -> RetrainSignal | None:
    """Raise the retrain signal where a finding that a new model would mend is urgent; the open signal, None where none was.

    Drift asks for nothing while something is wrong at a source; new categories, calibration and fairness do even then.
    """
    is_broken = any(f.monitor in AT_THE_SOURCE and f.severity > Severity.INFO for f in run.findings)
    urgent = [
        f
        for f in run.findings
        if f.monitor in RETRAIN_MONITORS and f.severity is Severity.ACT and not (is_broken and f.monitor in MOVED)
    ]
    if not urgent:
        return None
    return raise_signal(home, reason=urgent[0].changed, run=run.run_id, now=now)
