import random
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from features.catalogue import FEATURES, Group
from features.compute import compute_features, pack
from features.events import EVENT_SCHEMA, Event, events_table
from features.instants import to_microseconds
from features.peers import MOST_USES, Peers, Scope, days_needed, observe
from features.sources import Source
from features.tables import ROSTER_SCHEMA

DAY, HOUR, MICRO = timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)
MIDNIGHT = datetime(2026, 6, 1, tzinfo=UTC)
AS_OF = MIDNIGHT + timedelta(hours=9, minutes=30)
LONG_AGO = MIDNIGHT - 200 * DAY
TOOL = "github_copilot"  # any accepted suggestion is meaningful use
PEERS = [feature.name for feature in FEATURES if feature.group is Group.PEERS]
LAWS = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 10**6)


def uses(seat_id, number, at=MIDNIGHT - DAY, **fields):
    """So many meaningful uses of the seat at one instant."""
    fixed = {"event_id": f"acme/{seat_id}{at.isoformat()}".replace("+", "-"), "seat_id": f"acme/{seat_id}"}
    fixed |= {"kind": "accepted", "source": "vendor", "occurred_at": at, "available_at": at, "count": number}
    return Event(**{**fixed, **fields})


@pytest.fixture
def seat(oracle):
    def make(seat_id, team="red", **fields):
        given = {"tool": TOOL, "assigned_at": LONG_AGO, "known_at": LONG_AGO, "team": team, "role": "sales"}
        return oracle.Version(f"acme/{seat_id}", **{**given, **fields})

    return make


@pytest.fixture
def peers_of(oracle):
    """The peer features of one seat at AS_OF, by name."""

    def features(seat_id, versions, events, sources=(), as_of=AS_OF, **changes):
        world = oracle.World(tuple(versions), tuple(events), tuple(sources), ((f"acme/{seat_id}", as_of),))
        row = world.features(**changes).row(0, named=True)
        return {name: row[name] for name in PEERS}

    return features


def bits(frame):
    vectors, categories = pack(frame)
    return vectors.tobytes(), categories


def same_counts(one, other):
    """Equal in days, groups, every count and every seat's own part of them."""
    return (
        np.array_equal(one.days, other.days)
        and one.held.equals(other.held)
        and np.array_equal(one.depth, other.depth)
        and all(one.keys[scope].equals(other.keys[scope]) for scope in Scope)
        and all(
            np.array_equal(one.counts[scope][name], other.counts[scope][name])
            for scope in Scope
            for name in one.counts[scope]
        )
    )


# --- what is counted ------------------------------------------------------------------------------------------------


def test_of_a_team_everybody_else_counts(seat, peers_of):
    team = [seat("me"), seat("ann"), seat("bob"), seat("cas"), seat("dan", team="blue")]
    row = peers_of("me", team, [uses("me", 50), uses("ann", 6), uses("bob", 2), uses("dan", 9)])
    assert (row["team_size"], row["team_share_28"], row["team_meaningful_28"]) == (3, 2 / 3, 8 / 3)


def test_of_a_role_everybody_else_counts_whatever_their_team(seat, peers_of):
    seats = [seat("me"), seat("ann", team="blue"), seat("bob", team=None), seat("cas", role="legal")]
    row = peers_of("me", seats, [uses("me", 3), uses("ann", 4), uses("cas", 9)])
    assert (row["role_size"], row["role_share_28"], row["meaningful_against_role"]) == (2, 0.5, 1.5)


@pytest.mark.parametrize(
    ("at", "counted"),
    [
        (MIDNIGHT - 28 * DAY - MICRO, 0),
        (MIDNIGHT - 28 * DAY, 1),
        (MIDNIGHT - MICRO, 1),
        (MIDNIGHT, 0),
    ],
    ids=["too old", "first", "last", "today"],
)
def test_depth_is_the_28_days_before_midnight(seat, peers_of, at, counted):
    assert peers_of("me", [seat("me"), seat("ann")], [uses("ann", 1, at)])["team_share_28"] == counted


