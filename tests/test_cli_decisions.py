"""Decisions out of one small simulated rollout, and into another log."""

import csv
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rekindle
from features.events import EVENT_SCHEMA, Batch
from features.log import EventLog

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the command line silences libraries; here they are called without its main
]

OK = 0


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    error: BaseException | None

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def run(home: Path, *arguments: object) -> Ran:
    result = CliRunner().invoke(rekindle.app, [str(a) for a in arguments], env={"REKINDLE_HOME": str(home)})
    return Ran(result.exit_code, result.stdout, result.exception)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decisions") / "home"
    assert run(folder, "ingest", "simulated", "--seats", 200, "--days", 150).status == OK
    return folder


@pytest.fixture
def other(home: Path, tmp_path: Path) -> Path:
    """Another log that knows the seats and nothing of the decisions."""
    folder = tmp_path / "other"
    folder.mkdir()
    source, target = EventLog(f"sqlite:///{home / 'log.db'}"), EventLog(f"sqlite:///{folder / 'log.db'}")
    target.append(Batch(source.seats(), EVENT_SCHEMA.empty_table()), now=datetime.now(UTC))
    source.close()
    target.close()
    return folder


@pytest.mark.parametrize("file_format", ["vw", "obp"])
def test_decisions_go_out_and_come_in_once(home: Path, other: Path, tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "decisions.out"

    exported = run(home, "decisions", "export", "--format", file_format, "--out", path)
    first = run(other, "decisions", "import", path, "--format", file_format, "--json")
    second = run(other, "decisions", "import", path, "--format", file_format, "--json")

    assert exported.status == OK, exported.error
    assert first.status == OK, first.error
    assert first.document["decisions"] > 100
    assert first.document["outcomes"] > 50
    assert (second.document["decisions"], second.document["outcomes"]) == (0, 0)
    assert second.document["known"] == first.document["decisions"]
    tried = {arm["arm"]: arm for arm in first.document["support"]}
    assert tried["none"]["least"] > 0
    assert not list(tmp_path.glob("*.partial"))


def test_what_came_in_is_the_same_and_its_interventions_are_events(home: Path, other: Path, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    run(home, "decisions", "export", "--format", "vw", "--out", path)
    run(other, "decisions", "import", path, "--format", "vw")

    ours, theirs = (EventLog(f"sqlite:///{folder / 'log.db'}") for folder in (home, other))
    came = theirs.decisions()
    assert {item.decision_id: item for item in came} == {item.decision_id: item for item in ours.decisions()}
    assert theirs.event_count() == sum(decision.intervention != "none" for decision in came)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("file_format", ["vw", "obp"])
def test_an_outcome_stays_that_of_its_days(home: Path, other: Path, tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "decisions.out"
    run(home, "decisions", "export", "--format", file_format, "--horizon", 14, "--out", path)

    refused = run(other, "decisions", "import", path, "--format", file_format, "--horizon", 28)
    imported = run(other, "decisions", "import", path, "--format", file_format, "--json")

    assert "horizon_days: the outcome is that at 14 days, not at 28" in str(refused.error)
    assert imported.document["outcomes"] > 50
    log = EventLog(f"sqlite:///{other / 'log.db'}")
    told = log.feedback.reported([one.decision_id for one in log.decisions()])
    assert {horizon for _, horizon in told} == {14}
    log.close()


def test_a_file_that_does_not_say_when_its_outcomes_were_is_refused_until_it_is_said(
    home: Path, other: Path, tmp_path: Path
) -> None:
    path = tmp_path / "decisions.jsonl"
    run(home, "decisions", "export", "--format", "vw", "--out", path)
    path.write_text(path.read_text().replace('"horizon_days":28', '"horizon_days":null'))

    assert "add --horizon" in str(run(other, "decisions", "import", path, "--format", "vw").error)
    assert run(other, "decisions", "import", path, "--format", "vw", "--horizon", 28).status == OK


def test_a_second_import_where_the_decisions_came_from_adds_no_event(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    run(home, "decisions", "export", "--format", "vw", "--out", path)
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    before = log.event_count()

    assert run(home, "decisions", "import", path, "--format", "vw", "--json").document["decisions"] == 0

    assert log.event_count() == before
    log.close()


def test_the_export_of_days_is_of_those_days_and_goes_to_standard_output(home: Path) -> None:
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    day = log.decisions()[0].decided_at.date()
    log.close()

    ran = run(home, "decisions", "export", "--format", "obp", "--until", day.isoformat())
    assert "there is no decision" in str(ran.error)

    ran = run(home, "decisions", "export", "--format", "obp", "--since", day.isoformat())
    rows = list(csv.DictReader(ran.out.splitlines()))
    assert {row["click"] for row in rows} <= {"", "0", "1"}
    assert len(rows) > 100


def test_a_zero_propensity_is_refused_naming_file_and_arm_and_nothing_comes_in(
    home: Path, other: Path, tmp_path: Path
) -> None:
    path = tmp_path / "decisions.jsonl"
    run(home, "decisions", "export", "--format", "vw", "--out", path)
    lines = path.read_text().splitlines()
    event = json.loads(lines[0])
    event["p"][0] = 0
    path.write_text("\n".join([json.dumps(event), *lines[1:]]))

    ran = run(other, "decisions", "import", path, "--format", "vw")

    assert isinstance(ran.error, ValueError)
    assert str(ran.error).startswith(f"{path}: chosen with a logged probability of zero")
    assert "first on line 1" in str(ran.error)
    log = EventLog(f"sqlite:///{other / 'log.db'}")
    assert log.decisions() == []
    log.close()


def test_a_decision_of_an_unknown_seat_is_refused(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    run(home, "decisions", "export", "--format", "vw", "--out", path)

    ran = run(tmp_path / "empty", "decisions", "import", path, "--format", "vw")

    assert "line 1: seat" in str(ran.error)
    assert "was never assigned" in str(ran.error)


@pytest.mark.parametrize("file_format", ["vw", "obp"])
def test_a_file_without_a_decision_is_refused(home: Path, tmp_path: Path, file_format: str) -> None:
    path = tmp_path / f"decisions.{file_format}"
    run(home, "decisions", "export", "--format", file_format, "--out", path)
    path.write_text(path.read_text().splitlines(keepends=True)[0] if file_format == "obp" else "\n")

    ran = run(tmp_path / "empty", "decisions", "import", path, "--format", file_format)

    assert ran.status != OK
    assert str(ran.error) == f"{path}: there is no decision in it"


def test_an_unknown_horizon_is_refused(home: Path) -> None:
    ran = run(home, "decisions", "export", "--format", "vw", "--horizon", 21)

    assert "expected one of 14, 28, came 21" in str(ran.error)
