from datetime import UTC, datetime, timedelta

import pytest

from features.decisions import Decision, Stage
from features.events import Batch, Kind, Seat, events_table, seats_table
from features.feedback import ContradictingOutcome, Outcome
from features.log import EventLog

NOW = datetime(2026, 6, 1, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
DECISION = Decision("d-1", "acme/s1", NOW, "refresher", {"refresher": 0.9, "none": 0.1}, workflow="proposal_draft")


@pytest.fixture
def log(tmp_path):
    opened = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    seat = Seat(seat_id="acme/s1", person_id="acme/p1", organization="acme", tool="claude", assigned_at=NOW - 90 * HOUR)
    opened.append(Batch(seats_table([seat]), events_table([])), now=NOW)
    opened.record_decisions([DECISION])
    yield opened
    opened.close()


def outcome(kept=True, horizon_days=28, **fields):
    return Outcome(**{"decision_id": "d-1", "source": "licences", "reported_at": NOW, **fields}, kept=kept, horizon_days=horizon_days)  # fmt: skip


def test_a_reaction_is_an_event_of_its_seat_at_its_time(log):
    assert log.feedback.react(DECISION, Stage.ACCEPTED, at=NOW + HOUR, now=NOW + 3 * HOUR)

    (event,) = log.events(["acme/s1"], kinds=[Kind.REACTION]).to_pylist()
    assert (event["category"], event["workflow"], event["guided"]) == ("accepted", "proposal_draft", False)
    assert (event["occurred_at"], event["available_at"]) == (NOW + HOUR, NOW + 3 * HOUR)  # a snapshot between: unknown
    assert log.feedback.reactions([DECISION]) == {"d-1": {Stage.ACCEPTED: NOW + HOUR}}


def test_a_reaction_again_changes_nothing_and_stages_come_in_any_order(log):
    for stage, at in ((Stage.ACCEPTED, 5), (Stage.SEEN, 4), (Stage.DELIVERED, 1)):
        assert log.feedback.react(DECISION, stage, at=NOW + at * HOUR, now=NOW + 9 * HOUR)
    before = log.feedback.reactions([DECISION])

    assert not log.feedback.react(DECISION, Stage.SEEN, at=NOW + 8 * HOUR, now=NOW + 10 * HOUR)

    assert log.feedback.reactions([DECISION]) == before
    assert before["d-1"][Stage.SEEN] == NOW + 4 * HOUR


def test_a_reaction_marks_its_seat_to_be_refreshed(log):
    log.touched.finish(log.touched.claim(at_most=100, now=NOW))

    log.feedback.react(DECISION, Stage.SEEN, at=NOW, now=NOW)

    assert set(log.touched.claim(at_most=100, now=NOW).tokens) == {"acme/s1"}


def test_a_reaction_before_its_decision_is_refused(log):
    with pytest.raises(ValueError, match="no earlier than the decision"):
        log.feedback.react(DECISION, Stage.SEEN, at=NOW - HOUR, now=NOW)


def test_an_outcome_again_counts_once_and_the_first_report_stays(log):
    assert log.feedback.report([outcome(), outcome(horizon_days=14)]) == 2
    assert log.feedback.report([outcome(source="another", reported_at=NOW + HOUR)]) == 0

    assert log.feedback.reported(["d-1"])["d-1", 28] == outcome()


def test_the_contrary_of_a_reported_outcome_is_refused_whole(log):
    log.feedback.report([outcome(kept=True)])

    with pytest.raises(
        ContradictingOutcome, match="kept at 28 days was reported by licences on 2026-06-01, now not kept"
    ):
        log.feedback.report([outcome(horizon_days=14), outcome(kept=False)])

    assert set(log.feedback.reported(["d-1"])) == {("d-1", 28)}


def test_two_contrary_reports_at_once_are_refused(log):
    with pytest.raises(ContradictingOutcome):
        log.feedback.report([outcome(), outcome(kept=False)])


def test_an_outcome_at_a_horizon_that_is_none_is_refused(log):
    with pytest.raises(ValueError, match="horizon_days: expected one of 14, 28, came 21"):
        log.feedback.report([outcome(horizon_days=21)])
