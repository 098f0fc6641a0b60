import json
from dataclasses import replace
from itertools import pairwise

import lightgbm as lgb
import numpy as np
import pytest

import features.scorer
from features.calibration import Band, Calibrator, Steps
from features.catalogue import CATEGORIES, NUMERIC
from features.rules import Stratum, expert_rates, expert_rates_elsewhere, strata
from features.scorer import (
    AGE_COLUMN,
    HORIZON_PERIODS,
    HORIZONS_DAYS,
    INPUTS,
    PERIOD_COLUMN,
    PERIOD_ENDS_DAYS,
    PERIODS,
    LinearHazard,
    Method,
    Scorer,
    cumulative,
    one_hot,
    period_rows,
    person_periods,
    restricted_mean,
    squash,
)

SEED = 90
COLUMN = {feature.name: position for position, feature in enumerate(NUMERIC)}
LEVELS = {"tool": ("claude", "cursor"), "role": ("analyst", "engineer", "nurse"), "function": (), "region": ("emea",)}
BETA = ((0.8, 1.1, -0.2), (1.2, 0.9, 0.1))
LEARNED = [Method.LIGHTGBM, Method.LOGISTIC]


def snapshots(seed, n=200):
    """Vectors of seats in use with a fifth missing, and names among which some were never seen."""
    rng = np.random.default_rng(seed)
    vectors = np.where(rng.random((n, len(NUMERIC))) < 0.2, np.nan, rng.exponential(10, (n, len(NUMERIC))) - 1)
    vectors[:, COLUMN["meaningful_28"]] = rng.integers(1, 20, n)
    names = [
        ("claude", "cursor", "new_tool"),
        ("analyst", "engineer", "nurse", ""),
        ("", "sales"),
        ("emea", "apac", ""),
    ]
    return vectors, [[str(rng.choice(choices)) for choices in names] for _ in range(n)]


def tree_booster(seed):
    rng = np.random.default_rng(seed)
    vectors, categories = snapshots(seed, 400)
    codes = Scorer(Method.RULE, levels=LEVELS).codes(categories)
    rows = person_periods(vectors, codes)
    odds = 0.1 * np.nan_to_num(rows[:, COLUMN["sessions_7"]]) - 2 - 0.2 * rows[:, -1] + (rows[:, len(NUMERIC)] == 1)
    label = rng.random(len(rows)) < 1 / (1 + np.exp(-odds))
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "seed": 1, "deterministic": True}
    data = lgb.Dataset(rows, label, feature_name=list(INPUTS), categorical_feature=[f.name for f in CATEGORIES])
    return lgb.train(parameters, data, num_boost_round=30)


def linear_hazard(seed):
    rng, n = np.random.default_rng(seed), len(NUMERIC)
    weights = tuple(rng.normal(0, 0.2, n + sum(map(len, LEVELS.values()))).tolist())
    fill, mean, scale = (tuple(rng.uniform(0.5, 3, n).tolist()) for _ in range(3))
    return LinearHazard(fill, mean, scale, weights, tuple(rng.normal(-2, 0.3, PERIODS).tolist()))


@pytest.fixture(scope="module")
def scorers():
    band = Band(((-2.0, 0.0, 1.0),) * 4, ((0.3, 0.2, 0.4),) * 4)
    shared = {"levels": LEVELS, "calibrator": Calibrator("beta", BETA), "band": band, "note": "why not"}
    return {
        Method.LIGHTGBM: Scorer(Method.LIGHTGBM, booster=tree_booster(SEED), **shared),
        Method.LOGISTIC: Scorer(Method.LOGISTIC, linear=linear_hazard(SEED), **shared),
        Method.RULE: Scorer(Method.RULE, note="nothing learned"),
    }


@pytest.fixture(scope="module")
def rich(scorers):
    """Trees and a line together, Venn–Abers steps, a model for seats that never started, rates of the young."""
    steps = Steps((0.2, 0.5), (0.0, 0.1, 0.6), (0.1, 0.4), (0.05, 0.3, 1.0))
    return replace(
        scorers[Method.LIGHTGBM],
        linear=linear_hazard(SEED),
        tree_weight=0.25,
        calibrator=Calibrator("venn_abers", steps=(steps, steps)),
        activation=replace(scorers[Method.LOGISTIC], note="few", speaks_from_days=7.0),
        young={str(Stratum.IN_USE): expert_rates(((0.9,) * 4,) * 4)},
        speaks_from_days=7.0,
        trained_until="2026-01-05T00:00:00+00:00",
    )


