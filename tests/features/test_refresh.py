"""Online features follow the log: what is refreshed equals what a batch would say, and everything due is refreshed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.catalogue import FEATURES, catalogue_hash
from features.compute import SNAPSHOT_SCHEMA, compute_features, pack
from features.connectors.rollout_model import Rollout
from features.connectors.simulated import open_simulated
from features.events import Batch, Event, events_table, seats_table
from features.instants import to_microseconds
from features.live import live_friction
from features.log import EventLog
from features.peers import days_needed, observe
from features.refresh import LIVE, Refresher
from features.store import FeatureStore
from features.tools import load_tools

TOOLS = load_tools()
START = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = 70
AS_OF = START + timedelta(days=DAYS, hours=9, minutes=17)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refresh")
    log = EventLog(f"sqlite:///{folder / 'log.db'}")
    for batch in open_simulated(Rollout(seats=300, days=DAYS, seed=3, start=START)):
        log.append(batch, now=AS_OF)
    FeatureStore(folder).apply()
    log.close()
    return folder


@pytest.fixture
def refresher(home: Path) -> Iterator[Refresher]:
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    yield Refresher(log, FeatureStore(home), TOOLS)
    log.close()


def batch_features(log: EventLog, seats: list[str], as_of: datetime) -> pl.DataFrame:
    """What a batch over everything says, peers observed from all events at once."""
    snapshots = pl.DataFrame({"seat_id": seats, "as_of": [as_of] * len(seats)}, schema=SNAPSHOT_SCHEMA)
    events, roster, sources = log.events(), log.roster(), log.sources()
    days = days_needed(np.array([to_microseconds(as_of)]))
    peers = observe([events], roster=roster, sources=sources, tools=TOOLS, days=days)
    return compute_features(snapshots, events=events, roster=roster, sources=sources, tools=TOOLS, peers=peers)


def assert_online_is_batch(refresher: Refresher, seats: list[str], as_of: datetime) -> None:
    vectors, categories = pack(batch_features(refresher.log, seats, as_of))
    rows = refresher.store.online(seats)
    assert all(row is not None and row.as_of == as_of for row in rows)
    assert np.array_equal(np.stack([row.vector for row in rows if row is not None]), vectors, equal_nan=True)
    assert [list(row.categories) for row in rows if row is not None] == categories


def prompt(seat: str, name: str, at: datetime) -> Event:
    return Event(
        event_id=f"simulated/{name}", seat_id=seat, kind="prompt", occurred_at=at, available_at=at, source="api"
    )


def all_seats(refresher: Refresher) -> list[str]:
    return list(refresher.log.seats().column("seat_id").to_pylist())


def drain(refresher: Refresher, as_of: datetime) -> None:
    while refresher.refresh(at_most=1_000, clock=lambda: as_of):
        pass


def test_a_sweep_says_of_every_seat_what_a_batch_says(refresher: Refresher) -> None:
    seats = all_seats(refresher)
    pushed = sum(refresher.sweep(AS_OF, threads=2))

    assert pushed == len(seats)
    assert_online_is_batch(refresher, seats, AS_OF)
    drain(refresher, AS_OF)
    assert not refresher.log.touched.is_any_due(now=AS_OF)


def test_a_touched_seat_is_refreshed_to_the_bit_and_no_other(refresher: Refresher) -> None:
    seats = all_seats(refresher)
    list(refresher.sweep(AS_OF))
    drain(refresher, AS_OF)
    later = AS_OF + timedelta(minutes=3)
    refresher.log.receive(
        events_table([prompt(seats[5], "p-1", AS_OF), prompt(seats[7], "p-2", AS_OF)]), now=later
    )  # fmt: skip

    assert refresher.refresh(at_most=100, clock=lambda: later) == 2
    assert refresher.refresh(at_most=100, clock=lambda: later) == 0

    assert_online_is_batch(refresher, [seats[5], seats[7]], later)
    (other,) = refresher.store.online([seats[6]])
    assert other is not None
    assert other.as_of == AS_OF


def test_the_days_peers_are_observed_once_and_kept(refresher: Refresher, home: Path) -> None:
    first = refresher.observe_day(AS_OF)
    other = EventLog(f"sqlite:///{home / 'log.db'}")
    again = Refresher(other, refresher.store, TOOLS).peers(AS_OF + timedelta(hours=2))
    other.close()

    assert again.to_bytes() == first.to_bytes()


def test_who_has_the_days_peers_at_hand_looks_at_those_that_a_sweep_observed_anew(
    refresher: Refresher, home: Path
) -> None:
    """An import of the night brings what was known at midnight already: the sweep counts it, and so does the service."""
    at = AS_OF + timedelta(minutes=50)
    before = refresher.peers(at).to_bytes()
    seat = all_seats(refresher)[16]
    past = AS_OF - timedelta(days=6)
    tasks = [
        Event(
            event_id=f"simulated/late-{n}", seat_id=seat, kind="task", workflow="meeting_recap", occurred_at=past,
            available_at=past, source="simulated",
        )
        for n in range(40)
    ]  # fmt: skip
    refresher.log.append(Batch(seats_table([]), events_table(tasks)), now=at)
    other = EventLog(f"sqlite:///{home / 'log.db'}")
    anew = Refresher(other, refresher.store, TOOLS).observe_day(at).to_bytes()
    other.close()

    assert anew != before
    assert refresher.peers(at).to_bytes() == anew
    read = refresher.peers(at)
    assert refresher.peers(at) is read  # and it reads them once


def test_an_event_of_a_clock_that_runs_ahead_is_in_the_features_once_it_is_due(refresher: Refresher) -> None:
    seat = all_seats(refresher)[9]
    list(refresher.sweep(AS_OF))
    drain(refresher, AS_OF)
    ahead = AS_OF + timedelta(minutes=4)
    refresher.log.receive(events_table([prompt(seat, "ahead", ahead)]), now=AS_OF)

    refresher.refresh(at_most=100, clock=lambda: AS_OF + timedelta(seconds=1))
    assert not refresher.log.touched.is_any_due(now=ahead)
    assert refresher.refresh(at_most=100, clock=lambda: ahead + timedelta(seconds=1)) == 1

    assert_online_is_batch(refresher, [seat], ahead + timedelta(seconds=1))


def test_a_sweep_does_not_take_off_the_mark_of_what_came_during_it(refresher: Refresher) -> None:
    seat = all_seats(refresher)[11]
    later = AS_OF + timedelta(minutes=30)
    sweep = refresher.sweep(later)
    next(sweep)
    refresher.log.receive(events_table([prompt(seat, "during", later)]), now=later)
    list(sweep)

    assert refresher.log.touched.is_any_due(now=later)
    drain(refresher, later + timedelta(seconds=1))
    assert_online_is_batch(refresher, [seat], later + timedelta(seconds=1))


def test_a_sweep_does_not_write_over_what_the_service_refreshed_while_it_was_writing(
    refresher: Refresher, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service takes an event in and refreshes its seat just when the sweep has begun to push the block."""
    seat = all_seats(refresher)[12]
    at = AS_OF + timedelta(minutes=35)
    drain(refresher, at)
    service = Refresher(refresher.log, FeatureStore(home), TOOLS)
    waiting = [prompt(seat, "just-now", at)]

    def meanwhile(block: pl.DataFrame) -> tuple[np.ndarray, list[list[str]]]:
        if waiting:
            refresher.log.receive(events_table([waiting.pop()]), now=at)
            drain(service, at + timedelta(seconds=1))
        return pack(block)

    monkeypatch.setattr("features.store.pack", meanwhile)
    swept = list(refresher.sweep(at))

    assert sum(swept) == len(all_seats(refresher)) - 1
    assert not refresher.log.touched.is_any_due(now=at + timedelta(seconds=1))
    assert_online_is_batch(refresher, [seat], at + timedelta(seconds=1))


