"""`rekindle features` and `rekindle archive`: built, pushed, swept and shown."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from rekindle.clusters import (
    BLOCKS_FOLDER,
    Address,
    Engine,
    EventsAt,
    OnEngine,
    Workers,
    absolute,
    blocks_on,
    check_engine,
    cluster_at,
)
from rekindle.people import apply_erasures
from rekindle.state import State, complete_until, instant_of, known_seats, open_state
from rekindle.terminal import SHOWN_EVENTS, AsJson, err, out, print_json, progress_bar, say, utc_now

if TYPE_CHECKING:
    import polars as pl

HOUR = timedelta(hours=1)
ALIVE = "push.alive"  # touched by every round of `features push --watch`, for probes
PUSH_SEATS, WATCH_SECONDS = 1_000, 0.5
REST_SECONDS = 5  # our choice: until a database or store that failed is asked again
DAY_MICROSECONDS = 86_400_000_000
features_app = typer.Typer(help="Build, push and show features.", no_args_is_help=True)


def archive_command(address: str, as_json: AsJson = False) -> None:
    """Bring an archive of the log up to date: Parquet by day, on a disk or any fsspec address (s3://…)."""
    from features.archive import write_archive

    state = open_state()
    known_seats(state)
    with progress_bar("writing days", unit="events") as advance:
        archive = write_archive(state.log, address, until=utc_now(), progress=advance)
    days = len({file.day for file in archive.files})
    document = {"address": address, "days": days, "events": archive.rows}
    say(document, f"{archive.rows:,} events of {days:,} days are at {address}.", as_json=as_json)


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
    check_engine(engine, address=address, events=events)
    state = open_state()
    apply_erasures(state)
    if engine is Engine.LOCAL:
        snapshots = build_snapshots(state, threads=threads)
        say({"snapshots": snapshots}, f"{snapshots:,} weekly snapshots are in the offline store.", as_json=as_json)
        return
    from features.runs import read_blocks

    blocks = absolute(out_address or str(state.home / BLOCKS_FOLDER / "features"))
    with cluster_at(address, workers) as cluster:
        manifest, peak = blocks_on(state, cluster, blocks, events=events, with_labels=False)
    with progress_bar("writing the offline store", unit="snapshots") as advance:
        snapshots = state.store.write_offline(_watched(read_blocks(blocks, manifest), advance))
    apply_erasures(state)  # of those who were erased meanwhile
    document = {"snapshots": snapshots, "blocks": len(manifest.blocks), "computed": manifest.facts["computed_blocks"],
                "out": blocks, "peak_mib": peak}  # fmt: skip
    say(
        document,
        f"{snapshots:,} weekly snapshots are in the offline store, from {len(manifest.blocks):,} blocks of which "
        f"{manifest.facts['computed_blocks']:,} were computed now; at most {peak:,} MiB a worker.",
        as_json=as_json,
    )


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
    apply_erasures(state)
    seats = known_seats(state).num_rows
    pushed = sweep_seats(state, instant_of(state, as_of), threads=threads)
    left_out = f"; {seats - pushed:,} have newer ones there, which stay" if pushed < seats else ""
    say(
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
    if not watch:
        known_seats(state)  # who watches waits for the first seat
    if seats:
        known = set(state.log.seats(seats).column("seat_id").to_pylist())
        for seat in seats:
            if seat not in known:
                raise ValueError(f"{seat} is not in the roster; `rekindle score` names seats: organization/seat")
        state.log.touch(seats, now=utc_now())
    if watch or state.webhooks.all():  # whoever takes a claim tells what begins there: nobody else looks at it again
        state.refresher.pushed = state.watch.look
    asked_again, poll_seconds = time.monotonic(), state.settings().poll_seconds
    pushed = 0
    with progress_bar("refreshing seats", unit="seats") as advance:
        while True:
            try:
                part = state.refresher.refresh(at_most=PUSH_SEATS, clock=utc_now)
            except Exception as error:  # databases and Feast's stores raise whatever their libraries do
                if not watch:
                    raise
                err.print(f"features could not be refreshed, the seats wait: {type(error).__name__}", highlight=False)
                (state.home / ALIVE).touch()  # who waits for a server that is away is alive
                time.sleep(REST_SECONDS)
                continue
            pushed += part
            advance(part)
            if watch:
                (state.home / ALIVE).touch()
                if time.monotonic() - asked_again >= poll_seconds:
                    state.champion.refresh()
                    asked_again = time.monotonic()
            if not part:
                if not watch:
                    break
                time.sleep(WATCH_SECONDS)
    say({"pushed": pushed}, f"The features of {pushed:,} seats went to the online store.", as_json=as_json)


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
    moment = instant_of(state, as_of)
    row = _features_at(state, [seat], moment).row(0, named=True)
    withheld = [feature.name for feature in FEATURES if is_about_few(feature, row)]
    rests_on = _evidence(state, seat, moment)
    if as_json:
        known = {name: None if name in withheld else value for name, value in row.items()}
        missing = [f.name for f in FEATURES if not f.is_category and row[f.name] != row[f.name]]
        print_json({**known, "withheld": withheld, "missing": missing, **rests_on})
        return
    table = Table("group", "feature", "value", "unit", "in words", title=f"{seat} at {row['as_of']:%Y-%m-%d %H:%M} UTC")
    for feature in FEATURES:
        value = row[feature.name]
        is_missing = value is None or value != value
        shown = f"missing ({feature.why_missing})" if is_missing else value if feature.is_category else f"{value:g}"
        if feature.name in withheld:
            shown = "withheld: it would tell what few others do"
        words = "" if is_missing or feature.is_category or feature.name in withheld else say(feature, value)
        table.add_row(feature.group, feature.name, shown, feature.unit, words)
    out.print(table)
    _print_evidence(rests_on)


def _evidence(state: State, seat: str, as_of: datetime) -> dict[str, Any]:
    """Where the windows end, the sources that say so, and the last events that the features were made of: those of the
    last hour, too, which are in no other window yet.
    """
    import numpy as np
    import polars as pl

    from features.coding import CODED_COLUMNS
    from features.events import INTERNAL_KINDS, MICROSECONDS_PER_DAY, VOICE_KINDS
    from features.instants import from_microseconds, to_microseconds
    from features.roster import Roster

    sources, roster = state.log.sources(), Roster.of(state.log.roster([seat]))
    moment = np.array([to_microseconds(as_of)])
    version = roster.at(np.zeros(1, np.int64), moment)
    clocks = {"use": None, "tickets and surveys": VOICE_KINDS, "interventions": INTERNAL_KINDS}
    ends = {
        name: from_microseconds(int(moment[0] - roster.lag(sources, version, moment, kinds)[0]))
        for name, kinds in clocks.items()
    }
    (organization, tool) = roster.frame.select("organization", "tool").row(int(version[0]))
    events = pl.DataFrame(pl.from_arrow(state.log.events([seat], columns=(*CODED_COLUMNS, "source"))))
    is_before = pl.lit(False)
    for name, kinds in clocks.items():
        is_of = pl.lit(True) if kinds is None else pl.col("kind").is_in(sorted(map(str, kinds)))
        is_before |= is_of & (pl.col("occurred_at") < ends[name])
    is_live = pl.col("occurred_at").is_between(as_of - HOUR, as_of, closed="left")
    is_live &= pl.col("available_at") - pl.col("occurred_at") <= HOUR
    is_total = (pl.col("occurred_at").dt.epoch("us") + 1) % MICROSECONDS_PER_DAY == 0  # of a day: of no moment
    is_live &= ~is_total
    seen = events.with_columns(is_live.alias("last_hour")).filter(
        (is_before | is_live) & (pl.col("available_at") <= as_of)
    )
    shown = ("occurred_at", "available_at", "kind", "workflow", "value", "count", "completed", "category", "source")
    latest = seen.sort("occurred_at", descending=True)
    return {
        "window_end": ends["use"],
        "window_ends": ends,
        "sources": [
            {
                "source": source.source,
                "lag_hours": (source.lag_at(as_of) or timedelta(0)) / HOUR,
                "complete_until": min(source.watermark - source.lag, ends["use"]),
                "tells": sorted({str(kind) for known_at, kind in source.known_kinds if known_at <= as_of}),
            }
            for source in sources
            if (source.organization, source.tool) == (organization, tool) and source.first_available_at <= as_of
        ],
        "events": seen.height,
        "events_of_the_last_hour": seen.filter("last_hour").height,
        "last_events": latest.head(SHOWN_EVENTS).select(*shown, "last_hour").to_dicts(),
    }


def _print_evidence(rests_on: Mapping[str, Any]) -> None:
    out.print(
        f"Windows end at {rests_on['window_end']:%Y-%m-%d %H:%M} UTC; made of {rests_on['events']:,} events, "
        f"{rests_on['events_of_the_last_hour']:,} of them of the last hour."
    )
    sources = Table("source", "lag in hours", "complete until", "can tell", title="Sources")
    for source in rests_on["sources"]:
        sources.add_row(
            source["source"],
            f"{source['lag_hours']:g}",
            f"{source['complete_until']:%Y-%m-%d %H:%M}",
            ", ".join(source["tells"]),
        )
    out.print(sources)
    last = Table(
        "occurred", "kind", "workflow", "value", "count", "completed", "source", "last hour", title="Last events"
    )
    for event in rests_on["last_events"]:
        cells = (event[name] for name in ("kind", "workflow", "value", "count", "completed", "source"))
        said = ("" if cell is None else f"{cell}" for cell in cells)
        last.add_row(f"{event['occurred_at']:%Y-%m-%d %H:%M}", *said, "yes" if event["last_hour"] else "")
    out.print(last)


def build_snapshots(state: State, *, threads: int = 2) -> int:
    """Weekly snapshots, offline; how many."""
    import numpy as np

    from features.coding import CODED_COLUMNS
    from features.compute import compute_blocks, seat_blocks
    from features.instants import to_microseconds
    from features.labels import weekly_snapshots
    from features.observed import observed
    from features.parallel import reuse_memory
    from features.peers import days_needed

    seats, sources = known_seats(state), state.log.sources()
    until = complete_until(sources)
    first = min(seats.column("assigned_at").to_pylist())
    every_day = np.arange(to_microseconds(first), to_microseconds(until) + DAY_MICROSECONDS, DAY_MICROSECONDS)
    reuse_memory()
    with progress_bar("observing teams, roles and managers"):
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
    with progress_bar("computing features", unit="snapshots") as advance:
        rows = state.store.write_offline(_watched(blocks, advance))
    apply_erasures(state)  # of those who were erased meanwhile
    return rows


def _watched(blocks: "Iterator[pl.DataFrame]", advance: Callable[[int], None]) -> "Iterator[pl.DataFrame]":
    for block in blocks:
        yield block
        advance(block.height)


def sweep_seats(state: State, as_of: datetime, *, threads: int = 2) -> int:
    """Features of every seat at one instant, to the online store; how many rows went there."""
    from features.parallel import reuse_memory

    reuse_memory()
    seats = known_seats(state).num_rows
    with progress_bar("refreshing every seat", unit="seats", total=seats) as advance:
        pushed = 0
        if state.webhooks.all():  # silence begins where nothing happens: the sweep sees it, an event cannot
            state.refresher.pushed = state.watch.look
        for part in state.refresher.sweep(as_of, threads=threads):
            pushed += part
            advance(part)
    return pushed


def _features_at(state: State, seat_ids: list[str], as_of: datetime) -> "pl.DataFrame":
    return features_of(state, seat_ids, [as_of] * len(seat_ids))


def features_of(state: State, seat_ids: list[str], as_of: list[datetime]) -> "pl.DataFrame":
    """One row of features for each pair of seat and instant, in the order given."""
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
