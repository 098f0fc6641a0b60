import json
from dataclasses import asdict

import numpy as np
import pytest

from features.calibration import Band, Calibrator, Steps, calibrate, log_odds, probability
from features.scorer import PERIODS

SEED = 91
BETA = ((0.8, 1.1, -0.2), (1.2, 0.9, 0.1))
STEPS = Steps((0.2, 0.5), (0.0, 0.1, 0.6), (0.1, 0.4), (0.05, 0.3, 1.0))
BAND = Band(((-2.0, 0.0, 1.0),) * 4, ((0.3, 0.2, 0.4), (0.3, 0.2, 0.4), (0.5, 0.5, 0.5), (0.1, 0.1, 0.1)))


def test_the_identity_calibrator_changes_nothing():
    hazards = np.random.default_rng(SEED).uniform(0.001, 0.999, (50, PERIODS))
    np.testing.assert_allclose(Calibrator().apply(hazards), hazards, rtol=1e-9)


@pytest.mark.parametrize("hazard", [0.0, 1.0])
@pytest.mark.parametrize("calibrator", [Calibrator("beta", BETA), Calibrator("venn_abers", steps=(STEPS, STEPS))])
def test_certain_hazards_stay_chances(calibrator, hazard):
    found = calibrator.apply(np.full((1, PERIODS), hazard))
    assert ((found >= 0) & (found <= 1)).all()


def test_beta_of_certain_hazards_leaves_them_certain():
    np.testing.assert_allclose(calibrate(np.array([[0.0, 1.0]]), BETA), [[0, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("hazard", "below", "above"),
    [(0.05, 0.0, 0.05), (0.1, 0.0, 0.05), (0.15, 0.0, 0.3), (0.2, 0.1, 0.3), (0.45, 0.1, 1.0), (0.5, 0.6, 1.0)],
)
def test_steps_are_those_of_both_isotonic_fits(hazard, below, above):
    found = STEPS.bounds(np.array([hazard]))
    assert (found[0][0], found[1][0]) == (below, above)
    assert STEPS.merged(np.array([hazard]))[0] == pytest.approx(above / (1 - below + above))


@pytest.mark.parametrize("calibrator", [Calibrator("beta", BETA), Calibrator("venn_abers", steps=(STEPS, STEPS))])
def test_a_calibrator_comes_back_from_json(calibrator):
    document = json.loads(json.dumps(asdict(calibrator)))
    assert Calibrator.from_document(document) == calibrator
    assert Band.from_document(json.loads(json.dumps(asdict(BAND)))) == BAND


def test_the_band_is_half_a_width_of_log_odds_on_either_side():
    risk = probability(np.array([[-1.0, -1.0, 0.0, 5.0]]))
    low, high = BAND.around(risk)
    np.testing.assert_allclose(log_odds(high), [[-0.75, -0.75, 0.5, 5.1]])  # at -1 halfway between 0.3 and 0.2
    assert log_odds(low)[0, 0] == pytest.approx(-1.25)


def test_no_bound_falls_with_the_horizon_and_the_risk_stays_inside():
    risk = np.sort(np.random.default_rng(SEED).uniform(0, 1, (200, 4)), axis=1)
    low, high = BAND.around(risk)
    assert (np.diff(low, axis=1) >= 0).all()
    assert (np.diff(high, axis=1) >= 0).all()
    assert ((low <= risk) & (risk <= high)).all()


def test_an_empty_band_says_nothing():
    low, high = Band().around(np.full((2, 4), 0.3))
    assert (low.tolist(), high.tolist()) == ([[0.0] * 4] * 2, [[1.0] * 4] * 2)
