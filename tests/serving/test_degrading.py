"""Degrading: what is missing shows in the answer, is counted, and is written down in docs/api.md."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from features.events import Batch, Seat, events_table, seats_table
from features.keys import Keys, Scope
from features.scorer import Scorer
from features.store import StoreFailure
from serving.access import TRUSTED_SECONDS, Gate
from serving.advisor import Advisor
from serving.degrading import FROM_LOG_MOST, as_markdown
from serving.problems import Problem, ProblemError

ROOT = Path(__file__).parents[2]
ASSIGNED = datetime(2026, 5, 1, tzinfo=UTC)
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
    assert "from the log" in client.get("/readyz").json()["features"]
    assert client.get("/readyz").status_code == client.get("/livez").status_code == 200
    assert client.post("/v1/decide", json={"seats": [BUSY]}).status_code == 200
    assert 'rekindle_degraded_total{how="features_from_log"}' in client.get("/metrics").text


def test_after_an_upgrade_features_of_the_version_before_are_computed_from_the_log(
    client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until they were swept: nobody is called at night for it."""
    before = scored(client, BUSY)
    monkeypatch.setattr("features.store.catalogue_hash", lambda: "another")

    during = scored(client, BUSY)
    decided = client.post("/v1/decide", json={"seats": [BUSY, "acme/nobody"]}).json()["items"]

    assert during["degraded"] == ["features_from_log", "rule_serves"]
    assert during["risk"] == before["risk"]
    assert ["problem" in item for item in decided] == [False, True]
    assert client.get("/readyz").status_code == 200


def test_a_lost_online_store_is_told_and_comes_back(client: Any, advisor: Advisor) -> None:
    """The file itself is broken, not a double of it."""
    before = scored(client, BUSY)
    online = advisor.settings.home / "feast" / "online.db"
    with closing(sqlite3.connect(online)) as broken, broken:
        (table,) = broken.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'rekindle%'"
        ).fetchone()
        broken.execute(f'ALTER TABLE "{table}" RENAME TO lost')

    during, readiness = scored(client, BUSY), client.get("/readyz")
    with closing(sqlite3.connect(online)) as broken, broken:
        broken.execute(f'ALTER TABLE lost RENAME TO "{table}"')

    assert during["degraded"] == ["features_from_log", "rule_serves"]
    assert during["risk"] == before["risk"]
    assert (readiness.status_code, readiness.json()["ready"]) == (200, True)
    assert "not readable" in readiness.json()["features"]
    assert scored(client, BUSY)["degraded"] == ["rule_serves"]
    assert client.get("/readyz").status_code == 200


