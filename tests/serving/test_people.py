"""The roster, objection, erasure, audit and CloudEvents over the API."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pyarrow.compute as pc
import pytest
import sqlalchemy as sa

from features.audit import Reader, reads_of
from features.catalogue import FEATURES
from features.compute import SNAPSHOT_SCHEMA, compute_features
from features.decisions import Decision, Stage
from features.events import Batch, InvalidItem, Seat, events_table, seats_table
from features.feedback import SeatGone
from features.log import EventLog
from features.people import People
from features.refresh import Refresher
from features.store import FeatureStore
from features.tools import load_tools
from serving.advisor import Advisor
from serving.cloudevents import event_id, plain
from serving.idempotency import Answer, Answers, Call, Claim

BUSY, QUIET = "acme/s-busy", "acme/s-quiet"
PERSON = "acme/p-quiet"
FIELDS = {"person_id": "p-9", "tool": "claude", "assigned_at": "2026-05-01T00:00:00Z"}


def seat_of(seat_id: str, now: datetime) -> Seat:
    """A seat as an export has it."""
    known = {"organization": "acme", "tool": "m365_copilot", "assigned_at": now - timedelta(days=30)}
    return Seat.model_validate({"seat_id": seat_id, "person_id": seat_id.replace("/s-", "/p-"), **known})


def features_of(refresher: Refresher, seat_id: str, now: datetime) -> pl.DataFrame:
    """Features of a seat as somebody computed them before it was gone."""
    log = refresher.log
    seat = seat_of(seat_id, now)
    roster = EventLog("sqlite://")
    roster.append(Batch(seats_table([seat]), events_table([])), now=now)
    found = compute_features(
        pl.DataFrame({"seat_id": [seat_id], "as_of": [now]}, schema=SNAPSHOT_SCHEMA),
        events=roster.events(),
        roster=roster.roster(),
        sources=log.sources(),
        tools=load_tools(),
        peers=refresher.peers(now),
    )
    roster.close()
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """The same tests on both kinds of database."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgres_rollout_url"))


def test_seats_are_put_checked_one_by_one_and_paged(client: Any) -> None:
    put = client.request("PUT", "/v1/seats/acme/s-9", json={**FIELDS, "team": "blue"})
    again = client.request("PUT", "/v1/seats/acme/s-9", json={**FIELDS, "team": "blue"})
    wrong = client.request("PUT", "/v1/seats/acme/s-9", json={**FIELDS, "tool": "abacus"})
    seats = [{"seat_id": f"acme/s-{n}", **FIELDS} for n in range(3)]
    many = client.post("/v1/seats", json={"seats": [*seats, {"seat_id": "acme/s-x"}, "text"]}).json()

    assert (put.status_code, put.json()["team"], put.json() == again.json()) == (200, "blue", True)
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "tool")
    assert (many["stored"], many["rejected"]) == (3, 2)
    assert [item.get("problem", {}).get("field") for item in many["items"][3:]] == ["person_id", ""]
    names: list[str] = []
    cursor = ""
    while cursor is not None:
        page = client.get(f"/v1/seats?limit=2{cursor and '&cursor=' + cursor}").json()
        names += [seat["seat_id"] for seat in page["seats"]]
        cursor = page["next_cursor"]
    assert len(names) == len(set(names)) == 9
    assert names == sorted(names)
    assert client.get("/v1/seats?cursor=nonsense").json()["errors"][0]["field"] == "cursor"


def test_a_new_seat_is_scored_at_once(client: Any) -> None:
    client.request("PUT", "/v1/seats/acme/s-9", json=FIELDS)

    (item,) = client.post("/v1/score", json={"seats": ["acme/s-9"]}).json()["items"]

    assert item["degraded"] == ["features_from_log", "rule_serves"]


