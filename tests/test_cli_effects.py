"""The commands that learn, prove and plan, on one small simulated rollout."""

import json
import math
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import rekindle
from features.decisions import Decision
from features.feedback import Outcome
from features.interventions import SHIPPED
from features.log import EventLog
from features.outcomes import read_outcomes
from features.tools import load_tools

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the command line silences libraries; here they are called without its main
]


def run(home: Path, *arguments: object) -> Any:
    return CliRunner().invoke(rekindle.app, [str(a) for a in arguments], env={"REKINDLE_HOME": str(home)})


def document(home: Path, *arguments: object) -> Any:
    ran = run(home, *arguments, "--json")
    assert ran.exit_code == 0, ran.exception
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("effects") / "home"
        for step in (("ingest", "simulated", "--seats", 300, "--days", 150), ("features", "push")):
            assert run(folder, *step).exit_code == 0
        yield folder


def test_a_small_log_teaches_nothing_and_says_why(home: Path) -> None:
    learned = document(home, "learn")

    assert learned["learner"] == "expert"
    assert learned["version"] is None
    assert "the experts speak" in learned["why"]


def test_the_proof_is_written_and_printed(home: Path) -> None:
    proof = document(home, "prove")

    assert [one["name"] for one in proof["policies"]] == ["as decided", "experts' choice"]
    assert proof["mismatch"]["p_value"] > 0.001
    assert Path(proof["report"]).read_text().startswith("<!doctype html>")


@pytest.fixture
def own(home: Path, tmp_path: Path) -> Path:
    """A copy of the state folder that a test may change."""
    return Path(shutil.copytree(home, tmp_path / "home"))


def person_decided_about(home: Path) -> str:
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    seat_id = next(one.seat_id for one in log.decisions() if not one.holdout)
    person: str = log.seats([seat_id]).column("person_id")[0].as_py()
    log.close()
    return person


def test_a_person_that_was_erased_stops_nothing_and_is_told_of(own: Path, tmp_path: Path) -> None:
    before = document(own, "learn")["decisions"]
    assert run(own, "erase", person_decided_about(own)).exit_code == 0

    learned, proof = document(own, "learn"), document(own, "prove")

    assert learned["decisions"] < before
    assert learned["left_out"] == proof["left_out"]
    assert proof["left_out"]["of seats that are not in the roster any more"] > 0
    assert "decisions of seats that are not in the roster any more" in run(own, "learn").stdout.replace("\n", " ")
    exported = run(own, "decisions", "export", "--format", "vw", "--out", tmp_path / "decisions.jsonl")
    assert exported.exit_code == 0, exported.exception
    assert "erased-" not in (tmp_path / "decisions.jsonl").read_text()
    promoted = run(own, "promote", "--effects")
    assert "no version of rekindle-effects is registered" in str(promoted.exception)


def test_a_retired_intervention_stops_nothing_and_is_told_of(own: Path, tmp_path: Path) -> None:
    exported = tmp_path / "decisions.jsonl"
    assert run(own, "decisions", "export", "--format", "vw", "--out", exported).exit_code == 0
    catalogue = yaml.safe_load(SHIPPED.read_text())
    catalogue["interventions"] = [one for one in catalogue["interventions"] if one["id"] != "refresher"]
    (own / "interventions.yaml").write_text(yaml.safe_dump(catalogue))

    proof = document(own, "prove")

    assert proof["left_out"]["that chose an intervention which is not in the catalogue any more"] > 0
    assert "refresher" not in [row["arm"] for row in proof["support"]]
    assert document(own, "learn")["decisions"] == proof["decisions"]
    refused = run(own, "decisions", "import", exported, "--format", "vw")
    assert "--retired refresher" in str(refused.exception)
    imported = document(own, "decisions", "import", exported, "--format", "vw", "--retired", "refresher")
    assert imported["known"] > 0