def test_a_database_that_is_away_for_a_while_is_a_503_and_then_answers(
    client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else holds the file for longer than a writer waits."""
    monkeypatch.setattr("features.sqlite.BUSY_SECONDS", 0.2)
    event = {"event_id": "e", "seat_id": BUSY, "kind": "prompt", "occurred_at": "2026-06-01T05:00:00Z"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("/v1/score", {"seats": [BUSY]}),
        ("/v1/decide", {"seats": [BUSY]}),
        ("/v1/events", {"events": [event]}),
        (
            "/v1/seats",
            {"seats": [{"seat_id": NEW, "person_id": "p", "tool": "claude", "assigned_at": "2026-05-01T00:00Z"}]},
        ),
    ]
    scored(client, BUSY)
    with closing(sqlite3.connect(advisor.settings.home / "log.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        during = [client.post(path, json=body) for path, body in calls]
        other.execute("ROLLBACK")
    after = [client.post(path, json=body) for path, body in calls]

    assert [(one.status_code, one.headers.get("retry-after")) for one in during] == [(503, "5")] * len(calls)
    assert {one.json()["type"] for one in during} == {"urn:rekindle:problem:log-unavailable"}
    assert [one.status_code for one in after[:3]] == [200, 200, 202]
    assert after[2].json()["accepted"] == 1  # nothing of what failed was kept
    assert len(advisor.log.decisions([BUSY])) == 1
    assert 'rekindle_request_seconds_count{route="/v1/score",status="503"} 1.0' in client.get("/metrics").text


def test_a_key_is_known_while_the_keys_cannot_be_read(advisor: Advisor, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, seconds = Keys(advisor.log.database), [0.0]
    text = keys.create(name="k", scopes=[Scope.SCORE], now=advisor.now)[1]
    gate = Gate(keys, clock=lambda: advisor.now, monotonic=lambda: seconds[0])
    asyncio.run(gate.admit(f"Bearer {text}"))

    def away() -> Any:
        raise OperationalError("read", {}, sqlite3.OperationalError("disk I/O error"))

    monkeypatch.setattr(keys, "all", away)
    seconds[0] = TRUSTED_SECONDS - 1
    asyncio.run(gate.admit(f"Bearer {text}"))
    seconds[0] = TRUSTED_SECONDS + 1
    with pytest.raises(ProblemError, match="Keys cannot be read"):
        asyncio.run(gate.admit(f"Bearer {text}"))


def test_while_keys_cannot_be_read_the_event_loop_goes_on_and_known_keys_are_let_in(
    advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that does not answer at all, as behind a network that swallows everything."""
    monkeypatch.setattr("serving.access.PATIENCE_SECONDS", 0.05)
    keys, seconds, answers = Keys(advisor.log.database), [0.0], threading.Event()
    text = keys.create(name="k", scopes=[Scope.SCORE], now=advisor.now)[1]
    gate = Gate(keys, clock=lambda: advisor.now, monotonic=lambda: seconds[0])
    read = keys.all

    def hangs() -> Any:
        answers.wait()
        return read()

    async def let_in() -> int:
        beats = 0
        call = asyncio.ensure_future(gate.admit(f"Bearer {text}"))
        while not call.done():
            await asyncio.sleep(0.005)
            beats += 1
        await call
        return beats

    asyncio.run(let_in())
    monkeypatch.setattr(keys, "all", hangs)
    seconds[0] = TRUSTED_SECONDS - 1
    assert asyncio.run(let_in()) > 0
    with pytest.raises(ProblemError) as unknown:  # it may have been made since
        asyncio.run(gate.admit("Bearer rk_0_0"))
    assert (unknown.value.problem.status, unknown.value.headers) == (503, {"Retry-After": "5"})
    answers.set()
    gate.close()


def test_more_seats_than_can_be_computed_on_the_spot_are_told_to_wait(client: Any) -> None:
    seats = [f"acme/n-{number:03}" for number in range(FROM_LOG_MOST + 3)]
    fields = {"person_id": "p", "tool": "claude", "assigned_at": "2026-05-01T00:00:00Z"}
    client.post("/v1/seats", json={"seats": [{"seat_id": seat, **fields} for seat in seats]})

    items = client.post("/v1/score", json={"seats": seats}).json()["items"]

    waiting = [item["problem"]["type"] for item in items if "problem" in item]
    assert waiting == ["urn:rekindle:problem:no-features"] * 3


def test_what_one_request_has_computed_on_the_spot_is_not_taken_from_another(advisor: Advisor) -> None:
    """Requests of several organisations are decided together."""
    seats = [f"{name}/n-{number:03}" for name in ("acme", "globex") for number in range(FROM_LOG_MOST)]
    rows = [
        Seat(seat_id=seat, person_id=f"{seat}-p", organization=seat.split("/")[0], tool="claude", assigned_at=ASSIGNED)
        for seat in [*seats, "globex/z"]
    ]
    advisor.log.append(Batch(seats_table(rows), events_table([])), now=advisor.now)
    requests = [seats[:FROM_LOG_MOST], [*seats[FROM_LOG_MOST:], "globex/z"]]

    decided = advisor.decide([seat for one in requests for seat in one], wanted=None, requests=requests)

    assert [number for number, one in enumerate(decided) if isinstance(one, Problem)] == [2 * FROM_LOG_MOST]


def test_the_event_loop_never_waits_for_features_from_the_log(client: Any, advisor: Advisor) -> None:
    """Somebody is being erased, which holds them for as long as it takes."""

    async def ask() -> tuple[list[str], list[int]]:
        transport, order = httpx.ASGITransport(client.app), list[str]()
        async with httpx.AsyncClient(transport=transport, base_url="http://rekindle", headers=client.headers) as http:

            async def call(name: str, seat: str) -> int:
                answer = await http.post("/v1/score", json={"seats": [seat]})
                order.append(name)
                return answer.status_code

            waits = asyncio.create_task(call("from the log", NEW))
            await asyncio.sleep(0.05)
            statuses = [await call("online", BUSY)]
            advisor._from_log_lock.release()
            return order, [*statuses, await waits]

    advisor._from_log_lock.acquire()
    assert asyncio.run(ask()) == (["online", "from the log"], [200, 200])


def test_a_decision_and_its_receipt_say_what_they_rest_on(
    client: Any, advisor: Advisor, registry: Any, scorer: Scorer
) -> None:
    registry.promote(registry.register(scorer))
    advisor.champion.refresh()
    registry.promote(registry.register(scorer, catalogue="another"))
    advisor.champion.refresh()

    items = client.post("/v1/decide", json={"seats": [BUSY, NEW, OLD]}).json()["items"]

    assert [item["degraded"] for item in items] == [
        ["not_the_champion"],
        ["features_from_log", "not_the_champion"],
        ["stale_features", "not_the_champion"],
    ]
    for item in items:
        assert client.get(f"/v1/decisions/{item['decision_id']}").json() == item
        assert client.post(f"/v1/decisions/{item['decision_id']}/replay").json()["identical"]


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

    for name in ("record_reads", "record_reads_at_once", "deciding", "receive"):
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
