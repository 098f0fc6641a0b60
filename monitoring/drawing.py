"""Evidently's report of a window: it draws both sides of every judged column and keeps itself in a workspace.

On bins that are ours: Evidently's own are of equal width over both samples, so one heavy user decides them all, and a bin
could show a single person.
"""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from monitoring.bins import Column, column_of
from monitoring.chance import MISSING
from monitoring.drift import Drift
from monitoring.keeping import KEPT_DRAWN
from monitoring.windows import Window

os.environ.setdefault("DO_NOT_TRACK", "1")  # Evidently asks for it before it sends anything

with warnings.catch_warnings():  # its import touches numpy.core and deprecated names of litestar (0.7.23)
    warnings.simplefilter("ignore", DeprecationWarning)
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.ui.workspace import Workspace

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

# The report asks for the browser's storage, which a frame without an origin (as the ops pages show it in) may not have.
NO_STORAGE = (
    "try { window.localStorage } catch { const none = { getItem: () => null, setItem: () => {}, removeItem: () => {} };"
    " Object.defineProperty(window, 'localStorage', { value: none, configurable: true }) }"
)
LEVEL = " (level)"  # after the name of a number's column where its bins stand at their medians
PROJECT = "Rekindle"
DRAWN_COLUMNS = 16  # our choice: about what somebody looks at
WORKSPACE = "evidently"  # folder of the state folder


def draw(window: Window, drifts: Mapping[str, Drift]) -> "Snapshot":
    """Every measure of every judged column, with its limit as threshold; equal to what `measure` found."""
    return _report(window, {name: dict(drift.limits) for name, drift in drifts.items()})


def draw_worst(window: Window, drifts: Mapping[str, Drift]) -> "Snapshot":
    """The DRAWN_COLUMNS that moved most, the worst first, each by the measure that is farthest beyond its limit.

    All of them would be three hundred pictures, which nobody reads and a browser takes a minute for.
    """
    worst = sorted(drifts.values(), key=lambda drift: -drift.excess)[:DRAWN_COLUMNS]
    return _report(window, {drift.name: {drift.worst: drift.limits[drift.worst]} for drift in worst})


def _report(window: Window, wanted: Mapping[str, Mapping[str, float]]) -> "Snapshot":
    """wanted: by column and measure, the threshold."""
    sides: dict[str, dict[str, Any]] = {"current": {}, "reference": {}}  # Any: Series of texts or of numbers
    metrics = []
    for name, limits in wanted.items():
        column = column_of(window, name)
        for side, frame in sides.items():
            frame[name] = _texts(column, side)
            if column.place is not None:
                frame[name + LEVEL] = _levels(column, side)
        metrics += [
            ValueDrift(column=name + (LEVEL if measure == "wasserstein" else ""), method=measure, threshold=most)
            for measure, most in limits.items()
        ]
    levels = [name for name in sides["current"] if name.endswith(LEVEL)]
    definition = DataDefinition(categorical_columns=list(wanted), numerical_columns=levels)
    now, before = (
        Dataset.from_pandas(pl.DataFrame(frame).to_pandas(), data_definition=definition) for frame in sides.values()
    )
    return Report(metrics).run(now, before, timestamp=window.until)


def values_of(snapshot: "Snapshot") -> dict[str, dict[str, float]]:
    """By column and measure, what Evidently measured."""
    found: dict[str, dict[str, float]] = {}
    for metric in snapshot.dict()["metrics"]:
        name = metric["config"]["column"].removesuffix(LEVEL)
        found.setdefault(name, {})[metric["config"]["method"]] = float(metric["value"])
    return found


def page_of(snapshot: "Snapshot") -> str:
    """Evidently's report as one HTML file, complete in itself."""
    html = str(snapshot.get_html_str(as_iframe=False))
    return html.replace("<head>", f"<head><title>Rekindle: drift by column</title><script>{NO_STORAGE}</script>", 1)


def keep(snapshot: "Snapshot", home: Path, *, name: str, kept: int = KEPT_DRAWN) -> None:
    """Add the run to the local workspace, which `rekindle monitor ui` opens in Evidently's own pages; the newest stay."""
    workspace = Workspace.create(str(home / WORKSPACE))
    known = [project for project in workspace.list_projects() if project.name == PROJECT]
    project = known[0] if known else workspace.create_project(PROJECT)
    workspace.add_run(project.id, snapshot, include_data=False, name=name)
    for old in sorted(workspace.list_runs(project.id))[:-kept]:  # their ids (UUID version 7) are in the order of time
        workspace.delete_run(project.id, old)


def serve_workspace(folder: Path, *, host: str, port: int) -> None:
    """Evidently's own pages over a workspace, until the process is stopped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from evidently.ui.service.app import get_config, run
    run(get_config(host=host, port=port, workspace=str(folder)))


def _texts(column: Column, side: str) -> pl.Series:
    codes = getattr(column, side)
    return pl.Series(column.name, [None if code == MISSING else column.labels[code] for code in codes], dtype=pl.String)


def _levels(column: Column, side: str) -> pl.Series:
    assert column.place is not None
    codes = getattr(column, side)
    values = np.where(codes == MISSING, np.nan, column.place[codes])
    return pl.Series(column.name + LEVEL, values, dtype=pl.Float64).fill_nan(None)
