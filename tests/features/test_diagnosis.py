import re
from itertools import chain

import numpy as np
import pytest

from features.catalogue import BY_NAME, FEATURES, NUMERIC
from features.diagnosis import (
    CHANGES,
    MAX_EVIDENCE,
    SIGNS,
    TITLES,
    Weight,
    answers,
    combined,
    diagnose,
    evidence,
    mode_strengths,
    reasons,
)
from features.interventions import SHIPPED, FailureMode, load_interventions
from features.rules import SENTENCES

COLUMN = {feature.name: position for position, feature in enumerate(NUMERIC)}
MODE = FailureMode

HEALTHY = {
    "active_days_28": 15.0, "sessions_28": 25.0, "sessions_7": 6.0, "meaningful_28": 20.0, "meaningful_ever": 60.0,
    "workflows_28": 3.0, "high_value_share_28": 0.8, "surface_days_28": 0.0, "quick_close_share_28": 0.05,
    "open_streak": 0.0, "tickets_28": 1.0, "help_28": 2.0, "days_since_training": 10.0, "trainings": 1.0,
    "prompts_per_task_28": 2.0, "rejected_share_28": 0.2, "confidence_last": 8.0, "life_days": 100.0,
    "training_to_any_use_days": 2.0, "trained_unused_days": 0.0, "session_completion_28": 0.7, "errors_28": 0.0,
    "help_per_session_28": 0.04, "retry_share_28": 0.05, "prompt_length_28": 200.0, "leaders": 20.0,
    "leaders_share_28": 0.7,
}  # fmt: skip
TROUBLED = {
    MODE.ONE_SHOT_TRAINING: {"days_since_training": 80.0, "trainings": 1.0, "training_to_any_use_days": 20.0, "meaningful_28": 0.0, "help_28": 0.0},
    MODE.NO_ROLE_USE_CASES: {"active_days_28": 15.0, "meaningful_28": 6.0, "workflows_28": 1.0, "high_value_share_28": 0.3},
    MODE.SURFACE_USE: {"surface_days_28": 12.0, "meaningful_28": 0.0, "high_value_share_28": 0.0},
    MODE.SILENT_STRUGGLE: {"quick_close_share_28": 0.7, "open_streak": 9.0, "errors_28": 4.0, "tickets_28": 0.0, "help_28": 0.0},
    MODE.COMPLEXITY: {"help_per_session_28": 0.4, "session_completion_28": 0.1, "prompts_per_task_28": 15.0, "prompt_length_28": 40.0, "rejected_share_28": 0.9, "confidence_last": 2.0},
    MODE.LEADERSHIP_ABSENT: {"leaders": 40.0, "leaders_share_28": 0.05},
}  # fmt: skip
ALONE = [(one.feature, mode) for mode, signs in SIGNS.items() for sign in signs for one in sign.signs]


def vector(*parts):
    row = np.zeros(len(NUMERIC))
    for name, value in chain(HEALTHY.items(), *(part.items() for part in parts)):
        row[COLUMN[name]] = value
    return row


def strengths(*parts):
    return {mode: float(value[0]) for mode, value in mode_strengths(vector(*parts)[None, :]).items()}


def test_a_healthy_seat_shows_no_mode():
    assert diagnose(vector()) == []


@pytest.mark.parametrize("mode", TROUBLED)
def test_a_mode_shows_at_full_strength_where_all_its_signs_do(mode):
    assert strengths(TROUBLED[mode])[mode] == 1


@pytest.mark.parametrize("mode", TROUBLED)
def test_a_mode_is_the_strongest_of_its_own_signs(mode):
    assert diagnose(vector(TROUBLED[mode]))[0].mode is mode


@pytest.mark.parametrize("mode", SIGNS)
def test_a_healthy_seat_shows_less_of_a_mode_than_a_troubled_one(mode):
    assert strengths()[mode] < 0.5 < strengths(TROUBLED[mode])[mode]


def of(feature, mode):
    return next(one for sign in SIGNS[mode] for one in sign.signs if one.feature == feature)


@pytest.mark.parametrize(("feature", "mode"), ALONE)
def test_a_sign_goes_from_healthy_to_troubled_in_proportion_and_no_further(feature, mode):
    sign = of(feature, mode)
    step = sign.troubled - sign.healthy
    places = (sign.healthy - 10 * step, sign.healthy, sign.healthy + step / 2, sign.troubled, sign.troubled + 10 * step)
    found = [float(sign.strength(vector({feature: value})[None, :])[0]) for value in places]
    assert found == pytest.approx([0, 0, 0.5, 1, 1])


LIMITS = [(n, mode) for mode, signs in SIGNS.items() for n, sign in enumerate(signs) if sign.weight is not Weight.PART]


