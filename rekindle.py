"""Rekindle's command line and wiring: the only file that knows all four packages. Nothing imports it."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from datetime import date as calendar_date
from enum import StrEnum
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from features.cluster import Cluster
    from features.connectors.rollout_model import Rollout
    from features.events import Batch
    from features.explanation import Explanation
    from features.interventions import Intervention
    from features.log import Appended, EventLog, Source
    from features.population import Population
    from features.refresh import Refresher
    from features.runs import Manifest
    from features.segments import SeatModes
    from features.store import FeatureStore
    from features.tools import ToolProfile
    from monitoring.report import MonitorRun
    from serving.advisor import Advisor
    from serving.planning import Drawn, Proposal
    from serving.scores import Score
    from serving.settings import Settings
    from serving.watch import Watch
    from serving.webhooks import Webhooks
    from training.decided import Decided
    from training.evaluate import Estimate
    from training.train import Trained

HOME_VARIABLE = "REKINDLE_HOME"
DEFAULT_HOME = Path(".rekindle")
EXIT_UNEXPECTED, EXIT_BAD_INPUT, EXIT_SET_ASIDE, EXIT_REFUSED, EXIT_STOPPED = 1, 2, 3, 4, 130
SHOWN_REJECTIONS, SHOWN_FEATURES, SHOWN_EVENTS = 10, 12, 8
SHOWN_NOTICES = 40
DEMO_SEATS, DEMO_DAYS = 2_000, 180
NOTHING_TO_COMPARE = (
    "no model has been promoted, so there is nothing to compare with what is served: run `rekindle train` first, with "
    "enough history for a model that beats the rule"
)

STOPPED = "stopped; what was stored is complete and the command can be run again"
BLOCKS_FOLDER = "blocks"  # features.store takes it away when somebody is erased
ALIVE = "push.alive"  # touched by every round of `features push --watch`, for probes
PUSH_SEATS, WATCH_SECONDS = 1_000, 0.5
DAY_MICROSECONDS = 86_400_000_000
WIDTH_UNATTENDED = 120  # columns of tables that go to a file or a pipe

out = Console(width=None if sys.stdout.isatty() else WIDTH_UNATTENDED)
err = Console(stderr=True)
app = typer.Typer(
    help="Finds the people about to give up on an AI tool, says why, picks the next step, proves whether it worked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ingest_app = typer.Typer(help="Take in events and seats.", no_args_is_help=True)
features_app = typer.Typer(help="Build, push and show features.", no_args_is_help=True)
keys_app = typer.Typer(help="Keys of the API.", no_args_is_help=True)
webhooks_app = typer.Typer(help="Who is told when something begins at a seat.", no_args_is_help=True)
app.add_typer(ingest_app, name="ingest")
app.add_typer(features_app, name="features")
decisions_app = typer.Typer(help="Take decisions out, and in.", no_args_is_help=True)
app.add_typer(decisions_app, name="decisions")
app.add_typer(keys_app, name="keys")
app.add_typer(webhooks_app, name="webhooks")
monitor_app = typer.Typer()
app.add_typer(monitor_app, name="monitor")


@dataclass(frozen=True)
class State:
    """Everything that lives under the state folder, opened when first asked for."""

    home: Path

    @cached_property
    def log(self) -> "EventLog":
        """The event log."""
        from features.log import EventLog

        return EventLog(self.log_url)

    @property
    def log_url(self) -> str:
        """SQLAlchemy's URL of the event log."""
        return os.environ.get("REKINDLE_DATABASE") or f"sqlite:///{self.home.absolute() / 'log.db'}"

    @cached_property
    def store(self) -> "FeatureStore":
        """The feature store, its definitions applied."""
        from features.store import FeatureStore

        store = FeatureStore(self.home, redis=os.environ.get("REKINDLE_REDIS"))
        store.apply()
        return store

    @cached_property
    def tools(self) -> "dict[str, ToolProfile]":
        """The tool profiles, the customer's over the shipped ones."""
        from features.tools import load_tools

        return load_tools(self.home / "tools.yaml")

    @cached_property
    def refresher(self) -> "Refresher":
        """What keeps online features as fresh as the log."""
        from features.refresh import Refresher

        return Refresher(self.log, self.store, self.tools)

    def settings(self) -> "Settings":
        """What the service is told, from the environment and this folder."""
        from serving.settings import Settings

        return Settings.from_environment({**os.environ, HOME_VARIABLE: str(self.home)})

    @contextmanager
    def advisor(self) -> "Iterator[Advisor]":
        """The code behind the API, for as long as the block runs."""
        from serving.advisor import Advisor

        advisor = Advisor(self.settings(), clock=_now)
        try:
            yield advisor
        finally:
            advisor.close()

    @cached_property
    def webhooks(self) -> "Webhooks":
        """Who wants to be told what."""
        from serving.webhooks import Webhooks

        return Webhooks(self.log.database, key=self.pseudonym_key())

    def watch(self) -> "Watch":
        """What tells webhooks of seats whose features changed."""
        from serving.meters import Meters
        from serving.model import Champion
        from serving.watch import Watch

        champion = Champion(self.home, Meters())
        champion.refresh()
        return Watch(self.webhooks, self.log.database, champion, at_risk_from=self.settings().at_risk_threshold)

    def pseudonym_key(self) -> bytes:
        """The key of the pseudonyms."""
        from features.pseudonyms import KEY_VARIABLE, read_or_make_key

        return read_or_make_key(self.home, os.environ.get(KEY_VARIABLE))


def open_state() -> State:
    """The state folder, made where it is missing. Raises ValueError where it cannot be written."""
    home = Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME)
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"cannot write the state folder {home}: {error.strerror}; choose another with {HOME_VARIABLE}"
        ) from None
    return State(home)


# ---------------------------------------------------------------- ingest


