import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

import features
import features.definitions
import features.store
from features.catalogue import CATEGORIES, FEATURES, NUMERIC, Group, catalogue_hash
from features.compute import FEATURE_DTYPES, SNAPSHOT_SCHEMA, pack
from features.definitions import FRESH_FOR, ONLINE_VIEW, RISK_SERVICE, repository, view_name
from features.store import CatalogueMismatch, FeatureStore
from features.tools import load_tools

pytestmark = [
    # ibis, under Feast's DuckDB store, calls what DuckDB 1.4 deprecated
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning:ibis"),
]

SEED = 110
DAY, MICRO = timedelta(days=1), timedelta(microseconds=1)
AS_OF = datetime(2026, 5, 4, 9, 30, 15, 123_457, tzinfo=UTC)
ODD = (np.nan, -0.0, 5e-324, 1 / 3, 1e300, -np.inf)


def rows(keys, seed=SEED):
    """Features of the (seat, as_of) keys: random numbers, a fifth of them missing, and some that are hard to keep."""
    rng, n = np.random.default_rng(seed), len(keys)
    numbers = np.where(rng.random((n, len(NUMERIC))) < 0.2, np.nan, rng.normal(0, 1e3, (n, len(NUMERIC))))
    numbers[0, : len(ODD)] = ODD
    columns = {feature.name: numbers[:, position] for position, feature in enumerate(NUMERIC)}
    columns |= {feature.name: rng.choice(["", "analyst", "Zoë, «R&D»"], n) for feature in CATEGORIES}
    data = {"seat_id": [seat for seat, _ in keys], "as_of": [as_of for _, as_of in keys], **columns}
    return pl.DataFrame(data, schema_overrides=SNAPSHOT_SCHEMA).select("seat_id", "as_of", *FEATURE_DTYPES)


def asked(keys):
    return pl.DataFrame(keys, schema=SNAPSHOT_SCHEMA, orient="row")


def bits(frame):
    """Everything as bytes: equal only if every number has the same bits; a missing number is the one NaN."""
    vectors, categories = pack(frame)
    vectors = np.where(np.isnan(vectors), np.nan, vectors)
    return frame["seat_id"].to_list(), frame["as_of"].to_list(), vectors.tobytes(), categories


@pytest.fixture(scope="module")
def written():
    return rows([(f"acme/s-{seat}", AS_OF + 7 * week * DAY + seat * MICRO) for seat in range(8) for week in range(3)])


@pytest.fixture(scope="module")
def offline_home(tmp_path_factory):
    return tmp_path_factory.mktemp("offline")


@pytest.fixture(scope="module")
def offline(offline_home, written):
    """A store with three weeks of eight seats; nobody writes to it."""
    store = FeatureStore(offline_home)
    store.apply()
    store.write_offline([written])
    return store


@pytest.fixture
def store(tmp_path, online_at):
    opened = FeatureStore(tmp_path, redis=online_at)
    opened.apply()
    return opened


# --- offline --------------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_in_the_order_asked_for(offline, written):
    shuffled = written.sample(fraction=1.0, shuffle=True, seed=SEED)
    assert bits(offline.historical(shuffled.select("seat_id", "as_of"))) == bits(shuffled)


def test_the_columns_are_those_of_the_catalogue_in_its_order(offline, written):
    found = offline.historical(written.select("seat_id", "as_of"))
    assert dict(found.schema) == {**SNAPSHOT_SCHEMA, **FEATURE_DTYPES}
    assert found.columns == ["seat_id", "as_of", *(feature.name for feature in FEATURES)]


def test_a_snapshot_asked_for_twice_comes_twice(offline, written):
    twice = pl.concat([written[[5, 5]], written[[2]], written[[5]]])
    assert bits(offline.historical(twice.select("seat_id", "as_of"))) == bits(twice)


def test_a_microsecond_before_a_row_it_cannot_be_seen(offline, written):
    seat, as_of = written.row(1)[:2]  # the second week of the first seat
    found = offline.historical(asked([(seat, as_of - MICRO), (seat, as_of)]))
    assert bits(found)[2:] == bits(written[[0, 1]])[2:]


