"""`rekindle decisions`: taken out, and in."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from rekindle.ingest import check_files
from rekindle.state import open_state
from rekindle.terminal import AsJson, err, out, print_json, progress_bar, utc_now

if TYPE_CHECKING:
    from features.exchange import Told

decisions_app = typer.Typer(help="Take decisions out, and in.", no_args_is_help=True)


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
    logged = state.log.decisions(since=first, until=last)
    rostered = set(state.log.seats({one.seat_id for one in logged}).column("seat_id").to_pylist())
    decisions = [one for one in logged if one.seat_id in rostered]
    if len(decisions) < len(logged):
        left_out = len(logged) - len(decisions)
        err.print(f"{left_out:,} decisions of seats that are not in the roster any more are left out.", highlight=False)
    if not decisions:
        raise ValueError("there is no decision in the log (of these days)")
    with progress_bar("judging outcomes", show=to is not None):
        outcomes = read_outcomes(state.log, decisions, state.tools, horizon_days=horizon)
    told = [Told(decision, outcomes[decision.decision_id], horizon) for decision in decisions]
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
    horizon: Annotated[
        int | None, typer.Option(help="Outcomes at so many days, of a file that does not say: 14 or 28.")
    ] = None,
    retired: Annotated[
        list[str] | None,
        typer.Option(help="An intervention of the file that the catalogue does not have any more; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decisions that `decisions export` wrote, checked for support: a probability of zero is refused naming the arms."""
    from features.exchange import read_obp, read_vw, support
    from features.feedback import Outcome
    from features.interventions import SHIPPED, load_interventions

    state = open_state()
    check_files([path])
    own = state.home / "interventions.yaml"
    offered = [intervention.id for intervention in load_interventions(own if own.exists() else SHIPPED)]
    known = [*offered, *(name for name in retired or [] if name not in offered)]
    with path.open(encoding="utf-8", newline="") as file:
        try:
            told = (read_vw if file_format is Format.VW else read_obp)(file, known)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if not told:
        raise ValueError(f"{path}: there is no decision in it")
    seats = set(state.log.seats({item.decision.seat_id for item in told}).column("seat_id").to_pylist())
    for item in told:
        if item.decision.seat_id not in seats:
            raise ValueError(
                f"{path}: {item.place}: seat {item.decision.seat_id} was never assigned; send the seat first"
            )
    now = utc_now()
    outcomes = [
        Outcome(item.decision.decision_id, _horizon_of(item, horizon, path), item.kept == 1, "import", now)
        for item in told
        if item.kept == item.kept
    ]
    reported = state.log.feedback.report(outcomes)
    there = {decision.decision_id for decision in state.log.decisions(seats)}  # with the events of their own source
    new = state.log.record_decisions([item.decision for item in told if item.decision.decision_id not in there])
    arms = support(told, known)
    if as_json:
        print_json(
            {"decisions": new, "known": len(told) - new, "outcomes": reported, "support": list(map(asdict, arms))}
        )
        return
    table = Table("intervention", "could be chosen", "was chosen", "least probability", title="Support")
    for arm in arms:
        least = f"{arm.least:.4g}" if arm.eligible else "never: cannot be valued from these"
        table.add_row(arm.arm, f"{arm.eligible:,}", f"{arm.chosen:,}", least)
    out.print(table)
    out.print(f"{new:,} new decisions, {len(told) - new:,} known already, {reported:,} new outcomes.", highlight=False)


def _horizon_of(told: "Told", asked: int | None, path: Path) -> int:
    """After how many days the outcome was. Raises ValueError where nobody says, or the file says otherwise than was asked."""
    horizon = told.horizon_days or asked
    if horizon is None:
        raise ValueError(f"{path}: {told.place}: it is not said after how many days the outcome was: add --horizon")
    if asked not in (None, horizon):
        raise ValueError(f"{path}: {told.place}: horizon_days: the outcome is that at {horizon} days, not at {asked}")
    return horizon
