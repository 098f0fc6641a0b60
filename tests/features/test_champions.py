import random
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.champions import Candidate, Champions, champion_depths, champions_of, read_champions
from features.compute import SNAPSHOT_SCHEMA, compute_features
from features.events import Batch, Event, Seat, events_table, seats_table
from features.instants import to_microseconds
from features.log import EventLog
from features.observed import observed
from features.peers import days_needed
from features.tools import load_tools

DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 6, 1, tzinfo=UTC)
NOW = MIDNIGHT + timedelta(hours=9)
TOOLS = load_tools()
TODAY = int(days_needed(np.array([to_microseconds(NOW)]))[-1])


@pytest.fixture
def log(tmp_path):
    opened = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    yield opened
    opened.close()


def seat(name, team="red", role="sales", **fields):
    known = {"seat_id": f"acme/{name}", "person_id": f"acme/p-{name}", "organization": "acme", "tool": "github_copilot"}
    return Seat(**{**known, "assigned_at": MIDNIGHT - 200 * DAY, "team": team, "role": role, **fields})


def uses(name, number, days_ago=1.0):
    at = MIDNIGHT - days_ago * DAY
    known = {"event_id": f"acme/{name}-{days_ago}", "seat_id": f"acme/{name}", "kind": "accepted", "source": "vendor"}
    return Event(**known, occurred_at=at, available_at=at, count=number)


def fill(log, seats, events):
    log.append(Batch(seats_table(seats), events_table(events)), now=NOW)
    days = days_needed(np.array([to_microseconds(NOW)]))
    peers = observed(log, TOOLS, days)
    log.keep_peers(TODAY, peers.to_bytes())
    return peers


def names(log, name, **read):
    (row,) = log.seats([f"acme/{name}"]).to_pylist()
    return [candidate.person_id for candidate in read_champions(log, now=NOW, **read).of(row)]


@pytest.mark.parametrize("seed", range(5))
def test_somebody_has_a_champion_to_ask_where_the_feature_says_that_there_is_one(log, seed):
    rng = random.Random(seed)
    seats = [seat(f"s{n}", rng.choice(["red", "blue", None]), rng.choice(["sales", "clerk", None])) for n in range(60)]
    events = [uses(f"s{n}", rng.choice([1, 2, 3, 5, 8]), rng.uniform(0.1, 40)) for n in range(60) if rng.random() < 0.7]
    peers = fill(log, seats, events)
    snapshots = pl.DataFrame({"seat_id": [one.seat_id for one in seats], "as_of": [NOW] * 60}, schema=SNAPSHOT_SCHEMA)
    features = compute_features(
        snapshots, events=log.events(), roster=log.roster(), sources=log.sources(), tools=TOOLS, peers=peers
    )

    has_one = dict(features.select("seat_id", "champion_same_role").iter_rows())
    found = read_champions(log, now=NOW)

    said = {row["seat_id"]: bool(found.of(row)) for row in log.seats().to_pylist()}
    assert said == {seat_id: value == 1 for seat_id, value in has_one.items()}
    assert sum(said.values()) > 0


def test_the_deepest_comes_first_and_nobody_is_their_own(log):
    fill(
        log,
        [seat("me"), seat("ann"), seat("bob"), *(seat(f"x{n}", "blue") for n in range(6))],
        [uses("me", 9), uses("ann", 5), uses("bob", 7), *(uses(f"x{n}", 1) for n in range(6))],
    )

    assert names(log, "ann") == ["acme/p-me", "acme/p-bob"]  # of nine users three are the top quarter, and level ones
    assert names(log, "me") == ["acme/p-bob", "acme/p-ann"]


def test_a_colleague_of_another_role_team_or_tool_is_no_champion(log):
    others = [seat("a", role="clerk"), seat("b", "blue"), seat("c", tool="claude")]
    fill(log, [seat("me"), *others], [uses(name, 9) for name in "abc"])

    assert names(log, "me") == []


def test_who_left_today_is_not_asked(log):
    fill(log, [seat("me"), seat("ann")], [uses("ann", 9)])
    assert names(log, "me") == ["acme/p-ann"]

    log.append(Batch(seats_table([seat("ann", removed_at=NOW - timedelta(hours=1))]), events_table([])), now=NOW)

    assert names(log, "me") == []


def test_champions_of_the_day_are_read_once_and_again_on_the_next(log):
    fill(log, [seat("me"), seat("ann")], [uses("ann", 9)])
    first = read_champions(log, now=NOW)

    assert read_champions(log, now=NOW, known=first) is first
    days = days_needed(np.array([to_microseconds(NOW + DAY)]))
    log.keep_peers(TODAY + 1, observed(log, TOOLS, days).to_bytes())
    assert read_champions(log, now=NOW + DAY, known=first).day == TODAY + 1


def test_what_was_counted_days_ago_names_nobody(log):
    fill(log, [seat("me"), seat("ann")], [uses("ann", 9)])

    assert read_champions(log, now=NOW + DAY).day == TODAY
    assert read_champions(log, now=NOW + 2 * DAY) == Champions()


def test_an_empty_log_has_no_champions(log):
    assert read_champions(log, now=NOW) == Champions()


def test_a_person_with_two_seats_is_one_candidate(log):
    peers = fill(
        log, [seat("me"), seat("a1", person_id="acme/p-ann"), seat("a2", person_id="acme/p-ann")], [uses("a1", 9), uses("a2", 8)]
    )  # fmt: skip

    depths = champion_depths(peers, TODAY).with_columns(pl.lit(5).alias("uses"))
    everyone = pl.concat([depths, pl.DataFrame({"seat_id": ["acme/a2"], "uses": [4]}, schema=depths.schema)]).unique(
        "seat_id"
    )

    (found,) = champions_of(everyone, log.seats(), now=NOW).values()
    assert found == (Candidate("acme/p-ann", int(everyone["uses"].sum())),)
