"""One training run: fit on the past, judge on what came later, log it all, promote what beats the incumbent."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl
import pyarrow as pa

from features.catalogue import CATEGORIES, FEATURES, NUMERIC, catalogue_hash
from features.cluster import Cluster
from features.decisions import Decision
from features.instants import from_microseconds
from features.references import AS_OF, PERSON, SEAT, TEAM, digest, team_of
from features.rules import Stratum
from features.scorer import HORIZONS_DAYS, PRODUCT_HORIZON_DAYS, Method, Scorer
from features.tools import ToolProfile
from training import plots, registry
from training.baselines import baselines
from training.checks import refuse_unjudgeable, shortcomings
from training.dataset import Dataset, build_dataset
from training.evaluate import Estimate
from training.gate import Verdict, as_rule, beats_rule, gate
from training.judgement import Judgement, judge
from training.report import write_report
from training.risk import Fit, fit
from training.signals import close_signal
from training.tuning import Tuned, tune

TEST_SHARE = 0.3  # of the judged snapshots, the latest: our choice
REFERENCE_ROWS = 20_000
NO_SEARCH = Tuned({}, ())


@dataclass(frozen=True)
class Trained:
    """What a training run came to.

    version: in the registry, None where nothing could be learned. metrics: by horizon in days, method and metric.
    activation: the same for seats that never started, and activation_note on what speaks of them. why: of the promotion or its
    refusal, in a sentence. shortcomings: what the data lacks. report: the page of the evaluation. closed_signal: the
    reason of the retrain signal that this run answered.
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
    activation: Mapping[int, Mapping[str, Mapping[str, Estimate]]]
    activation_note: str
    shortcomings: Sequence[str]
    report: Path
    closed_signal: str | None


@dataclass(frozen=True)
class Split:
    """Snapshots before a cut as they were known at it, and those after; by stratum."""

    cut: int
    past: Dataset
    later: Dataset
    past_elsewhere: Mapping[Stratum, Dataset]
    later_elsewhere: Mapping[Stratum, Dataset]


def split_at(by_stratum: Mapping[Stratum, Dataset], cut: int) -> Split:
    """The data as a model fitted at `cut` (microseconds) would have known it, and what it is judged by."""
    elsewhere = {stratum: part for stratum, part in by_stratum.items() if stratum is not Stratum.IN_USE}
    dataset = by_stratum[Stratum.IN_USE]
    return Split(
        cut,
        dataset.known_before(cut),
        dataset.take(dataset.as_of >= cut),
        {stratum: part.known_before(cut) for stratum, part in elsewhere.items()},
        {stratum: part.take(part.as_of >= cut) for stratum, part in elsewhere.items()},
    )


