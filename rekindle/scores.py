"""`rekindle score`, and how scores are shown."""

from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from rekindle.clusters import (
    BLOCKS_FOLDER,
    Address,
    Engine,
    OnEngine,
    Workers,
    absolute,
    check_engine,
    cluster_if_asked,
)
from rekindle.state import State, known_seats, open_state
from rekindle.terminal import EXIT_SET_ASIDE, SHOWN_REJECTIONS, AsJson, err, out, print_json, progress_bar, say, utc_now

if TYPE_CHECKING:
    from features.cluster import Cluster
    from serving.advisor import Advisor
    from serving.scores import Score


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
    check_engine(engine, address=address)
    if parquet or out_file is not None:
        _score_file(
            state, parquet, out_file, threads=threads, as_json=as_json, on=cluster_if_asked(engine, address, workers)
        )
        return
    if engine is Engine.DASK:
        raise ValueError("--engine dask scores files: it needs --parquet and --out")
    with state.advisor() as advisor:
        scores, unanswered = scores_of(state, advisor, seats, top=top)
    if as_json:
        print_json([score_document(score) for score in scores])
    elif scores:
        newest = max(score.row.as_of for score in scores)
        age = " (old: push again)" if is_stale((utc_now() - newest).total_seconds()) else ""
        out.print(risk_table(scores, title=f"Seats most at risk, as of {newest:%Y-%m-%d %H:%M} UTC{age}"))
        print_model(scores[0])
    else:
        out.print("No seat is in use, so none is at risk of being given up.")
    if seats and unanswered:
        for detail in unanswered:
            err.print(f"  set aside: {detail}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_SET_ASIDE)


def _score_file(
    state: State,
    source: str,
    target: Path | None,
    *,
    threads: int,
    as_json: bool,
    on: "AbstractContextManager[Cluster | None]",
) -> None:
    from features.bulk import join_blocks, lacks, refuse_same_file, score_on, score_parquet
    from features.scorer import Method, Scorer
    from training.registry import load_champion

    if not source or target is None:
        raise ValueError("--parquet and --out belong together: the feature rows, and the file for their risks")
    refuse_same_file(Path(source), target)
    champion = load_champion(state.home)
    scorer = Scorer(Method.RULE, note="no model has been promoted yet") if champion is None else champion[0]
    with on as cluster, progress_bar("scoring", unit="seats") as advance:
        if cluster is None:
            if not Path(source).is_file():
                raise ValueError(f"--parquet: {source} is no file; runs and addresses are read by --engine dask")
            scored = score_parquet(Path(source), target, scorer, threads=threads, progress=advance)
        else:
            blocks = str(state.home.absolute() / BLOCKS_FOLDER / "scores")
            manifest = score_on(cluster, absolute(source), blocks, scorer, progress=advance)
            scored = join_blocks(blocks, manifest, target)
    missing = lacks(Path(source), scorer) if Path(source).is_file() else []
    document = {
        "scored": scored,
        "out": str(target),
        "method": str(scorer.method),
        "note": scorer.note,
        "missing": missing,
    }
    told = "".join(f"\nMissing: {sentence}." for sentence in missing)
    say(document, f"The risks of {scored:,} rows are in {target}, by {scorer.method}.{told}", as_json=as_json)


def scores_of(
    state: State, advisor: "Advisor", seats: list[str] | None, *, top: int
) -> "tuple[list[Score], list[str]]":
    """The riskiest seats in use, with their reasons, and why others have no score; what was scored is logged."""
    from features.rules import Stratum
    from serving.problems import Problem
    from serving.scores import PRODUCT_HORIZON, Score, score_rows

    wanted = seats or known_seats(state).column("seat_id").to_pylist()
    with progress_bar("scoring", unit="seats", total=len(wanted)) as advance:
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
    return score_rows(rows, champion.current, note=champion.note, explain=True, now=utc_now()), unanswered


def score_document(score: "Score") -> dict[str, Any]:
    """A score as JSON, with the names that the API uses."""
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


def risk_table(scores: "list[Score]", decisions: "dict[str, str] | None" = None, *, title: str) -> Table:
    """The table of seats at risk. decisions: interventions by seat, where some were chosen."""
    from serving.scores import PRODUCT_HORIZON

    table = Table(title=title, show_lines=True)
    table.add_column("seat", overflow="fold")
    table.add_column("gives up within 28 days", justify="right")
    table.add_column("why (behaviour, not character)")
    if decisions is not None:
        table.add_column("next step")
    for score in scores:
        low, high = score.low[PRODUCT_HORIZON], score.high[PRODUCT_HORIZON]
        risk = f"[bold]{percent(score.risk[PRODUCT_HORIZON])}[/]\n({percent(low)} to {percent(high)})"
        why = "; ".join(reason.sentence for reason in score.reasons or ()) or "no early warning shows"
        cells = [score.row.seat_id, risk, why]
        table.add_row(*cells, *([decisions[score.row.seat_id]] if decisions is not None else []))
    return table


def percent(chance: float) -> str:
    """No chance is said to be 0 or 100 %."""
    return "<1%" if chance < 0.01 else ">99%" if chance > 0.99 else f"{chance:.0%}"


def print_model(score: "Score") -> None:
    """Which model spoke, and what is to be known of it."""
    said = f" ({score.note})" if score.note else ""
    from features.scorer import Method

    out.print(f"Scored by {score.model.label}, {score.method}{said}.", highlight=False)
    if score.method is Method.RULE:
        source = "a share among seats with as many warnings: what was observed, and the expert's guess before it"
    else:
        source = "the share that will be given up among seats scored alike, in a later month"
    out.print(f"The range (95 %) is of {source}; not of one person.", highlight=False)
