"""What a text shows, as named numbers: words, pairs of words, character n-grams, word lists and punctuation.

Training and serving count the same things because both count them here.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MAX_CHARACTERS = 4000  # our choice: about 700 words; what follows in a long ticket is quoted mail
NEGATION_TOKENS = 3  # our choice: a negator reaches the three next words of its clause
MAX_HITS = 2  # our choice: a third swear word says no more than the second
CHARACTERS = (3, 4, 5)  # lengths of the character n-grams, within a word and its two borders

_QUOTED = re.compile(r"```.*?(?:```|\Z)|https?://\S+|www\.\S+|[^\s@]{1,64}@\S+|\[[A-Z]{2,}\]", re.DOTALL)
_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|\d+|[?!]+|[.;:,\n]+")
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'", "ʼ": "'"})
_QUOTED_NAME = re.compile(r"\"\s*:|=\s*[\"']")  # of JSON, SQL and settings
_CODE = "{}()[]=<>_/\\|;#$&*+"
_LONG_RUN = re.compile(r"(.)\1{2,}")
_SHORT_FORMS = {
    form.replace("'", ""): form
    for form in (
        "don't", "can't", "didn't", "doesn't", "isn't", "wasn't", "aren't", "haven't", "hasn't", "couldn't",
        "wouldn't", "shouldn't", "i'm", "i've", "that's", "what's", "they're", "you're", "there's",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Tokens:
    """The words of a text in lower case with its punctuation; held only while the text is scored."""

    words: tuple[str, ...]
    shouted: int  # words of at least three letters that were all capitals
    symbols: float  # share of characters that code uses and prose does not


def tokenize(text: str) -> Tokens:
    """Words and punctuation of the first MAX_CHARACTERS; addresses, placeholders and fenced code are left out."""
    text = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS])
    found = _TOKEN.findall(_QUOTED.sub(" ", text).translate(_APOSTROPHES))  # after: a fence is no apostrophe
    shouted = sum(len(token) > 2 and token.isupper() for token in found)
    symbols = (sum(map(text.count, _CODE)) + 2 * len(_QUOTED_NAME.findall(text))) / max(len(text), 1)
    words = (_LONG_RUN.sub(r"\1\1", token.lower()) for token in found)
    return Tokens(tuple(_SHORT_FORMS.get(word, word) for word in words), shouted, symbols)


@dataclass(frozen=True)
class Phrases:
    """Word lists prepared for matching: by first word, the longest phrase first; a last word ending in * is open."""

    by_first: Mapping[str, tuple[tuple[tuple[str, ...], str], ...]]
    by_prefix: Mapping[str, str]  # single open words
    prefix_lengths: tuple[int, ...]
    skipped: frozenset[str]  # may stand inside a phrase

    def match(self, words: Sequence[str], at: int) -> tuple[str, int] | None:
        """The list and the end of the longest phrase that begins at `at`, or None."""
        word = words[at]
        for phrase, name in self.by_first.get(word, ()):
            end = self._end(phrase, words, at + 1)
            if end:
                return name, end
        for length in self.prefix_lengths:
            if length > len(word):
                break
            name_of_prefix = self.by_prefix.get(word[:length])
            if name_of_prefix is not None:
                return name_of_prefix, at + 1
        return None

    def _end(self, phrase: tuple[str, ...], words: Sequence[str], at: int) -> int:
        for part in phrase[1:]:
            while at < len(words) and words[at] in self.skipped and words[at] != part:
                at += 1
            if at >= len(words) or not (words[at] == part or (part[-1] == "*" and words[at].startswith(part[:-1]))):
                return 0
            at += 1
        return at


def prepare(lists: Mapping[str, Iterable[str]], skipped: Iterable[str] = ()) -> Phrases:
    """Word lists as Phrases. An entry of two lists belongs to the first. Raises ValueError on an empty entry."""
    by_first: dict[str, dict[tuple[str, ...], str]] = {}
    by_prefix: dict[str, str] = {}
    for name, entries in lists.items():
        for entry in entries:
            parts = tuple(entry.lower().split())
            if not parts or parts[0] == "*":
                raise ValueError(f"word list {name}: expected words, came an empty entry")
            if len(parts) == 1 and parts[0].endswith("*"):
                by_prefix.setdefault(parts[0][:-1], name)
            else:
                by_first.setdefault(parts[0], {}).setdefault(parts, name)
    return Phrases(
        {first: tuple(sorted(found.items(), key=lambda item: -len(item[0]))) for first, found in by_first.items()},
        by_prefix,
        tuple(sorted({len(prefix) for prefix in by_prefix})),
        frozenset(skipped),
    )


@dataclass(frozen=True)
class Evidence:
    """What one text shows. Words, pairs and characters are sets: how often is not counted."""

    words: frozenset[str]
    pairs: frozenset[str]
    characters: Sequence[str]  # may repeat between words
    shape: Mapping[str, float]  # list hits (`anger`, `anger.not` where negated) and punctuation


def evidence(tokens: Tokens, phrases: Phrases, negators: frozenset[str]) -> Evidence:
    """The evidence in a text."""
    words = frozenset(token for token in tokens.words if token[0].isalpha())
    pairs = frozenset(f"{left} {right}" for left, right in zip(tokens.words, tokens.words[1:], strict=False))
    return Evidence(words, pairs, [part for word in words for part in grams(word)], _shape(tokens, phrases, negators))


def grams(word: str) -> list[str]:
    """The character n-grams of a word with a border on each side."""
    bordered = f"^{word}$"
    return [bordered[at : at + n] for n in CHARACTERS for at in range(len(bordered) - n + 1)]


def _shape(tokens: Tokens, phrases: Phrases, negators: frozenset[str]) -> dict[str, float]:
    shape: dict[str, float] = {}
    words, at, negated_until = tokens.words, 0, -1
    while at < len(words):
        word = words[at]
        match = phrases.match(words, at)
        if match is not None:
            name = f"{match[0]}.not" if at <= negated_until else match[0]
            shape[name] = min(shape.get(name, 0.0) + 1.0, MAX_HITS)
            at = match[1]
            continue
        if word in negators or word.endswith("n't"):
            negated_until = at + NEGATION_TOKENS
        elif word == "but" or not (word[0].isalnum() or word[0] == ","):
            negated_until = -1
        if word[0] in "?!":
            for mark, name in (("?", "question_mark"), ("!", "exclamation_mark")):
                if mark in word:
                    shape[name] = min(shape.get(name, 0.0) + len(word), MAX_HITS)
        at += 1
    if tokens.shouted > 2:
        shape["shouting"] = 1.0
    return shape
