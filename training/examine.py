"""What is asked of models that are registered already: evaluate the champion, promote a version, take one back."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa

from features.decisions import Decision
from features.rules import Stratum
from features.tools import ToolProfile
from training import registry
from training.backtest import Backtest, backtest
from training.gate import trained_until
from training.judgement import Judgement
from training.report import write_report
from training.signals import close_signal
from training.train import apply_gate, datasets, judge_fit, split_at


@dataclass(frozen=True)
class Evaluated:
    """The champion on what came after its training. page: of the report."""

    version: str
    judgement: Judgement
    page: Path
    backtest: Backtest | None


@dataclass(frozen=True)
class Promotion:
    """What came of asking for a promotion; why: in a sentence."""

    version: str
    is_promoted: bool
    why: str


def evaluate_champion(
    home: Path,
    features: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    seats: pa.Table,
    decisions: Sequence[Decision],
    tools: Mapping[str, ToolProfile],
    data_version: str,
    with_backtest: bool = False,
    seed: int = 7,
    threads: int = 1,
) -> Evaluated:
    """The report on the champion, in the state folder and with its MLflow run.

    features, labels: of the same snapshots in the same order. Raises ValueError where there is no champion.
    """
    loaded = registry.load_champion(home)
    if loaded is None:
        raise ValueError("there is no champion to evaluate: run `rekindle train` first")
    scorer, version = loaded
    by_stratum = datasets(features, labels, seats=seats, decisions=decisions, tools=tools)
    cut = max(trained_until(scorer), int(by_stratum[Stratum.IN_USE].as_of.min()))
    judgement = judge_fit(scorer, split_at(by_stratum, cut), seed=seed)
    tested = backtest(by_stratum, seed=seed, threads=threads) if with_backtest else None
    facts = {
        "version": version,
        "method": str(scorer.method),
        "note": scorer.note,
        "trained_until": scorer.trained_until,
        "data_version": data_version,
        "code_version": registry.code_version(),
        "seed": seed,
    }
    folder = home / "evaluations" / f"champion-{version}"
    page = write_report(
        folder,
        judgement,
        scorer,
        title="How the champion does",
        facts=facts,
        backtest=None if tested is None else tested.document(),
    )
    with tempfile.TemporaryDirectory() as copy:
        for path in (page, page.with_name("evaluation.json")):
            (Path(copy) / path.name).write_bytes(path.read_bytes())
        registry.attach(home, version, Path(copy), to="evaluation")
    return Evaluated(version, judgement, page, tested)


def promote_if_better(
    home: Path,
    features: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    version: str | None,
    seats: pa.Table,
    decisions: Sequence[Decision],
    tools: Mapping[str, ToolProfile],
    data_version: str,
    now: datetime,
) -> Promotion:
    """Apply the gate to a version, the newest candidate by default, on today's labels; move the alias where it passes.

    features, labels: of the same snapshots in the same order. An open retrain signal is closed by the new champion.
    """
    wanted = registry.latest_version(home) if version is None else version
    if registry.champion_version(home) == wanted:
        return Promotion(wanted, True, "it is the champion already")
    candidate = registry.load_version(home, wanted)
    by_stratum = datasets(features, labels, seats=seats, decisions=decisions, tools=tools)
    verdict = apply_gate(home, wanted, candidate, by_stratum, data_version=data_version)
    if verdict.is_passed:
        registry.promote(home, wanted)
        close_signal(home, version=wanted, now=now)
    return Promotion(wanted, verdict.is_passed, verdict.why)
