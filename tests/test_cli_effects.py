"""The commands that learn, prove and plan, on one small simulated rollout."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rekindle

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


def test_a_plan_keeps_capacity_and_can_be_drawn_again(home: Path) -> None:
    asked = ("plan", "--date", "2026-05-04", "--capacity", "peer_champion=0", "--capacity", "leader_participation=3")

    plan = document(home, *asked)

    given = [row["intervention"] for row in plan["seats"]]
    assert 290 < len(given) <= 300  # a few seats were removed
    assert given.count("peer_champion") == 0
    assert given.count("leader_participation") <= 3
    assert plan["prices"].keys() == {"leader_participation", "coach_call"}
    assert all(row["probability"] > 0 for row in plan["seats"])
    assert document(home, *asked)["seats"] == plan["seats"]
    assert plan["logged"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--capacity", "singing=3"), "came 'singing'"),
        (("--capacity", "coach_call=-1"), "came 'coach_call=-1'"),
        (("--date", "someday"), "came 'someday'"),
    ],
)
def test_what_cannot_be_planned_is_refused(home: Path, options: tuple[str, str], message: str) -> None:
    ran = run(home, "plan", *options)

    assert isinstance(ran.exception, ValueError)
    assert message in str(ran.exception)


def test_a_plan_in_words_says_what_one_more_is_worth(home: Path) -> None:
    ran = run(home, "plan", "--top", 3)

    assert "One more coach_call would be worth" in ran.stdout