def test_objection_is_stored_and_taken_back(client: Any, advisor: Advisor) -> None:
    people = People(advisor.log.database)
    assert client.post(f"/v1/people/{PERSON}/objection").json() == {"person_id": PERSON, "objected": True}
    client.post(f"/v1/people/{PERSON}/objection")
    assert people.has_objected([PERSON, "acme/p-busy"]) == {PERSON}

    assert client.request("DELETE", f"/v1/people/{PERSON}/objection").json()["objected"] is False
    assert people.has_objected([PERSON]) == frozenset()
    assert client.post("/v1/people/acme/p-nobody/objection").status_code == 404


def test_an_answer_shown_again_and_a_decision_computed_again_are_read_again(client: Any, advisor: Advisor) -> None:
    headers = {"Idempotency-Key": "one", "Rekindle-Purpose": "coaching"}
    for _ in range(2):
        answer = client.post("/v1/decide", json={"seats": [QUIET, "acme/nobody"]}, headers=headers)
    client.post(f"/v1/decisions/{answer.json()['items'][0]['decision_id']}/replay", headers=headers)
    refused = [client.post("/v1/decide", json={"seats": []}, headers={"Idempotency-Key": "two"}) for _ in range(2)]

    reads = reads_of(advisor.log.database, [QUIET, "acme/nobody"])
    assert sorted(read.reader.call for read in reads) == ["decide", "decide", "replay"]
    assert {read.reader.purpose for read in reads} == {"coaching"}
    assert [one.status_code for one in refused] == [422, 422]


def test_reads_of_scores_are_audited_with_their_purpose(client: Any, advisor: Advisor) -> None:
    client.post("/v1/score", json={"seats": [QUIET, "acme/nobody"]}, headers={"Rekindle-Purpose": "coaching"})
    (item,) = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"]
    client.get(f"/v1/decisions/{item['decision_id']}")
    refused = client.post("/v1/score", json={"seats": [QUIET]}, headers={"Rekindle-Purpose": "Because I can"})

    reads = reads_of(advisor.log.database, [QUIET, "acme/nobody"])
    assert [(read.reader.call, read.reader.purpose) for read in reads] == [
        ("receipt", "adoption_support"),
        ("decide", "adoption_support"),
        ("score", "coaching"),
    ]
    assert {read.seat_id for read in reads} == {QUIET}
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "Rekindle-Purpose")


def test_erasure_leaves_nothing_that_names_the_person(client: Any, advisor: Advisor, make_event: Any, now: Any) -> None:
    home = advisor.settings.home
    store = FeatureStore(home)
    rows = {"seat_id": [BUSY, QUIET], "as_of": [now, now]}
    blank = [
        pl.lit("" if feature.is_category else 0.0)
        .cast(pl.String if feature.is_category else pl.Float64)
        .alias(feature.name)
        for feature in FEATURES
    ]
    frame = pl.DataFrame(rows, schema={"seat_id": pl.String, "as_of": pl.Datetime("us", "UTC")}).with_columns(blank)
    store.write_offline([frame])
    headers = {"idempotency-key": "kept"}
    (mine, other) = client.post("/v1/decide", json={"seats": [QUIET, BUSY]}, headers=headers).json()["items"]
    client.post("/v1/score", json={"seats": [QUIET]})
    before = {row["seat_id"]: row for row in advisor.log.seats().to_pylist()}

    answer = client.request("DELETE", f"/v1/people/{PERSON}")

    assert answer.status_code == 200
    assert (answer.json()["seats"], answer.json()["decisions"]) == (1, 1)
    assert answer.json()["events"] > 10
    with advisor.log.database.read() as connection:
        for table in sa.inspect(connection).get_table_names():
            for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"').all():
                assert "-quiet" not in str(row), table
    assert store.online([QUIET, BUSY])[0] is None
    assert store.snapshots()["seat_id"].to_list() == [BUSY]
    replayed = client.post(f"/v1/decisions/{mine['decision_id']}/replay").json()
    assert replayed["identical"] is True
    assert client.get(f"/v1/decisions/{other['decision_id']}").json()["seat_id"] == BUSY

    seat = {name: value for name, value in before[QUIET].items() if name != "organization"}
    again = advisor.log.append(
        Batch(seats_table([]), events_table([make_event(QUIET, "prompt", 1)])), now=now, source="t"
    )
    assert (again.accepted, len(again.rejected)) == (0, 1)
    taken = client.post(
        "/v1/seats", json={"seats": [json.loads(json.dumps(seat, default=str).replace(" 00:", "T00:"))]}
    )
    assert taken.status_code == 422
    (busy,) = advisor.log.seats([BUSY]).to_pylist()
    assert busy == before[BUSY]
    assert client.request("DELETE", f"/v1/people/{PERSON}").status_code == 404


