"""Facts from a real log, and the limits that they keep with several processes deciding at once."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from features.champions import Candidate, Champions
from features.decisions import NONE, Decision
from features.events import Batch, Event, Kind, Seat, events_table, seats_table
from features.interventions import SHIPPED, load_interventions
from features.log import EventLog
from features.people import People
from features.tools import load_tools
from serving.facts import FactBook, Objected, nobody
from serving.policy import MAX_CONTACTS, Facts

NOW = datetime(2026, 6, 1, 6, tzinfo=UTC)
DAY = timedelta(days=1)
CATALOGUE = load_interventions(SHIPPED)
TOOLS = load_tools()
TEAM = ("acme", "m365_copilot", "t-1", "analyst")


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def log(url: str) -> Iterator[EventLog]:
    opened = EventLog(url)
    yield opened
    opened.close()


def seat(number: int, **fields: Any) -> Seat:
    known = {
        "seat_id": f"acme/s-{number}",
        "person_id": f"acme/p-{number}",
        "organization": "acme",
        "tool": "m365_copilot",
        "role": "analyst",
        "team": "t-1",
        "manager_person_id": f"acme/m-{number % 3}",
        "assigned_at": NOW - 90 * DAY,
    }
    return Seat.model_validate({**known, **fields})


def task(number: int, workflow: str, *, days_ago: float = 2, **fields: Any) -> Event:
    at = NOW - days_ago * DAY
    known = {
        "event_id": f"acme/{number}-{workflow}-{days_ago}",
        "seat_id": f"acme/s-{number}",
        "kind": Kind.TASK,
        "occurred_at": at,
        "available_at": at,
        "workflow": workflow,
        "source": "test",
    }
    return Event.model_validate({**known, **fields})


def given(number: int, intervention: str, *, person: str, days_ago: float) -> Decision:
    return Decision(
        f"d-{number}-{intervention}-{days_ago}",
        f"acme/s-{number}",
        NOW - days_ago * DAY,
        intervention,
        {intervention: 1.0},
        target_person_id=person,
    )


def facts_of(
    log: EventLog,
    *numbers: int,
    champions: Sequence[Candidate] = (),
    objected: Objected = nobody,
) -> dict[int, Facts]:
    seats = {row["seat_id"]: row for row in log.seats([f"acme/s-{number}" for number in numbers]).to_pylist()}
    book = FactBook(
        seats,
        log=log,
        tools=TOOLS,
        catalogue=CATALOGUE,
        champions=Champions(0, {TEAM: tuple(champions)}),
        completions=log.completions(),
        objected=objected,
        now=NOW,
    )
    with log.deciding() as deciding:
        book.read_uses(deciding, now=NOW)
    return {number: book.of(f"acme/s-{number}", wanted=None, in_holdout=False, now=NOW) for number in numbers}


def test_the_workflow_is_what_most_peers_in_the_role_complete_and_this_person_does_not(log: EventLog) -> None:
    events = [task(1, "proposal_draft"), *(task(number, "report_summary") for number in (2, 3))]
    events += [task(4, "meeting_recap")]
    seats = [seat(number) for number in range(1, 5)] + [seat(number, role="clerk") for number in range(5, 9)]
    elsewhere = [task(number, "spreadsheet_analysis") for number in range(5, 9)]  # another role completes it
    log.append(Batch(seats_table(seats), events_table(events + elsewhere)), now=NOW)

    facts = facts_of(log, 1, 2, 5)

    assert facts[1].workflow == "report_summary"
    assert facts[2].workflow == "proposal_draft"  # level with meeting_recap: the tool's own order
    assert facts[5].workflow == "proposal_draft"  # nobody in the role completes another


def test_what_we_led_a_peer_through_is_nobodys_experience(log: EventLog) -> None:
    events = [task(2, "report_summary", guided=True), task(3, "meeting_recap")]
    log.append(Batch(seats_table([seat(number) for number in (1, 2, 3)]), events_table(events)), now=NOW)

    assert facts_of(log, 1)[1].workflow == "meeting_recap"


def test_who_completes_every_workflow_needs_none(log: EventLog) -> None:
    events = [task(1, workflow) for workflow in TOOLS["m365_copilot"].high_value_workflows]
    log.append(Batch(seats_table([seat(1)]), events_table(events)), now=NOW)

    assert facts_of(log, 1)[1].workflow is None


CHAMPIONS = (Candidate("acme/p-7", 90), Candidate("acme/p-8", 60), Candidate("acme/p-9", 30))


def test_the_champion_is_the_deepest_who_was_not_asked_lately(log: EventLog) -> None:
    log.append(Batch(seats_table([seat(number) for number in (1, 7)]), events_table([])), now=NOW)
    assert facts_of(log, 1, champions=CHAMPIONS)[1].champion_person_id == "acme/p-7"

    log.record_decisions([given(2, "peer_champion", person="acme/p-7", days_ago=5)])

    assert facts_of(log, 1, champions=CHAMPIONS)[1].champion_person_id == "acme/p-8"


def test_where_all_champions_rest_the_one_who_was_asked_least_is_named_and_not_asked(log: EventLog) -> None:
    log.append(Batch(seats_table([seat(1)]), events_table([])), now=NOW)
    asked = [given(number, "peer_champion", person=f"acme/p-{number}", days_ago=5) for number in (7, 8, 9)]
    log.record_decisions([*asked, given(7, "refresher", person="acme/p-7", days_ago=6)])

    facts = facts_of(log, 1, champions=CHAMPIONS)[1]

    assert facts.champion_person_id == "acme/p-8"
    assert any(use.person_id == "acme/p-8" for use in facts.uses)


def test_nobody_is_their_own_champion(log: EventLog) -> None:
    log.append(Batch(seats_table([seat(7)]), events_table([])), now=NOW)

    assert facts_of(log, 7, champions=CHAMPIONS)[7].champion_person_id == "acme/p-8"
    assert facts_of(log, 7, champions=CHAMPIONS[:1])[7].champion_person_id is None


def test_a_champion_who_objects_is_passed_over_and_a_person_who_objects_is_known(log: EventLog) -> None:
    log.append(Batch(seats_table([seat(1)]), events_table([])), now=NOW)

    facts = facts_of(log, 1, champions=CHAMPIONS, objected=lambda persons: {"acme/p-7", "acme/p-1"} & set(persons))

    assert facts[1].champion_person_id == "acme/p-8"
    assert facts[1].has_objected


DECIDER = """
import sys
from datetime import UTC, datetime, timedelta
import numpy as np
from features.catalogue import NUMERIC
from features.champions import Candidate, Champions
from features.decisions import NONE
from features.estimates import EffectEstimate
from features.interventions import SHIPPED, load_interventions
from features.log import EventLog
from features.tools import load_tools
from serving.facts import FactBook
from serving.policy import Snapshot, Terms, decide, generator