def test_before_its_first_row_a_seat_has_no_features(offline, written):
    seat, as_of = written.row(0)[:2]
    vectors, categories = pack(offline.historical(asked([(seat, as_of - MICRO)])))
    assert np.isnan(vectors).all()
    assert categories == [[None] * len(CATEGORIES)]


def test_a_row_serves_for_seven_days_and_is_then_missing_but_not_dropped(offline, written):
    assert timedelta(days=7) == FRESH_FOR
    seat, as_of = written.row(2)[:2]  # the last week
    found = offline.historical(asked([(seat, as_of + FRESH_FOR), (seat, as_of + FRESH_FOR + MICRO)]))
    vectors, _ = pack(found)
    assert found.height == 2
    assert bits(found[[0]])[2:] == bits(written[[2]])[2:]
    assert np.isnan(vectors[1]).all()


def test_an_unknown_seat_has_no_features_and_keeps_its_place(offline, written):
    seat, as_of = written.row(0)[:2]
    found = offline.historical(asked([("acme/nobody", as_of), (seat, as_of)]))
    assert found["seat_id"].to_list() == ["acme/nobody", seat]
    assert np.isnan(pack(found)[0][0]).all()
    assert bits(found[[1]]) == bits(written[[0]])


def test_writing_again_replaces_what_was_there(store, written):
    store.write_offline([written])
    other = rows([("acme/s-0", AS_OF)], seed=SEED + 1)
    store.write_offline([other])
    assert bits(store.historical(other.select("seat_id", "as_of"))) == bits(other)
    assert store.snapshots().equals(other.select("seat_id", "as_of"))


def test_a_model_keeps_the_features_it_was_trained_on_when_the_catalogue_changes(tmp_path, written, monkeypatch):
    store = FeatureStore(tmp_path)
    store.apply()
    store.write_offline([written])
    name = store.register_model("rekindle-risk", "3")
    for module in (features.definitions, features.store):
        monkeypatch.setattr(module, "catalogue_hash", lambda: "0123456789abcdef")
    store.apply()
    other = rows([(seat, at) for seat, at in written.select("seat_id", "as_of").rows()], seed=SEED + 1)
    store.write_offline([other])

    entity = written.select("seat_id", pl.col("as_of").alias("event_timestamp")).with_row_index("row")
    job = store._feast.get_historical_features(
        entity_df=entity.to_pandas(), features=store._feast.get_feature_service(name)
    )
    kept = pl.DataFrame(pl.from_arrow(job.to_arrow())).sort("row")
    assert [kept[f.name].equals(written[f.name]) for f in FEATURES] == [True] * len(FEATURES)
    assert bits(store.historical(other.select("seat_id", "as_of"))) == bits(other)
    store.erase([written["seat_id"][0]])
    for path in (tmp_path / "offline").glob("*/snapshots.parquet"):
        assert written["seat_id"][0] not in pl.read_parquet(path)["seat_id"].to_list()


def test_the_built_snapshots_can_be_listed(offline, written):
    assert offline.snapshots().equals(written.select("seat_id", "as_of"))


def test_nothing_built_is_said_in_a_sentence(store):
    with pytest.raises(ValueError, match="no features have been built yet: run `rekindle features build`"):
        store.snapshots()


def test_the_created_timestamp_is_when_the_row_was_known(offline, offline_home):
    folder = offline_home / "offline"
    for group in Group:
        frame = pl.read_parquet(folder / view_name(group) / "snapshots.parquet")
        assert frame["created_at"].equals(frame["as_of"], check_names=False), group
        assert frame.columns == ["seat_id", "as_of", "created_at", *(f.name for f in FEATURES if f.group is group)]


# --- online ---------------------------------------------------------------------------------------------------------


def test_what_was_pushed_is_served_to_the_bit(store):
    latest = rows([(f"acme/s-{seat}", AS_OF + seat * MICRO) for seat in range(30)])
    assert store.push(latest) == 30
    vectors, categories = pack(latest)
    found = store.online(latest["seat_id"].to_list())
    assert np.stack([row.vector for row in found]).tobytes() == vectors.tobytes()
    assert [list(row.categories) for row in found] == categories
    assert [row.as_of for row in found] == latest["as_of"].to_list()
    assert [row.seat_id for row in found] == latest["seat_id"].to_list()


