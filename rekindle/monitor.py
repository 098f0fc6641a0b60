"""`rekindle monitor`."""

import time
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from rekindle.state import State, open_state
from rekindle.terminal import AsJson, err, out, print_json, progress_bar, utc_now

if TYPE_CHECKING:
    from monitoring.report import MonitorRun

NOTHING_TO_COMPARE = (
    "no model has been promoted, so there is nothing to compare with what is served: run `rekindle train` first, with "
    "enough history for a model that beats the rule"
)
monitor_app = typer.Typer()


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

    run = monitor_run(state, days=days)
    signal = ask_for_retraining(state.home, run, now=utc_now())
    if as_json:
        findings = [asdict(f) for f in run.findings]
        asked = None if signal is None else asdict(signal)
        print_json({"status": run.status, "folder": str(run.folder), "findings": findings, "retrain": asked})
    else:
        print_findings(run)
        if signal is not None:
            out.print(f"A new model is asked for (`rekindle train --on-signal`): {signal.reason}", highlight=False)
        out.print(f"Report: {run.folder / 'index.html'}", highlight=False, soft_wrap=True)
    return run.status


def _monitor_loop(state: State, *, pause: timedelta, days: int, as_json: bool) -> int:
    """Runs that start `pause` apart, until the process is stopped. One that cannot be made is told and does not end it."""
    import signal
    import threading

    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    stopped, status = threading.Event(), 0
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: stopped.set())
    while not stopped.is_set():
        started = time.monotonic()
        try:
            status = _monitor_once(state, days=days, as_json=as_json)
        except (ValueError, OSError, SQLAlchemyError, MlflowException) as error:  # a database may be away for an hour
            status = 2
            err.print(f"No run at {utc_now():%Y-%m-%d %H:%M} UTC: {error}", highlight=False, markup=False)
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


def monitor_run(state: State, *, days: int) -> "MonitorRun":
    """One run over what was served in the last days; its findings are stored. Raises ValueError without a champion."""
    from features.interventions import SHIPPED, load_interventions
    from features.scorer import REFERENCE_ARTIFACT, REGISTERED_MODEL
    from monitoring.report import run_monitors
    from training.registry import champion_folder, load_champion, metrics_of

    champion = load_champion(state.home)
    if champion is None:
        raise ValueError(NOTHING_TO_COMPARE)
    scorer, version = champion
    now = utc_now()
    own = state.home / "interventions.yaml"
    with progress_bar("comparing what was served with what was trained on"):
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


def print_findings(run: "MonitorRun", *, at_most: int | None = None) -> None:
    """Findings, the gravest first."""
    heads = ("urgency", "what changed, and how sure", "likely cause", "what to do")
    table = Table(*heads, title="Findings of the monitors", show_lines=True)
    for finding in run.findings[:at_most]:
        decisions = "not known" if finding.decisions is None else f"{finding.decisions:.1%}"
        said = f"{finding.changed}\n{finding.sure}\nDecisions whom to alert on that it changes: {decisions}."
        table.add_row(finding.severity.name.lower(), Text(said), Text(finding.cause), Text(finding.action))
    out.print(table if run.findings else "The monitors found nothing to say.")
    if at_most is not None and len(run.findings) > at_most:
        out.print(f"… and {len(run.findings) - at_most} more in the report.")