@pytest.mark.parametrize(("delay", "counted"), [(timedelta(0), 1), (MICRO, 0)], ids=["at midnight", "after"])
def test_depth_is_of_what_was_known_at_midnight(seat, peers_of, delay, counted):
    late = uses("ann", 1, MIDNIGHT - 3 * DAY, available_at=MIDNIGHT + delay)
    assert peers_of("me", [seat("me"), seat("ann")], [late])["team_share_28"] == counted


@pytest.mark.parametrize(("known", "counted"), [(MIDNIGHT, 0), (MIDNIGHT + MICRO, 1)], ids=["by midnight", "since"])
def test_depth_ends_where_the_slowest_source_known_at_midnight_is_complete(seat, peers_of, known, counted):
    slow = Source("acme", TOOL, "vendor", 3 * DAY, known, AS_OF)
    fast = Source("acme", TOOL, "live", timedelta(0), MIDNIGHT - 99 * DAY, AS_OF)
    row = peers_of("me", [seat("me"), seat("ann")], [uses("ann", 1, MIDNIGHT - 2 * DAY)], sources=[fast, slow])
    assert row["team_share_28"] == counted


def test_a_change_is_against_the_team_of_28_days_before(seat, peers_of):
    """Then one of two others used it, now two of three."""
    seats = [seat("me"), seat("ann"), seat("bob"), seat("cas", assigned_at=MIDNIGHT - 9 * DAY)]
    events = [uses("ann", 1, MIDNIGHT - 40 * DAY), uses("ann", 1), uses("cas", 1), uses("me", 5, MIDNIGHT - 40 * DAY)]
    assert peers_of("me", seats, events)["team_share_change_28"] == 2 / 3 - 1 / 2


def test_a_seat_whose_removal_was_known_is_nobodys_peer(oracle, seat, peers_of):
    gone = oracle.replace(seat("ann"), known_at=MIDNIGHT - DAY, removed_at=MIDNIGHT)
    row = peers_of("me", [seat("me"), seat("ann"), gone, seat("bob")], [uses("ann", 1)])
    assert (row["team_size"], row["team_share_28"], row["champions_in_team"]) == (1, 0, 0)


def test_a_seat_assigned_after_midnight_is_nobodys_peer(seat, peers_of):
    assert peers_of("me", [seat("me"), seat("ann", assigned_at=MIDNIGHT + MICRO)], [])["team_size"] == 0


def test_a_seat_of_today_has_the_peers_of_midnight(seat, peers_of):
    new = seat("me", assigned_at=MIDNIGHT + HOUR, known_at=MIDNIGHT + HOUR)
    row = peers_of("me", [new, seat("ann"), seat("bob")], [uses("ann", 2)])
    assert (row["team_size"], row["team_share_28"], row["champions_in_team"]) == (2, 0.5, 1)


def test_the_team_is_that_of_midnight(oracle, seat, peers_of):
    moved = oracle.replace(seat("me"), known_at=MIDNIGHT + HOUR, team="blue")
    row = peers_of("me", [seat("me"), moved, seat("ann"), seat("bob", team="blue"), seat("cas", team="blue")], [])
    assert row["team_size"] == 1


def test_a_seat_without_team_role_or_manager_has_no_such_peers(seat, peers_of):
    alone = seat("me", team=None, role=None)
    row = peers_of("me", [alone, seat("ann", team=None, role=None), seat("bob")], [uses("bob", 1), uses("ann", 1)])
    known = {name for name in PEERS if row[name] == row[name]}
    assert known == {"leaders"}


def test_a_manager_counts_with_every_seat_of_the_tool(seat, peers_of):
    versions = [
        seat("me", manager_person_id="acme/boss"),
        seat("one", person="acme/boss"),
        seat("two", person="acme/boss", team="blue"),
        seat("three", person="acme/boss", tool="claude"),
    ]
    row = peers_of("me", versions, [uses("one", 2), uses("two", 5), uses("three", 11)])
    assert row["manager_meaningful_28"] == 7