def test_online_and_offline_agree(store):
    latest = rows([(f"acme/s-{seat}", AS_OF) for seat in range(10)])
    store.write_offline([latest])
    store.push(latest)
    vectors, categories = pack(store.historical(latest.select("seat_id", "as_of")))
    found = store.online(latest["seat_id"].to_list())
    np.testing.assert_array_equal(np.stack([row.vector for row in found]), vectors)
    assert [list(row.categories) for row in found] == categories


def test_seats_come_in_the_order_asked_for_and_unknown_ones_are_none(store):
    store.push(rows([("acme/s-1", AS_OF), ("acme/s-2", AS_OF)]))
    found = store.online(["acme/s-2", "acme/nobody", "acme/s-1", "acme/s-2"])
    assert [row and row.seat_id for row in found] == ["acme/s-2", None, "acme/s-1", "acme/s-2"]


def test_before_anything_was_pushed_every_seat_is_none(store):
    assert store.online(["acme/s-1"]) == [None]


def test_no_seats_are_no_rows(store):
    assert store.online([]) == []


def test_a_newer_row_replaces_the_older_one(store):
    store.push(rows([("acme/s-1", AS_OF)]))
    newer = rows([("acme/s-1", AS_OF + MICRO)], seed=SEED + 1)
    assert store.push(newer) == 1
    assert store.online(["acme/s-1"])[0].vector.tobytes() == pack(newer)[0].tobytes()


def test_an_older_row_does_not_replace_the_newer_one(store):
    newer = rows([("acme/s-1", AS_OF)])
    store.push(newer)
    older = rows([("acme/s-1", AS_OF - MICRO), ("acme/s-2", AS_OF - MICRO)], seed=SEED + 1)
    assert store.push(older) == 1
    kept, other = store.online(["acme/s-1", "acme/s-2"])
    assert (kept.as_of, kept.vector.tobytes()) == (AS_OF, pack(newer)[0].tobytes())
    assert other.as_of == AS_OF - MICRO


def test_of_several_rows_of_a_seat_the_latest_is_pushed(store):
    history = rows([("acme/s-1", AS_OF), ("acme/s-1", AS_OF + 2 * DAY), ("acme/s-1", AS_OF + DAY)])
    assert store.push(history) == 1
    assert store.online(["acme/s-1"])[0].as_of == AS_OF + 2 * DAY


def test_pushing_nothing_writes_nothing(store):
    assert store.push(rows([("acme/s-1", AS_OF)]).clear()) == 0


