import random
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import features.compute
from features.catalogue import CATEGORIES, FEATURES, NUMERIC
from features.compute import SNAPSHOT_SCHEMA, compute_blocks, compute_features, lag_at, pack
from features.events import Event, events_table
from features.log import Source, to_microseconds

DAY, HOUR, MICRO = timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)
NAMES = [feature.name for feature in FEATURES]
ORACLE_SEEDS = range(1, 9)
ORACLE_SEATS = 300
AS_OF = datetime(2026, 6, 1, 9, 30, tzinfo=UTC)
LAWS = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 10**6)


def bits(frame):
    """The whole answer as bytes: equal only if every number has the same bits."""
    vectors, categories = pack(frame)
    return vectors.tobytes(), categories, frame["seat_id"].to_list(), frame["as_of"].to_list()


# --- against the oracle ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def worlds(oracle):
    return [oracle.random_world(seed, seats=ORACLE_SEATS) for seed in ORACLE_SEEDS]


@pytest.fixture(scope="session")
def disagreements(oracle, worlds):
    found = {name: [] for name in NAMES}
    for world in worlds:
        answers = world.features().to_dict(as_series=False)
        for name, places in oracle.differences(world, answers, NAMES).items():
            found[name] += places
    return found


@pytest.mark.parametrize("name", NAMES)
def test_feature_equals_the_slow_oracle(name, disagreements):
    assert disagreements[name][:3] == []


def test_oracle_knows_every_feature_in_catalogue_order(oracle, worlds):
    first = oracle.oracle_rows(
        oracle.World(*(getattr(worlds[0], n) for n in ("versions", "events", "sources")), worlds[0].snapshots[:1])
    )
    assert list(first[0]) == NAMES  # fmt: skip


def test_random_worlds_hold_every_hard_case(oracle, worlds):
    world = worlds[0]
    versions = {}
    for version in world.versions:
        versions.setdefault(version.seat_id, []).append(version)
    seen = set()
    for seat_id, as_of in world.snapshots:
        lag = oracle.lag_of(versions[seat_id][0], world.sources, as_of)
        end = as_of - lag
        own = [event for event in world.events if event.seat_id == seat_id]
        seen |= {"empty"} if not own else set()
        seen |= {"before assignment"} if end < versions[seat_id][0].assigned_at else set()
        seen |= {"later role"} if any(version.known_at > as_of for version in versions[seat_id][1:]) else set()
        seen |= {"lag"} if lag else set()
        for event in own:
            seen |= {"at end"} if event.occurred_at == end else set()
            seen |= {"just before end"} if event.occurred_at == end - MICRO else set()
            seen |= {"at as_of"} if event.occurred_at == as_of and lag else set()
            seen |= {"window edge"} if event.occurred_at == end - 28 * DAY else set()
            seen |= {"late"} if event.occurred_at < end and event.available_at > as_of else set()
            seen |= {"guided"} if event.guided else set()
            seen |= {"total"} if event.count > 1 else set()
        seen |= {"tie"} if len({event.occurred_at for event in own}) < len(own) else set()
    assert seen == {
        "empty", "before assignment", "later role", "lag", "at end", "just before end", "at as_of", "window edge",
        "late", "guided", "total", "tie",
    }  # fmt: skip


def test_a_source_lags_only_from_its_first_message_on(oracle):
    first = Source("acme", "fast", "vendor", DAY, AS_OF, AS_OF)
    as_of = np.array([to_microseconds(AS_OF) - 1, to_microseconds(AS_OF)])
    assert lag_at([first], np.array(["acme"] * 2), np.array(["fast"] * 2), as_of).tolist() == [0, 86_400_000_000]


def test_the_slowest_of_the_own_sources_sets_the_lag():
    def source(organization, tool, lag):
        return Source(organization, tool, str(lag), lag, AS_OF - 99 * DAY, AS_OF)

    sources = [source("acme", "fast", DAY), source("acme", "fast", HOUR), source("acme", "claude", 9 * DAY)]
    sources += [source("zeta", "fast", 7 * DAY)]
    lag = lag_at(sources, np.array(["acme"]), np.array(["fast"]), np.array([to_microseconds(AS_OF)]))
    assert lag.tolist() == [86_400_000_000]