def arrays(risk):
    return [risk.risk, risk.low, risk.high, risk.curve, risk.expected_days]


# --- on disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", Method)
def test_a_saved_scorer_comes_back_to_the_bit(scorers, tmp_path, method):
    scorers[method].save(tmp_path)
    loaded = Scorer.load(tmp_path)
    vectors, categories = snapshots(SEED + 1)
    came, expected = (arrays(scorer.score(vectors, categories)) for scorer in (loaded, scorers[method]))
    assert [values.tobytes() for values in came] == [values.tobytes() for values in expected]
    assert replace(loaded, booster=None, later=None) == replace(scorers[method], booster=None, later=None)


def test_trees_of_the_later_weeks_come_back_and_leave_the_first_to_the_others(scorers, tmp_path):
    parted = replace(scorers[Method.LIGHTGBM], later=tree_booster(SEED + 5))
    parted.save(tmp_path)
    vectors, categories = snapshots(SEED + 1)
    codes = parted.codes(categories)
    found = Scorer.load(tmp_path).hazards(vectors, codes)
    first, later = (
        replace(parted, booster=one, later=None).hazards(vectors, codes) for one in (parted.booster, parted.later)
    )
    np.testing.assert_array_equal(found, np.concatenate((first[:, :1], later[:, 1:]), axis=1))
    assert np.abs(first[:, 1:] - later[:, 1:]).max() > 0.01


@pytest.mark.parametrize("method", Method)
def test_saving_again_writes_the_same_bytes(scorers, tmp_path, method):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    scorers[method].save(tmp_path / "one")
    Scorer.load(tmp_path / "one").save(tmp_path / "two")
    assert (tmp_path / "one" / "scorer.json").read_bytes() == (tmp_path / "two" / "scorer.json").read_bytes()


def test_a_scorer_is_text_and_no_pickle(scorers, tmp_path):
    scorers[Method.LIGHTGBM].save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"scorer.json", "booster.txt"}
    json.loads((tmp_path / "scorer.json").read_text(encoding="utf-8"))
    assert (tmp_path / "booster.txt").read_text(encoding="utf-8").startswith("tree\n")


@pytest.mark.parametrize(
    "changes", [{"catalogue": "0123456789abcdef"}, {"inputs": [*INPUTS[1:], INPUTS[0]]}], ids=["catalogue", "order"]
)
def test_a_scorer_of_another_catalogue_is_refused_in_a_sentence(scorers, tmp_path, changes):
    scorers[Method.LOGISTIC].save(tmp_path)
    document = json.loads((tmp_path / "scorer.json").read_text(encoding="utf-8"))
    (tmp_path / "scorer.json").write_text(json.dumps({**document, **changes}), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"trained on another feature catalogue \(.*\): build features and train again"
    ):
        Scorer.load(tmp_path)


def test_the_refusal_names_both_catalogues(scorers, tmp_path, monkeypatch):
    scorers[Method.RULE].save(tmp_path)
    monkeypatch.setattr(features.scorer, "catalogue_hash", lambda: "another")
    with pytest.raises(ValueError, match=rf"\({scorers[Method.RULE].catalogue}, now another\)"):
        Scorer.load(tmp_path)


# --- who scores whom ------------------------------------------------------------------------------------------------


def three_seats():
    """In use, silent for long, never started."""
    vectors, categories = snapshots(SEED + 2, 3)
    vectors[:, COLUMN["meaningful_28"]] = [4, 0, 0]
    vectors[:, COLUMN["meaningful_ever"]] = [9, 9, 0]
    return vectors, categories


def test_seats_are_in_use_silent_or_not_started():
    assert strata(three_seats()[0]).tolist() == [Stratum.IN_USE, Stratum.SILENT, Stratum.NOT_STARTED]


def test_a_seat_of_which_nothing_is_known_has_not_started():
    assert strata(np.full((1, len(NUMERIC)), np.nan)).tolist() == [Stratum.NOT_STARTED]


@pytest.mark.parametrize("method", LEARNED)
def test_seats_not_in_use_get_the_rule_of_their_stratum(scorers, method):
    vectors, categories = three_seats()
    found = scorers[method].score(vectors, categories)
    for row, stratum in ((1, Stratum.SILENT), (2, Stratum.NOT_STARTED)):
        risk, low, high = expert_rates_elsewhere()[stratum].risk(vectors[[row]])
        np.testing.assert_array_equal(found.risk[row], risk[0])
        np.testing.assert_array_equal(found.low[row], low[0])
        np.testing.assert_array_equal(found.high[row], high[0])
    assert (found.risk[0] != expert_rates().risk(vectors)[0][0]).all()
    assert scorers[method].speaks_for(vectors).tolist() == [True, False, False]


