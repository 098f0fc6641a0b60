"""The story of docs/monitoring.md: a healthy week, a source that stops, a department that joins, retraining."""

from pathlib import Path

import pytest

from benchmarks.monitoring_story import Step, story
from monitoring.findings import Severity

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*An input example was not provided:UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning:mlflow"),
    pytest.mark.filterwarnings(  # MLflow 3.17 on SQLAlchemy 2.1
        "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
    ),
]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    return story(tmp_path_factory.mktemp("story"))


def named(step: Step, least: Severity) -> set[str]:
    return {finding.monitor for finding in step.run.findings if finding.severity >= least}


@pytest.mark.timeout(1200)
def test_monitors_tell_the_story_step_by_step(steps: list[Step]) -> None:
    healthy, stopped, joined, matured, trained, later = steps
    assert (healthy.run.status, healthy.signal) == (0, None)

    assert stopped.run.status == 20
    assert {"late_sources", "feature_drift"} <= named(stopped, Severity.WATCH)
    assert stopped.signal is None  # a model trained on the fault would learn it

    assert "unseen_categories" in named(joined, Severity.ACT)
    assert "late_sources" not in named(joined, Severity.WATCH)
    assert joined.signal is not None
    assert "'nurse'" in joined.signal

    assert "fairness" in named(matured, Severity.ACT)
    (wrong,) = (finding for finding in matured.run.findings if finding.monitor == "fairness")
    assert "role nurse" in wrong.changed

    assert trained.run.folder.name.endswith("risk-2")
    assert trained.signal is None  # closed by the new champion
    assert "unseen_categories" not in named(trained, Severity.WATCH)

    assert not {"calibration", "fairness", "unseen_categories"} & named(later, Severity.WATCH)
    assert later.signal is None


def test_reports_hold_no_seat_or_person(steps: list[Step]) -> None:
    for path in (file for step in steps for file in Path(step.run.folder).iterdir()):
        assert "simulated/" not in path.read_text("utf-8").replace("simulated/m365", ""), path.name
