"""The commands that take a cluster or an archive, as a user types them."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from features.archive import Archive
from features.catalogue import Group
from features.cluster import Cluster
from features.definitions import view_name
from features.engine import Inputs
from features.people import People
from features.references import PERSON, REFERENCE_FILE, digest
from features.runs import Manifest, Run
from features.store import FeatureStore
from rekindle.clusters import blocks_on
from rekindle.models import train_command, training_data, training_data_on
from rekindle.state import open_state


def rekindle(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "rekindle", *arguments]
    variables = {**os.environ, "REKINDLE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def said(home: Path, *arguments: str) -> Any:
    done = rekindle(home, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    assert rekindle(folder, "ingest", "simulated", "--seats", "60", "--days", "60").returncode == 0
    return folder


def test_features_and_scores_on_workers_are_those_of_one_process(home: Path, tmp_path: Path) -> None:
    archived = said(home, "archive", str(tmp_path / "archive"))
    assert archived["days"] > 30
    local = said(home, "features", "build")
    offline = home / "offline" / view_name(Group.USAGE) / "snapshots.parquet"
    one = pl.read_parquet(offline)
    built = said(home, "features", "build", "--engine", "dask", "--workers", "1")
    assert (built["snapshots"], built["blocks"], built["computed"]) == (local["snapshots"], 1, 1)
    assert pl.read_parquet(offline).equals(one)
    out = tmp_path / "risks.parquet"
    scored = said(home, "score", "--parquet", built["out"], "--out", str(out), "--engine", "dask", "--workers", "1")
    assert scored["scored"] == pl.read_parquet(out).height == local["snapshots"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["features", "build", "--address", "tcp://127.0.0.1:9"], "--address and --events belong to --engine dask"),
        (["features", "build", "--engine", "dask", "--events", "/nowhere"], "holds no archive of events"),
        (["score", "--engine", "dask"], "it needs --parquet and --out"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_sentence(home: Path, arguments: list[str], sentence: str) -> None:
    done = rekindle(home, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_who_watches_waits_for_the_first_seat_and_outlives_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from features.refresh import Refresher
    from rekindle.features import ALIVE, features_push

    answers: list[object] = [ConnectionError("gone"), ConnectionError("gone"), 2, 0]
    rests: list[float] = []

    def refresh(self: Refresher, **_details: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            assert (tmp_path / ALIVE).exists() == (len(rests) > 0)
            raise answer
        return answer

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if not answers:
            raise KeyboardInterrupt

    monkeypatch.setenv("REKINDLE_HOME", str(tmp_path))
    monkeypatch.setattr(Refresher, "refresh", refresh)
    monkeypatch.setattr("time.sleep", rest)
    with pytest.raises(KeyboardInterrupt):
        features_push(watch=True)
    assert len(rests) == 3
    assert (tmp_path / ALIVE).exists()
    assert "the seats wait: ConnectionError" in capsys.readouterr().err


def test_who_pushes_tells_webhooks_what_begins(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It takes the same claims as a service, so nobody else would look at the seats."""
    from rekindle.features import features_push
    from serving.webhooks import Topic

    shutil.copytree(home, tmp_path / "home")
    monkeypatch.setenv("REKINDLE_HOME", str(tmp_path / "home"))
    state = open_state()
    state.webhooks.add("http://127.0.0.1:9/", topics=[Topic.AT_RISK], organization=None, now=datetime.now(UTC))
    looked: list[int] = []
    monkeypatch.setattr("serving.watch.Watch.look", lambda _watch, features: looked.append(features.height))
    (seat, *_) = state.log.seats().column("seat_id").to_pylist()
    features_push(seats=[seat])
    assert sum(looked) >= 1


def test_a_run_of_features_without_the_cluster_is_said_in_one_sentence(home: Path, tmp_path: Path) -> None:
    done = rekindle(home, "score", "--parquet", str(tmp_path), "--out", str(tmp_path / "risks.parquet"))
    assert done.returncode == 2
    assert "is no file; runs and addresses are read by --engine dask" in " ".join(done.stderr.split())