# --- the edges, one at a time ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def one_seat(oracle):
    """The features of one seat with `lag`, given its events."""

    def features(*events, lag=timedelta(0), tool="m365_copilot", as_of=AS_OF, versions=(), **changes):
        seat = oracle.Version("acme/s1", tool, assigned_at=AS_OF - 100 * DAY, known_at=AS_OF - 100 * DAY)
        sources = (Source("acme", tool, "vendor", lag, AS_OF - 90 * DAY, AS_OF),)
        world = oracle.World(versions or (seat,), events, sources, (("acme/s1", as_of),))
        return world.features(**changes).row(0, named=True)

    return features


def task(at, **fields):
    numbered = {"event_id": f"acme/{to_microseconds(at)}", "seat_id": "acme/s1", "kind": "task", "source": "vendor"}
    return Event(**{**numbered, "occurred_at": at, "available_at": at, "workflow": "meeting_recap", **fields})


@pytest.mark.parametrize(
    ("offset", "counted"), [(-MICRO, 1.0), (timedelta(0), 0.0), (MICRO, 0.0)], ids=["before", "at", "after"]
)
@pytest.mark.parametrize("lag", [timedelta(0), 3 * DAY], ids=["live", "lagging"])
def test_an_event_counts_up_to_one_microsecond_before_the_end(one_seat, offset, counted, lag):
    assert one_seat(task(AS_OF - lag + offset), lag=lag)["meaningful_ever"] == counted


@pytest.mark.parametrize(("offset", "counted"), [(-MICRO, 0.0), (timedelta(0), 1.0)], ids=["before", "at"])
@pytest.mark.parametrize("days", [7, 14, 28, 56])
def test_a_window_includes_its_start(one_seat, days, offset, counted):
    assert one_seat(task(AS_OF - days * DAY + offset))[f"meaningful_{days}"] == counted


@pytest.mark.parametrize(("offset", "counted"), [(timedelta(0), 1.0), (MICRO, 0.0)], ids=["at", "after"])
def test_an_event_that_is_known_at_as_of_counts_and_one_known_later_does_not(one_seat, offset, counted):
    assert one_seat(task(AS_OF - 9 * DAY, available_at=AS_OF + offset))["meaningful_28"] == counted


def test_the_role_is_that_which_was_known_at_as_of(oracle, one_seat):
    old = oracle.Version("acme/s1", "fast", AS_OF - 100 * DAY, AS_OF - 100 * DAY, role="sales")
    new = oracle.Version("acme/s1", "fast", AS_OF - 100 * DAY, AS_OF, role="legal")
    roles = [one_seat(versions=(old, new), tool="fast", as_of=at)["role"] for at in (AS_OF - MICRO, AS_OF)]
    assert roles == ["sales", "legal"]


def test_a_guided_task_is_use_and_opportunity_but_not_meaningful(one_seat):
    row = one_seat(task(AS_OF - DAY, guided=True))
    assert (row["uses_7"], row["work_days_7"], row["meaningful_7"]) == (1.0, 1.0, 0.0)


def test_an_unknown_workflow_is_surface_use_for_a_tool_bought_for_workflows(one_seat):
    assert one_seat(task(AS_OF - DAY, workflow="lunch_menu"))["surface_days_28"] == 1.0


def test_an_unknown_workflow_is_meaningful_for_a_tool_that_counts_any(one_seat):
    assert one_seat(task(AS_OF - DAY, workflow=None), tool="github_copilot")["meaningful_28"] == 1.0


def test_values_are_kept_to_a_thousandth(one_seat):
    row = one_seat(task(AS_OF - DAY, kind="session", workflow=None, value=12.345678))
    assert row["session_seconds_28"] == 12.346


def test_huge_totals_do_not_overflow(one_seat):
    """The largest total that Event takes, a hundred times a month."""
    busy = [task(AS_OF - number * HOUR, kind="session", value=1e6, count=1_000_000) for number in range(1, 101)]
    assert one_seat(*busy)["session_seconds_28"] == 1e6


def test_a_snapshot_of_an_unknown_seat_is_refused_by_name(oracle, one_seat):
    other = oracle.snapshot_frame([("acme/nobody", AS_OF)])
    with pytest.raises(ValueError, match="acme/nobody"):
        compute_features(
            other,
            events=events_table([]),
            roster=oracle.roster_table([oracle.Version("acme/s1", "fast", AS_OF, AS_OF)]),
            sources=(),
            tools=oracle.PROFILES,
        )