def test_an_outcome_told_from_outside_teaches_where_events_cannot_tell(own: Path) -> None:
    before = document(own, "prove")
    log = EventLog(f"sqlite:///{own / 'log.db'}")
    unknown = [
        decision_id
        for decision_id, kept in read_outcomes(log, log.decisions(), load_tools(), horizon_days=28).items()
        if math.isnan(kept)
    ]
    log.feedback.report([Outcome(one, 28, True, "licences", datetime(2026, 6, 1, tzinfo=UTC)) for one in unknown])
    log.close()

    proof = document(own, "prove")

    assert before["censored"] > 0
    assert proof["censored"] == 0
    assert proof["decisions"] > before["decisions"]


ASKED = ("plan", "--capacity", "peer_champion=0", "--capacity", "leader_participation=3", "--at-risk-from", "0")


def test_a_plan_that_is_only_proposed_keeps_capacity_can_be_drawn_again_and_logs_nothing(home: Path) -> None:
    asked = (*ASKED, "--date", "2026-05-04", "--dry-run")
    before = len(decisions_of(home))

    proposed = document(home, *asked)

    (plan,) = proposed["plans"]
    given = [row["intervention"] for row in plan["seats"]]
    assert 290 < len(given) <= 300  # a few seats were removed
    assert given.count("peer_champion") == 0
    assert given.count("leader_participation") <= 3
    assert plan["prices"].keys() == {"leader_participation", "coach_call"}
    assert plan["prices_per_hour"]["coach_call"] == pytest.approx(2 * plan["prices"]["coach_call"])
    assert all(row["probability"] > 0 for row in plan["seats"])
    assert document(home, *asked)["plans"][0]["seats"] == plan["seats"]
    assert proposed["logged"] is False
    assert len(decisions_of(home)) == before


def test_a_plan_is_logged_once_a_day_with_its_probabilities_and_can_be_exported_and_valued(
    home: Path, tmp_path: Path
) -> None:
    before = {decision.decision_id for decision in decisions_of(home)}

    logged = document(home, *ASKED)
    again = document(home, *ASKED)

    (plan,) = logged["plans"]
    rows = {row["seat_id"]: row for row in plan["seats"]}
    made = [decision for decision in decisions_of(home) if decision.decision_id not in before]
    assert len(made) == len(rows) > 290
    for decision in made:
        row = rows[decision.seat_id]
        assert (decision.intervention, decision.probability) == (row["intervention"], row["probability"])
        assert sum(decision.probabilities.values()) == pytest.approx(1)
        assert decision.policy.startswith("plan-1:")
    assert sum(decision.intervention == "leader_participation" for decision in made) <= 3
    assert logged["logged"] is True
    assert (again["plans"][0]["seats"], again["plans"][0]["already_logged"]) == ([], len(rows))
    assert len(decisions_of(home)) == len(before) + len(rows)
    exported = run(home, "decisions", "export", "--format", "obp", "--out", tmp_path / "plan.csv")
    assert exported.exit_code == 0, exported.exception
    assert document(home, "prove")["mismatch"]["p_value"] > 0.001


def decisions_of(home: Path) -> list[Decision]:
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    found = log.decisions()
    log.close()
    return found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--capacity", "singing=3"), "came 'singing'"),
        (("--capacity", "coach_call=-1"), "came 'coach_call=-1'"),
        (("--date", "someday"), "came 'someday'"),
        (("--date", "2026-05-04", "--at-risk-from", "0"), "a plan is logged on its own day"),
    ],
)
def test_what_cannot_be_planned_is_refused(home: Path, options: tuple[str, str], message: str) -> None:
    ran = run(home, "plan", *options)

    assert isinstance(ran.exception, ValueError)
    assert message in str(ran.exception)


def test_a_plan_in_words_says_what_one_more_is_worth(home: Path) -> None:
    ran = run(home, "plan", "--top", 3, "--dry-run", "--at-risk-from", "0.2")

    assert "One more coach_call would be worth" in ran.stdout
    assert "one more hour of it" in ran.stdout
    assert "proposed, nothing is logged" in ran.stdout


def test_a_plan_for_nobody_says_why(home: Path) -> None:
    ran = run(home, "plan", "--at-risk-from", "1", "--dry-run")

    assert "no seat with features has a risk of 100% or more" in str(ran.exception)