def datasets(
    features: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    seats: pa.Table,
    decisions: Sequence[Decision],
    tools: Mapping[str, ToolProfile],
) -> dict[Stratum, Dataset]:
    """The snapshots by stratum. features, labels: of the same snapshots in the same order.

    Raises ValueError where nothing at all is known of any snapshot in the risk set, saying what is missing.
    """
    found = {
        stratum: build_dataset(features, labels, seats=seats, decisions=decisions, tools=tools, stratum=stratum)
        for stratum in Stratum
    }
    refuse_unjudgeable(found[Stratum.IN_USE], labels)
    return found


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
    trials: int = 0,
    cluster: Cluster | None = None,
) -> Trained:
    """Fit, evaluate, register and, where the gate allows, promote a risk model.

    features, labels: of the same snapshots in the same order. trials: of a search of the trees' parameters, on the training
    snapshots alone. cluster: grows the trees of a training set too large for one process. Raises ValueError where nothing at all is known of any snapshot in the risk set, saying what is missing.
    """
    by_stratum = datasets(features, labels, seats=seats, decisions=decisions, tools=tools)
    split = split_at(by_stratum, default_cut(by_stratum[Stratum.IN_USE]))
    del by_stratum  # the split holds copies, and a large training set is not held twice
    study = f"risk {data_version} {registry.code_version()} {catalogue_hash()} {split.cut} {seed}"
    tuned = tune(home, split.past, trials=trials, name=study, seed=seed, threads=threads) if trials else NO_SEARCH
    fitted = fit_at(split, seed=seed, threads=threads, tree_parameters=tuned.parameters, cluster=cluster)
    judgement = judge_fit(fitted.scorer, split, activation=learned_activation(fitted), seed=seed)
    missing = [
        *shortcomings(split.past, split.later),
        *judgement.unjudged.values(),
        *([tuned.note] if tuned.note else []),
    ]
    facts = _facts(fitted, split, data_version=data_version, seed=seed, missing=missing)
    registered, report = _log(home, fitted, split, judgement, facts, seats, tuned=tuned)
    verdict = apply_gate(home, registered.version, fitted.scorer, later_of(split), data_version=data_version)
    is_promoted, why = verdict.is_passed, verdict.why
    closed = None
    if is_promoted:
        registry.promote(home, registered.version)
        closed = close_signal(home, version=registered.version, now=datetime.now(UTC))
    elif registry.champion_version(home) is None:
        why += "; until one does, the three-warnings rule serves, with the rates of this data"
        rule = replace(fitted, scorer=as_rule(fitted.scorer, why))
        tags = {registry.STANDS_IN_FOR: registered.version}
        registry.promote(home, _log(home, rule, split, None, facts, seats, more_tags=tags)[0].version)
    return Trained(
        fitted.scorer.method,
        fitted.scorer.note,
        registered.version,
        registered.run_id,
        is_promoted,
        why,
        len(split.past),
        int((~np.isnan(split.later.abandoned())).any(axis=1).sum()),
        fitted.abandonments,
        judgement.metrics,
        judgement.activation,
        _activation_note(fitted),
        missing,
        report,
        None if closed is None else closed.reason,
    )


def fit_at(
    split: Split,
    *,
    seed: int,
    threads: int = 1,
    tree_parameters: Mapping[str, object] = NO_SEARCH.parameters,
    cluster: Cluster | None = None,
) -> Fit:
    """The model of the past. One for seats that never started stays only where it beats their rule on later snapshots."""
    fitted = fit(
        split.past,
        elsewhere=split.past_elsewhere,
        seed=seed,
        threads=threads,
        tree_parameters=tree_parameters,
        cluster=cluster,
    )
    fitted = replace(fitted, scorer=_dated(fitted.scorer, split.cut))
    scorer, later = fitted.scorer, split.later_elsewhere.get(Stratum.NOT_STARTED)
    if scorer.activation is None or later is None:
        return fitted
    learned, rule = scorer.score(later.vectors, later.categories).risk, scorer.activation.rule.risk(later.vectors)[0]
    verdict = beats_rule(later, learned, rule, whose="the rule of such seats", seed=seed)
    if verdict.is_passed or fitted.activation is None:
        return fitted
    refused = replace(fitted.activation, scorer=replace(scorer.activation, note=verdict.why))
    return replace(fitted, scorer=replace(scorer, activation=None), activation=refused)


def learned_activation(fitted: Fit) -> Scorer | None:
    """The model of seats that never started, also one that may not serve: it is judged either way."""
    tried = fitted.activation
    return None if tried is None or tried.scorer.method is Method.RULE else tried.scorer


def _dated(scorer: Scorer, cut: int) -> Scorer:
    until = from_microseconds(cut).isoformat()
    activation = None if scorer.activation is None else replace(scorer.activation, trained_until=until)
    return replace(scorer, trained_until=until, activation=activation)


def judge_fit(scorer: Scorer, split: Split, *, activation: Scorer | None = None, seed: int) -> Judgement:
    """The model beside the baselines, which are fitted on the same past. activation: the scorer's own by default."""
    logistic = scorer
    if scorer.method is not Method.LOGISTIC:
        logistic = fit(split.past, seed=seed, method=Method.LOGISTIC).scorer
    beside = baselines(split.past, split.later, logistic, seed=seed)
    not_started = split.later_elsewhere.get(Stratum.NOT_STARTED)
    return judge(
        scorer,
        split.later,
        baselines=beside,
        past=split.past,
        not_started=not_started,
        activation=activation,
        seed=seed,
    )


