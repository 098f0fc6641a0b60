"""SQLite as the database of the log: the one place with SQL and files that are its alone.

Write-ahead log; writers queue instead of failing. A commit writes into that log without waiting for the disk, and lets the
next writer begin; who promised durability then calls `Disk.sync`, which several of them share. A writer that builds on
what another one wrote just before is safe: the log is one sequence, and syncing it keeps what came first.
"""

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

CACHE_KIB = 65_536  # our choice: SQLite's 2 MB make a large import read the index's pages again and again
# our choice, 64 MiB: from then on the commit that fills the write-ahead log moves it into the database, which its caller waits for.
# A service does so sooner, beside its writers (`checkpoint`): at 1 000 pages, SQLite's own, one call of 160 waited 10 ms
WAL_PAGES = 16_000
BUSY_SECONDS, POLL_SECONDS = 30.0, 0.001  # our choice: how long, and how often, a writer asks for its turn
VERSION_TABLE = "alembic_version"
AT_ONCE = {"at_once": True}  # execution option of a writer that would rather not write than wait; see is_busy
_DATA_SYNC = getattr(os, "fdatasync", os.fsync)  # fsync where there is no fdatasync: macOS, Windows
_KEEPS_OPEN = os.name == "posix"  # elsewhere an open file could not be removed by SQLite, and folders cannot be synced


