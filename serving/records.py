"""Records: what was served and who read it, on its way into the log. No answer leaves before its record is there.

Those of requests that are answered at the same moment are one transaction, written by the event loop itself where the log is
free: handing it to a thread and waking up again would cost more than the writing (docs/benchmarks.md). Where somebody
else writes, and on PostgreSQL, a thread waits for its turn.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future

from features.audit import Read
from features.log import EventLog
from features.tables import Served
from serving.groups import Groups, Told, settle

AT_ONCE = 64  # our choice: requests whose rows are written together
Record = tuple[Sequence[Served], Sequence[Read]]  # what one request was served, and who read it


class Records:
    """The way into the log. `ask` belongs to event loops, `put` to threads that may wait."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._groups: Groups[Record, None] = Groups("records", self._write, most=AT_ONCE)
        self._waiting: dict[asyncio.AbstractEventLoop, list[tuple[Record, asyncio.Future[None]]]] = {}

    def put(self, record: Record) -> "Future[None]":
        """Done once the record is in the log."""
        return self._groups.put(record)

    def ask(self, record: Record) -> "asyncio.Future[None]":
        """As `put`, for the event loop that runs here."""
        loop = asyncio.get_running_loop()
        awaited: asyncio.Future[None] = loop.create_future()
        if loop not in self._waiting:
            self._waiting[loop] = []
            loop.call_soon(self._write_now, loop)  # after all that is ready now, which it takes with it
        self._waiting[loop].append((record, awaited))
        return awaited

    @property
    def is_working(self) -> bool:
        """Whether anything is recorded at all."""
        return self._groups.is_working

    def close(self) -> None:
        """Write what waits, then stop."""
        self._groups.close()

    def _write_now(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._waiting.pop(loop)
        try:
            if not self._log.record_reads_at_once(*_joined([record for record, _ in waiting])):
                for record, awaited in waiting:
                    self._groups.hand(record, awaited)
                return
        except Exception as error:  # whatever it is, it is the callers' to answer
            settle([Told(awaited, error=error) for _, awaited in waiting])
            return
        settle([Told(awaited) for _, awaited in waiting])

    def _write(self, waiting: Sequence[Record]) -> list[None]:
        self._log.record_reads(*_joined(waiting))
        return [None] * len(waiting)


def _joined(records: Sequence[Record]) -> Record:
    """The records of several requests, for one transaction."""
    return [row for served, _ in records for row in served], [read for _, reads in records for read in reads]
