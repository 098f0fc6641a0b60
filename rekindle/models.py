"""`rekindle train|evaluate|promote|rollback|explain`."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
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
    blocks_on,
    check_engine,
    cluster_at,
)
from rekindle.effects import decided_data, worth_of
from rekindle.people import apply_erasures, forget_erased
from rekindle.scores import percent, print_model, score_document, scores_of
from rekindle.state import State, known_seats, open_state
from rekindle.terminal import EXIT_REFUSED, SHOWN_FEATURES, AsJson, out, print_json, progress_bar, say, utc_now

if TYPE_CHECKING:
    from features.cluster import Cluster
    from features.explanation import Explanation
    from training.evaluate import Estimate
    from training.train import Trained

OfEffects = Annotated[bool, typer.Option("--effects", help="Of the learned effects, in place of the risk model.")]


def train_command(
    seed: Annotated[int, typer.Option(help="Same data, same seed, same model.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="Threads of LightGBM.")] = 1,
    tune: Annotated[int, typer.Option(min=0, help="Trials of a search of the trees' parameters; resumes.")] = 0,
    on_signal: Annotated[bool, typer.Option(help="Only if monitoring asked for a new model.")] = False,
    engine: OnEngine = Engine.LOCAL,
    address: Address = "",
    workers: Workers = 2,
    events: EventsAt = "",
    share: Annotated[
        float,
        typer.Option(min=0.001, max=1.0, help="Of the people, to learn from and to judge by: it bounds the memory."),
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Fit the risk model on the past, judge it on what came later, register it, promote it if it is better."""
    from training.signals import open_signal

    state = open_state()
    check_engine(engine, address=address, events=events)
    apply_erasures(state)
    if on_signal and open_signal(state.home) is None:
        forget_erased(state)
        say({"trained": False}, "Monitoring has not asked for a new model: nothing to do.", as_json=as_json)
        return
    if engine is Engine.DASK:
        with cluster_at(address, workers) as cluster:
            data = training_data_on(state, cluster, events=events, share=share)
            trained = train_models(state, seed=seed, threads=threads, trials=tune, data=data, cluster=cluster)
    else:
        data = training_data(state, share=share)
        trained = train_models(state, seed=seed, threads=threads, trials=tune, data=data)
    forget_erased(state)  # also those who were erased while it ran
    if as_json:
        print_json(asdict(trained))
        return
    print_trained(trained)


def train_models(
    state: State,
    *,
    seed: int,
    threads: int,
    trials: int = 0,
    data: dict[str, Any] | None = None,
    cluster: "Cluster | None" = None,
) -> "Trained":
    """Trains, registers and, where the gate lets it through, promotes."""
    from features.scorer import REGISTERED_MODEL
    from training.train import train

    data = data or training_data(state)
    with progress_bar("fitting, calibrating and judging the model"):
        trained = train(state.home, **data, seed=seed, threads=threads, trials=trials, cluster=cluster)
    if trained.version is not None:
        state.store.register_model(REGISTERED_MODEL, trained.version)
    return trained


def training_data(state: State, *, share: float = 1.0) -> dict[str, Any]:
    """Features and labels of the same snapshots, and what training is told beside them. share: of the people."""
    import polars as pl

    from features.labels import label_snapshots
    from training.dataset import data_version, seats_of_a_share

    seats, sources, snapshots = known_seats(state), state.log.sources(), state.store.snapshots()
    drawn = seats_of_a_share(seats, share) if share < 1 else None
    events = state.log.events(drawn)
    if drawn is not None:
        snapshots = snapshots.filter(pl.col("seat_id").is_in(drawn.implode()))
    with progress_bar("joining features to labels"):
        labels = label_snapshots(snapshots, events=events, seats=seats, sources=sources, tools=state.tools)
        features = state.store.historical(snapshots)
    return {
        "features": features,
        "labels": labels,
        "seats": seats,
        "decisions": state.log.decisions(),
        "tools": state.tools,
        "data_version": data_version(events, seats=seats, tools=state.tools) + _marked(share),
    }


def training_data_on(state: State, cluster: "Cluster", *, events: str, share: float = 1.0) -> dict[str, Any]:
    """The same as training_data, features and labels computed together on the cluster: Feast's join is not needed."""
    import polars as pl

    from features.engine import split_labels
    from features.runs import read_blocks
    from training.dataset import facts_version, seats_of_a_share

    seats = known_seats(state)
    drawn = seats_of_a_share(seats, share).implode()
    address = str(state.home.absolute() / BLOCKS_FOLDER / "training")
    manifest, _ = blocks_on(state, cluster, address, events=events, with_labels=True)
    blocks = read_blocks(address, manifest)
    wanted = (block.filter(pl.col("seat_id").is_in(drawn)) if share < 1 else block for block in blocks)
    features, labels = split_labels(pl.concat(wanted))
    return {
        "features": features,
        "labels": labels,
        "seats": seats,
        "decisions": state.log.decisions(),
        "tools": state.tools,
        "data_version": f"blocks-{manifest.fingerprint}-{facts_version(seats, state.tools)}" + _marked(share),
    }


def _marked(share: float) -> str:
    return f"-share{share:g}" if share < 1 else ""


def print_trained(trained: "Trained", *, horizons: Iterable[int] | None = None) -> None:
    """What was trained, how well, and whether it serves. horizons: days ahead to show, all by default."""
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
        _print_metrics(trained.activation, of="Seats that never started, weeks without a start that begin")
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


