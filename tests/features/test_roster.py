import random
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.instants import to_microseconds
from features.roster import NEVER, Roster
from features.sources import Source
from features.tables import ROSTER_SCHEMA

DAY, HOUR, MICRO = timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)
AS_OF = datetime(2026, 6, 1, 9, 30, tzinfo=UTC)
DAY_MICROSECONDS = 86_400 * 10**6
LAWS = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 10**6)


@pytest.fixture
def version(oracle):
    def make(seat_id, tool="fast", assigned_at=AS_OF - 9 * DAY, known_at=AS_OF - 9 * DAY, **fields):
        return oracle.Version(seat_id, tool, assigned_at, known_at, **fields)

    return make


@pytest.fixture
def roster(oracle):
    return lambda *versions: Roster.of(oracle.roster_table(versions))


def microseconds(*instants):
    return np.array([to_microseconds(at) for at in instants], np.int64)


def roles(book, rows):
    return book.frame["role"][rows].to_list()


# --- versions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(version, roster):
    """One seat of three versions between two seats of one."""
    said = [(AS_OF - 9 * DAY, "sales"), (AS_OF - DAY, "legal"), (AS_OF, "support")]
    middle = [version("acme/s2", known_at=known_at, role=role) for known_at, role in said]
    return roster(version("acme/s1", role="before"), *middle, version("acme/s3", role="after"))


@pytest.mark.parametrize(
    ("instant", "role"),
    [
        (AS_OF - 99 * DAY, "sales"),  # the first word on a seat also speaks of the time before it
        (AS_OF - 9 * DAY, "sales"),
        (AS_OF - DAY - MICRO, "sales"),
        (AS_OF - DAY, "legal"),
        (AS_OF - MICRO, "legal"),
        (AS_OF, "support"),
        (AS_OF + 99 * DAY, "support"),
    ],
)
def test_the_version_is_the_last_that_was_known_at_the_instant(three, instant, role):
    assert roles(three, three.at(np.array([1]), microseconds(instant))) == [role]


@pytest.mark.parametrize("seat", [0, 2])
def test_the_versions_of_one_seat_are_not_those_of_its_neighbours(three, seat):
    instants = microseconds(AS_OF - 99 * DAY, AS_OF, AS_OF + 99 * DAY)
    assert roles(three, three.at(np.full(3, seat), instants)) == [["before", "", "after"][seat]] * 3


@given(seeds)
@LAWS
def test_versions_equal_the_slow_oracle(oracle, seed):
    rng = random.Random(seed)
    world = oracle.random_world(seed, seats=12)
    rows = rng.sample(world.versions, k=len(world.versions))
    book = Roster.of(oracle.roster_table(rows).take(rng.sample(range(len(rows)), k=len(rows))))
    facts = oracle.Facts(world)
    looks = [*world.snapshots, *((v.seat_id, v.known_at + rng.choice([-1, 0, 1]) * MICRO) for v in rows)]
    expected = [oracle.version_at(facts.versions[seat_id], at) for seat_id, at in looks]
    found = book.at(book.numbers(pl.Series([seat_id for seat_id, _ in looks])), microseconds(*(at for _, at in looks)))
    columns = ("seat_id", "known_at", "role", "team", "manager_person_id", "removed_at", "person_id")
    assert book.frame[found].select(columns).rows() == [
        tuple(getattr(version, name) for name in columns) for version in expected
    ]


@given(seeds)
@LAWS
def test_a_part_of_the_roster_says_of_its_seats_what_the_whole_says(oracle, seed):
    rng = random.Random(seed)
    world = oracle.random_world(seed, seats=12)
    book = Roster.of(oracle.roster_table(world.versions))
    seats = np.array(sorted(rng.sample(range(len(book)), k=rng.randrange(1, len(book) + 1))))
    part = book.take(seats)
    instants = microseconds(*(at for _, at in world.snapshots[: len(seats)]))
    whole_rows, part_rows = book.at(seats, instants), part.at(np.arange(len(seats)), instants)
    assert part.seat_ids.to_list() == book.seat_ids[seats].to_list()
    assert part.frame[part_rows].equals(book.frame[whole_rows], null_equal=True)
    assert [part.tools[tool] for tool in part.tool] == [book.tools[tool] for tool in book.tool[seats]]


