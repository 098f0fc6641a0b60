"""Taking in events: what is answered is durable, nothing counts twice, and features follow, also after a kill -9."""

import asyncio
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy.exc

from features.catalogue import BY_NAME, NUMERIC
from features.events import Batch, Event, Seat, events_table, seats_table
from features.live import live_friction
from features.log import EventLog, Received
from features.refresh import Refresher
from features.store import FeatureStore
from features.tools import load_tools
from features.touched import CLAIM
from serving.cloudevents import plain
from serving.freshness import Freshness
from serving.groups import Closed
from serving.intake import Intake, Status
from serving.meters import Meters

NOW = datetime(2026, 6, 1, 6, tzinfo=UTC)
SEATS = tuple(f"acme/s-{number}" for number in range(12))
KILLS, WRITERS, LONGEST_LIFE_S = 6, 3, 0.6


def seats() -> list[Seat]:
    return [
        Seat(
            seat_id=seat,
            person_id=seat.replace("s-", "p-"),
            organization="acme",
            tool="m365_copilot",
            assigned_at=NOW - timedelta(days=30),
        )
        for seat in SEATS
    ]


def item(number: object, seat: str = SEATS[0], **fields: object) -> dict[str, Any]:
    at = NOW - timedelta(minutes=5)
    return {"event_id": f"e-{number}", "seat_id": seat, "kind": "prompt", "occurred_at": at.isoformat(), **fields}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    opened = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    opened.append(Batch(seats_table(seats()), events_table([])), now=NOW)
    yield opened
    opened.close()


@pytest.fixture
def intake(log: EventLog) -> Iterator[Intake]:
    opened = Intake(log, clock=lambda: NOW, stored=lambda: None)
    yield opened
    opened.close()


def stored_ids(log: EventLog) -> list[str]:
    return sorted(log.events().column("event_id").to_pylist())


def test_each_event_of_a_request_is_told_what_became_of_it(intake: Intake, log: EventLog) -> None:
    first = intake.take([item(1)])
    items = [item(1), item(2), item(2), item(3, "acme/nobody"), item(4, kind="nap"), "text", item(5)]
    again = intake.take(items)

    assert [outcome.status for outcome in first] == [Status.ACCEPTED]
    assert [outcome.status for outcome in again] == [
        Status.DUPLICATE,
        Status.ACCEPTED,
        Status.DUPLICATE,
        Status.REJECTED,
        Status.REJECTED,
        Status.REJECTED,
        Status.ACCEPTED,
    ]
    assert [outcome.field for outcome in again[3:6]] == ["seat_id", "kind", ""]
    assert "send the seat first" in again[3].reason
    assert stored_ids(log) == ["acme/e-1", "acme/e-2", "acme/e-5"]


def test_one_event_id_at_an_unknown_and_a_known_seat_is_judged_apart(intake: Intake, log: EventLog) -> None:
    unknown, known = intake.take([item(1, "acme/nobody"), item(1)])

    assert (unknown.status, known.status) == (Status.REJECTED, Status.ACCEPTED)
    assert stored_ids(log) == ["acme/e-1"]


def test_one_event_id_in_two_requests_of_a_group_at_an_unknown_and_a_known_seat_is_judged_apart(
    log: EventLog, intake: Intake
) -> None:
    wrong, right = (intake.parse([item(1, seat)], organization=None) for seat in ("acme/nobody", SEATS[0]))
    received = intake._write([wrong, right])

    outcomes = [parsed.outcomes(one)[0].status for parsed, one in zip((wrong, right), received, strict=True)]
    assert outcomes == [Status.REJECTED, Status.ACCEPTED]


@pytest.mark.parametrize(
    "other",
    [{"subject": SEATS[1]}, {"type": "com.example.session"}, {"time": (NOW - timedelta(minutes=6)).isoformat()}],
)
def test_only_the_same_event_is_known_from_an_earlier_version(
    log: EventLog, intake: Intake, make_event: Any, other: dict[str, str]
) -> None:
    """Two sources may look the same in the 64 characters that were kept, and both count from 1."""
    at = NOW - timedelta(minutes=5)
    stored = make_event(SEATS[0], "prompt", 0, event_id="acme/1", occurred_at=at, available_at=at, source="x" * 64)
    log.append(Batch(seats_table([]), events_table([stored])), now=NOW)
    same = {
        "specversion": "1.0", "id": "1", "source": "x" * 64 + "/a", "type": "com.example.prompt", "subject": SEATS[0],
        "time": at.isoformat(),
    }  # fmt: skip
    (known,) = intake.take([plain(same)])
    (new,) = intake.take([plain({**same, "source": "x" * 64 + "/b", **other})])

    assert (known.status, new.status) == (Status.DUPLICATE, Status.ACCEPTED)


