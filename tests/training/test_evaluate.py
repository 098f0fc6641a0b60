import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from features.scorer import PERIOD_ENDS_DAYS
from training import evaluate as judged
from training.evaluate import (
    ALERT_RATE,
    METRICS,
    RESAMPLES,
    Estimate,
    after_tries,
    auc_by_time,
    calibration_gain,
    compare,
    difference,
    ece,
    estimate,
    evaluate,
    lead_time,
)

SEED = 20
EXACT = 1e-9  # the same sums in another order


def sample(seed, n=400, *, decimals=1):
    """Labels, scores with many ties, and three rows of weights: ones, random, and a bootstrap's with zeros."""
    rng = np.random.default_rng(seed)
    score = np.clip(np.round(rng.random(n), decimals), 0.05, 0.95)
    label = (rng.random(n) < score).astype(float)
    weight = np.stack((np.ones(n), rng.uniform(0.1, 3, n), rng.poisson(1, n).astype(float)))
    return label, score, weight


REFERENCES = {
    "auc": reference.roc_auc_score,
    "ap": reference.average_precision_score,
    "log_loss": reference.log_loss,
    "brier": reference.brier_score_loss,
}


@pytest.mark.parametrize("decimals", [1, 9], ids=["ties", "no ties"])
@pytest.mark.parametrize("name", REFERENCES)
def test_weighted_metrics_equal_those_of_scikit_learn(name, decimals):
    label, score, weight = sample(SEED, decimals=decimals)
    expected = [REFERENCES[name](label, score, sample_weight=row) for row in weight]
    np.testing.assert_allclose(METRICS[name](label, score, weight), expected, rtol=EXACT)


@pytest.mark.parametrize("name", ["auc", "ap", "log_loss", "brier", "lift_at_10"])
def test_a_whole_weight_is_as_many_copies_of_the_row(name):
    label, score, weight = sample(SEED, n=300)
    times = weight[2].astype(int)
    copied = np.repeat(label, times), np.repeat(score, times), np.ones((1, times.sum()))
    np.testing.assert_allclose(METRICS[name](label, score, weight[2:]), METRICS[name](*copied), rtol=EXACT)


