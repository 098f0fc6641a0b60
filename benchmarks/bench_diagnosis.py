"""Are the planted failure modes found? Precision and recall by mode, of segments and of seats, on simulated rollouts.

    python benchmarks/bench_diagnosis.py [--seats 1800] [--seeds 301 … 312] [--settings …] [--docs docs/diagnosis.md]

Every figure is of simulated data. A segment is a function of the organisation (nine of them, about 200 seats each); a mode
is planted in it where at least a quarter of its seats carry it. The thresholds were looked at on seeds 101 to 114 in some of
the settings; what is reported are other seeds.
"""

import argparse
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from features.compute import compute_features
from features.connectors.simulated import Rollout, open_simulated, open_truth
from features.diagnosis import SHOWS_FROM
from features.instants import to_microseconds
from features.interventions import FailureMode
from features.peers import days_needed, observe
from features.segments import seat_modes, segment_findings, window_snapshots
from features.sources import Source
from features.tables import ROSTER_SCHEMA
from features.tools import load_tools

PLANTED_FROM = 0.25
BEGIN, END = "<!-- bench_diagnosis: begin -->", "<!-- bench_diagnosis: end -->"
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
    modes = seat_modes(features, frame)
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
        function[0]: {mode for mode in FailureMode if (part["mode"] == str(mode)).sum() >= PLANTED_FROM * part.height}
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


@dataclass(frozen=True)
class Recovered:
    """How well the modes were found in the rollouts of one setting."""

    title: str
    rollouts: int
    tally: Counter[tuple[FailureMode, str, str]]
    seats: pl.DataFrame

    def segments(self, mode: FailureMode) -> tuple[int, int, int]:
        """Segments in which the mode was planted, was found, and both."""
        hits, misses, false = (
            self.tally[mode, *k] for k in (("planted", "found"), ("planted", "not"), ("not", "found"))
        )
        return hits + misses, hits + false, hits

    def whole(self) -> str:
        """A table with every mode."""
        used = self.seats.filter("in_use")
        lines = [
            "| mode | segments planted | found | precision | recall | seats: precision | seats: recall |",
            "|---|---|---|---|---|---|---|",
        ]
        for mode in FailureMode:
            planted, found, hits = self.segments(mode)
            by_seat = "not said | not said"
            if mode not in (FailureMode.LEADERSHIP_ABSENT, FailureMode.WRONG_METRIC):
                own, shown = used["mode"] == str(mode), used[f"shows_{mode}"]
                by_seat = " | ".join(_rate(int((own & shown).sum()), int(of.sum())) for of in (shown, own))
            lines.append(
                f"| `{mode}` | {planted} | {found} | {_rate(hits, found)} | {_rate(hits, planted)} | {by_seat} |"
            )
        return "\n".join(lines)

    def row(self) -> str:
        """A row of precision / recall by mode, of segments."""
        cells = []
        for mode in FailureMode:
            planted, found, hits = self.segments(mode)
            cells.append(f"{_rate(hits, found)} / {_rate(hits, planted)}")
        return f"| {self.title} | {self.rollouts} | {' | '.join(cells)} |"


def _rate(hits: int, of: int) -> str:
    return f"{hits / of:.2f}" if of else "–"


def report(found: list[Recovered], seats: int, seeds: list[int]) -> str:
    """What docs/diagnosis.md says: every mode for the simulator as it ships, and the other settings beside each other."""
    modes = " | ".join(f"`{mode}`" for mode in FailureMode)
    rows = "\n".join(one.row() for one in found)
    return f"""{found[0].title[0].upper()}{found[0].title[1:]}, {found[0].rollouts} rollouts of {seats:,} seats (seeds {seeds[0]} to {seeds[-1]}):

{found[0].whole()}

Segments in every setting, precision / recall:

| setting | rollouts | {modes} |
|---|---|{"---|" * len(FailureMode)}
{rows}"""


def write_between_marks(path: Path, text: str) -> None:
    """Put the text between the marks of the file. Raises ValueError where it has none."""
    before, mark, rest = path.read_text().partition(BEGIN)
    if not mark or END not in rest:
        raise ValueError(f"{path}: expected the lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def main() -> None:
    """Print a table for each setting; with --docs write what the page says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seats", type=int, default=1800)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(301, 313)))
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--docs", type=Path, help="File to put the tables into, between its marks.")
    arguments = parser.parse_args()
    found = []
    for title in arguments.settings:
        started = time.perf_counter()
        rollout = Rollout(seats=arguments.seats, days=126)
        rollout = replace(rollout, **SETTINGS[title])  # type: ignore[arg-type]  # by name
        found.append(Recovered(title, len(arguments.seeds), *count(arguments.seeds, rollout)))
        print(
            f"\n{title}: {len(arguments.seeds)} rollouts ({time.perf_counter() - started:.0f} s)\n{found[-1].whole()}",
            flush=True,
        )
    if arguments.docs:
        write_between_marks(arguments.docs, report(found, arguments.seats, arguments.seeds))


if __name__ == "__main__":
    main()
