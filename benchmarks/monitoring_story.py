"""A year of monitoring in one sitting, on simulated data: what the monitors say, step by step, as they print it.

    python benchmarks/monitoring_story.py [--seats 600] [--home FOLDER]

A healthy week; the connector of the tool's usage stops; it is mended and a department joins whose people give up far more
often; its labels mature and the signal asks for a new model; the new champion's risks hold again. Every step writes to the
real log, trains with the real training and runs the real monitors at the moment of the step; only the clock is told.
"""

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from features.catalogue import catalogue_hash
from features.compute import compute_features, pack
from features.connectors.simulated import Rollout, open_simulated
from features.events import Batch
from features.interventions import SHIPPED, load_interventions
from features.labels import label_snapshots, weekly_snapshots
from features.log import EventLog
from features.observed import observed
from features.peers import days_needed
from features.references import REFERENCE_FILE
from features.scorer import HORIZONS_DAYS, REFERENCE_ARTIFACT, REGISTERED_MODEL
from features.tables import Served
from features.tools import load_tools
from monitoring.report import MonitorRun, run_monitors
from monitoring.retrain import ask_for_retraining
from training import registry
from training.dataset import data_version
from training.signals import open_signal
from training.train import Trained, train

START = datetime(2026, 1, 5, tzinfo=UTC)
TRAINED = START + timedelta(weeks=18)
USAGE = "simulated:usage"
STOPPED_DAYS = 8


@dataclass(frozen=True)
class Step:
    """One step of the story: what happened, the run of the monitors after it, and whether a new model is asked for."""

    title: str
    at: datetime
    run: MonitorRun
    signal: str | None


class Story:
    """The log, the registry and the reports of one state folder, with a clock that is told."""

    def __init__(self, home: Path, *, seats: int, department: int) -> None:
        self.home, self.tools = home, load_tools()
        self.log = EventLog(f"sqlite:///{home / 'log.db'}")
        self._told_until = datetime(2000, 1, 1, tzinfo=UTC)
        self._batches = list(open_simulated(Rollout(seats=seats, days=330, start=START, seed=11)))
        joined = Rollout(
            seats=department,
            days=200,
            start=TRAINED + timedelta(weeks=3),
            seed=12,
            silent_share=0.93,
            interventions=False,
        )
        self._department = [_renamed(batch) for batch in open_simulated(joined)]

    def tell(self, until: datetime, *, without: Sequence[str] = (), department: bool = False) -> None:
        """Take in what sources had told by then; feeds in `without` are silent."""
        batches = [*self._batches, *(self._department if department else ())]
        for batch in batches:
            known = pc.and_(
                pc.less(batch.events.column("available_at"), pa.scalar(until)),
                pc.greater_equal(batch.events.column("available_at"), pa.scalar(self._told_until)),
            )
            silent = pc.is_in(batch.events.column("source"), value_set=pa.array(without, pa.string()))
            assigned = pc.less(batch.seats.column("assigned_at"), pa.scalar(until))
            seats = batch.seats.filter(assigned)
            events = batch.events.filter(pc.and_(known, pc.invert(silent)))
            self.log.append(Batch(seats, events, lags=batch.lags), now=until, source="simulated")
        if not without:
            self._told_until = until

    def train(self, at: datetime, *, seed: int = 7) -> Trained:
        """Train on what the log knows."""
        seats, events, sources = self.log.seats(), self.log.events(), self.log.sources()
        snapshots = weekly_snapshots(seats, until=at)
        labels = label_snapshots(snapshots, events=events, seats=seats, sources=sources, tools=self.tools)
        return train(
            self.home, self._features(snapshots), labels, seats=seats, decisions=(), tools=self.tools,
            data_version=data_version(events, seats=seats, tools=self.tools), seed=seed,
        )  # fmt: skip

    def serve(self, at: datetime) -> None:
        """Score every seat by the champion, as a nightly sweep and the morning's worklist do."""
        loaded = registry.load_champion(self.home)
        assert loaded is not None
        scorer, version = loaded
        there = pl.DataFrame(pl.from_arrow(self.log.seats().select(["seat_id", "assigned_at", "removed_at"]))).filter(
            pl.col("assigned_at") < at, pl.col("removed_at").is_null() | (pl.col("removed_at") > at)
        )
        features = self._features(there.select("seat_id", pl.lit(at).dt.cast_time_unit("us").alias("as_of")))
        vectors, categories = pack(features)
        risk = scorer.score(vectors, categories).risk
        self.log.record_served(
            [
                Served(
                    seat_id, at + timedelta(minutes=5), at, f"{REGISTERED_MODEL}/{version}", catalogue_hash(),
                    {str(days): float(risk[row, place]) for place, days in enumerate(HORIZONS_DAYS)}, vectors[row],
                    tuple(categories[row]),
                )
                for row, seat_id in enumerate(features["seat_id"])
            ]
        )  # fmt: skip

    def weeks(self, moments: Iterable[datetime], *, department: bool = True) -> None:
        """Weeks in which nothing but the usual happens."""
        for at in moments:
            self.tell(at, department=department)
            self.serve(at)

    def monitor(self, title: str, at: datetime) -> Step:
        """The run of the monitors an hour after the moment."""
        loaded = registry.load_champion(self.home)
        assert loaded is not None
        scorer, version = loaded
        now = at + timedelta(hours=1)
        run = run_monitors(
            self.log,
            reference_path=registry.champion_folder(self.home) / REFERENCE_ARTIFACT / REFERENCE_FILE,
            home=self.home,
            since=now - timedelta(days=7),
            until=now,
            model=f"{REGISTERED_MODEL}/{version}",
            scorer=scorer,
            tools=self.tools,
            catalogue=load_interventions(SHIPPED),
            auc_at_training=registry.metrics_of(self.home, version).get("model_auc_h28"),
            now=now,
        )
        ask_for_retraining(self.home, run, now=now)
        signal = open_signal(self.home)
        return Step(title, at, run, None if signal is None else signal.reason)

    def _features(self, snapshots: pl.DataFrame) -> pl.DataFrame:
        peers = observed(self.log, self.tools, days_needed(snapshots["as_of"].cast(pl.Int64).to_numpy()))
        return compute_features(
            snapshots, events=self.log.events(), roster=self.log.roster(), sources=self.log.sources(), tools=self.tools,
            peers=peers,
        )  # fmt: skip


