"""Degrading: what is missing shows in the answer, is counted, and is written down in docs/api.md."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from features.scorer import Scorer
from features.store import StoreFailure
from serving.advisor import Advisor
from serving.degrading import FROM_LOG_MOST, as_markdown

ROOT = Path(__file__).parents[2]
BUSY, QUIET, OLD, NEW = (f"acme/s-{name}" for name in ("busy", "quiet", "old", "new"))


def scored(client: Any, seat: str) -> dict[str, Any]:
    (item,) = client.post("/v1/score", json={"seats": [seat]}).json()["items"]
    return dict(item)


def test_while_the_online_store_is_away_features_come_from_the_log(
    client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = scored(client, BUSY)

    def away(*_: object) -> Any:
        raise StoreFailure("away")

    monkeypatch.setattr(advisor._store, "online", away)
    during = scored(client, BUSY)

    assert before["degraded"] == ["rule_serves"]
    assert during["degraded"] == ["features_from_log", "rule_serves"]
    assert during["risk"] == before["risk"]
    assert client.get("/readyz").status_code == 503
    assert client.get("/livez").status_code == 200
    assert client.post("/v1/decide", json={"seats": [BUSY]}).status_code == 200
    assert 'rekindle_degraded_total{how="features_from_log"}' in client.get("/metrics").text


def test_more_seats_than_can_be_computed_on_the_spot_are_told_to_wait(client: Any) -> None:
    seats = [f"acme/n-{number:03}" for number in range(FROM_LOG_MOST + 3)]
    fields = {"person_id": "p", "tool": "claude", "assigned_at": "2026-05-01T00:00:00Z"}
    client.post("/v1/seats", json={"seats": [{"seat_id": seat, **fields} for seat in seats]})

    items = client.post("/v1/score", json={"seats": seats}).json()["items"]

    waiting = [item["problem"]["type"] for item in items if "problem" in item]
    assert waiting == ["urn:rekindle:problem:no-features"] * 3


def test_stale_features_and_a_refused_champion_show(
    client: Any, advisor: Advisor, registry: Any, scorer: Scorer
) -> None:
    registry.promote(registry.register(scorer))
    advisor.champion.refresh()
    assert scored(client, BUSY)["degraded"] == []
    assert scored(client, OLD)["degraded"] == ["stale_features"]

    registry.promote(registry.register(scorer, catalogue="another"))
    advisor.champion.refresh()

    assert scored(client, BUSY)["degraded"] == ["not_the_champion"]
    assert scored(client, BUSY)["model"]["version"] == "1"


def test_while_the_database_is_away_nothing_is_answered_that_cannot_be_logged(
    client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> Any:
        raise OperationalError("write", {}, sqlite3.OperationalError("disk I/O error"))

    for name in ("record_reads", "record_decisions", "receive"):
        monkeypatch.setattr(advisor.log, name, away)
    event = {"event_id": "e", "seat_id": BUSY, "kind": "prompt", "occurred_at": "2026-06-01T05:00:00Z"}

    answers = [
        client.post("/v1/score", json={"seats": [BUSY]}),
        client.post("/v1/decide", json={"seats": [BUSY]}),
        client.post("/v1/events", json={"events": [event]}),
    ]

    for answer in answers:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["type"] == "urn:rekindle:problem:log-unavailable"
        assert "disk" not in answer.text
    monkeypatch.undo()
    assert client.post("/v1/score", json={"seats": [BUSY]}).status_code == 200


def test_the_written_table_is_the_codes() -> None:
    assert as_markdown() in (ROOT / "docs" / "api.md").read_text()
