"""SQLite as the log's database: what was promised durable is synced before anybody is told, and writers queue."""

import os
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from features.log import EventLog
from features.sqlite import Disk

ADD = "INSERT INTO touched (seat_id, token, touched_at, due_at, claimed_until) VALUES (?, 1, 1, 1, 1)"


@pytest.fixture
def log(tmp_path: Path):
    opened = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    yield opened
    opened.close()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were synced, by name; the real call is made."""
    found: list[str] = []
    real = os.fsync

    def sync(file: int) -> None:
        found.append(Path(f"/proc/self/fd/{file}").readlink().name)
        real(file)

    monkeypatch.setattr("features.sqlite._DATA_SYNC", sync)
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="/proc tells which file it is")


@needs_proc
def test_a_durable_write_ends_after_the_sync_of_the_write_ahead_log(log: EventLog, synced: list[str]) -> None:
    with log.database.write() as connection:
        connection.exec_driver_sql(ADD, ("a/s",))
        assert synced == []

    assert synced == ["log.db-wal"]


@needs_proc
def test_a_write_that_need_not_be_durable_syncs_nothing_and_the_next_durable_one_syncs_it_too(
    log: EventLog, synced: list[str]
) -> None:
    with log.database.write_soon() as connection:
        connection.exec_driver_sql(ADD, ("a/s",))
    assert synced == []

    with log.database.write() as connection:
        connection.exec_driver_sql(ADD, ("a/t",))

    assert synced == ["log.db-wal"]  # one file, in order: what came before is in it


def test_what_the_disk_does_not_take_is_an_error_of_the_database(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("features.sqlite._DATA_SYNC", fail)

    with pytest.raises(sa.exc.OperationalError, match="Input/output error"), log.database.write() as connection:
        connection.exec_driver_sql(ADD, ("a/s",))


class Failing:
    """The disk's sync, which fails so often from now on."""

    def __init__(self, times: int) -> None:
        self.left, self._real = times, os.fsync

    def __call__(self, file: int) -> None:
        if self.left:
            self.left -= 1
            raise OSError(5, "Input/output error")
        self._real(file)


