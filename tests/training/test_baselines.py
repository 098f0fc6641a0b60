from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import training.baselines
from features.scorer import HORIZONS_DAYS, PERIODS, Method, Scorer
from training.baselines import baselines


def test_recency_is_a_logistic_regression_on_days_since_meaningful_alone(simulate, column):
    train, test = simulate(1, n=2000).dataset, simulate(2, n=500).dataset
    found = baselines(train, test, Scorer(Method.RULE)).risks["recency"][:, 3]
    other = test.vectors.copy()
    for name, position in column.items():
        if name != "days_since_meaningful":
            other[:, position] = 99.0
    moved = baselines(train, type(test)(**{**vars(test), "vectors": other}), Scorer(Method.RULE)).risks["recency"][:, 3]
    np.testing.assert_array_equal(found, moved)
    assert np.corrcoef(found, test.vectors[:, column["days_since_meaningful"]])[0, 1] > 0.8  # it rises with the days


@pytest.mark.parametrize(("silent", "expected"), [(0.0, 1.0), (np.inf, 0.0)])
def test_recency_of_one_class_is_its_rate(make_dataset, silent, expected):
    data = make_dataset(np.full(30, silent), np.full(30, 56.0 if silent else 0.0), np.full(30, 56.0))
    np.testing.assert_array_equal(
        baselines(data, data, Scorer(Method.RULE)).risks["recency"][:, 0], np.full(30, expected)
    )


def test_recency_of_nothing_known_is_a_half(make_dataset):
    data = make_dataset(np.full(3, np.inf), np.full(3, -1.0), np.full(3, -1.0))
    np.testing.assert_array_equal(baselines(data, data, Scorer(Method.RULE)).risks["recency"][:, 0], [0.5] * 3)


def test_the_warnings_baseline_is_the_rule_of_the_training_data(simulate):
    data, scorer = simulate(3, n=200).dataset, Scorer(Method.RULE)
    found = baselines(data, data, scorer)
    np.testing.assert_array_equal(found.risks["warnings"], scorer.rule.risk(data.vectors)[0])


@pytest.fixture(scope="module")
def both(simulate):
    train, test = simulate(4, n=2000), simulate(5, n=2000)
    return train, test, baselines(train.dataset, test.dataset, Scorer(Method.RULE))


def test_every_baseline_gives_a_chance_at_every_horizon(both):
    _, test, found = both
    assert list(found.risks) == ["recency", "warnings", "logistic", "boosting", "cox"]
    assert found.notes == ()
    for risk in found.risks.values():
        assert risk.shape == (len(test.dataset), len(HORIZONS_DAYS))
        assert ((risk >= 0) & (risk <= 1)).all()


@pytest.mark.parametrize("name", ["recency", "boosting", "cox"])
def test_a_fitted_baseline_ranks_about_as_the_planted_hazard_does(both, name):
    _, test, found = both
    label = test.silence <= 28
    best = roc_auc_score(label, test.risk[:, 4])
    assert roc_auc_score(label, found.risks[name][:, 3]) > best - 0.03  # 2 000 snapshots: a standard error of 0.012


def test_cox_never_falls_with_the_horizon(both):
    assert np.diff(both[2].risks["cox"], axis=1).min() >= 0


def test_a_survival_model_that_cannot_be_fitted_is_left_out_and_said(make_dataset):
    data = make_dataset(np.full(30, np.inf), np.full(30, 56.0), np.full(30, 56.0))
    found = baselines(data, data, Scorer(Method.RULE))
    assert "cox" not in found.risks
    assert found.notes[0].startswith("cox: not fitted, 0 silences are too few for ")


def test_a_survival_model_that_does_not_converge_is_left_out_and_said(both, monkeypatch):
    def failing(*_, **__):
        raise training.baselines.ConvergenceError("delta contains nan value(s).")

    monkeypatch.setattr(training.baselines.CoxPHFitter, "fit", failing)
    found = baselines(both[0].dataset, both[1].dataset, Scorer(Method.RULE))
    assert found.notes == ("cox: did not converge (delta contains nan value(s).)",)
    assert "cox" not in found.risks


def test_baselines_weigh_labels_as_they_are_judged(simulate):
    """Half of the outcomes stand for nine others each: what is learned of them must count so."""
    train = simulate(82, n=1_500).dataset
    label = train.abandoned()[:, 0]
    heavy = replace(train, censoring_weight=np.where(label == 1, 9.0, 1.0)[:, None] * np.ones((1, PERIODS)))
    before, after = (baselines(some, train, Scorer(Method.RULE)).risks for some in (train, heavy))
    for name in ("recency", "boosting", "cox"):
        assert after[name][:, 0].mean() > before[name][:, 0].mean() + 0.1
