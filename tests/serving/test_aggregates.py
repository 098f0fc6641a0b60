"""Aggregates over the API: of whom they speak, what they withhold, who may read them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from features.connectors.simulated import Rollout, open_simulated
from features.keys import Scope
from features.log import EventLog
from features.population import DIMENSIONS
from serving.advisor import Advisor
from serving.aggregates import AdoptionMetrics, Aggregates, Segments
from serving.problems import ProblemError
from serving.settings import Settings

MIDNIGHT = datetime(2026, 6, 1, tzinfo=UTC)  # before the fixed time of these tests
BOTH = ("/v1/segments", "/v1/metrics/adoption")
READS = {"scopes": (Scope.READ,), "organization": "pilot"}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than a caller waits."""
    monkeypatch.setattr("serving.aggregates.PATIENCE_S", 300.0)


@pytest.fixture(scope="module")
def home_of_pilot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with 300 simulated seats of the organisation `pilot`, made once."""
    home = tmp_path_factory.mktemp("pilot")
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    rollout = Rollout(seats=300, days=90, seed=5, start=MIDNIGHT - timedelta(days=90), organization="pilot")
    for batch in open_simulated(rollout):
        log.append(batch, now=MIDNIGHT)
    log.close()
    return home


@pytest.fixture
def advisor(settings: Settings, make_advisor: Callable[[Settings], Advisor], home_of_pilot: Path) -> Advisor:
    """Over the pilot's log and the features of a small rollout."""
    return make_advisor(replace(settings, database=f"sqlite:///{home_of_pilot / 'log.db'}"))


@pytest.fixture
def app(advisor: Advisor, make_app: Callable[[Advisor], FastAPI]) -> FastAPI:
    return make_app(advisor)


@pytest.fixture
def make_client(client: Any, app: FastAPI) -> Callable[..., Any]:
    return lambda **fields: type(client)(app, **fields)


@pytest.fixture
def reader(make_client: Callable[..., Any]) -> Any:
    return make_client(**READS)


def test_segments_say_where_it_stalls_and_what_to_do(reader: Any) -> None:
    answer = reader.get("/v1/segments")
    said = Segments.model_validate_json(answer.content, extra="forbid")
    assert (answer.status_code, said.is_simulated) == (200, True)
    assert MIDNIGHT - timedelta(days=1) < said.as_of <= MIDNIGHT  # or as far as the data reach
    assert said.whole is not None
    assert 250 < said.whole.seats <= 300  # some were removed
    groups = [group for breakdown in said.segments.values() for group in breakdown.groups]
    assert len(groups) > 5
    assert min(group.seats for group in groups) >= said.min_group_size
    shown = {finding.mode for group in groups for finding in group.failure_modes if finding.shows}
    assert shown
    assert all(said.failure_modes[mode].change for mode in shown)


def test_adoption_metrics_come_with_interval_and_count(reader: Any) -> None:
    said = AdoptionMetrics.model_validate_json(reader.get("/v1/metrics/adoption?by=function").content, extra="forbid")
    rate = said.metrics["usage_rate"].whole
    assert rate is not None
    assert rate.value is not None
    assert 0 < (rate.low or 0) < rate.value < (rate.high or 0) < 1
    assert rate.n == said.seats
    assert set(said.metrics["usage_rate"].by) == {"function"}
    assert said.retention is not None
    assert said.retention.survival == sorted(said.retention.survival, reverse=True)


@pytest.mark.parametrize("path", BOTH)
def test_it_says_until_when_and_how_many_people_are_joined(reader: Any, path: str) -> None:
    said = reader.get(path).json()
    assert datetime.fromisoformat(said["data_until"]["m365_copilot"]) <= datetime.fromisoformat(said["as_of"])
    assert said["joined_people"] == 0  # one tool: nobody can be seen to move


def test_every_number_of_people_is_rounded(reader: Any) -> None:
    groups = [group for part in reader.get("/v1/segments").json()["segments"].values() for group in part["groups"]]
    numbers = [group["seats"] for group in groups]
    numbers += [metric["n"] for group in groups for metric in group["metrics"].values() if metric is not None]
    numbers += [mode["seats"] for group in groups for mode in group["failure_modes"]]
    assert numbers
    assert [n for n in numbers if n % 10] == []


