"""Are the planted failure modes found? Precision and recall by mode, of segments and of seats, on simulated rollouts.

    python benchmarks/bench_diagnosis.py [--seats 1800] [--seeds 201 … 212] [--settings …]

Every figure is of simulated data. A segment is a function of the organisation (nine of them, about 200 seats each); a mode
is planted in it where at least a quarter of its seats carry it. The thresholds were looked at on seeds 101 to 108 with the
settings of the simulator as they ship; what is reported are other seeds, and others with other settings.
"""

import argparse
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa

from features.compute import compute_features
from features.connectors.simulated import Rollout, open_simulated, open_truth
from features.diagnosis import SHOWS_FROM
from features.instants import to_microseconds
from features.interventions import FailureMode
from features.log import ROSTER_SCHEMA, Source
from features.peers import days_needed, observe
from features.segments import seat_modes, segment_findings, window_snapshots
from features.tools import load_tools

PLANTED_FROM = 0.25
SETTINGS: dict[str, dict[str, float | int | str]] = {
    "as shipped": {},
    "twice the noise": {"noise": 2.0},
    "60 % silent": {"silent_share": 0.6},
    "teams of 20": {"team_size": 20},
    "another tool (three workflows)": {"tool": "einstein"},
    "84 days": {"days": 84},
    "200 days": {"days": 200},
}


def modes_of(rollout: Rollout) -> tuple[pl.DataFrame, dict[str, set[FailureMode]]]:
    """By seat the planted mode and those shown; by function the modes found."""
    batches = list(open_simulated(rollout))
    events, seats = (pa.concat_tables(getattr(batch, name) for batch in batches) for name in ("events", "seats"))
    truth = pl.concat([pl.DataFrame(pl.from_arrow(part.seats)) for part in open_truth(rollout)])
    as_of = rollout.start + timedelta(days=rollout.days)
    known_at = pa.array([datetime(2020, 1, 1, tzinfo=UTC)] * seats.num_rows, ROSTER_SCHEMA.field("known_at").type)
    roster = seats.append_column(ROSTER_SCHEMA.field("known_at"), known_at)
    names = events.column("source").unique().to_pylist()
    sources = [
        Source(rollout.organization, rollout.tool, name, batches[0].lags.get(name, timedelta(0)), rollout.start, as_of)
        for name in names
    ]
    snapshots = window_snapshots(seats.column("seat_id").to_pylist(), as_of)
    moments = np.array([to_microseconds(moment) for moment in snapshots["as_of"].unique()])
    tools = load_tools()
    peers = observe([events], roster=roster, sources=sources, tools=tools, days=days_needed(moments))
    features = compute_features(snapshots, events=events, roster=roster, sources=sources, tools=tools, peers=peers)
    frame = pl.DataFrame(pl.from_arrow(seats)).join(
        truth.select("seat_id", "mode"), on="seat_id", maintain_order="left"
    )
    modes = seat_modes(features, frame["seat_id"])
    manager = frame["manager_person_id"].rank("dense").fill_null(0).cast(pl.Int64).to_numpy() - 1
    found = {
        function: {
            finding.mode
            for finding in segment_findings(modes, manager, (frame["function"] == function).to_numpy())
            if finding.shows
        }
        for function in frame["function"].unique()
    }
    shown = frame.select("seat_id", "function", "mode").with_columns(
        pl.Series("in_use", modes.in_use),
        *(pl.Series(f"shows_{mode}", strength >= SHOWS_FROM) for mode, strength in modes.strengths.items()),
    )
    return shown, found


def planted_in(seats: pl.DataFrame) -> dict[str, set[FailureMode]]:
    """By function, the modes that at least a quarter of its seats carry."""
    return {
        function[0]: {mode for mode in FailureMode if (part["mode"] == str(mode)).mean() >= PLANTED_FROM}
        for function, part in seats.group_by("function")
    }


def count(seeds: list[int], rollout: Rollout) -> tuple[Counter[tuple[FailureMode, str, str]], pl.DataFrame]:
    """How often each mode was planted, found, and both, by segment; and the seats."""
    tally: Counter[tuple[FailureMode, str, str]] = Counter()
    seats = []
    for seed in seeds:
        shown, found = modes_of(replace(rollout, seed=seed))
        planted = planted_in(shown)
        for function, modes in found.items():
            for mode in FailureMode:
                outcome = ("planted" if mode in planted[function] else "not", "found" if mode in modes else "not")
                tally[(mode, *outcome)] += 1
        seats.append(shown)
    return tally, pl.concat(seats)


def table(title: str, seeds: list[int], rollout: Rollout) -> None:
    """Print precision and recall by mode."""
    started = time.perf_counter()
    tally, seats = count(seeds, rollout)
    used = seats.filter("in_use")
    print(
        f"\n{title}: {len(seeds)} rollouts of {rollout.seats:,} seats, {rollout.days} days ({time.perf_counter() - started:.0f} s)"
    )
    print(
        "| mode | segments planted | found | precision | recall | seats: precision | seats: recall |\n|---|---|---|---|---|---|---|"
    )
    for mode in FailureMode:
        hits, misses, false = (tally[mode, *k] for k in (("planted", "found"), ("planted", "not"), ("not", "found")))
        name = f"shows_{mode}"
        if mode in (FailureMode.LEADERSHIP_ABSENT, FailureMode.WRONG_METRIC):
            by_seat = "not said | not said"
        else:
            own = used["mode"] == str(mode)
            by_seat = " | ".join(_rate(int((own & used[name]).sum()), int(of.sum())) for of in (used[name], own))
        print(
            f"| `{mode}` | {hits + misses} | {hits + false} | {_rate(hits, hits + false)} | {_rate(hits, hits + misses)} | {by_seat} |"
        )


def _rate(hits: int, of: int) -> str:
    return f"{hits / of:.2f}" if of else "–"


def main() -> None:
    """Print a table for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seats", type=int, default=1800)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(201, 213)))
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    arguments = parser.parse_args()
    for title in arguments.settings:
        seeds = arguments.seeds if title == "as shipped" else arguments.seeds[:4]
        rollout = Rollout(seats=arguments.seats, days=126)
        table(title, seeds, replace(rollout, **SETTINGS[title]))  # type: ignore[arg-type]  # by name


if __name__ == "__main__":
    main()
