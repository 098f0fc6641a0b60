"""Frustration and uncertainty of a text: a linear model on n-grams and word lists, read from one JSON file."""

import functools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.text.evidence import Evidence, Phrases, Tokens, evidence, prepare, tokenize
from features.text.language import Vocabulary, is_english, vocabulary

SHIPPED = Path(__file__).with_name("model.json")
FORMAT = 1
AXES = ("frustration", "uncertainty")
BLOCKS = ("words", "pairs", "characters")


@dataclass(frozen=True, slots=True)
class TextScores:
    """How much a text speaks of frustration and of uncertainty, each in [0, 1]; None is missing, not neutral."""

    frustration: float | None
    uncertainty: float | None


MISSING = TextScores(None, None)
Weights = tuple[float, float]  # one number per axis, in the order of AXES


@dataclass(frozen=True)
class TextModel:
    """Log-odds of both axes as sums of weights; the file holds numbers and words only, nothing that runs."""

    bias: Weights
    words: dict[str, Weights]
    pairs: dict[str, Weights]
    characters: dict[str, Weights]
    shape: dict[str, Weights]
    phrases: Phrases
    negators: frozenset[str]
    languages: Vocabulary
    topics: Phrases
    synonyms: dict[str, tuple[str, ...]]
    common: frozenset[str]  # words of workflow ids that name none alone
    built_from: str  # SHA-256 of the word lists and sentences

    def score(self, text: str, language: str | None = None) -> TextScores:
        """Scores of one text, MISSING where it is not English. Raises TypeError where it is no string."""
        if not isinstance(text, str):
            raise TypeError(f"text: expected a string, came {type(text).__name__}")
        tokens = tokenize(text)
        if not is_english(tokens, self.languages, self, declared=language):
            return MISSING
        return TextScores(*map(_logistic, self.log_odds(tokens)))

    def log_odds(self, tokens: Tokens) -> Weights:
        """Log-odds of both axes."""
        return self._sum(evidence(tokens, self.phrases, self.negators))

    def __contains__(self, word: object) -> bool:
        """Whether a word is one that the model or its word lists know."""
        return word in self.words or (isinstance(word, str) and self.phrases.match((word,), 0) is not None)

    def _sum(self, seen: Evidence) -> Weights:
        first, second = self.bias
        for name, value in seen.shape.items():
            one, two = self.shape.get(name, (0.0, 0.0))
            first += one * value
            second += two * value
        for found, weights in (
            (seen.words, self.words),
            (seen.pairs, self.pairs),
            (seen.characters, self.characters),
        ):
            hits = [weights[item] for item in found if item in weights]
            if hits:
                share = block_scale(len(found))
                first += share * math.fsum(one for one, _ in hits)
                second += share * math.fsum(two for _, two in hits)
        return first, second


def block_scale(size: int) -> float:
    """What one n-gram of a text with `size` of them weighs: a text's n-grams together have length one."""
    return 1 / math.sqrt(size)


def score_text(text: str, language: str | None = None) -> TextScores:
    """Frustration and uncertainty of a text by the shipped model.

    language: what the source declares ("en", "en-GB"; None where it does not). A language other than English, declared
    or found, gives None for both, and so does a text in which no language can be told: empty, numbers, code. Nothing
    of the text is kept, returned, logged or named in an error. Raises TypeError where the text is no string.
    """
    return shipped_model().score(text, language)


def score_texts(texts: Iterable[str], languages: Iterable[str | None] | None = None) -> list[TextScores]:
    """`score_text` of each. languages: as many as texts, or None. Raises ValueError where they are not as many."""
    model, texts = shipped_model(), list(texts)
    declared: Sequence[str | None] = [None] * len(texts) if languages is None else list(languages)
    if len(declared) != len(texts):
        raise ValueError(f"languages: expected {len(texts)}, one per text, came {len(declared)}")
    return [model.score(text, language) for text, language in zip(texts, declared, strict=True)]


@functools.cache
def shipped_model() -> TextModel:
    """The model in the package, read at first use."""
    return load_model(SHIPPED)


def load_model(path: Path) -> TextModel:
    """A model as `make text-model` writes it. Raises ValueError naming the file and the field."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    try:
        if document["format"] != FORMAT or tuple(document["axes"]) != AXES:
            raise ValueError(f"{path}: expected format {FORMAT} with axes {', '.join(AXES)}")
        scale = document["unit"]
        weights = {
            block: {name: (one * scale, two * scale) for name, (one, two) in document[block].items()}
            for block in (*BLOCKS, "shape")
        }
        first, second = document["bias"]
        lists = document["lists"]
        return TextModel(
            bias=(first * scale, second * scale),
            words=weights["words"],
            pairs=weights["pairs"],
            characters=weights["characters"],
            shape=weights["shape"],
            phrases=prepare(lists["lists"], lists["intensifiers"]),
            negators=frozenset(lists["negators"]),
            languages=vocabulary(lists["english"], lists["international"], lists["other_languages"]),
            topics=prepare(lists["topics"]),
            synonyms={word: tuple(others) for word, others in lists["synonyms"].items()},
            common=frozenset(lists["common"]),
            built_from=document["built_from"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a text model: {type(error).__name__} at {error}") from None


def _logistic(log_odds: float) -> float:
    if log_odds >= 0:
        return 1 / (1 + math.exp(-log_odds))
    exponential = math.exp(log_odds)
    return exponential / (1 + exponential)