def test_an_event_is_in_the_features_although_another_host_wrote_them_with_a_clock_ahead(refresher: Refresher) -> None:
    """The row that is online is two seconds younger than this host's clock says it is, and lacks the event."""
    seat = all_seats(refresher)[15]
    at = AS_OF + timedelta(minutes=37)
    refresher.log.touch([seat], now=at)
    drain(refresher, at + timedelta(seconds=2))
    refresher.log.receive(events_table([prompt(seat, "skewed", at)]), now=at)
    drain(refresher, at + timedelta(seconds=1))

    assert not refresher.log.touched.is_any_due(now=at + timedelta(seconds=2))
    drain(refresher, at + timedelta(seconds=3))

    assert_online_is_batch(refresher, [seat], at + timedelta(seconds=3))


def test_a_struggle_that_is_over_fades_although_a_sweep_came_between(refresher: Refresher) -> None:
    seat = all_seats(refresher)[13]
    at = AS_OF + timedelta(minutes=40)
    quick = [
        Event(
            event_id=f"simulated/quick-{n}", seat_id=seat, kind="session", occurred_at=at, available_at=at, source="api",
            value=2.0, completed=False,
        )
        for n in range(3)
    ]  # fmt: skip
    refresher.log.receive(events_table(quick), now=at)
    drain(refresher, at + timedelta(seconds=1))
    list(refresher.sweep(at + timedelta(seconds=2)))
    drain(refresher, at + timedelta(seconds=3))

    drain(refresher, at + timedelta(minutes=62))

    (row,) = refresher.store.online([seat])
    assert row is not None
    assert not live_friction(row.vector).is_struggling


def test_live_features_are_those_of_the_last_hour() -> None:
    assert set(LIVE) == {"quick_closes_1h", "failed_attempts_1h", "errors_1h", "rejected_1h"}


def test_a_model_has_a_feature_service_of_its_own(refresher: Refresher) -> None:
    name = refresher.store.register_model("rekindle-risk", "3")
    service = refresher.store._feast.get_feature_service(name)

    assert name == "rekindle-risk-3"
    assert dict(service.tags) == {"catalogue": catalogue_hash()}
    names = {field.name for view in service.feature_view_projections for field in view.features}
    assert names == {feature.name for feature in FEATURES}


@pytest.mark.parametrize("hours", [0.01, 0.99, 1.01], ids=["just after midnight", "before it settled", "after"])
def test_no_refresh_after_midnight_waits_for_the_peers_and_each_is_what_a_batch_says(
    refresher: Refresher, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    """They are observed ahead, beside the refreshes, and looked at once the midnight is an hour old."""
    midnight = AS_OF.replace(hour=0, minute=0) + timedelta(days=1)
    seat, at = all_seats(refresher)[14], midnight + timedelta(hours=hours)
    refresher.peers(midnight - timedelta(minutes=1))
    refresher.prepare(midnight + timedelta(seconds=30))

    def nobody_waits(*_arguments: object, **_more: object) -> None:
        raise AssertionError("observed while a seat waits")

    with monkeypatch.context() as patch:
        patch.setattr("features.refresh.observed", nobody_waits)
        refresher.log.receive(events_table([prompt(seat, f"night-{hours}", at)]), now=at)
        drain(refresher, at + timedelta(seconds=1))

    assert_online_is_batch(refresher, [seat], at + timedelta(seconds=1))
