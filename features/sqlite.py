"""SQLite as the database of the log: the one place with SQL and files that are its alone.

Write-ahead log; writers queue instead of failing. A commit writes into that log without waiting for the disk, and lets the
next writer begin; who promised durability then calls `Disk.sync`, which several of them share. A writer that builds on
what another one wrote just before is safe: the log is one sequence, and syncing it keeps what came first.
"""

import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

CACHE_KIB = 65_536  # our choice: SQLite's 2 MB make a large import read the index's pages again and again
BUSY_SECONDS, POLL_SECONDS = 30.0, 0.001  # our choice: how long, and how often, a writer asks for its turn
AT_ONCE = {"at_once": True}  # execution option of a writer that would rather not write than wait; see is_busy
_DATA_SYNC = getattr(os, "fdatasync", os.fsync)  # fsync where there is no fdatasync: macOS, Windows


class Disk:
    """Sees to it that what was committed to a database file is on the disk. Safe for several threads."""

    def __init__(self, database: str | None) -> None:
        """database: its path; None or empty for one in memory, which no disk knows."""
        self._wal = None if database in (None, "", ":memory:") else Path(f"{database}-wal")
        self._count, self._turn = threading.Lock(), threading.Lock()
        self._wanted = self._synced = 0
        self._known_file: tuple[int, int] | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is a file at all."""
        return self._wal is not None

    def sync(self) -> None:
        """Returns once everything that was committed before the call, by any process, survives a power cut.

        Raises OSError where the disk does not take it.
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

    def _sync_file(self, wal: Path) -> None:
        try:
            # its locks are on other files of SQLite's, so that closing this one lets go of none
            file = os.open(wal, os.O_RDWR | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:  # checkpointed to the end and removed, which SQLite does only after it synced
            return
        try:
            _DATA_SYNC(file)
            status = os.fstat(file)
        finally:
            os.close(file)
        if (status.st_dev, status.st_ino) != self._known_file and os.name == "posix":  # a new file: its name, too
            folder = os.open(wal.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._known_file = (status.st_dev, status.st_ino)


def listen(reader: sa.Engine, writer: sa.Engine) -> None:
    """Make the connections of two engines what they are for: to read at any time, or to write when it is their turn.

    One that is both is of a database in memory, where nobody else writes.
    """

    @sa.event.listens_for(reader, "connect")
    def _reads(connection: Any, _record: object) -> None:
        _prepare(connection, busy_seconds=BUSY_SECONDS)

    @sa.event.listens_for(reader, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    if writer is reader:
        return

    @sa.event.listens_for(writer, "connect")
    def _writes(connection: Any, _record: object) -> None:
        _prepare(connection, busy_seconds=BUSY_SECONDS)
        connection.execute("PRAGMA busy_timeout=0")  # _begin_to_write asks by itself

    @sa.event.listens_for(writer, "begin")
    def _begin_writing(connection: sa.Connection) -> None:
        waits = not connection.get_execution_options().get("at_once", False)
        _begin_to_write(connection.connection.dbapi_connection, seconds=BUSY_SECONDS if waits else 0.0)


def is_busy(error: sa.exc.DBAPIError) -> bool:
    """Whether it was raised because another process writes just now."""
    return (
        isinstance(error.orig, sqlite3.OperationalError) and error.orig.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    )


def _prepare(connection: Any, *, busy_seconds: float) -> None:
    connection.isolation_level = None  # we emit BEGIN ourselves (pysqlite would begin too late)
    cursor = connection.cursor()
    # NORMAL: a commit does not wait for the disk (Disk.sync does); checkpoints do, so that the file is never torn
    for pragma in (f"busy_timeout={busy_seconds * 1000:.0f}", "synchronous=NORMAL", f"cache_size=-{CACHE_KIB}"):
        cursor.execute(f"PRAGMA {pragma}")
    _switch_to_wal(cursor)
    cursor.close()


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    """SQLite does not queue for this one switch (no busy handler): whoever comes second on a new file tries again."""
    for pause in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(pause)
        else:
            return
    cursor.execute("PRAGMA journal_mode=WAL")


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