def test_no_snapshots_give_an_empty_frame_with_every_column(oracle):
    world = oracle.random_world(3, seats=4)
    empty = compute_features(
        pl.DataFrame(schema=SNAPSHOT_SCHEMA),
        events=events_table(world.events),
        roster=oracle.roster_table(world.versions),
        sources=world.sources,
        tools=oracle.PROFILES,
    )
    assert (empty.height, empty.columns) == (0, ["seat_id", "as_of", *NAMES])


def test_one_event_of_long_ago_does_not_stop_a_full_block(oracle):
    """Events may date back to 2000 (features.events.EARLIEST); a block has BLOCK_SEATS seats."""
    seats = features.compute.BLOCK_SEATS
    versions = [oracle.Version(f"acme/s{index:05d}", "fast", AS_OF - DAY, AS_OF - DAY) for index in range(seats)]
    old = task(datetime(2000, 1, 2, tzinfo=UTC), seat_id=versions[0].seat_id, workflow="proposal_draft")
    world = oracle.World(tuple(versions), (old,), (), tuple((version.seat_id, AS_OF) for version in versions))
    assert world.features()["meaningful_ever"].sum() == 1.0


@pytest.mark.parametrize("threads", [1, 2])
def test_blocks_of_seats_give_what_the_whole_gives(oracle, threads):
    world = oracle.random_world(11, seats=40)
    events = events_table(world.events)
    snapshots = world.snapshot_frame().sort("seat_id", "as_of")

    def read(seat_ids):
        return events.filter(pa.compute.is_in(events["seat_id"], pa.array(seat_ids)))

    arguments = {"roster": oracle.roster_table(world.versions), "sources": world.sources, "tools": oracle.PROFILES}
    blocks = compute_blocks(snapshots, read_events=read, block_seats=7, threads=threads, **arguments)
    assert bits(pl.concat(blocks)) == bits(compute_features(snapshots, events=events, **arguments))


def test_pack_keeps_catalogue_order(oracle):
    frame = oracle.random_world(5, seats=3).features()
    vectors, categories = pack(frame.select(reversed(frame.columns)))
    assert vectors.shape == (frame.height, len(NUMERIC))
    assert vectors[0, 4] == frame[NUMERIC[4].name][0]
    assert categories[0] == [frame[feature.name][0] for feature in CATEGORIES]


# --- laws -----------------------------------------------------------------------------------------------------------


