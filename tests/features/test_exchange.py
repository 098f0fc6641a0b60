import csv
import io
import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.catalogue import CATEGORIES, NUMERIC, catalogue_hash
from features.decisions import NONE, Decision
from features.exchange import Support, Told, read_obp, read_vw, support, write_obp, write_vw

# a busy machine is slow to draw, which says nothing of the laws
LAWS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NOW = datetime(2026, 6, 1, 9, 30, 0, 17, tzinfo=UTC)
ARMS = (NONE, "refresher", "coach_call", "guided_start")
FULL = Decision(
    "d-1", "acme/s1", NOW, "refresher", {NONE: 0.05, "refresher": 0.9, "coach_call": 0.05}, workflow="proposal_draft",
    target_person_id="acme/p1", policy="greedy-2:expert:abc", model="rule", as_of=NOW,
    features=tuple(math.nan if n % 3 else n / 7 for n in range(len(NUMERIC))), categories=("m365_copilot", "", "it", ""),
    catalogue_hash=catalogue_hash(), risk={"0": 0.1, "28": 0.4}, effects={NONE: 0.0, "refresher": 0.03},
    guardrails={"guided_start": "given on 2026-05-30; 14 days of cooldown"}, deviations={NONE: 0.0, "refresher": 0.02},
    costs={NONE: 0.0, "refresher": 4.5}, terms={"epsilon": 0.1, "holdout_days": 56.0}, effects_model="rekindle-effects/3",
    key_id="0123456789ab", expires_at=NOW + timedelta(hours=72),
)  # fmt: skip
PLAIN = Decision("d-2", "acme/s2", NOW, NONE, {NONE: 1.0}, holdout=True)

unit = st.floats(0.001, 1.0)


@st.composite
def told_items(draw):
    names = draw(st.lists(st.sampled_from(ARMS), unique=True, min_size=1))
    weights = draw(st.lists(unit, min_size=len(names), max_size=len(names)))
    probabilities = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
    chosen = draw(st.sampled_from(names))
    decision = replace(
        FULL,
        decision_id=draw(st.uuids()).hex,
        intervention=chosen,
        probabilities=probabilities,
        holdout=draw(st.booleans()),
        risk={"28": draw(st.floats(0, 1))},
        features=(*draw(st.tuples(*[st.floats(allow_infinity=False)] * 3)), *FULL.features[3:]),
    )
    return Told(decision, draw(st.sampled_from([0.0, 1.0, math.nan])), draw(st.sampled_from([14, 28])))


def vw(told):
    out = io.StringIO()
    write_vw(told, out)
    return out.getvalue().splitlines()


def obp(told):
    out = io.StringIO()
    write_obp(told, out)
    return out.getvalue().splitlines(keepends=True)


def plain(decision):
    """What is compared: NaN equals nothing, not even itself."""
    return {**decision.document(), "probabilities": dict(decision.probabilities)}


def same(one, other):
    return one == other or (math.isnan(one) and math.isnan(other))


@LAWS
@given(st.lists(told_items(), max_size=3))
def test_what_goes_out_as_dsjson_comes_back_to_the_bit(told):
    back = read_vw(vw(told), ARMS)

    assert [plain(item.decision) for item in back] == [plain(item.decision) for item in told]
    assert [item.horizon_days for item in back] == [item.horizon_days for item in told]
    assert all(same(one.kept, other.kept) for one, other in zip(back, told, strict=True))


@LAWS
@given(st.lists(told_items(), max_size=3))
def test_what_goes_out_as_open_bandit_columns_comes_back_to_the_bit(told):
    back = read_obp(obp(told), ARMS)

    assert [plain(item.decision) for item in back] == [plain(item.decision) for item in told]
    assert all(same(one.kept, other.kept) for one, other in zip(back, told, strict=True))
    assert [item.horizon_days for item in back] == [item.horizon_days for item in told]