def test_leaders_are_managers_who_hold_a_seat(seat, peers_of):
    versions = [
        seat("me", manager_person_id="acme/anna"),
        seat("ann", manager_person_id="acme/bert"),
        seat("bob", manager_person_id="acme/cleo"),
        seat("cas", person="acme/anna"),
        seat("dan", person="acme/bert"),
        seat("eve", person="acme/somebody"),
    ]
    row = peers_of("me", versions, [uses("dan", 1), uses("eve", 1)])
    assert (row["leaders"], row["leaders_share_28"], row["manager_meaningful_28"]) == (2, 0.5, 0)


# --- champions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depths", "champions"),
    [
        ([], 0),
        ([0, 0, 0], 0),
        ([1], 1),
        ([5, 3], 1),
        ([5, 5], 2),
        ([4, 3, 2, 1], 1),
        ([4, 3, 2, 1, 0, 0, 0, 0], 1),  # who did not use it is not ranked
        ([5, 4, 3, 2, 1], 2),
        ([4, 4, 3, 2, 1], 2),
        ([5, 4, 4, 4, 1], 4),
        ([1] * 9, 9),
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], 3),
    ],
)
def test_champions_are_the_top_quarter_of_those_who_used_it_and_who_is_level_with_them(
    seat, peers_of, depths, champions
):
    names = [f"s{number}" for number in range(len(depths))]
    events = [uses(name, depth) for name, depth in zip(names, depths, strict=True) if depth]
    assert peers_of("me", [seat("me"), *map(seat, names)], events)["champions_in_team"] == champions


def test_the_quarter_is_of_the_organisation_and_not_of_the_team(seat, peers_of):
    far = [seat(f"far{number}", team="blue") for number in range(3)]
    events = [uses("ann", 5), *(uses(f"far{number}", 10 + number) for number in range(3))]
    row = peers_of("me", [seat("me"), seat("ann"), *far], events)
    assert (row["team_share_28"], row["champions_in_team"], row["champion_same_role"]) == (1, 0, 0)


@pytest.mark.parametrize(("role", "known"), [("sales", 1), ("legal", 0)])
def test_a_champion_of_the_same_role_is_told_from_others(seat, peers_of, role, known):
    row = peers_of("me", [seat("me"), seat("ann", role=role)], [uses("ann", 5)])
    assert (row["champions_in_team"], row["champion_same_role"]) == (1, known)


def test_several_champions_of_the_same_role_are_one(seat, peers_of):
    row = peers_of("me", [seat("me"), seat("ann"), seat("bob")], [uses("ann", 5), uses("bob", 5)])
    assert (row["champions_in_team"], row["champion_same_role"]) == (2, 1)


def test_a_seat_is_not_its_own_champion(seat, peers_of):
    row = peers_of("me", [seat("me"), seat("ann")], [uses("me", 50)])
    assert (row["champions_in_team"], row["champion_same_role"]) == (0, 0)


# --- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "counted"),
    [
        ([MOST_USES - 1], MOST_USES - 1),
        ([MOST_USES], MOST_USES),
        ([MOST_USES + 1], MOST_USES),
        ([1_000_000], MOST_USES),
        ([40_000, 40_000], MOST_USES),
    ],
)
def test_more_uses_than_can_be_held_count_as_so_many(seat, peers_of, numbers, counted):
    events = [uses("ann", number, MIDNIGHT - day * DAY) for day, number in enumerate(numbers, start=1)]
    assert peers_of("me", [seat("me"), seat("ann")], events)["team_meaningful_28"] == counted


def test_too_many_uses_in_two_tables_count_as_in_one(oracle, seat):
    parts = [[uses("ann", 40_000)], [uses("ann", 40_000, MIDNIGHT - 2 * DAY)]]
    world = oracle.World((seat("ann"),), tuple(parts[0] + parts[1]), (), (("acme/ann", AS_OF),))
    arguments = world.arguments() | {"days": days_needed(np.array([to_microseconds(AS_OF)]))}
    arguments.pop("events")
    assert same_counts(observe(map(events_table, parts), **arguments), world.peers())