def story(home: Path, *, seats: int = 600) -> list[Step]:
    """The steps, told as they happen."""
    told = Story(home, seats=seats, department=seats // 3)
    told.tell(TRAINED)
    told.train(TRAINED)
    week = [TRAINED + timedelta(weeks=number, hours=5) for number in range(40)]
    told.weeks(week[:2], department=False)
    steps = [told.monitor("a healthy week", week[1])]
    silent_from = week[2] - timedelta(days=STOPPED_DAYS) + timedelta(days=7)
    told.tell(silent_from)
    told.tell(week[3], without=[USAGE])
    told.serve(week[3])
    steps.append(told.monitor("the connector of usage stopped 8 days ago", week[3]))
    told.weeks(week[4:8])
    steps.append(told.monitor("it was mended; a department joined four weeks ago", week[7]))
    told.weeks(week[8:16])
    steps.append(told.monitor("labels of the department have matured", week[15]))
    trained = told.train(week[15])
    told.serve(week[15] + timedelta(hours=2))
    steps.append(
        told.monitor(
            f"trained on the signal; version {trained.version} serves: {trained.is_promoted}",
            week[15] + timedelta(hours=2),
        )
    )
    told.weeks(week[16:26])
    steps.append(told.monitor("ten weeks later the new champion's own labels have matured", week[25]))
    told.log.close()
    return steps


def _renamed(batch: Batch) -> Batch:
    """The seats of another organisation's simulation, as a department of ours: its ids, role and function are new."""

    def ours(column: pa.ChunkedArray) -> pa.Array:
        return pa.array([None if value is None else value.replace("/", "/care-", 1) for value in column.to_pylist()])

    seats = batch.seats
    for name in ("seat_id", "person_id", "manager_person_id", "team"):
        if name in seats.schema.names:
            place = seats.schema.get_field_index(name)
            values = seats.column(name)
            new = ours(values) if name != "team" else pa.array([f"care-{value}" for value in values.to_pylist()])
            seats = seats.set_column(place, seats.schema.field(place), new.cast(seats.schema.field(place).type))
    for name, value in (("role", "nurse"), ("function", "care")):
        place = seats.schema.get_field_index(name)
        seats = seats.set_column(place, seats.schema.field(place), pa.array([value] * seats.num_rows))
    events = batch.events
    for name in ("event_id", "seat_id"):
        place = events.schema.get_field_index(name)
        events = events.set_column(place, events.schema.field(place), ours(events.column(name)))
    return Batch(seats, events, lags=batch.lags)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seats", type=int, default=600)
    parser.add_argument("--home", type=Path, default=None)
    wanted = parser.parse_args()
    home = wanted.home or Path(tempfile.mkdtemp())
    home.mkdir(parents=True, exist_ok=True)
    for step in story(home, seats=wanted.seats):
        print(f"\n{step.at:%Y-%m-%d}: {step.title}. Exit status {step.run.status}.")
        for finding in step.run.findings:
            print(f"  {finding.severity.name}: {finding.changed} {finding.action}")
        if not step.run.findings:
            print("  The monitors found nothing to say.")
        if step.signal:
            print(f"  A new model is asked for: {step.signal}")


if __name__ == "__main__":
    main()
