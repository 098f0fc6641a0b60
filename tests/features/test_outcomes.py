from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from features.decisions import NONE, Decision
from features.events import Batch, Event, Kind, Seat, events_table, seats_table
from features.feedback import Outcome
from features.log import EventLog
from features.outcomes import read_outcomes
from features.tools import load_tools

TOOLS = load_tools()
DAY = timedelta(days=1)
NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)  # of the decision
END = NOW + 90 * DAY
SEAT = Seat(
    seat_id="acme/s1", person_id="acme/p1", organization="acme", tool="m365_copilot", assigned_at=NOW - 60 * DAY
)


@pytest.fixture
def log(tmp_path):
    opened = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    yield opened
    opened.close()


def event(kind, day, **fields):
    at = NOW + day * DAY
    known = {"event_id": f"acme/{kind}-{day}", "seat_id": "acme/s1", "kind": kind, "source": "vendor"}
    return Event(**{**known, "occurred_at": at, "available_at": at, "workflow": "proposal_draft", **fields})


def decision(number=0, day=0.0, intervention="refresher"):
    return Decision(f"d-{number}", "acme/s1", NOW + day * DAY, intervention, {intervention: 0.5, "safe_practice": 0.5})


def work(until=89):
    return [event(Kind.WORK, day) for day in range(-20, until, 3)]


def outcomes(log, events, decisions=None, *, horizon_days=28, until=END, **seat):
    decisions = [decision()] if decisions is None else decisions
    log.append(
        Batch(
            seats_table([SEAT.model_copy(update=seat)]), events_table(events), complete_until={"vendor": until}
        ),
        now=END,
    )  # fmt: skip
    log.record_decisions(decisions)
    return read_outcomes(log, decisions, TOOLS, horizon_days=horizon_days)


def test_a_seat_that_goes_on_is_kept_past_the_intervention_itself(log):
    assert outcomes(log, work() + [event(Kind.TASK, day) for day in range(-10, 80, 7)]) == {"d-0": 1.0}


def test_a_silence_that_begins_within_the_horizon_is_abandonment(log):
    events = work() + [event(Kind.TASK, day) for day in (-5, 2, 20)]

    assert outcomes(log, events, horizon_days=28) == {"d-0": 0.0}
    assert outcomes(log, [], horizon_days=14) == {"d-0": 1.0}  # on day 14 the use of day 20 was still to come


def test_an_outcome_looks_past_the_interventions_that_followed(log):
    later = [decision(number, day=4.0 * number, intervention=name) for number, name in ((1, "coach_call"), (2, NONE))]
    events = work() + [event(Kind.TASK, day) for day in range(-10, 80, 7)]

    assert outcomes(log, events, [decision(), *later]) == {"d-0": 1.0, "d-1": 1.0, "d-2": 1.0}


def test_what_the_intervention_led_through_is_no_meaningful_use(log):
    guided = [event(Kind.TASK, day, guided=True) for day in range(1, 80, 5)]

    assert outcomes(log, work() + guided) == {"d-0": 0.0}


def test_a_silent_seat_that_comes_back_is_kept(log):
    assert outcomes(log, work() + [event(Kind.TASK, day) for day in range(10, 80, 7)]) == {"d-0": 1.0}


def test_nothing_is_known_before_horizon_and_silence_have_passed(log):
    events = work(55) + [event(Kind.TASK, day) for day in range(-10, 55, 7)]

    assert np.isnan(outcomes(log, events, until=NOW + 55 * DAY)["d-0"])
    assert outcomes(log, [], until=NOW + 56 * DAY) == {"d-0": 1.0}


@pytest.mark.parametrize(
    ("events", "seat"),
    [([], {}), (work() + [event(Kind.TASK, day) for day in (2, 9)], {"removed_at": NOW + 20 * DAY})],
    ids=["no opportunity", "removed"],
)
def test_an_outcome_that_cannot_be_judged_is_not_a_number(log, events, seat):
    assert np.isnan(outcomes(log, [event(Kind.TASK, -30), *events], **seat)["d-0"])


def test_a_report_from_outside_fills_what_events_leave_unknown_and_nothing_else(log):
    events = [*work(), event(Kind.TASK, -5)]
    outcomes(log, events, [decision(), decision(1, day=60.0)])

    log.feedback.report([Outcome(name, 28, True, "licences", END) for name in ("d-0", "d-1")])

    both = [decision(), decision(1, day=60.0)]
    assert read_outcomes(log, both, TOOLS, horizon_days=28) == {"d-0": 0.0, "d-1": 1.0}
    assert np.isnan(read_outcomes(log, both, TOOLS, horizon_days=14)["d-1"])


def test_of_a_seat_that_is_gone_only_a_report_can_speak(log):
    gone = [replace(decision(number), seat_id="acme/erased-00ff") for number in (1, 2)]
    log.feedback.report([Outcome("d-1", 28, False, "licences", END)])

    found = read_outcomes(log, [decision(), *gone], TOOLS, horizon_days=28)

    assert found["d-1"] == 0.0
    assert np.isnan(found["d-2"])


def test_outcomes_of_nothing_are_none_and_of_another_horizon_refused(log):
    assert read_outcomes(log, [], TOOLS, horizon_days=14) == {}
    with pytest.raises(ValueError, match="expected one of 14, 28, came 7"):
        read_outcomes(log, [], TOOLS, horizon_days=7)
