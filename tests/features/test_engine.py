"""Features on a cluster equal those of one process to the bit, whatever dies on the way."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import polars as pl
import pytest
from distributed import Client, LocalCluster

import features.engine
from features.archive import Archive, write_archive
from features.cluster import Cluster, ClusterLost, open_cluster
from features.coding import CODED_COLUMNS
from features.compute import compute_blocks, pack, seat_blocks
from features.connectors.rollout_model import Rollout
from features.connectors.simulated import open_simulated
from features.engine import Inputs, build_on, observe_on, seats_of_a_block, split_labels
from features.events import MICROSECONDS_PER_DAY, Batch, Event, events_table, seats_table
from features.instants import to_microseconds
from features.labels import label_snapshots, weekly_snapshots
from features.log import EventLog
from features.observed import observed
from features.peers import Parts, days_needed
from features.roster import Roster
from features.runs import Run, current, keep_rows, read_blocks
from features.tools import load_tools

TOOLS = load_tools()
START, DAYS = datetime(2026, 1, 5, tzinfo=UTC), 70
SEATS = 240


def nobody(identifiers):
    return frozenset()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A simulated rollout in a log, its archive, and what one process makes of it."""
    folder = tmp_path_factory.mktemp("engine")
    url = f"sqlite:///{folder / 'log.db'}"
    log = EventLog(url)
    for batch in open_simulated(Rollout(seats=SEATS, days=DAYS, seed=3, start=START)):
        log.append(batch, now=START + timedelta(days=DAYS))
    archive = write_archive(log, f"file://{folder / 'archive'}", until=START + timedelta(days=DAYS - 2))
    until = max(source.watermark for source in archive.sources) + timedelta(microseconds=1)
    seats = log.seats()
    first = to_microseconds(min(seats.column("assigned_at").to_pylist()))
    days = days_needed(np.arange(first, to_microseconds(until) + MICROSECONDS_PER_DAY, MICROSECONDS_PER_DAY))
    peers = observed(log, TOOLS, days)
    blocks = compute_blocks(
        seat_blocks(seats),
        snapshots=lambda block: weekly_snapshots(block, until=until),
        read_events=lambda wanted: log.events(wanted, columns=CODED_COLUMNS),
        roster=log.roster(),
        sources=log.sources(),
        tools=TOOLS,
        peers=peers,
    )
    yield SimpleNamespace(
        log=log, url=url, folder=folder, archive=archive, until=until, days=days, peers=peers, single=pl.concat(blocks),
        inputs=Inputs.of_log(log, url, TOOLS, moment=START + timedelta(days=DAYS)),
        archived=Inputs.of_archive(archive, TOOLS, erased=nobody),
    )  # fmt: skip
    log.close()


@pytest.fixture(scope="module")
def lone_worker() -> Iterator[Cluster]:
    with open_cluster(workers=1) as opened:
        yield opened


