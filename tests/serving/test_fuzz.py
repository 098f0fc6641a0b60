"""Malformed bodies get a 4xx that names a field, never an error of ours; concurrent answers are the sequential ones."""

import asyncio
import json
import os
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from features.decisions import Decision
from serving.advisor import Advisor

BODIES = int(os.environ.get("REKINDLE_FUZZ_BODIES", "400"))  # 10 000 before a release
SEAT = "acme/s-busy"
DECISION = "/v1/decisions/d-1"
GOOD: dict[str, dict[str, Any]] = {
    "/v1/score": {"seats": [SEAT], "reasons": "none"},
    "/v1/decide": {"seats": [SEAT], "interventions": ["none"]},
    "/v1/events": {
        "events": [
            {
                "event_id": "e",
                "seat_id": SEAT,
                "kind": "session",
                "occurred_at": "2026-06-01T05:00:00Z",
                "value": 3,
                "completed": False,
            }
        ]
    },
    "/v1/seats": {
        "seats": [{"seat_id": SEAT, "person_id": "acme/p", "tool": "claude", "assigned_at": "2026-05-01T00:00:00Z"}]
    },
    f"/v1/seats/{SEAT}": {"person_id": "acme/p", "tool": "m365_copilot", "assigned_at": "2026-05-01T00:00:00Z"},
    f"{DECISION}/reactions": {"stage": "seen", "at": "2026-06-01T05:00:00Z"},
    f"{DECISION}/outcome": {"kept": True, "horizon_days": 28, "source": "crm"},
}
ODD = (None, True, -1, 2**70, 1e308, "", "\x00", "é" * 300, "a" * 5_000, [], {}, [[]], {"a": {}}, "\ud800", "' OR 1=1")


def broken(chance: random.Random, value: Any) -> Any:
    """The value with one thing in it replaced by something odd, removed or added."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        name = chance.choice([*value])
        if chance.random() < 0.2:
            return {other: kept for other, kept in value.items() if other != name}
        if chance.random() < 0.15:
            return {**value, "odd": chance.choice(ODD)}
        return {**value, name: broken(chance, value[name])}
    if isinstance(value, list) and value and chance.random() < 0.8:
        return [broken(chance, value[0]), *value[1:]]
    return chance.choice(ODD)


def text_of(chance: random.Random, body: Any) -> bytes:
    text = json.dumps(body).encode()
    kind = chance.random()
    if kind < 0.1:
        return text[: chance.randrange(len(text))]
    if kind < 0.15:
        return chance.randbytes(chance.randrange(1, 60))
    return text


def answers_to(client: Any, sent: list[tuple[str, bytes]]) -> list[httpx.Response]:
    """By one connection, one after the other: an event loop for each would take most of the time."""

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(client.app, raise_app_exceptions=False)
        headers = {**client.headers, "content-type": "application/json"}
        async with httpx.AsyncClient(transport=transport, base_url="http://rekindle", headers=headers) as connection:
            return [
                await connection.request("PUT" if path.endswith(SEAT) else "POST", path, content=content)
                for path, content in sent
            ]

    return asyncio.run(all_of_them())


def test_malformed_bodies_get_4xx_with_the_path_of_a_field(client: Any, advisor: Advisor, now: datetime) -> None:
    decided = Decision("d-1", SEAT, now - timedelta(days=40), "refresher", {"refresher": 1.0})
    advisor.log.record_decisions([decided])
    chance = random.Random(11)
    sent = [(path, text_of(chance, broken(chance, GOOD[path]))) for path in chance.choices([*GOOD], k=BODIES)]

    for (path, content), answer in zip(sent, answers_to(client, sent), strict=True):
        assert answer.status_code < 500, (path, content, answer.text)
        document = answer.json()
        if answer.status_code >= 400:
            problems = [item["problem"] for item in document.get("items", []) if "problem" in item]
            for one in problems or document["errors"]:
                assert isinstance(one["field"], str), (path, content, answer.text)
            expected = "application/json" if problems else "application/problem+json"
            assert answer.headers["content-type"] == expected, (path, content, answer.text)


EXTREME = (
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1677-01-01T00:00:00Z", "2262-04-12T00:00:00Z",
    "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00",
)  # fmt: skip


@pytest.mark.parametrize("at", EXTREME)
def test_the_first_and_the_last_instants_that_there_are_get_an_answer(
    client: Any, advisor: Advisor, now: datetime, at: str
) -> None:
    advisor.log.record_decisions([Decision("d-1", SEAT, now, "refresher", {"refresher": 1.0})])
    seat = {"person_id": "acme/p", "tool": "claude", "assigned_at": at}
    cloud_event = {"specversion": "1.0", "id": "i", "source": "/lms", "type": "prompt", "subject": SEAT, "time": at}
    answers = [
        client.post("/v1/events", json={"events": [{**GOOD["/v1/events"]["events"][0], "occurred_at": at}]}),
        client.post("/v1/events", json=cloud_event, headers={"content-type": "application/cloudevents+json"}),
        client.request("PUT", "/v1/seats/acme/s-1", json=seat),
        client.post("/v1/seats", json={"seats": [{**seat, "seat_id": "acme/s-2", "removed_at": at}]}),
        client.post(f"{DECISION}/reactions", json={"stage": "seen", "at": at}),
        *(client.get(f"/v1/worklist?organization=acme&day={quote(day)}") for day in (at, at[:10])),
        client.get("/v1/segments?organization=acme"),
        client.post("/v1/score", json={"seats": ["acme/s-1", "acme/s-2", SEAT]}),
        client.post("/v1/decide", json={"seats": ["acme/s-1", "acme/s-2", SEAT]}),
    ]

    assert [(answer.request.url.path, answer.text) for answer in answers if answer.status_code >= 500] == []


def test_concurrent_answers_equal_sequential_ones(client: Any) -> None:
    seats = ["acme/s-busy", "acme/s-quiet", "acme/s-old", "acme/nobody"]
    sequential = [client.post("/v1/score", json={"seats": [seat]}).json() for seat in seats]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seat: client.post("/v1/score", json={"seats": [seat]}).json(), seats * 8))

    assert together == sequential * 8


def test_concurrent_decisions_are_each_logged_once_and_computed_again_identically(
    client: Any, advisor: Advisor
) -> None:
    """Which one comes first is anybody's guess, and later ones see the earlier: so each is checked against its own inputs."""
    seats = ["acme/s-busy", "acme/s-quiet", "acme/s-old"]
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda seat: client.post("/v1/decide", json={"seats": [seat]}).json(), seats * 8)]

    items = [item for answer in answers for item in answer["items"]]
    logged = {decision.decision_id: decision for decision in advisor.log.decisions(seats)}
    assert [item["seat_id"] for item in items] == seats * 8
    assert sorted(item["decision_id"] for item in items) == sorted(logged)
    for item in items:
        again = client.post(f"/v1/decisions/{item['decision_id']}/replay").json()
        assert (again["identical"], again["intervention"]) == (True, item["intervention"])
        assert item["probability"] == logged[item["decision_id"]].probabilities[item["intervention"]]