def names_of(advisor: Advisor, name: str) -> list[str]:
    """The tables that hold the text anywhere."""
    with advisor.log.database.read() as connection:
        tables = sa.inspect(connection).get_table_names()
        return [
            table
            for table in tables
            if any(name in str(row) for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"').all())
        ]


def test_what_was_on_its_way_does_not_bring_the_erased_back(
    client: Any, advisor: Advisor, make_event: Any, now: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them had read the seat before the erasure, and writes after it."""
    home, log = advisor.settings.home, advisor.log
    (mine,) = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"]
    decision = log.decision(mine["decision_id"])
    _, _, record = advisor.begin_score([QUIET], explain=False, reader=Reader("k", "score"))
    advisor.records.put(record).result()
    refresher = advisor.refresher()
    refresher.peers(now)
    answers, call = Answers(log.database, clock=lambda: now), Call("k", "one", "body")
    claim = answers.begin(call)
    estimates = advisor._estimates

    def erased_meanwhile(*given: Any) -> Any:
        advisor.erase(PERSON)
        return estimates(*given)

    monkeypatch.setattr(advisor, "_estimates", erased_meanwhile)
    late = client.post("/v1/decide", json={"seats": [QUIET, BUSY]}).json()["items"]
    monkeypatch.undo()
    advisor.records.put(record).result()
    assert isinstance(claim, Claim)
    answers.finish(call, claim, Answer(200, "application/json", f'{{"seat_id":"{QUIET}"}}'.encode()))
    with pytest.raises(SeatGone):
        log.feedback.react(decision, Stage.SEEN, at=now, now=now)
    log.record_decisions([replace(decision, decision_id="again"), replace(decision, decision_id="d", seat_id=BUSY)])
    again = Batch(seats_table([seat_of(QUIET, now)]), events_table([make_event(QUIET, "prompt", 2)]))
    log.append(replace(again, decisions=(replace(decision, decision_id="imported"),)), now=now, source="daily")
    refresher.store.push(features_of(refresher, QUIET, now))
    refresher._without_gone(features_of(refresher, QUIET, now))
    refresher.peers(now)

    assert [item.get("problem", {}).get("status") for item in late] == [404, None]
    assert names_of(advisor, "-quiet") == []
    assert log.decision("d").target_person_id is None  # type: ignore[union-attr]  # it is there: of another seat
    assert FeatureStore(home).online([QUIET]) == [None]
    assert b"s-quiet" not in refresher.peers(now).to_bytes()
    assert [item.reason for item in log.set_aside()] == ["2 items of erased persons were left out"]


def test_a_reaction_to_a_decision_about_the_erased_is_refused(client: Any, advisor: Advisor, now: Any) -> None:
    decision = Decision("d", QUIET, now - timedelta(days=1), "refresher", {"refresher": 1.0}, categories=("",) * 4)
    advisor.log.record_decisions([decision])
    advisor.erase(PERSON)

    answer = client.post("/v1/decisions/d/reactions", json={"stage": "seen"})

    assert (answer.status_code, answer.json()["type"]) == (409, "urn:rekindle:problem:seat-gone")
    assert advisor.log.events().filter(pc.equal(advisor.log.events().column("kind"), "reaction")).num_rows == 0


def test_answers_that_name_the_erased_are_not_kept_and_those_of_others_are(advisor: Advisor, now: Any) -> None:
    answers = Answers(advisor.log.database, clock=lambda: now)
    bodies = {"own": f"no person {PERSON!r}.", "seat": f'"{QUIET}"', "other": f'"{QUIET}-2"', "longer": f'"x{QUIET}"'}
    for name, body in bodies.items():
        call = Call("k", name, "f")
        claim = answers.begin(call)
        assert isinstance(claim, Claim)
        answers.finish(call, claim, Answer(200, "application/json", body.encode()))

    advisor.erase(PERSON)

    kept = {name for name in bodies if isinstance(answers.begin(Call("k", name, "f")), Answer)}
    assert kept == {"other", "longer"}


def test_an_erasure_by_another_process_reaches_the_peers_of_a_running_service(advisor: Advisor, now: Any) -> None:
    running = advisor.refresher()
    before = running.peers(now)
    assert "acme/s-quiet" in before.held["seat_id"].to_list()

    other = EventLog(advisor.settings.database_url)
    People(other.database).erase(PERSON, store=FeatureStore(advisor.settings.home), now=now)
    other.close()

    assert "acme/s-quiet" not in running.peers(now).held["seat_id"].to_list()
    assert running.peers(now) is running.peers(now)


def test_peers_counted_before_an_erasure_are_not_kept_after_it(advisor: Advisor, now: Any) -> None:
    before = advisor.log.erasures()
    advisor.erase(PERSON)

    advisor.log.keep_peers(1, b"of before", erasures_before=before)

    assert advisor.log.peers(1) is None


def test_erasing_one_of_a_persons_names_erases_all_of_them_and_what_joined_them(
    client: Any, advisor: Advisor, now: Any
) -> None:
    login = "acme/p-login"
    (quiet,) = advisor.log.seats([QUIET]).to_pylist()
    own = {**quiet, "seat_id": "acme/s-login", "person_id": login}
    seats = seats_table([Seat.model_validate(own)])
    nothing = events_table([])
    advisor.log.append(Batch(seats, nothing, aliases={login: PERSON}), now=now, source="t")

    answer = client.request("DELETE", f"/v1/people/{login}")

    assert (answer.status_code, answer.json()["seats"]) == (200, 2)
    assert advisor.log.aliases("acme") == {}
    again = advisor.log.append(Batch(seats, nothing, aliases={login: PERSON}), now=now, source="t")
    assert (again.seats, advisor.log.aliases("acme")) == (0, {})


def test_erasing_a_manager_frees_the_seats_that_name_them(client: Any, advisor: Advisor, now: Any) -> None:
    client.request("PUT", "/v1/seats/acme/s-m", json={**FIELDS, "person_id": "p-manager"})

    client.request("DELETE", "/v1/people/acme/p-manager")
    client.request("PUT", "/v1/seats/acme/s-9", json={**FIELDS, "manager_person_id": "p-manager"})

    assert {row["manager_person_id"] for row in advisor.log.roster().to_pylist()} == {None}


def test_cloudevents_are_taken_as_they_are_sent(client: Any, advisor: Advisor) -> None:
    one = {
        "specversion": "1.0",
        "id": "ce-1",
        "source": "/coaching/web?x=1",
        "type": "com.example.session.v2",
        "subject": QUIET,
        "time": "2026-06-01T05:00:00Z",
        "datacontenttype": "application/json",
        "data": {"value": 4, "completed": False},
    }
    wrong = {**one, "id": "ce-2", "type": "com.example.dance"}
    batch = client.post(
        "/v1/events",
        content=json.dumps([one, wrong, {**one, "specversion": "0.3"}, {**one, "id": "ce-4", "data": {"text": "x"}}]),
        headers={"content-type": "application/cloudevents-batch+json; charset=utf-8"},
    )
    single = client.post(
        "/v1/events", content=json.dumps(one), headers={"content-type": "application/cloudevents+json"}
    )

    assert batch.status_code == 202
    items = batch.json()["items"]
    assert [item["status"] for item in items] == ["accepted", "rejected", "rejected", "rejected"]
    assert [item["problem"]["field"] for item in items[1:]] == ["type", "specversion", "data.text"]
    assert single.json()["duplicates"] == 1
    ours = f"acme/{event_id(one['source'], 'ce-1')}"
    (stored,) = [row for row in advisor.log.events([QUIET]).to_pylist() if row["event_id"] == ours]
    assert (stored["kind"], stored["value"], stored["completed"]) == ("session", 4.0, False)
    assert stored["source"] == "/coaching/web-x-1"
    other = client.post("/v1/events", content="<e/>", headers={"content-type": "text/xml"})
    assert (other.status_code, "cloudevents-batch+json" in other.json()["detail"]) == (415, True)


def test_a_cloudevent_whose_attributes_are_headers_is_taken(client: Any, advisor: Advisor) -> None:
    attributes = {
        "ce-specversion": "1.0",
        "ce-type": "com.example.session.v1",
        "ce-source": "//example",
        "ce-id": "an%20id",
        "ce-subject": BUSY,
        "ce-time": "2026-06-01T05:00:00Z",
    }

    taken = client.post("/v1/events", json={"value": 7.0}, headers=attributes)
    without_data = client.post("/v1/events", headers={**attributes, "ce-id": "2"})
    wrong = client.post("/v1/events", json={"note": "free text"}, headers={**attributes, "ce-id": "3"})

    assert (taken.status_code, taken.json()["accepted"]) == (202, 1)
    assert taken.json()["items"][0]["event_id"] == f"acme/{event_id('//example', 'an id')}"
    assert without_data.json()["accepted"] == 1
    assert (wrong.status_code, wrong.json()["items"][0]["problem"]["field"]) == (422, "data.note")
    stored = {row["event_id"]: row for row in advisor.log.events([BUSY]).to_pylist()}
    assert stored[taken.json()["items"][0]["event_id"]]["value"] == 7.0


BATCH = {"content-type": "application/cloudevents-batch+json"}


def cloud_event(identifier: str, source: str) -> dict[str, Any]:
    told = {"specversion": "1.0", "type": "prompt", "subject": QUIET, "time": "2026-06-01T05:00:00Z"}
    return {**told, "id": identifier, "source": source}


def test_two_sources_that_both_count_from_1_are_both_taken_and_each_once(client: Any) -> None:
    sent = [cloud_event("1", "/lms"), cloud_event("1", "/crm"), cloud_event("1", "/lms")]

    first, again = (client.post("/v1/events", content=json.dumps(sent), headers=BATCH).json() for _ in range(2))

    assert [item["status"] for item in first["items"]] == ["accepted", "accepted", "duplicate"]
    assert again["duplicates"] == 3


def test_a_cloudevent_that_an_earlier_version_stored_by_its_id_alone_is_known(client: Any, advisor: Advisor) -> None:
    old = {"event_id": "7", "seat_id": QUIET, "kind": "prompt", "occurred_at": "2026-06-01T05:00:00Z", "source": "/lms"}
    client.post("/v1/events", json={"events": [old]})
    before = advisor.log.event_count()

    sent = [cloud_event("7", "/lms"), cloud_event("7", "/crm")]
    items = client.post("/v1/events", content=json.dumps(sent), headers=BATCH).json()["items"]

    assert [item["status"] for item in items] == ["duplicate", "accepted"]
    assert advisor.log.event_count() == before + 1


def test_a_batch_of_no_cloudevents_is_one(client: Any) -> None:
    answer = client.post("/v1/events", content=b"[]", headers=BATCH)

    assert (answer.status_code, answer.json()["items"]) == (202, [])


@pytest.mark.parametrize("identifier", ["a b/c", "plain-1", "x" * 500])
def test_the_id_of_a_cloudevent_is_a_digest_with_its_source(identifier: str) -> None:
    event = cloud_event(identifier, "")
    first, second = (plain({**event, "source": source}).item["event_id"] for source in ("/x", "/y"))

    assert first != second
    assert first.startswith("ce-")
    with pytest.raises(InvalidItem, match="data: expected a JSON object"):
        plain({**event, "source": "/x", "data_base64": "AA=="})