def assert_same_bits(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    (vectors, names), (wanted, wanted_names) = pack(found), pack(expected)
    assert found.select("seat_id", "as_of").equals(expected.select("seat_id", "as_of"))
    assert vectors.tobytes() == wanted.tobytes()
    assert names == wanted_names


@pytest.mark.parametrize("block_seats", [13, 100, 1_000])
@pytest.mark.parametrize("source", ["inputs", "archived"])
def test_any_number_of_blocks_gives_the_bits_of_one_process(world, cluster, tmp_path, source, block_seats):
    manifest = build_on(cluster, getattr(world, source), str(tmp_path), until=world.until, block_seats=block_seats)
    assert len(manifest.blocks) == -(-SEATS // block_seats)
    assert_same_bits(pl.concat(read_blocks(str(tmp_path))), world.single)


def test_one_worker_gives_the_same_as_two(world, lone_worker, tmp_path):
    assert (lone_worker.workers, lone_worker.is_local) == (1, True)
    build_on(lone_worker, world.inputs, str(tmp_path), until=world.until, block_seats=70)
    assert_same_bits(pl.concat(read_blocks(str(tmp_path))), world.single)


def test_the_first_pass_counts_what_one_process_counts(world, cluster):
    found = observe_on(cluster, world.inputs, world.days, block_seats=31)
    assert np.array_equal(found.depth, world.peers.depth)
    assert all(
        np.array_equal(found.counts[scope][name], values)
        for scope, counts in world.peers.counts.items()
        for name, values in counts.items()
    )


@pytest.mark.parametrize("block", [slice(0, 1), slice(10, 31), slice(200, SEATS), slice(0, SEATS)])
def test_a_blocks_part_of_the_peers_is_its_groups_its_people_and_their_managers(world, block):
    whole, book = world.peers, Roster.of(world.log.roster())
    part = Parts(whole, book).of(block)
    own = book.frame.filter(pl.col("seat_id").is_in(book.seat_ids[block].implode()))
    manager = own.select("organization", "tool", person_id="manager_person_id").drop_nulls()
    held = whole.held.with_row_index("row")
    looked_at = pl.concat(
        [held.join(own, on=held.columns[1:], how="semi"), held.join(manager, on=manager.columns, how="semi")]
    )
    rows = looked_at["row"].unique().sort().to_numpy()
    assert part.held.equals(whole.held[rows])
    assert np.array_equal(part.depth, whole.depth[rows])
    for scope, keys in whole.keys.items():
        groups = keys.with_row_index("row").join(own, on=keys.columns, how="semi")["row"].sort().to_numpy()
        assert part.keys[scope].equals(keys[groups])
        assert all(np.array_equal(part.counts[scope][name], of[groups]) for name, of in whole.counts[scope].items())


def test_archive_and_output_may_lie_at_any_address(world):
    """memory:// stands for an object store: one process holds it, so the worker is a thread of it."""
    archive = write_archive(world.log, "memory://archive", until=START + timedelta(days=DAYS - 2))
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as local,
        Client(local) as client,
    ):
        inputs = Inputs.of_archive(Archive.open("memory://archive"), TOOLS, erased=nobody)
        build_on(Cluster(client, is_local=True), inputs, "memory://out", until=world.until, block_seats=99)
    assert archive.rows == sum(file.rows for file in world.archive.files)
    assert_same_bits(pl.concat(read_blocks("memory://out")), world.single)


def test_a_training_set_is_features_with_the_labels_of_one_process(world, cluster, tmp_path):
    build_on(cluster, world.inputs, str(tmp_path), until=world.until, with_labels=True, block_seats=64)
    found, labels = split_labels(pl.concat(read_blocks(str(tmp_path))))
    expected = label_snapshots(
        world.single, events=world.log.events(), seats=world.log.seats(), sources=world.log.sources(), tools=TOOLS
    )
    assert_same_bits(found, world.single)
    assert labels.equals(expected)
    assert labels["ended"].n_unique() > 1


# --- what dies -------------------------------------------------------------------------------------------------------


def test_a_run_whose_workers_are_killed_at_random_finishes_and_is_right(world, tmp_path):
    killed: list[int] = []
    at_work: list[int] = []  # blocks that were there when each was killed
    done = threading.Event()
    choice = random.Random(4)

    def kill(own):
        while len(killed) < 4 and not done.wait(choice.uniform(0.05, 0.3)):
            written = len(list(tmp_path.glob("*/block-*.parquet")))
            busy = [address for address, tasks in own.client.processing().items() if tasks]
            nannies = own.client.cluster.workers.values()
            alive = [nanny.pid for nanny in nannies if nanny.worker_address in busy and nanny.pid]
            if alive and written > 2 * len(killed):  # some are written between one death and the next
                killed.append(choice.choice(alive))
                at_work.append(written)
                os.kill(killed[-1], signal.SIGKILL)

    with open_cluster(workers=2) as own:
        killer = threading.Thread(target=kill, args=(own,))
        killer.start()
        build_on(own, world.inputs, str(tmp_path), until=world.until, block_seats=6)
        done.set()
        killer.join()
    assert len(killed) == 4
    assert 0 < at_work[0] < at_work[-1] < SEATS // 6
    assert_same_bits(pl.concat(read_blocks(str(tmp_path))), world.single)


def _dask(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)


@pytest.fixture
def running_cluster(tmp_path: Path) -> Iterator[tuple[str, "subprocess.Popen[str]", "list[subprocess.Popen[str]]"]]:
    """The address of a scheduler with two workers, processes of their own; the scheduler, and the workers."""
    file = tmp_path / "scheduler.json"
    scheduler = _dask("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    workers = [
        _dask("worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard",
              "--death-timeout", "120", "--local-directory", str(tmp_path))
        for _ in range(2)
    ]  # fmt: skip
    for _ in range(300):
        if file.exists() and file.read_text().rstrip().endswith("}"):
            break
        time.sleep(0.1)
    import json

    yield json.loads(file.read_text())["address"], scheduler, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def test_a_running_cluster_gives_the_bits_of_one_process(world, running_cluster, tmp_path):
    address, _, _ = running_cluster
    with open_cluster(address) as remote:
        remote.client.wait_for_workers(2, timeout="120s")
        assert (remote.workers, remote.is_local) == (2, False)
        build_on(remote, world.inputs, str(tmp_path / "out"), until=world.until, block_seats=50)
    assert_same_bits(pl.concat(read_blocks(str(tmp_path / "out"))), world.single)


def test_a_lost_scheduler_leaves_the_last_output_and_a_run_that_goes_on(
    world, cluster, running_cluster, tmp_path, monkeypatch, capfd
):
    address, scheduler, _ = running_cluster
    monkeypatch.setattr("features.cluster.CONNECT", "4s")
    out = str(tmp_path / "out")
    earlier = build_on(cluster, world.inputs, out, until=world.until - timedelta(days=7), block_seats=40)

    def stop_after_some(rows: int) -> None:
        scheduler.kill()

    with open_cluster(address) as remote, pytest.raises(ClusterLost, match="run the same command again"):
        build_on(remote, world.inputs, out, until=world.until, block_seats=10, progress=stop_after_some)
    assert not remote.is_local
    assert "Traceback" not in capfd.readouterr().err
    assert current(out) == earlier
    before = pl.concat(read_blocks(out))
    assert before["as_of"].max() < world.until - timedelta(days=7)

    again = build_on(cluster, world.inputs, out, until=world.until, block_seats=10)
    assert 0 < again.facts["computed_blocks"] < len(again.blocks) == 24
    assert_same_bits(pl.concat(read_blocks(out)), world.single)


def test_a_cluster_whose_workers_are_all_gone_is_said_and_not_waited_for(world, running_cluster, tmp_path, monkeypatch):
    """The scheduler is another's: what is set here reaches it not, and it would wait."""
    address, _, workers = running_cluster
    out = str(tmp_path / "out")
    monkeypatch.setattr("features.cluster.LOOK_SECONDS", 0.5)

    def stop_workers(rows: int) -> None:
        monkeypatch.setattr("features.cluster.ALONE_SECONDS", 1.0)
        for worker in workers:
            worker.kill()

    with open_cluster(address) as remote:
        remote.client.wait_for_workers(2, timeout="120s")
        with pytest.raises(ClusterLost, match="no worker for 1 s; finished blocks are kept"):
            build_on(remote, world.inputs, out, until=world.until, block_seats=10, progress=stop_workers)
    assert list(Path(out).glob("*/block-*.parquet"))


def test_nobody_at_the_address_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setattr("features.cluster.CONNECT", "1s")
    opening = open_cluster("tcp://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"--address: no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        opening.__enter__()


def test_what_a_stopped_run_finished_is_not_computed_again(world, cluster, tmp_path):
    first = build_on(cluster, world.inputs, str(tmp_path), until=world.until, block_seats=60)
    run = Run(str(tmp_path), first.fingerprint)
    Path(run.path(2)).unlink()
    again = build_on(cluster, world.inputs, str(tmp_path), until=world.until, block_seats=60)
    assert (first.facts["computed_blocks"], again.facts["computed_blocks"]) == (4, 1)
    assert_same_bits(pl.concat(read_blocks(str(tmp_path))), world.single)


def test_blocks_that_retention_cut_are_computed_again_from_an_archive_that_has_it_all(world, cluster, tmp_path):
    class Stopped(Exception):
        pass

    def stop(rows):
        raise Stopped

    out = str(tmp_path)
    with pytest.raises(Stopped):
        build_on(cluster, world.archived, out, until=world.until, block_seats=60, progress=stop)
    halfway = world.single["as_of"].median()
    assert keep_rows(out, pl.col("as_of") >= halfway, is_cut=True)
    found = build_on(cluster, world.archived, out, until=world.until, block_seats=60)
    assert found.rows == world.single.height
    assert_same_bits(pl.concat(read_blocks(out)), world.single)


# --- a log that goes on ------------------------------------------------------------------------------------------------


MOMENT = START + timedelta(days=DAYS)


@pytest.fixture
def own_log(database_url, world):
    """The rollout in a log of this test alone, and its address."""
    log = EventLog(database_url)
    log.append(Batch(world.log.seats(), world.log.events()), now=START)
    yield SimpleNamespace(log=log, url=database_url)
    log.close()


def told(own_log, name, *, available_at, occurred_at=None):
    seat = own_log.log.seats().column("seat_id")[0].as_py()
    one = Event(event_id=name, seat_id=seat, kind="session", source="api", occurred_at=occurred_at or available_at,
                available_at=available_at)  # fmt: skip
    own_log.log.append(Batch(seats_table([]), events_table([one])), now=available_at)


def complete_until(sources):
    return max(source.watermark for source in sources) + timedelta(microseconds=1)


def began(own_log, out, *, now, tools=TOOLS, with_labels=True, block_seats=8):
    inputs = Inputs.gone_on_with(
        own_log.log,
        own_log.url,
        tools,
        out,
        now=now,
        complete_until=complete_until,
        with_labels=with_labels,
        block_seats=block_seats,
    )
    return inputs, complete_until(inputs.sources)


def build_alone(url, out):
    """A caller with a worker of its own, to be killed."""
    own = SimpleNamespace(log=EventLog(url), url=url)
    inputs, until = began(own, out, now=MOMENT)
    with open_cluster(workers=1) as opened:
        build_on(opened, inputs, out, until=until, with_labels=True, block_seats=8)


def test_a_killed_run_is_gone_on_with_though_events_came_in_and_is_of_its_moment(cluster, own_log, tmp_path):
    at_once, out = str(tmp_path / "at_once"), str(tmp_path / "killed")
    inputs, until = began(own_log, at_once, now=MOMENT)
    expected = build_on(cluster, inputs, at_once, until=until, with_labels=True, block_seats=8)
    caller = multiprocessing.get_context("spawn").Process(target=build_alone, args=(own_log.url, out))
    caller.start()
    while len(list(Path(out).glob("*/block-*.parquet"))) < 3:
        time.sleep(0.05)
        assert caller.is_alive()
    caller.kill()
    caller.join()
    assert current(out) is None

    told(own_log, "acme/after", available_at=MOMENT + timedelta(hours=5))
    again, same_until = began(own_log, out, now=MOMENT + timedelta(days=1))
    found = build_on(cluster, again, out, until=same_until, with_labels=True, block_seats=8)
    assert (same_until, found.fingerprint) == (until, expected.fingerprint)
    assert 0 < found.facts["computed_blocks"] < len(found.blocks)
    assert again.is_as_before(own_log.log)
    assert pl.concat(read_blocks(out)).equals(pl.concat(read_blocks(at_once)))


def test_what_was_known_and_came_in_late_is_said_and_begins_another_run(own_log, tmp_path):
    out = str(tmp_path / "out")
    inputs, until = began(own_log, out, now=MOMENT)
    Run(out, features.engine.fingerprint(inputs, until=until, with_labels=True, block_seats=8)).begin(inputs.known)
    assert began(own_log, out, now=MOMENT + timedelta(days=1))[0].known == inputs.known
    assert inputs.is_as_before(own_log.log)
    late = MOMENT + timedelta(days=1, seconds=1)
    assert began(own_log, out, now=late)[0].known["moment"] == late.isoformat()
    told(own_log, "acme/backfill", available_at=START + timedelta(days=9))
    assert not inputs.is_as_before(own_log.log)
    later, _ = began(own_log, out, now=MOMENT + timedelta(days=1))
    assert later.known["moment"] == (MOMENT + timedelta(days=1)).isoformat()


@pytest.mark.parametrize("changed", [{"tools": {}}, {"with_labels": False}, {"block_seats": 9}, {"catalogue": "other"}])
def test_a_run_that_cannot_be_finished_any_more_binds_nobody_to_its_moment(own_log, tmp_path, monkeypatch, changed):
    out = str(tmp_path / "out")
    inputs, until = began(own_log, out, now=MOMENT)
    Run(out, features.engine.fingerprint(inputs, until=until, with_labels=True, block_seats=8)).begin(inputs.known)
    options = {name: value for name, value in changed.items() if name != "catalogue"}
    if "catalogue" in changed:
        monkeypatch.setattr("features.engine.catalogue_hash", lambda: changed["catalogue"])
    later = MOMENT + timedelta(hours=1)
    assert began(own_log, out, now=later, **options)[0].known["moment"] == later.isoformat()


def test_workers_read_what_was_available_at_the_moment(own_log):
    seat = own_log.log.seats().column("seat_id")[0].as_py()
    reader = Inputs.of_log(own_log.log, own_log.url, TOOLS, moment=MOMENT).reader
    before = reader.events([seat], columns=["kind"])
    told(own_log, "acme/after", available_at=MOMENT + timedelta(hours=5), occurred_at=START + timedelta(days=9))
    assert before.column_names == ["kind"]
    assert reader.events([seat], columns=["kind"]).num_rows == before.num_rows > 0
    assert own_log.log.events([seat]).num_rows == before.num_rows + 1


# --- who is erased -----------------------------------------------------------------------------------------------------


def test_whoever_is_erased_while_a_run_goes_on_is_in_none_of_its_blocks(world, cluster, tmp_path):
    gone = world.log.seats().column("seat_id")[5].as_py()
    asked = []

    def erased(seat_ids):
        asked.append(len(seat_ids))
        return {gone}

    found = build_on(cluster, world.inputs, str(tmp_path), until=world.until, block_seats=60, erased=erased)
    rows = pl.concat(read_blocks(str(tmp_path)))
    assert asked == [SEATS]
    assert_same_bits(rows, world.single.filter(pl.col("seat_id") != gone))
    assert found.rows == rows.height < world.single.height


def test_an_archive_from_before_an_erasure_gives_nothing_of_the_erased(world, cluster, tmp_path):
    roster = pl.DataFrame(pl.from_arrow(world.log.roster()))
    manager = roster["manager_person_id"].drop_nulls()[0]
    gone = {manager, *roster.filter(pl.col("person_id") == manager)["seat_id"]}
    inputs = Inputs.of_archive(world.archive, TOOLS, erased=gone.intersection)
    left = pl.DataFrame(pl.from_arrow(inputs.roster))
    assert inputs.version != world.archived.version
    assert not gone & {*left["seat_id"], *left["person_id"], *left["manager_person_id"]}
    assert left.height == roster.filter(~pl.col("seat_id").is_in(gone)).height < roster.height
    build_on(cluster, inputs, str(tmp_path), until=world.until, block_seats=60)
    assert not gone & set(pl.concat(read_blocks(str(tmp_path)))["seat_id"])


def test_a_run_on_other_data_takes_nothing_of_the_one_before(world, cluster, tmp_path):
    first = build_on(cluster, world.inputs, str(tmp_path), until=world.until - timedelta(days=7), block_seats=60)
    second = build_on(cluster, world.inputs, str(tmp_path), until=world.until, block_seats=60)
    assert first.fingerprint != second.fingerprint
    assert second.facts["computed_blocks"] == 4
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [second.fingerprint]
    assert_same_bits(pl.concat(read_blocks(str(tmp_path))), world.single)


def test_blocks_that_the_caller_cannot_see_are_no_run(world, cluster, tmp_path):
    """Workers of another machine may write to a disk of their own."""
    run = Run(str(tmp_path), "f" * 24)
    written = [run.write(number, world.single.head(3).to_arrow()) for number in range(3)]
    Path(run.path(1)).unlink()
    with pytest.raises(ValueError, match=r"1 of 3 blocks .* not at .*: every worker and this process must reach"):
        run.finish(written, {})
    assert current(str(tmp_path)) is None


def test_the_memory_of_a_process_is_its_own_and_not_of_the_one_that_started_it():
    held = bytearray(400 << 20)
    code = "from features.cluster import peak_mebibytes; print(peak_mebibytes())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 10 < float(said) < 350 < len(held) / 2**20


def test_a_block_that_was_cut_off_counts_as_not_there(world, cluster, tmp_path):
    first = build_on(cluster, world.inputs, str(tmp_path), until=world.until, block_seats=120)
    path = Path(Run(str(tmp_path), first.fingerprint).path(1))
    path.write_bytes(path.read_bytes()[:-100])
    again = build_on(cluster, world.inputs, str(tmp_path), until=world.until, block_seats=120)
    assert again.facts["computed_blocks"] == 1
    assert_same_bits(pl.concat(read_blocks(str(tmp_path))), world.single)


def test_what_the_work_raises_reaches_the_caller(world, cluster, tmp_path, monkeypatch):
    broken = Inputs(world.inputs.reader, world.inputs.roster, world.inputs.sources, {}, "x")
    with pytest.raises(KeyError, match="m365_copilot"):
        observe_on(cluster, broken, world.days)


def test_a_worker_holds_no_more_than_it_is_given(world, cluster):
    peak = cluster.peak_mebibytes()
    assert len(peak) == 2
    assert 50 < max(peak.values()) < 2048


@pytest.mark.parametrize(
    ("events_a_seat", "weeks", "seats"),
    [(170, 16, 4_000), (2_000, 16, 400), (170, 59, 1_200), (1, 0, 4_000), (900_000, 1, 1)],
)
def test_blocks_are_so_small_that_seats_with_much_stay_within_a_workers_memory(world, events_a_seat, weeks, seats):
    one = world.log.seats().slice(0, 1).append_column("known_at", world.log.seats().column("assigned_at").slice(0, 1))
    inputs = Inputs(world.inputs.reader, one, world.inputs.sources, TOOLS, "x", events_a_seat)
    until = one.column("assigned_at")[0].as_py() + timedelta(weeks=weeks, hours=1)
    assert seats_of_a_block(inputs, until=until) == seats


def test_the_name_of_a_run_says_what_it_depends_on(world):
    def named(**changed):
        given = {"inputs": world.inputs, "until": world.until, "with_labels": False, "block_seats": 10, **changed}
        return features.engine.fingerprint(given.pop("inputs"), **given)

    names = [
        named(),
        named(inputs=world.archived),
        named(until=world.until + timedelta(days=1)),
        named(with_labels=True),
        named(block_seats=11),
    ]
    assert len(set(names)) == 5
    assert named() == names[0]


# --- the archive ------------------------------------------------------------------------------------------------------


def test_an_archive_is_brought_up_to_date_by_the_days_that_changed(world, tmp_path):
    folder = tmp_path / "archive"
    before = write_archive(world.log, str(folder), until=START + timedelta(days=30))
    again = write_archive(world.log, str(folder), until=START + timedelta(days=31))
    assert again.files[: len(before.files)] == before.files
    assert len(again.files) > len(before.files)
    assert {path.name for path in (folder / "events").rglob("*.parquet")} == {
        file.file.rsplit("/", 1)[1] for file in again.files
    }


def test_an_archive_holds_the_events_of_its_days_and_says_how_far_it_is_complete(world):
    events = pl.concat(
        pl.read_parquet(world.folder / "archive" / file.file, hive_partitioning=False) for file in world.archive.files
    )
    until = START + timedelta(days=DAYS - 2)
    expected = pl.DataFrame(pl.from_arrow(world.log.events(until=until)))
    assert events.sort("event_id").equals(expected.sort("event_id"))
    assert all(source.watermark < until for source in world.archive.sources)
    assert world.archive.roster().equals(world.log.roster())


@pytest.mark.parametrize(("first", "stop"), [(0, 1), (17, 40), (101, 102), (0, SEATS), (233, SEATS)])
def test_a_block_is_read_whole_from_days_of_many_files(world, tmp_path, monkeypatch, first, stop):
    monkeypatch.setattr("features.archive.FILE_ROWS", 7)  # so that seats lie across the edges of files and groups
    monkeypatch.setattr("features.archive.GROUP_ROWS", 3)
    archive = write_archive(world.log, str(tmp_path), until=START + timedelta(days=DAYS - 2))
    seats = sorted(world.log.seats().column("seat_id").to_pylist())[first:stop]
    columns = ["seat_id", "occurred_at", "kind", "count"]
    read = pl.DataFrame(pl.from_arrow(archive.events(seats, columns=columns))).cast({"kind": pl.String})
    expected = pl.DataFrame(
        pl.from_arrow(world.log.events(seats, until=START + timedelta(days=DAYS - 2), columns=columns))
    )
    assert expected.height
    assert read.sort(columns).equals(expected.select(columns).sort(columns))
    assert max(file.rows for file in archive.files) == 7


def test_an_archive_of_an_earlier_version_is_said_and_written_anew(world, tmp_path):
    (tmp_path / "manifest.json").write_text('{"roster": "roster-1.parquet", "days": [], "sources": []}')
    with pytest.raises(ValueError, match=r"written by an earlier version: run `rekindle archive .* again"):
        Archive.open(str(tmp_path))
    write_archive(world.log, str(tmp_path), until=START + timedelta(days=DAYS - 2))
    assert Archive.open(str(tmp_path)).rows == world.archive.rows


def test_no_archive_is_said_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no archive of events: run `rekindle archive"):
        Archive.open(str(tmp_path))


def test_the_blocks_of_no_run_are_said_in_one_sentence():
    with pytest.raises(ValueError, match="holds no complete run"):
        list(read_blocks("memory://nothing"))
    assert not fsspec.filesystem("memory").exists("/nothing")