def test_the_rule_speaks_for_nobody_as_a_learned_model(scorers):
    vectors, categories = three_seats()
    assert not scorers[Method.RULE].speaks_for(vectors).any()
    found = scorers[Method.RULE].score(vectors, categories)
    np.testing.assert_array_equal(found.risk[0], expert_rates().risk(vectors)[0][0])


def test_a_seat_that_is_silent_already_is_never_said_to_be_safer_than_one_in_use(scorers):
    vectors, categories = three_seats()
    risk = scorers[Method.RULE].score(vectors, categories).risk
    assert (risk[1] > risk[0]).all()
    assert (risk[2] > risk[0]).all()


@pytest.mark.parametrize("method", Method)
def test_no_snapshots_get_no_risk(scorers, method):
    found = scorers[method].score(np.empty((0, len(NUMERIC))), [])
    assert [values.shape for values in arrays(found)] == [(0, 4), (0, 4), (0, 4), (0, PERIODS), (0,)]


@pytest.mark.parametrize("method", Method)
def test_a_snapshot_gets_the_same_score_alone_and_in_a_batch(scorers, method):
    vectors, categories = snapshots(SEED + 3, 20)
    vectors[::3, COLUMN["meaningful_28"]] = 0
    batch = scorers[method].score(vectors, categories)
    alone = np.concatenate([scorers[method].score(vectors[[i]], [categories[i]]).risk for i in range(20)])
    np.testing.assert_allclose(alone, batch.risk, rtol=1e-12)  # a matrix product may add in another order


def test_scoring_leaves_the_vectors_and_the_rule_alone(scorers):
    vectors, categories = three_seats()
    before, rule = vectors.copy(), scorers[Method.LOGISTIC].rule
    scorers[Method.LOGISTIC].score(vectors, categories)
    np.testing.assert_array_equal(vectors, before)
    assert scorers[Method.LOGISTIC].rule == rule == expert_rates()


# --- curves ---------------------------------------------------------------------------------------------------------


def test_horizons_are_ends_of_periods():
    assert [PERIOD_ENDS_DAYS[period] for period in HORIZON_PERIODS] == list(HORIZONS_DAYS)


def beta(hazard, stage):
    a, b, c = BETA[stage]
    odds = hazard**a / (1 - hazard) ** b * np.exp(c)
    return odds / (1 + odds)


@pytest.mark.parametrize("method", LEARNED)
def test_curve_horizons_and_expected_days_equal_a_loop(scorers, method):
    scorer, (vectors, categories) = scorers[method], snapshots(SEED + 4, 30)
    found = scorer.score(vectors, categories)
    hazards = scorer.hazards(vectors, scorer.codes(categories))
    for row in range(30):
        survival, days, curve = [], 0.0, []
        alive = 1.0
        for period in range(PERIODS):
            alive *= 1 - beta(hazards[row, period], min(period, 1))
            survival.append(alive)
            curve.append(1 - alive)
        for before, after in pairwise(survival):
            days += 7 * (before + after) / 2
        np.testing.assert_allclose(found.curve[row], curve, rtol=1e-9)
        np.testing.assert_allclose(found.risk[row], [curve[0], curve[1], curve[2], curve[4]], rtol=1e-9)
        assert found.expected_days[row] == pytest.approx(days)


@pytest.mark.parametrize("method", Method)
def test_nothing_falls_with_the_horizon_and_the_risk_is_inside_its_interval(scorers, method):
    found = scorers[method].score(*snapshots(SEED + 5))
    assert min(np.diff(values, axis=1).min() for values in (found.risk, found.low, found.high, found.curve)) >= 0
    assert ((found.low >= 0) & (found.low <= found.risk) & (found.risk <= found.high) & (found.high <= 1)).all()


def test_the_interval_is_that_of_the_band(scorers):
    scorer, (vectors, categories) = scorers[Method.LOGISTIC], snapshots(SEED + 6, 10)
    found = scorer.score(vectors, categories)
    low, high = scorer.band.around(found.risk)
    np.testing.assert_array_equal(found.low, low)
    np.testing.assert_array_equal(found.high, high)
    assert (found.low < found.risk).all()


