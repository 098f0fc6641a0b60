"""What a text shows: words, phrases, negation and punctuation."""

import pytest

from features.text.evidence import MAX_HITS, Phrases, evidence, grams, prepare, tokenize

LISTS = {
    "confusion": ["confus*", "not sure", "no idea"],
    "bad": ["terrible", "waste of time", "give* up"],
    "sure": ["sure"],
}
PHRASES: Phrases = prepare(LISTS, ["really", "at", "all"])
NEGATORS = frozenset({"not", "no", "never"})


def shape(text: str) -> dict[str, float]:
    return dict(evidence(tokenize(text), PHRASES, NEGATORS).shape)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I am confused", {"confusion": 1}),
        ("CONFUSING!", {"confusion": 1, "exclamation_mark": 1}),
        ("it is not confusing", {"confusion.not": 1}),
        ("it isn't really confusing", {"confusion.not": 1}),
        ("it isn’t confusing", {"confusion.not": 1}),
        ("it isnt confusing", {"confusion.not": 1}),
        ("not good. Confusing.", {"confusion": 1}),
        ("not slow but terrible", {"bad": 1}),
        ("not sure", {"confusion": 1}),
        ("not really sure", {"confusion": 1}),
        ("I am sure", {"sure": 1}),
        ("never a waste of time", {"bad.not": 1}),
        ("giving up", {}),
        ("gives up", {}),
        ("what is terrible??", {"bad": 1, "question_mark": 2}),
        ("", {}),
    ],
)
def test_the_lists_are_counted_with_their_negation(text, expected):
    assert shape(text) == expected


def test_more_hits_than_the_limit_say_no_more():
    assert shape("terrible " * 9) == {"bad": MAX_HITS}


def test_a_sentence_in_capitals_shouts():
    assert shape("GIVE ME THE TABLE BACK")["shouting"] == 1


def test_addresses_placeholders_and_fenced_code_are_left_out():
    text = "see https://example.org/secret or mail a.b@example.org, [NAME] ```code here``` done"
    assert tokenize(text).words == ("see", "or", "mail", "done")


def test_a_long_run_of_a_letter_is_two():
    assert tokenize("soooooo").words == ("soo",)


def test_character_ngrams_know_the_borders_of_a_word():
    assert grams("ab") == ["^ab", "ab$", "^ab$"]


@pytest.mark.parametrize("entry", ["", " ", "*"])
def test_an_empty_entry_of_a_word_list_is_refused(entry):
    with pytest.raises(ValueError, match="word list bad: expected words"):
        prepare({"bad": [entry]})
