"""The commands of the risk model on one small simulated rollout: train, evaluate, promote, roll back, explain, score a file."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import rekindle
from features.catalogue import FEATURES
from training.signals import close_signal, open_signal, raise_signal

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the command line silences libraries; here they are called without its main
]

OK, REFUSED = 0, 4


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
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A rollout with its features and one trained and promoted model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("risk") / "home"
        for step in (
            ("ingest", "simulated", "--seats", 300, "--days", 150),
            ("features", "build"),
            ("features", "push"),
            ("train", "--tune", 2),
        ):
            ran = run(folder, *step)
            assert ran.status == OK, ran.error
        yield folder


@pytest.fixture(scope="module")
def riskiest(home: Path) -> str:
    seat: str = run(home, "score", "--top", 1, "--json").document[0]["seat_id"]
    return seat


def test_the_champion_is_evaluated_into_a_report_of_its_own(home: Path) -> None:
    ran = run(home, "evaluate", "--json")
    assert ran.status == OK, ran.error
    assert Path(ran.document["report"]).read_text().startswith("<!doctype html>")
    assert {"model", "recency", "warnings"} <= set(ran.document["evaluation"]["metrics"]["0"])
    assert ran.document["backtest"] is None


def test_the_gate_refuses_what_is_no_better_and_says_why(home: Path) -> None:
    before = run(home, "promote").out
    assert "is the champion: it is the champion already" in before
    trained = run(home, "train", "--json").document
    assert trained["is_promoted"] is False
    refused = run(home, "promote", trained["version"])
    assert refused.status == REFUSED
    assert "was not promoted: it is no better than the champion" in " ".join(refused.out.split())


def test_rolling_back_the_first_champion_is_refused(home: Path) -> None:
    ran = run(home, "rollback")
    assert isinstance(ran.error, ValueError)
    assert "is the first champion" in str(ran.error)


def test_training_on_a_signal_waits_for_one(home: Path) -> None:
    ran = run(home, "train", "--on-signal", "--json")
    assert (ran.status, ran.document) == (OK, {"trained": False})


def test_a_signal_has_a_model_trained_and_stays_open_where_the_gate_refuses_it(home: Path) -> None:
    raised = raise_signal(home, reason="the rates moved", run="run-1", now=datetime.now(UTC))
    trained = run(home, "train", "--on-signal", "--json").document
    assert int(trained["version"]) > 1
    assert trained["is_promoted"] is False  # the same data: no better than the champion
    assert open_signal(home) == raised
    closed = close_signal(home, version="1", now=datetime.now(UTC))
    assert closed == raised
    assert open_signal(home) is None


def test_an_explanation_adds_up_and_is_drawn(home: Path, riskiest: str, tmp_path: Path) -> None:
    ran = run(home, "explain", riskiest, "--png", tmp_path / "seat.png", "--json")
    assert ran.status == OK, ran.error
    found = ran.document["explanation"]
    total = found["base"] + sum(part["contribution"] for part in found["modes"])
    assert total == pytest.approx(found["raw_score"], abs=1e-6)
    assert sum(part["contribution"] for part in found["features"]) + found["base"] == pytest.approx(total, abs=1e-6)
    assert (tmp_path / "seat.png").read_bytes().startswith(b"\x89PNG")
    said = run(home, "explain", riskiest).out
    assert "the parts add up to the difference" in " ".join(said.split())


def test_a_file_of_features_is_scored_as_the_seats_are(home: Path, riskiest: str, tmp_path: Path) -> None:
    shown = run(home, "features", "show", riskiest, "--as-of", "latest", "--json").document
    row = {name: shown[name] for name in ("seat_id", "as_of", *(feature.name for feature in FEATURES))}
    frame = pl.DataFrame([row]).with_columns(pl.col("as_of").str.to_datetime(time_zone="UTC", time_unit="us"))
    frame.write_parquet(tmp_path / "in.parquet")
    ran = run(home, "score", "--parquet", tmp_path / "in.parquet", "--out", tmp_path / "out.parquet", "--json")
    assert (ran.status, ran.document["scored"]) == (OK, 1), ran.error
    found = pl.read_parquet(tmp_path / "out.parquet").row(0, named=True)
    assert found["seat_id"] == riskiest
    assert 0 <= found["low_28"] <= found["risk_28"] <= found["high_28"] <= 1
    alone = run(home, "score", "--parquet", tmp_path / "in.parquet")
    assert "belong together" in str(alone.error)


def test_explaining_where_the_rule_speaks_says_so(tmp_path: Path, home: Path) -> None:
    scores = run(home, "score", "--json", "--top", 5, *_silent_seats(home)).document
    rule = [score["seat_id"] for score in scores if score["method"] == "rule"]
    ran = run(home, "explain", rule[0])
    assert isinstance(ran.error, ValueError)
    assert f"the rule speaks of {rule[0]}" in str(ran.error)


# --- data that cannot carry a model: a sentence with what is missing and how much is needed --------------------------


def log_of(folder: Path, *, seats: int, weeks: int, used_weeks: int, work: bool = True) -> Path:
    """A log in our own format: each week a meaningful use until `used_weeks`, then work without the tool, or mere visits."""
    start = datetime(2026, 1, 5, 9, tzinfo=UTC)
    items: list[dict[str, object]] = []
    for number in range(seats):
        seat = f"s{number}"
        role = "analyst" if number < seats - 2 else f"role-{number}"
        items.append({"type": "seat", "seat_id": seat, "person_id": f"p{number}", "tool": "m365_copilot", "role": role,
                      "assigned_at": start.isoformat()})  # fmt: skip
        for week in range(weeks):
            at = (start + timedelta(days=7 * week + number % 5, hours=1)).isoformat()
            if week < used_weeks:
                items.append(event(f"{seat}-{week}-t", seat, "task", at))
            items.append(event(f"{seat}-{week}-w", seat, "work" if work else "session", at))
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def event(name: str, seat: str, kind: str, at: str) -> dict[str, object]:
    return {"type": "event", "event_id": name, "seat_id": seat, "kind": kind, "occurred_at": at,
            "workflow": "meeting_recap"}  # fmt: skip


def trained(folder: Path, **log: Any) -> Ran:
    home = folder / "home"
    for step in (("ingest", "jsonl", log_of(folder, **log)), ("features", "build")):
        ran = run(home, *step)
        assert ran.status == OK, ran.error
    return run(home, "train")


def test_where_nobody_gives_up_the_rule_serves_and_every_lack_is_said(tmp_path: Path) -> None:
    ran = trained(tmp_path, seats=30, weeks=20, used_weeks=20)
    assert ran.status == OK, ran.error
    said = " ".join(ran.out.split())
    assert "Model: rule" in said
    assert re.search(
        r"0 abandonments and \d+ kept snapshots are in the data, a learned model needs at least 20 of each", said
    )
    assert "Missing: no feature of the group confidence tells one training snapshot from another" in said
    assert "it needs `ticket` events with scores that differ, in at least 100 snapshots" in said
    assert re.search(r"Missing: \d+ features are unknown of, or the same in, every training snapshot", said)
    assert "of role with fewer than 20 training snapshots, scored as unknown" in said
    unjudged = "Missing: the risk by 28 days cannot be judged: of the later snapshots 0 are known to be abandoned"
    assert unjudged in said
    assert unjudged in " ".join(run(tmp_path / "home", "evaluate").out.split())


def test_with_fewer_than_200_abandonments_the_line_serves_and_says_how_many_trees_need(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run(home, "ingest", "simulated", "--seats", 120, "--days", 120)
    run(home, "features", "build")
    said = " ".join(run(home, "train").out.split())
    assert re.search(r"Note: \d+ abandonments are in the data, the tree model needs 200: a regularised logistic", said)


def test_without_any_sign_of_work_training_refuses_and_says_what_to_ingest(tmp_path: Path) -> None:
    ran = trained(tmp_path, seats=10, weeks=20, used_weeks=1, work=False)
    assert isinstance(ran.error, ValueError)
    assert "no seat shows any work (opportunity) in the 28 days after its last use" in str(ran.error)
    assert "ingest `work` or `task` events of at least 28 days" in str(ran.error)


def test_a_log_of_three_weeks_is_refused_with_how_long_it_must_be(tmp_path: Path) -> None:
    ran = trained(tmp_path, seats=10, weeks=3, used_weeks=3)
    assert isinstance(ran.error, ValueError)
    assert "must be observed for 28 days after a meaningful use" in str(ran.error)


def _silent_seats(home: Path) -> list[str]:
    from features.log import EventLog

    log = EventLog(f"sqlite:///{home / 'log.db'}")
    names: list[str] = log.seats().column("seat_id").to_pylist()
    log.close()
    every = run(home, "score", "--json", "--top", len(names), *names).document
    return [score["seat_id"] for score in every if score["stratum"] == "silent"][:5]