def test_a_failed_refresh_gives_its_seats_back_at_once(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path)
    store.apply()
    refresher = Refresher(log, store, load_tools())

    def away(_features: Any) -> int:
        raise ConnectionError("away")

    monkeypatch.setattr(store, "push", away)
    with pytest.raises(ConnectionError):
        refresher.refresh(at_most=100, clock=lambda: NOW)

    assert log.touched.is_any_due(now=NOW)


def test_an_event_is_available_from_its_receipt(intake: Intake, log: EventLog) -> None:
    ahead = NOW + timedelta(minutes=2)
    intake.take([item(1), item(2, occurred_at=ahead.isoformat())])
    (refused,) = intake.take([item(3, available_at=NOW.isoformat())])

    rows = {row["event_id"]: row["available_at"] for row in log.events().to_pylist()}
    assert rows == {"acme/e-1": NOW, "acme/e-2": ahead}
    assert (refused.status, refused.field) == (Status.REJECTED, "available_at")


def test_a_local_seat_is_refused_with_the_form_that_is_expected(intake: Intake) -> None:
    (outcome,) = intake.take([item(1, "s-1")])

    assert (outcome.status, outcome.field) == (Status.REJECTED, "seat_id")
    assert "organization/seat" in outcome.reason


def test_of_one_event_sent_by_many_at_once_exactly_one_is_accepted(intake: Intake, log: EventLog) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(intake.take, [[item(1), item(f"own-{sender}")] for sender in range(64)]))

    assert sum(shared.status is Status.ACCEPTED for shared, _ in answers) == 1
    assert all(own.status is Status.ACCEPTED for _, own in answers)
    assert len(stored_ids(log)) == 65


def test_requests_that_wait_are_written_together(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    receive = log.receive

    def slow(events: Any, *, now: datetime) -> Received:
        groups.append(events.num_rows)
        time.sleep(0.05)
        return receive(events, now=now)

    monkeypatch.setattr(log, "receive", slow)
    intake = Intake(log, clock=lambda: NOW, stored=lambda: None)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(intake.take, [[item(number)] for number in range(20)]))
    intake.close()

    assert sum(groups) == 20
    assert len(groups) < 10


