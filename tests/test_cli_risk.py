"""The commands of the risk model on one small simulated rollout: train, evaluate, promote, roll back, explain, score a file."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import rekindle
from features.catalogue import FEATURES

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


def _silent_seats(home: Path) -> list[str]:
    from features.log import EventLog

    log = EventLog(f"sqlite:///{home / 'log.db'}")
    names: list[str] = log.seats().column("seat_id").to_pylist()
    log.close()
    every = run(home, "score", "--json", "--top", len(names), *names).document
    return [score["seat_id"] for score in every if score["stratum"] == "silent"][:5]
