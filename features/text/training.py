"""Builds the text model from the word lists and sentences in this folder: `python -m features.text.training`.

Nothing else goes in: no comment, ticket or survey answer of any person. The same lists and sentences give the same
file, byte for byte.
"""

import argparse
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from features.text.evidence import Evidence, evidence, prepare, tokenize
from features.text.scores import AXES, BLOCKS, FORMAT, SHIPPED, block_scale

FOLDER = Path(__file__).parent
WORDS, SENTENCES = FOLDER / "words.yaml", FOLDER / "sentences.yaml"
TEXTS = 12_000  # our choice: every entry of a list stands in some, and the build takes seconds
SEED = 20_260_105
UNIT = 0.001  # weights are written as whole multiples: short, and safe from the last bits of a sum
PENALTY = 0.1  # C of the regression, chosen on the train part that docs/text.md names; 0.05 to 0.3 rank alike
MIN_TEXTS = 4  # an n-gram of fewer texts is left out
DRILL_SHARE = 0.35  # of the texts that are sentences around one entry of a word list
DRILL_KINDS = ("calm", "chat_calm")  # whose sentences surround the entry

Labels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Corpus:
    """Texts with the chance that each speaks of each axis; chances: (n_texts, 2) in the order of AXES."""

    texts: tuple[str, ...]
    chances: Labels


def read_lists(path: Path = WORDS) -> dict[str, Any]:  # Any: nested lists and mappings of strings
    """The word lists; every entry is a string (YAML would read `no` and `404` as something else)."""
    document = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    if not isinstance(document, dict):
        raise ValueError(f"{path}: expected a mapping of word lists, came {type(document).__name__}")
    return document


def write_corpus(n_texts: int = TEXTS, *, seed: int = SEED) -> Corpus:
    """Invented texts from the sentences and the word lists, the same for the same seed."""
    rng = random.Random(seed)
    grammar = yaml.safe_load(SENTENCES.read_text(encoding="utf-8"))
    lists = read_lists()["lists"]
    entries = [(name, entry.rstrip("*")) for name in grammar["drills"] for entry in lists[name]]
    mixes, weights = grammar["mixed"], [mix["weight"] for mix in grammar["mixed"]]
    texts, chances = [], []
    for _ in range(n_texts):
        if rng.random() < DRILL_SHARE:
            name, entry = rng.choice(entries)
            text, chance = _drill(rng, grammar, entry), grammar["drills"][name]
        else:
            text, chance = _mix(rng, grammar, rng.choices(mixes, weights)[0]["kinds"])
        texts.append(text)
        chances.append(chance)
    return Corpus(tuple(texts), np.asarray(chances, np.float64))


def _mix(rng: random.Random, grammar: Mapping[str, Any], kinds: Sequence[str]) -> tuple[str, list[float]]:
    chosen = list(kinds) + ([rng.choice(kinds)] if rng.random() < 0.2 else [])
    rng.shuffle(chosen)
    said = [grammar["kinds"][kind] for kind in chosen]
    text = _joined(rng, [_filled(rng, grammar, rng.choice(kind["sentences"])) for kind in said])
    return text, [max(kind["says"][axis] for kind in said) for axis in range(len(AXES))]


def _drill(rng: random.Random, grammar: Mapping[str, Any], entry: str) -> str:
    kind = rng.choice(DRILL_KINDS)
    words = _filled(rng, grammar, rng.choice(grammar["kinds"][kind]["sentences"])).split()
    at = rng.randrange(len(words) + 1)
    return _joined(rng, [" ".join([*words[:at], entry, *words[at:]])])


def _filled(rng: random.Random, grammar: Mapping[str, Any], sentence: str) -> str:
    parts = sentence.split("{")
    filled = [parts[0]]
    for part in parts[1:]:
        slot, _, rest = part.partition("}")
        filled += [str(rng.choice(grammar["slots"][slot])), rest]
    return "".join(filled)


def _joined(rng: random.Random, sentences: Sequence[str]) -> str:
    text = sentences[0]
    for sentence in sentences[1:]:
        mark = "" if text[-1] in ".?!" else rng.choice([".", ".", ",", " and", " -", " but"])
        text = f"{text}{mark} {sentence}"
    if text[-1] not in ".?!":
        text += rng.choice(["", "", ".", ".", "!"])
    style = rng.random()
    return text.lower() if style < 0.3 else text[0].upper() + text[1:]


