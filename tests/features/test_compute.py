import random
import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import features.compute
from features.catalogue import BY_NAME, CATEGORIES, FEATURES, NUMERIC, Group
from features.compute import SNAPSHOT_SCHEMA, compute_blocks, compute_features, pack, seat_blocks
from features.events import SEAT_SCHEMA, Event, Kind, events_table
from features.instants import to_microseconds
from features.peers import Peers
from features.sources import Source

DAY, HOUR, MICRO = timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)
NAMES = [feature.name for feature in FEATURES]
ORACLE_SEEDS = range(1, 11)
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
def answers(worlds):
    return [world.features() for world in worlds]


@pytest.fixture(scope="session")
def disagreements(oracle, worlds, answers):
    found = {name: [] for name in NAMES}
    for world, frame in zip(worlds, answers, strict=True):
        for name, places in oracle.differences(world, frame.to_dict(as_series=False), NAMES).items():
            found[name] += places
    return found


@pytest.mark.parametrize("name", NAMES)
def test_feature_equals_the_slow_oracle(name, disagreements):
    assert disagreements[name][:3] == []


def test_oracle_knows_every_feature_in_catalogue_order(oracle, worlds):
    seat_id, as_of = worlds[0].snapshots[0]
    assert list(oracle.oracle(oracle.Facts(worlds[0]), seat_id, as_of)) == NAMES


@pytest.mark.parametrize("feature", FEATURES, ids=NAMES)
def test_random_worlds_give_a_feature_more_than_one_value(feature, answers):
    values = pl.concat(frame[feature.name] for frame in answers)
    assert values.filter(values == values).n_unique() > 1  # what is missing does not equal itself


def test_random_worlds_hold_every_hard_case(oracle, worlds):
    world = worlds[0]
    facts = oracle.Facts(world)
    seen = set()
    for seat_id, as_of in world.snapshots:
        versions = facts.versions[seat_id]
        lag = oracle.lag_of(versions[0], world.sources, as_of)
        end = as_of - lag
        own = facts.events.get(seat_id, [])
        seen |= {"empty"} if not own else set()
        seen |= {"before assignment"} if end < versions[0].assigned_at else set()
        seen |= {"later role"} if any(version.known_at > as_of for version in versions[1:]) else set()
        seen |= {"lag"} if lag else set()
        seen |= {"tie"} if len({event.occurred_at for event in own}) < len(own) else set()
        for event in own:
            seen |= {"at end"} if event.occurred_at == end else set()
            seen |= {"just before end"} if event.occurred_at == end - MICRO else set()
            seen |= {"at as_of"} if event.occurred_at == as_of and lag else set()
            seen |= {"window edge"} if event.occurred_at == end - 28 * DAY else set()
            seen |= {"late"} if event.occurred_at < end and event.available_at > as_of else set()
            seen |= {"guided"} if event.guided else set()
            seen |= {"total"} if event.count > 1 else set()
            is_live = as_of - HOUR <= event.occurred_at < as_of and event.available_at <= as_of
            seen |= {"live while the source lags"} if is_live and event.occurred_at >= end else set()
            seen |= {"live edge"} if is_live and event.occurred_at == as_of - HOUR else set()
            seen |= {"asked, not answered"} if event.kind in {"confidence", "nps"} and event.value is None else set()
    assert seen == {
        "empty", "before assignment", "later role", "lag", "at end", "just before end", "at as_of", "window edge",
        "late", "guided", "total", "tie", "live while the source lags", "live edge", "asked, not answered",
    }  # fmt: skip


