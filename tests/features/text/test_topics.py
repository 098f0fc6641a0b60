"""What a ticket is about, and the workflow that its words name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from features.events import Code
from features.text import Topic, ticket_topic
from features.text.scores import shipped_model
from features.text.topics import CATEGORIES
from features.tools import load_tools

TOOLS = load_tools()


def topic(tool: str, text: str) -> Topic:
    return ticket_topic(text, TOOLS[tool].high_value_workflows)


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("How do I start a new chat?", "how_to"),
        ("Confusing, I don't understand what to ask it.", "how_to"),
        ("It crashes when I open it, something went wrong.", "error"),
        ("Copilot in Excel does not see my table", "error"),
        ("Cannot open my account, password expired", "access"),
        ("Please assign a licence to a new starter.", "access"),
        ("The answers are generic and inaccurate.", "quality"),
        ("It takes forever and then it times out.", "performance"),
        ("The invoice of last month lists twelve seats.", "billing"),
        ("The team is happy with it.", "other"),
    ],
)
def test_the_words_of_a_ticket_give_its_category(text, category):
    assert topic("m365_copilot", text).category == category


@pytest.mark.parametrize(
    ("tool", "text", "workflow"),
    [
        ("m365_copilot", "Copilot in Excel does not see my table", "spreadsheet_analysis"),
        ("m365_copilot", "How do I get a meeting recap in Teams?", "meeting_recap"),
        ("m365_copilot", "The summary of the report was wrong", "report_summary"),
        ("m365_copilot", "Our proposal drafts are generic", "proposal_draft"),
        ("m365_copilot", "Please draft something", None),
        ("m365_copilot", "It takes forever", None),
        ("m365_copilot", "Our proposals and meetings are late", None),
        ("einstein", "my account is locked", None),
        ("einstein", "the account research brief misses the last call", "account_research"),
        ("einstein", "follow-up after the call is slow", "call_follow_up"),
        ("now_assist", "The incident summary failed", "incident_summary"),
        ("github_copilot", "the code review misses bugs", "code_review"),
        ("github_copilot", "can it write the missing tests of a function", "test_writing"),
        ("gemini_workspace", "Gemini sorts my inbox badly", "inbox_triage"),
        ("chatgpt_enterprise", "The meeting recap is wrong", None),
    ],
)
def test_a_workflow_is_given_where_the_words_name_one(tool, text, workflow):
    assert topic(tool, text).workflow == workflow


@pytest.mark.parametrize("text", ["", "404", "Ich verstehe das nicht.", "Je ne comprends pas", "エラー"])
def test_an_unknown_language_has_no_category(text):
    assert topic("m365_copilot", text) == Topic(None, None)


def test_a_declared_other_language_has_no_category():
    assert ticket_topic("It is slow", {}, language="de").category is None


def test_a_customers_own_workflow_is_found_in_its_own_words():
    own = {"angebot_entwurf": "Einen Entwurf aus dem letzten Angebot machen."}
    assert ticket_topic("Das Angebot fehlt im Ordner", own).workflow == "angebot_entwurf"


def test_the_categories_are_those_of_the_word_lists():
    lists = shipped_model().topics
    named = {name for found in lists.by_first.values() for _, name in found} | set(lists.by_prefix.values())
    assert named | {"other"} == set(CATEGORIES)


@given(
    st.text(max_size=200),
    st.dictionaries(st.from_regex(r"[a-z0-9_.:-]{1,40}", fullmatch=True), st.text(max_size=40), max_size=5),
)
def test_any_ticket_gives_codes_of_the_log_and_workflows_that_were_offered(text, workflows):
    found = ticket_topic(text, workflows)
    assert found.category is None or TypeAdapter(Code).validate_python(found.category) in CATEGORIES
    assert found.workflow is None or found.workflow in workflows


def test_an_error_names_the_type_and_not_the_text():
    with pytest.raises(TypeError, match=r"^text: expected a string, came bytes$"):
        ticket_topic(b"secret words", {})  # type: ignore[arg-type]  # what a careless connector passes
