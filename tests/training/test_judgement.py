import json
from dataclasses import replace

import numpy as np
import pytest

from features.catalogue import NUMERIC
from features.scorer import HORIZON_PERIODS, HORIZONS_DAYS, PERIODS, LinearHazard, Method, Scorer
from training import report
from training.judgement import MIN_PEOPLE, Judgement, judge, reliability


@pytest.fixture(scope="module")
def judged(simulate) -> Judgement:
    data = simulate(60, n=2_000).dataset
    names = [[row[0], "rare" if number < 4 * (MIN_PEOPLE - 1) else row[1], *row[2:]]
             for number, row in enumerate(data.categories)]  # fmt: skip
    return judge(Scorer(Method.RULE), replace(data, categories=names))


def test_groups_of_few_people_are_counted_and_not_shown(judged):
    assert {group.name for group in judged.groups if group.kind == "role"} == {"analyst", "engineer", "nurse"}
    assert judged.suppressed["role"] == 1
    assert all(group.people >= MIN_PEOPLE for group in (*judged.groups, *judged.weeks))


def test_the_document_is_strict_json(judged):
    text = json.dumps(judged.document(), allow_nan=False)
    assert set(json.loads(text)) >= {"metrics", "auc_by_time", "lead", "groups", "weeks", "coverage_of_bins"}


def test_bins_hold_the_same_mass_and_their_means():
    risk = np.repeat(np.linspace(0, 1, 100)[:, None], 4, axis=1)
    label = (risk > 0.5).astype(float)
    found = reliability(label, risk, risk - 0.1, risk + 0.1)[0]
    assert [one.snapshots for one in found] == [10] * 10
    assert found[0].predicted == pytest.approx(np.linspace(0, 1, 100)[:10].mean())
    assert (found[0].observed, found[-1].observed) == (0.0, 1.0)


def test_coverage_is_the_share_of_bins_in_their_interval():
    risk = np.repeat(np.linspace(0.0, 1, 100)[:, None], 4, axis=1)
    bins = reliability(np.round(risk), risk, np.zeros_like(risk), np.ones_like(risk))
    judged = Judgement(0, 0, {}, {}, None, bins, (), (), {}, {})
    assert judged.coverage() == {0: 1.0, 7: 1.0, 14: 1.0, 28: 1.0}
    off = reliability(np.ones_like(risk), risk, risk - 0.01, risk + 0.01)
    assert replace(judged, reliability=off).coverage()[0] < 0.2


def test_labels_are_judged_by_the_inverse_of_their_chance_to_be_left_alone(simulate):
    data = simulate(62, n=1_500).dataset
    weight = np.where(np.arange(len(data)) % 3 == 0, 4.0, 1.0)[:, None] * np.linspace(1, 2, PERIODS)
    data = replace(data, censoring_weight=weight)
    rule = Scorer(Method.RULE)
    found, (risk, low, high) = judge(rule, data), rule.rule.risk(data.vectors)
    for horizon, days in enumerate(HORIZONS_DAYS):
        label, own = data.abandoned()[:, horizon], weight[:, HORIZON_PERIODS[horizon]]
        known = ~np.isnan(label)
        by_hand = np.average((label - risk[:, horizon])[known] ** 2, weights=own[known])
        assert found.metrics[days]["model"]["brier"].value == pytest.approx(by_hand)
        weighted = reliability(data.abandoned(), risk, low, high, weight=data.horizon_weight())
        assert found.reliability[days] == weighted[days]
    role = [names[1] for names in data.categories]
    nurses = np.array(role) == "nurse"
    group = next(group for group in found.groups if (group.kind, group.name) == ("role", "nurse"))
    label = np.where(nurses, data.abandoned()[:, 0], np.nan)
    known = ~np.isnan(label)
    by_hand = np.average((label - risk[:, 0])[known] ** 2, weights=weight[known, 0])
    assert group.metrics[0]["brier"].value == pytest.approx(by_hand)


def test_a_bin_shows_the_weighted_share():
    risk = np.repeat(np.linspace(0, 1, 100)[:, None], 4, axis=1)
    label = np.tile([0.0, 1.0], 50)[:, None] * np.ones(4)
    weight = np.where(label == 1, 3.0, 1.0)
    assert {one.observed for one in reliability(label, risk, risk, risk, weight=weight)[0]} == {0.75}


def test_a_model_of_seats_that_never_started_is_judged_beside_their_rule(simulate, column):
    data = simulate(61, n=1_000).dataset
    vectors = data.vectors.copy()
    vectors[:, column["meaningful_28"]] = 0
    count = len(NUMERIC)
    flat = LinearHazard((0.0,) * count, (0.0,) * count, (1.0,) * count, (0.0,) * count, (-2.0,) * PERIODS)
    own = Scorer(Method.LOGISTIC, linear=flat)
    not_started = replace(data, vectors=vectors)
    found = judge(Scorer(Method.RULE, activation=own), data, not_started=not_started)
    assert set(found.activation[0]) == {"model", "rule"}
    assert judge(Scorer(Method.RULE), data, not_started=not_started).activation == {}


def test_people_and_teams_that_training_never_saw_are_judged_by_themselves(simulate):
    data = simulate(63, n=2_000).dataset
    data = replace(data, team=np.char.add("t", (np.arange(len(data)) // 200).astype(str)))
    is_past = np.arange(len(data)) < 1_400
    found = judge(Scorer(Method.RULE), data, past=data.take(is_past))
    alone = judge(Scorer(Method.RULE), data.take(~is_past))
    assert set(found.unseen) == {"people", "teams"}
    assert found.unseen["people"][0]["model"] == alone.metrics[0]["model"]
    assert found.unseen["teams"] == found.unseen["people"]
    seen = judge(Scorer(Method.RULE), data, past=data)
    assert seen.unseen == {}
    page = report.page(found, Scorer(Method.RULE), title="", facts={})
    assert "New teams, abandoned by 0 days" in page
    assert "Too few of either to judge by" in report.page(seen, Scorer(Method.RULE), title="", facts={})


def test_the_model_of_seats_that_never_started_is_judged_also_where_it_may_not_serve(simulate):
    """Else only those that passed on these very outcomes would be shown, which look better than they are."""
    data = simulate(64, n=1_000).dataset
    vectors = data.vectors.copy()
    vectors[:, [feature.name in ("meaningful_28", "meaningful_ever") for feature in NUMERIC]] = 0
    not_started = replace(data, vectors=vectors)
    count = len(NUMERIC)
    line = LinearHazard((0.0,) * count, (0.0,) * count, (1.0,) * count, (0.0,) * count, (-2.0,) * PERIODS)
    refused = Scorer(Method.LOGISTIC, linear=line)
    found = judge(Scorer(Method.RULE), data, not_started=not_started, activation=refused)
    assert set(found.activation[28]) == {"model", "rule"}
    assert judge(Scorer(Method.RULE), data, not_started=not_started).activation == {}
