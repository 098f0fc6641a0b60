"""Search of the trees' parameters on the training snapshots alone, resumable; off unless asked for."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna

from features.scorer import Method
from training.dataset import Dataset
from training.risk import TREE_PARAMETERS, affordable, held_out_loss

STORAGE = "optuna.db"
START_TRIALS = 8  # drawn at random before the search learns from them


@dataclass(frozen=True)
class Trial:
    """One set of parameters with its log loss on held-out people (and later time, where there is enough of it)."""

    number: int
    parameters: Mapping[str, float]
    log_loss: float
    trees: int
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """The best parameters, to be laid over TREE_PARAMETERS, and every finished trial. note: why there are none."""

    parameters: Mapping[str, object]
    trials: tuple[Trial, ...]
    note: str = ""


def tune(home: Path, dataset: Dataset, *, trials: int, name: str, seed: int = 7, threads: int = 1) -> Tuned:
    """The best of that many trials for the training snapshots. The first trial is what is used without a search.

    name: of the study; trials of the same name that were finished before count, so that a search that was stopped goes on.
    Each trial draws from a generator of its own, so that a search in two parts finds what one in one part does.
    """
    method, _ = affordable(dataset, dataset.abandonments())
    if method is not Method.LIGHTGBM:
        return Tuned({}, (), f"there are no trees to tune: {affordable(dataset, dataset.abandonments())[1]}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{(home / STORAGE).absolute()}")
    try:
        study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
        while len(done := _finished(study)) < trials:
            number = len(done)
            study.sampler = optuna.samplers.TPESampler(seed=seed + number, n_startup_trials=START_TRIALS)
            if number == 0:
                study.enqueue_trial(_defaults())
            trial = study.ask()
            parameters = _suggested(trial)
            started = time.perf_counter()
            loss, trees = held_out_loss(dataset, parameters, seed=seed, threads=threads)
            trial.set_user_attr("trees", trees)
            trial.set_user_attr("seconds", time.perf_counter() - started)
            study.tell(trial, loss)
        best = min(done, key=lambda trial: (trial.log_loss, trial.number))
        return Tuned(dict(best.parameters), tuple(done))
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _finished(study: optuna.Study) -> list[Trial]:
    """The finished trials in their order; those that were stopped halfway do not count."""
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    return [
        Trial(number, trial.params, float(trial.value or 0.0), trial.user_attrs["trees"], trial.user_attrs["seconds"])
        for number, trial in enumerate(done)
    ]


def _suggested(trial: optuna.Trial) -> dict[str, float]:
    return {
        "num_leaves": trial.suggest_int("num_leaves", 4, 63, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 20, 500, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.15, 0.8),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 1.0, 100.0, log=True),
    }


def _defaults() -> dict[str, object]:
    names = ("num_leaves", "min_data_in_leaf", "feature_fraction", "bagging_fraction", "lambda_l2")
    return {name: TREE_PARAMETERS[name] for name in names}