def test_too_many_of_ones_own_uses_are_taken_out_as_they_were_counted(seat, peers_of):
    row = peers_of("me", [seat("me"), seat("ann")], [uses("me", 1_000_000), uses("ann", 1_000_000)])
    assert (row["team_meaningful_28"], row["meaningful_against_role"]) == (MOST_USES, 1)


# --- the days -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "counted"), [(HOUR - MICRO, 0), (HOUR, 1)], ids=["midnight of yesterday", "midnight of today"]
)
def test_a_midnight_is_looked_at_once_it_is_an_hour_old(seat, peers_of, after, counted):
    """Until then it can be observed without anybody waiting for it."""
    row = peers_of("me", [seat("me"), seat("ann")], [uses("ann", 1, MIDNIGHT - HOUR)], as_of=MIDNIGHT + after)
    assert row["team_share_28"] == counted


def test_snapshots_need_their_midnight_and_that_of_28_days_before():
    day = to_microseconds(MIDNIGHT) // (86_400 * 10**6)
    instants = [to_microseconds(at) for at in (AS_OF, MIDNIGHT, MIDNIGHT - MICRO, AS_OF + 28 * DAY)]
    assert days_needed(np.array(instants)).tolist() == [day - 29, day - 28, day - 1, day, day + 28]


@pytest.mark.parametrize("observed", [AS_OF - DAY, AS_OF + DAY], ids=["the day before", "the day after"])
def test_a_day_that_was_not_observed_is_refused(oracle, observed):
    world = oracle.random_world(5, seats=6)
    seat_id = world.snapshots[0][0]
    one = oracle.World(world.versions, world.events, world.sources, ((seat_id, AS_OF),))
    day = to_microseconds(MIDNIGHT) // (86_400 * 10**6)
    with pytest.raises(ValueError, match=rf"peers of day {day} \(since 1970\) were not observed"):
        one.features(peers=world.peers(observed))


def test_midnight_alone_is_not_enough(oracle):
    world = oracle.random_world(5, seats=6)
    one = oracle.World(world.versions, world.events, world.sources, ((world.snapshots[0][0], AS_OF),))
    arguments = world.arguments()
    day = to_microseconds(MIDNIGHT) // (86_400 * 10**6)
    peers = observe([arguments.pop("events")], **arguments, days=np.array([day]))
    with pytest.raises(ValueError, match=f"peers of day {day - 28}"):
        one.features(peers=peers)


@given(seeds)
@LAWS
def test_more_days_than_needed_change_nothing(oracle, seed):
    world = oracle.random_world(seed, seats=10)
    looks = [at for _, at in world.snapshots]
    every = [min(looks) + number * DAY for number in range((max(looks) - min(looks)).days + 2)]
    assert bits(world.features()) == bits(world.features(peers=world.peers(*every)))


@given(seeds)
@LAWS
def test_peers_are_the_same_whenever_they_are_observed(oracle, seed):
    """At midnight, with nothing but what was known then; and later, with everything."""
    rng = random.Random(seed)
    world = oracle.random_world(seed, seats=20)
    as_of = rng.choice([at for _, at in world.snapshots])
    midnight = oracle.peers_midnight(as_of)
    present = {v.seat_id for v in world.versions if v.known_at <= midnight}
    assume(present)
    then = oracle.World(
        tuple(v for v in world.versions if v.known_at <= midnight),
        tuple(e for e in world.events if e.available_at <= midnight and e.seat_id in present),
        tuple(s for s in world.sources if s.first_available_at <= midnight),
        (),
    )
    snapshots = tuple((seat_id, as_of) for seat_id in sorted(present))
    now = oracle.World(world.versions, world.events, world.sources, snapshots)
    assert bits(now.features(peers=then.peers(as_of))) == bits(now.features())


# --- laws -----------------------------------------------------------------------------------------------------------