def test_dsjson_says_what_was_chosen_at_what_cost_and_probability():
    (line,) = vw([Told(FULL, 1.0, 28)])
    event = json.loads(line)

    assert (event["_label_cost"], event["_label_probability"], event["_label_Action"]) == (-1.0, 0.9, 2)
    assert (event["a"], event["p"]) == ([2, 1, 3], [0.9, 0.05, 0.05])
    assert [action["intervention"]["id"] for action in event["c"]["_multi"]] == [NONE, "refresher", "coach_call"]
    assert event["c"]["numbers"][NUMERIC[3].name] == 3 / 7
    assert event["c"]["groups"] == {CATEGORIES[0].name: "m365_copilot", CATEGORIES[2].name: "it"}
    assert not event["_skipLearn"]
    assert event["Timestamp"] == "2026-06-01T09:30:00.000017Z"


@pytest.mark.parametrize(
    ("label", "value", "said"),
    [
        ("_label_probability", 0, "line 1: _label_probability: refresher was chosen with a logged probability of zero"),
        ("_label_probability", 0.5, "line 1: _label_probability: expected 0.9 as the rest of the line says, came 0.5"),
        ("_label_cost", 0, "line 1: _label_cost: expected -1 as the rest of the line says, came 0"),
        ("_label_Action", 1, "line 1: _label_Action: expected 2 as the rest of the line says, came 1"),
    ],
)
def test_labels_of_dsjson_that_contradict_the_rest_are_refused(label, value, said):
    (line,) = vw([Told(FULL, 1.0, 28)])

    with pytest.raises(ValueError, match=said):
        read_vw([json.dumps({**json.loads(line), label: value})], ARMS)


@pytest.mark.parametrize(("decision", "kept"), [(PLAIN, 1.0), (FULL, math.nan)], ids=["holdout", "unknown"])
def test_dsjson_of_the_holdout_or_without_outcome_is_not_to_be_learned_from(decision, kept):
    assert json.loads(vw([Told(decision, kept, 28)])[0])["_skipLearn"]


def test_open_bandit_columns_are_those_of_the_data_set():
    rows = list(csv.DictReader(obp([Told(FULL, 1.0, 28), Told(PLAIN, math.nan, 28)])))

    assert list(rows[0])[:6] == ["timestamp", "item_id", "position", "click", "propensity_score", "user_feature_0"]
    assert [row["click"] for row in rows] == ["1", ""]
    assert [row["propensity_score"] for row in rows] == ["0.9", "1.0"]
    assert [row["probability_coach_call"] for row in rows] == ["0.05", "0.0"]


def with_zero(lines):
    event = json.loads(lines[0])
    event["p"] = [0.0, 0.5, 0.5]
    return [json.dumps(event)]


def test_a_zero_propensity_is_refused_naming_the_arms():
    others = [replace(FULL, decision_id=f"d-{n}", intervention="coach_call") for n in range(2)]
    lines = [*vw([Told(PLAIN, 1.0, 28)]), *with_zero(vw([Told(FULL, 1.0, 28)]))]
    lines += [line for other in others for line in with_zero(vw([Told(other, 0.0, 28)]))]

    said = r"probability of zero, .*: coach_call \(2 times, first on line 3\); refresher \(1 times, first on line 2\)"
    with pytest.raises(ValueError, match=said):
        read_vw(lines, ARMS)