Organization = Annotated[str, typer.Option(help="Organisation that the items belong to where they do not say.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]


@ingest_app.command("jsonl")
def ingest_jsonl(paths: list[Path], organization: Organization = "local", as_json: AsJson = False) -> None:
    """Our own format: one JSON object a line, seats and events (docs/events.md)."""
    from features.connectors.jsonl import SOURCE, open_jsonl

    state = open_state()
    _check_files(paths)
    batches = open_jsonl(paths, organization=organization, tools=state.tools, now=_now())
    _finish_ingest(_append(state, batches, source=SOURCE), as_json=as_json)


@ingest_app.command("auto")
def ingest_auto(
    paths: list[Path],
    organization: Organization = "local",
    tool: Annotated[str | None, typer.Option(help="Tool of what names none (streams, tickets, surveys).")] = None,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day of exports that do not say theirs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The vendors' own exports, files or folders: each is recognised by the fields that it has (`ingest formats`)."""
    from features import text
    from features.connectors.catalogue import recognise_all
    from features.connectors.edge import Edge
    from features.connectors.exports import open_exports, set_aside

    state = open_state()
    if tool is not None and tool not in state.tools:
        raise ValueError(f"--tool: expected one with a profile ({', '.join(sorted(state.tools))}), came {tool!r}")
    named = [path for path in paths if not path.is_dir()]
    _check_files(named)
    inside = [path for folder in paths if folder.is_dir() for path in _files_in(folder)]
    exports, unknown = recognise_all([*named, *inside])
    notices = [f"{file.path.name}: {file.reason}" for file in unknown if file.is_empty]
    unknown = [file for file in unknown if not file.is_empty]
    for file in unknown:
        if file.path in named:
            raise ValueError(f"{file.path} is of no known format: {file.reason}")
    if not exports:
        raise ValueError(f"{', '.join(map(str, paths))}: no file of a known format; see `rekindle ingest formats`")
    recognised = {str(export.path): export.connector.name for export in exports}
    edge = Edge(
        organization,
        state.pseudonym_key(),
        _now(),
        state.tools,
        tell=notices.append,
        text=text,  # the module itself has the two functions
        tool=tool,
        day=day.date() if day else None,
    )
    known = state.log.aliases(organization)
    batches = chain([set_aside(unknown)], open_exports(exports, edge, known=state.log.seats, aliases=known))
    counts: dict[str, dict[str, int]] = {}
    appended = _append(state, batches, source="auto", counts=counts)
    if not as_json:
        for name, file_format in recognised.items():
            said = ", ".join(f"{number:,} {what}" for what, number in counts[name].items())
            out.print(f"{name}: {file_format} · {said}", markup=False, highlight=False, soft_wrap=True)
        for notice in notices[:SHOWN_NOTICES]:
            out.print(f"  {notice}", markup=False, highlight=False, soft_wrap=True)
        if len(notices) > SHOWN_NOTICES:
            out.print(f"  … and {len(notices) - SHOWN_NOTICES:,} more; --json lists all")
    _finish_ingest(appended, as_json=as_json, more={"files": recognised, "counts": counts, "notices": notices})


@ingest_app.command("formats")
def ingest_formats(as_json: AsJson = False) -> None:
    """The formats that `ingest auto` knows, how each is recognised, how late it is, what it gives (docs/connectors.md)."""
    from features.connectors.catalogue import CONNECTORS, spoken

    if as_json:
        wanted = ("name", "title", "vendor", "tool", "lag_reason", "yields", "traps", "marks", "source")
        rows = [{name: getattr(one, name) for name in wanted} for one in CONNECTORS.values()]
        _print_json([{**row, "lag": spoken(CONNECTORS[row["name"]])} for row in rows])
        return
    table = Table("format", "what it is", "recognised by", "lag", "gives", show_lines=True)
    for one in CONNECTORS.values():
        marks = "\nor ".join(", ".join(names) for names in one.marks)
        table.add_row(one.name, one.title, marks, spoken(one), one.yields.replace("`", ""))
    out.print(table)


@ingest_app.command("git")
def ingest_git(
    paths: list[Path],
    organization: Organization = "local",
    tool: Annotated[
        str, typer.Option(help="`any`: one seat per author and repository; `each`: one per tool too; or a tool's name.")
    ] = "any",
    as_json: AsJson = False,
) -> None:
    """Git repositories: who takes up AI coding tools, and who lets go of them. Names never leave the connector."""
    from features.connectors.git import open_git

    state = open_state()
    with _progress("reading commits", unit="commits") as advance:
        batches = open_git(
            paths, organization=organization, tool=tool, key=state.pseudonym_key(), now=_now(), progress=advance
        )
        appended = _append(state, batches, source="git", show=False)
    _finish_ingest(appended, as_json=as_json)
    if not as_json and not appended.seats and not appended.accepted and not appended.duplicates:
        out.print("No commit in these histories names an AI tool in its trailers, so there is no seat to score.")


@ingest_app.command("simulated")
def ingest_simulated(
    seats: Annotated[int, typer.Option(min=1, help="Seats to simulate.")] = DEMO_SEATS,
    days: Annotated[int, typer.Option(min=1, help="Days to simulate, up to today.")] = DEMO_DAYS,
    seed: Annotated[int, typer.Option(help="Same seed, same rollout.")] = 7,
    as_json: AsJson = False,
) -> None:
    """A simulated rollout with known truth; every figure drawn from it is simulated."""
    _finish_ingest(_ingest_rollout(open_state(), seats=seats, days=days, seed=seed), as_json=as_json)


def _ingest_rollout(state: State, *, seats: int, days: int, seed: int) -> "Appended":
    from features.connectors.rollout_model import Rollout
    from features.connectors.simulated import open_simulated, write_truth

    today = _now().replace(hour=0, minute=0, second=0, microsecond=0)
    rollout = Rollout(seats=seats, days=days, seed=seed, start=today - timedelta(days=days))
    rollout = replace(rollout, start=_start_of_rollout(state, rollout))
    appended = _append(state, open_simulated(rollout), source="simulated")
    write_truth(rollout, state.home / "truth")
    return appended


def _check_files(paths: list[Path]) -> None:
    """Every file before the first is taken in. Raises ValueError naming the one that cannot be read."""
    for path in paths:
        if not path.exists():
            raise ValueError(f"cannot read {path}: there is no such file")
        if not path.is_file():  # seats are read before events: of a pipe the events would be lost
            raise ValueError(f"cannot read {path}: expected a file, which can be read twice")
        if not os.access(path, os.R_OK):
            raise ValueError(f"cannot read {path}: permission denied")


def _files_in(folder: Path) -> list[Path]:
    """The files in a folder and those below, without hidden ones."""
    below = (path for path in folder.rglob("*") if path.is_file())
    files = sorted(path for path in below if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    _check_files(files)
    return files


def _start_of_rollout(state: State, rollout: "Rollout") -> datetime:
    """When the rollout began that is in the folder already, else as asked: two of them would share their identifiers."""
    path = state.home / "truth" / "rollout.json"
    asked = {"seats": rollout.seats, "days": rollout.days, "seed": rollout.seed}
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(orjson.dumps({**asked, "start": rollout.start}))
        return rollout.start
    there = orjson.loads(path.read_bytes())
    start = datetime.fromisoformat(there.pop("start"))
    if there != asked:
        kept = ", ".join(f"--{name} {value}" for name, value in there.items())
        raise ValueError(
            f"{state.home} already holds another simulated rollout ({kept}): ask for that one, or choose another "
            f"folder with {HOME_VARIABLE}"
        )
    return start


def _append(
    state: State,
    batches: "Iterable[Batch]",
    *,
    source: str,
    show: bool = True,
    counts: dict[str, dict[str, int]] | None = None,
) -> "Appended":
    """counts: takes what became of each file, where the batches name theirs."""
    from features.log import Appended

    total = Appended()
    with _progress("storing", unit="events", show=show) as advance:
        for batch in batches:
            stored = state.log.append(batch, now=_now(), source=source)
            total += stored
            advance(batch.events.num_rows)
            if counts is not None and batch.file:
                of = counts.setdefault(
                    batch.file, dict.fromkeys(("records", "new events", "known already", "set aside"), 0)
                )
                of["records"] += batch.records
                of["new events"] += stored.accepted
                of["known already"] += stored.duplicates
                of["set aside"] += len(stored.rejected)
    return total


def _finish_ingest(appended: "Appended", *, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    counts = {name: value for name, value in asdict(appended).items() if name != "rejected"}
    if as_json:
        _print_json({**counts, **(more or {}), "rejected": [asdict(item) for item in appended.rejected]})
    else:
        out.print(
            f"{appended.seats:,} new seats or changes, {appended.accepted:,} new events, {appended.duplicates:,} already "
            f"known, {appended.decisions:,} decisions, {len(appended.rejected):,} items set aside."
        )
        for item in appended.rejected[:SHOWN_REJECTIONS]:
            err.print(f"  set aside: {item}", markup=False, highlight=False, soft_wrap=True)
        if len(appended.rejected) > SHOWN_REJECTIONS:
            err.print(f"  … and {len(appended.rejected) - SHOWN_REJECTIONS:,} more, kept in the log's table set_aside")
    if appended.rejected:
        raise typer.Exit(EXIT_SET_ASIDE)


# ---------------------------------------------------------------- features


class Engine(StrEnum):
    """What works on blocks of seats."""

    LOCAL = "local"
    DASK = "dask"


OnEngine = Annotated[Engine, typer.Option("--engine", help="`local`: threads of this process; `dask`: a cluster.")]
Address = Annotated[str, typer.Option(help="A running Dask scheduler, tcp://…; without it, local worker processes.")]
Workers = Annotated[int, typer.Option(min=1, help="Local worker processes of --engine dask.")]
EventsAt = Annotated[
    str, typer.Option("--events", help="Read this archive of events (`rekindle archive`), not the log.")
]


@app.command("archive")
def archive_command(address: str, as_json: AsJson = False) -> None:
    """Bring an archive of the log up to date: Parquet by day, on a disk or any fsspec address (s3://…)."""
    from features.archive import write_archive

    state = open_state()
    _known_seats(state)
    with _progress("writing days", unit="events") as advance:
        archive = write_archive(state.log, address, until=_now(), progress=advance)
    document = {"address": address, "days": len(archive.days), "events": archive.rows}
    _say(document, f"{archive.rows:,} events of {len(archive.days):,} days are at {address}.", as_json=as_json)


@features_app.command("build")
def features_build(
    threads: Annotated[int, typer.Option(min=1, help="Blocks of seats at once.")] = 2,
    engine: OnEngine = Engine.LOCAL,
    address: Address = "",
    workers: Workers = 2,
    events: EventsAt = "",
    out_address: Annotated[
        str, typer.Option("--out", help="Where blocks of --engine dask go, on a disk or any fsspec address.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Weekly snapshots of every seat, offline, for training; also registers them with Feast."""
    _check_engine(engine, address=address, events=events)
    state = open_state()
    if engine is Engine.LOCAL:
        snapshots = _build(state, threads=threads)
        _say({"snapshots": snapshots}, f"{snapshots:,} weekly snapshots are in the offline store.", as_json=as_json)
        return
    from features.runs import read_blocks

    blocks = out_address or str(state.home.absolute() / BLOCKS_FOLDER / "features")
    with _cluster(address, workers) as cluster:
        manifest, peak = _build_on(state, cluster, blocks, events=events, with_labels=False)
    with _progress("writing the offline store", unit="snapshots") as advance:
        snapshots = state.store.write_offline(_watched(read_blocks(blocks), advance))
    document = {"snapshots": snapshots, "blocks": len(manifest.blocks), "computed": manifest.facts["computed_blocks"],
                "out": blocks, "peak_mib": peak}  # fmt: skip
    _say(
        document,
        f"{snapshots:,} weekly snapshots are in the offline store, from {len(manifest.blocks):,} blocks of which "
        f"{manifest.facts['computed_blocks']:,} were computed now; at most {peak:,} MiB a worker.",
        as_json=as_json,
    )


def _check_engine(engine: Engine, *, address: str, events: str = "") -> None:
    if engine is Engine.LOCAL and (address or events):
        raise ValueError("--address and --events belong to --engine dask")


@contextmanager
def _cluster(address: str, workers: int) -> "Iterator[Cluster]":
    from features.cluster import open_cluster

    with open_cluster(address or None, workers=workers) as cluster:
        yield cluster


def _build_on(
    state: State, cluster: "Cluster", out_address: str, *, events: str, with_labels: bool
) -> "tuple[Manifest, int]":
    """The blocks at the address, and the most MiB that a worker held."""
    from features.archive import Archive
    from features.engine import Inputs, build_on

    if events:
        inputs = Inputs.of_archive(Archive.open(events), state.tools)
    else:
        _known_seats(state)
        inputs = Inputs.of_log(state.log, None if os.environ.get("REKINDLE_DATABASE") else state.log_url, state.tools)
    until = _complete_until(list(inputs.sources))
    with _progress("computing features on the cluster", unit="snapshots") as advance:
        manifest = build_on(cluster, inputs, out_address, until=until, with_labels=with_labels, progress=advance)
    return manifest, round(max(cluster.peak_mebibytes().values(), default=0.0))


@features_app.command("sweep")
def features_sweep(
    as_of: Annotated[
        str, typer.Option(help="Instant (ISO 8601), `now`, or `latest`: as far as the data reaches.")
    ] = "now",
    threads: Annotated[int, typer.Option(min=1, help="Blocks of seats at once.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Features of every seat at one moment, to the online store. Nightly: they change also when nothing happens."""
    state = open_state()
    seats = _known_seats(state).num_rows
    pushed = _sweep(state, _instant(state, as_of), threads=threads)
    left_out = f"; {seats - pushed:,} have newer ones there, which stay" if pushed < seats else ""
    _say(
        {"pushed": pushed, "left_out": seats - pushed},
        f"The features of {pushed:,} seats went to the online store{left_out}.",
        as_json=as_json,
    )


@features_app.command("push")
def features_push(
    seats: Annotated[list[str] | None, typer.Argument(help="Seats (organization/seat) to refresh besides.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until stopped, as the service does.")] = False,
    as_json: AsJson = False,
) -> None:
    """Features of the seats of which something new is known, to the online store. The service does it by itself."""
    state = open_state()
    _known_seats(state)
    if seats:
        known = set(state.log.seats(seats).column("seat_id").to_pylist())
        for seat in seats:
            if seat not in known:
                raise ValueError(f"{seat} is not in the roster; `rekindle score` names seats: organization/seat")
        state.log.touch(seats, now=_now())
    pushed = 0
    with _progress("refreshing seats", unit="seats") as advance:
        while True:
            part = state.refresher.refresh(at_most=PUSH_SEATS, clock=_now)
            pushed += part
            advance(part)
            if watch:
                (state.home / ALIVE).touch()
            if not part:
                if not watch:
                    break
                time.sleep(WATCH_SECONDS)
    _say({"pushed": pushed}, f"The features of {pushed:,} seats went to the online store.", as_json=as_json)


@features_app.command("show")
def features_show(
    seat: str,
    as_of: Annotated[str, typer.Option(help="Instant (ISO 8601), `now`, or `latest`.")] = "now",
    as_json: AsJson = False,
) -> None:
    """One seat's features and what they rest on. What would tell of fewer than ten others is withheld."""
    from features.catalogue import FEATURES, is_about_few, say

    state = open_state()
    if not state.log.seats([seat]).num_rows:
        raise ValueError(f"{seat} is not in the roster; `rekindle score` names seats: organization/seat")
    moment = _instant(state, as_of)
    row = _features_at(state, [seat], moment).row(0, named=True)
    withheld = [feature.name for feature in FEATURES if is_about_few(feature, row)]
    rests_on = _evidence(state, seat, moment)
    if as_json:
        known = {name: None if name in withheld else value for name, value in row.items()}
        missing = [f.name for f in FEATURES if not f.is_category and row[f.name] != row[f.name]]
        _print_json({**known, "withheld": withheld, "missing": missing, **rests_on})
        return
    table = Table("group", "feature", "value", "unit", "in words", title=f"{seat} at {row['as_of']:%Y-%m-%d %H:%M} UTC")
    for feature in FEATURES:
        value = row[feature.name]
        is_missing = value is None or value != value
        shown = f"missing ({feature.missing})" if is_missing else value if feature.is_category else f"{value:g}"
        if feature.name in withheld:
            shown = "withheld: it would tell what few others do"
        words = "" if is_missing or feature.is_category or feature.name in withheld else say(feature, value)
        table.add_row(feature.group, feature.name, shown, feature.unit, words)
    out.print(table)
    _print_evidence(rests_on)


def _evidence(state: State, seat: str, as_of: datetime) -> dict[str, Any]:
    """Where the windows end, the sources that say so, and the last events that the features were made of."""
    import numpy as np
    import polars as pl

    from features.coding import CODED_COLUMNS
    from features.instants import from_microseconds, to_microseconds
    from features.roster import Roster

    sources, roster = state.log.sources(), Roster.of(state.log.roster([seat]))
    moment = np.array([to_microseconds(as_of)])
    version = roster.at(np.zeros(1, np.int64), moment)
    end = from_microseconds(int(moment[0] - roster.lag(sources, version, moment)[0]))
    (organization, tool) = roster.frame.select("organization", "tool").row(int(version[0]))
    events = pl.DataFrame(pl.from_arrow(state.log.events([seat], columns=(*CODED_COLUMNS, "source"))))
    seen = events.filter((pl.col("occurred_at") < end) & (pl.col("available_at") <= as_of))
    shown = ("occurred_at", "available_at", "kind", "workflow", "value", "count", "completed", "category", "source")
    return {
        "window_end": end,
        "sources": [
            {
                "source": source.source,
                "lag_hours": source.lag / timedelta(hours=1),
                "complete_until": min(source.watermark - source.lag, end),
            }
            for source in sources
            if (source.organization, source.tool) == (organization, tool) and source.first_available_at <= as_of
        ],
        "events": seen.height,
        "last_events": seen.sort("occurred_at", descending=True).head(SHOWN_EVENTS).select(shown).to_dicts(),
    }


def _print_evidence(rests_on: Mapping[str, Any]) -> None:
    out.print(f"Windows end at {rests_on['window_end']:%Y-%m-%d %H:%M} UTC; made of {rests_on['events']:,} events.")
    sources = Table("source", "lag in hours", "complete until", title="Sources")
    for source in rests_on["sources"]:
        sources.add_row(source["source"], f"{source['lag_hours']:g}", f"{source['complete_until']:%Y-%m-%d %H:%M}")
    out.print(sources)
    last = Table("occurred", "kind", "workflow", "value", "count", "completed", "source", title="Last events")
    for event in rests_on["last_events"]:
        cells = (event[name] for name in ("kind", "workflow", "value", "count", "completed", "source"))
        last.add_row(f"{event['occurred_at']:%Y-%m-%d %H:%M}", *("" if cell is None else f"{cell}" for cell in cells))
    out.print(last)


def _build(state: State, *, threads: int = 2) -> int:
    """Weekly snapshots, offline; how many."""
    import numpy as np

    from features.coding import CODED_COLUMNS
    from features.compute import compute_blocks, seat_blocks
    from features.instants import to_microseconds
    from features.labels import weekly_snapshots
    from features.observed import observed
    from features.parallel import reuse_memory
    from features.peers import days_needed

    seats, sources = _known_seats(state), state.log.sources()
    until = _complete_until(sources)
    first = min(seats.column("assigned_at").to_pylist())
    every_day = np.arange(to_microseconds(first), to_microseconds(until) + DAY_MICROSECONDS, DAY_MICROSECONDS)
    reuse_memory()
    with _progress("observing teams, roles and managers"):
        peers = observed(state.log, state.tools, days_needed(every_day), threads=threads)
    blocks = compute_blocks(
        seat_blocks(seats),
        snapshots=lambda block: weekly_snapshots(block, until=until),
        read_events=lambda wanted: state.log.events(wanted, columns=CODED_COLUMNS),
        roster=state.log.roster(),
        sources=sources,
        tools=state.tools,
        peers=peers,
        threads=threads,
    )
    with _progress("computing features", unit="snapshots") as advance:
        rows = state.store.write_offline(_watched(blocks, advance))
    state.store.erase(sorted(state.log.erased(seats.column("seat_id").to_pylist())))  # erased meanwhile
    return rows


def _watched(blocks: "Iterator[pl.DataFrame]", advance: Callable[[int], None]) -> "Iterator[pl.DataFrame]":
    for block in blocks:
        yield block
        advance(block.height)


def _sweep(state: State, as_of: datetime, *, threads: int = 2) -> int:
    from features.parallel import reuse_memory

    reuse_memory()
    seats = _known_seats(state).num_rows
    with _progress("refreshing every seat", unit="seats", total=seats) as advance:
        pushed = 0
        if state.webhooks.all():  # silence begins where nothing happens: the sweep sees it, an event cannot
            state.refresher.pushed = state.watch().look
        for part in state.refresher.sweep(as_of, threads=threads):
            pushed += part
            advance(part)
    return pushed


def _features_at(state: State, seat_ids: list[str], as_of: datetime) -> "pl.DataFrame":
    return _features_of(state, seat_ids, [as_of] * len(seat_ids))


def _features_of(state: State, seat_ids: list[str], as_of: list[datetime]) -> "pl.DataFrame":
    import numpy as np
    import polars as pl

    from features.compute import SNAPSHOT_SCHEMA, compute_features
    from features.instants import to_microseconds
    from features.observed import observed
    from features.peers import days_needed

    snapshots = pl.DataFrame({"seat_id": seat_ids, "as_of": as_of}, schema=SNAPSHOT_SCHEMA)
    return compute_features(
        snapshots,
        events=state.log.events(seat_ids),
        roster=state.log.roster(seat_ids),
        sources=state.log.sources(),
        tools=state.tools,
        peers=observed(state.log, state.tools, days_needed(np.array([to_microseconds(instant) for instant in as_of]))),
    )


def _known_seats(state: State) -> "pa.Table":
    seats = state.log.seats()
    if not seats.num_rows:
        raise ValueError("the log has no seats yet: run `rekindle ingest SOURCE …` first")
    return seats


def _complete_until(sources: "list[Source]") -> datetime:
    if not sources:
        raise ValueError("the log has seats but no events yet: run `rekindle ingest SOURCE …` first")
    return max(source.watermark for source in sources) + timedelta(microseconds=1)


def _instant(state: State, text: str, sources: "list[Source] | None" = None) -> datetime:
    """The instant that an option names. sources: those that `latest` speaks of, all by default."""
    from features.events import EARLIEST

    if text == "now":
        return _now()
    if text == "latest":
        return _complete_until(state.log.sources() if sources is None else sources)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"--as-of: expected `now`, `latest` or a date and time such as 2026-05-04T09:30:00Z, came {text!r}"
        ) from None
    if instant.tzinfo is None:
        raise ValueError(f"--as-of: expected a time with its offset, such as 2026-05-04T09:30:00Z, came {text!r}")
    if not EARLIEST <= instant <= _now():  # a row from the future would keep every later one out of the online store
        raise ValueError(f"--as-of: expected from {EARLIEST.date()} until now, came {text!r}")
    return instant.astimezone(UTC)


# ---------------------------------------------------------------- train, score


@app.command("train")
def train_command(
    seed: Annotated[int, typer.Option(help="Same data, same seed, same model.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="Threads of LightGBM.")] = 1,
    tune: Annotated[int, typer.Option(min=0, help="Trials of a search of the trees' parameters; resumes.")] = 0,
    on_signal: Annotated[bool, typer.Option(help="Only if monitoring asked for a new model.")] = False,
    engine: OnEngine = Engine.LOCAL,
    address: Address = "",
    workers: Workers = 2,
    events: EventsAt = "",
    as_json: AsJson = False,
) -> None:
    """Fit the risk model on the past, judge it on what came later, register it, promote it if it is better."""
    from training.signals import open_signal

    state = open_state()
    if on_signal and open_signal(state.home) is None:
        _say({"trained": False}, "Monitoring has not asked for a new model: nothing to do.", as_json=as_json)
        return
    _check_engine(engine, address=address, events=events)
    if engine is Engine.DASK:
        with _cluster(address, workers) as cluster:
            data = _training_data_on(state, cluster, events=events)
            trained = _train(state, seed=seed, threads=threads, trials=tune, data=data, cluster=cluster)
    else:
        trained = _train(state, seed=seed, threads=threads, trials=tune)
    if as_json:
        _print_json(asdict(trained))
        return
    _print_trained(trained)


def _train(
    state: State,
    *,
    seed: int,
    threads: int,
    trials: int = 0,
    data: dict[str, Any] | None = None,
    cluster: "Cluster | None" = None,
) -> "Trained":
    from features.scorer import REGISTERED_MODEL
    from training.train import train

    data = data or _training_data(state)
    with _progress("fitting, calibrating and judging the model"):
        trained = train(state.home, **data, seed=seed, threads=threads, trials=trials, cluster=cluster)
    if trained.version is not None:
        state.store.register_model(REGISTERED_MODEL, trained.version)
    return trained


def _training_data(state: State) -> dict[str, Any]:
    """Features and labels of the same snapshots, and what training is told beside them."""
    from features.labels import label_snapshots
    from training.dataset import data_version

    seats, events, sources = _known_seats(state), state.log.events(), state.log.sources()
    snapshots = state.store.snapshots()
    with _progress("joining features to labels"):
        labels = label_snapshots(snapshots, events=events, seats=seats, sources=sources, tools=state.tools)
        features = state.store.historical(snapshots)
    return {
        "features": features,
        "labels": labels,
        "seats": seats,
        "decisions": state.log.decisions(),
        "tools": state.tools,
        "data_version": data_version(events),
    }


def _training_data_on(state: State, cluster: "Cluster", *, events: str) -> dict[str, Any]:
    """The same as _training_data, features and labels computed together on the cluster: Feast's join is not needed."""
    import polars as pl

    from features.engine import split_labels
    from features.runs import read_blocks

    address = str(state.home.absolute() / BLOCKS_FOLDER / "training")
    manifest, _ = _build_on(state, cluster, address, events=events, with_labels=True)
    features, labels = split_labels(pl.concat(read_blocks(address)))
    return {
        "features": features,
        "labels": labels,
        "seats": _known_seats(state),
        "decisions": state.log.decisions(),
        "tools": state.tools,
        "data_version": f"blocks-{manifest.fingerprint}",
    }


def _print_trained(trained: "Trained", *, horizons: Iterable[int] | None = None) -> None:
    out.print(
        f"Model: [bold]{trained.method}[/], version {trained.version}, fitted on {trained.train_snapshots:,} snapshots "
        f"with {trained.abandonments:,} abandonments, judged on {trained.test_snapshots:,} later ones."
    )
    notes = (trained.note, trained.activation_note)
    for note in (note for note in notes if note):
        out.print(f"Note: {note}.", highlight=False)
    for missing in trained.shortcomings if horizons is None else ():
        out.print(f"Missing: {missing}.", highlight=False)
    _print_metrics(trained.metrics, horizons=horizons)
    if horizons is None:
        _print_metrics(trained.activation, of="Seats that never started, not begun")
    verb = "Promoted" if trained.is_promoted else "Not promoted"
    out.print(f"{verb}: {trained.why}.", highlight=False)
    if trained.closed_signal is not None:
        out.print(f"This answers what monitoring asked for: {trained.closed_signal}", highlight=False)
    out.print(f"Report: {trained.report}", highlight=False, markup=False, soft_wrap=True)


def _print_metrics(
    metrics: "Mapping[int, Mapping[str, Mapping[str, Estimate]]]",
    *,
    horizons: Iterable[int] | None = None,
    of: str = "Abandoned",
) -> None:
    for horizon, methods in metrics.items():
        if not methods or (horizons is not None and horizon not in horizons):
            continue
        names = next(iter(methods.values()))
        table = Table("method", *names, title=f"{of} by {horizon} days, with 95 % intervals over people")
        for method, values in methods.items():
            table.add_row(method, *(str(estimate) for estimate in values.values()))
        out.print(table)


@app.command("evaluate")
def evaluate_command(
    backtest: Annotated[bool, typer.Option(help="Also fit and judge models of moments in the past.")] = False,
    seed: Annotated[int, typer.Option(help="Same data, same seed, same intervals.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="Threads of LightGBM.")] = 1,
    as_json: AsJson = False,
) -> None:
    """The report on the champion: what came after its training, by segment and week of life, beside the baselines."""
    from training.examine import evaluate_champion

    state = open_state()
    data = _training_data(state)
    with _progress("judging the champion"):
        found = evaluate_champion(state.home, **data, with_backtest=backtest, seed=seed, threads=threads)
    if as_json:
        past = None if found.backtest is None else found.backtest.document()
        evaluation = found.judgement.document()
        _print_json({"version": found.version, "evaluation": evaluation, "backtest": past, "report": str(found.page)})
        return
    out.print(
        f"Champion: version {found.version}, judged on {found.judgement.snapshots:,} snapshots after its training."
    )
    _print_metrics(found.judgement.metrics)
    if found.backtest is not None:
        _print_metrics(found.backtest.pooled, of=f"Backtest of {len(found.backtest.origins)} origins, abandoned")
    out.print(f"Report: {found.page}", highlight=False, markup=False, soft_wrap=True)


OfEffects = Annotated[bool, typer.Option("--effects", help="Of the learned effects, in place of the risk model.")]


@app.command("promote")
def promote_command(
    version: Annotated[str | None, typer.Argument(help="Version in the registry; the newest by default.")] = None,
    effects: OfEffects = False,
    seed: Annotated[int, typer.Option(help="Same data, same seed, same verdict.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion if it passes the gate on data later than its training. Exit status 4 where it does not."""
    from training.examine import promote_if_better

    state = open_state()
    if effects:
        _promote_effects(state, version, seed=seed, as_json=as_json)
        return
    data = _training_data(state)
    del data["data_version"]
    with _progress("applying the gate"):
        promotion = promote_if_better(state.home, **data, version=version, now=_now(), seed=seed)
    verb = "is the champion" if promotion.is_promoted else "was not promoted"
    _say(asdict(promotion), f"Version {promotion.version} {verb}: {promotion.why}.", as_json=as_json)
    if not promotion.is_promoted:
        raise typer.Exit(EXIT_REFUSED)


def _promote_effects(state: State, version: str | None, *, seed: int, as_json: bool) -> None:
    from training.learn import promote_effects

    decided, seat_value = _decided_data(state), state.settings().terms.seat_value
    with _progress("applying the gate"):
        found = promote_effects(state.home, decided.learning, seat_value=seat_value, version=version, seed=seed)
    verb = "tells the effects" if found.is_promoted else "was not promoted"
    _say(asdict(found), f"Version {found.version} of the effects {verb}: {found.why}.", as_json=as_json)
    if not found.is_promoted:
        raise typer.Exit(EXIT_REFUSED)


@app.command("rollback")
def rollback_command(effects: OfEffects = False, as_json: AsJson = False) -> None:
    """Put the champion before the present one back."""
    from features.effects import REGISTERED_EFFECTS
    from features.scorer import REGISTERED_MODEL
    from training.registry import rollback

    name = REGISTERED_EFFECTS if effects else REGISTERED_MODEL
    withdrawn, restored = rollback(open_state().home, at=_now().isoformat(), name=name)
    sentence = f"Version {restored} serves again; version {withdrawn} was withdrawn."
    _say({"withdrawn": withdrawn, "restored": restored}, sentence, as_json=as_json)


@app.command("explain")
def explain_command(
    seat: Annotated[str, typer.Argument(help="A seat: organization/seat.")],
    png: Annotated[Path | None, typer.Option(help="Also draw it into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Why a seat's risk is what it is: what the model adds up, by failure mode and by feature. Behaviour, not character."""
    from features.catalogue import CATEGORIES
    from features.explanation import explain
    from serving.scores import PRODUCT_HORIZON
    from training import plots

    state = open_state()
    with state.advisor() as advisor:
        scores, _ = _scores(state, advisor, [seat], top=1)
        score = scores[0]
        parts = advisor.champion.current.scorer.contributions(score.row.vector[None, :], [score.row.categories])
    if not parts:
        raise ValueError(
            f"the rule speaks of {seat} ({score.note or 'no model has learned enough'}), and it adds nothing up: "
            f"{'; '.join(reason.sentence for reason in score.reasons or ()) or 'no early warning shows'}"
        )
    named = dict(zip((feature.name for feature in CATEGORIES), score.row.categories, strict=True))
    title = f"{seat} at {score.row.as_of:%Y-%m-%d}: risk by 28 days {_percent(score.risk[PRODUCT_HORIZON])}"
    explained = explain(score.row.vector, named, {name: float(part[0]) for name, part in parts.items()}, title=title)
    if png is not None:
        plots.save(plots.explanation(explained), png)
    if as_json:
        _print_json({"score": _score_document(score), "explanation": asdict(explained)})
        return
    _print_explanation(explained)
    _print_model(score)
    if png is not None:
        out.print(f"Plot: {png}", highlight=False, markup=False, soft_wrap=True)


def _print_explanation(explained: "Explanation") -> None:
    modes = Table("what it speaks to", "adds", "evidence", title=explained.title, show_lines=True)
    for mode in explained.modes:
        modes.add_row(mode.words, f"{mode.contribution:+.2f}", mode.evidence or "–")
    out.print(modes)
    features = Table("feature", "adds", "in words", title="The weightiest features")
    for part in explained.features[:SHOWN_FEATURES]:
        features.add_row(part.feature, f"{part.contribution:+.2f}", part.sentence or "–")
    out.print(features)
    out.print(
        f"Log-odds that the silence begins now, before calibration: {explained.base:+.2f} for seats in general, "
        f"{explained.raw_score:+.2f} for this one; the parts add up to the difference.",
        highlight=False,
    )


@app.command("score")
def score_command(
    seats: Annotated[
        list[str] | None, typer.Argument(help="Seats (organization/seat); all where none is named.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many to show, the riskiest first.")] = 10,
    parquet: Annotated[
        str, typer.Option(help="Score this file of feature rows instead (seat_id, as_of, FEATURES).")
    ] = "",
    out_file: Annotated[Path | None, typer.Option("--out", help="Where the risks of --parquet go.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Blocks of --parquet scored at once.")] = 2,
    engine: OnEngine = Engine.LOCAL,
    address: Address = "",
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """The seats most at risk, how sure that is, and why. Uses the features that are online."""
    from serving.scores import is_stale

    state = open_state()
    _check_engine(engine, address=address)
    if parquet or out_file is not None:
        _score_file(state, parquet, out_file, threads=threads, as_json=as_json, on=_on(engine, address, workers))
        return
    if engine is Engine.DASK:
        raise ValueError("--engine dask scores files: it needs --parquet and --out")
    with state.advisor() as advisor:
        scores, unanswered = _scores(state, advisor, seats, top=top)
    if as_json:
        _print_json([_score_document(score) for score in scores])
    elif scores:
        newest = max(score.row.as_of for score in scores)
        age = " (old: push again)" if is_stale((_now() - newest).total_seconds()) else ""
        out.print(_risk_table(scores, title=f"Seats most at risk, as of {newest:%Y-%m-%d %H:%M} UTC{age}"))
        _print_model(scores[0])
    else:
        out.print("No seat is in use, so none is at risk of being given up.")
    if seats and unanswered:
        for detail in unanswered:
            err.print(f"  set aside: {detail}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_SET_ASIDE)


def _on(engine: Engine, address: str, workers: int) -> "AbstractContextManager[Cluster | None]":
    return _cluster(address, workers) if engine is Engine.DASK else nullcontext()


def _score_file(
    state: State,
    source: str,
    target: Path | None,
    *,
    threads: int,
    as_json: bool,
    on: "AbstractContextManager[Cluster | None]",
) -> None:
    from features.bulk import join_blocks, score_on, score_parquet
    from features.scorer import Method, Scorer
    from training.registry import load_champion

    if not source or target is None:
        raise ValueError("--parquet and --out belong together: the feature rows, and the file for their risks")
    champion = load_champion(state.home)
    scorer = Scorer(Method.RULE, note="no model has been promoted yet") if champion is None else champion[0]
    with on as cluster, _progress("scoring", unit="seats") as advance:
        if cluster is None:
            scored = score_parquet(Path(source), target, scorer, threads=threads, progress=advance)
        else:
            blocks = str(state.home.absolute() / BLOCKS_FOLDER / "scores")
            score_on(cluster, source, blocks, scorer, progress=advance)
            scored = join_blocks(blocks, target)
    document = {"scored": scored, "out": str(target), "method": str(scorer.method), "note": scorer.note}
    _say(document, f"The risks of {scored:,} rows are in {target}, by {scorer.method}.", as_json=as_json)


def _scores(state: State, advisor: "Advisor", seats: list[str] | None, *, top: int) -> "tuple[list[Score], list[str]]":
    """The riskiest seats in use, with their reasons, and why others have no score; what was scored is logged."""
    from features.rules import Stratum
    from serving.problems import Problem
    from serving.scores import PRODUCT_HORIZON, Score, score_rows

    wanted = seats or _known_seats(state).column("seat_id").to_pylist()
    with _progress("scoring", unit="seats", total=len(wanted)) as advance:
        scores: list[Score] = []
        unanswered: list[str] = []
        for start in range(0, len(wanted), advisor.settings.max_batch):
            part = wanted[start : start + advisor.settings.max_batch]
            _, answers = advisor.score(part, explain=False)
            scores += [answer for answer in answers if isinstance(answer, Score)]
            unanswered += [answer.detail for answer in answers if isinstance(answer, Problem)]
            advance(len(part))
    if not scores and seats:
        raise ValueError("; ".join(unanswered[:SHOWN_REJECTIONS]))
    if not seats and all(score.row.is_from_log for score in scores):  # of some requests' first seats only
        raise ValueError("no seat has features online: run `rekindle features sweep` first")
    shown = scores if seats else [score for score in scores if score.stratum == str(Stratum.IN_USE)]
    riskiest = sorted(shown, key=lambda score: (-score.risk[PRODUCT_HORIZON], score.row.seat_id))[:top]
    rows, champion = [score.row for score in riskiest], advisor.champion
    return score_rows(rows, champion.current, note=champion.note, explain=True, now=_now()), unanswered


# ---------------------------------------------------------------- learn, prove, plan


@app.command("learn")
def learn_command(
    seed: Annotated[int, typer.Option(help="Same data, same seed, same effects.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="Threads of LightGBM.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Learn what each intervention does from matured decisions; register it, promote it if it surely keeps more."""
    from training.learn import learn
    from training.proof_page import per

    state = open_state()
    decided = _decided_data(state)
    with _progress("learning effects"):
        learned = learn(
            state.home, decided.learning, seat_value=state.settings().terms.seat_value, seed=seed, threads=threads
        )
    if as_json:
        _print_json(asdict(learned))
        return
    table = Table("candidate", "kept of 1 000, more than by the experts' choice", title="On teams it never saw")
    for name, found in learned.values.items():
        table.add_row(name, per(found))
    if learned.values:
        out.print(table)
    where = f", version {learned.version}" if learned.version else ""
    verb = "Promoted" if learned.is_promoted else "Not promoted"
    out.print(f"{learned.decisions:,} matured decisions in {learned.teams:,} teams: {learned.learner}{where}.")
    out.print(f"{verb}: {learned.why}.", highlight=False)


@app.command("prove")
def prove_command(
    seed: Annotated[int, typer.Option(help="Same data, same seed, same intervals.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Whether it worked: licences kept against teams left alone and against doing nothing, by policy and segment."""
    from features.effects import expert_model
    from training.learn import choose, incumbent_effects
    from training.proof import LEARNED, prove
    from training.proof_page import per, verdict, write_proof

    state = open_state()
    decided = _decided_data(state)
    seat_value, arms = state.settings().terms.seat_value, decided.learning.arms
    experts, learned = expert_model(arms), incumbent_effects(state.home, arms)
    policies = {"experts' choice": lambda of: choose(of, experts.effects(of.seen).mean, seat_value)}
    learned_until = {}
    if learned.decisions and any(learned.weights):
        policies[LEARNED] = lambda of: choose(of, learned.effects(of.seen).mean, seat_value)
        learned_until[LEARNED] = datetime.fromisoformat(learned.trained_until)
    with _progress("valuing policies"):
        proof = prove(decided, policies, learned_until=learned_until, seed=seed)
        page = write_proof(state.home / "proofs" / f"{_now():%Y%m%dT%H%M%S}", proof)
    if as_json:
        _print_json({**proof.document(), "report": str(page)})
        return
    table = Table("policy", "kept of 1 000, more than by none", title="Licences kept, 95 % intervals over teams")
    for one in proof.policies:
        table.add_row(one.name, per(one.against_none) if one.against_none is not None else one.why)
    out.print(table)
    for sentence in verdict(proof):
        out.print(sentence, highlight=False)
    for note in proof.notes:
        out.print(f"Note: {note}.", highlight=False)
    out.print(f"Report: {page}", highlight=False, markup=False, soft_wrap=True)


def _decided_data(state: State) -> "Decided":
    from features.interventions import SHIPPED, load_interventions
    from features.scorer import Method, Scorer
    from training.decided import build_decisions, completed, outcomes_of

    seats, decisions = _known_seats(state), state.log.decisions()
    own = state.home / "interventions.yaml"
    catalogue = load_interventions(own if own.exists() else SHIPPED)
    with _progress("reading decisions and what came of them"):
        outcomes = outcomes_of(
            decisions, events=state.log.events(), seats=seats, sources=state.log.sources(), tools=state.tools
        )
        bare = [(one.seat_id, one.decided_at) for one in decisions if not one.features]
        if bare:
            features = _features_of(state, [seat for seat, _ in bare], [at for _, at in bare])
            decisions = completed(decisions, features, Scorer(Method.RULE))
        return build_decisions(decisions, outcomes, seats, catalogue)


@app.command("plan")
def plan_command(
    date: Annotated[str, typer.Option(help="Day of the plan (ISO 8601, UTC); today by default.")] = "",
    capacity: Annotated[
        list[str] | None, typer.Option(help="Uses of an intervention that day, such as peer_champion=20; repeatable.")
    ] = None,
    at_risk_from: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="28-day risk from which a seat is planned for; REKINDLE_AT_RISK_THRESHOLD by default."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, log nothing.")] = False,
    top: Annotated[int, typer.Option(min=1, help="How many to show, the worthiest first.")] = 20,
    engine: OnEngine = Engine.LOCAL,
    address: Address = "",
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Plan the day under capacity, log its decisions, and say what one more use of each would be worth.

    Each seat is decided once a day: the same command again adds only seats that are new. `/v1/worklist` shows the plan.
    """
    from serving.planning import by_organization

    state = open_state()
    try:
        day = calendar_date.fromisoformat(date) if date else _now().date()
    except ValueError:
        raise ValueError(f"--date: expected a day such as 2026-05-04, came {date!r}") from None
    _check_engine(engine, address=address)
    threshold = state.settings().at_risk_threshold if at_risk_from is None else at_risk_from
    with _on(engine, address, workers) as cluster, state.advisor() as advisor, _progress("planning"):
        plans = [
            _planned(
                advisor,
                seats,
                organization,
                _capacities(capacity or []),
                threshold,
                day=day,
                is_logged=not dry_run,
                cluster=cluster,
            )
            for organization, seats in by_organization(_known_seats(state).column("seat_id").to_pylist()).items()
        ]
    if not any(plan["seats"] or plan["already_logged"] for plan in plans):
        raise ValueError(
            f"no seat with features has a risk of {threshold:.0%} or more: run `rekindle features push`, or lower --at-risk-from"
        )
    if as_json:
        _print_json({"date": day, "logged": not dry_run, "at_risk_from": threshold, "plans": plans})
        return
    for plan in plans:
        _print_plan(plan, day=day, top=top, is_logged=not dry_run)


def _planned(
    advisor: "Advisor",
    seats: list[str],
    organization: str,
    capacity: dict[str, int],
    at_risk_from: float,
    *,
    day: calendar_date,
    is_logged: bool,
    cluster: "Cluster | None" = None,
) -> dict[str, Any]:
    """The plan of one organisation as plain values; in the decision log where `is_logged`."""
    from serving.planning import Drawn, log_plan, propose
    from training.plan import Plan, round_plan, solve_plan

    solved: list[Plan] = []

    def solve(proposal: "Proposal") -> Drawn:
        epsilon = advisor.settings.terms.epsilon
        plan = solve_plan(
            proposal.arms,
            proposal.values,
            proposal.eligible,
            proposal.capacity,
            epsilon=epsilon,
            targets=proposal.targets,
        )
        solved.append(plan)
        return Drawn(plan.marginals, plan.eligible, round_plan(plan, proposal.generator(day)))

    left_out: tuple[str, ...] = ()
    already = 0
    if is_logged:
        logged, _, _ = log_plan(
            advisor,
            seats,
            organization=organization,
            capacity=capacity,
            at_risk_from=at_risk_from,
            day=day,
            solve=solve,
            cluster=cluster,
        )
        left_out, already = logged.left_out, logged.already
        value = advisor.settings.terms.seat_value
        rows = [
            {"seat_id": one.seat_id, "intervention": one.intervention, "probability": one.probability,
             "worth": one.effects[one.intervention] * value - one.costs[one.intervention]}
            for one in logged.decisions
        ]  # fmt: skip
    else:
        proposal = propose(
            advisor,
            seats,
            organization=organization,
            capacity=capacity,
            at_risk_from=at_risk_from,
            cluster=cluster,
        )
        rows = [] if proposal is None else _proposed(proposal, solve(proposal))
    last = solved[-1] if solved else None
    return {
        "organization": organization,
        "seats": rows,
        "already_logged": already,
        "left_out": left_out,
        "prices": {} if last is None else last.prices,
        "prices_per_hour": {} if last is None else _per_hour(last.prices, advisor.catalogue),
        "spent": {} if last is None else last.spent,
        "worth": 0.0 if last is None else last.worth,
        "notes": () if last is None else last.notes,
    }


def _proposed(proposal: "Proposal", drawn: "Drawn") -> list[dict[str, Any]]:
    return [
        {"seat_id": seat, "intervention": proposal.arms[arm], "probability": float(drawn.marginals[row, arm]),
         "worth": float(proposal.values[row, arm])}
        for row, (seat, arm) in enumerate(zip(proposal.seat_ids, drawn.chosen.tolist(), strict=True))
    ]  # fmt: skip


def _per_hour(prices: Mapping[str, float], catalogue: "Iterable[Intervention]") -> dict[str, float]:
    """What one more hour of the person's time would be worth: the price of a use, so many times as an hour has uses."""
    minutes = {intervention.id: intervention.minutes for intervention in catalogue}
    return {arm: price * 60 / taken for arm, price in prices.items() if (taken := minutes[arm]) is not None}


def _print_plan(plan: dict[str, Any], *, day: calendar_date, top: int, is_logged: bool) -> None:
    organization, rows = plan["organization"], plan["seats"]
    if rows:
        title = f"Plan of {organization} for {day}: expected worth {plan['worth']:,.0f}"
        table = Table("seat", "next step", "probability", "worth", title=title)
        acted = sorted((row for row in rows if row["intervention"] != "none"), key=lambda row: -float(row["worth"]))
        for row in acted[:top]:
            table.add_row(row["seat_id"], row["intervention"], f"{row['probability']:.3f}", f"{row['worth']:.2f}")
        out.print(table)
        done = "logged" if is_logged else "proposed, nothing is logged"
        out.print(f"{len(acted):,} of {len(rows):,} seats are given something: {done}.", highlight=False)
    if plan["already_logged"]:
        out.print(
            f"{plan['already_logged']:,} seats of {organization} were decided in the plan of that day before.",
            highlight=False,
        )
    if plan["left_out"]:
        out.print(f"{len(plan['left_out']):,} seats left out: others decided for them meanwhile.", highlight=False)
    for arm, price in plan["prices"].items():
        hour = plan["prices_per_hour"].get(arm)
        more = "" if hour is None else f", one more hour of it {hour:,.2f}"
        spent = f"({plan['spent'][arm]:.1f} expected)"
        out.print(f"One more {arm} would be worth {price:,.2f}{more} {spent}.", highlight=False)
    for note in plan["notes"]:
        out.print(f"Note: {note}.", highlight=False)


def _capacities(texts: list[str]) -> dict[str, int]:
    found = {}
    for text in texts:
        name, equals, number = text.partition("=")
        if not (equals and name and number.isdigit()):
            raise ValueError(f"--capacity: expected intervention=uses, such as peer_champion=20, came {text!r}")
        found[name] = int(number)
    return found


def _score_document(score: "Score") -> dict[str, Any]:
    return {
        "seat_id": score.row.seat_id,
        "as_of": score.row.as_of,
        "stratum": score.stratum,
        "risk": score.risk,
        "low": score.low,
        "high": score.high,
        "expected_days": score.expected_days,
        "model": score.model.label,
        "method": score.method,
        "note": score.note,
        "reasons": [reason.sentence for reason in score.reasons or ()],
        "failure_modes": [asdict(finding) for finding in score.failure_modes],
    }


def _risk_table(scores: "list[Score]", decisions: "dict[str, str] | None" = None, *, title: str) -> Table:
    from serving.scores import PRODUCT_HORIZON

    table = Table(title=title, show_lines=True)
    table.add_column("seat", overflow="fold")
    table.add_column("gives up within 28 days", justify="right")
    table.add_column("why (behaviour, not character)")
    if decisions is not None:
        table.add_column("next step")
    for score in scores:
        low, high = score.low[PRODUCT_HORIZON], score.high[PRODUCT_HORIZON]
        risk = f"[bold]{_percent(score.risk[PRODUCT_HORIZON])}[/]\n({_percent(low)} to {_percent(high)})"
        why = "; ".join(reason.sentence for reason in score.reasons or ()) or "no early warning shows"
        cells = [score.row.seat_id, risk, why]
        table.add_row(*cells, *([decisions[score.row.seat_id]] if decisions is not None else []))
    return table


def _percent(chance: float) -> str:
    """No chance is said to be 0 or 100 %."""
    return "<1%" if chance < 0.01 else ">99%" if chance > 0.99 else f"{chance:.0%}"


def _print_model(score: "Score") -> None:
    said = f" ({score.note})" if score.note else ""
    from features.scorer import Method

    out.print(f"Scored by {score.model.label}, {score.method}{said}.", highlight=False)
    if score.method is Method.RULE:
        source = "a share among seats with as many warnings: what was observed, and the expert's guess before it"
    else:
        source = "the share that will be given up among seats scored alike, in a later month"
    out.print(f"The range (95 %) is of {source}; not of one person.", highlight=False)


# ---------------------------------------------------------------- decisions


class Format(StrEnum):
    """Formats in which decisions leave and come."""

    VW = "vw"
    OBP = "obp"


AsFormat = Annotated[Format, typer.Option("--format", help="vw: Vowpal Wabbit dsjson; obp: Open Bandit columns (CSV).")]
Horizon = Annotated[int, typer.Option(help="Outcome at so many days: 14 or 28.")]


@decisions_app.command("export")
def decisions_export(
    file_format: AsFormat,
    to: Annotated[Path | None, typer.Option("--out", help="File to write; standard output by default.")] = None,
    horizon: Horizon = 28,
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day after the last (UTC).")] = None,
) -> None:
    """Decisions with their probabilities and outcomes, for other tools (docs/decisions.md)."""
    from features.exchange import Told, write_obp, write_vw
    from features.outcomes import read_outcomes

    state = open_state()
    first, last = (None if day is None else day.replace(tzinfo=UTC) for day in (since, until))
    decisions = state.log.decisions(since=first, until=last)
    if not decisions:
        raise ValueError("there is no decision in the log (of these days)")
    with _progress("judging outcomes", show=to is not None):
        outcomes = read_outcomes(state.log, decisions, state.tools, horizon_days=horizon)
    told = [Told(decision, outcomes[decision.decision_id]) for decision in decisions]
    write = write_vw if file_format is Format.VW else write_obp
    if to is None:
        write(told, sys.stdout)
        return
    partial = to.with_name(f"{to.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        write(told, file)
    partial.replace(to)  # whole or not at all
    known = sum(item.kept == item.kept for item in told)
    out.print(
        f"{len(told):,} decisions, {known:,} with an outcome at {horizon} days, written to {to}.", highlight=False
    )


@decisions_app.command("import")
def decisions_import(
    path: Path,
    file_format: AsFormat,
    horizon: Horizon = 28,
    as_json: AsJson = False,
) -> None:
    """Decisions that `decisions export` wrote, checked for support: a probability of zero is refused naming the arms."""
    from features.exchange import read_obp, read_vw, support
    from features.feedback import Outcome
    from features.interventions import SHIPPED, load_interventions

    state = open_state()
    _check_files([path])
    own = state.home / "interventions.yaml"
    known = [intervention.id for intervention in load_interventions(own if own.exists() else SHIPPED)]
    with path.open(encoding="utf-8", newline="") as file:
        try:
            told = (read_vw if file_format is Format.VW else read_obp)(file, known)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    seats = set(state.log.seats({item.decision.seat_id for item in told}).column("seat_id").to_pylist())
    for item in told:
        if item.decision.seat_id not in seats:
            raise ValueError(
                f"{path}: {item.place}: seat {item.decision.seat_id} was never assigned; send the seat first"
            )
    now = _now()
    outcomes = [
        Outcome(item.decision.decision_id, horizon, item.kept == 1, "import", now)
        for item in told
        if item.kept == item.kept
    ]
    reported = state.log.feedback.report(outcomes)
    there = {decision.decision_id for decision in state.log.decisions(seats)}  # with the events of their own source
    new = state.log.record_decisions([item.decision for item in told if item.decision.decision_id not in there])
    arms = support(told, known)
    if as_json:
        _print_json(
            {"decisions": new, "known": len(told) - new, "outcomes": reported, "support": list(map(asdict, arms))}
        )
        return
    table = Table("intervention", "could be chosen", "was chosen", "least probability", title="Support")
    for arm in arms:
        least = f"{arm.least:.4g}" if arm.eligible else "never: cannot be valued from these"
        table.add_row(arm.arm, f"{arm.eligible:,}", f"{arm.chosen:,}", least)
    out.print(table)
    out.print(f"{new:,} new decisions, {len(told) - new:,} known already, {reported:,} new outcomes.", highlight=False)


# ---------------------------------------------------------------- serve, monitor, demo


@app.command("serve")
def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Port to listen on; 3000 by default.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that answer; one by default.")] = None,
) -> None:
    """Serve the API: POST /v1/score and /v1/decide; /docs describes it."""
    from serving.service import serve

    state = open_state()
    settings = state.settings()
    settings = replace(
        settings, host=host or settings.host, port=port or settings.port, workers=workers or settings.workers
    )
    _print_first_key(state)
    err.print(f"Serving http://{settings.host}:{settings.port} (docs at /docs); stop with Ctrl-C", highlight=False)
    serve(settings)


def _print_first_key(state: State) -> None:
    """At the first start there is no key, and nobody could call: one for everything is made, and told this once."""
    from features.keys import Keys

    text = Keys(state.log.database).create_first(now=_now())
    state.log.close()
    if text is not None:
        err.print("The first key, for every call and organisation; it is not told again (`rekindle keys create`):")
        err.print(f"export REKINDLE_KEY={text}", markup=False, highlight=False, soft_wrap=True)


# ---------------------------------------------------------------- keys, people


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="Who or what it is for.")],
    scope: Annotated[list[str], typer.Option(help="ingest, score, decide, read or admin; repeat it for several.")],
    organization: Annotated[
        str | None, typer.Option(help="The only organisation that it sees; all where it is left out.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires; never where it is left out.")] = None,
    rate: Annotated[float | None, typer.Option(help="Calls per second; 600 by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """A new key of the API, told this once."""
    from features.events import checked_organization
    from features.keys import DEFAULT_RATE, Keys, Scope

    unknown = [one for one in scope if one not in set(Scope)]
    if unknown:
        raise ValueError(f"--scope: expected some of {', '.join(Scope)}, came {unknown[0]!r}")
    if organization is not None:
        checked_organization(organization)
    now = _now()
    key, text = Keys(open_state().log.database).create(
        name=name,
        scopes=map(Scope, scope),
        now=now,
        organization=organization,
        expires_at=None if days is None else now + timedelta(days=days),
        rate_per_second=DEFAULT_RATE if rate is None else rate,
    )
    if as_json:
        _print_json({"key_id": key.key_id, "key": text})
        return
    err.print("Keep it now: it is not told again.")
    out.print(text, markup=False, highlight=False, soft_wrap=True)


@keys_app.command("list")
def keys_list(as_json: AsJson = False) -> None:
    """Every key without its secret: what it is for, until when, when it was last used."""
    from features.keys import Keys

    now = _now()
    keys = Keys(open_state().log.database).all()
    if as_json:
        hidden = {"digest", "scopes"}
        _print_json(
            [
                {
                    **{name: value for name, value in asdict(key).items() if name not in hidden},
                    "scopes": sorted(key.scopes),
                    "is_valid": key.is_valid(now),
                }
                for key in keys
            ]
        )
        return
    table = Table("key", "for", "organisation", "scopes", "calls/s", "expires", "last used", "valid")
    for key in keys:
        table.add_row(
            key.key_id,
            key.name,
            key.organization or "all",
            ", ".join(sorted(key.scopes)),
            f"{key.rate_per_second:g}",
            "never" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d}",
            "never" if key.last_used_at is None else f"{key.last_used_at:%Y-%m-%d %H:%M}",
            "yes" if key.is_valid(now) else "no",
        )
    out.print(table)


@keys_app.command("revoke")
def keys_revoke(key_id: str, as_json: AsJson = False) -> None:
    """End a key, within two seconds. KEY_ID: as `keys list` shows it."""
    from features.keys import Keys

    was_valid = Keys(open_state().log.database).revoke(key_id, now=_now())
    sentence = f"Key {key_id} opens nothing any more." if was_valid else f"Key {key_id} was revoked before."
    _say({"key_id": key_id, "revoked": was_valid}, sentence, as_json=as_json)


@webhooks_app.command("add")
def webhooks_add(
    url: str,
    topic: Annotated[
        list[str] | None, typer.Option(help="seat.at_risk, seat.struggling, decision.matured; all by default.")
    ] = None,
    organization: Annotated[str | None, typer.Option(help="Of whose seats; of all where it is left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell a receiver, by signed POST (Standard Webhooks). Prints the secret that it checks signatures with."""
    from features.events import checked_organization
    from serving.webhooks import Topic

    state = open_state()
    unknown = [one for one in topic or () if one not in set(Topic)]
    if unknown:
        raise ValueError(f"--topic: expected some of {', '.join(Topic)}, came {unknown[0]!r}")
    if organization is not None:
        checked_organization(organization)
    webhook = state.webhooks.add(url, topics=map(Topic, topic or Topic), organization=organization, now=_now())
    secret = state.webhooks.secret(webhook.webhook_id)
    _say(
        {"webhook_id": webhook.webhook_id, "secret": secret},
        f"Webhook {webhook.webhook_id}; its secret: {secret}",
        as_json=as_json,
    )


@webhooks_app.command("list")
def webhooks_list(as_json: AsJson = False) -> None:
    """Every webhook, and the deliveries that were given up."""
    from serving.webhooks import State as Delivery

    webhooks = open_state().webhooks
    dead = webhooks.deliveries(state=Delivery.DEAD)
    if as_json:
        rows = [{**asdict(one), "topics": sorted(one.topics)} for one in webhooks.all()]
        _print_json({"webhooks": rows, "dead": [asdict(one) for one in dead]})
        return
    table = Table("webhook", "url", "organisation", "topics", "given up")
    for one in webhooks.all():
        lost = sum(delivery.webhook_id == one.webhook_id for delivery in dead)
        table.add_row(one.webhook_id, one.url, one.organization or "all", ", ".join(sorted(one.topics)), str(lost))
    out.print(table)


@webhooks_app.command("rotate")
def webhooks_rotate(webhook_id: str, as_json: AsJson = False) -> None:
    """A new secret. For 24 hours messages are signed with both, so that no receiver misses one."""
    secret = open_state().webhooks.rotate(webhook_id, now=_now())
    _say(
        {"webhook_id": webhook_id, "secret": secret},
        f"Webhook {webhook_id}; its new secret: {secret}",
        as_json=as_json,
    )


@webhooks_app.command("dead")
def webhooks_dead(as_json: AsJson = False) -> None:
    """Deliveries that were given up, the latest first; `webhooks resend` tries them again."""
    from serving.webhooks import State as Delivery

    dead = open_state().webhooks.deliveries(state=Delivery.DEAD)
    if as_json:
        _print_json([asdict(one) for one in dead])
        return
    table = Table("delivery", "webhook", "seat", "tried", "last answer")
    for one in dead:
        table.add_row(one.delivery_id, one.webhook_id, one.seat_id, str(one.attempts), one.last_answer)
    out.print(table)


@webhooks_app.command("resend")
def webhooks_resend(
    delivery_id: Annotated[str | None, typer.Argument(help="As `webhooks dead` shows it; all where left out.")] = None,
    webhook: Annotated[str | None, typer.Option(help="Those of this webhook only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Try deliveries that were given up again, from the beginning."""
    number = open_state().webhooks.resend(now=_now(), webhook_id=webhook, delivery_id=delivery_id)
    if not number and delivery_id is not None:
        raise ValueError(f"there is no delivery {delivery_id!r} that was given up; see `rekindle webhooks dead`")
    _say({"resent": number}, f"{number} deliveries wait to be sent again.", as_json=as_json)


@webhooks_app.command("remove")
def webhooks_remove(webhook_id: str, as_json: AsJson = False) -> None:
    """End a webhook; what waits for it is dropped."""
    open_state().webhooks.remove(webhook_id)
    _say({"webhook_id": webhook_id}, f"Webhook {webhook_id} is told nothing any more.", as_json=as_json)


@app.command("erase")
def erase_command(person_id: str, as_json: AsJson = False) -> None:
    """Take out everything that names a person (`organization/person`), and keep it out; see docs/people.md."""
    from features.people import People
    from features.references import forget

    state = open_state()
    people = People(state.log.database)
    if not people.is_known(person_id):
        raise ValueError(f"there is no person {person_id!r} in the roster; expected `organization/person`")
    erased = people.erase(person_id, store=state.store, now=_now())
    forgotten = forget(state.home, [person_id])
    sentence = (
        f"Erased {erased.seats} seats, {erased.events:,} events, {erased.served:,} served scores, "
        f"{erased.offline_rows:,} offline rows; {erased.decisions:,} decisions no longer say whose they are; "
        f"{forgotten:,} training snapshots that models keep."
    )
    _say({**asdict(erased), "training_snapshots": forgotten}, sentence, as_json=as_json)


@app.command("retain")
def retain_command(
    older_than: Annotated[int, typer.Option(min=1, help="Days; what happened longer ago is taken out.")],
    as_json: AsJson = False,
) -> None:
    """Take out what is older than is kept; decisions and the audit of reads stay for 183 days at least."""
    from features.people import People

    state = open_state()
    retained = People(state.log.database).retain(older_than=timedelta(days=older_than), store=state.store, now=_now())
    counts = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in asdict(retained).items())
    _say(asdict(retained), f"Taken out, older than {older_than} days: {counts}.", as_json=as_json)


@monitor_app.callback(invoke_without_command=True)
def monitor_command(
    context: typer.Context,
    days: Annotated[int, typer.Option(min=1, help="How many days of served scores to compare.")] = 7,
    every: Annotated[
        str | None, typer.Option(help="Again and again, such as 30m, 1h or 1d, until it is stopped.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare what was served with what the model was trained on, and judge what came of it. Exit status: 0 quiet, 10 look,
    20 act; with --every that of the last run, 2 where a run could not be made.
    """
    if context.invoked_subcommand is not None:
        return
    pause = None if every is None else _pause(every)
    state = open_state()
    status = (
        _monitor_once(state, days=days, as_json=as_json)
        if pause is None
        else _monitor_loop(state, pause=pause, days=days, as_json=as_json)
    )
    raise typer.Exit(status)


def _monitor_once(state: State, *, days: int, as_json: bool) -> int:
    from monitoring.retrain import ask_for_retraining

    run = _monitor(state, days=days)
    signal = ask_for_retraining(state.home, run, now=_now())
    if as_json:
        findings = [asdict(f) for f in run.findings]
        asked = None if signal is None else asdict(signal)
        _print_json({"status": run.status, "folder": str(run.folder), "findings": findings, "retrain": asked})
    else:
        _print_findings(run)
        if signal is not None:
            out.print(f"A new model is asked for (`rekindle train --on-signal`): {signal.reason}", highlight=False)
        out.print(f"Report: {run.folder / 'index.html'}", highlight=False, soft_wrap=True)
    return run.status


def _monitor_loop(state: State, *, pause: timedelta, days: int, as_json: bool) -> int:
    """Runs that start `pause` apart, until the process is stopped. One that cannot be made is told and does not end it."""
    import signal
    import threading

    stopped, status = threading.Event(), 0
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: stopped.set())
    while not stopped.is_set():
        started = time.monotonic()
        try:
            status = _monitor_once(state, days=days, as_json=as_json)
        except (ValueError, OSError) as error:
            status = 2
            err.print(f"No run at {_now():%Y-%m-%d %H:%M} UTC: {error}", highlight=False, markup=False)
        stopped.wait(max(pause.total_seconds() - (time.monotonic() - started), 0))
    return status


def _pause(text: str) -> timedelta:
    units = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.isdigit() or int(number) < 1:
        raise ValueError(f"--every: expected a whole number and s, m, h or d, such as 30m, 1h or 1d; came {text!r}")
    return timedelta(seconds=int(number) * units[unit])


@monitor_app.command("ui")
def monitor_ui_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8_000,
) -> None:
    """Open the drift reports of all runs in Evidently's own pages. They ask for no key: keep them on this machine."""
    from monitoring.drawing import WORKSPACE, serve_workspace

    folder = open_state().home / WORKSPACE
    if not folder.is_dir():
        raise ValueError(f"there is no run to show in {folder}: run `rekindle monitor` first")
    err.print(f"Evidently on http://{host}:{port}; stop with Ctrl-C", highlight=False)
    serve_workspace(folder, host=host, port=port)


def _monitor(state: State, *, days: int) -> "MonitorRun":
    from features.interventions import SHIPPED, load_interventions
    from features.scorer import REFERENCE_ARTIFACT, REGISTERED_MODEL
    from monitoring.report import run_monitors
    from training.registry import champion_folder, load_champion, metrics_of

    champion = load_champion(state.home)
    if champion is None:
        raise ValueError(NOTHING_TO_COMPARE)
    scorer, version = champion
    now = _now()
    own = state.home / "interventions.yaml"
    with _progress("comparing what was served with what was trained on"):
        return run_monitors(
            state.log,
            reference_path=champion_folder(state.home) / REFERENCE_ARTIFACT / "reference.parquet",
            home=state.home,
            since=now - timedelta(days=days),
            until=now + timedelta(seconds=1),
            model=f"{REGISTERED_MODEL}/{version}",
            scorer=scorer,
            tools=state.tools,
            catalogue=load_interventions(own if own.exists() else SHIPPED),
            auc_at_training=metrics_of(state.home, version).get("model_auc_h28"),
            now=now,
        )


def _print_findings(run: "MonitorRun", *, at_most: int | None = None) -> None:
    table = Table("urgency", "what changed", "what to do", title="Findings of the monitors", show_lines=True)
    for finding in run.findings[:at_most]:
        table.add_row(finding.severity.name.lower(), finding.changed, finding.action)
    out.print(table if run.findings else "The monitors found nothing to say.")
    if at_most is not None and len(run.findings) > at_most:
        out.print(f"… and {len(run.findings) - at_most} more in the report.")


@app.command("diagnose")
def diagnose_command(
    out_file: Annotated[
        Path | None, typer.Option("--out", help="The page; diagnosis.html in the state folder by default.")
    ] = None,
    segment_by: Annotated[
        list[str] | None,
        typer.Option(help="role, function, tenure, cohort_week, team, region or tool; again for more."),
    ] = None,
    licence_price: Annotated[float | None, typer.Option(help="Price of a licence a month.")] = None,
    currency: Annotated[str, typer.Option(help="Currency of the price.")] = "EUR",
    min_group_size: Annotated[int, typer.Option(help="Smaller groups of people are not shown; 5 at the least.")] = 10,
    organization: Annotated[
        str | None, typer.Option(help="Whose rollout; needed where the log has several organisations.")
    ] = None,
    as_of: Annotated[
        str, typer.Option(help="Instant (ISO 8601), `now`, or `latest`: as far as the data reaches.")
    ] = "latest",
    as_json: AsJson = False,
) -> None:
    """Where the rollout stalls, why, and what to do: one HTML page, or the same as JSON (docs/diagnosis.md)."""
    from features.interventions import SHIPPED, load_interventions
    from features.overview import DEFAULT_DIMENSIONS, document, overview
    from monitoring.rollout_page import rollout_page

    state = open_state()
    whose = _one_organization(_known_seats(state), organization)
    sources = [source for source in state.log.sources() if source.organization == whose]
    own = state.home / "interventions.yaml"
    interventions = load_interventions(own if own.exists() else SHIPPED)
    population, modes = _population(state, _instant(state, as_of, sources), whose)
    with _progress("diagnosing"):
        found = overview(
            population,
            modes,
            interventions=interventions,
            sources=sorted({source.source for source in sources}),
            dimensions=segment_by or DEFAULT_DIMENSIONS,
            min_group_size=min_group_size,
            price_a_month=licence_price,
            currency=currency,
        )
    if out_file is not None or not as_json:
        out_file = out_file or state.home / "diagnosis.html"
        out_file.write_text(rollout_page(found), encoding="utf-8")
    if as_json:
        _print_json(document(found))
        return
    out.print(f"Page: {out_file}", highlight=False, markup=False, soft_wrap=True)


def _one_organization(seats: "pa.Table", asked: str | None) -> str:
    """The organisation of the seats that was asked for, or the only one: two organisations are not one rollout."""
    known = sorted(seats.column("organization").unique().to_pylist())
    if asked is None and len(known) == 1:
        return str(known[0])
    if asked is None or asked not in known:
        came = "came none" if asked is None else f"came {asked!r}"
        raise ValueError(f"--organization: expected one of {', '.join(known)}, {came}")
    return asked


def _population(state: State, as_of: datetime, organization: str) -> "tuple[Population, SeatModes]":
    """The organisation's seats at the moment, and what each showed in the windows of four weeks up to it."""
    from features.rollout import read_rollout

    with _progress("reading the rollout", unit="seats") as advance:
        return read_rollout(
            state.log, state.tools, as_of, organization=organization, progress=lambda _what, seats: advance(seats)
        )


@app.command("demo")
def demo_command(
    seats: Annotated[int, typer.Option(min=200, help="Seats to simulate.")] = DEMO_SEATS,
    days: Annotated[int, typer.Option(min=120, help="Days to simulate.")] = DEMO_DAYS,
) -> None:
    """The whole loop on a simulated rollout: events, features, training, scores, decisions, drift report."""
    from training.registry import champion_version

    started = _now()
    state = open_state()
    out.rule("[bold]Rekindle, on a simulated rollout: every figure below is simulated")
    appended = _ingest_rollout(state, seats=seats, days=days, seed=7)
    known = "" if appended.accepted else " (already there from an earlier run)"
    out.print(f"1  Events   {appended.accepted:,} events of {seats:,} seats over {days} days are in the log{known}.")
    out.print(f"2  Features {_build(state):,} weekly snapshots built and registered with Feast.")
    trained = _train(state, seed=7, threads=1)
    out.print("3  Model    what it has to beat stands below it; warnings is the rule of three early signals.")
    _print_trained(trained, horizons=(28,))
    pushed = _sweep(state, _now())
    out.print(f"4  Online   the features of {pushed:,} seats are in the online store.")
    with state.advisor() as advisor:
        scores, _ = _scores(state, advisor, None, top=10)
        decisions = _decided(advisor, [score.row.seat_id for score in scores])
    out.print("5  Scores and decisions, by the code that serves the API; all are in the log.")
    run = _monitor(state, days=1) if champion_version(state.home) else None
    if run is None:
        out.print(f"6  Monitors {NOTHING_TO_COMPARE}.")
    else:
        out.print(
            "6  Monitors what was served today against what the model saw in training: this one rollout has grown older, "
            "so its features have moved."
        )
        _print_findings(run, at_most=3)
    out.print(_risk_table(scores, decisions, title="The ten seats most at risk (simulated)"))
    _print_model(scores[0])
    _print_where(state, run, trained, seconds=(_now() - started).total_seconds())


def _decided(advisor: "Advisor", seat_ids: list[str]) -> dict[str, str]:
    """By seat, the decision in words."""
    from features.decisions import NONE, Decision
    from features.estimates import EffectEstimate

    titles = {intervention.id: intervention.title for intervention in advisor.catalogue}
    words = {}
    for seat_id, decision in zip(seat_ids, advisor.decide(seat_ids, wanted=None), strict=True):
        if not isinstance(decision, Decision):
            words[seat_id] = str(decision.title)
            continue
        text = titles[decision.intervention]
        if decision.workflow and decision.intervention != NONE:
            text += f", about {decision.workflow}"
        if decision.intervention != NONE:
            name = decision.intervention
            effect = EffectEstimate(decision.effects[name], decision.deviations[name])
            low, high = effect.interval
            text += f"\n{effect.mean * 100:+.1f} points of keeping ({low * 100:+.1f} to {high * 100:+.1f})"
        if decision.holdout:
            text += "\n(its team is in the holdout: the control for the proof)"
        words[seat_id] = f"{text}\nchosen with probability {decision.probability:.2f}"
    return words


def _print_where(state: State, run: "MonitorRun | None", trained: "Trained", *, seconds: float) -> None:
    from training.registry import tracking_uri

    out.print("The effects are the expert's guess until enough decisions have matured to learn them.", highlight=False)
    where = {
        "drift report": "none yet: see step 6" if run is None else run.folder / "index.html",
        "MLflow run": f"{trained.run_id}, see it with: {Path(sys.executable).with_name('mlflow')} ui --backend-store-uri {tracking_uri(state.home)}",
        "all state": f"{state.home.absolute()} (delete it for a clean start)",
        "serve the API": "make serve",
    }
    out.print(f"Done in {seconds:.0f} s. Where things are:", highlight=False)
    for name, place in where.items():
        out.print(f"  {name:14} {place}", highlight=False, markup=False, soft_wrap=True)


def _now() -> datetime:
    return datetime.now(UTC)


def _print_json(document: object) -> None:
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    sys.stdout.write(orjson.dumps(document, default=str, option=options).decode() + "\n")  # missing numbers are null


def _say(document: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    if as_json:
        _print_json(document)
    else:
        out.print(sentence)


@contextmanager
def _progress(
    what: str, *, unit: str = "", total: int | None = None, show: bool = True
) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, where that is a terminal, while the block runs; yields what advances it."""
    columns = (
        SpinnerColumn(),
        TextColumn(f"{what} {{task.completed:,.0f}} {unit}" if unit else what),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=not (show and err.is_terminal)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda amount: progress.advance(task, amount)
        progress.update(task, total=progress.tasks[task].completed or 1, completed=progress.tasks[task].completed or 1)


def main() -> None:
    """The console command. Whatever goes wrong is said in one sentence, without a traceback."""
    warnings.simplefilter("ignore")
    warnings.showwarning = _ignore_warning  # the filter would not do: Feast sets its own when it is imported
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")  # MLflow reads it when it is imported
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    try:
        app()
    except ValueError as error:
        _fail(str(error), EXIT_BAD_INPUT)
    except OSError as error:
        _fail(f"{error.filename or 'the system'}: {error.strerror or error}", EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        _fail(STOPPED, EXIT_STOPPED)
    except SystemExit as ended:
        if ended.code != EXIT_STOPPED:
            raise
        _fail(STOPPED, EXIT_STOPPED)  # Typer answers Ctrl-C itself, without a word
    except Exception as error:
        if os.environ.get("REKINDLE_DEBUG"):
            raise
        _fail(f"unexpected {type(error).__name__}: {error} (set REKINDLE_DEBUG=1 for the details)", EXIT_UNEXPECTED)


def _ignore_warning(*_details: object, **_more: object) -> None:
    """Nothing: warnings of libraries are for developers, who run the tests."""


def _fail(sentence: str, status: int) -> None:
    err.print("[bold red]rekindle:[/] ", end="")
    err.print(sentence, markup=False, highlight=False, soft_wrap=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