def test_a_row_of_another_catalogue_is_refused_by_name(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(features.store, "catalogue_hash", lambda: "0123456789abcdef")
        store.push(rows([("acme/s-1", AS_OF)]))
    message = rf"seat acme/s-1 are of catalogue 0123456789abcdef, now {catalogue_hash()}: run `rekindle features sweep`"
    with pytest.raises(CatalogueMismatch, match=message):
        store.online(["acme/s-1"])


@pytest.mark.parametrize(
    ("change", "is_refused"),
    [
        ("quick_close_seconds: 99", True),
        ("opportunity_kinds: [work]", True),
        ("title: Another", False),
        ("silence_days: 9", False),
    ],
)
def test_a_row_of_another_profile_of_its_tool_is_refused_and_no_other(store, tmp_path, online_at, change, is_refused):
    """What the profile changes the values of: as much as the catalogue does."""
    both = rows([("acme/s-1", AS_OF), ("acme/s-2", AS_OF)]).with_columns(tool=pl.Series(["m365_copilot", "claude"]))
    store.push(both)
    own = load_tools()["m365_copilot"].model_dump(mode="json") | yaml.safe_load(change)
    (tmp_path / "tools.yaml").write_text(yaml.safe_dump({"tools": {"m365_copilot": own}}))
    changed = FeatureStore(tmp_path, redis=online_at)
    with pytest.raises(CatalogueMismatch, match="acme/s-1") if is_refused else nullcontext():
        changed.online(["acme/s-1"])
    assert changed.online(["acme/s-2"])[0].as_of == AS_OF


def test_age_is_counted_from_as_of(store):
    store.push(rows([("acme/s-1", AS_OF)]))
    assert store.online(["acme/s-1"])[0].age_seconds(AS_OF + timedelta(hours=2)) == 7200


def test_another_process_sees_what_was_pushed(store, tmp_path, online_at):
    store.push(rows([("acme/s-1", AS_OF)]))
    again = FeatureStore(tmp_path, redis=online_at)
    again.apply()
    assert again.online(["acme/s-1"])[0].as_of == AS_OF


def test_forgetting_drops_every_online_row(store):
    store.push(rows([("acme/s-1", AS_OF)]))
    store.forget()
    store.apply()
    assert store.online(["acme/s-1"]) == [None]


# --- what Feast knows -----------------------------------------------------------------------------------------------


def test_applying_twice_is_harmless(store, tmp_path):
    latest = rows([("acme/s-1", AS_OF)])
    store.push(latest)
    store.write_offline([latest])
    store.apply()
    assert store.online(["acme/s-1"])[0].as_of == AS_OF
    assert bits(store.historical(latest.select("seat_id", "as_of"))) == bits(latest)


def test_every_feature_is_in_the_view_of_its_group(tmp_path):
    views = {item.name: item for item in repository(tmp_path)}
    for group in Group:
        assert {field.name for field in views[view_name(group)].schema} - {"seat_id"} == {
            feature.name for feature in FEATURES if feature.group is group
        }
    assert {projection.name for projection in views[RISK_SERVICE].feature_view_projections} == set(
        map(view_name, Group)
    )
    assert ONLINE_VIEW in views


def listing(folder):
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in Path(folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_feasts_own_command_line_applies_the_same_store_and_writes_only_under_the_state_folder(tmp_path):
    source = Path(features.__file__).parent
    before = listing(source)
    (tmp_path / "feast").mkdir()
    variables = {**os.environ, "REKINDLE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "FEAST_USAGE": "False"}
    command = shutil.which("feast", path=str(Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run([command, "apply"], cwd=source, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert listing(source) == before
    assert (tmp_path / "feast" / "registry.db").exists()
    store, latest = FeatureStore(tmp_path), rows([("acme/s-1", AS_OF)])
    store.write_offline([latest])
    store.push(latest)
    assert store.online(["acme/s-1"])[0].vector.tobytes() == pack(latest)[0].tobytes()
    assert bits(store.historical(latest.select("seat_id", "as_of"))) == bits(latest)


def test_materialising_writes_what_pushing_writes(store, written, tmp_path):
    seats = written["seat_id"].unique().to_list()
    store.write_offline([written])
    store.materialize(until=AS_OF + 60 * DAY)
    pushed = FeatureStore(tmp_path / "other")
    pushed.apply()
    pushed.push(written)
    for one, other in zip(store.online(seats), pushed.online(seats), strict=True):
        assert (one.as_of, one.vector.tobytes(), one.categories) == (
            other.as_of,
            other.vector.tobytes(),
            other.categories,
        )


def test_a_row_that_was_made_later_than_the_label_is_not_seen(store, tmp_path, written):
    store.write_offline([written])
    for folder in (tmp_path / "offline").iterdir():
        path = folder / "snapshots.parquet"
        frame = pl.read_parquet(path)
        frame.with_columns(pl.col("created_at") + timedelta(hours=1)).write_parquet(path)
    first = written.filter(
        pl.col("as_of") == pl.col("as_of").min().over("seat_id")
    )  # no earlier row stands in for these
    assert store.historical(first.select("seat_id", "as_of"))["active_days_7"].null_count() == first.height


# --- Feast's point-in-time join against our own ---------------------------------------------------------------------

HOUR = timedelta(hours=1)


def write_made_later(store, home, made):
    """Offline rows as (seat, as_of, created_at); every number of the row at place n is n."""
    frame = rows([(seat, as_of) for seat, as_of, _ in made])
    places = pl.Series(range(len(made)), dtype=pl.Float64)
    store.write_offline([frame.with_columns(places.alias(feature.name) for feature in NUMERIC)])
    for group in Group:
        path = home / "offline" / view_name(group) / "snapshots.parquet"
        created = pl.Series("created_at", [at for *_, at in made], dtype=pl.Datetime("us", "UTC"))
        pl.read_parquet(path).with_columns(created).write_parquet(path)


def places_of(found):
    """(n,) by row the one number in all of its columns, None where all are missing; a mixed row fails."""
    vectors = pack(found)[0]
    assert (np.isnan(vectors).all(axis=1) | ~np.isnan(vectors).any(axis=1)).all()
    np.testing.assert_array_equal(vectors, vectors[:, :1].repeat(vectors.shape[1], axis=1))
    return [None if np.isnan(value) else int(value) for value in vectors[:, 0]]


def our_place(made, seat, at):
    """Our own rule, over lists: of the seat's rows that were made by then and are of the last seven days, both ends
    included, the latest; of one instant that which was made last.
    """
    known = [
        (as_of, created, place)
        for place, (owner, as_of, created) in enumerate(made)
        if owner == seat and created <= at and at - FRESH_FOR <= as_of <= at
    ]
    return max(known)[2] if known else None


@pytest.fixture(scope="module")
def adversarial(tmp_path_factory):
    """Rows on each other's edges, labels a microsecond to each side of everything, and what Feast makes of them."""
    rng = np.random.default_rng(SEED)
    home = tmp_path_factory.mktemp("adversarial")
    made = set()
    for seat in range(40):
        instants = AS_OF + np.arange(8) * DAY * 3.5
        for _ in range(rng.integers(1, 12)):
            as_of = rng.choice(instants) + int(rng.integers(-1, 2)) * MICRO
            late = rng.choice(
                [0 * DAY, 0 * DAY, 0 * DAY, MICRO, HOUR, 3.5 * DAY, FRESH_FOR, FRESH_FOR + MICRO, 20 * DAY]
            )
            made.add((f"acme/s-{seat}", as_of, as_of + late))
    ordered = sorted(made)
    made = [ordered[place] for place in rng.permutation(len(ordered))]
    labels = [
        (seat, instant + shift)
        for seat, as_of, created in made
        for instant in (as_of, created, as_of + FRESH_FOR, created + FRESH_FOR)
        for shift in (-MICRO, 0 * MICRO, MICRO)
    ]
    labels += [("acme/nobody", AS_OF), ("acme/s-0", AS_OF - 99 * DAY)]
    labels = [labels[place] for place in rng.permutation(len(labels))]
    store = FeatureStore(home)
    store.apply()
    write_made_later(store, home, made)
    return made, labels, store.historical(asked(labels))


def test_feasts_join_equals_our_own_on_adversarial_rows(adversarial):
    made, labels, found = adversarial
    assert places_of(found) == [our_place(made, seat, at) for seat, at in labels]


def test_feasts_join_keeps_every_label_in_its_place_duplicates_too(adversarial):
    _, labels, found = adversarial
    assert found.select("seat_id", "as_of").rows() == labels
    assert len(set(labels)) < len(labels)


def test_the_adversarial_rows_hold_every_hard_case(adversarial):
    made, labels, _ = adversarial
    by_seat = {seat: [row for row in made if row[0] == seat] for seat, _, _ in made}
    seen = set()
    for seat, at in labels:
        own = by_seat.get(seat, [])
        seen |= {"no row at all"} if not own else set()
        seen |= {"before the first row"} if own and at < min(as_of for _, as_of, _ in own) else set()
        seen |= {"equal timestamps"} if any(as_of == at for _, as_of, _ in own) else set()
        seen |= {"made at the label"} if any(created == at > as_of for _, as_of, created in own) else set()
        seen |= {"made after the label"} if any(as_of <= at < created for _, as_of, created in own) else set()
        seen |= {"exactly seven days"} if any(as_of + FRESH_FOR == at for _, as_of, _ in own) else set()
        seen |= {"a microsecond more"} if any(as_of + FRESH_FOR + MICRO == at for _, as_of, _ in own) else set()
        instants = [as_of for _, as_of, created in own if created <= at]
        seen |= {"two rows of one instant"} if len(set(instants)) < len(instants) else set()
    assert seen == {
        "no row at all", "before the first row", "equal timestamps", "made at the label", "made after the label",
        "exactly seven days", "a microsecond more", "two rows of one instant",
    }  # fmt: skip


@pytest.fixture(scope="module")
def few_rows(tmp_path_factory):
    """The row that serves a label of one seat, or None."""
    home = tmp_path_factory.mktemp("few")
    made = [
        ("acme/s-1", AS_OF, AS_OF),  # 0
        ("acme/s-1", AS_OF, AS_OF + HOUR),  # 1: the same instant, computed again
        ("acme/s-1", AS_OF + DAY, AS_OF + 3 * DAY),  # 2: two days late
        ("acme/s-2", AS_OF, AS_OF),  # 3
        ("acme/s-2", AS_OF, AS_OF),  # the same again
    ]
    store = FeatureStore(home)
    store.apply()
    write_made_later(store, home, made)
    labels = {
        "before": ("acme/s-1", AS_OF - MICRO),
        "equal": ("acme/s-1", AS_OF),
        "just before it was computed again": ("acme/s-1", AS_OF + HOUR - MICRO),
        "when it was computed again": ("acme/s-1", AS_OF + HOUR),
        "while the later row is late": ("acme/s-1", AS_OF + 3 * DAY - MICRO),
        "when the late row has come": ("acme/s-1", AS_OF + 3 * DAY),
        "seven days": ("acme/s-1", AS_OF + 8 * DAY),
        "more than seven days": ("acme/s-1", AS_OF + 8 * DAY + MICRO),
    }
    found = places_of(store.historical(asked(list(labels.values()))))
    full_tie = store.historical(asked([("acme/s-2", AS_OF), ("acme/s-2", AS_OF), ("acme/s-2", AS_OF + DAY)]))
    return dict(zip(labels, found, strict=True)), full_tie


@pytest.mark.parametrize(
    ("label", "place"),
    [
        ("before", None),
        # By design an equal timestamp counts as known: the row of an instant is made of events strictly before it.
        ("equal", 0),
        ("just before it was computed again", 0),
        ("when it was computed again", 1),
        ("while the later row is late", 1),
        ("when the late row has come", 2),
        # By design the edge of the week is included: a row serves until the next weekly one, and at that instant, too.
        ("seven days", 2),
        ("more than seven days", None),
    ],
)
def test_which_row_serves_a_label(few_rows, label, place):
    assert few_rows[0][label] == place


def test_two_rows_of_one_instant_made_at_one_instant_serve_a_label_once(few_rows):
    """Feast may take the numbers of one view from the one and those of another from the other: they must be the same,
    as features of one seat and instant are.
    """
    _, found = few_rows
    assert found.height == 3
    assert np.isin(pack(found)[0], [3, 4]).all()


def test_a_label_between_two_snapshots_gets_what_was_computed_at_the_last(store, oracle):
    """Of a random world, from events to the join: neither what happened nor what became known since the snapshot."""
    world = oracle.random_world(31, seats=25, looks=3)
    weeks = [oracle.START + 9.4 * HOUR + week * FRESH_FOR for week in range(4, 14)]
    edges = [event.occurred_at for event in world.events] + [event.available_at for event in world.events]
    weeks.append(next(at for at in edges if weeks[3] < at < weeks[4]))  # one at an event's own instant
    seats = sorted({version.seat_id for version in world.versions})
    weekly = oracle.World(world.versions, world.events, world.sources, tuple((s, at) for s in seats for at in weeks))
    built = weekly.features()
    store.write_offline([built])
    labels = [
        (event.seat_id, at + shift)
        for event in world.events
        for at in (event.occurred_at, event.available_at)
        for shift in (0 * MICRO, MICRO)
        if weeks[0] <= at < weeks[9]
    ]
    served = [(seat, max(week for week in weeks if week <= at)) for seat, at in labels]
    place = {key: number for number, key in enumerate(built.select("seat_id", "as_of").rows())}
    expected = built[[place[key] for key in served]]
    assert bits(store.historical(asked(labels)))[2:] == bits(expected)[2:]