def test_ece_equals_a_loop_over_fifteen_bins_of_equal_mass():
    label, score, weight = sample(SEED, n=417, decimals=9)
    order = np.argsort(score)
    total = 0.0
    for number in range(15):
        rows = order[417 * number // 15 : 417 * (number + 1) // 15]
        total += abs((weight[1, rows] * (label[rows] - score[rows])).sum())
    assert METRICS["ece"](label, score, weight[1:2])[0] == pytest.approx(total / weight[1].sum(), rel=EXACT)


def test_ece_of_a_perfectly_calibrated_score_is_near_zero():
    label, score, weight = sample(SEED, n=100_000, decimals=9)
    # of 15 bins of 6 667 labels each, the mean distance by chance alone is about 0.8 sqrt(0.2 / 6 667) = 0.0044
    assert METRICS["ece"](label, score, weight[:1])[0] < 0.008


def test_ece_of_a_score_that_is_off_everywhere_is_how_far_it_is_off():
    label, score, weight = sample(SEED, n=100_000, decimals=9)
    # the same chance as above
    assert METRICS["ece"](label, score * 0.8 + 0.2, weight[:1])[0] == pytest.approx(0.1, abs=0.008)


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_the_rows_changes_nothing(name):
    label, score, weight = sample(SEED)
    order = np.argsort(label, kind="stable")
    first = METRICS[name](label, score, weight[:2])
    np.testing.assert_allclose(METRICS[name](label[order], score[order], weight[:2][:, order]), first, rtol=EXACT)


def test_lift_is_the_rate_in_the_top_tenth_over_the_rate_in_all():
    label = np.zeros(100)
    label[:6] = 1
    label[50:54] = 1
    score = np.linspace(1, 0, 100)
    assert METRICS["lift_at_10"](label, score, np.ones((1, 100)))[0] == pytest.approx(6.0)


def test_lift_takes_its_share_of_a_tie():
    label = np.zeros(100)
    label[:8] = 1
    score = np.where(np.arange(100) < 20, 0.9, 0.1)  # half of the twenty are taken: 4 of 10, against 8 of 100
    assert METRICS["lift_at_10"](label, score, np.ones((1, 100)))[0] == pytest.approx(5.0)


@pytest.mark.parametrize(("name", "expected"), [("auc", 0.5), ("lift_at_10", 1.0)])
def test_a_score_that_says_nothing_is_worth_chance(name, expected):
    label, _, weight = sample(SEED)
    np.testing.assert_allclose(METRICS[name](label, np.full(len(label), 0.3), weight), expected, rtol=EXACT)


def test_auc_is_missing_where_only_one_class_has_weight():
    weight = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    found = METRICS["auc"](np.array([1.0, 1.0, 0.0]), np.array([0.2, 0.8, 0.5]), weight)
    np.testing.assert_array_equal(found, [np.nan, 0.5])


# --- intervals ------------------------------------------------------------------------------------------------------


def people(n):
    return np.array([f"p{number}" for number in range(n)])


def test_an_estimate_lies_inside_its_interval():
    label, score, _ = sample(SEED)
    found = estimate(METRICS["auc"], label, score, people(400))
    assert found.low < found.value < found.high


def test_the_interval_counts_people_and_not_their_snapshots():
    label, score, _ = sample(SEED, n=200)
    one = estimate(METRICS["auc"], label, score, people(200))
    nine = [np.repeat(values, 9) for values in (label, score, people(200))]
    by_person = estimate(METRICS["auc"], *nine)
    naive = estimate(METRICS["auc"], nine[0], nine[1], people(1800))
    assert by_person.value == pytest.approx(one.value, rel=EXACT)
    assert (by_person.low, by_person.high) == pytest.approx((one.low, one.high), rel=EXACT)  # the same draws of people
    # nine copies look like nine times the data: an interval a third as wide; 500 resamples give its ends to about 10 %
    assert (by_person.high - by_person.low) / (naive.high - naive.low) == pytest.approx(3, rel=0.25)


def test_the_interval_covers_the_truth_in_about_nineteen_of_twenty():
    truth = 1 / 6  # Brier score of a calibrated uniform score: the mean of p (1 - p)
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        score = rng.random(300)
        label = (rng.random(300) < score).astype(float)
        found = estimate(METRICS["brier"], label, score, people(300), seed=seed)
        covered += found.low <= truth <= found.high
    assert 180 <= covered <= 198  # 190 expected, standard deviation 3; the percentile method is slightly narrow


def test_the_seed_gives_the_interval():
    label, score, _ = sample(SEED)
    first, again, other = (estimate(METRICS["brier"], label, score, people(400), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_chunks_of_resamples_change_nothing(monkeypatch):
    label, score, _ = sample(SEED)
    whole = estimate(METRICS["brier"], label, score, people(400))
    monkeypatch.setattr(judged, "_CHUNK_CELLS", 400 * 7)  # 7 resamples at a time, which does not divide 500
    assert RESAMPLES % 7
    again = estimate(METRICS["brier"], label, score, people(400))
    assert (again.low, again.high) == pytest.approx((whole.low, whole.high), rel=EXACT)


def test_an_estimate_reads_as_value_and_interval():
    assert str(Estimate(0.8191, 0.731, 0.8834)) == "0.819 [0.731, 0.883]"


# --- the paired comparison ------------------------------------------------------------------------------------------


def paired(seed=SEED, n=500):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.05, 0.95, (n, 2))
    label = (rng.random((n, 2)) < truth).astype(float)
    return label, truth, np.full_like(truth, 0.5)


def test_compare_is_above_zero_where_mine_is_better():
    label, truth, coin = paired()
    gain = compare(label, truth, coin, people(500))
    assert gain.low > 0
    assert gain.value == pytest.approx(
        reference.log_loss(label.ravel(), coin.ravel()) - reference.log_loss(label.ravel(), truth.ravel())
    )


def test_compare_turns_its_sign_when_the_models_are_exchanged():
    label, truth, coin = paired()
    there, back = compare(label, truth, coin, people(500)), compare(label, coin, truth, people(500))
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


def test_compare_of_a_model_with_itself_is_exactly_zero():
    label, truth, _ = paired()
    assert compare(label, truth, truth, people(500)) == Estimate(0.0, 0.0, 0.0)


def test_compare_leaves_censored_labels_out():
    label, truth, coin = paired()
    label[::3, 1] = np.nan
    whole = compare(label, truth, coin, people(500))
    censored = np.isnan(label)
    other = compare(label, np.where(censored, 0.999, truth), np.where(censored, 0.001, coin), people(500))
    assert other == whole
    known = ~censored
    by_hand = reference.log_loss(label[known], coin[known]) - reference.log_loss(label[known], truth[known])
    assert whole.value == pytest.approx(by_hand)


def test_compare_draws_people_and_not_snapshots():
    label, truth, coin = paired(n=100)
    copied = [np.repeat(values, 9, axis=0) for values in (label, truth, coin)]
    by_person = compare(*copied, np.repeat(people(100), 9))
    naive = compare(*copied, people(900))
    assert (by_person.high - by_person.low) / (naive.high - naive.low) == pytest.approx(3, rel=0.25)  # as above


def test_losses_stay_finite_for_certain_mistakes():
    assert np.isfinite(judged.losses(np.array([1.0, 0.0]), np.array([0.0, 1.0]))).all()


# --- tables ---------------------------------------------------------------------------------------------------------


def test_evaluate_judges_every_method_by_every_metric_without_the_censored():
    label, score, _ = sample(SEED)
    unknown = np.append(label, [np.nan] * 5)
    padded = np.append(score, [0.5] * 5)
    found = evaluate(unknown, {"a": padded, "b": 1 - padded}, people(405))
    assert {name: set(values) for name, values in found.items()} == {"a": set(METRICS), "b": set(METRICS)}
    assert found["a"]["auc"].value == pytest.approx(reference.roc_auc_score(label, score))
    assert found["a"]["auc"].value == pytest.approx(1 - found["b"]["auc"].value)


@pytest.mark.parametrize("label", [np.tile([0.0, 1.0], 24), np.ones(200)], ids=["48 snapshots", "one class"])
def test_too_little_is_not_judged(label):
    assert evaluate(label, {"a": np.full(len(label), 0.5)}, people(len(label))) == {}


def test_the_difference_of_a_metric_is_paired():
    label, score, _ = sample(SEED)
    assert difference(ece, label, score, score, people(400)) == Estimate(0.0, 0.0, 0.0)
    worse = difference(ece, label, np.clip(score + 0.2, 0, 1), score, people(400))
    assert worse.low > 0


def test_scores_in_few_steps_are_no_better_calibrated_than_scores_in_many():
    """400 snapshots, both scores right, one of them rounded into six steps: surely better in no more than one of twenty."""
    wins, rng = [], np.random.default_rng(SEED)
    for world in range(100):
        truth = rng.uniform(0.05, 0.6, 400)
        label = (rng.random(400) < truth).astype(float)
        step = np.digitize(truth, np.linspace(0.05, 0.6, 7)[1:-1])
        coarse = np.array([truth[step == one].mean() for one in range(6)])[step]
        wins.append(calibration_gain(label, coarse, truth, people(400), seed=world).low > 0)
    assert np.mean(wins) <= 0.08  # 2.5 % is meant; of 100 worlds the standard error is 0.016


def test_a_score_that_is_off_is_surely_worse_calibrated():
    rng = np.random.default_rng(SEED)
    truth = rng.uniform(0.05, 0.6, 2_000)
    label = (rng.random(2_000) < truth).astype(float)
    found = calibration_gain(label, truth, truth + 0.1, people(2_000))
    assert found.low > 0
    assert found.value == pytest.approx(
        0.01, abs=0.006
    )  # 0.1 squared; the mean of 2 000 is off by 0.01, twice 0.1 of it


def test_the_interval_of_the_ece_holds_its_estimate():
    """Chance adds to the ECE, and once more to that of a resample; the interval must not lie above the estimate."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        score = rng.uniform(0.05, 0.6, 600)
        found = evaluate((rng.random(600) < score).astype(float), {"a": score}, people(600))["a"]["ece"]
        assert 0 <= found.low <= found.value <= found.high


def test_the_best_of_many_tries_has_a_wider_interval():
    one = Estimate(0.1, 0.04, 0.18)
    assert after_tries(one, 1) == one
    ten = after_tries(one, 10)
    stretch = stats.norm.ppf(1 - 0.0025) / stats.norm.ppf(0.975)
    assert (ten.low, ten.high) == pytest.approx((0.1 - 0.06 * stretch, 0.1 + 0.08 * stretch))


# --- weights: who was not contacted stands in for those who were ------------------------------------------------------


def doubled(values, often):
    return np.repeat(values, often, axis=0)


@pytest.mark.parametrize("name", list(METRICS))
def test_a_label_of_weight_two_counts_as_two_labels_do(name):
    label, score, _ = sample(SEED)
    often = np.tile([1, 2], 200)
    weighted = evaluate(label, {"a": score}, people(400), weight=often.astype(float))["a"][name]
    copied = evaluate(doubled(label, often), {"a": score.repeat(often)}, doubled(people(400), often))["a"][name]
    # copies move the edges of the 15 bins; every other metric is the same to the last digits
    assert weighted.value == pytest.approx(copied.value, abs=0.02 if name == "ece" else EXACT)
    plain = evaluate(label, {"a": score}, people(400))["a"][name]
    assert (weighted.value, weighted.low) != (plain.value, plain.low)


def test_weights_bring_back_the_rate_of_those_who_were_never_left_out():
    """Half of the risky are contacted and lost; those who stay count twice, and calibration is judged on all again."""
    rng = np.random.default_rng(SEED)
    risky = rng.random(40_000) < 0.5
    chance = np.where(risky, 0.6, 0.2) + rng.uniform(-0.1, 0.1, 40_000)
    hidden = rng.random(40_000) < 0.5  # half of each group gives up surely sooner, and is contacted more often
    truth = np.clip(chance + np.where(hidden, 0.1, -0.1), 0, 1)
    label = (rng.random(40_000) < truth).astype(float)
    stays = np.where(hidden, 0.4, 0.8)
    seen = np.where(rng.random(40_000) < stays, label, np.nan)
    plain, weighted = (
        evaluate(seen, {"a": chance}, people(40_000), weight=weight)["a"]["ece"].value for weight in (None, 1 / stays)
    )
    assert plain > 0.025
    assert weighted < 0.015  # 15 bins of 1 600 labels: an expected gap of 0.010 by chance alone


def test_compare_and_difference_count_weights_as_copies():
    label, truth, coin = paired()
    often = np.tile([1, 3], 250)
    weight = often[:, None] * np.ones(2)
    weighted = compare(label, truth, coin, people(500), weight=weight)
    copied = compare(*(doubled(values, often) for values in (label, truth, coin)), doubled(people(500), often))
    assert (weighted.value, weighted.low, weighted.high) == pytest.approx((copied.value, copied.low, copied.high))
    scores = (coin[:, 0], truth[:, 0])
    brier = METRICS["brier"]
    found = difference(brier, label[:, 0], *scores, people(500), weight=often.astype(float))
    again = difference(brier, *(doubled(v, often) for v in (label[:, 0], *scores)), doubled(people(500), often))
    assert (found.value, found.low, found.high) == pytest.approx((again.value, again.low, again.high))


# --- over time ------------------------------------------------------------------------------------------------------


def test_the_auc_by_time_of_the_truth_is_that_of_its_labels(simulate):
    data = simulate(6, n=2000)
    found = auc_by_time(data.dataset, data.risk)
    assert set(found) <= set(PERIOD_ENDS_DAYS)
    for period, days in enumerate(PERIOD_ENDS_DAYS[:4]):
        outcome = data.dataset.abandoned_by([days])[:, 0]
        known = ~np.isnan(outcome)
        expected = reference.roc_auc_score(outcome[known], data.risk[known, period])
        assert found[days].value == pytest.approx(expected)
        assert found[days].low < found[days].value < found[days].high


def watched(make_dataset, alerts):
    """60 seats with weekly snapshots 21, 14, 7 and 0 days before a silence; alerts: by snapshot, whether it is high."""
    ahead = np.tile([21.0, 14.0, 7.0, 0.0], 60)
    day = 86_400_000_000
    names = np.repeat([f"acme/s-{number}" for number in range(60)], 4)
    as_of = 1_767_571_200_000_000 + ((30 - ahead) * day).astype(np.int64)
    later = make_dataset(ahead, ahead, np.full(240, 60.0), seat=names, person=names, as_of=as_of)
    quiet = make_dataset(np.full(2160, np.inf), np.full(2160, 60.0), np.full(2160, 60.0))
    joined = type(later)(
        **{
            name: np.concatenate((getattr(later, name), getattr(quiet, name)))
            for name in vars(later)
            if name != "categories"
        },
        categories=[*later.categories, *quiet.categories],
    )
    risk = np.concatenate((np.where(np.tile(alerts, 60), 0.9, 0.1), np.full(2160, 0.1)))
    return joined, risk


@pytest.mark.parametrize(
    ("alerts", "days", "caught"),
    [([1, 1, 1, 1], 21.0, 1.0), ([0, 1, 1, 1], 14.0, 1.0), ([0, 0, 1, 1], 7.0, 1.0), ([0, 0, 0, 1], 0.0, 0.0)],
)
def test_lead_time_is_from_the_first_alert_to_the_silence(make_dataset, alerts, days, caught):
    later, risk = watched(make_dataset, alerts)
    assert (risk >= 0.9).mean() <= ALERT_RATE
    risk = risk + np.random.default_rng(SEED).uniform(0, 1e-6, len(risk))  # else all the others tie with the threshold
    found = lead_time(later, np.where(risk > 0.5, risk, np.where(np.isinf(later.silent_after), risk + 0.1, 0.0)))
    assert found.silences == 60
    assert found.days.value == pytest.approx(days)
    assert found.caught.value == pytest.approx(caught)


def test_of_few_silences_no_lead_time_is_said(make_dataset):
    data = make_dataset(np.full(20, 7.0), np.full(20, 7.0), np.full(20, 60.0))
    assert lead_time(data, np.linspace(0, 1, 20)) is None