def test_concurrent_events_are_taken_as_sequential_ones(client: Any, advisor: Advisor) -> None:
    """Each id once, whoever sends it first; the others are told that it is there."""
    before = advisor.log.event_count()
    bodies = [
        {"events": [{**GOOD["/v1/events"]["events"][0], "event_id": f"e-{number}"} for number in (first, first + 1)]}
        for first in range(10)
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda body: client.post("/v1/events", json=body).json(), bodies * 4)]
    statuses = [item["status"] for answer in answers for item in answer["items"]]

    assert (statuses.count("accepted"), statuses.count("duplicate")) == (11, 69)
    assert advisor.log.event_count() == before + 11


QUERIES = {
    "/v1/worklist": ("organization", "day", "limit", "cursor"),
    "/v1/seats": ("organization", "limit", "cursor"),
    "/v1/segments": ("organization", "by"),
    "/v1/metrics/adoption": ("organization", "by"),
}
CLOUD_EVENT = {
    "specversion": "1.0", "id": "i", "source": "/lms", "type": "com.example.session.v1", "subject": SEAT,
    "time": "2026-06-01T05:00:00Z", "data": {"value": 3, "completed": False},
}  # fmt: skip
HEADERS = ("rekindle-purpose", "idempotency-key", "content-type", "content-length", "accept", "cookie", "ce-specversion",
           "ce-id", "ce-time", "ce-source", "x-forwarded-proto", "authorization")  # fmt: skip
WORDS = ("", "0", "-1", "9" * 30, "1e400", "NaN", "acme", "2026-02-30", "9999-12-31", "0001-01-01", "%00", "\u00e9" * 300,
         "a" * 5_000, "' OR 1=1", "../..", "bnVsbA==", "W10=", "eyJhIjoxfQ==", "role,team", "application/json; charset=x",
         "application/cloudevents+json", "text/plain", "1.0", "Bearer rk_0_0", "\xff")  # fmt: skip


def test_odd_queries_cloud_events_and_headers_get_no_error_of_ours(client: Any) -> None:
    chance = random.Random(12)
    requests: list[dict[str, Any]] = []
    for _ in range(BODIES // 4):
        path = chance.choice([*QUERIES])
        names = chance.choices(QUERIES[path], k=chance.randrange(1, 4))
        query = "&".join(f"{name}={quote(chance.choice(WORDS), safe='%')}" for name in names)
        requests.append({"method": "GET", "url": f"{path}?{query}"})
        is_batch = chance.random() < 0.5
        event = broken(chance, CLOUD_EVENT)
        sent_as = f"application/cloudevents{'-batch' * is_batch}+json"
        content = text_of(chance, [CLOUD_EVENT, event] if is_batch else event)
        requests.append(
            {"method": "POST", "url": "/v1/events", "content": content, "headers": {"content-type": sent_as}}
        )
        called = chance.choice([*GOOD])
        headers = {name: chance.choice(WORDS).encode("latin-1") for name in chance.sample(HEADERS, k=2)}
        method = "PUT" if called.endswith(SEAT) else "POST"
        body = json.dumps(GOOD[called]).encode()
        requests.append({"method": method, "url": called, "content": body, "headers": headers})

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(client.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://rekindle", headers=client.headers) as http:
            return [await http.request(**request) for request in requests]

    failed = [
        (request, answer.status_code, answer.text)
        for request, answer in zip(requests, asyncio.run(all_of_them()), strict=True)
        if answer.status_code >= 500
    ]
    assert failed == []