@given(seeds)
@LAWS
def test_what_was_not_known_at_as_of_changes_nothing(oracle, seed):
    """Everything at or after the end, or not yet available, is replaced, dropped and added to."""
    rng = random.Random(seed)
    world = oracle.random_world(seed, seats=6, looks=2)
    snapshots = world.snapshots[:: len(world.snapshots) // 6]  # one of each seat
    versions = {version.seat_id: version for version in reversed(world.versions)}
    ends = {seat: (at - oracle.lag_of(versions[seat], world.sources, at), at) for seat, at in snapshots}
    kept, changed = [], []
    for event in world.events:
        end, as_of = ends[event.seat_id]
        if event.occurred_at < end and event.available_at <= as_of:
            kept.append(event)
            continue
        fresh = oracle.any_event(rng, rng.randrange(10**9), versions[event.seat_id], event.occurred_at)
        changed.append(fresh.model_copy(update={"available_at": event.available_at}))
    for seat, (end, as_of) in ends.items():
        new = oracle.any_event(rng, rng.randrange(10**9), versions[seat], end, available_at=as_of, count=7)
        late = oracle.any_event(rng, rng.randrange(10**9), versions[seat], end - DAY, available_at=as_of + MICRO)
        changed += [new, late]
    before = oracle.World(world.versions, world.events, world.sources, tuple(snapshots))
    after = oracle.World(world.versions, tuple(kept + changed), world.sources, tuple(snapshots))
    assert bits(before.features()) == bits(after.features())


@given(seeds)
@LAWS
def test_a_later_change_of_the_roster_changes_nothing(oracle, seed):
    world = oracle.random_world(seed, seats=6)
    last = max(as_of for _, as_of in world.snapshots)
    later = [
        oracle.replace(version, known_at=last + MICRO, role="astronaut", manager_person_id="acme/other")
        for version in oracle.latest(world.versions)
    ]
    changed = oracle.World((*world.versions, *later), world.events, world.sources, world.snapshots)
    assert bits(world.features()) == bits(changed.features())


@given(seeds)
@LAWS
def test_the_order_in_which_events_arrived_changes_nothing(oracle, seed):
    world = oracle.random_world(seed, seats=6)
    shuffled = random.Random(seed).sample(world.events, k=len(world.events))
    assert bits(world.features()) == bits(world.features(events=events_table(shuffled)))


@given(seeds)
@LAWS
def test_how_the_events_are_cut_into_chunks_changes_nothing(oracle, seed):
    world = oracle.random_world(seed, seats=6)
    chunks = pa.concat_tables([events_table(world.events[first : first + 5]) for first in range(0, len(world.events), 5)] or [events_table([])])  # fmt: skip
    assert bits(world.features()) == bits(world.features(events=chunks))


@pytest.fixture(scope="session")
def split_totals(oracle):
    """The same worlds with every total split in two, for one and for the other."""
    pairs = []
    for seed in range(40, 44):
        world = oracle.random_world(seed, seats=100)
        parts = []
        for event in world.events:
            if event.count == 1:
                parts.append(event)
                continue
            first = 1 + seed % (event.count - 1)
            parts.append(event.model_copy(update={"count": first}))
            parts.append(event.model_copy(update={"count": event.count - first, "event_id": event.event_id + "-2"}))
        pairs.append((world.features(), world.features(events=events_table(parts))))
    return pl.concat(a for a, _ in pairs), pl.concat(b for _, b in pairs)


@pytest.mark.parametrize("feature", FEATURES, ids=NAMES)
def test_a_total_says_the_same_as_its_parts(feature, split_totals):
    whole, parts = (frame[feature.name] for frame in split_totals)
    assert whole.equals(parts)


@given(seeds)
@settings(LAWS, max_examples=8)
def test_one_seat_alone_equals_the_batch_to_the_bit(oracle, seed):
    world = oracle.random_world(seed, seats=5)
    vectors, categories = pack(world.features())
    alone = [
        pack(
            compute_features(
                oracle.snapshot_frame([(seat_id, as_of)]),
                events=events_table([event for event in world.events if event.seat_id == seat_id]),
                roster=oracle.roster_table([version for version in world.versions if version.seat_id == seat_id]),
                sources=world.sources,
                tools=oracle.PROFILES,
            )
        )
        for seat_id, as_of in world.snapshots
    ]
    assert [row.tobytes() for row in vectors] == [vector.tobytes() for vector, _ in alone]
    assert categories == [row for _, rows in alone for row in rows]


@pytest.mark.parametrize("block_seats", [1, 7, 100])
def test_block_size_changes_nothing(oracle, monkeypatch, block_seats):
    world = oracle.random_world(21, seats=60)
    at_once = bits(world.features())
    monkeypatch.setattr(features.compute, "BLOCK_SEATS", block_seats)
    assert bits(world.features()) == at_once


@given(seeds)
@LAWS
def test_the_order_of_the_snapshots_is_kept_and_changes_nothing(oracle, seed):
    world = oracle.random_world(seed, seats=6)
    order = random.Random(seed).sample(range(len(world.snapshots)), k=len(world.snapshots))
    turned = oracle.World(world.versions, world.events, world.sources, tuple(world.snapshots[i] for i in order))
    assert bits(turned.features()) == bits(world.features()[order])


def test_a_snapshot_asked_for_twice_is_answered_twice(oracle):
    world = oracle.random_world(8, seats=6)
    twice = oracle.World(world.versions, world.events, world.sources, world.snapshots * 2)
    once = world.features()
    assert bits(twice.features()) == bits(pl.concat([once, once]))


@given(seeds)
@LAWS
def test_other_seats_change_nothing(oracle, seed):
    world, other = oracle.random_world(seed, seats=5), oracle.random_world(seed + 1, seats=5)
    renamed = [event.model_copy(update={"seat_id": event.seat_id + "x"}) for event in other.events]
    versions = [oracle.replace(version, seat_id=version.seat_id + "x") for version in other.versions]
    crowd = oracle.World((*world.versions, *versions), (*world.events, *renamed), world.sources, world.snapshots)
    assert bits(world.features()) == bits(crowd.features())