def test_random_worlds_hold_every_hard_case_of_peers(oracle, worlds):
    seen = set()
    for world in worlds[:3]:
        facts = oracle.Facts(world)
        for seat_id, as_of in world.snapshots:
            midnight = oracle.peers_midnight(as_of)
            then, now = (oracle.version_at(facts.versions[seat_id], at) for at in (midnight, as_of))
            before = oracle.version_at(facts.versions[seat_id], midnight - 28 * DAY)
            active = facts.colleagues(then.organization, then.tool, midnight)
            depths = sorted((depth for _, depth in active.values() if depth), reverse=True)
            lags = [oracle.lag_of(then, world.sources, at) for at in (midnight, as_of)]
            seen |= {"an hour after midnight"} if as_of == midnight + HOUR else set()
            seen |= {"another team since midnight"} if then.team != now.team else set()
            seen |= {"another team 28 days before"} if then.team != before.team else set()
            seen |= {"removed"} if then.removed_at is not None and then.removed_at <= midnight else set()
            seen |= {"removed at midnight"} if then.removed_at == midnight else set()
            seen |= {"assigned at midnight"} if then.assigned_at == midnight else set()
            seen |= {"not assigned yet"} if then.assigned_at > midnight else set()
            seen |= {"own manager"} if then.manager_person_id == then.person_id else set()
            seen |= {"a slower source since midnight"} if lags[0] < lags[1] else set()
            seen |= {"tie at the threshold"} if depths and depths.count(depths[-(-len(depths) // 4) - 1]) > 1 else set()
            held = [other.person_id for other, _ in active.values()]
            seen |= {"two seats of one manager"} if held.count(then.manager_person_id) > 1 else set()
            for event in facts.events.get(seat_id, []):
                if oracle.is_meaningful(event, oracle.PROFILES[then.tool]):
                    end = midnight - lags[0]
                    seen |= {"use at the end"} if event.occurred_at == end else set()
                    seen |= {"use at the start"} if event.occurred_at == end - 28 * DAY else set()
                    seen |= {"known at midnight"} if event.available_at == midnight else set()
                    is_late = event.occurred_at < end and midnight < event.available_at <= as_of
                    seen |= {"known since midnight"} if is_late else set()
    assert seen == {
        "an hour after midnight", "another team since midnight", "another team 28 days before", "removed", "removed at midnight",
        "assigned at midnight", "not assigned yet", "own manager", "a slower source since midnight",
        "tie at the threshold", "two seats of one manager", "use at the end", "use at the start", "known at midnight",
        "known since midnight",
    }  # fmt: skip


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
            peers=oracle.random_world(3, seats=4).peers(AS_OF),
        )


def test_no_snapshots_give_an_empty_frame_with_every_column(oracle):
    world = oracle.random_world(3, seats=4)
    empty = compute_features(pl.DataFrame(schema=SNAPSHOT_SCHEMA), **world.arguments(), peers=world.peers())
    assert (empty.height, empty.columns) == (0, ["seat_id", "as_of", *NAMES])


def test_one_event_of_long_ago_does_not_stop_a_full_block(oracle):
    """Events may date back to 2000 (features.events.EARLIEST); a block has BLOCK_SEATS seats."""
    seats = features.compute.BLOCK_SEATS
    versions = [oracle.Version(f"acme/s{index:05d}", "fast", AS_OF - DAY, AS_OF - DAY) for index in range(seats)]
    old = task(datetime(2000, 1, 2, tzinfo=UTC), seat_id=versions[0].seat_id, workflow="proposal_draft")
    world = oracle.World(tuple(versions), (old,), (), tuple((version.seat_id, AS_OF) for version in versions))
    assert world.features()["meaningful_ever"].sum() == 1.0


@pytest.fixture
def in_blocks(oracle):
    """The features of a world block by block of seats, and the whole at once."""

    def compute(world, cut, **changes):
        wanted, arguments = world.snapshot_frame().sort("seat_id", "as_of", maintain_order=True), world.arguments()
        events = arguments.pop("events")

        def read(seat_ids):
            return events.filter(pa.compute.is_in(events["seat_id"], pa.array(seat_ids)))

        def snapshots(seats):
            return wanted.filter(pl.col("seat_id").is_in(seats["seat_id"].to_pylist()))

        seats = oracle.roster_table(oracle.latest(world.versions)).select(SEAT_SCHEMA.names)
        blocks = compute_blocks(
            cut(seats), snapshots=snapshots, read_events=read, peers=world.peers(), **arguments, **changes
        )
        return pl.concat(blocks), compute_features(wanted, events=events, peers=world.peers(), **arguments)

    return compute


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_blocks_of_seats_give_what_the_whole_gives(oracle, in_blocks, threads, size):
    world = oracle.random_world(11, seats=40)
    blocks, whole = in_blocks(world, lambda seats: seat_blocks(seats, size), threads=threads)
    assert bits(blocks) == bits(whole)


def test_blocks_may_come_in_any_order(oracle, in_blocks):
    """As the events are stored."""
    world = oracle.random_world(12, seats=40)
    blocks, whole = in_blocks(world, lambda seats: random.Random(1).sample(list(seat_blocks(seats, 7)), k=6))
    assert bits(blocks.sort("seat_id", "as_of", maintain_order=True)) == bits(whole)


def test_the_seats_of_a_block_may_come_in_any_order(oracle, in_blocks):
    world = oracle.random_world(12, seats=40)
    blocks, whole = in_blocks(world, lambda seats: seat_blocks(seats.take(random.Random(1).sample(range(40), k=40)), 7))
    assert bits(blocks.sort("seat_id", "as_of", maintain_order=True)) == bits(whole)


def test_pack_keeps_catalogue_order(oracle):
    frame = oracle.random_world(5, seats=3).features()
    vectors, categories = pack(frame.select(reversed(frame.columns)))
    assert vectors.shape == (frame.height, len(NUMERIC))
    assert np.array_equal(vectors[:, 4], frame[NUMERIC[4].name].to_numpy(), equal_nan=True)
    assert categories[0] == [frame[feature.name][0] for feature in CATEGORIES]


# --- laws -----------------------------------------------------------------------------------------------------------


def later_roster(oracle, rng, versions, as_of):
    """The roster as it was known at `as_of`, with other things said of every seat after it, and seats that came after it."""
    firsts = {version.seat_id: version for version in reversed(versions)}
    kept = [version for version in versions if version.known_at <= as_of or version == firsts[version.seat_id]]
    later = [
        oracle.replace(
            version,
            known_at=max(version.known_at, as_of) + MICRO,
            role="astronaut",
            team=rng.choice(oracle.TEAMS),
            manager_person_id=rng.choice([None, f"{version.organization}/m1"]),
            assigned_at=rng.choice([version.assigned_at, as_of + DAY]),
            removed_at=rng.choice([None, version.assigned_at]),
            person=f"{version.organization}/m{rng.randrange(3)}",
        )
        for version in oracle.latest(kept)
    ]
    newcomers = [
        oracle.replace(version, seat_id=version.seat_id + "n", assigned_at=as_of + MICRO, known_at=as_of + MICRO)
        for version in firsts.values()
    ]
    return [*kept, *later, *newcomers]


def was_known(oracle, world, version, event, as_of):
    """Whether a snapshot at `as_of` may look at the event: in its windows, in its last hour, or as its peers'."""
    midnight = oracle.peers_midnight(as_of)
    own = next((kinds for kinds in (oracle.VOICES, oracle.DECIDED) if event.kind in kinds), None)
    ends = [
        (at - oracle.lag_of(version, world.sources, at, kinds), at) for at in (as_of, midnight) for kinds in (None, own)
    ]
    is_live = as_of - HOUR <= event.occurred_at < as_of and event.available_at <= as_of
    return is_live or any(event.occurred_at < end and event.available_at <= at for end, at in ends)


@given(seeds)
@settings(LAWS, max_examples=60)
def test_what_was_not_known_at_as_of_changes_nothing(oracle, seed):
    """Everything at or after the end of anybody's windows, or not yet available, is replaced, dropped and added to."""
    rng = random.Random(seed)
    world = oracle.random_world(seed, seats=14, looks=3)
    as_of = rng.choice([at for _, at in world.snapshots])
    firsts = {version.seat_id: version for version in reversed(world.versions)}
    before = oracle.World(world.versions, world.events, world.sources, tuple((seat, as_of) for seat in firsts))
    events = []
    for event in world.events:
        if was_known(oracle, world, firsts[event.seat_id], event, as_of):
            events.append(event)
        elif rng.random() < 0.7:
            fresh = oracle.any_event(
                rng, rng.randrange(10**9), firsts[event.seat_id], event.occurred_at, kind=event.kind
            )
            events.append(fresh.model_copy(update={"available_at": event.available_at}))
    for seat, version in firsts.items():
        end, midnight_end = (
            at - oracle.lag_of(version, world.sources, at) for at in (as_of, oracle.peers_midnight(as_of))
        )
        edge = max(end, midnight_end) if max(end, midnight_end) < as_of - HOUR else as_of
        for at, available_at in ((edge, max(edge, as_of)), (as_of, as_of), (end - DAY, as_of + MICRO)):
            kind = rng.choice(["task", "session", "error", None if at == as_of else "work"])
            new = oracle.any_event(
                rng, rng.randrange(10**9), version, at, kind=kind, available_at=available_at, count=7
            )
            events += [new, new.model_copy(update={"seat_id": seat + "n", "available_at": max(at, as_of)})]
    sources = [s for s in world.sources if s.first_available_at <= as_of]
    sources = [
        oracle.replace(
            s,
            lag=99 * DAY,
            lags=(*(known for known in s.known_lags if known[0] <= as_of), (as_of + MICRO, 99 * DAY)),
            kinds=(*(known for known in s.known_kinds if known[0] <= as_of), *((as_of + MICRO, kind) for kind in Kind)),
        )
        for s in sources
    ]
    new = {"first_available_at": as_of + MICRO, "source": "new", "lag": 9 * DAY, "lags": (), "kinds": None}
    late = [oracle.replace(s, **new) for s in world.sources]
    after = oracle.World(
        tuple(later_roster(oracle, rng, world.versions, as_of)), tuple(events), (*sources, *late), before.snapshots
    )
    assert bits(before.features()) == bits(after.features())


@given(seeds)
@LAWS
def test_others_are_seen_as_of_the_last_midnight_only(oracle, seed):
    """Of everybody but one seat, all that was not known at midnight is dropped."""
    rng = random.Random(seed)
    world = oracle.random_world(seed, seats=14, looks=3)
    seat_id, as_of = rng.choice(world.snapshots)
    midnight = oracle.peers_midnight(as_of)
    before = oracle.World(world.versions, world.events, world.sources, ((seat_id, as_of),))
    firsts = {version.seat_id: version for version in reversed(world.versions)}
    versions = [v for v in world.versions if v.seat_id == seat_id or v.known_at <= midnight or v == firsts[v.seat_id]]
    events = [e for e in world.events if e.seat_id == seat_id or max(e.available_at, e.occurred_at + MICRO) <= midnight]
    after = oracle.World(tuple(versions), tuple(events), world.sources, before.snapshots)
    assert bits(before.features()) == bits(after.features())


# --- how far a feature looks back -----------------------------------------------------------------------------------


def is_inside(oracle, facts, seat, event, window, as_of, *, is_dated):
    """Whether the window, as the catalogue says it in words, may hold the event."""
    end = as_of - oracle.lag_of(seat, facts.sources, as_of)
    date, birth = oracle.midnight_of(end), oracle.midnight_of(seat.assigned_at)
    in_words = {
        "now": False,
        "1 hour": event.occurred_at >= as_of - HOUR,
        "8 weeks": event.occurred_at >= date - 56 * DAY,
        "first 14 days": event.occurred_at < birth + 14 * DAY,
        "first 28 days": event.occurred_at < birth + 28 * DAY,
        "14 days and the first 14": event.occurred_at >= date - 14 * DAY or event.occurred_at < birth + 14 * DAY,
    }
    if window in in_words:
        return in_words[window]
    return event.occurred_at >= (date if is_dated else end) - int(window.split()[0]) * DAY


DATED = re.compile(r"(active_|used_share|surface_|work_)|.*(_days_\d+|_trend_14|_gap_|_overdue|against_first)").match


def window_of(feature):
    is_dated = feature.group is not Group.PEERS and DATED(feature.name) is not None
    return feature.window, feature.group is Group.PEERS, is_dated


@pytest.fixture(scope="session")
def outside_dropped(oracle):
    """By window, whether it is one of peers, whose last instant is that of midnight, and whether it is of whole dates:
    the features of many snapshots with everything that happened outside of the window left out.
    """
    found = {window_of(feature): [] for feature in FEATURES}
    found |= {(window, *which): [] for window in ("now", "so far") for which in ((0, 0), (0, 1), (1, 0))}
    for seed in range(60, 62):
        world = oracle.random_world(seed, seats=400, looks=3)
        looks = Counter(at for _, at in world.snapshots if at > oracle.START + 57 * DAY)
        [(as_of, _)] = looks.most_common(1)  # on whose edges events are crowded
        facts, midnight = oracle.Facts(world), oracle.peers_midnight(as_of)
        seats = {seat_id: oracle.version_at(versions, as_of) for seat_id, versions in facts.versions.items()}
        for (window, of_peers, is_dated), frames in found.items():
            events = [
                event
                for event in world.events
                if window == "so far"
                or is_inside(
                    oracle,
                    facts,
                    seats[event.seat_id],
                    event,
                    window,
                    midnight if of_peers else as_of,
                    is_dated=is_dated,
                )
            ]
            snapshots = tuple((seat_id, as_of) for seat_id in seats)
            frames.append(oracle.World(world.versions, tuple(events), world.sources, snapshots).features())
    return {window: pl.concat(frames) for window, frames in found.items()}


MORE = {"retry_share_28", "confidence_shown_28"}  # a prompt at the start may be another try, of ten minutes before
MORE |= {f.name for f in FEATURES if f.name.startswith("assisted_")}  # whether work without AI was ever told of
OF_THE_ROSTER = {"team_size_before_28"}  # what happens changes nothing of it


@pytest.mark.parametrize(
    "feature", [f for f in FEATURES if f.window != "so far" and f.name not in MORE], ids=lambda f: f.name
)
def test_a_feature_looks_no_further_back_than_its_window(feature, outside_dropped):
    _, *which = window_of(feature)
    whole, cut = (outside_dropped[window, *which][feature.name] for window in ("so far", feature.window))
    assert cut.equals(whole)


@pytest.mark.parametrize(
    "feature", [f for f in NUMERIC if f.window != "now" and f.name not in OF_THE_ROSTER], ids=lambda f: f.name
)
def test_a_feature_looks_back(feature, outside_dropped):
    _, *which = window_of(feature)
    whole, cut = (outside_dropped[window, *which][feature.name] for window in ("so far", "now"))
    assert not cut.equals(whole)


@pytest.mark.parametrize("name", ["confidence_slope"])
def test_a_feature_that_looks_back_180_days_has_that_window(name):
    assert BY_NAME[name].window == "180 days"


@given(seeds)
@LAWS
def test_a_later_change_of_the_roster_changes_nothing(oracle, seed):
    world = oracle.random_world(seed, seats=10)
    last = max(as_of for _, as_of in world.snapshots)
    later = later_roster(oracle, random.Random(seed), world.versions, last)
    changed = oracle.World(tuple(later), world.events, world.sources, world.snapshots)
    assert bits(world.features()) == bits(changed.features())


@given(seeds)
@LAWS
def test_the_order_of_roster_and_sources_changes_nothing(oracle, seed):
    rng = random.Random(seed)
    world = oracle.random_world(seed, seats=10)
    roster = oracle.roster_table(world.versions)
    roster = roster.take(rng.sample(range(len(roster)), k=len(roster)))
    sources = rng.sample(world.sources, k=len(world.sources))
    assert bits(world.features()) == bits(world.features(roster=roster, sources=sources))


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
            if event.count < 4:  # a part of one would be a prompt with an instant of its own
                parts.append(event)
                continue
            first = 2 + seed % (event.count - 3)
            parts.append(event.model_copy(update={"count": first}))
            parts.append(event.model_copy(update={"count": event.count - first, "event_id": event.event_id + "-2"}))
        pairs.append((world.features(), world.features(events=events_table(parts))))
    return pl.concat(a for a, _ in pairs), pl.concat(b for _, b in pairs)


@pytest.mark.parametrize("feature", FEATURES, ids=NAMES)
def test_a_total_says_the_same_as_its_parts(feature, split_totals):
    whole, parts = (frame[feature.name] for frame in split_totals)
    assert whole.equals(parts)


@given(seeds)
@settings(LAWS, max_examples=6)
def test_one_seat_alone_equals_the_batch_to_the_bit(oracle, seed):
    """As it is asked for online: its own events and roster, and the peers of its day as they were kept."""
    world = oracle.random_world(seed, seats=8, looks=4)
    vectors, categories = pack(world.features())
    alone = [
        pack(
            compute_features(
                oracle.snapshot_frame([(seat_id, as_of)]),
                events=events_table([event for event in world.events if event.seat_id == seat_id]),
                roster=oracle.roster_table([version for version in world.versions if version.seat_id == seat_id]),
                sources=world.sources,
                tools=oracle.PROFILES,
                peers=Peers.from_bytes(world.peers(as_of).to_bytes()),
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
def test_seats_of_other_organisations_and_tools_change_nothing(oracle, seed):
    """Not even those of the same team, role and manager."""
    world = oracle.random_world(seed, seats=8)
    elsewhere = [oracle.replace(version, seat_id="other" + version.seat_id) for version in world.versions]
    other_tool = [oracle.replace(version, seat_id=version.seat_id + "x", tool="claude") for version in world.versions]
    events = [event.model_copy(update={"seat_id": "other" + event.seat_id}) for event in world.events]
    events += [event.model_copy(update={"seat_id": event.seat_id + "x"}) for event in world.events]
    crowd = oracle.World(
        (*world.versions, *elsewhere, *other_tool), (*world.events, *events), world.sources, world.snapshots
    )
    assert bits(world.features()) == bits(crowd.features())
