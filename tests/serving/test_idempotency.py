"""Idempotency-Key: the same call gets the same answer, another body is refused, two at once do the work once."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import SQLAlchemyError

from features.keys import Scope
from serving.advisor import Advisor
from serving.deadline import Deadline
from serving.idempotency import Answer, Answers, Call, Claim
from serving.problems import ProblemError

SEAT = "acme/s-quiet"
KEY = {"idempotency-key": "one"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """The same tests on both kinds of database."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgres_rollout_url"))


def test_a_decision_sent_again_is_the_same_decision(client: Any, advisor: Advisor) -> None:
    first = client.post("/v1/decide", json={"seats": [SEAT]}, headers=KEY)
    again = client.post("/v1/decide", json={"seats": [SEAT]}, headers=KEY)
    other = client.post("/v1/decide", json={"seats": ["acme/s-busy"]}, headers=KEY)

    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert len(advisor.log.decisions([SEAT])) == 1
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


def test_events_and_seats_sent_again_are_answered_as_before(client: Any) -> None:
    event = {"event_id": "e", "seat_id": SEAT, "kind": "prompt", "occurred_at": "2026-06-01T05:00:00Z"}
    seat = {"seat_id": "acme/s-9", "person_id": "p-9", "tool": "claude", "assigned_at": "2026-05-01T00:00:00Z"}
    for path, body in (("/v1/events", {"events": [event]}), ("/v1/seats", {"seats": [seat]})):
        headers = {"idempotency-key": path}
        first, again = (client.post(path, json=body, headers=headers) for _ in range(2))
        assert (first.status_code, first.content) == (again.status_code, again.content)
        assert again.headers["idempotent-replayed"] == "true"


def test_another_event_in_the_headers_is_another_call(client: Any, advisor: Advisor) -> None:
    """A CloudEvent's id may be in a header, and its body the same as of the one before."""

    def send(identifier: str) -> Any:
        attributes = {"specversion": "1.0", "source": "/lms", "type": "com.example.prompt", "subject": SEAT}
        told = {**attributes, "id": identifier, "time": "2026-06-01T05:00:00Z"}
        headers = {**KEY, "content-type": "application/json", **{f"ce-{name}": value for name, value in told.items()}}
        return client.post("/v1/events", content=b"{}", headers=headers)

    first, again, other = send("h-1"), send("h-1"), send("h-2")

    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert first.json()["accepted"] == 1
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


def test_another_key_of_the_api_has_its_own_answers(advisor: Advisor, make_app: Any, make_client: Any) -> None:
    app = make_app(advisor)
    answers = [make_client(app).post("/v1/decide", json={"seats": [SEAT]}, headers=KEY) for _ in range(2)]

    ids = [answer.json()["items"][0]["decision_id"] for answer in answers]
    assert ids[0] != ids[1]


def test_many_at_once_with_one_key_decide_once(client: Any, advisor: Advisor) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda _: client.post("/v1/decide", json={"seats": [SEAT]}, headers=KEY), range(8))]

    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
    assert len(advisor.log.decisions([SEAT])) == 1


def test_in_flight_is_a_conflict_until_its_holder_is_given_up(advisor: Advisor) -> None:
    now = [advisor.now]
    answers = Answers(advisor.log.database, clock=lambda: now[0])
    call = Call("k", "one", "body")
    claim = answers.begin(call)
    with pytest.raises(ProblemError) as refused:
        answers.begin(call)
    assert (refused.value.problem.status, refused.value.headers) == (409, {"Retry-After": "1"})

    now[0] += timedelta(seconds=61)
    later = answers.begin(call)
    assert isinstance(claim, Claim)
    assert isinstance(later, Claim)
    answers.finish(call, claim, Answer(200, "text/plain", b"of the dead"))  # whoever comes back late changes nothing
    answers.finish(call, later, Answer(200, "text/plain", b"done"))

    assert answers.begin(call) == Answer(200, "text/plain", b"done")
    now[0] += timedelta(days=2)
    assert isinstance(answers.begin(call), Claim)


