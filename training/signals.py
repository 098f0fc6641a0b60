"""The retrain signal: monitoring raises it, `train --on-signal` heeds it, a new champion closes it.

One file, signals/retrain.json in the state folder: reason (a sentence), raised_at (ISO 8601), run (of the monitors). Raising
an open signal again changes nothing: the first reason stands. A closed one moves to signals/closed/ with closed_at and the
version that answered it.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

FOLDER, FILE, CLOSED = "signals", "retrain.json", "closed"


@dataclass(frozen=True)
class RetrainSignal:
    """Why a new model is asked for. raised_at: ISO 8601 in UTC; run: the run of the monitors that asked."""

    reason: str
    raised_at: str
    run: str


def raise_signal(home: Path, *, reason: str, run: str, now: datetime) -> RetrainSignal:
    """Ask for a new model; the signal that is open afterwards, which is the older one where there was one."""
    there = open_signal(home)
    if there is not None:
        return there
    signal = RetrainSignal(reason, now.astimezone(UTC).isoformat(), run)
    _write(home / FOLDER / FILE, asdict(signal))
    return signal


def open_signal(home: Path) -> RetrainSignal | None:
    """The signal that waits for a new champion, or None. Raises ValueError for a file that is not one."""
    path = home / FOLDER / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        document = json.loads(text)
        return RetrainSignal(*(str(document[name]) for name in ("reason", "raised_at", "run")))
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{path}: expected a JSON object with reason, raised_at and run, came {text[:80]!r}") from None


def close_signal(home: Path, *, version: str, now: datetime) -> RetrainSignal | None:
    """The open signal, now answered by that version; None where none was open."""
    signal = open_signal(home)
    if signal is None:
        return None
    name = "".join(letter for letter in signal.raised_at if letter.isalnum())
    document = {**asdict(signal), "closed_at": now.astimezone(UTC).isoformat(), "version": version}
    _write(home / FOLDER / CLOSED / f"{name}.json", document)
    (home / FOLDER / FILE).unlink()
    return signal


def _write(path: Path, document: dict[str, str]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
    Path(partial).chmod(0o644)  # mkstemp gives 0600; the service that shows the signal may be another user
    os.replace(partial, path)  # noqa: PTH105