def test_a_failed_write_accepts_nothing_and_the_next_one_goes_through(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = log.receive
    failures = [sqlalchemy.exc.OperationalError("insert", {}, Exception("disk full"))]

    def failing(events: Any, *, now: datetime) -> Received:
        if failures:
            raise failures.pop()
        return receive(events, now=now)

    monkeypatch.setattr(log, "receive", failing)
    intake = Intake(log, clock=lambda: NOW, stored=lambda: None)
    with pytest.raises(sqlalchemy.exc.OperationalError):
        intake.take([item(1)])
    (outcome,) = intake.take([item(1)])
    intake.close()

    assert outcome.status is Status.ACCEPTED
    assert stored_ids(log) == ["acme/e-1"]


def test_a_sender_that_stops_waiting_hurts_nobody_else(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the deadline of a request does, while the database is slow and when it fails."""
    receive, may_go_on, fails = log.receive, threading.Event(), [False, True]

    def slow(events: Any, *, now: datetime) -> Received:
        may_go_on.wait()
        if fails and fails.pop(0):
            raise sqlalchemy.exc.OperationalError("insert", {}, Exception("disk full"))
        return receive(events, now=now)

    monkeypatch.setattr(log, "receive", slow)
    intake = Intake(log, clock=lambda: NOW, stored=lambda: None)

    async def give_up(number: int) -> None:
        may_go_on.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await intake.write(intake.parse([item(number)], organization=None))
        may_go_on.set()
        await asyncio.sleep(0.05)

    asyncio.run(give_up(1))
    asyncio.run(give_up(2))
    (outcome,) = intake.take([item(3)])

    assert (outcome.status, intake.is_working) == (Status.ACCEPTED, True)
    intake.close()
    assert not intake.is_working
    assert stored_ids(log) == ["acme/e-1", "acme/e-3"]


def test_a_seat_that_comes_a_moment_after_its_event_does_not_make_it_a_duplicate(
    log: EventLog, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an event is told is what its own transaction did with it, whatever the roster says by then."""
    append = log._append
    newcomer = seats()[0].model_copy(update={"seat_id": "acme/new", "person_id": "acme/p-new"})

    def meanwhile(*args: Any, **fields: Any) -> Any:
        result = append(*args, **fields)
        append(Batch(seats_table([newcomer]), events_table([])), now=NOW, source=None)
        return result

    monkeypatch.setattr(log, "_append", meanwhile)
    first, again = intake.take([item(1, "acme/new")])[0], intake.take([item(1, "acme/new")])[0]

    assert (first.status, again.status) == (Status.REJECTED, Status.ACCEPTED)
    assert stored_ids(log) == ["acme/e-1"]


def test_closing_writes_what_waits(log: EventLog) -> None:
    intake = Intake(log, clock=lambda: NOW, stored=lambda: None)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(intake.take, [item(number)]) for number in range(8)]
        time.sleep(0.05)
        intake.close()
        assert all(answer.result()[0].status is Status.ACCEPTED for answer in answers)

    assert len(stored_ids(log)) == 8


def test_what_comes_after_closing_is_refused_instead_of_waiting_for_ever(log: EventLog) -> None:
    intake = Intake(log, clock=lambda: NOW, stored=lambda: None)
    intake.close()

    with pytest.raises(Closed, match="about to end"):
        intake.take([item(1)])
    intake.close()


def test_the_peers_of_the_day_are_observed_beside_the_refreshes(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the first moments of a day, when what was received before midnight may still be on its way into the log."""
    monkeypatch.setattr("serving.freshness.PREPARE_AFTER_SECONDS", (90.0, 90.0))
    monkeypatch.setattr("serving.freshness.PREPARE_EVERY_SECONDS", 0.01)
    midnight = datetime(2026, 6, 2, tzinfo=UTC)
    now = [midnight + timedelta(seconds=60)]
    store = FeatureStore(tmp_path)
    store.apply()
    freshness = Freshness(Refresher(log, store, load_tools()), clock=lambda: now[0], meters=Meters())
    day = (midnight - datetime(1970, 1, 1, tzinfo=UTC)).days
    freshness.start()
    _wait(lambda: log.touched.count() == 0)
    before = log.peers_day()
    now[0] = midnight + timedelta(seconds=91)
    _wait(lambda: log.peers_day() == day)
    freshness.close()

    assert before == day - 1


def test_a_quick_close_shows_at_once_although_another_source_lags(log: EventLog, tmp_path: Path) -> None:
    store, tools = FeatureStore(tmp_path), load_tools()
    store.apply()
    late = Event(
        event_id="acme/v-1", seat_id=SEATS[0], kind="session", occurred_at=NOW - timedelta(days=9),
        available_at=NOW - timedelta(days=7), source="vendor", value=300.0,
    )  # fmt: skip
    log.append(Batch(seats_table([]), events_table([late]), lags={"vendor": timedelta(days=2)}), now=NOW)
    refresher = Refresher(log, store, tools)
    intake = Intake(log, clock=lambda: NOW, stored=lambda: None)
    intake.take([item(n, kind="session", value=4.0, completed=False) for n in range(3)])
    intake.close()

    refresher.refresh(at_most=100, clock=lambda: NOW + timedelta(seconds=1))

    (row,) = store.online([SEATS[0]])
    assert row is not None
    live = live_friction(row.vector)
    assert (live.quick_closes, live.is_struggling) == (3, True)
    assert log.touched.is_any_due(now=NOW + timedelta(minutes=11))  # it comes again, so that it fades

    refresher.refresh(at_most=100, clock=lambda: NOW + timedelta(minutes=62))
    (row,) = store.online([SEATS[0]])
    assert row is not None
    assert live_friction(row.vector).quick_closes == 0
    assert not log.touched.is_any_due(now=NOW + timedelta(days=1))


def test_a_seat_touched_while_it_is_refreshed_is_refreshed_again(log: EventLog) -> None:
    marks = log.touched
    held = marks.claim(at_most=100, now=NOW)
    log.receive(events_table([_event(1, SEATS[3])]), now=NOW)

    assert marks.claim(at_most=100, now=NOW).tokens == {}  # nobody refreshes it beside the one who holds it
    marks.finish(held)
    assert set(marks.claim(at_most=100, now=NOW).tokens) == {SEATS[3]}


def test_a_claim_whose_holder_died_runs_out(log: EventLog) -> None:
    marks = log.touched
    lost = marks.claim(at_most=100, now=NOW)
    taken = marks.claim(at_most=100, now=NOW + timedelta(minutes=2))

    assert set(taken.tokens) == set(lost.tokens) == set(SEATS)
    marks.finish(taken)
    marks.finish(lost)  # whoever comes back late takes nothing off
    assert marks.count() == 0


def test_a_late_finisher_does_not_take_off_a_newer_mark(log: EventLog) -> None:
    marks = log.touched
    late = marks.claim(at_most=100, now=NOW)
    taken = marks.claim(at_most=100, now=NOW + timedelta(minutes=2))
    marks.finish(taken)
    log.receive(events_table([_event(1, SEATS[3])]), now=NOW)

    marks.finish(late)

    assert marks.count() == 1


def test_refreshing_goes_on_after_a_failure(log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.freshness.REST_SECONDS", 0.01)
    store = FeatureStore(tmp_path)
    store.apply()
    refresher = Refresher(log, store, load_tools())
    push, failures = store.push, [ConnectionError("away"), ConnectionError("away")]

    def failing(features: Any) -> int:
        if failures:
            raise failures.pop()
        return push(features)

    monkeypatch.setattr(store, "push", failing)
    freshness = Freshness(refresher, clock=lambda: datetime.now(UTC), meters=Meters())
    freshness.start()
    _wait(lambda: log.touched.count() == 0)
    freshness.close()

    assert all(row is not None for row in store.online(SEATS))


# --- kill -9 --------------------------------------------------------------------------------------------------------


def _event(number: int, seat: str) -> Event:
    at = NOW - timedelta(minutes=5)
    return Event(
        event_id=f"acme/x-{number}", seat_id=seat, kind="prompt", occurred_at=at, available_at=NOW, source="test"
    )


def _work(home: Path, acknowledged: Connection, run: int) -> None:
    """What a worker of the service does: takes in events from several senders, and refreshes, until it is killed."""
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    refresher = Refresher(log, FeatureStore(home), load_tools())
    freshness = Freshness(refresher, clock=lambda: datetime.now(UTC), meters=Meters())
    intake = Intake(log, clock=lambda: datetime.now(UTC), stored=freshness.wake)
    freshness.start()

    def send(sender: int) -> None:
        for number in range(1_000_000):
            both = [
                item(f"{run}-{sender}-{n}", SEATS[(n + sender) % len(SEATS)], occurred_at=datetime.now(UTC).isoformat())
                for n in (number, max(number - 1, 0))
            ]
            outcomes = intake.take(both)
            if outcomes[0].status is Status.ACCEPTED:
                os.write(acknowledged.fileno(), f"{outcomes[0].event_id}\n".encode())

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(send, range(3)))


@pytest.mark.timeout(280)
def test_kill_9_loses_no_acknowledged_event_counts_none_twice_and_features_catch_up(
    log: EventLog, tmp_path: Path
) -> None:
    """KILLS lives of WRITERS processes each on one log, all killed at a random moment."""
    store = FeatureStore(tmp_path)
    store.apply()
    generator = random.Random(7)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "features.store", "features.refresh", "serving.freshness"])
    acknowledged: set[str] = set()
    by_run = dict.fromkeys(range(KILLS), 0)
    for run in by_run:
        pipes = [context.Pipe(duplex=False) for _ in range(WRITERS)]
        workers = [
            context.Process(target=_work, args=(tmp_path, send, run * WRITERS + number), daemon=True)
            for number, (_, send) in enumerate(pipes)
        ]
        for worker in workers:
            worker.start()
        _wait(lambda pipes=pipes: any(receive.poll() for receive, _ in pipes), seconds=60)  # some are born only now
        time.sleep(generator.random() * LONGEST_LIFE_S)
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
        for worker, (receive, send) in zip(workers, pipes, strict=True):
            worker.join()
            send.close()
            lines = _lines(receive)
            acknowledged |= lines
            by_run[run] += len(lines)
    stored = stored_ids(log)

    assert min(by_run.values()) > 0
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored))

    # what a worker that starts afterwards does by itself, the claims of the dead included
    refresher = Refresher(log, FeatureStore(tmp_path), load_tools())
    freshness = Freshness(refresher, clock=lambda: datetime.now(UTC), meters=Meters())
    freshness.start()
    _wait(lambda: not log.touched.is_any_due(now=datetime.now(UTC) + 2 * CLAIM), seconds=60)
    freshness.close()
    in_log = dict.fromkeys(SEATS, 0)
    for seat in log.events().column("seat_id").to_pylist():
        in_log[seat] += 1
    column = NUMERIC.index(BY_NAME["prompts_28"])
    rows = [row for row in store.online(SEATS) if row is not None]
    assert {row.seat_id: row.vector[column] for row in rows} == in_log
    for row in rows:
        (anew,) = refresher.rows([row.seat_id], as_of=row.as_of)
        assert np.array_equal(row.vector, anew.vector, equal_nan=True)


def _lines(receive: Connection) -> set[str]:
    data = b""
    while part := os.read(receive.fileno(), 1 << 20):
        data += part
    return set(data.decode().split("\n")[:-1])


def _wait(is_done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.02)
