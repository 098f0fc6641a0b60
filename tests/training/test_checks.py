from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from features.catalogue import NUMERIC, Group
from training.checks import refuse_unjudgeable, shortcomings

LABELS = pl.DataFrame({"seat_id": ["acme/s-1"] * 7})


def test_no_seat_in_use_says_what_to_check(make_dataset):
    with pytest.raises(ValueError, match="none of 7 snapshots has a meaningful use in the 28 days before"):
        refuse_unjudgeable(make_dataset([], [], []), LABELS)


def test_no_opportunity_at_all_says_which_events_are_missing(make_dataset):
    idle = replace(make_dataset([np.inf] * 3, [-1.0] * 3, [60.0] * 3), ended=np.full(3, "no_opportunity"))
    with pytest.raises(
        ValueError, match=r"no seat shows any work .* ingest `work` or `task` events of at least 28 days"
    ):
        refuse_unjudgeable(idle, LABELS)


def test_silences_without_any_sign_of_work_are_counted_and_say_what_would_tell_them(make_dataset):
    data = make_dataset([np.inf] * 10 + [0.0], [60.0] * 11, [60.0] * 11)
    ended = np.array(["no_opportunity"] * 4 + ["end_of_data"] * 6 + ["silence"])
    (said, *_) = shortcomings(replace(data, ended=ended), data)
    assert said == (
        "4 of 11 training snapshots end where no work (opportunity) was seen, and 1 in a silence: where nobody is seen to work "
        "a silence cannot be told from a holiday; it needs `work` or `task` events of 28 days after the last use, or another "
        "sign of work in tools.yaml"
    )
    ended[:4] = "end_of_data"
    assert "no work (opportunity)" not in " ".join(shortcomings(replace(data, ended=ended), data))


def test_too_short_a_history_says_how_long_it_must_be(make_dataset):
    with pytest.raises(ValueError, match="must be observed for 28 days after a meaningful use"):
        refuse_unjudgeable(make_dataset([np.inf], [-1.0], [-1.0]), LABELS)


def test_one_judged_snapshot_is_let_through(make_dataset):
    refuse_unjudgeable(make_dataset([0.0], [0.0], [60.0]), LABELS)


def test_a_missing_group_and_constant_features_are_named(simulate):
    data = simulate(1, n=300).dataset
    vectors = data.vectors.copy()
    voice = [number for number, feature in enumerate(NUMERIC) if feature.group is Group.VOICE]
    vectors[:, voice] = np.nan
    said = shortcomings(replace(data, vectors=vectors), data)
    (voiceless,) = (text for text in said if "the group voice" in text)
    assert voiceless == (
        "no feature of the group voice tells one training snapshot from another, of 300: its source is missing or "
        "says the same of everyone, and the model says nothing about it; it needs `ticket` events with scores that differ, in "
        "at least 100 snapshots"
    )
    (constant,) = (text for text in said if "the same in" in text)
    assert "teach nothing until they differ in at least 100" in constant
    assert not any(NUMERIC[number].name in constant for number in voice)
    assert not any("group depth" in text for text in said)


def test_a_source_that_is_missing_shows_though_its_counts_are_zero(simulate, column):
    """A log without surveys: nobody was asked, so the count is 0 and the answers are unknown."""
    data = simulate(1, n=300).dataset
    vectors = data.vectors.copy()
    names = [feature.name for feature in NUMERIC if feature.group is Group.CONFIDENCE]
    vectors[:, [column[name] for name in names]] = np.nan
    vectors[:, column["surveys_asked_180"]] = 0.0
    said = shortcomings(replace(data, vectors=vectors), data)
    assert any("the group confidence tells one" in text and "`confidence` or `nps` answers" in text for text in said)
    vectors[:150, column["surveys_asked_180"]] = 1.0
    assert not any("the group confidence" in text for text in shortcomings(replace(data, vectors=vectors), data))


def test_a_feature_known_of_some_only_is_not_constant(simulate, column):
    """That it is known says something: whoever answered is told from whoever did not."""
    data = simulate(1, n=300).dataset
    vectors = data.vectors.copy()
    vectors[:150, column["confidence_last"]] = 5.0
    names = " ".join(shortcomings(replace(data, vectors=vectors), data))
    assert "confidence_last" not in names


def test_names_that_training_hardly_saw_are_counted_and_only_large_ones_named(simulate):
    past, later = simulate(1, n=600).dataset, simulate(2, n=600).dataset
    renamed = [[row[0], "midwife" if number < 300 else row[1], *row[2:]] for number, row in enumerate(later.categories)]
    (said,) = (text for text in shortcomings(past, replace(later, categories=renamed)) if "name of role" in text)
    assert "1 name of role with fewer than 20 training snapshots, scored as unknown" in said
    assert "50.0% of the later snapshots: midwife" in said
    few = [[row[0], "midwife" if number < 8 else row[1], *row[2:]] for number, row in enumerate(later.categories)]
    (said,) = (text for text in shortcomings(past, replace(later, categories=few)) if "name of role" in text)
    assert "midwife" not in said
