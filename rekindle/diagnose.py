"""`rekindle diagnose`."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rekindle.state import State, instant_of, known_seats, open_state
from rekindle.terminal import AsJson, out, print_json, progress_bar

if TYPE_CHECKING:
    import pyarrow as pa

    from features.population import Population
    from features.segments import SeatModes


def diagnose_command(
    out_file: Annotated[
        Path | None, typer.Option("--out", help="The page; diagnosis.html in the state folder by default.")
    ] = None,
    segment_by: Annotated[
        list[str] | None,
        typer.Option(help="role, function, tenure, cohort_week, team, region or tool; again for more."),
    ] = None,
    licence_price: Annotated[
        list[str] | None,
        typer.Option(
            help="Price of a licence a month: 30 for every tool, claude=20 or cursor=32USD for one; again for more. "
            "Else licence_price in tools.yaml."
        ),
    ] = None,
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
    from features.licences import prices_of
    from features.overview import DEFAULT_DIMENSIONS, document, overview
    from monitoring.rollout_page import rollout_page

    state = open_state()
    whose = _one_organization(known_seats(state), organization)
    sources = [source for source in state.log.sources() if source.organization == whose]
    own = state.home / "interventions.yaml"
    interventions = load_interventions(own if own.exists() else SHIPPED)
    prices = prices_of(state.tools, licence_price or (), currency=currency)
    population, modes = _population(state, instant_of(state, as_of, sources), whose)
    with progress_bar("diagnosing"):
        found = overview(
            population,
            modes,
            interventions=interventions,
            sources=sorted({source.source for source in sources}),
            dimensions=segment_by or DEFAULT_DIMENSIONS,
            min_group_size=min_group_size,
            prices=prices,
        )
    if out_file is not None or not as_json:
        out_file = out_file or state.home / "diagnosis.html"
        out_file.write_text(rollout_page(found), encoding="utf-8")
    if as_json:
        print_json(document(found))
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

    with progress_bar("reading the rollout", unit="seats") as advance:
        return read_rollout(
            state.log, state.tools, as_of, organization=organization, progress=lambda _what, seats: advance(seats)
        )
