"""What a ticket is about: a category from word lists, and the workflow that its words name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from features.text.evidence import tokenize
from features.text.language import is_english
from features.text.scores import TextModel, shipped_model

CATEGORIES = ("access", "billing", "error", "performance", "quality", "how_to", "other")  # ties go to the earlier
# Our choice: a word of the workflow's id names it, two of those that many tickets hold do, four of its use case do.
ID_WORD, COMMON_WORD, USE_CASE_WORD, NAMED_FROM = 1.0, 0.5, 0.25, 1.0
_ENDINGS = ("ing", "ed", "es", "s", "e")
_ID_BREAK = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Topic:
    """A code of CATEGORIES (None: the language is not known) and the id of a workflow (None: no words name one)."""

    category: str | None
    workflow: str | None


def ticket_topic(text: str, workflows: Mapping[str, str], *, language: str | None = None) -> Topic:
    """What a ticket is about; of the text itself nothing is returned.

    workflows: id to use case in a sentence, as a tool profile's high_value_workflows. language: as for `score_text`.
    The category needs English, a workflow is also found where its own words stand in a text of another language.
    Two workflows named equally well are none. Raises TypeError where the text is no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"text: expected a string, came {type(text).__name__}")
    model = shipped_model()
    tokens = tokenize(text)
    known = is_english(tokens, model.languages, model, declared=language)
    return Topic(_category(tokens.words, model) if known else None, _workflow(tokens.words, workflows, model))


def _category(words: tuple[str, ...], model: TextModel) -> str:
    hits = dict.fromkeys(CATEGORIES, 0)
    at = 0
    while at < len(words):
        match = model.topics.match(words, at)
        if match is None:
            at += 1
        else:
            hits[match[0]] += 1
            at = match[1]
    best = max(CATEGORIES, key=lambda category: hits[category])
    return best if hits[best] else "other"


def _workflow(words: tuple[str, ...], workflows: Mapping[str, str], model: TextModel) -> str | None:
    said = {_stem(word) for word in words if word[0].isalnum()}
    if not said:
        return None
    of_use_case = {name: _stems_of(sentence, model) for name, sentence in workflows.items()}
    strength = dict.fromkeys(workflows, 0.0)
    for name in workflows:
        parts = [part for part in _ID_BREAK.split(name.lower()) if part]
        named: set[str] = set()
        for part in parts:
            spellings = {_stem(word) for word in (part, *model.synonyms.get(part, ()))}
            if spellings & said:
                named |= spellings
                strength[name] += COMMON_WORD if part in model.common and len(parts) > 1 else ID_WORD
        shared = set().union(*(stems for other, stems in of_use_case.items() if other != name))
        strength[name] += USE_CASE_WORD * len((of_use_case[name] - shared - named) & said)
    ranked = sorted(strength.values(), reverse=True)
    if not ranked or ranked[0] < NAMED_FROM or (len(ranked) > 1 and ranked[0] == ranked[1]):
        return None
    return next(name for name, value in strength.items() if value == ranked[0])


def _stems_of(sentence: str, model: TextModel) -> set[str]:
    return {_stem(word) for word in tokenize(sentence).words if word.isalnum() and word not in model.languages.english}


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
