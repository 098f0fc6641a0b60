"""One training run: fit on the past, judge on what came later, log it all, promote what beats the incumbent."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from matplotlib.figure import Figure

from features.catalogue import CATEGORIES, NUMERIC, catalogue_hash
from features.decisions import Decision
from features.instants import from_microseconds
from features.rules import Stratum
from features.scorer import HORIZONS_DAYS, PRODUCT_HORIZON_DAYS, Method, Scorer
from features.tools import ToolProfile
from training import registry
from training.dataset import Dataset, build_dataset
from training.evaluate import Estimate, compare, metrics_by_horizon
from training.risk import TREE_PARAMETERS, Fit, fit

TEST_SHARE = 0.3  # of the judged snapshots, the latest: our choice
REFERENCE_ROWS = 20_000
RELIABILITY_BINS = 10


@dataclass(frozen=True)
class Trained:
    """What a training run came to.

    version: in the registry, None where nothing could be learned. metrics: by horizon in days, method and metric.
    why: of the promotion or its refusal, in a sentence.
    """

    method: Method
    note: str
    version: str | None
    run_id: str | None
    is_promoted: bool
    why: str
    train_snapshots: int
    test_snapshots: int
    abandonments: int
    metrics: Mapping[int, Mapping[str, Mapping[str, Estimate]]]


def train(
    home: Path,
    features: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    seats: pa.Table,
    decisions: Sequence[Decision],
    tools: Mapping[str, ToolProfile],
    data_version: str,
    seed: int = 7,
    threads: int = 1,
) -> Trained:
    """Fit, evaluate, register and, where the gate allows, promote a risk model.

    features, labels: of the same snapshots in the same order. Raises ValueError where nothing at all is known of any
    snapshot in the risk set, saying what is missing.
    """
    by_stratum = {
        stratum: build_dataset(features, labels, seats=seats, decisions=decisions, tools=tools, stratum=stratum)
        for stratum in Stratum
    }
    dataset = by_stratum.pop(Stratum.IN_USE)
    cut = default_cut(dataset)
    past, later = dataset.known_before(cut), dataset.take(dataset.as_of >= cut)
    elsewhere = {stratum: part.known_before(cut) for stratum, part in by_stratum.items()}
    fitted = fit(past, elsewhere=elsewhere, seed=seed, threads=threads)
    logistic = fitted if fitted.scorer.method is not Method.LIGHTGBM else fit(past, seed=seed, method=Method.LOGISTIC)
    metrics = metrics_by_horizon(fitted.scorer, logistic.scorer, past, later, seed=seed)
    registered = _log(home, fitted, past, later, metrics, cut=cut, seed=seed, data_version=data_version)
    is_promoted, why = _gate(home, fitted.scorer, later, seed=seed)
    if is_promoted:
        registry.promote(home, registered.version)
    elif registry.champion_version(home) is None:
        why += "; until one does, the three-warnings rule serves, with the rates of this data"
        rule = replace(fitted.scorer, method=Method.RULE, booster=None, linear=None, note=why)
        serving = _log(
            home, replace(fitted, scorer=rule), past, later, {}, cut=cut, seed=seed, data_version=data_version
        )
        registry.promote(home, serving.version)
    return Trained(
        fitted.scorer.method,
        fitted.scorer.note,
        registered.version,
        registered.run_id,
        is_promoted,
        why,
        len(past),
        int((~np.isnan(later.abandoned())).any(axis=1).sum()),
        fitted.abandonments,
        metrics,
    )


def default_cut(dataset: Dataset) -> int:
    """The instant (microseconds) that leaves TEST_SHARE of the judged snapshots for the test."""
    judged = dataset.as_of[~np.isnan(dataset.abandoned()[:, 0])]
    if not judged.size:
        raise ValueError(
            f"of {len(dataset)} snapshots of seats in use none can be judged yet: a seat must be observed for "
            f"{int(dataset.silence.min(initial=28))} days after a meaningful use, with signs of work; "
            "ingest more history and run `rekindle features build` again"
        )
    return int(np.quantile(judged, 1 - TEST_SHARE))


def _gate(home: Path, scorer: Scorer, later: Dataset, *, seed: int) -> tuple[bool, str]:
    """Whether the candidate may serve: paired log loss over people on data later than its training."""
    champion = _incumbent(home)
    if scorer.method is Method.RULE:
        is_newer_rule = champion is None or champion.method is Method.RULE
        return is_newer_rule, f"nothing could be learned, so the rule is the model: {scorer.note}"
    label = later.abandoned()
    if not (~np.isnan(label)).any():
        return False, "no snapshot later than the training has been judged yet, so nothing can be compared"
    mine = scorer.score(later.vectors, later.categories).risk
    against_rule = compare(label, mine, scorer.rule.risk(later.vectors)[0], later.person, seed=seed)
    if against_rule.low <= 0:
        return False, f"it does not beat the three-warnings rule: log loss lower by {against_rule}"
    if champion is None:
        return True, f"it beats the three-warnings rule: log loss lower by {against_rule}"
    theirs = champion.score(later.vectors, later.categories).risk
    against_champion = compare(label, mine, theirs, later.person, seed=seed)
    if against_champion.low > 0:
        return True, f"log loss lower than the champion's by {against_champion}"
    return False, f"it is no better than the champion: log loss lower by {against_champion}"


def _incumbent(home: Path) -> Scorer | None:
    """The champion's scorer; None where there is none or it was fitted on other features, and so cannot serve."""
    try:
        loaded = registry.load_champion(home)
    except ValueError:
        return None
    return None if loaded is None else loaded[0]


