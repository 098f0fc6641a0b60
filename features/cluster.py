"""A Dask cluster, local or running, on which blocks of seats are worked on; whoever dies, every block is done once."""

import logging
import pickle
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import dask
import pyarrow as pa
from distributed import CancelledError, Client, Future, KilledWorker, LocalCluster
from distributed.comm import CommClosedError
from distributed.scheduler import NoValidWorkerError, NoWorkerError

WORKER_MEMORY = "2GiB"  # of a local worker; blocks of 10 000 seats need less (docs/scaling.md)
ATTEMPTS = 6  # our choice: a block that Dask gave up so often (after 4 workers each, its allowed-failures) kills them
AHEAD = 2  # blocks a worker has in hand or waiting, so that none is idle and the scheduler holds few
CONNECT, GONE = "20s", "60s"
LOOK_SECONDS, ALONE_SECONDS = 20.0, 120.0  # our choice: how often workers are counted; how long a cluster may have none
KIB = 1024
STATUS = Path("/proc/self/status")

Item = TypeVar("Item")
Result = TypeVar("Result")


class ClusterLost(ValueError):
    """The scheduler does not answer any more, or has no workers; what was finished is kept."""


@dataclass(frozen=True)
class Cluster:
    """A connection to a cluster, and whether its workers are processes of this machine."""

    client: Client
    is_local: bool

    @property
    def workers(self) -> int:
        """How many workers there are now."""
        return len(self.client.scheduler_info(n_workers=-1)["workers"])

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`map(work, items)` on the workers, in order, a few items ahead of who reads. work: importable there.

        A worker may die at any moment: its blocks are done again elsewhere, so `work` must be repeatable. Raises
        ClusterLost when the scheduler is gone or all workers are, MemoryError for a block that killed every worker that took it, and what
        `work` raises.
        """
        waiting = deque[tuple[_Packed, Future]]()
        try:
            for item in items:
                packed = _Packed.of(item)
                waiting.append((packed, self._submit(work, packed)))
                while len(waiting) >= AHEAD * max(self.workers, 1):
                    yield self._result(work, *waiting.popleft())
            while waiting:
                yield self._result(work, *waiting.popleft())
        except (CancelledError, CommClosedError) as error:
            raise self._lost(error) from error
        except OSError as error:  # of the connection, or of the work itself
            if self.client.status == "running":
                raise
            raise self._lost(error) from error
        finally:
            for _, future in waiting:
                future.release()

    def memory_limits(self) -> dict[str, int]:
        """By worker's address, the bytes that it is given; 0 where nobody bounds it."""
        return {
            address: int(worker["memory_limit"])
            for address, worker in self.client.scheduler_info(n_workers=-1)["workers"].items()
        }

    def peak_mebibytes(self) -> dict[str, float]:
        """By worker, the most memory that its process has held so far, MiB."""
        found: dict[str, float] = self.client.run(peak_mebibytes)
        return found

    def _submit(self, work: Callable[[Item], Result], packed: "_Packed") -> Future:
        if self.client.status != "running":
            raise self._lost(CommClosedError("the connection is closed"))
        return self.client.submit(partial(_on_worker, work), packed, pure=False)

    def _result(self, work: Callable[[Item], Result], packed: "_Packed", future: Future) -> Result:
        for attempt in range(ATTEMPTS):
            try:
                result: Result = self._awaited(future)
            except (KilledWorker, NoValidWorkerError, NoWorkerError) as error:
                if attempt == ATTEMPTS - 1:
                    raise MemoryError(
                        f"a block ended every worker that took it, {ATTEMPTS} times over what Dask allows: give workers more "
                        "memory, or take smaller blocks"
                    ) from error
                future = self._submit(work, packed)
            else:
                future.release()
                return result
        raise AssertionError("the last attempt returns or raises")

    def _awaited(self, future: Future) -> Any:
        """The result of the future. A scheduler without workers would wait without end, also for a result that one of them
        took with it: it may be of another's making, so that nothing can be set there.
        """
        seen = time.monotonic()
        while True:
            try:
                return future.result(timeout=LOOK_SECONDS)
            except TimeoutError:
                if future.status == "error":  # the work's own
                    raise
            if self.workers:
                seen = time.monotonic()
            elif time.monotonic() - seen > ALONE_SECONDS:
                raise ClusterLost(
                    f"the cluster has had no worker for {ALONE_SECONDS:.0f} s; finished blocks are kept: start workers, and "
                    "run the same command again"
                )

    def _lost(self, error: BaseException) -> ClusterLost:
        return ClusterLost(
            f"the scheduler of the cluster was lost ({type(error).__name__}); finished blocks are kept: run the same command again"
        )


@contextmanager
def open_cluster(address: str | None = None, *, workers: int = 2, memory: str = WORKER_MEMORY) -> Iterator[Cluster]:
    """A cluster for as long as the block runs: the one at the address (`tcp://…`), or so many processes here.

    memory: what a local worker may hold before it is ended and its blocks go elsewhere. Raises ValueError where nobody
    answers at the address.
    """
    for name in ("distributed", "distributed.client"):  # what goes wrong is raised; its log would print it once more
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with dask.config.set(
        {
            "distributed.comm.timeouts.connect": CONNECT,
            "distributed.admin.large-graph-warning-threshold": "1GB",
            # work that only a worker may do that is gone fails, and is done anew, in place of waiting without end
            "distributed.scheduler.no-workers-timeout": GONE,
        }
    ):
        if address is None:
            with (
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=memory,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.ERROR,
                ) as local,
                Client(local) as client,
            ):
                yield Cluster(client, is_local=True)
            return
        try:
            client = Client(address, timeout=CONNECT)
        except (OSError, TimeoutError, ValueError) as error:
            raise ValueError(f"--address: no Dask scheduler answers at {address} ({type(error).__name__})") from None
        try:
            yield Cluster(client, is_local=False)
        finally:
            client.close(timeout=2)


@dataclass(frozen=True)
class _Packed:
    """An item on its way: one piece of bytes, that the scheduler neither looks into nor copies apart."""

    body: bytes
    size: int

    @staticmethod
    def of(item: object) -> "_Packed":
        plain = pickle.dumps(item, protocol=5)
        return _Packed(pa.compress(plain, codec="zstd", asbytes=True), len(plain))

    def item(self) -> Any:  # what was packed
        return pickle.loads(pa.decompress(self.body, self.size, codec="zstd", asbytes=True))


def _on_worker(work: Callable[[Any], Result], packed: _Packed) -> Result:
    return work(packed.item())


def peak_mebibytes() -> float:
    """The most memory that this process has held since its program began, MiB."""
    if STATUS.exists():  # on Linux, where the figure of getrusage includes what the process that started this one held
        return int(next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")).split()[1]) / KIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / KIB if sys.platform != "darwin" else peak / KIB**2