def default_cut(dataset: Dataset) -> int:
    """The instant (microseconds) that leaves TEST_SHARE of the judged snapshots for the test."""
    judged = dataset.as_of[~np.isnan(dataset.abandoned()[:, 0])]
    return int(np.quantile(judged, 1 - TEST_SHARE))


def later_of(split: Split) -> dict[Stratum, Dataset]:
    """What came after the cut, by stratum."""
    return {Stratum.IN_USE: split.later, **split.later_elsewhere}


def apply_gate(
    home: Path, version: str, candidate: Scorer, later: Mapping[Stratum, Dataset], *, data_version: str
) -> Verdict:
    """Whether the registered candidate may serve in place of the champion, and why. The try is counted.

    The draw of the people is settled by the versions of both models and of the data: asking again gives the same answer.
    """
    tries = registry.count_try(home, version, data_version=data_version)
    champion = registry.champion_version(home)
    seed = int(digest(f"{data_version} {version} {champion}")[:8], 16)
    not_started = later.get(Stratum.NOT_STARTED)
    return gate(candidate, _incumbent(home), later[Stratum.IN_USE], not_started=not_started, tries=tries, seed=seed)


def _incumbent(home: Path) -> Scorer | None:
    """The champion's scorer; None where there is none or it was fitted on other features, and so cannot serve."""
    try:
        loaded = registry.load_champion(home)
    except ValueError:
        return None
    return None if loaded is None else loaded[0]


def _activation_note(fitted: Fit) -> str:
    if fitted.activation is None:
        return ""
    scorer = fitted.activation.scorer
    if scorer.method is Method.RULE or fitted.scorer.activation is None:
        return f"seats that never started: {scorer.note}"
    return f"seats that never started: {scorer.method}, from {fitted.activation.abandonments} that did not begin"


def _facts(fitted: Fit, split: Split, *, data_version: str, seed: int, missing: Sequence[str]) -> dict[str, object]:
    scorer = fitted.scorer
    return {
        "method": str(scorer.method),
        "note": scorer.note,
        "trees": fitted.trees,
        "tree_weight": scorer.tree_weight if scorer.method is Method.LIGHTGBM else 0.0,
        "calibrator": scorer.calibrator.kind,
        **{f"held_out_log_loss_{kind}": loss for kind, loss in fitted.held_out_log_loss.items()},
        "seed": seed,
        "cut": from_microseconds(split.cut).isoformat(),
        "train_snapshots": len(split.past),
        "test_snapshots": len(split.later),
        "abandonments": fitted.abandonments,
        "person_period_rows": fitted.rows,
        "activation": _activation_note(fitted),
        "data_version": data_version,
        "code_version": registry.code_version(),
        "catalogue": catalogue_hash(),
        "missing": "; ".join(missing),
    }


def _log(
    home: Path,
    fitted: Fit,
    split: Split,
    judgement: Judgement | None,
    facts: Mapping[str, object],
    seats: pa.Table,
    *,
    tuned: Tuned = NO_SEARCH,
    more_tags: Mapping[str, str] = MappingProxyType({}),
) -> tuple[registry.Registered, Path]:
    scorer = fitted.scorer
    tags = {name: str(facts[name]) for name in ("data_version", "catalogue")} | {"note": scorer.note, **more_tags}
    own = {**facts, "method": str(scorer.method), "note": scorer.note}
    params = {**{f"tree_{name}": value for name, value in fitted.tree_parameters.items()}, **own}
    with tempfile.TemporaryDirectory() as folder:
        made, images = Path(folder) / "report", {}
        if judgement is not None:
            write_report(made, judgement, scorer, title="How the risk model did", facts=own)
            images["reliability"] = plots.save(plots.reliability(judgement), Path(folder) / "reliability.png")
        if scorer.booster is not None:
            images["importance"] = plots.save(plots.importance(scorer), Path(folder) / "importance.png")
        registered = registry.register(
            home,
            scorer,
            reference=_reference(split, scorer, seats),
            params={name: value for name, value in params.items() if name not in tags and value != ""},
            metrics={} if judgement is None else _flat(judgement),
            tags=tags,
            documents={"metrics.json": {} if judgement is None else _document(judgement), "features.json": _columns()},
            plots=images,
            reports=made if made.exists() else None,
            children=_children(tuned),
        )
        kept = home / "evaluations" / f"version-{registered.version}"
        if judgement is not None:
            return registered, write_report(kept, judgement, scorer, title="How the risk model did", facts=own)
    return registered, kept