def test_a_zero_propensity_in_open_bandit_columns_is_refused_naming_the_arm():
    lines = [line.replace("0.9,", "0.0,").replace(",0.9", ",0.0") for line in obp([Told(FULL, 1.0, 28)])]

    with pytest.raises(ValueError, match=r"probability of zero.*refresher"):
        read_obp(lines, ARMS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda text: text.replace('"refresher"', '"massage"'),
            "line 1: unknown intervention 'massage'; there are none",
        ),
        (lambda text: text.replace("0.05", "0.5"), "line 1: decision d-1: probabilities must be positive and sum to 1"),
        (lambda text: text.replace("0.05", "NaN", 1), "line 1: decision d-1: probabilities must be positive"),
        (lambda text: text.replace("0.05", "-0.05"), "line 1: decision d-1: probabilities must be positive"),
        (lambda text: text[:-1], "line 1: not JSON"),
        (lambda _: "[]", "line 1: expected an object with `rekindle`"),
        (lambda text: text.replace('"p":', '"q":'), "line 1: not as the export writes it: KeyError 'p'"),
        (lambda text: text.replace('"a":[2,', '"a":['), "line 1: a, p: expected one of each for the 3 interventions"),
        (lambda text: text.replace('"kept":1.0', '"kept":0.5'), "line 1: kept: expected 0, 1 or null, came 0.5"),
        (lambda text: text.replace('"2026-06-01T', '"lately'), "line 1: decided_at: expected an instant such as"),
        (lambda text: text.replace("+00:00", ""), "line 1: decided_at: expected an instant with its offset from UTC"),
        (lambda text: text.replace('"_labelIndex":1', '"_labelIndex":9'), "line 1: not as the export writes it"),
    ],
)
def test_broken_dsjson_is_refused_naming_the_line(change, said):
    with pytest.raises(ValueError, match=said):
        read_vw([change(line) for line in vw([Told(FULL, 1.0, 28)])], ARMS)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",refresher,", ",massage,", "line 2: unknown intervention 'massage'"),
        ("0.9,", "0.8,", "line 2: propensity_score: 0.8 is not probability_refresher, 0.9"),
        (",1,1,0.9", ",1,5,0.9", "line 2: click: expected 0, 1 or nothing, came '5'"),
        (",0.4,", ",high,", "line 2: risk_28: expected a number, came 'high'"),
        (",1,1,0.9,", ",1,1,much,", "line 2: propensity_score: expected a number, came 'much'"),
    ],
)
def test_broken_open_bandit_columns_are_refused_naming_line_and_column(old, new, said):
    header, row = obp([Told(FULL, 1.0, 28)])
    row = row.replace(",2,1,1,0.9,", ",1,1,1,0.9,")
    assert old in row

    with pytest.raises(ValueError, match=said):
        read_obp([header, row.replace(old, new, 1)], ARMS)


def test_open_bandit_columns_with_more_numbers_than_there_are_columns_are_refused():
    header, row = csv.reader(obp([Told(FULL, 1.0, 28)]))
    row[header.index("numeric_features")] = "9999"
    out = io.StringIO()
    csv.writer(out).writerows([header, row])
    table = out.getvalue().splitlines()

    with pytest.raises(
        ValueError, match=r"line 2: numeric_features: expected at most the \d+ columns there are, came 9999"
    ):
        read_obp(table, ARMS)


@pytest.mark.parametrize(
    ("beside", "said"),
    [("{", "line 2: rekindle: not JSON"), ('{"seat_id":"x"}', "line 2: rekindle: expected an object")],
)
def test_what_stands_beside_the_open_bandit_columns_is_checked(beside, said):
    header, row = csv.reader(obp([Told(FULL, 1.0, 28)]))
    row[header.index("rekindle")] = beside
    out = io.StringIO()
    csv.writer(out).writerows([header, row])

    with pytest.raises(ValueError, match=said):
        read_obp(out.getvalue().splitlines(), ARMS)


def test_open_bandit_columns_without_the_whole_vector_are_refused_by_name():
    with pytest.raises(
        ValueError, match="expected the columns decision_id, seat_id, intervention, probability_none too"
    ):
        read_obp(["timestamp,item_id,position,click,propensity_score\n", "2026-06-01,3,1,0,0.1\n"], ARMS)


def test_support_says_how_each_arm_was_tried():
    assert support([Told(FULL, 1.0, 28), Told(PLAIN, 0.0, 28)], ARMS) == [
        Support(NONE, 2, 1, 0.05),
        Support("refresher", 1, 1, 0.9),
        Support("coach_call", 1, 0, 0.05),
        Support("guided_start", 0, 0, 0.0),
    ]
