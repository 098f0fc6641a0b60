"""Workers killed at random in the middle of building features: how many, what it costs, whether every bit is right.

    python benchmarks/bench_kills.py [--size 20000x120] [--workers 2] [--every 4] [--kills 10] [--block 500] [--folder FOLDER]

The same archive is built twice on local workers, once left alone and once with a SIGKILL for a worker chosen at random
about every so many seconds (a process that starts needs some of them before it gets anything done); the blocks are compared byte for byte. Then the caller itself is killed in the middle, and the
same build goes on.
"""

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

from bench_scale import archived

from features.archive import Archive
from features.cluster import open_cluster
from features.engine import Inputs, build_on
from features.runs import Manifest, Run, current
from features.tools import load_tools


def main() -> None:
    """Build, kill, compare, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="20000x120")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=4, help="seconds between kills, on average")
    parser.add_argument("--kills", type=int, default=10, help="at most")
    parser.add_argument("--block", type=int, default=500, help="seats of a block")
    parser.add_argument("--folder", type=Path, help="keep the archive here, and use one that is there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        archive = str(archived(arguments.size, arguments.folder or Path(scratch)))
        took, expected, _ = _built(archive, f"{scratch}/alone", arguments, every=None)
        print(f"left alone: {took:.1f} s, {len(expected.blocks)} blocks, {expected.rows:,} rows", flush=True)
        took, found, killed = _built(archive, f"{scratch}/killed", arguments, every=arguments.every)
        print(
            f"{killed} workers killed: {took:.1f} s, {_different(scratch, expected, found)} blocks differ", flush=True
        )
        context = multiprocessing.get_context("spawn")
        caller = context.Process(target=_built, args=(archive, f"{scratch}/stopped", arguments), kwargs={"every": None})
        caller.start()
        run = Run(f"{scratch}/stopped", expected.fingerprint)
        while len(run.done()) < len(expected.blocks) // 2:
            time.sleep(0.1)
        caller.kill()
        caller.join()
        assert current(f"{scratch}/stopped") is None
        _, found, _ = _built(archive, f"{scratch}/stopped", arguments, every=None)
        print(
            f"the caller killed half way: the next run computed {found.facts['computed_blocks']} of {len(found.blocks)} blocks, "
            f"{_different(scratch, expected, found)} differ"
        )


def _built(
    archive: str, out: str, arguments: argparse.Namespace, *, every: float | None
) -> tuple[float, Manifest, int]:
    """Seconds, the run, and how many workers were killed meanwhile."""
    inputs = Inputs.of_archive(Archive.open(archive), load_tools(), erased=lambda _names: frozenset())
    until = max(source.watermark for source in inputs.sources) + timedelta(microseconds=1)
    killed: list[int] = []
    done, choice = threading.Event(), random.Random(7)
    with open_cluster(workers=arguments.workers) as cluster:

        def kill() -> None:
            while every is not None and not done.wait(choice.uniform(0.5 * every, 1.5 * every)):
                there = cluster.client.scheduler_info(n_workers=-1)["workers"]  # one that starts is left to begin
                alive = [
                    nanny.pid for nanny in cluster.client.cluster.workers.values() if nanny.worker_address in there
                ]
                if alive and len(killed) < arguments.kills:
                    killed.append(choice.choice(alive))
                    os.kill(killed[-1], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        started = time.perf_counter()
        try:
            manifest = build_on(cluster, inputs, out, until=until, block_seats=arguments.block)
        finally:
            done.set()
            killer.join()
        return time.perf_counter() - started, manifest, len(killed)


def _different(scratch: str, expected: Manifest, found: Manifest) -> int:
    """How many blocks of the run do not have the bytes of the first one."""
    assert found.fingerprint == expected.fingerprint
    folders = [folder for folder in Path(scratch).glob(f"*/{found.fingerprint}") if folder.parent.name != "alone"]
    newest = max(folders, key=lambda folder: folder.stat().st_mtime)
    names = [Path(Run("", expected.fingerprint).path(block.number)).name for block in expected.blocks]
    first = Path(scratch) / "alone" / expected.fingerprint
    return sum((newest / name).read_bytes() != (first / name).read_bytes() for name in names)


if __name__ == "__main__":
    main()
