"""How long a simulated rollout takes to Parquet, and how much memory a worker needs.

python benchmarks/bench_simulator.py [--seats 200000] [--days 120] [--workers 2]
"""

import argparse
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from features.connectors.rollout_model import Rollout
from features.connectors.simulated import write_parquet


def main() -> None:
    """Simulate, write, print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seats", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    rollout = Rollout(seats=arguments.seats, days=arguments.days, start=datetime(2026, 1, 5, tzinfo=UTC))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        write_parquet(rollout, Path(folder) / "rollout", workers=arguments.workers)
        seconds = time.perf_counter() - started
        events = sum(
            pq.read_metadata(path).num_rows for path in (Path(folder) / "rollout" / "events").rglob("*.parquet")
        )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{arguments.seats:,} seats x {arguments.days} days, {arguments.workers} workers: {seconds:.1f} s,")
    print(f"{events:,} events, peak {peak:.2f} GiB a worker")


if __name__ == "__main__":
    main()
