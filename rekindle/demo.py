"""`rekindle demo`: the main job, end to end."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rekindle.features import build_snapshots, sweep_seats
from rekindle.ingest import DEMO_DAYS, DEMO_SEATS, ingest_rollout
from rekindle.models import print_trained, train_models
from rekindle.monitor import NOTHING_TO_COMPARE, monitor_run, print_findings
from rekindle.scores import print_model, risk_table, scores_of
from rekindle.state import State, open_state
from rekindle.terminal import out, utc_now

if TYPE_CHECKING:
    from monitoring.report import MonitorRun
    from serving.advisor import Advisor
    from training.train import Trained


def demo_command(
    seats: Annotated[int, typer.Option(min=200, help="Seats to simulate.")] = DEMO_SEATS,
    days: Annotated[int, typer.Option(min=120, help="Days to simulate.")] = DEMO_DAYS,
) -> None:
    """The whole loop on a simulated rollout: events, features, training, scores, decisions, drift report."""
    from training.registry import champion_version

    started = utc_now()
    state = open_state()
    out.rule("[bold]Rekindle, on a simulated rollout: every figure below is simulated")
    appended = ingest_rollout(state, seats=seats, days=days, seed=7)
    known = "" if appended.accepted else " (already there from an earlier run)"
    out.print(f"1  Events   {appended.accepted:,} events of {seats:,} seats over {days} days are in the log{known}.")
    out.print(f"2  Features {build_snapshots(state):,} weekly snapshots built and registered with Feast.")
    trained = train_models(state, seed=7, threads=1)
    out.print("3  Model    what it has to beat stands below it; warnings is the rule of three early signals.")
    print_trained(trained, horizons=(28,))
    pushed = sweep_seats(state, utc_now())
    out.print(f"4  Online   the features of {pushed:,} seats are in the online store.")
    with state.advisor() as advisor:
        scores, _ = scores_of(state, advisor, None, top=10)
        decisions = _decided(advisor, [score.row.seat_id for score in scores])
    out.print("5  Scores and decisions, by the code that serves the API; all are in the log.")
    run = monitor_run(state, days=1) if champion_version(state.home) else None
    if run is None:
        out.print(f"6  Monitors {NOTHING_TO_COMPARE}.")
    else:
        out.print("6  Monitors what was served today against what the model saw in training, and what came of it.")
        print_findings(run, at_most=3)
    out.print(risk_table(scores, decisions, title="The ten seats most at risk (simulated)"))
    print_model(scores[0])
    _print_where(state, run, trained, seconds=(utc_now() - started).total_seconds())


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