def test_a_call_that_outlived_its_deadline_decides_once_and_its_answer_waits_for_who_asks_again(
    advisor: Advisor, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide, may_go_on = advisor.decide, threading.Event()

    def slow(*args: Any, **fields: Any) -> Any:
        may_go_on.wait()
        return decide(*args, **fields)

    monkeypatch.setattr(advisor, "decide", slow)
    app = make_app(advisor)
    text = app.state.keys.create(name="k", scopes=[Scope.DECIDE], now=advisor.now, rate_per_second=1e6)[1]
    headers = {"Authorization": f"Bearer {text}", **KEY}

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(Deadline(app, seconds=0.3))
        async with httpx.AsyncClient(transport=transport, base_url="http://rekindle", headers=headers) as http:
            answers = [await http.post("/v1/decide", json={"seats": [SEAT]}) for _ in range(2)]
            may_go_on.set()
            while (again := await http.post("/v1/decide", json={"seats": [SEAT]})).status_code == 409:
                await asyncio.sleep(0.01)
            return [*answers, again]

    late, meanwhile, again = asyncio.run(ask())

    assert (late.status_code, meanwhile.status_code, again.status_code) == (504, 409, 200)
    assert meanwhile.json()["type"] == "urn:rekindle:problem:in-flight"
    assert again.headers["idempotent-replayed"] == "true"
    (decision,) = advisor.log.decisions([SEAT])
    assert again.json()["items"][0]["decision_id"] == decision.decision_id


def test_whoever_stops_the_service_waits_for_calls_that_nobody_else_waits_for(
    advisor: Advisor, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide, may_go_on = advisor.decide, threading.Event()

    def slow(*args: Any, **fields: Any) -> Any:
        may_go_on.wait()
        return decide(*args, **fields)

    monkeypatch.setattr(advisor, "decide", slow)
    app = make_app(advisor)
    text = app.state.keys.create(name="k", scopes=[Scope.DECIDE], now=advisor.now, rate_per_second=1e6)[1]
    headers = {"Authorization": f"Bearer {text}", **KEY}

    async def ask() -> int:
        transport = httpx.ASGITransport(Deadline(app, seconds=0.3))
        async with httpx.AsyncClient(transport=transport, base_url="http://rekindle", headers=headers) as http:
            late = await http.post("/v1/decide", json={"seats": [SEAT]})
        may_go_on.set()
        await app.state.finish(20.0)
        return late.status_code

    assert asyncio.run(ask()) == 504
    with advisor.log.database.read() as connection:
        assert connection.exec_driver_sql("SELECT status FROM answers").scalars().all() == [200]


def test_a_claim_is_renewed_while_its_call_is_worked_on(advisor: Advisor) -> None:
    now = [advisor.now]
    answers, call = Answers(advisor.log.database, clock=lambda: now[0]), Call("k", "one", "body")
    claim = answers.begin(call)
    assert isinstance(claim, Claim)
    now[0] += timedelta(seconds=50)
    answers.renew(call, claim)
    now[0] += timedelta(seconds=50)

    with pytest.raises(ProblemError, match="still being answered"):
        answers.begin(call)


def test_what_could_not_be_answered_yet_is_asked_anew(client: Any) -> None:
    """A seat whose features are not there follows within seconds, and so may a seat."""
    seats = [{"seat_id": "acme/late", "person_id": "p", "tool": "claude", "assigned_at": "2026-05-01T00:00:00Z"}]
    before = client.post("/v1/decide", json={"seats": ["acme/late"]}, headers=KEY)
    client.post("/v1/seats", json={"seats": seats})
    after = client.post("/v1/decide", json={"seats": ["acme/late"]}, headers=KEY)

    assert (before.status_code, after.status_code) == (404, 200)
    assert "idempotent-replayed" not in after.headers


def test_an_answer_that_failed_is_not_kept(client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch) -> None:
    decide = advisor.decide

    def fail(*_: object, **__: object) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(advisor, "decide", fail)
    broken = client.post("/v1/decide", json={"seats": [SEAT]}, headers=KEY)
    monkeypatch.setattr(advisor, "decide", decide)
    mended = client.post("/v1/decide", json={"seats": [SEAT]}, headers=KEY)

    assert (broken.status_code, mended.status_code) == (500, 200)


def test_a_decision_whose_answer_could_not_be_kept_is_found_by_the_call_that_comes_again(
    client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise SQLAlchemyError("somebody held the database")

    with monkeypatch.context() as patched:
        patched.setattr(Answers, "finish", fail)
        lost = client.post("/v1/decide", json={"seats": [SEAT, "acme/s-busy"]}, headers=KEY)
    meanwhile = client.post("/v1/decide", json={"seats": [SEAT, "acme/s-busy"]}, headers=KEY)
    monkeypatch.setattr("serving.idempotency.IN_FLIGHT", timedelta(0))
    found = client.post("/v1/decide", json={"seats": [SEAT, "acme/s-busy"]}, headers=KEY)

    assert (lost.status_code, meanwhile.status_code, found.status_code) == (503, 409, 200)
    decisions = advisor.log.decisions([SEAT, "acme/s-busy"])
    assert sorted(one.decision_id for one in decisions) == sorted(item["decision_id"] for item in found.json()["items"])
    assert len(decisions) == 2


def test_a_decision_whose_answer_failed_is_found_by_the_call_that_comes_again(
    client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(advisor, "use_case", fail)
        broken = client.post("/v1/decide", json={"seats": [SEAT]}, headers=KEY)
    found = client.post("/v1/decide", json={"seats": [SEAT]}, headers=KEY)

    (decision,) = advisor.log.decisions([SEAT])
    assert (broken.status_code, found.json()["items"][0]["decision_id"]) == (500, decision.decision_id)


def test_an_erasure_ends_no_call_of_others_that_is_being_answered(
    client: Any, advisor: Advisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide, meanwhile = advisor.decide, []

    def erased_on_the_way(*args: Any, **fields: Any) -> Any:
        decided = decide(*args, **fields)
        if not meanwhile:
            advisor.erase("acme/p-busy")
            answers = Answers(advisor.log.database, clock=lambda: advisor.now)
            with advisor.log.database.read() as connection:
                row = connection.exec_driver_sql("SELECT * FROM answers").one()
            with pytest.raises(ProblemError) as refused:
                answers.begin(Call(row.key_id, row.idempotency_key, row.fingerprint))
            meanwhile.append(refused.value.problem.status)
        return decided

    monkeypatch.setattr(advisor, "decide", erased_on_the_way)
    first, again, replayed = (client.post("/v1/decide", json={"seats": [SEAT]}, headers=KEY) for _ in range(3))

    (decision,) = advisor.log.decisions([SEAT])
    assert meanwhile == [409]
    assert {one.json()["items"][0]["decision_id"] for one in (first, again, replayed)} == {decision.decision_id}
    assert ["idempotent-replayed" in one.headers for one in (first, again, replayed)] == [False, False, True]


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tinside"])
def test_a_key_that_cannot_be_one_is_named(client: Any, key: str) -> None:
    answer = client.post("/v1/decide", json={"seats": [SEAT]}, headers={"idempotency-key": key})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