@pytest.mark.parametrize(("number", "mode"), LIMITS)
def test_a_mode_is_no_stronger_than_what_limits_it(number, mode):
    healthy = {one.feature: one.healthy for one in SIGNS[mode][number].signs}
    assert strengths(TROUBLED[mode], healthy)[mode] == 0


NEEDED = [(n, mode) for mode, signs in SIGNS.items() for n, sign in enumerate(signs) if sign.weight is Weight.NEEDED]


@pytest.mark.parametrize(("number", "mode"), NEEDED)
def test_without_what_it_needs_a_mode_is_not_seen(number, mode):
    missing = {one.feature: np.nan for one in SIGNS[mode][number].signs}
    assert strengths(TROUBLED[mode], missing)[mode] == 0


def test_what_sources_show_in_different_ways_is_as_strong_as_its_strongest():
    asks = SIGNS[MODE.COMPLEXITY][0]
    row = vector({"help_per_session_28": 0.0, "tickets_28": 2.0, "retry_share_28": np.nan})
    assert combined([asks], row[None, :])[0] == 1


def test_every_sign_is_a_number_of_the_catalogue():
    assert {feature for feature, _ in ALONE} <= set(COLUMN)


def test_only_modes_that_cannot_be_seen_at_one_seat_have_no_signs():
    assert set(FailureMode) - set(SIGNS) == {MODE.WRONG_METRIC}


def test_what_is_missing_says_nothing():
    row = vector(TROUBLED[MODE.COMPLEXITY], {"rejected_share_28": np.nan})
    assert mode_strengths(row[None, :])[MODE.COMPLEXITY][0] == 1


def test_nothing_known_shows_no_mode():
    assert diagnose(np.full(len(NUMERIC), np.nan)) == []


def test_a_seat_without_sessions_shows_no_silent_struggle():
    """Coding tools and many exports know no sessions: no quick close and no ticket is no sign of a struggle."""
    no_sessions = {"quick_close_share_28": np.nan, "open_streak": 0.0, "sessions_28": 0.0, "tickets_28": 0.0}
    assert MODE.SILENT_STRUGGLE not in {finding.mode for finding in diagnose(vector(no_sessions))}


@pytest.mark.parametrize("meaningful", [0.0, 20.0])
def test_a_seat_without_training_shows_no_one_shot_training(meaningful):
    untrained = {"days_since_training": np.nan, "trainings": 0.0, "help_28": 0.0, "meaningful_28": meaningful}
    assert MODE.ONE_SHOT_TRAINING not in {finding.mode for finding in diagnose(vector(untrained))}


def test_findings_come_with_the_strongest_first():
    found = diagnose(vector(TROUBLED[MODE.SURFACE_USE], TROUBLED[MODE.SILENT_STRUGGLE], {"quick_close_share_28": 0.35}))
    assert [finding.mode for finding in found][:2] == [MODE.SURFACE_USE, MODE.SILENT_STRUGGLE]
    assert [finding.strength for finding in found] == sorted((f.strength for f in found), reverse=True)


def test_weak_modes_are_left_out_as_asked():
    row = vector({"surface_days_28": 5.0, "active_days_28": 20.0})
    assert MODE.SURFACE_USE in {finding.mode for finding in diagnose(row, at_least=0.5)}
    assert MODE.SURFACE_USE not in {finding.mode for finding in diagnose(row, at_least=0.51)}


def test_batch_and_single_diagnosis_agree():
    rows = np.stack([vector(part) for part in TROUBLED.values()])
    for number, part in enumerate(TROUBLED.values()):
        assert {m: v[number] for m, v in mode_strengths(rows).items()} == strengths(part)


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (MODE.ONE_SHOT_TRAINING, "last training 80 days before the data ends, 1 training so far, 20 days from training to the first use"),
        (MODE.NO_ROLE_USE_CASES, "6 meaningful uses in 28 days, 1 distinct high-value workflow in 28 days, 30% of assisted tasks were high-value ones"),
        (MODE.SURFACE_USE, "active on 15 of 28 whole days, 0% of assisted tasks were high-value ones, 12 active days in 28 without meaningful use"),
        (MODE.SILENT_STRUGGLE, "70% of sessions in 28 days closed quickly with nothing completed, 4 failures in 28 days, 9 sessions in a row with nothing completed"),
        (MODE.COMPLEXITY, "0.4 help lookups per session, 1 ticket in 28 days, 5% of prompts were another try"),
        (MODE.LEADERSHIP_ABSENT, "of the organisation's 40 leaders with a seat, 5% had meaningful use in 28 days"),
    ],
)  # fmt: skip
def test_the_evidence_says_what_was_seen(mode, words):
    assert next(f for f in diagnose(vector(TROUBLED[mode])) if f.mode is mode).evidence == words