def test_without_a_band_nothing_is_said_to_be_sure(scorers):
    bare = replace(scorers[Method.LOGISTIC], band=Band())
    found = bare.score(*snapshots(SEED + 7, 10))
    np.testing.assert_array_equal(found.low, np.zeros_like(found.risk))
    np.testing.assert_array_equal(found.high, np.ones_like(found.risk))


def test_the_rules_curve_goes_through_its_rates_and_is_flat_after_the_last(scorers):
    found = scorers[Method.RULE].score(*snapshots(SEED + 8, 5))
    np.testing.assert_array_equal(found.curve[:, HORIZON_PERIODS], found.risk)
    np.testing.assert_array_equal(found.curve[:, 5:], np.repeat(found.risk[:, [3]], 4, axis=1))


@pytest.mark.parametrize(("risk", "days"), [(0.0, 56.0), (1.0, 0.0), (0.5, 28.0)])
def test_expected_days_of_a_flat_curve(risk, days):
    assert restricted_mean(np.full((1, PERIODS), risk))[0] == pytest.approx(days)


# --- inputs ---------------------------------------------------------------------------------------------------------


def test_codes_of_missing_and_never_seen_names_are_missing(scorers):
    found = scorers[Method.LOGISTIC].codes([["cursor", "nurse", "sales", "emea"], ["new_tool", "", "", "apac"]])
    np.testing.assert_array_equal(found, [[1, 2, np.nan, 0], [np.nan] * 4])


@pytest.mark.parametrize("method", LEARNED)
def test_a_name_never_seen_is_scored_as_unknown(scorers, method):
    vectors, _ = snapshots(SEED + 9, 10)
    never, unknown = ([[name] * 4] * 10 for name in ("never_seen", ""))
    np.testing.assert_array_equal(*(scorers[method].score(vectors, names).risk for names in (never, unknown)))


def test_person_periods_adjoin_and_end_with_the_age_then_and_the_period():
    vectors, categories = snapshots(SEED + 12, 2)
    codes = Scorer(Method.RULE, levels=LEVELS).codes(categories)
    rows = person_periods(vectors, codes)
    assert rows.shape == (2 * PERIODS, len(INPUTS))
    np.testing.assert_array_equal(rows[:PERIODS, : len(NUMERIC)], np.tile(vectors[0], (PERIODS, 1)))
    np.testing.assert_array_equal(rows[PERIODS:, len(NUMERIC) : -2], np.tile(codes[1], (PERIODS, 1)))
    ages_then = vectors[:, [COLUMN["life_days"]]] + np.arange(0, 57, 7)
    np.testing.assert_array_equal(rows[:, INPUTS.index(AGE_COLUMN)], ages_then.ravel())
    np.testing.assert_array_equal(rows[:, INPUTS.index(PERIOD_COLUMN)], np.tile(np.arange(PERIODS), 2))


def test_training_and_scoring_show_the_trees_the_same_rows():
    vectors, categories = snapshots(SEED + 13, 3)
    codes = Scorer(Method.RULE, levels=LEVELS).codes(categories)
    every, period = np.repeat(np.arange(3), PERIODS), np.tile(np.arange(PERIODS), 3)
    np.testing.assert_array_equal(person_periods(vectors, codes), period_rows(vectors[every], codes[every], period))


def test_squash_is_odd_and_logarithmic():
    np.testing.assert_allclose(squash(np.array([-np.expm1(2), 0, np.expm1(3)])), [-2, 0, 3])


def test_one_hot_of_a_missing_code_is_nothing():
    np.testing.assert_array_equal(one_hot(np.array([[1.0, np.nan], [0.0, 0.0]]), [2, 1]), [[0, 1, 0], [1, 0, 1]])


# --- explanation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", LEARNED)
def test_contributions_sum_to_the_raw_log_odds_that_the_silence_begins_now(scorers, method):
    vectors, categories = snapshots(SEED + 10)
    parts = scorers[method].contributions(vectors, categories)
    hazard = scorers[method].hazards(vectors, scorers[method].codes(categories))[:, 0]
    np.testing.assert_allclose(sum(parts.values()), np.log(hazard / (1 - hazard)), atol=1e-6)


@pytest.mark.parametrize("method", LEARNED)
def test_every_feature_and_the_base_contribute(scorers, method):
    parts = scorers[method].contributions(*snapshots(SEED + 11, 5))
    assert set(parts) == {*INPUTS, "base"} - {AGE_COLUMN, PERIOD_COLUMN}
    assert {values.shape for values in parts.values()} == {(5,)}


