"""`rekindle ingest`: seats and events, from files to the log."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.table import Table

from rekindle.state import HOME_VARIABLE, State, open_state
from rekindle.terminal import EXIT_SET_ASIDE, SHOWN_REJECTIONS, AsJson, err, out, print_json, progress_bar, utc_now

if TYPE_CHECKING:
    from features.connectors.rollout_model import Rollout
    from features.events import Batch
    from features.log import Appended

SHOWN_NOTICES = 40
DEMO_SEATS, DEMO_DAYS = 2_000, 180
ingest_app = typer.Typer(help="Take in events and seats.", no_args_is_help=True)
Organization = Annotated[str, typer.Option(help="Organisation that the items belong to where they do not say.")]


@ingest_app.command("jsonl")
def ingest_jsonl(paths: list[Path], organization: Organization = "local", as_json: AsJson = False) -> None:
    """Our own format: one JSON object a line, seats and events (docs/events.md)."""
    from features.connectors.jsonl import SOURCE, open_jsonl

    state = open_state()
    check_files(paths)
    batches = open_jsonl(paths, organization=organization, tools=state.tools, now=utc_now())
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
    check_files(named)
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
        utc_now(),
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
        print_json([{**row, "lag": spoken(CONNECTORS[row["name"]])} for row in rows])
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
    with progress_bar("reading commits", unit="commits") as advance:
        batches = open_git(
            paths, organization=organization, tool=tool, key=state.pseudonym_key(), now=utc_now(), progress=advance
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
    _finish_ingest(ingest_rollout(open_state(), seats=seats, days=days, seed=seed), as_json=as_json)


def ingest_rollout(state: State, *, seats: int, days: int, seed: int) -> "Appended":
    """A simulated rollout that ends today, into the log."""
    from features.connectors.rollout_model import Rollout
    from features.connectors.simulated import open_simulated, write_truth

    today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    rollout = Rollout(seats=seats, days=days, seed=seed, start=today - timedelta(days=days))
    rollout = replace(rollout, start=_start_of_rollout(state, rollout))
    appended = _append(state, open_simulated(rollout), source="simulated")
    write_truth(rollout, state.home / "truth")
    return appended


def check_files(paths: list[Path]) -> None:
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
    check_files(files)
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
    with progress_bar("storing", unit="events", show=show) as advance:
        for batch in batches:
            stored = state.log.append(batch, now=utc_now(), source=source)
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
        print_json({**counts, **(more or {}), "rejected": [asdict(item) for item in appended.rejected]})
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