@given(seeds)
@LAWS
def test_how_the_events_are_spread_over_tables_changes_nothing(oracle, seed):
    rng = random.Random(seed)
    world = oracle.random_world(seed, seats=20)
    parts = [[] for _ in range(rng.randrange(1, 7))]
    for event in rng.sample(world.events, k=len(world.events)):
        rng.choice(parts).append(event)
    arguments = world.arguments()
    arguments.pop("events")
    days = days_needed(world.snapshot_frame()["as_of"].cast(pl.Int64).to_numpy())
    tables = [EVENT_SCHEMA.empty_table(), *map(events_table, parts)]
    assert same_counts(observe(tables, **arguments, days=days), world.peers())


@given(seeds)
@LAWS
def test_events_that_are_no_meaningful_use_change_nothing(oracle, seed):
    world = oracle.random_world(seed, seats=20)
    tools = {version.seat_id: version.tool for version in world.versions}
    used = [e for e in world.events if oracle.is_meaningful(e, oracle.PROFILES[tools[e.seat_id]])]
    assert same_counts(world.peers(), world.peers(events=events_table(used)))


OTHERS_ONLY = [name for name in PEERS if name.startswith(("team_", "role_"))]


def without_own_use(oracle, seed):
    """A seat's peer features as they are, and with all of its own use left out."""
    rng = random.Random(seed)
    world = oracle.random_world(seed, seats=20)
    seat_id, as_of = rng.choice(world.snapshots)
    one = oracle.World(world.versions, world.events, world.sources, ((seat_id, as_of),))
    others = oracle.World(
        world.versions, tuple(e for e in world.events if e.seat_id != seat_id), world.sources, one.snapshots
    )
    return one.features(), others.features()


@given(seeds)
@settings(LAWS, max_examples=40)
def test_own_use_never_changes_what_is_said_of_team_and_role(oracle, seed):
    one, without = without_own_use(oracle, seed)
    assert one.select(OTHERS_ONLY).equals(without.select(OTHERS_ONLY), null_equal=True)


def test_the_top_quarter_is_one_of_the_whole_organisation_the_seat_itself_included(seat, peers_of):
    """Who uses it more than everyone else leaves the others below the quarter."""
    team = [seat("me"), seat("ann")]
    rows = [peers_of("me", team, events) for events in ([uses("ann", 3)], [uses("ann", 3), uses("me", 5)])]
    assert [row["champions_in_team"] for row in rows] == [1, 0]


# --- kept and read again --------------------------------------------------------------------------------------------


@given(seeds)
@LAWS
def test_what_was_kept_is_read_again(oracle, seed):
    peers = oracle.random_world(seed, seats=20).peers()
    again = Peers.from_bytes(peers.to_bytes())
    assert same_counts(peers, again)
    assert again.to_bytes() == peers.to_bytes()


@pytest.mark.parametrize("fields", [{"team": None}, {"role": None}, {"team": None, "role": None}], ids=str)
def test_groups_that_nobody_is_in_are_kept_and_read_again(oracle, seat, fields):
    world = oracle.World((seat("me", **fields),), (uses("me", 1),), (), (("acme/me", AS_OF),))
    again = Peers.from_bytes(world.peers().to_bytes())
    assert same_counts(world.peers(), again)
    assert bits(world.features(peers=again)) == bits(world.features())


def test_an_empty_roster_has_no_peers(oracle):
    days = days_needed(np.array([to_microseconds(AS_OF)]))
    peers = observe([], roster=ROSTER_SCHEMA.empty_table(), sources=(), tools=oracle.PROFILES, days=days)
    assert same_counts(Peers.from_bytes(peers.to_bytes()), peers)
    assert [len(peers.keys[scope]) for scope in Scope] == [0] * len(Scope)


def test_events_of_unknown_seats_are_left_out_of_an_empty_roster(oracle):
    days = days_needed(np.array([to_microseconds(AS_OF)]))
    table = events_table([uses("ann", 1)])
    peers = observe([table], roster=ROSTER_SCHEMA.empty_table(), sources=(), tools=oracle.PROFILES, days=days)
    assert [len(peers.keys[scope]) for scope in Scope] == [0] * len(Scope)


# --- seats that the kept peers do not know --------------------------------------------------------------------------


