"""The roster, objection, erasure, audit and CloudEvents over the API."""

import json
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from features.audit import reads_of
from features.catalogue import FEATURES
from features.events import Batch, InvalidItem, Seat, events_table, seats_table
from features.people import People
from features.store import FeatureStore
from serving.advisor import Advisor
from serving.cloudevents import plain

BUSY, QUIET = "acme/s-busy", "acme/s-quiet"
PERSON = "acme/p-quiet"
FIELDS = {"person_id": "p-9", "tool": "claude", "assigned_at": "2026-05-01T00:00:00Z"}


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
    (stored,) = [row for row in advisor.log.events([QUIET]).to_pylist() if row["event_id"] == "acme/ce-1"]
    assert (stored["kind"], stored["value"], stored["completed"]) == ("session", 4.0, False)
    assert stored["source"] == "/coaching/web-x-1"
    other = client.post("/v1/events", content="<e/>", headers={"content-type": "text/xml"})
    assert (other.status_code, "cloudevents-batch+json" in other.json()["detail"]) == (415, True)


def test_the_id_of_a_cloudevent_that_cannot_be_ours_is_a_digest_with_its_source() -> None:
    event = {"specversion": "1.0", "type": "prompt", "subject": "a/s", "time": "2026-01-01T00:00:00Z", "id": "a b/c"}
    first, second = (plain({**event, "source": source})["event_id"] for source in ("/x", "/y"))

    assert first != second
    assert first.startswith("ce-")
    with pytest.raises(InvalidItem, match="data: expected a JSON object"):
        plain({**event, "source": "/x", "data_base64": "AA=="})
