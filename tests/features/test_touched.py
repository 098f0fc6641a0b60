"""Seats that wait to be refreshed: live ones first, each with one holder, and none left behind by a holder who died."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.events import Batch, Event, Seat, events_table, seats_table
from features.log import EventLog
from features.refresh import Refresher
from features.store import FeatureStore
from features.tools import load_tools
from features.touched import BULK_AT_ONCE, CLAIM, RENEW

NOW = datetime(2026, 6, 1, 6, tzinfo=UTC)
SEATS = tuple(f"acme/s-{number:04d}" for number in range(2 * BULK_AT_ONCE + 20))


@pytest.fixture
def log(database_url: str) -> Iterator[EventLog]:
    """The seats were imported."""
    opened = EventLog(database_url)
    seats = [
        Seat(
            seat_id=seat, person_id=seat.replace("s-", "p-"), organization="acme", tool="m365_copilot",
            assigned_at=NOW - timedelta(days=30),
        )
        for seat in SEATS
    ]  # fmt: skip
    opened.append(Batch(seats_table(seats), events_table([])), now=NOW)
    yield opened
    opened.close()


def receive(log: EventLog, seat: str, at: datetime) -> None:
    event = Event(
        event_id=f"{seat}-e", seat_id=seat, kind="prompt", occurred_at=at, available_at=at, source="api"
    )  # fmt: skip
    log.receive(events_table([event]), now=at)


def test_what_happens_now_goes_before_an_import_that_came_first(log: EventLog) -> None:
    receive(log, SEATS[-1], NOW + timedelta(seconds=5))

    claim = log.touched.claim(at_most=500, now=NOW + timedelta(seconds=6))

    assert next(iter(claim.tokens)) == SEATS[-1]
    assert len(claim) == 1 + BULK_AT_ONCE


def test_a_live_seat_stays_live_when_an_import_touches_it_too(log: EventLog) -> None:
    receive(log, SEATS[-1], NOW)
    old = Event(
        event_id="acme/old", seat_id=SEATS[-1], kind="prompt", occurred_at=NOW - timedelta(days=3),
        available_at=NOW - timedelta(days=3), source="vendor",
    )  # fmt: skip
    log.append(Batch(seats_table([]), events_table([old])), now=NOW)

    assert set(log.touched.claim(at_most=1, now=NOW).tokens) == {SEATS[-1]}


def test_an_import_is_refreshed_to_its_end_although_something_happens_all_the_time(log: EventLog) -> None:
    seen: set[str] = set()
    for round_ in range(4):
        receive(log, f"{SEATS[0]}", NOW + timedelta(seconds=round_))
        claim = log.touched.claim(at_most=500, now=NOW + timedelta(seconds=round_))
        log.touched.finish(claim)
        seen |= set(claim.tokens)

    assert seen == set(SEATS)


def test_the_seats_of_a_holder_who_died_come_within_two_seconds(log: EventLog) -> None:
    lost = log.touched.claim(at_most=500, now=NOW)

    assert not set(log.touched.claim(at_most=500, now=NOW).tokens) & set(lost.tokens)
    again = [log.touched.claim(at_most=500, now=NOW + timedelta(seconds=2)) for _ in range(3)]
    assert {seat for claim in again for seat in claim.tokens} == set(SEATS)


def test_a_renewed_claim_holds_on(log: EventLog) -> None:
    held = log.touched.claim(at_most=500, now=NOW)
    log.touched.renew(held, now=NOW + CLAIM - RENEW)

    later = log.touched.claim(at_most=500, now=NOW + CLAIM + RENEW)

    assert not set(later.tokens) & set(held.tokens)


def test_renewing_takes_nothing_from_who_has_the_seats_by_now(log: EventLog) -> None:
    receive(log, SEATS[-1], NOW)
    late = log.touched.claim(at_most=1, now=NOW)
    taken = log.touched.claim(at_most=1, now=NOW + CLAIM)
    log.touched.renew(late, now=NOW + 5 * CLAIM)
    again = log.touched.claim(at_most=1, now=NOW + 2 * CLAIM)

    assert set(late.tokens) == set(taken.tokens) == set(again.tokens) == {SEATS[-1]}


@pytest.mark.parametrize("end", ["finish", "release"])
def test_who_comes_back_too_late_does_not_free_the_seats_of_another(log: EventLog, end: str) -> None:
    """The claim ran out, another took its seats, and something new happened at one of them."""
    receive(log, SEATS[-1], NOW)
    late = log.touched.claim(at_most=1, now=NOW)
    other = log.touched.claim(at_most=1, now=NOW + CLAIM)
    log.touch([SEATS[-1]], now=NOW + CLAIM)

    getattr(log.touched, end)(late)

    assert set(late.tokens) == set(other.tokens)
    assert not set(log.touched.claim(at_most=500, now=NOW + CLAIM + RENEW).tokens) & set(other.tokens)


@pytest.mark.parametrize("end", ["finish", "release"])
def test_who_renewed_a_claim_gives_it_back_at_its_end(log: EventLog, end: str) -> None:
    receive(log, SEATS[-1], NOW)
    held = log.touched.renew(log.touched.claim(at_most=1, now=NOW), now=NOW + RENEW)
    log.touch([SEATS[-1]], now=NOW + RENEW)

    getattr(log.touched, end)(held)

    assert SEATS[-1] in log.touched.claim(at_most=500, now=NOW + RENEW).tokens


def test_a_refresh_that_takes_long_keeps_its_seats(log: EventLog, tmp_path: Path) -> None:
    """Another worker must not do the same work meanwhile."""
    store = FeatureStore(tmp_path)
    store.apply()
    begun, go_on = threading.Event(), threading.Event()

    def slow(_features: pl.DataFrame) -> None:
        begun.set()
        assert go_on.wait(30)

    refresher = Refresher(log, store, load_tools(), pushed=slow)
    thread = threading.Thread(target=refresher.refresh, kwargs={"at_most": 50, "clock": lambda: datetime.now(UTC)})
    thread.start()
    assert begun.wait(30)
    held = log.touched.count()
    assert not go_on.wait(CLAIM.total_seconds() * 1.5)
    other = log.touched.claim(at_most=len(SEATS), now=datetime.now(UTC))
    go_on.set()
    thread.join()

    assert held == len(SEATS)
    assert len(other) == BULK_AT_ONCE  # of the others
    log.touched.release(other)
    assert log.touched.count() == len(SEATS) - 50


def test_the_peers_of_a_day_can_be_kept_again_and_those_of_the_day_before_stay(log: EventLog) -> None:
    for day, body in ((10, b"a"), (11, b"b"), (11, b"c"), (12, b"d"), (11, b"e")):
        log.keep_peers(day, body)

    assert [log.peers(day) for day in (10, 11, 12)] == [None, b"e", b"d"]
    assert log.peers_day() == 12
