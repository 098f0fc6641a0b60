"""How long the plan of a day takes, from features to the decision log: processor and clock seconds by size.

    python benchmarks/bench_plan.py [--seats 2000 20000 100000] [--dry-run]

Seats of one organisation in teams of twelve, with random features in Feast's online store, no event and no champions (so
`peer_champion` is ruled out for all); three interventions are capped. The risk is the three warnings' and the effects the
experts' (no model is registered). `dry run`: features read, scored, guardrails, program solved, rounded; `logged`: the same, and
every decision recorded in SQLite in the transactions that keep the limits. Everybody is planned for, whatever the risk.
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from features.catalogue import CATEGORIES, NUMERIC
from features.events import EVENT_SCHEMA, Batch, Seat, seats_table
from features.log import EventLog
from features.store import FeatureStore
from rekindle.plan import plan_of
from serving.advisor import Advisor
from serving.settings import Settings

NOW = datetime(2026, 6, 1, 6, tzinfo=UTC)
TEAM = 12
ROLES = ("analyst", "engineer", "seller", "lawyer", "nurse")
CAPACITY = {"coach_call": 20, "leader_participation": 50, "refresher": 500}
AT_ONCE = 10_000


def seat(number: int) -> Seat:
    """Some seat; the first of each team leads it."""
    team = number // TEAM
    return Seat(
        seat_id=f"acme/s-{number}", person_id=f"acme/p-{number}", organization="acme", tool="m365_copilot",
        role=ROLES[team % len(ROLES)], team=f"t-{team}", manager_person_id=f"acme/p-{team * TEAM}", assigned_at=NOW - timedelta(days=120),
    )  # fmt: skip


def prepare(home: Path, seats: int) -> list[str]:
    """The roster in the log and features in the online store; the seats' ids."""
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    store, rng = FeatureStore(home), np.random.default_rng(7)
    store.apply()
    found = []
    for start in range(0, seats, AT_ONCE):
        some = [seat(number) for number in range(start, min(start + AT_ONCE, seats))]
        log.append(Batch(seats_table(some), EVENT_SCHEMA.empty_table()), now=NOW, source="benchmark")
        vectors = rng.uniform(0, 30, (len(some), len(NUMERIC)))
        known = {"tool": "m365_copilot", "role": [one.role for one in some]}
        names = [pl.Series(f.name, known.get(f.name, ""), dtype=pl.String) if isinstance(known.get(f.name), list)
                 else pl.lit(known.get(f.name, "")).alias(f.name) for f in CATEGORIES]  # fmt: skip
        frame = pl.DataFrame({"seat_id": [one.seat_id for one in some]}).with_columns(
            pl.lit(NOW - timedelta(hours=1)).cast(pl.Datetime("us", "UTC")).alias("as_of"),
            *(pl.Series(feature.name, vectors[:, place]) for place, feature in enumerate(NUMERIC)),
            *names,
        )
        store.push(frame)
        found += [one.seat_id for one in some]
    log.close()
    return found


def plan(advisor: Advisor, seat_ids: list[str], *, is_logged: bool) -> int:
    """The plan of the day as `rekindle plan` makes it; how many seats it decides for."""
    return len(plan_of(advisor, seat_ids, "acme", CAPACITY, 0.0, day=NOW.date(), is_logged=is_logged)["seats"])


def timed(name: str, work: Callable[[], int]) -> None:
    """One line of the table."""
    gc.collect()
    clock, processor = time.perf_counter(), time.process_time()
    decided = work()
    print(
        f"| {decided:,} | {name} | {time.process_time() - processor:.1f} | {time.perf_counter() - clock:.1f} |",
        flush=True,
    )


def main() -> None:
    """Every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seats", type=int, nargs="+", default=[2_000, 20_000, 100_000])
    parser.add_argument("--dry-run", action="store_true", help="log nothing")
    arguments = parser.parse_args()
    print("| seats | | processor s | clock s |\n|---|---|---|---|", flush=True)
    for seats in arguments.seats:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            ids = prepare(home, seats)
            advisor = Advisor(Settings.from_environment({"REKINDLE_HOME": folder}), clock=lambda: NOW)

            timed("dry run", partial(plan, advisor, ids, is_logged=False))
            if not arguments.dry_run:
                timed("logged", partial(plan, advisor, ids, is_logged=True))
            advisor.close()


if __name__ == "__main__":
    main()