@pytest.mark.parametrize("team", ["red", "new", None], ids=["a known team", "a new team", "no team"])
@pytest.mark.parametrize("role", ["sales", "astronaut"], ids=["a known role", "a new role"])
def test_a_seat_assigned_since_midnight_equals_the_batch(oracle, seat, team, role):
    """Its team, role, manager or even its tool may be new to the peers that were kept."""
    known = (seat("ann", manager_person_id="acme/ann"), seat("bob"))
    new = seat("me", team, role=role, assigned_at=AS_OF - HOUR, known_at=AS_OF - HOUR, manager_person_id="acme/new")
    events = (uses("ann", 3), uses("me", 2, AS_OF - HOUR / 2))
    kept = oracle.World(known, events[:1], (), ()).peers(AS_OF)
    everything = oracle.World((*known, new), events, (), (("acme/me", AS_OF), ("acme/ann", AS_OF)))
    assert bits(everything.features(peers=kept)) == bits(everything.features())


def test_the_first_seat_under_a_manager_equals_the_batch(oracle, seat):
    """The manager has held a seat for long, and nobody with a seat reported to them until today."""
    new = seat("me", assigned_at=AS_OF - HOUR, known_at=AS_OF - HOUR, manager_person_id="acme/annp")
    events = (uses("ann", 3),)
    kept = oracle.World((seat("ann"),), events, (), ()).peers(AS_OF)
    world = oracle.World((seat("ann"), new), events, (), (("acme/me", AS_OF),))
    assert world.features()["manager_meaningful_28"].to_list() == [3]
    assert world.features(peers=kept)["manager_meaningful_28"].to_list() == [3]


def test_the_first_seat_of_a_tool_equals_the_batch(oracle, seat):
    kept = oracle.World((seat("ann"),), (), (), ()).peers(AS_OF)
    new = seat("me", tool="claude", assigned_at=AS_OF - HOUR, known_at=AS_OF - HOUR)
    world = oracle.World((seat("ann"), new), (), (), (("acme/me", AS_OF),))
    assert bits(world.features(peers=kept)) == bits(world.features())


def alone(oracle, versions, events, peers):
    """One seat as it is computed online."""
    return compute_features(
        oracle.snapshot_frame([(versions[0].seat_id, AS_OF)]),
        events=events_table(events),
        roster=oracle.roster_table(versions),
        sources=oracle.World(tuple(versions), (), (), ()).sources,
        tools=oracle.PROFILES,
        peers=peers,
    )


def test_a_seat_registered_today_as_assigned_before_midnight_is_not_taken_out_of_counts_without_it(oracle, seat):
    """The roster's first word on a seat is known as of its assignment: known_at == assigned_at (features.log)."""
    known = (seat("ann"), seat("bob"))
    kept = oracle.World(known, (), (), ()).peers(AS_OF)
    late = seat("me", assigned_at=MIDNIGHT - 5 * DAY, known_at=MIDNIGHT - 5 * DAY)
    assert alone(oracle, [late], [], kept)["team_size"].to_list() == [2]


def test_use_that_is_imported_after_midnight_as_known_before_it_is_not_taken_out_of_counts_without_it(oracle, seat):
    """A connector's backfill: available_at is occurred_at plus the source's lag, however late it runs."""
    versions = (seat("me"), seat("ann"))
    kept = oracle.World(versions, (), (), ()).peers(AS_OF)
    row = alone(oracle, [versions[0]], [uses("me", 2)], kept)
    assert row["team_share_28"].to_list() == [0]
    assert row["team_meaningful_28"].to_list() == [0]


def test_tables_may_leave_out_what_depth_does_not_need(oracle, seat):
    world = oracle.World((seat("me"), seat("ann")), (uses("ann", 3),), (), (("acme/me", AS_OF),))
    events = events_table(world.events)
    kinds = events["kind"].combine_chunks().dictionary_encode()
    slim = events.select(["seat_id", "occurred_at", "available_at", "count", "workflow", "guided"])
    slim = slim.append_column("kind", pa.chunked_array([kinds]))
    assert same_counts(world.peers(), world.peers(events=slim))
