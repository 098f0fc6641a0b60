import numpy as np
import pytest

import training.tuning
from training.risk import TREE_PARAMETERS
from training.tuning import STORAGE, tune


@pytest.fixture(scope="module")
def data(simulate):
    return simulate(80, n=1_500).dataset


@pytest.fixture
def losses(monkeypatch):
    """A cheap loss in place of the cross-validation, and what it was asked for."""
    asked = []

    def loss(dataset, parameters, *, seed, threads):
        asked.append(dict(parameters))
        return float(np.log(parameters["num_leaves"]) + parameters["feature_fraction"]), 10

    monkeypatch.setattr(training.tuning, "held_out_loss", loss)
    return asked


def test_the_first_trial_is_what_is_used_without_a_search(data, losses, tmp_path):
    tune(tmp_path, data, trials=1, name="a")
    assert losses == [{name: TREE_PARAMETERS[name] for name in losses[0]}]


def test_a_stopped_search_goes_on_and_finds_what_one_in_one_part_does(data, losses, tmp_path):
    whole = tune(tmp_path, data, trials=12, name="whole")
    tune(tmp_path, data, trials=5, name="parts")
    before = len(losses)
    parts = tune(tmp_path, data, trials=12, name="parts")
    assert len(losses) - before == 7
    assert [(t.number, t.parameters, t.log_loss) for t in parts.trials] == [
        (t.number, t.parameters, t.log_loss) for t in whole.trials
    ]
    assert parts.parameters == min(whole.trials, key=lambda trial: trial.log_loss).parameters
    assert (tmp_path / STORAGE).exists()


def test_the_loss_of_a_trial_is_that_of_held_out_people(data, tmp_path):
    found = tune(tmp_path, data, trials=1, name="real")
    assert 0.1 < found.trials[0].log_loss < 0.693
    assert found.trials[0].trees >= 1


def test_without_trees_there_is_nothing_to_tune(data, tmp_path):
    found = tune(tmp_path, data.take(np.arange(60)), trials=3, name="few")
    assert (found.parameters, found.trials) == ({}, ())
    assert found.note.startswith("there are no trees to tune: ")
    assert not (tmp_path / STORAGE).exists()