class Disk:
    """Sees to it that what was committed to a database file is on the disk. Safe for several threads.

    Linux tells of pages that it could not write once, to who has the file open, and then counts them as clean: a second try
    succeeds and has saved nothing, and what is appended after the gap is lost with it. So the file stays open between syncs
    (what another process was told, we are told, too), and after an error nothing is durable until SQLite has moved the whole
    write-ahead log into the database and begun an empty one.
    """

    def __init__(self, database: str | None, *, empty: Callable[[], bool] = lambda: False) -> None:
        """database: the path of its file, links followed; None or empty for one in memory, which no disk knows. empty: moves
        the write-ahead log into the database and cuts it to nothing; returns whether it could.
        """
        self._wal = Path(f"{database}-wal") if database else None
        self._empty = empty
        self._count, self._turn = threading.Lock(), threading.Lock()
        self._wanted = self._synced = 0
        self._file: int | None = None
        self._is_torn = False

    @property
    def is_there(self) -> bool:
        """Whether there is a file at all."""
        return self._wal is not None

    def sync(self) -> None:
        """Returns once everything that was committed before the call, by any process, survives a power cut.

        Raises OSError where the disk does not take it: what was committed may then be there or not after a power cut.
        """
        if self._wal is None:
            return
        with self._count:
            self._wanted += 1
            mine = self._wanted
        with self._turn:
            if self._synced >= mine:  # a sync that began after our commit has ended meanwhile
                return
            covers = self._wanted
            self._sync_file(self._wal)
            self._synced = covers

    def close(self) -> None:
        """Give the file back; safe to repeat."""
        with self._turn:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)  # SQLite's locks are on other files of its own: closing this one lets go of none
            self._file = None

    def _sync_file(self, wal: Path) -> None:
        if self._is_torn:
            self._mend()
        if not self._open(wal):  # checkpointed to the end and removed, which SQLite does only after it synced
            return
        try:
            self._write_out()
        except OSError:
            self._is_torn = True
            with suppress(OSError):  # at once, for those who come next; who waits now is told of the error
                self._mend()
            raise
        finally:
            if not _KEEPS_OPEN:
                self._close()

    def _mend(self) -> None:
        if not self._empty():
            raise OSError(errno.EIO, "the write-ahead log could not be saved after the disk had refused it")
        if self._wal is not None and self._open(self._wal):
            self._write_out()
        self._is_torn = False

    def _write_out(self) -> None:
        assert self._file is not None
        _DATA_SYNC(self._file)

    def _open(self, wal: Path) -> bool:
        """Open the file that has this name now, unless it is open; whether there is one."""
        try:
            there = wal.stat()
        except FileNotFoundError:
            self._close()
            return False
        if self._file is not None:
            ours = os.fstat(self._file)
            if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                return True
            self._close()
        try:
            self._file = os.open(wal, os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            return False
        if _KEEPS_OPEN:  # a new file: its name, too
            folder = os.open(wal.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            except OSError:
                self._close()  # so that the next call tries again
                raise
            finally:
                os.close(folder)
        return True


def file_of(engine: sa.Engine) -> str | None:
    """The path of the database's file as SQLite has it, links followed: its other files are beside it. None in memory."""
    with engine.connect() as connection:
        path: str = connection.exec_driver_sql("PRAGMA database_list").one()[2]
    engine.dispose()  # the connection was not prepared
    return path or None


def empty_wal(engine: sa.Engine) -> bool:
    """Move the write-ahead log into the database, wait for the disk and cut it to nothing; whether that could be done."""
    try:
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            row: tuple[int, int, int] | None = cursor.fetchone()
            cursor.close()
        finally:
            connection.close()
    except (sqlite3.Error, sa.exc.SQLAlchemyError):
        return False
    return row is not None and not row[0]  # whether others were in its way


def checkpoint(engine: sa.Engine) -> None:
    """Move what can be moved of the write-ahead log into the database, and wait for the disk; nobody else has to wait."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")
    finally:
        connection.close()


def listen(reader: sa.Engine, writer: sa.Engine, *, cache_kib: int = CACHE_KIB) -> None:
    """Make the connections of two engines what they are for: to read at any time, or to write when it is their turn.

    One that is both is of a database in memory, where nobody else writes. cache_kib: of each connection, at most.
    """

    @sa.event.listens_for(reader, "connect")
    def _reads(connection: Any, _record: object) -> None:
        _prepare(connection, busy_seconds=BUSY_SECONDS, cache_kib=cache_kib)

    @sa.event.listens_for(reader, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    if writer is reader:
        return

    @sa.event.listens_for(writer, "connect")
    def _writes(connection: Any, _record: object) -> None:
        _prepare(connection, busy_seconds=BUSY_SECONDS, cache_kib=cache_kib)
        connection.execute("PRAGMA busy_timeout=0")  # _begin_to_write asks by itself

    @sa.event.listens_for(writer, "begin")
    def _begin_writing(connection: sa.Connection) -> None:
        waits = not connection.get_execution_options().get("at_once", False)
        _begin_to_write(connection.connection.dbapi_connection, seconds=BUSY_SECONDS if waits else 0.0)


def probe(database: str, *, seconds: float) -> None:
    """Read the schema's version and take a writer's turn, by a connection of its own: one that was open before would answer
    from its memory. Raises sqlite3.Error where the file cannot be read, OperationalError where there is no turn for so long.
    """
    address = f"{Path(database).as_uri()}?mode=rw"
    with closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=seconds)) as connection:
        connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
        connection.execute("PRAGMA busy_timeout=0")  # _begin_to_write asks by itself
        _begin_to_write(connection, seconds=seconds)
        connection.execute("ROLLBACK")


def is_busy(error: sa.exc.DBAPIError) -> bool:
    """Whether it was raised because another process writes just now."""
    return (
        isinstance(error.orig, sqlite3.OperationalError) and error.orig.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    )


def _prepare(connection: Any, *, busy_seconds: float, cache_kib: int) -> None:
    connection.isolation_level = None  # we emit BEGIN ourselves (pysqlite would begin too late)
    cursor = connection.cursor()
    # NORMAL: a commit does not wait for the disk (Disk.sync does); checkpoints do, so that the file is never torn
    for pragma in (
        f"busy_timeout={busy_seconds * 1000:.0f}",
        "synchronous=NORMAL",
        f"cache_size=-{cache_kib}",
        f"wal_autocheckpoint={WAL_PAGES}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    if (
        _switch_to_wal(cursor) == "delete"
    ):  # a file system that has no shared memory: there is no log to be synced later
        cursor.execute("PRAGMA synchronous=EXTRA")
    cursor.close()


def _switch_to_wal(cursor: sqlite3.Cursor) -> str:
    """SQLite does not queue for this one switch (no busy handler): whoever comes second on a new file tries again. Returns
    the mode that it is in now.
    """
    for pause in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(pause)
        else:
            break
    else:
        cursor.execute("PRAGMA journal_mode=WAL")
    return str(cursor.fetchone()[0])


def _begin_to_write(connection: Any, *, seconds: float) -> None:  # Any: a driver's connection
    """BEGIN IMMEDIATE, once no other process writes. SQLite's own waiting sleeps up to 100 ms at a time; with two workers
    that cost most of what they could decide (docs/benchmarks.md). Raises OperationalError after so many seconds.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise sa.exc.OperationalError("BEGIN IMMEDIATE", None, error) from error
            time.sleep(POLL_SECONDS)
        else:
            return