def evaluate_command(
    backtest: Annotated[bool, typer.Option(help="Also fit and judge models of moments in the past.")] = False,
    seed: Annotated[int, typer.Option(help="Same data, same seed, same intervals.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="Threads of LightGBM.")] = 1,
    as_json: AsJson = False,
) -> None:
    """The report on the champion: what came after its training, by segment and week of life, beside the baselines."""
    from training.examine import evaluate_champion

    state = open_state()
    data = training_data(state)
    with progress_bar("judging the champion"):
        found = evaluate_champion(state.home, **data, with_backtest=backtest, seed=seed, threads=threads)
    if as_json:
        past = None if found.backtest is None else found.backtest.document()
        evaluation = found.judgement.document()
        print_json({"version": found.version, "evaluation": evaluation, "backtest": past, "report": str(found.page)})
        return
    out.print(
        f"Champion: version {found.version}, judged on {found.judgement.snapshots:,} snapshots after its training."
    )
    for why in found.judgement.unjudged.values():
        out.print(f"Missing: {why}.", highlight=False)
    _print_metrics(found.judgement.metrics)
    if found.backtest is not None:
        _print_metrics(found.backtest.pooled, of=f"Backtest of {len(found.backtest.origins)} origins, abandoned")
    out.print(f"Report: {found.page}", highlight=False, markup=False, soft_wrap=True)


def promote_command(
    version: Annotated[str | None, typer.Argument(help="Version in the registry; the newest by default.")] = None,
    effects: OfEffects = False,
    seed: Annotated[int, typer.Option(help="Of --effects; a risk model's verdict is settled by its version.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion if it passes the gate on data later than its training. Exit status 4 where it does not."""
    from training.examine import promote_if_better

    state = open_state()
    if effects:
        _promote_effects(state, version, seed=seed, as_json=as_json)
        return
    data = training_data(state)
    with progress_bar("applying the gate"):
        promotion = promote_if_better(state.home, **data, version=version, now=utc_now())
    verb = "is the champion" if promotion.is_promoted else "was not promoted"
    say(asdict(promotion), f"Version {promotion.version} {verb}: {promotion.why}.", as_json=as_json)
    if not promotion.is_promoted:
        raise typer.Exit(EXIT_REFUSED)


def _promote_effects(state: State, version: str | None, *, seed: int, as_json: bool) -> None:
    from training.learn import promote_effects

    decided = decided_data(state)
    with progress_bar("applying the gate"):
        found = promote_effects(state.home, decided.learning, worth=worth_of(state), version=version, seed=seed)
    verb = "tells the effects" if found.is_promoted else "was not promoted"
    say(asdict(found), f"Version {found.version} of the effects {verb}: {found.why}.", as_json=as_json)
    if not found.is_promoted:
        raise typer.Exit(EXIT_REFUSED)


def rollback_command(effects: OfEffects = False, as_json: AsJson = False) -> None:
    """Put the champion before the present one back; before the first learned effects, the experts."""
    from features.effects import REGISTERED_EFFECTS
    from features.scorer import REGISTERED_MODEL
    from training.registry import rollback

    name = REGISTERED_EFFECTS if effects else REGISTERED_MODEL
    withdrawn, restored = rollback(open_state().home, at=utc_now().isoformat(), name=name)
    of = " of the effects" if effects else ""
    again = "The experts tell the effects again" if restored is None else f"Version {restored}{of} serves again"
    sentence = f"{again}; version {withdrawn}{of} was withdrawn."
    say({"withdrawn": withdrawn, "restored": restored}, sentence, as_json=as_json)


def explain_command(
    seat: Annotated[str, typer.Argument(help="A seat: organization/seat.")],
    png: Annotated[Path | None, typer.Option(help="Also draw it into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Why a seat's risk is what it is: what the model adds up, by failure mode and by feature. Behaviour, not character."""
    from features.catalogue import CATEGORIES
    from features.explanation import explain
    from features.scorer import HORIZONS_DAYS
    from serving.scores import PRODUCT_HORIZON
    from training import plots

    state = open_state()
    with state.advisor() as advisor:
        scores, _ = scores_of(state, advisor, [seat], top=1)
        score = scores[0]
        parts = advisor.champion.current.scorer.contributions(score.row.vector[None, :], [score.row.categories])
    if not parts:
        raise ValueError(
            f"the rule speaks of {seat} ({score.note or 'no model has learned enough'}), and it adds nothing up: "
            f"{'; '.join(reason.sentence for reason in score.reasons or ()) or 'no early warning shows'}"
        )
    named = dict(zip((feature.name for feature in CATEGORIES), score.row.categories, strict=True))
    title = (
        f"{seat} at {score.row.as_of:%Y-%m-%d}: why the silence may begin now (risk now "
        f"{percent(score.risk[str(HORIZONS_DAYS[0])])}, by 28 days {percent(score.risk[PRODUCT_HORIZON])})"
    )
    explained = explain(score.row.vector, named, {name: float(part[0]) for name, part in parts.items()}, title=title)
    if png is not None:
        plots.save(plots.explanation(explained), png)
    if as_json:
        print_json({"score": score_document(score), "explanation": asdict(explained)})
        return
    _print_explanation(explained)
    print_model(score)
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