def test_licences_are_said_by_tool(reader: Any) -> None:
    said = reader.get("/v1/metrics/adoption").json()
    (tool,) = said["licences_by_tool"]
    assert (tool["tool"], tool["held"], tool["recoverable"]) == (
        "m365_copilot", said["seats"], said["recoverable_licences"],
    )  # fmt: skip
    assert (tool["price_a_month"], said["recoverable_a_year"]) == (None, {})


def test_what_is_asked_for_changes_nothing_of_what_is_withheld(reader: Any) -> None:
    everything = reader.get("/v1/segments?" + "&".join(f"by={name}" for name in DIMENSIONS)).json()["segments"]
    alone = {name: reader.get(f"/v1/segments?by={name}").json()["segments"][name] for name in DIMENSIONS}
    assert alone == everything


def test_both_calls_publish_the_same_groups(reader: Any) -> None:
    groups = reader.get("/v1/segments?by=team").json()["segments"]["team"]["groups"]
    by_team = reader.get("/v1/metrics/adoption?by=team").json()["metrics"]["usage_rate"]["by"]["team"]
    assert {group["name"]: group["metrics"]["usage_rate"] for group in groups} == by_team


@pytest.mark.parametrize("path", BOTH)
def test_an_answer_names_no_seat_and_no_person(reader: Any, advisor: Advisor, path: str) -> None:
    text = reader.get(path).text
    names = [row[name] for row in advisor.log.seats().to_pylist() for name in ("seat_id", "person_id")]
    assert [name for name in names if name in text] == []


@pytest.mark.parametrize("path", BOTH)
def test_only_keys_that_read_and_of_the_organization_are_let_in(make_client: Callable[..., Any], path: str) -> None:
    assert make_client(scopes=(Scope.SCORE,), organization="pilot").get(path).status_code == 403
    other = make_client(scopes=(Scope.READ,), organization="acme")
    assert other.get(f"{path}?organization=pilot").status_code == 403
    assert other.get(path).status_code == 404  # no seats of its own, and no word of others
    everywhere = make_client(scopes=(Scope.READ,))
    assert everywhere.get(path).json()["errors"][0]["field"] == "organization"
    assert everywhere.get(f"{path}?organization=pilot").status_code == 200


def test_an_unknown_dimension_is_refused_with_those_that_are_known(reader: Any) -> None:
    answer = reader.get("/v1/segments?by=shoe_size")
    assert answer.status_code == 422
    assert "cohort_week" in answer.text


def test_of_fewer_people_than_the_minimum_nothing_is_said(
    settings: Settings, make_advisor: Callable[[Settings], Advisor], make_app: Callable[[Advisor], FastAPI], client: Any
) -> None:
    five = type(client)(make_app(make_advisor(settings)), scopes=(Scope.READ,), organization="acme")
    segments, metrics = five.get("/v1/segments").json(), five.get("/v1/metrics/adoption").json()
    assert (segments["whole"], metrics["seats"], metrics["retention"]) == (None, None, None)
    assert [one["groups"] for one in segments["segments"].values()] == [[]] * len(segments["segments"])
    assert {metric["whole"] for metric in metrics["metrics"].values()} == {None}
    assert {*metrics["standings"].values()} <= {None, 0}


def test_they_are_worked_out_once_a_day_and_who_cannot_wait_is_told_when_to_come_again(advisor: Advisor) -> None:
    aggregates = Aggregates(advisor)
    with pytest.raises(ProblemError) as told:
        asyncio.run(aggregates.of("pilot", patience_s=0.0))
    assert (told.value.problem.status, dict(told.value.headers or {})) == (503, {"Retry-After": "30"})
    first = asyncio.run(aggregates.of("pilot", patience_s=300))
    assert asyncio.run(aggregates.of("pilot", patience_s=0.0)) is first


def test_a_failure_is_not_kept(advisor: Advisor, monkeypatch: pytest.MonkeyPatch) -> None:
    aggregates = Aggregates(advisor)
    monkeypatch.setattr(advisor.log, "sources", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(aggregates.of("pilot"))
    monkeypatch.undo()
    assert asyncio.run(aggregates.of("pilot", patience_s=300)).whole is not None
