import pytest

from features.connectors.catalogue import CONNECTORS

HEADER = "response_id,user_key,survey_id,submitted_at,sent_at,tool,nps_0_10,confidence_0_10,free_text,language,consent_text_processing"
TRACK = (
    b'{"type":"track","event":"opened","userId":"u1","messageId":"1","timestamp":"2026-06-01T00:00:00Z",'
    b'"properties":{"tool":"m365_copilot"}}\n'
)


def survey(nps="4", confidence="3", submitted="2026-06-22T08:12:00Z", consent="true", tool="m365_copilot", user="u1"):
    row = f"r1,{user},s1,{submitted},2026-06-20T08:00:00Z,{tool},{nps},{confidence},my words,en,{consent}"
    return f"{HEADER}\n{row}\n".encode()


class Model:
    def __init__(self):
        self.given = []

    def score_text(self, text, language=None):
        self.given.append((text, language))
        return type("Said", (), {"frustration": 0.1, "uncertainty": 0.9})()

    def ticket_topic(self, _text, _workflows):
        raise AssertionError("a survey is no ticket")


def answers(taken):
    return [(event["kind"], event["value"]) for event in taken.events if event["source"] == "pulse_survey"]


def test_both_answers_are_taken_and_zero_is_an_answer(desk):
    assert answers(desk(survey(nps="0"), TRACK)) == [("nps", 0.0), ("confidence", 3.0)]


def test_the_text_is_scored_once_with_its_language_and_dropped(desk):
    model = Model()
    taken = desk(survey(), TRACK, text=model)
    assert set(model.given) == {("my words", "en")}
    assert [event["uncertainty"] for event in taken.events if event["source"] == "pulse_survey"] == [None, 0.9]
    assert "my words" not in taken.told()


@pytest.mark.parametrize("consent", ["false", ""])
def test_a_text_without_consent_is_not_scored_and_it_says_so(desk, consent):
    model = Model()
    taken = desk(survey(consent=consent), TRACK, text=model)
    assert model.given == []
    assert any("without consent" in notice for notice in taken.notices)


def test_an_answer_above_ten_is_set_aside(desk):
    assert "nps_0_10: expected an answer from 0 to 10" in desk(survey(nps="11"), TRACK).rejected[0]


def test_a_survey_makes_no_seat(desk):
    taken = desk(survey())
    assert (taken.seats, taken.events) == ([], [])
    assert any("seat of that tool is not known" in notice for notice in taken.notices)


def test_a_question_without_an_answer_is_no_answer_of_zero(desk):
    assert answers(desk(survey(nps=""), TRACK))[-1] == ("confidence", 3.0)
    assert ("nps", 0.0) not in answers(desk(survey(nps=""), TRACK))


def test_who_was_asked_and_did_not_answer_is_known(desk):
    taken = desk(survey(nps="", confidence="", submitted=""), TRACK)
    assert answers(taken) == [("nps", None), ("confidence", None)]


def test_the_tool_may_be_given_for_a_survey_that_names_none(desk):
    assert len(answers(desk(survey(tool=""), TRACK, tool="m365_copilot"))) == 2


PEOPLE = b"email,user_key,github,salesforce\nADA@corp.example,u1,Octo-Ada,0055g00000AbCdE\n"


def test_a_people_file_joins_the_accounts_of_one_person(desk, samples):
    metrics = b'{"user_login":"octo-ada","day":"2026-05-07","user_initiated_interaction_count":1,"code_acceptance_activity_count":0}\n'
    usage = b"Report Refresh Date,User Principal Name,Last Activity Date\n2026-06-30,ada@corp.example,2026-06-01\n"
    panel = samples["salesforce_agent_events"]
    apart = desk(metrics, usage, panel, TRACK)
    joined = desk(metrics, usage, panel, TRACK, PEOPLE)
    assert len({seat["person_id"] for seat in apart.seats}) == 4
    assert len({seat["person_id"] for seat in joined.seats}) == 1
    assert {seat["tool"] for seat in joined.seats} == {"github_copilot", "m365_copilot", "einstein"}


def test_the_formats_of_our_own_are_in_the_table():
    assert {"pulse_survey", "people"} <= set(CONNECTORS)