def test_missing_features_are_not_evidence():
    row = vector(TROUBLED[MODE.COMPLEXITY], {"prompts_per_task_28": np.nan})
    assert evidence(["prompts_per_task_28", "confidence_last"], row) == "rated own confidence 2 of 10"


def test_names_without_a_number_are_not_evidence():
    assert evidence(["role", "nothing_we_know"], vector()) == ""


def test_reasons_are_what_raises_the_risk_the_weightiest_first():
    given = {"meaningful_28": 0.2, "sessions_7": 0.9, "tickets_28": -2.0, "life_days": 0.3, "open_streak": 0.05}
    found = reasons(vector(), given)
    assert [(reason.feature, reason.contribution) for reason in found] == [
        ("sessions_7", 0.9), ("meaningful_28", 0.2), ("open_streak", 0.05)
    ]  # fmt: skip
    assert found[0].sentence == "6 sessions in 7 days"


def test_reasons_leave_out_what_has_no_words_for_people():
    silent = next(feature.name for feature in NUMERIC if not feature.says)
    given = {silent: 5.0, "base": 9.0, "role": 3.0, "confidence_last": 2.0, "sessions_7": 1.0}
    row = vector({"confidence_last": np.nan})
    assert [reason.feature for reason in reasons(row, given)] == ["sessions_7"]


@pytest.mark.parametrize("at_most", [1, 2, MAX_EVIDENCE])
def test_no_more_reasons_than_asked_for(at_most):
    given = {name: 1.0 + number for number, name in enumerate(HEALTHY)}
    assert len(reasons(vector(), given, at_most=at_most)) == at_most


def test_where_the_rule_speaks_the_reasons_are_its_warnings():
    row = vector(
        {"life_days": 30.0, "no_meaningful_first_14": 1.0, "frustration_and_uncertainty": 0.5, "weeks_3_4_ratio": 1.0}
    )
    assert [(reason.feature, reason.contribution) for reason in reasons(row, {})] == [
        ("no_early_meaningful_use", None),
        ("frustrated_and_uncertain", None),
    ]


LABELS = re.compile(
    r"\b(anxious|anxiety|afraid|fearful|lazy|resist\w*|reluctan\w*|unmotivated|incompetent|incapable|unskilled|slow|weak"
    r"|stubborn|careless|disengaged|poor performer|laggard|loser|difficult person|unwilling|negative|bad user)\b",
    re.IGNORECASE,
)


def test_no_word_labels_a_person():
    rows = [vector(part) for part in TROUBLED.values()]
    sentences = [finding.evidence for row in rows for finding in diagnose(row, at_least=0.0)]
    sentences += [str(mode).replace("_", " ") for mode in FailureMode] + list(SENTENCES.values())
    sentences += [
        text for feature in FEATURES for text in (feature.says, feature.meaning, feature.name.replace("_", " "))
    ]
    assert [text for text in sentences if LABELS.search(text)] == []


def test_the_search_for_labels_finds_one():
    assert LABELS.search("the user is anxious")


def test_every_sign_but_those_of_others_can_be_said():
    assert {feature for feature, _ in ALONE if not BY_NAME[feature].says} == {
        "leaders",
        "leaders_share_28",
        "meaningful_against_role",
    }


def test_nothing_is_said_of_few_leaders():
    assert [
        f
        for f in diagnose(vector(TROUBLED[MODE.LEADERSHIP_ABSENT], {"leaders": 9.0}), at_least=0.0)
        if f.evidence and "leaders" in f.evidence
    ] == []


def test_what_a_seats_own_manager_does_changes_nothing_that_is_said_or_counted():
    rows = [vector({"manager_meaningful_28": uses}) for uses in (0.0, 30.0)]
    assert strengths({"manager_meaningful_28": 0.0}) == strengths({"manager_meaningful_28": 30.0})
    assert diagnose(rows[0], at_least=0.0) == diagnose(rows[1], at_least=0.0)


def test_every_mode_has_a_title_a_change_and_all_but_the_wrong_metric_an_intervention():
    catalogue = load_interventions(SHIPPED)
    assert set(TITLES) == set(CHANGES) == set(FailureMode)
    assert {mode for mode in FailureMode if not answers(mode, catalogue)} == {MODE.WRONG_METRIC}


def test_interventions_that_answer_a_mode_come_with_the_most_effective_first():
    found = [one.answers[MODE.SILENT_STRUGGLE] for one in answers(MODE.SILENT_STRUGGLE, load_interventions(SHIPPED))]
    assert found == sorted(found, reverse=True)
    assert len(found) > 1
