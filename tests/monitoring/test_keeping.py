"""Runs every hour for years: findings stay, pictures of the newest runs only."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from monitoring.drawing import PROJECT, WORKSPACE, keep
from monitoring.keeping import thin

DRAWN = ("drift.html", "drift.json")


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    for number in range(5):
        folder = tmp_path / f"2026051{number}T0000-risk-1"
        folder.mkdir()
        (folder / "index.html").write_text('<p>Moved. <a href="drift.html">Evidently\'s report</a> shows it.')
        for name in ("findings.json", *DRAWN):
            (folder / name).write_text("{}")
    (tmp_path / ".partial-x").mkdir()
    return tmp_path


def left(reports: Path, number: int) -> set[str]:
    return {path.name for path in (reports / f"2026051{number}T0000-risk-1").iterdir()}


def test_old_runs_keep_their_findings_and_lose_their_pictures(reports: Path) -> None:
    assert thin(reports, page="index.html", linked="drift.html", drawn=DRAWN, kept=2) == 3
    assert [left(reports, number) for number in (0, 2)] == [{"index.html", "findings.json"}] * 2
    assert left(reports, 3) == {"index.html", "findings.json", *DRAWN}
    page = reports / "20260510T0000-risk-1" / "index.html"
    assert page.read_text() == "<p>Moved. Evidently's report (no longer kept) shows it."
    assert page.stat().st_mode & 0o777 == (reports / "20260514T0000-risk-1" / "index.html").stat().st_mode & 0o777


def test_what_was_thinned_is_not_touched_again(reports: Path) -> None:
    for expected in (3, 0):
        assert thin(reports, page="index.html", linked="drift.html", drawn=DRAWN, kept=2) == expected
    assert "<a" in (reports / "20260514T0000-risk-1" / "index.html").read_text()


def test_a_run_whose_page_is_gone_is_thinned_all_the_same(reports: Path) -> None:
    (reports / "20260510T0000-risk-1" / "index.html").unlink()
    thin(reports, page="index.html", linked="drift.html", drawn=DRAWN, kept=2)
    assert left(reports, 0) == {"findings.json"}


def test_the_workspace_keeps_its_newest_runs(tmp_path: Path) -> None:
    from evidently import DataDefinition, Dataset, Report  # after monitoring.drawing, which bears with its warnings
    from evidently.metrics import ValueDrift
    from evidently.ui.workspace import Workspace

    frame = pl.DataFrame({"x": np.arange(50) % 5}).to_pandas()
    data = Dataset.from_pandas(frame, data_definition=DataDefinition(numerical_columns=["x"]))
    for number in range(4):
        snapshot = Report([ValueDrift(column="x", method="psi")]).run(data, data)
        keep(snapshot, tmp_path, name=f"run {number}", kept=2)
    workspace = Workspace(str(tmp_path / WORKSPACE))
    (project,) = (one for one in workspace.list_projects() if one.name == PROJECT)
    names = {workspace.get_run(project.id, one).name for one in workspace.list_runs(project.id)}
    assert names == {"run 2", "run 3"}