def _children(tuned: Tuned) -> list[registry.Child]:
    return [
        registry.Child(
            f"trial {trial.number}",
            trial.parameters,
            {"held_out_log_loss": trial.log_loss, "trees": float(trial.trees), "seconds": trial.seconds},
        )
        for trial in tuned.trials
    ]


def _flat(judgement: Judgement) -> dict[str, float]:
    """What MLflow compares runs by. The activation's metrics start with `activation_`."""
    tables = (("", judgement.metrics), ("activation_", judgement.activation))
    flat = {
        f"{prefix}{method}_{name}_h{days}": estimate.value
        for prefix, table in tables
        for days, methods in table.items()
        for method, values in methods.items()
        for name, estimate in values.items()
        if np.isfinite(estimate.value)
    }
    if judgement.lead is not None:
        flat |= {"lead_days": judgement.lead.days.value, "lead_caught": judgement.lead.caught.value}
    return flat | {f"coverage_of_bins_h{days}": share for days, share in judgement.coverage().items()}


def _document(judgement: Judgement) -> dict[str, object]:
    return {
        str(days): {
            method: {name: asdict(estimate) for name, estimate in values.items()} for method, values in methods.items()
        }
        for days, methods in judgement.metrics.items()
    }


def _columns() -> list[dict[str, str]]:
    return [{"name": feature.name, "dtype": feature.dtype} for feature in FEATURES]


def _reference(split: Split, scorer: Scorer, seats: pa.Table) -> pl.DataFrame:
    """The features and the risk of a fixed sample of the training snapshots in use, for the monitors.

    Of all that the run saw, those it is judged by and those not yet judged too: what is served next is as old as they are.
    """
    parts = (split.past, split.later)
    share = min(REFERENCE_ROWS / max(sum(map(len, parts)), 1), 1.0)
    drawn = [np.random.default_rng(0).permutation(len(part))[: round(share * len(part))] for part in parts]
    rows = [_rows(part.take(np.sort(chosen)), scorer, seats) for part, chosen in zip(parts, drawn, strict=True)]
    return pl.concat(rows)


def _rows(sample: Dataset, scorer: Scorer, seats: pa.Table) -> pl.DataFrame:
    risk = scorer.score(sample.vectors, sample.categories).risk[:, HORIZONS_DAYS.index(PRODUCT_HORIZON_DAYS)]
    numeric = pl.DataFrame(sample.vectors, schema=[feature.name for feature in NUMERIC])
    names = pl.DataFrame(sample.categories, schema={feature.name: pl.String for feature in CATEGORIES}, orient="row")
    wanted = seats.select(["seat_id", "organization", "team"]).to_pylist()
    teams = {row["seat_id"]: team_of(row["organization"], row["team"], row["seat_id"]) for row in wanted}
    return pl.concat((numeric, names), how="horizontal").with_columns(
        pl.Series(f"risk_{PRODUCT_HORIZON_DAYS}", risk, dtype=pl.Float64),
        pl.Series(AS_OF, sample.as_of, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
        pl.Series(PERSON, [digest(person) for person in sample.person.tolist()], dtype=pl.String),
        pl.Series(SEAT, [digest(seat) for seat in sample.seat.tolist()], dtype=pl.String),
        pl.Series(TEAM, [teams[seat] for seat in sample.seat.tolist()], dtype=pl.String),
    )