@dataclass(frozen=True)
class Columns:
    """Which n-gram or list hit each column of the regression is."""

    names: tuple[tuple[str, str], ...]  # (block, name)

    def matrix(self, seen: Sequence[Evidence]) -> sparse.csr_matrix:
        """(n_texts, n_columns) of what the texts show."""
        position = {name: column for column, name in enumerate(self.names)}
        indices: list[int] = []
        values: list[float] = []
        ends = [0]
        for one in seen:
            row: Counter[int] = Counter()
            for item, value in _items(one):
                if item in position:
                    row[position[item]] += value  # type: ignore[assignment]  # a sum of floats
            for column in sorted(row):
                indices.append(column)
                values.append(row[column])
            ends.append(len(indices))
        return sparse.csr_matrix((values, indices, ends), shape=(len(seen), len(self.names)))


def _items(seen: Evidence) -> Iterable[tuple[tuple[str, str], float]]:
    for block in BLOCKS:
        found = getattr(seen, block)
        for name in found:
            yield (block, name), block_scale(len(found))
    for name, value in seen.shape.items():
        yield ("shape", name), value


def choose_columns(seen: Iterable[Evidence], *, min_texts: int = MIN_TEXTS) -> Columns:
    """The n-grams of at least `min_texts` texts, and every list hit."""
    counts: Counter[tuple[str, str]] = Counter()
    for one in seen:
        counts.update({name for name, _ in _items(one)})
    return Columns(tuple(sorted(name for name, n in counts.items() if n >= min_texts or name[0] == "shape")))


def fit_axis(matrix: sparse.csr_matrix, chance: Labels, *, penalty: float = PENALTY) -> tuple[Labels, float]:
    """Weights (n_columns,) and bias of one axis by logistic regression; chance: (n_texts,) in [0, 1].

    A chance between 0 and 1 counts as both answers, weighted.
    """
    both = sparse.vstack([matrix, matrix], format="csr")
    answers = np.repeat([1, 0], len(chance))
    weight = np.concatenate([chance, 1 - chance])
    kept = weight > 0
    model = LogisticRegression(C=penalty, solver="lbfgs", max_iter=2000, tol=1e-8)
    model.fit(both[kept], answers[kept], sample_weight=weight[kept])
    return model.coef_[0], float(model.intercept_[0])


def train(corpus: Corpus, *, min_texts: int = MIN_TEXTS, penalty: float = PENALTY) -> dict[str, Any]:
    """A model of the corpus as the document that `features.text.scores.load_model` reads."""
    lists = read_lists()
    phrases, negators = prepare(lists["lists"], lists["intensifiers"]), frozenset(lists["negators"])
    seen = [evidence(tokenize(text), phrases, negators) for text in corpus.texts]
    columns = choose_columns(seen, min_texts=min_texts)
    matrix = columns.matrix(seen)
    fits = [fit_axis(matrix, corpus.chances[:, axis], penalty=penalty) for axis in range(len(AXES))]
    document: dict[str, Any] = {
        "format": FORMAT,
        "axes": list(AXES),
        "built_from": built_from(),
        "unit": UNIT,
        "bias": [round(bias / UNIT) for _, bias in fits],
        **{block: {} for block in (*BLOCKS, "shape")},
    }
    for column, (block, name) in enumerate(columns.names):
        weights = [round(float(fit[column]) / UNIT) for fit, _ in fits]
        if any(weights):
            document[block][name] = weights
    return {**document, "lists": lists}


def built_from() -> str:
    """SHA-256 of the word lists and sentences."""
    return hashlib.sha256(WORDS.read_bytes() + SENTENCES.read_bytes()).hexdigest()


def write_model(document: Mapping[str, Any], path: Path) -> None:
    """The document as JSON, an entry a line where there are many."""
    lines = []
    for name, value in document.items():
        if name in (*BLOCKS, "shape"):
            rows = ",\n".join(f"{json.dumps(item)}:{json.dumps(weights)}" for item, weights in sorted(value.items()))
            lines.append(f"{json.dumps(name)}:{{\n{rows}\n}}")
        else:
            lines.append(f"{json.dumps(name)}:{json.dumps(value, sort_keys=True)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    """Build the shipped model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--texts", type=int, default=TEXTS)
    arguments = parser.parse_args()
    write_model(train(write_corpus(arguments.texts)), arguments.out)


if __name__ == "__main__":
    main()
