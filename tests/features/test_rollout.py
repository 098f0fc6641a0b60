"""A rollout read from a log that several sources told of."""

from datetime import UTC, datetime, timedelta

import pytest

from features.adoption import usage_rate
from features.events import Batch, Event, Kind, Seat, events_table, seats_table
from features.log import EventLog
from features.rollout import read_rollout
from features.switching import Course, courses
from features.tools import load_tools

START = datetime(2026, 1, 5, tzinfo=UTC)
SEATS = 12


def day(number):
    return START + timedelta(days=number)


@pytest.fixture
def log(tmp_path):
    """Use until day 60 from one source, tickets until day 140 from another."""
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    seats = [
        Seat(
            seat_id=f"acme/s{number}", person_id=f"acme/p{number}", organization="acme", tool="m365_copilot", role="buyer",
            assigned_at=START, removed_at=None, hired_on=None, manager_person_id=None, function=None, team=None, region=None,
        )
        for number in range(SEATS)
    ]  # fmt: skip
    told = [(Kind.SESSION, "usage", one) for one in range(1, 60, 3)] + [(Kind.TICKET, "desk", one) for one in (20, 139)]
    events = [
        Event(
            event_id=f"acme/{source}-{seat.seat_id.removeprefix('acme/')}-{on}", seat_id=seat.seat_id, kind=kind,
            occurred_at=day(on), available_at=day(on), source=source,
        )
        for seat in seats
        for kind, source, on in told
    ]  # fmt: skip
    log.append(Batch(seats_table(seats), events_table(events), ()), now=day(140))
    yield log
    log.close()


def test_a_fresh_ticket_beside_an_old_export_of_use_is_no_stall(log):
    population, _ = read_rollout(log, load_tools(), day(140))
    assert population.data_until["m365_copilot"].date() == day(58).date()
    assert usage_rate(population).value.tolist() == [1.0] * SEATS
    assert set(courses(population).seat.tolist()) == {list(Course).index(Course.UNKNOWN)}


def test_the_sources_of_use_are_those_that_told_of_one(log):
    assert [source.source for source in log.sources_of_use()] == ["usage"]
    assert [source.source for source in log.sources_of_use("acme")] == ["usage"]
    assert log.sources_of_use("other") == []
