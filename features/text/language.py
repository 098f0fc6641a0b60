"""Is a text English? From its function words and known words; no dependency, no model of other languages."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

from features.text.evidence import Tokens

MIN_SHARE = 0.3  # our choice: English words among those that say something, where nobody said which language it is
MAX_SYMBOLS = 0.08  # our choice: prose holds fewer of the characters of code
MAX_FOREIGN_LETTERS = 0.06  # our choice: letters outside a to z; English borrows few


@dataclass(frozen=True)
class Vocabulary:
    """Words that say which language a text is in; words of several languages are in neither set."""

    english: frozenset[str]
    foreign: frozenset[str]
    neutral: frozenset[str]


def vocabulary(english: list[str], international: list[str], others: Mapping[str, list[str]]) -> Vocabulary:
    """Function words of English and of other languages, less those that are both."""
    foreign = {word for words in others.values() for word in words}
    neutral = frozenset(international) | (foreign & set(english))
    return Vocabulary(frozenset(english) - neutral, frozenset(foreign) - neutral, neutral)


def is_english(tokens: Tokens, known: Vocabulary, more_words: Container[str], *, declared: str | None = None) -> bool:
    """Whether the text can be scored as English; False where that cannot be told.

    more_words: content words that count as English. declared: what the source says ("en", "en-GB", "English"; None:
    it does not say). A declared other language is believed; declared English still needs one English word and no
    majority of another language's.
    """
    if declared is not None and declared.strip().lower().replace("_", "-").split("-")[0] not in (
        "en",
        "eng",
        "english",
    ):
        return False
    words = [word for word in tokens.words if word[0].isalpha()]
    letters = sum(map(len, words))
    if not letters or sum(letter > "z" for word in words for letter in word) > MAX_FOREIGN_LETTERS * letters:
        return False
    if tokens.symbols > MAX_SYMBOLS:
        return False
    telling = [word for word in words if word not in known.neutral]
    foreign = sum(word in known.foreign for word in telling)
    function = sum(word in known.english for word in telling)
    content = sum(word not in known.english and word not in known.foreign and word in more_words for word in telling)
    if declared is not None:
        return function + content > 0 and function + content >= foreign
    # A content word of ours may be a word of another language too: it counts half where others are found.
    strength = function + (content / 2 if foreign else content)
    return strength > 1.5 * foreign and function + content >= MIN_SHARE * len(telling)