url, name = sys.argv[1:]
now = datetime(2026, 6, 1, 6, tzinfo=UTC)
terms = Terms(1.0, 360.0, 0.9, 0.0, 56, timedelta(hours=72))
catalogue = load_interventions(SHIPPED)
effects = {item.id: EffectEstimate(0.05 * (item.id != NONE), 0.02 * (item.id != NONE)) for item in catalogue}
log = EventLog(url)
champions = Champions(0, {("acme", "m365_copilot", "t-1", "analyst"): (Candidate("acme/p-90", 9), Candidate("acme/p-91", 8))})
completions, tools = log.completions(), load_tools()
seats = {row["seat_id"]: row for row in log.seats().to_pylist()}
order = sorted(seats)
print("ready", flush=True)
sys.stdin.readline()
for turn in range(60):
    asked = {seat_id: seats[seat_id] for seat_id in order[turn % 20 : turn % 20 + 3]}
    book = FactBook(asked, log=log, tools=tools, catalogue=catalogue, champions=champions, completions=completions, now=now)
    with log.deciding() as deciding:
        book.read_uses(deciding, now=now)
        made = []
        for seat_id in asked:
            decision_id = f"{name}-{turn}-{seat_id}"
            snapshot = Snapshot(seat_id, now, np.full(len(NUMERIC), np.nan), ("m365_copilot", "", "", ""), {"28": 0.5}, "rule")
            facts = book.of(seat_id, wanted=None, in_holdout=False, now=now)
            made.append(decide(snapshot, facts, effects=effects, catalogue=catalogue, terms=terms,
                               decision_id=decision_id, now=now, rng=generator(b"key", decision_id)))
            book.add(made[-1])
        deciding.record(made)
print("done", flush=True)
"""


def test_processes_that_decide_at_once_break_no_cooldown_cap_capacity_or_limit_of_a_person(
    log: EventLog, url: str
) -> None:
    log.append(Batch(seats_table([seat(number) for number in range(24)]), events_table([])), now=NOW)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DECIDER, url, f"w{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()  # all have imported everything
    answers = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120)[0] for process in processes]

    assert answers == ["done\n"] * 3
    decisions = log.decisions()
    acted = [decision for decision in decisions if decision.intervention != NONE]
    assert len(decisions) == 3 * 60 * 3
    assert len(acted) > 40
    # every decision is of one instant: whatever has a cooldown happens once for a seat, and once for a person
    assert max(Counter((item.seat_id, item.intervention) for item in acted).values()) == 1
    assert max(Counter((item.target_person_id, item.intervention) for item in acted).values()) == 1
    assert max(Counter(item.seat_id for item in acted).values()) == MAX_CONTACTS
    per_day = Counter(item.intervention for item in acted)
    assert per_day["coach_call"] == 5
    assert per_day["leader_participation"] <= 3  # managers
    assert per_day["peer_champion"] <= 2  # champions


def test_who_objects_while_a_decision_is_being_prepared_is_not_asked(log: EventLog) -> None:
    log.append(Batch(seats_table([seat(1)]), events_table([])), now=NOW)
    seats = {row["seat_id"]: row for row in log.seats(["acme/s-1"]).to_pylist()}
    book = FactBook(
        seats,
        log=log,
        tools=TOOLS,
        catalogue=CATALOGUE,
        champions=Champions(0, {}),
        completions=log.completions(),
        objected=People(log.database).has_objected,
        now=NOW,
    )
    People(log.database).object("acme/p-1", now=NOW)

    with log.deciding() as deciding:
        book.read_uses(deciding, now=NOW)

    assert book.of("acme/s-1", wanted=None, in_holdout=False, now=NOW).has_objected
