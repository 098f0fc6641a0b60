import re

import numpy as np
import pytest

from features.catalogue import BY_NAME, FEATURES, NUMERIC
from features.explanation import BASE, OTHER, PHRASES, explain, sentence

COLUMN = {feature.name: position for position, feature in enumerate(NUMERIC)}


@pytest.fixture
def vector():
    values = np.zeros(len(NUMERIC))
    values[COLUMN["days_since_meaningful"]] = 22
    values[COLUMN["meaningful_28"]] = 2
    values[COLUMN["prompt_length_28"]] = np.nan
    return values


PARTS = {
    "days_since_meaningful": 0.7,
    "meaningful_28": -0.1,
    "prompt_length_28": 0.2,
    "work_days_7": -0.4,
    "role": 0.05,
    BASE: -1.5,
}


def test_modes_features_and_base_sum_to_the_raw_score(vector):
    found = explain(vector, {"role": "nurse"}, PARTS)
    assert found.raw_score == pytest.approx(sum(PARTS.values()))
    assert found.base + sum(part.contribution for part in found.modes) == pytest.approx(found.raw_score, abs=1e-6)
    assert found.base + sum(part.contribution for part in found.features) == pytest.approx(found.raw_score, abs=1e-6)


def test_features_are_summed_by_the_mode_they_speak_to(vector):
    modes = {part.mode: part for part in explain(vector, {"role": "nurse"}, PARTS).modes}
    assert modes["surface_use"].contribution == pytest.approx(0.6)
    assert modes["complexity"].contribution == pytest.approx(0.2)
    assert modes[OTHER].contribution == pytest.approx(-0.35)


def test_the_weightiest_comes_first_whatever_its_sign(vector):
    found = explain(vector, {"role": "nurse"}, PARTS)
    assert [part.feature for part in found.features][:2] == ["days_since_meaningful", "work_days_7"]


def test_evidence_is_what_pulls_the_way_the_mode_does(vector):
    modes = {part.mode: part for part in explain(vector, {"role": "nurse"}, PARTS).modes}
    assert modes["surface_use"].evidence == "last meaningful use 22 days before the data ends"


def test_missing_values_and_categories_are_said(vector):
    said = {part.feature: part for part in explain(vector, {"role": "data_nurse"}, PARTS).features}
    assert said["prompt_length_28"].sentence == "not known (no measured prompt): mean length of a prompt, 28 days"
    assert said["prompt_length_28"].value is None
    assert said["role"].sentence == "role: data nurse"


def lone(name, value, categories=None):
    """The sentence of one feature where every other is 0 and every number of other people large enough."""
    values = np.zeros(len(NUMERIC))
    for others in ("team_size", "team_size_before_28", "role_size", "leaders", "champions_in_team", "has_manager"):
        values[COLUMN[others]] = 99
    if name in COLUMN:
        values[COLUMN[name]] = value
    (part,) = explain(values, categories or {}, {name: 0.3, BASE: -1.0}).features
    return part.sentence


ORDINARY = {"0 or 1": 1.0, "-1 or 1": -1.0, "share": 0.5}


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_every_feature_has_words_of_its_own(feature):
    """Not its name in the catalogue and not its unit beside a bare number, whether it is known or not."""
    known = lone(feature.name, ORDINARY.get(feature.unit, 12.0), {feature.name: "data_nurse"})
    assert not re.search(r"[_{}]|not shown|not known", known)
    assert not known.startswith(f"{feature.name.replace('_', ' ')}: 12")
    assert feature.is_category or known.count(" ") >= 2


MAY_BE_MISSING = [feature for feature in NUMERIC if feature.needs or feature.missing != "never"]


@pytest.mark.parametrize("feature", MAY_BE_MISSING, ids=lambda feature: feature.name)
def test_of_every_feature_that_may_be_missing_it_is_said_why(feature):
    said = lone(feature.name, np.nan)
    assert re.match(r"not known \((?!never[,)])[^_{}]+: [^_{}]+$", said)
    assert ("no source is known to tell it" in said) == bool(feature.needs)


def test_two_features_never_say_the_same():
    said = [lone(feature.name, ORDINARY.get(feature.unit, 12.0)) for feature in NUMERIC]
    assert len(set(said)) == len(said)


def test_phrases_are_of_features_that_have_none_in_the_catalogue():
    assert {feature.name for feature in NUMERIC if not feature.says} == set(PHRASES)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("life_days", 191.0, "seat assigned 191 days before the data ends"),
        ("life_week", 1.0, "week 1 of the seat"),
        ("assisted_share_14", 0.5, "50% of the high-value tasks in 14 days were completed with AI"),
        ("no_meaningful_first_14", 1.0, "no meaningful use in the first two weeks"),
        ("no_meaningful_first_14", 0.0, "meaningful use within the first two weeks"),
        ("last_reaction", -1.0, "the last offer answered was dismissed"),
        ("team_size", 1.0, "the team has 1 seat besides this one"),
        ("given_role_use_cases_56", 1.0, "1 offer of role use cases in 56 days"),
        ("given_coach_call_56", 2.0, "2 offers of coach call in 56 days"),
    ],
)
def test_sentences(name, value, said):
    assert sentence(BY_NAME[name], value) == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("meaningful_28", "not known (no source is known to tell it): meaningful uses in 28 days"),
        (
            "training_to_use_days",
            "not known (no training yet, no meaningful use yet, or the first one came before the first training, or no "
            "source is known to tell it): days from the first training to the first meaningful use",
        ),
    ],
)
def test_what_no_source_can_tell_is_said_to_be_so(name, said):
    """A count is never missing by itself: where it is, nobody can tell it."""
    assert lone(name, np.nan) == said


@pytest.mark.parametrize("name", [feature.name for feature in FEATURES if feature.others])
def test_what_few_others_do_is_not_shown(name):
    (part,) = explain(np.zeros(len(NUMERIC)), {}, {name: 0.3, BASE: -1.0}).features
    assert (part.value, part.sentence) == (None, "what few others do, which is not shown")


def test_an_unknown_category_is_said_to_be_unknown():
    (part,) = explain(np.zeros(len(NUMERIC)), {}, {"role": 0.3, BASE: -1.0}).features
    assert (part.value, part.sentence) == (None, "role: unknown")