def test_an_empty_roster_has_no_seats():
    assert len(Roster.of(ROSTER_SCHEMA.empty_table())) == 0


# --- seats ----------------------------------------------------------------------------------------------------------


def test_a_seats_number_is_its_place_among_the_sorted_names(three):
    assert three.seat_ids.to_list() == ["acme/s1", "acme/s2", "acme/s3"]
    assert three.numbers(pl.Series(["acme/s3", "acme/s1", "acme/s3"])).tolist() == [2, 0, 2]


def test_a_seat_that_is_not_in_the_roster_is_refused_by_name(three):
    with pytest.raises(ValueError, match="seat 'acme/s9' was never assigned; send its seat first"):
        three.numbers(pl.Series(["acme/s1", "acme/s9"]))


@pytest.mark.parametrize(
    ("instant", "is_active"),
    [
        (AS_OF - 9 * DAY - MICRO, False),
        (AS_OF - 9 * DAY, True),
        (AS_OF - MICRO, True),
        (AS_OF, False),
    ],
    ids=["before", "assigned", "last", "removed"],
)
def test_a_seat_is_active_from_its_assignment_up_to_its_removal(version, roster, instant, is_active):
    book = roster(version("acme/s1", removed_at=AS_OF))
    assert book.is_active(np.array([0]), microseconds(instant)).tolist() == [is_active]


def test_a_seat_that_was_not_removed_stays_active(version, roster):
    book = roster(version("acme/s1"))
    assert book.removed_at.tolist() == [NEVER]
    assert book.is_active(np.array([0]), microseconds(AS_OF + 9999 * DAY)).all()


def test_groups_are_found_by_all_of_their_columns(version, roster):
    book = roster(
        version("acme/s1", team="red", role="sales"),
        version("acme/s2", team="red", role=None),
        version("acme/s3", team="blue", role="sales"),
        version("zeta/s4", team="red", role="sales"),
    )
    keys = pl.DataFrame({"organization": ["zeta", "acme"], "team": ["red", "red"], "role": ["sales", "sales"]})
    assert book.positions(keys).tolist() == [1, -1, -1, 0]


# --- lag ------------------------------------------------------------------------------------------------------------


def lag(book, sources, *instants):
    return (book.lag(sources, np.zeros(len(instants), np.int64), microseconds(*instants)) / DAY_MICROSECONDS).tolist()


def test_a_source_lags_only_from_its_first_message_on(version, roster):
    source = Source("acme", "fast", "vendor", DAY, AS_OF, AS_OF)
    assert lag(roster(version("acme/s1")), [source], AS_OF - MICRO, AS_OF, AS_OF + 99 * DAY) == [0, 1, 1]


def test_the_slowest_of_the_own_sources_sets_the_lag(version, roster):
    sources = [
        Source(organization, tool, f"source{number}", one, AS_OF - 99 * DAY, AS_OF)
        for number, (organization, tool, one) in enumerate(
            [
                ("acme", "fast", HOUR),
                ("acme", "fast", DAY),
                ("acme", "fast", timedelta(0)),
                ("acme", "claude", 9 * DAY),
                ("zeta", "fast", 7 * DAY),
            ]
        )
    ]
    book = roster(version("acme/s1"), version("acme/s2", tool="claude"))
    assert lag(book, sources, AS_OF) == lag(book, sources[::-1], AS_OF) == [1]


def test_without_a_source_there_is_no_lag(version, roster):
    assert lag(roster(version("acme/s1")), [], AS_OF) == [0]


@given(seeds)
@LAWS
def test_lags_equal_the_slow_oracle(oracle, seed):
    world = oracle.random_world(seed, seats=12)
    book, facts = Roster.of(oracle.roster_table(world.versions)), oracle.Facts(world)
    firsts = [source.first_available_at + shift for source in world.sources for shift in (-MICRO, timedelta(0))]
    looks = [(seat_id, at) for seat_id in facts.versions for at in firsts]
    instants = microseconds(*(at for _, at in looks))
    version = book.at(book.numbers(pl.Series([seat_id for seat_id, _ in looks])), instants)
    expected = [oracle.lag_of(facts.versions[seat_id][0], world.sources, at) for seat_id, at in looks]
    assert book.lag(world.sources, version, instants).tolist() == [one // MICRO for one in expected]