def test_after_a_sync_failed_the_write_ahead_log_is_emptied_into_the_database_before_anything_counts_as_durable(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.sqlite._DATA_SYNC", Failing(1))
    with pytest.raises(sa.exc.OperationalError, match="Input/output error"), log.database.write() as connection:
        connection.exec_driver_sql(ADD, ("a/s",))
    assert (tmp_path / "log.db-wal").stat().st_size == 0

    with log.database.write() as connection:
        connection.exec_driver_sql(ADD, ("a/t",))

    assert log.touched.count() == 2


def test_while_the_write_ahead_log_cannot_be_emptied_a_sync_that_succeeds_again_is_not_believed(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(name: str) -> None:
        with log.database.write() as connection:
            connection.exec_driver_sql(ADD, (name,))

    write("a/r")
    monkeypatch.setattr("features.sqlite.BUSY_SECONDS", 0.1)
    log._engine.dispose()  # its next connections wait so long for others
    with sqlite3.connect(tmp_path / "log.db", isolation_level=None) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM touched").fetchall()  # holds what is in the write-ahead log
        monkeypatch.setattr("features.sqlite._DATA_SYNC", Failing(1))
        with pytest.raises(sa.exc.OperationalError, match="Input/output error"):
            write("a/s")
        with pytest.raises(sa.exc.OperationalError, match="could not be saved"):
            write("a/t")
        reader.execute("COMMIT")
    reader.close()

    write("a/u")

    assert log.touched.count() == 4


def test_who_waited_for_a_sync_that_failed_is_not_told_of_the_next_ones_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.db-wal").touch()
    disk = Disk(str(tmp_path / "log.db"))  # which cannot empty it
    monkeypatch.setattr("features.sqlite._DATA_SYNC", Failing(1))

    for _ in range(3):
        with pytest.raises(OSError, match=r"output error|could not be saved"):
            disk.sync()
    disk.close()


@needs_proc
def test_a_database_behind_a_link_is_synced_where_it_is(tmp_path: Path, synced: list[str]) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "log.db").symlink_to(tmp_path / "disk" / "real.db")

    with_link = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    synced.clear()
    with with_link.database.write() as connection:
        connection.exec_driver_sql(ADD, ("a/s",))
    with_link.close()

    assert synced == ["real.db-wal"]


@needs_proc
def test_a_database_that_is_named_by_a_uri_is_synced_too(tmp_path: Path, synced: list[str]) -> None:
    named = EventLog(f"sqlite:///file:{tmp_path / 'log.db'}?uri=true")
    synced.clear()
    with named.database.write() as connection:
        connection.exec_driver_sql(ADD, ("a/s",))
    named.close()

    assert synced == ["log.db-wal"]


@needs_proc
def test_a_new_file_of_the_same_name_is_synced_and_not_the_old_one(tmp_path: Path, synced: list[str]) -> None:
    wal = tmp_path / "log.db-wal"
    wal.touch()
    disk = Disk(str(tmp_path / "log.db"))
    disk.sync()
    wal.rename(tmp_path / "old")
    wal.touch()
    disk.sync()
    wal.unlink()
    disk.sync()
    disk.close()

    assert synced == ["log.db-wal", "log.db-wal"]


@needs_proc
def test_many_syncs_keep_one_file_open_and_closing_gives_it_back(log: EventLog, tmp_path: Path) -> None:
    def opened() -> int:  # of this log: other tests' sockets are closed by the garbage collector at any moment
        own = 0
        for link in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                own += link.readlink().is_relative_to(tmp_path)
        return own

    def write(name: str) -> int:
        with log.database.write() as connection:
            connection.exec_driver_sql(ADD, (name,))
        return opened()

    first = write("a/s-0")
    counts = [write(f"a/s-{number}") for number in range(1, 20)]
    log.close()

    assert set(counts) == {first}
    assert first > 0 == opened()


def test_the_next_writer_begins_while_the_disk_takes_its_time(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, over = threading.Event(), threading.Event()

    def slow(file: int) -> None:
        begun.set()
        assert over.wait(20)

    monkeypatch.setattr("features.sqlite._DATA_SYNC", slow)

    def write() -> None:
        with log.database.write() as connection:
            connection.exec_driver_sql(ADD, ("a/s",))

    first = threading.Thread(target=write)
    first.start()
    assert begun.wait(20)
    with log.database.write_soon() as connection:
        seats = connection.exec_driver_sql("SELECT seat_id FROM touched").scalars().all()
    over.set()
    first.join()

    assert seats == ["a/s"]


def test_a_sync_that_began_before_a_commit_is_not_taken_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.db-wal").touch()
    disk, syncs, begun, over = Disk(str(tmp_path / "log.db")), [0], threading.Event(), threading.Event()

    def count(_file: int) -> None:
        syncs[0] += 1
        begun.set()
        assert over.wait(20)

    monkeypatch.setattr("features.sqlite._DATA_SYNC", count)
    threads = [threading.Thread(target=disk.sync) for _ in range(9)]
    threads[0].start()
    assert begun.wait(20)
    for thread in threads[1:]:
        thread.start()
    while disk._wanted < 9:
        pass
    over.set()
    for thread in threads:
        thread.join()

    assert syncs == [2]  # the first one's own, and one that the eight others share


def test_whatever_was_acknowledged_is_in_what_had_been_synced_by_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut at each acknowledgement leaves the files as they were when the last sync before it began."""
    logs = [EventLog(f"sqlite:///{tmp_path / 'log.db'}") for _ in range(2)]  # as two processes: each syncs for itself
    before, synced, acknowledged = (tmp_path / "log.db").read_bytes(), [b""], []
    real = os.fsync

    def sync(file: int) -> None:
        image = (tmp_path / "log.db-wal").read_bytes()
        real(file)
        synced.append(image)

    monkeypatch.setattr("features.sqlite._DATA_SYNC", sync)

    def write(number: int) -> None:
        for turn in range(5):
            with logs[number % 2].database.write() as connection:
                connection.exec_driver_sql(ADD, (f"a/s-{number}-{turn}",))
            acknowledged.append((f"a/s-{number}-{turn}", len(synced)))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for log in logs:
        log.close()

    copy, found = tmp_path / "copy", {}
    copy.mkdir()
    for until in {until for _, until in acknowledged}:
        (copy / "log.db-shm").unlink(missing_ok=True)
        (copy / "log.db").write_bytes(before)
        (copy / "log.db-wal").write_bytes(max(synced[:until], key=len))
        with closing(sqlite3.connect(copy / "log.db")) as opened:
            found[until] = {seat for (seat,) in opened.execute("SELECT seat_id FROM touched")}
    assert len(acknowledged) == 40
    assert [name for name, until in acknowledged if name not in found[until]] == []


def test_what_was_written_is_there_when_a_copy_of_the_files_is_opened(log: EventLog, tmp_path: Path) -> None:
    with log.database.write() as connection:
        connection.exec_driver_sql(ADD, ("a/s",))
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("log.db", "log.db-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())

    with sqlite3.connect(copy / "log.db") as opened:
        assert opened.execute("SELECT seat_id FROM touched").fetchall() == [("a/s",)]


def test_a_checkpoint_moves_what_was_committed_into_the_file_while_a_writer_is_at_work(
    log: EventLog, tmp_path: Path
) -> None:
    with log.database.write() as connection:
        connection.exec_driver_sql(ADD, ("a/s",))
    with log.database.write() as connection:
        connection.exec_driver_sql(ADD, ("a/t",))
        log.checkpoint()
    file = tmp_path / "alone.db"
    file.write_bytes((tmp_path / "log.db").read_bytes())

    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as opened:
        assert opened.execute("SELECT seat_id FROM touched").fetchall() == [("a/s",)]


def test_a_log_in_memory_needs_no_checkpoint() -> None:
    log = EventLog("sqlite://")
    log.checkpoint()
    assert log.touched.count() == 0


@pytest.mark.parametrize("database", [None, ""])
def test_a_database_in_memory_has_no_disk(database: str | None) -> None:
    Disk(database).sync()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_log_in_memory_reads_what_it_wrote(url: str) -> None:
    log = EventLog(url)
    with log.database.write() as connection:
        connection.exec_driver_sql(ADD, ("a/s",))

    assert log.touched.count() == 1


def test_records_at_once_wait_for_nobody(log: EventLog, tmp_path: Path) -> None:
    assert log.record_reads_at_once([], [])
    with log.database.write() as connection:
        connection.exec_driver_sql(ADD, ("a/s",))
        assert not log.record_reads_at_once([], [])
    other = EventLog(f"sqlite:///{tmp_path / 'log.db'}")  # as another process: it has a turn of its own
    with other.database.write():
        assert not log.record_reads_at_once([], [])
    other.close()

    assert log.record_reads_at_once([], [])


def test_what_is_read_together_is_of_one_moment(log: EventLog) -> None:
    def seats() -> int:
        return log.touched.count()

    def write(name: str) -> None:
        with log.database.write() as connection:
            connection.exec_driver_sql(ADD, (name,))

    write("a/s")
    with log.reading():
        before = seats()
        write("a/t")
        during = seats()

    assert (before, during, seats()) == (1, 1, 2)
