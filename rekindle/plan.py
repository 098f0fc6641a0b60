"""`rekindle plan`: decisions of a day under capacity."""

from collections.abc import Iterable, Mapping
from datetime import date as calendar_date
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from rekindle.clusters import Address, Engine, OnEngine, Workers, check_engine, cluster_if_asked
from rekindle.state import known_seats, open_state
from rekindle.terminal import AsJson, out, print_json, progress_bar, utc_now

if TYPE_CHECKING:
    from features.cluster import Cluster
    from features.interventions import Intervention
    from serving.advisor import Advisor
    from serving.planning import Drawn, Proposal


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
        day = calendar_date.fromisoformat(date) if date else utc_now().date()
    except ValueError:
        raise ValueError(f"--date: expected a day such as 2026-05-04, came {date!r}") from None
    check_engine(engine, address=address)
    threshold = state.settings().at_risk_threshold if at_risk_from is None else at_risk_from
    with cluster_if_asked(engine, address, workers) as cluster, state.advisor() as advisor, progress_bar("planning"):
        plans = [
            plan_of(
                advisor,
                seats,
                organization,
                _capacities(capacity or []),
                threshold,
                day=day,
                is_logged=not dry_run,
                cluster=cluster,
            )
            for organization, seats in by_organization(known_seats(state).column("seat_id").to_pylist()).items()
        ]
    if not any(plan["seats"] or plan["already_logged"] for plan in plans):
        raise ValueError(
            f"no seat with features has a risk of {threshold:.0%} or more: run `rekindle features push`, or lower --at-risk-from"
        )
    if as_json:
        print_json({"date": day, "logged": not dry_run, "at_risk_from": threshold, "plans": plans})
        return
    for plan in plans:
        _print_plan(plan, day=day, top=top, is_logged=not dry_run)


def plan_of(
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
        out.print(
            f"{len(plan['left_out']):,} seats left out: meanwhile others decided for them (another run of this plan, too), or "
            "somebody objected.",
            highlight=False,
        )
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
            raise ValueError(
                f"--capacity: expected intervention=uses, uses a whole number from 0, such as peer_champion=20, came {text!r}"
            )
        found[name] = int(number)
    return found