def _log(
    home: Path,
    fitted: Fit,
    past: Dataset,
    later: Dataset,
    metrics: Mapping[int, Mapping[str, Mapping[str, Estimate]]],
    *,
    cut: int,
    seed: int,
    data_version: str,
) -> registry.Registered:
    scorer = fitted.scorer
    params = {
        **{f"tree_{name}": value for name, value in TREE_PARAMETERS.items()},
        "method": str(scorer.method),
        "trees": fitted.trees,
        "calibrator": scorer.calibrator.kind,
        "seed": seed,
        "cut": from_microseconds(cut).isoformat(),
        "train_snapshots": len(past),
        "test_snapshots": len(later),
        "abandonments": fitted.abandonments,
        "person_period_rows": fitted.rows,
    }
    flat = {
        f"{method}_{name}_h{horizon}": estimate.value
        for horizon, methods in metrics.items()
        for method, values in methods.items()
        for name, estimate in values.items()
        if np.isfinite(estimate.value)
    }
    tags = {"data_version": data_version, "catalogue": catalogue_hash(), "note": scorer.note}
    document = {
        str(horizon): {
            method: {name: asdict(estimate) for name, estimate in values.items()} for method, values in methods.items()
        }
        for horizon, methods in metrics.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        return registry.register(
            home,
            scorer,
            reference=_reference(past, scorer),
            params=params,
            metrics=flat,
            tags=tags,
            documents={"metrics.json": document, "features.json": list(_columns())},
            plots=_plots(Path(folder), scorer, later),
        )


def _columns() -> list[str]:
    return [feature.name for feature in (*NUMERIC, *CATEGORIES)]


def _reference(past: Dataset, scorer: Scorer) -> pl.DataFrame:
    """The features and the risk of a fixed sample of the training snapshots, for the monitors."""
    rows = np.sort(np.random.default_rng(0).permutation(len(past))[:REFERENCE_ROWS])
    sample = past.take(rows)
    risk = scorer.score(sample.vectors, sample.categories).risk[:, HORIZONS_DAYS.index(PRODUCT_HORIZON_DAYS)]
    numeric = pl.DataFrame(sample.vectors, schema=[feature.name for feature in NUMERIC])
    names = pl.DataFrame(sample.categories, schema={feature.name: pl.String for feature in CATEGORIES}, orient="row")
    return pl.concat((numeric, names), how="horizontal").with_columns(pl.Series(f"risk_{PRODUCT_HORIZON_DAYS}", risk))


def _plots(folder: Path, scorer: Scorer, later: Dataset) -> dict[str, Path]:
    plots = {"reliability": _reliability(folder / "reliability.png", scorer, later)}
    if scorer.booster is not None:
        plots["importance"] = _importance(folder / "importance.png", scorer)
    return plots


def _reliability(path: Path, scorer: Scorer, later: Dataset) -> Path:
    """Observed rate against predicted risk at each horizon, in bins of equal mass."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot((0, 1), (0, 1), color="0.7", linewidth=1)
    label, risk = later.abandoned(), scorer.score(later.vectors, later.categories).risk
    for horizon, days in enumerate(HORIZONS_DAYS):
        known = np.flatnonzero(~np.isnan(label[:, horizon]))
        if len(known) < RELIABILITY_BINS:
            continue
        bins = np.array_split(known[np.argsort(risk[known, horizon], kind="stable")], RELIABILITY_BINS)
        axes.plot(
            [risk[rows, horizon].mean() for rows in bins],
            [label[rows, horizon].mean() for rows in bins],
            marker="o",
            label=f"by {days} days (n = {len(known)})",
        )
    axes.set(xlabel="predicted risk of abandonment", ylabel="observed share", title="Reliability on later snapshots")
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    figure.savefig(path, dpi=110)
    return path


def _importance(path: Path, scorer: Scorer) -> Path:
    """The features that reduce the loss most."""
    assert scorer.booster is not None
    gain = scorer.booster.feature_importance("gain")
    top = np.argsort(gain)[-20:]
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.barh([scorer.booster.feature_name()[number] for number in top], gain[top])
    axes.set(xlabel="total gain", title="What the hazard model uses")
    figure.savefig(path, dpi=110)
    return path
