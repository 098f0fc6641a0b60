import numpy as np
import pytest

from features.catalogue import NUMERIC
from features.explanation import BASE, OTHER, explain

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
    assert said["prompt_length_28"].sentence == "prompt length 28 unknown: no measured prompt"
    assert said["prompt_length_28"].value is None
    assert said["role"].sentence == "role: data nurse"
