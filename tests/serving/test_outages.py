"""Real servers that go away and come back: what docs/api.md says happens, and nobody has to restart anything."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from features.events import Batch
from features.log import EventLog
from features.store import FeatureStore
from serving.advisor import Advisor
from serving.settings import Settings

BUSY = "acme/s-busy"


def scored(client: Any) -> dict[str, Any]:
    (item,) = client.post("/v1/score", json={"seats": [BUSY]}).json()["items"]
    return dict(item)


def event(name: str) -> dict[str, Any]:
    one = {"event_id": name, "seat_id": BUSY, "kind": "prompt", "occurred_at": "2026-06-01T05:00:00Z"}
    return {"events": [one]}


@pytest.fixture
def redis_client(
    home: Path, online_features: Any, redis_server: Any, make_advisor: Callable[[Settings], Advisor],
    make_app: Callable[[Advisor], FastAPI], make_client: Any, settings: Settings,
) -> Any:  # fmt: skip
    """The API over a Redis with the rollout's features."""
    redis_server.empty()
    store = FeatureStore(home, redis=redis_server.connection)
    store.apply()
    store.push(online_features)

    return make_client(make_app(make_advisor(replace(settings, redis=redis_server.connection))))


def test_a_redis_that_goes_away_costs_freshness_alone_and_comes_back_by_itself(
    redis_client: Any, redis_server: Any
) -> None:
    before = scored(redis_client)
    assert "features_from_log" not in before["degraded"]
    assert redis_client.get("/readyz").status_code == 200

    redis_server.stop()
    try:
        during = scored(redis_client)
        assert "features_from_log" in during["degraded"]
        assert during["risk"] == before["risk"]
        readiness = redis_client.get("/readyz")
        assert (readiness.status_code, readiness.json()["ready"]) == (200, True)
        assert readiness.json()["features"].startswith("from the log; the online store is not readable")
        assert redis_client.get("/livez").status_code == 200
        assert redis_client.post("/v1/events", json=event("during")).json()["items"][0]["status"] == "accepted"
    finally:
        redis_server.start()

    after = scored(redis_client)
    assert (after["degraded"], after["risk"]) == (before["degraded"], before["risk"])
    assert redis_client.get("/readyz").json()["features"] == "readable"


def test_a_redis_that_hangs_costs_a_second_and_freshness_alone(redis_client: Any, redis_server: Any) -> None:
    before = scored(redis_client)
    redis_server.hang()
    try:
        begun = time.monotonic()
        during = [scored(redis_client) for _ in range(3)]
        assert time.monotonic() - begun < 8  # one wait of a second, and what a busy machine adds; never one for each
        readiness = redis_client.get("/readyz")
    finally:
        redis_server.go_on()

    assert [(one["degraded"].count("features_from_log"), one["risk"]) for one in during] == [(1, before["risk"])] * 3
    assert (readiness.status_code, readiness.json()["log"], readiness.json()["writers"]) == (
        200, "reachable", "working",
    )  # fmt: skip
    assert readiness.json()["features"].startswith("from the log; the online store is not readable")
    end = time.monotonic() + 20
    while scored(redis_client)["degraded"] != before["degraded"]:
        assert time.monotonic() < end, "the online store is not asked again"
        time.sleep(0.2)


def test_a_redis_that_comes_back_empty_is_filled_from_the_log(redis_client: Any, redis_server: Any) -> None:
    before = scored(redis_client)
    redis_server.empty()
    during = scored(redis_client)
    assert "features_from_log" in during["degraded"]
    assert during["risk"] == before["risk"]


def test_a_lock_that_somebody_holds_is_a_503_before_the_deadline_and_nothing_waits_for_ever(
    postgres_rollout_url: str, settings: Settings, make_advisor: Callable[[Settings], Advisor],
    make_app: Callable[[Advisor], FastAPI], make_client: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("serving.advisor.LOCK_SECONDS", 0.2)
    client = make_client(make_app(make_advisor(replace(settings, database=postgres_rollout_url))))
    other = EventLog(postgres_rollout_url)
    with other.deciding():
        during = client.post("/v1/decide", json={"seats": [BUSY]})
    other.close()
    after = client.post("/v1/decide", json={"seats": [BUSY]})

    assert (during.status_code, during.headers["retry-after"], after.status_code) == (503, "5", 200)


def test_a_postgresql_that_goes_away_is_said_and_comes_back_by_itself(
    own_postgres: Any, rollout: Path, settings: Settings, make_advisor: Callable[[Settings], Advisor],
    make_app: Callable[[Advisor], FastAPI], make_client: Any, now: Any,
) -> None:  # fmt: skip

    url = sa.make_url(own_postgres.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    here, there = EventLog(f"sqlite:///{rollout / 'log.db'}"), EventLog(url)
    there.append(Batch(here.seats(), here.events()), now=now)
    here.close()
    there.close()
    client = make_client(make_app(make_advisor(replace(settings, database=url))))
    before = scored(client)
    assert client.post("/v1/events", json=event("before")).json()["items"][0]["status"] == "accepted"

    own_postgres.stop()
    try:
        for path, body in (
            ("/v1/score", {"seats": [BUSY]}),
            ("/v1/decide", {"seats": [BUSY]}),
            ("/v1/events", event("during")),
        ):
            answer = client.post(path, json=body)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), path
            assert answer.json()["type"] == "urn:rekindle:problem:log-unavailable"
        assert client.get("/readyz").status_code == 503
        assert client.get("/livez").status_code == 200
    finally:
        own_postgres.start()

    assert client.get("/readyz").status_code == 200
    assert scored(client)["risk"] == before["risk"]
    assert client.post("/v1/events", json=event("before")).json()["items"][0]["status"] == "duplicate"
    assert client.post("/v1/events", json=event("during")).json()["items"][0]["status"] == "accepted"