def test_a_share_of_the_people_is_the_same_on_a_cluster_and_holds_all_of_their_snapshots(
    home: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(home, "features", "build")
    monkeypatch.setenv("REKINDLE_HOME", str(home))
    state = open_state()
    whole, here = training_data(state), training_data(state, share=0.5)
    there = training_data_on(state, cluster, events="", share=0.5)
    drawn = set(here["features"]["seat_id"])
    assert 15 < len(drawn) < 45  # of 60 seats, each of a person of its own: more than four deviations either way
    assert here["features"].equals(whole["features"].filter(pl.col("seat_id").is_in(drawn)))
    for part in ("features", "labels"):
        assert here[part].equals(there[part])
    assert all(data["data_version"].endswith("-share0.5") for data in (here, there))


def test_all_of_it_on_postgresql_from_a_dask_worker_that_knows_the_database_by_its_own_variable(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ingest, features by both engines, training, sweep, an erasure through another state folder, retention."""
    monkeypatch.setenv("REKINDLE_DATABASE", postgres_url)
    trainer, service = tmp_path / "trainer", tmp_path / "service"
    assert rekindle(trainer, "ingest", "simulated", "--seats", "60", "--days", "60").returncode == 0
    assert not (trainer / "log.db").exists()
    local = said(trainer, "features", "build")
    offline = trainer / "offline" / view_name(Group.USAGE) / "snapshots.parquet"
    one = pl.read_parquet(offline)
    built = said(trainer, "features", "build", "--engine", "dask", "--workers", "1")
    assert built["snapshots"] == local["snapshots"] == one.height
    assert pl.read_parquet(offline).equals(one)
    trained = said(trainer, "train", "--engine", "dask", "--workers", "1")
    assert trained["version"] == "1"
    assert said(trainer, "features", "sweep")["pushed"] == 60

    monkeypatch.setenv("REKINDLE_HOME", str(trainer))
    state = open_state()
    (seat, *_), (person, *_) = (state.log.seats().column(name).to_pylist() for name in ("seat_id", "person_id"))
    reference = pl.read_parquet(next(trainer.glob(f"mlartifacts/**/{REFERENCE_FILE}")))
    assert digest(person) in reference[PERSON]
    assert said(service, "erase", person)["seats"] == 1
    assert seat in state.store.seats_kept()
    assert said(trainer, "features", "sweep")["pushed"] == 59
    assert seat not in state.store.seats_kept()
    kept = said(trainer, "retain", "--older-than", "30")
    assert kept["events"] > 0
    assert digest(person) not in pl.read_parquet(next(trainer.glob(f"mlartifacts/**/{REFERENCE_FILE}")))[PERSON]
    state.log.close()


def test_blocks_do_not_go_where_something_else_is(home: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("mine")
    done = rekindle(home, "features", "build", "--engine", "dask", "--workers", "1", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "holds what is no run of ours (thesis.odt)" in " ".join(done.stderr.split())
    assert (tmp_path / "thesis.odt").read_text() == "mine"


def test_workers_are_told_whole_paths(
    home: Path, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run in folders of their own."""
    monkeypatch.setenv("REKINDLE_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    state = open_state()
    said(home, "archive", str(tmp_path / "archive"))
    told: list[str] = []

    def build_on(_cluster: object, inputs: Inputs, out: str, **_options: object) -> Manifest:
        assert isinstance(inputs.reader, Archive)
        told.extend((inputs.reader.address, out))
        return Manifest("", (), {})

    monkeypatch.setattr("features.engine.build_on", build_on)
    blocks_on(state, cluster, "out", events="archive", with_labels=False)
    blocks_on(state, cluster, "memory://out", events=f"file://{tmp_path}/archive", with_labels=False)
    assert told == [str(tmp_path / "archive"), str(tmp_path / "out"), f"file://{tmp_path}/archive", "memory://out"]


def test_who_trains_on_a_signal_alone_applies_erasures_every_time(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(home, tmp_path / "home")
    monkeypatch.setenv("REKINDLE_HOME", str(tmp_path / "home"))
    state = open_state()
    seat, person = pl.DataFrame(pl.from_arrow(state.log.seats())).select("seat_id", "person_id").row(0)
    run = Run(str(state.home / "blocks" / "training"), "a" * 24)
    run.begin({})
    run.write(0, pa.table({"seat_id": [seat], "as_of": pa.array([datetime.now(UTC)], pa.timestamp("us", "UTC"))}))
    of_the_service = FeatureStore(tmp_path / "service")
    of_the_service.apply()
    People(state.log.database).erase(person, store=of_the_service, now=datetime.now(UTC))
    assert seat in state.store.seats_kept()
    train_command(on_signal=True, as_json=True)
    assert seat not in state.store.seats_kept()