def test_the_rule_contributes_nothing(scorers):
    assert scorers[Method.RULE].contributions(*snapshots(SEED, 2)) == {}


@pytest.mark.parametrize("method", LEARNED)
def test_the_raw_score_is_what_the_parts_sum_to(scorers, method):
    vectors, categories = snapshots(SEED + 12)
    parts = scorers[method].contributions(vectors, categories)
    np.testing.assert_allclose(sum(parts.values()), scorers[method].raw_score(vectors, categories), atol=1e-6)


# --- trees and a line together, seats that never started, the very young --------------------------------------------


def aged(vectors, days):
    vectors = vectors.copy()
    vectors[:, COLUMN["life_days"]] = days
    return vectors


def test_a_rich_scorer_comes_back_to_the_bit(rich, tmp_path):
    rich.save(tmp_path)
    loaded = Scorer.load(tmp_path)
    vectors, categories = snapshots(SEED + 20)
    vectors[::3, COLUMN["meaningful_28"]] = 0
    vectors[::6, COLUMN["meaningful_ever"]] = 0
    came, expected = (arrays(scorer.score(vectors, categories)) for scorer in (loaded, rich))
    assert [values.tobytes() for values in came] == [values.tobytes() for values in expected]
    assert loaded.activation.note == "few"
    assert loaded.trained_until == rich.trained_until


def test_a_blend_is_the_weighted_mean_of_the_log_odds(rich, scorers):
    vectors, categories = snapshots(SEED + 21, 30)
    codes = rich.codes(categories)
    odds = [np.log(h / (1 - h)) for h in (scorers[m].hazards(vectors, codes) for m in LEARNED)]
    blended = rich.hazards(vectors, codes)
    np.testing.assert_allclose(np.log(blended / (1 - blended)), 0.25 * odds[0] + 0.75 * odds[1], atol=1e-9)


def test_the_parts_of_a_blend_sum_to_its_raw_score(rich):
    vectors, categories = snapshots(SEED + 22)
    vectors = aged(vectors, 50)
    parts = rich.contributions(vectors, categories)
    np.testing.assert_allclose(sum(parts.values()), rich.raw_score(vectors, categories), atol=1e-6)


def test_seats_that_never_started_have_a_model_of_their_own(rich, scorers):
    vectors, categories = three_seats()
    vectors = aged(vectors, 50)
    found = rich.score(vectors, categories)
    own = scorers[Method.LOGISTIC]
    hazards = own.hazards(vectors[[2]], own.codes([categories[2]]))
    np.testing.assert_allclose(found.curve[2], cumulative(own.calibrator.apply(hazards))[0])
    voices = rich.voices(vectors)
    assert [voice.method for voice in voices] == [Method.LIGHTGBM, Method.RULE, Method.LOGISTIC]
    assert voices[0].note == ""
    assert "never started" in voices[2].note
    assert voices[2].note.endswith("few")
    assert np.isnan(rich.contributions(vectors, categories)["base"]).tolist() == [False, True, False]


@pytest.mark.parametrize(("days", "speaks"), [(6.9, False), (7.0, True)])
def test_of_seats_younger_than_a_week_the_rule_of_the_young_speaks(rich, days, speaks):
    vectors, categories = three_seats()
    vectors = aged(vectors, days)
    assert rich.speaks_for(vectors).tolist() == [speaks, False, speaks]
    found = rich.score(vectors, categories).risk[0]
    assert (found == rich.young[Stratum.IN_USE].risk(vectors)[0][0]).all() != speaks
    assert ("younger than 7 days" in rich.voices(vectors)[0].note) != speaks


def test_where_enough_of_the_young_were_seen_the_model_speaks_of_them_too(rich):
    vectors, _ = three_seats()
    assert replace(rich, speaks_from_days=0.0).speaks_for(aged(vectors, 1.0))[0]


def test_many_rows_are_scored_in_blocks_to_the_same_numbers(scorers, monkeypatch):
    vectors, categories = snapshots(SEED + 23, 50)
    whole = scorers[Method.LIGHTGBM].score(vectors, categories)
    monkeypatch.setattr(features.scorer, "BLOCK_ROWS", 7)
    np.testing.assert_array_equal(scorers[Method.LIGHTGBM].score(vectors, categories).curve, whole.curve)
