"""The API in process, over a real log and a real feature store."""

import asyncio
import dataclasses
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from features.catalogue import BY_NAME, NUMERIC, catalogue_hash
from features.decisions import NONE, Decision
from features.effects import REGISTERED_EFFECTS, EffectModel
from features.events import Batch, Kind, events_table, seats_table
from features.interventions import SHIPPED
from features.keys import Scope
from features.log import EventLog
from features.scorer import Scorer
from features.store import FeatureStore
from features.uses import Deciding
from serving.advisor import Advisor
from serving.settings import Settings

pytestmark = pytest.mark.filterwarnings(  # MLflow 3.17 on SQLAlchemy 2.1
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

BUSY, QUIET, OLD, NEW, GONE = (f"acme/s-{name}" for name in ("busy", "quiet", "old", "new", "gone"))
UNKNOWN = "acme/s-nobody"
ONLY_NONE = """interventions:
- {id: none, title: Nothing, channel: none, target: seat, cost: 0, capacity_per_day: null, cooldown_days: 0,
   base_effect: 0, answers: {}}
"""


def test_score_says_risk_with_interval_evidence_and_age(client: Any) -> None:
    answer = client.post("/v1/score", json={"seats": [QUIET]})

    assert answer.status_code == 200
    (item,) = answer.json()["items"]
    assert item["seat_id"] == QUIET
    assert item["stratum"] == "not_started"
    assert list(item["risk"]) == ["0", "7", "14", "28"]
    assert list(item["risk"].values()) == sorted(item["risk"].values())
    assert all(low <= item["risk"][days] <= high for days, (low, high) in item["interval"].items())
    assert 0 < item["expected_days"] <= 56
    assert "silent_struggle" in {mode["mode"] for mode in item["failure_modes"]}
    assert all(mode["evidence"] for mode in item["failure_modes"])
    assert (item["age_s"], item["stale"]) == (3600, False)
    assert "reasons" not in item


def test_without_a_model_the_rule_speaks_and_says_so(client: Any) -> None:
    (item,) = client.post("/v1/score", json={"seats": [QUIET], "reasons": "shap"}).json()["items"]

    assert item["model"] == {
        "name": "rekindle-risk",
        "version": "rule",
        "method": "rule",
        "note": "no model has been promoted yet",
    }
    assert [reason["sentence"] for reason in item["reasons"]] == ["no meaningful use in the first two weeks"]


def test_reasons_carry_the_models_contributions(advisor: Advisor, client: Any, registry: Any, scorer: Scorer) -> None:
    registry.promote(registry.register(scorer))
    advisor.champion.refresh()

    busy, quiet = client.post("/v1/score", json={"seats": [BUSY, QUIET], "reasons": "shap"}).json()["items"]

    assert busy["model"] == {"name": "rekindle-risk", "version": "1", "method": "lightgbm_hazard", "note": ""}
    assert all(reason["contribution"] > 0 for reason in busy["reasons"])
    assert quiet["model"]["method"] == "rule"
    assert "in use" in quiet["model"]["note"]


def test_old_features_are_called_stale(client: Any) -> None:
    (item,) = client.post("/v1/score", json={"seats": [OLD]}).json()["items"]

    assert item["stale"] is True
    assert item["age_s"] == 27 * 3600


def test_the_hour_of_features_older_than_it_is_not_shown_as_this_one(
    client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three quick closes just before the features were computed."""
    online = advisor._store.online
    place = NUMERIC.index(BY_NAME["quick_closes_1h"])

    def struggling(seat_ids: Any) -> list[Any]:
        rows = [row for row in online(seat_ids) if row is not None]
        vectors = [np.where(np.arange(len(NUMERIC)) == place, 3.0, row.vector) for row in rows]
        return [dataclasses.replace(row, vector=vector) for row, vector in zip(rows, vectors, strict=True)]

    before = [item["failure_modes"] for item in client.post("/v1/score", json={"seats": [BUSY, OLD]}).json()["items"]]
    monkeypatch.setattr(advisor._store, "online", struggling)
    fresh, old = client.post("/v1/score", json={"seats": [BUSY, OLD]}).json()["items"]
    decision = client.post("/v1/decide", json={"seats": [OLD]}).json()["items"][0]

    assert (fresh["live_friction"]["quick_closes"], old["live_friction"], decision["live_friction"]) == (3, None, None)
    assert "silent_struggle" in [finding["mode"] for finding in fresh["failure_modes"]]
    assert "silent_struggle" not in [finding["mode"] for finding in before[0]]
    assert old["failure_modes"] == before[1]  # what the month says of it stays as it was


def test_a_seat_that_cannot_be_scored_does_not_spoil_the_batch(client: Any) -> None:
    items = client.post("/v1/score", json={"seats": [UNKNOWN, BUSY, NEW]}).json()["items"]

    assert [item["seat_id"] for item in items] == [UNKNOWN, BUSY, NEW]
    assert (items[0]["problem"]["status"], items[0]["problem"]["type"]) == (404, "urn:rekindle:problem:unknown-seat")
    assert "risk" in items[1]
    assert items[2]["degraded"] == ["features_from_log", "rule_serves"]


def test_served_rows_are_logged_with_the_online_vector(client: Any, advisor: Advisor, home: Any, now: Any) -> None:
    client.post("/v1/score", json={"seats": [BUSY, UNKNOWN]})
    client.post("/v1/decide", json={"seats": [QUIET]})

    served = advisor.log.served(since=now, until=now + timedelta(seconds=1))
    online = FeatureStore(home).online([BUSY, QUIET])
    assert [row.seat_id for row in served] == [BUSY, QUIET]
    for row, expected in zip(served, online, strict=True):
        assert expected is not None
        np.testing.assert_array_equal(row.vector, expected.vector)
        assert row.categories == expected.categories
        assert (row.as_of, row.catalogue_hash, row.model) == (expected.as_of, catalogue_hash(), "rule")
        assert list(row.risk) == ["0", "7", "14", "28"]


def test_decide_says_what_why_and_with_which_probability(client: Any) -> None:
    answer = client.post("/v1/decide", json={"seats": [QUIET]})

    assert answer.status_code == 200
    (item,) = answer.json()["items"]
    total = item["probability"] + sum(other["probability"] for other in item["alternatives"])
    assert total == pytest.approx(1)
    assert item["guardrails"] == {
        "peer_champion": "no champion is known",
        "role_use_cases": "likelier to harm than 50%: 54.0%",  # its role does it no less than others do
        "safe_practice": "likelier to harm than 50%: 56.0%",
        "refresher": "likelier to harm than 50%: 57.9%",
    }
    assert (item["note"], item["effects_model"]) == ("", "expert")
    assert item["holdout"] is False
    assert item["expires_at"] == "2026-06-04T06:00:00Z"
    low, high = item["expected_effect"]["interval"]
    assert low <= item["expected_effect"]["effect"] <= high
    assert {"effect", "interval", "intervention", "probability"} == set(item["alternatives"][0])
    assert item["model"] == "rule"


def test_decision_is_in_the_log_before_the_answer_and_the_receipt_is_equal(client: Any, advisor: Advisor) -> None:
    (item,) = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"]

    logged = advisor.log.decision(item["decision_id"])
    assert logged is not None
    assert (logged.seat_id, logged.intervention) == (QUIET, item["intervention"])
    assert client.get(f"/v1/decisions/{item['decision_id']}").json() == item


def test_nothing_is_decided_that_cannot_be_logged(
    client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Deciding, decisions: object) -> int:
        raise OperationalError("insert", {}, Exception("disk full"))

    monkeypatch.setattr(Deciding, "record", fail)

    answer = client.post("/v1/decide", json={"seats": [QUIET]})

    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert "disk" not in answer.text


def test_a_decision_from_elsewhere_that_does_not_say_what_it_knew_has_a_receipt(
    client: Any, advisor: Advisor, now: datetime
) -> None:
    advisor.log.record_decisions([Decision("d-1", QUIET, now, "refresher", {"refresher": 1.0})])

    answer = client.get("/v1/decisions/d-1")

    assert answer.status_code == 200
    assert [answer.json()[name] for name in ("as_of", "age_s", "stale", "live_friction")] == [None] * 4


def test_replay_of_a_logged_decision_is_identical(client: Any) -> None:
    items = client.post("/v1/decide", json={"seats": [QUIET, BUSY, OLD]}).json()["items"]

    replays = [client.post(f"/v1/decisions/{item['decision_id']}/replay").json() for item in items]

    assert [replayed["identical"] for replayed in replays] == [True] * 3
    assert [replayed["intervention"] for replayed in replays] == [item["intervention"] for item in items]


def test_replay_uses_the_terms_and_interventions_of_then(
    client: Any, settings: Settings, make_advisor: Callable[[Settings], Advisor], make_client: Any, make_app: Any
) -> None:
    (item,) = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"]
    (settings.home / "interventions.yaml").write_text(ONLY_NONE)
    other = make_client(make_app(make_advisor(replace(settings, seat_value=1000.0, epsilon=0.5))))

    answer = other.post(f"/v1/decisions/{item['decision_id']}/replay").json()

    assert answer["identical"]
    assert answer["probabilities"][item["intervention"]] == item["probability"]


def test_replay_with_another_key_is_a_conflict(
    client: Any, settings: Settings, make_advisor: Callable[[Settings], Advisor], make_client: Any, make_app: Any
) -> None:
    (item,) = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"]
    other = make_client(make_app(make_advisor(replace(settings, pseudonym_key="another key"))))

    answer = other.post(f"/v1/decisions/{item['decision_id']}/replay")

    assert (answer.status_code, answer.json()["type"]) == (409, "urn:rekindle:problem:other-policy")


def test_a_second_decision_honours_the_cooldown_of_the_first(client: Any) -> None:
    body = {"seats": [QUIET], "interventions": ["in_context_guidance"]}
    first: dict[str, Any] = {"intervention": NONE}
    while first["intervention"] == NONE:  # explored with a probability of one in twenty
        (first,) = client.post("/v1/decide", json=body).json()["items"]

    (second,) = client.post("/v1/decide", json=body).json()["items"]

    assert second["guardrails"]["in_context_guidance"] == "given on 2026-06-01; 7 days of cooldown"
    assert second["intervention"] == NONE


def test_decisions_at_the_same_time_do_not_break_the_cooldown(advisor: Advisor) -> None:
    wanted = frozenset({"in_context_guidance"})
    with ThreadPoolExecutor(8) as pool:
        decided = [*pool.map(lambda _: advisor.decide([QUIET], wanted=wanted)[0], range(24))]

    assert all(isinstance(decision, Decision) for decision in decided)
    given = [item for item in advisor.log.decisions([QUIET]) if item.intervention != NONE]
    assert len(given) == 1


def test_one_leader_is_asked_once_in_a_batch(
    settings: Settings, make_advisor: Callable[[Settings], Advisor], make_client: Any, make_app: Any
) -> None:
    client = make_client(make_app(make_advisor(replace(settings, epsilon=1.0))))
    asked: list[dict[str, Any]] = []
    while not asked:  # each of three seats asks with a probability of one half
        body = {"seats": [BUSY, QUIET, OLD], "interventions": ["leader_participation"]}
        items = client.post("/v1/decide", json=body).json()["items"]
        asked = [item for item in items if item["intervention"] == "leader_participation"]

    assert len(asked) == 1
    assert asked[0]["target_person_id"] == "acme/p-manager"


def test_capacity_is_counted_over_the_organisation(client: Any, advisor: Advisor, now: Any) -> None:
    taken = [
        Decision(f"earlier-{number}", f"acme/s-{number}", now - timedelta(hours=1), "coach_call", {"coach_call": 1.0})
        for number in range(5)
    ]
    elsewhere = [replace(item, decision_id=f"x{item.decision_id}", seat_id="globex/s-1", intervention="leader_participation", probabilities={"leader_participation": 1.0}) for item in taken * 2]  # fmt: skip
    advisor.log.record_decisions(taken + elsewhere)

    (item,) = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"]

    assert item["guardrails"]["coach_call"] == "today's 5 are taken"
    assert "leader_participation" not in item["guardrails"]


def test_a_dismissal_in_the_log_leaves_the_person_in_peace(
    client: Any, advisor: Advisor, make_event: Any, now: Any
) -> None:
    dismissal = make_event(QUIET, Kind.REACTION, 2, category="dismissed")
    advisor.log.append(Batch(seats_table([]), events_table([dismissal])), now=now)

    (item,) = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"]

    assert "dismissed on 2026-05-30" in item["guardrails"]["in_context_guidance"]


def test_the_workflow_is_the_first_that_the_seat_has_not_completed(client: Any) -> None:
    item: dict[str, Any] = {"workflow": None}
    while item["workflow"] is None:  # none is explored with a probability of one in twenty
        body = {"seats": [BUSY], "interventions": ["coach_call"]}
        (item,) = client.post("/v1/decide", json=body).json()["items"]

    assert item["workflow"] == "meeting_recap"  # proposal_draft comes first, and this seat completes it
    assert item["use_case"] == "Turn a recorded meeting into decisions and owners."


def test_learned_effects_decide_from_their_promotion_on_and_the_decision_replays(
    client: Any, advisor: Advisor, registry: Any, learned: Callable[..., EffectModel]
) -> None:
    before = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"][0]
    registry.promote(registry.register_effects(learned("refresher", 0.2)), name=REGISTERED_EFFECTS)
    advisor.refresh()

    after = client.post("/v1/decide", json={"seats": [QUIET], "interventions": ["refresher"]}).json()["items"][0]

    assert (before["effects_model"], after["effects_model"]) == ("expert", "rekindle-effects/1")
    assert after["policy"].startswith("greedy-2:rekindle-effects/1:")
    assert "refresher" in before["guardrails"]
    chances = {item["intervention"]: item["probability"] for item in (after, *after["alternatives"])}
    assert chances == {NONE: pytest.approx(0.05), "refresher": pytest.approx(0.95)}
    registry.demote(name=REGISTERED_EFFECTS)
    advisor.refresh()
    for item in (before, after):
        assert client.post(f"/v1/decisions/{item['decision_id']}/replay").json()["identical"] is True
    assert client.get("/readyz").json()["effects"] == "expert"


def test_effects_that_cannot_serve_are_said_and_counted(
    client: Any, advisor: Advisor, registry: Any, learned: Callable[..., EffectModel]
) -> None:
    registry.promote(
        registry.register_effects(replace(learned("refresher", 0.2), prior="another")), name=REGISTERED_EFFECTS
    )

    advisor.refresh()

    item = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"][0]
    assert item["effects_model"] == "expert"
    assert "version 1 of rekindle-effects was refused" in client.get("/readyz").json()["effects"]
    assert "rekindle_effects_refusals_total 1.0" in client.get("/metrics").text


def test_a_removed_seat_is_not_decided_for(client: Any) -> None:
    (item,) = client.post("/v1/decide", json={"seats": [GONE]}).json()["items"]

    assert (item["problem"]["status"], item["problem"]["type"]) == (409, "urn:rekindle:problem:seat-removed")


def test_a_held_out_team_gets_none_and_is_logged_apart(
    settings: Settings, make_advisor: Callable[[Settings], Advisor], make_client: Any, make_app: Any
) -> None:
    advisor = make_advisor(replace(settings, holdout_share=0.999999))
    (item,) = make_client(make_app(advisor)).post("/v1/decide", json={"seats": [QUIET]}).json()["items"]

    assert (item["intervention"], item["probability"], item["holdout"]) == (NONE, 1.0, True)
    assert item["alternatives"] == []
    logged = advisor.log.decision(item["decision_id"])
    assert logged is not None
    assert logged.holdout


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ('{"seats": [', 400, ""),
        ("\x00\xff", 400, ""),
        ("[]", 422, ""),
        ("null", 422, ""),
        ("{}", 422, "seats"),
        ('{"seats": []}', 422, "seats"),
        ('{"seats": "acme/s-busy"}', 422, "seats"),
        ('{"seats": ["acme/s-busy", 7]}', 422, "seats[1]"),
        ('{"seats": ["s-busy"]}', 422, "seats[0]"),
        ('{"seats": ["acme/jane@corp.example"]}', 422, "seats[0]"),
        ('{"seats": ["acme/s-busy", "acme/s-busy"]}', 422, "seats"),
        ('{"seats": ["acme/s-busy"], "extra": 1}', 422, "extra"),
        ('{"seats": ["acme/s-busy"], "body": 1}', 422, "body"),
        ('{"seats": ["acme/s-busy"], "query": 1}', 422, "query"),
        ('{"seats": ["acme/s-busy"], "interventions": ["none", "hypnosis"]}', 422, "interventions[1]"),
        ('{"seats": ["acme/s-busy"], "interventions": [7]}', 422, "interventions[0]"),
        ('{"seats": [' + ",".join(f'"acme/s-{n}"' for n in range(1001)) + "]}", 422, "seats"),
    ],
)
def test_a_wrong_body_is_a_problem_that_names_the_field(client: Any, body: str, status: int, field: str) -> None:
    answer = client.post("/v1/decide", content=body.encode("latin-1"), headers={"content-type": "application/json"})

    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "detail"} <= set(problem)
    assert problem["errors"][0]["field"] == field
    assert problem["errors"][0]["detail"]


def test_many_wrong_fields_are_not_all_listed(client: Any) -> None:
    answer = client.post("/v1/score", json={"seats": ["x"] * 500})

    assert len(answer.json()["errors"]) == 20


@pytest.mark.parametrize(
    ("path", "field"), [("/v1/worklist?organization=acme&day=x", "day"), ("/v1/seats?limit=0", "limit")]
)
def test_a_wrong_parameter_is_named_as_it_was_sent(client: Any, path: str, field: str) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


def test_a_text_that_is_too_long_is_said_in_characters(client: Any) -> None:
    answer = client.post("/v1/score", json={"seats": ["acme/" + "x" * 300]})

    assert answer.json()["errors"][0]["detail"] == "expected at most 257 characters, came 305"


def test_reasons_other_than_the_known_are_refused(client: Any) -> None:
    answer = client.post("/v1/score", json={"seats": [BUSY], "reasons": "lime"})

    assert answer.json()["errors"][0]["field"] == "reasons"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/score", 404),
        ("GET", "/v1/score", 405),
        ("GET", "/v1/decisions/unknown", 404),
        ("POST", "/v1/score/", 404),
        ("GET", "/v1/{0}%0a", 404),
    ],
)
def test_a_wrong_address_is_a_problem_that_says_more_than_its_number(
    client: Any, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)

    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.json()["detail"] not in (answer.json()["title"], "")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_over_the_limit_is_refused(client: Any) -> None:
    answer = client.post("/v1/score", content=b" " * 1_000_001, headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["status"]) == (413, 413)


def test_no_traceback_reaches_a_caller(client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(advisor, "begin_score", fail)

    answer = client.post("/v1/score", json={"seats": [BUSY]})

    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_ready_says_what_scores(client: Any) -> None:
    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json() == {
        "ready": True,
        "log": "reachable",
        "features": "readable",
        "writers": "working",
        "model": "rule (rule): no model has been promoted yet",
        "effects": "expert",
    }


def test_ready_without_the_online_store_and_says_where_features_come_from(
    client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ConnectionError("no redis")

    monkeypatch.setattr(advisor, "read_features", fail)

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["features"] == "from the log; the online store is not readable: ConnectionError"


def test_unready_while_the_file_of_the_log_is_damaged(client: Any, advisor: Advisor) -> None:
    """Connections that were open before still answer from their memory."""
    before = client.get("/readyz").status_code
    os.truncate(advisor.settings.home / "log.db", 0)

    answer = client.get("/readyz")

    assert (before, answer.status_code, answer.json()["log"]) == (200, 503, "does not answer")


def test_unready_while_another_process_holds_the_log(
    client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.log.PROBE_SECONDS", 0.05)
    with closing(sqlite3.connect(advisor.settings.home / "log.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        during = client.get("/readyz")
        other.execute("ROLLBACK")
    after = client.get("/readyz")

    assert (during.status_code, during.json()["log"], after.status_code) == (503, "does not answer", 200)


def test_a_part_that_does_not_answer_makes_the_probe_say_so_in_time(
    client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.app.READY_SECONDS", 0.5)
    hangs = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(advisor, "read_features", hangs.wait)
        without_features = client.get("/readyz")
    with monkeypatch.context() as patched:
        patched.setattr(advisor.log, "is_reachable", hangs.wait)
        without_log = client.get("/readyz")
    hangs.set()

    assert (without_features.status_code, without_features.json()["log"]) == (200, "reachable")
    assert without_features.json()["features"] == "from the log; the online store is not known within 0.5 s"
    assert (without_log.status_code, without_log.json()["log"]) == (503, "not known within 0.5 s")


def test_unready_once_a_thread_that_writes_has_ended(client: Any, advisor: Advisor) -> None:
    advisor.records.close()

    answer = client.get("/readyz")

    assert (answer.status_code, answer.json()["writers"]) == (503, "ended: records")


def test_probes_answer_while_every_thread_of_requests_is_taken(
    advisor: Advisor, make_app: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty calls that wait in threads are all that Starlette lets in at a time; aggregates, which wait long, wait in none."""
    app = make_app(advisor)
    making, may_go_on, waiting_in_threads = threading.Event(), threading.Event(), threading.Semaphore(0)
    key = app.state.keys.create(name="k", scopes=[*Scope], now=now, rate_per_second=1e6)[1]
    to_do = advisor.log.to_do

    def slow_rollout(*_: object, **__: object) -> Any:
        making.set()
        may_go_on.wait()
        raise ValueError("no seat")

    def slow_worklist(*args: Any, **fields: Any) -> Any:
        waiting_in_threads.release()
        may_go_on.wait()
        return to_do(*args, **fields)

    async def until(is_so: Callable[[], bool]) -> None:
        while not is_so():
            await asyncio.sleep(0.01)

    async def ask() -> tuple[list[int], list[int]]:
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://rekindle", headers=headers) as http:
            async with asyncio.timeout(60):
                asked = [asyncio.create_task(http.get("/v1/segments?organization=acme")) for _ in range(60)]
                await until(making.is_set)
                free = await http.get("/v1/seats")
                asked += [asyncio.create_task(http.get("/v1/worklist?organization=acme")) for _ in range(45)]
                for _ in range(40):
                    await until(lambda: waiting_in_threads.acquire(blocking=False))
                probed = [await http.get(path) for path in ("/livez", "/readyz", "/metrics")]
                may_go_on.set()
                answers = await asyncio.gather(*asked)
            return [one.status_code for one in [free, *probed]], [one.status_code for one in answers]

    monkeypatch.setattr("serving.aggregates.read_rollout", slow_rollout)
    monkeypatch.setattr(advisor.log, "to_do", slow_worklist)
    assert asyncio.run(ask()) == ([200] * 4, [404] * 60 + [200] * 45)


def test_alive_and_metrics(client: Any) -> None:
    client.post("/v1/decide", json={"seats": [QUIET, UNKNOWN]})
    client.get("/a-path-that-anybody-may-make-up")

    assert client.get("/livez").json() == {"alive": True}
    text = client.get("/metrics").text
    assert 'rekindle_request_seconds_count{route="/v1/decide",status="200"}' in text
    assert 'rekindle_seat_problems_total{type="unknown-seat"}' in text
    assert "rekindle_decisions_total" in text
    assert 'route="other",status="404"' in text
    assert "made-up" not in text
    assert "feast_" not in text


def test_every_call_is_documented_with_its_problems_and_limits(client: Any) -> None:
    document = client.get("/openapi.json").json()

    assert set(document["paths"]) == {
        "/v1/events",
        "/v1/score",
        "/v1/decide",
        "/v1/decisions/{decision_id}",
        "/v1/decisions/{decision_id}/replay",
        "/v1/decisions/{decision_id}/reactions",
        "/v1/decisions/{decision_id}/outcome",
        "/v1/worklist",
        "/v1/segments",
        "/v1/metrics/adoption",
        "/v1/seats",
        "/v1/seats/{seat_id}",
        "/v1/people/{person_id}",
        "/v1/people/{person_id}/objection",
        "/livez",
        "/readyz",
        "/metrics",
    }
    assert "at most 1000 seats" in document["info"]["description"]
    assert "application/problem+json" in document["paths"]["/v1/decide"]["post"]["responses"]["422"]["content"]
    assert document["components"]["schemas"]["ScoreRequest"]["properties"]["seats"]["examples"]
    assert set(document["components"]["schemas"]["EventIn"]["required"]) == {
        "event_id",
        "seat_id",
        "kind",
        "occurred_at",
    }
    assert client.get("/docs").status_code == 200


def test_an_empty_home_is_served(
    settings: Settings, make_advisor: Any, make_client: Any, tmp_path: Any, make_app
) -> None:
    client = make_client(make_app(make_advisor(replace(settings, home=tmp_path / "empty"))))

    (item,) = client.post("/v1/score", json={"seats": [BUSY]}).json()["items"]

    assert item["problem"]["status"] == 404
    assert client.get("/readyz").status_code == 200


def test_own_interventions_replace_the_shipped_ones(
    settings: Settings, make_advisor: Any, make_client: Any, make_app
) -> None:
    (settings.home / "interventions.yaml").write_text(ONLY_NONE)
    client = make_client(make_app(make_advisor(settings)))

    (item,) = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"]

    assert (item["intervention"], item["title"], item["alternatives"]) == (NONE, "Nothing", [])
    assert item["note"] == "there is no intervention but 'none'"


def test_an_unknown_intervention_is_refused_and_those_there_are_are_named(client: Any, advisor: Advisor) -> None:
    answer = client.post("/v1/decide", json={"seats": [QUIET], "interventions": ["coach_call", "singing"]})

    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "interventions[1]"
    assert "expected one of none, in_context_guidance" in error["detail"]
    assert "came 'singing'" in error["detail"]
    assert advisor.log.decisions() == []


def test_with_every_intervention_exhausted_the_seat_is_left_alone_and_the_reply_says_so(
    settings: Settings, make_advisor: Any, make_client: Any, make_app: Any
) -> None:
    exhausted = SHIPPED.read_text().replace("capacity_per_day: null", "capacity_per_day: 0")
    exhausted = re.sub(r"capacity_per_day: \d+", "capacity_per_day: 0", exhausted)
    exhausted = exhausted.replace("capacity_per_day: 0", "capacity_per_day: null", 1)  # none has no capacity
    (settings.home / "interventions.yaml").write_text(exhausted)
    client = make_client(make_app(make_advisor(settings)))

    (item,) = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"]

    assert (item["intervention"], item["probability"], item["alternatives"]) == (NONE, 1.0, [])
    assert item["note"] == "all 8 interventions are ruled out, each for the reason under guardrails"
    assert item["guardrails"]["coach_call"] == "today's 0 are taken"


def test_the_log_opened_elsewhere_sees_the_decision(client: Any, settings: Settings) -> None:
    (item,) = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"]

    another = EventLog(settings.database_url)
    logged = another.decision(item["decision_id"])
    another.close()

    assert logged is not None
    assert logged.probability == item["probability"]
