"""The text scores on comments labelled by emotion, beside VADER. Writes docs/text.md.

    python benchmarks/bench_text.py [--data ../shared/data/goemotions] [--out docs/text.md]

GoEmotions (Demszky et al. 2020): frustration is annoyance, anger or disappointment; uncertainty is confusion or
nervousness. The shipped model was trained on none of it: the comments stay where they are and no part of them is
written anywhere. The model trained on them here is an upper bound for the same kind of model, and is thrown away.
"""

import argparse
import dataclasses
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from features.rules import TOGETHER_ABOVE
from features.text.evidence import tokenize
from features.text.scores import AXES, SHIPPED, TextModel, load_model
from features.text.training import TEXTS, Corpus, train, write_model

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "goemotions"
RESULTS = ROOT / "docs" / "text.md"
TICKETS = ROOT / "tests" / "data" / "tickets.tsv"
LABELS = {"frustration": {"annoyance", "anger", "disappointment"}, "uncertainty": {"confusion", "nervousness"}}
# VADER's best score for each axis on train: it has none for uncertainty, where the least positive comments come first.
VADER = {"frustration": ("compound", -1.0), "uncertainty": ("pos", -1.0)}
ROUNDS, SEED = 1000, 7
UPPER_BOUND_PENALTY = 1.0  # not tuned

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Metric = Callable[[Floats, Floats], float]
METRICS: dict[str, Metric] = {"AUC": roc_auc_score, "AP": average_precision_score}


@dataclass(frozen=True)
class Comments:
    """Texts with their labels, (n, 2) of 0 or 1 in the order of AXES."""

    texts: tuple[str, ...]
    labels: Floats


def read(folder: Path, part: str) -> Comments:
    """One part of GoEmotions. Raises ValueError naming the line that is not text, label numbers and id."""
    names = (folder / "labels.txt").read_text(encoding="utf-8").split()
    texts, labels = [], []
    for number, line in enumerate((folder / f"{part}.tsv").read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split("\t")
        if len(fields) != 3:
            raise ValueError(f"{part}.tsv line {number}: expected text, labels and id, came {len(fields)} fields")
        given = {names[int(label)] for label in fields[1].split(",")}
        texts.append(fields[0])
        labels.append([float(bool(given & LABELS[axis])) for axis in AXES])
    return Comments(tuple(texts), np.asarray(labels))


def rank_by_model(model: TextModel, texts: Sequence[str]) -> Floats:
    """(n, 2) log-odds, whatever the language detector says: these comments are English."""
    return np.asarray([model.log_odds(tokenize(text)) for text in texts])


def rank_by_vader(texts: Sequence[str]) -> Floats:
    """(n, 2) VADER's score for each axis."""
    analyzer = SentimentIntensityAnalyzer()
    scores = [analyzer.polarity_scores(text) for text in texts]
    return np.asarray([[VADER[axis][1] * score[VADER[axis][0]] for axis in AXES] for score in scores])


def _of(metric: Metric, label: Floats, score: Floats, at: Rows) -> float:
    return metric(label[at], score[at])


def _difference(metric: Metric, label: Floats, score: Floats, other: Floats, at: Rows) -> float:
    return _of(metric, label, score, at) - _of(metric, label, other, at)


def with_interval(measure: Callable[[Rows], float], n: int) -> str:
    """A measure with its 95 % interval by bootstrap over comments; measure takes row numbers."""
    rng = np.random.default_rng(SEED)
    drawn = [measure(rng.integers(0, n, n)) for _ in range(ROUNDS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{measure(np.arange(n)):.3f} [{low:.3f}, {high:.3f}]"


def table(comments: Comments, ranks: dict[str, Floats], *, against: str) -> list[str]:
    """Rows of AUC and AP by axis and method, and the difference to `against`."""
    rows = []
    for axis, name in enumerate(AXES):
        label = comments.labels[:, axis]
        for method, rank in ranks.items():
            cells = []
            for metric in METRICS.values():
                own, other = rank[:, axis], ranks[against][:, axis]
                cells.append(with_interval(partial(_of, metric, label, own), len(label)))
                cells.append(
                    "–"
                    if method == against
                    else with_interval(partial(_difference, metric, label, own, other), len(label))
                )
            rows.append(f"| {name} ({label.mean():.3f}) | {method} | {' | '.join(cells)} |")
    return rows


def upper_bound(comments: Comments) -> TextModel:
    """The same kind of model trained on the comments themselves; nothing of it is kept."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        write_model(train(Corpus(comments.texts, comments.labels), penalty=UPPER_BOUND_PENALTY), path)
        return load_model(path)


def tickets_table(model: TextModel) -> list[str]:
    """How the invented tickets of tests/data come out, by group."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for line in TICKETS.read_text(encoding="utf-8").splitlines()[1:]:
        group, text = line.split("\t")
        scores = model.score(text)
        groups.setdefault(group, []).append((scores.frustration or 0.0, scores.uncertainty or 0.0))
    rows = []
    for group, scored in groups.items():
        frustration, uncertainty = np.asarray(scored).T
        rows.append(
            f"| {group} | {len(scored)} | {(frustration > 0.5).sum()} | {(uncertainty > 0.5).sum()} "
            f"| {(frustration * uncertainty > TOGETHER_ABOVE).sum()} |"
        )
    return rows


def speed(model: TextModel, texts: Sequence[str]) -> tuple[float, float]:
    """Texts a second on one core (best of three), and their mean number of characters."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        for text in texts:
            model.score(text)
        seconds.append(time.perf_counter() - started)
    return len(texts) / min(seconds), float(np.mean([len(text) for text in texts]))


def report(data: Path) -> str:
    """docs/text.md."""
    started = time.perf_counter()
    model = load_model(SHIPPED)
    load_ms = 1000 * (time.perf_counter() - started)
    dev, training = read(data, "dev"), read(data, "train")
    bound = upper_bound(training)
    lists_only = dataclasses.replace(model, words={}, pairs={}, characters={})
    ranks = {
        "VADER": rank_by_vader(dev.texts),
        "ours (shipped)": rank_by_model(model, dev.texts),
        "ours, word lists and punctuation alone": rank_by_model(lists_only, dev.texts),
        "trained on GoEmotions (not shipped)": rank_by_model(bound, dev.texts),
    }
    missing = np.mean([model.score(text).frustration is None for text in dev.texts])
    per_second, characters = speed(model, dev.texts)
    version = platform.python_version()
    return TEMPLATE.format(
        n=len(dev.texts),
        rows="\n".join(table(dev, ranks, against="VADER")),
        tickets="\n".join(tickets_table(model)),
        missing=100 * missing,
        per_second=round(per_second, -2),
        characters=characters,
        load_ms=load_ms,
        size=SHIPPED.stat().st_size / 1e6,
        texts=TEXTS,
        rounds=ROUNDS,
        version=version,
        threshold=TOGETHER_ABOVE,
    )


TEMPLATE = """# Frustration and uncertainty in tickets and surveys

Written by `python benchmarks/bench_text.py`.

`features.text.score_text` gives a ticket or survey answer two numbers in [0, 1], and `features.text.ticket_topic` a
category and, where the words name one, a workflow. They run where the text is; the text goes no further. It is neither
stored nor logged nor quoted in an error. The scores describe how a text is worded, not what a person feels, and serve to
find where a rollout stalls. They are not made for judging anyone.

## How they are made

A logistic regression on words, pairs of words, character n-grams, word lists and punctuation. It is trained by
`make text-model` from {texts:,} invented texts: `features/text/sentences.yaml` and `features/text/words.yaml`, both
written for this project. No comment, ticket or answer of any person went in. The file holds words and numbers
({size:.1f} MB of JSON) and nothing that runs; the same lists give the same bytes.

Only English is scored. Another language, declared or found, gives missing, and so do empty texts, numbers and code.

## Against labelled comments

GoEmotions, {n:,} comments of the part `dev`. Frustration: annoyance, anger or disappointment. Uncertainty: confusion or
nervousness. VADER's score is `-compound` for frustration; for uncertainty it has none, so its best on `train`, `-pos`.
The penalty and the word lists were chosen on `train` (some 20 of our entries were taken out because they told nothing
there; penalties from 0.05 to 0.3 gave an AUC within 0.01); `dev` was used for this table only. The language detector plays no part in the table; it finds
{missing:.1f} % of these comments not to be English, or cannot tell. In brackets behind the axis the share so labelled;
in brackets behind a figure its 95 % interval (bootstrap over comments, {rounds} rounds, the difference paired).

| axis | method | AUC | minus VADER | AP | minus VADER |
|---|---|---|---|---|---|
{rows}

These are comments on a public forum, not tickets: they say how well the scores carry over, not how well they do on
yours. The last row of each axis is what the same kind of model reaches when it learns from 43,410 comments of the very
same kind; it is not shipped.

## On invented tickets

64 tickets and survey answers written before the model first saw them (`tests/data/tickets.tsv`), none used in training.
At first three of them were taken for not English; the detector's word list was widened, the scores were left as they
were. Together: the product of both is above {threshold}, which is the early warning.

| written to be | tickets | frustration above 0.5 | uncertainty above 0.5 | together |
|---|---|---|---|---|
{tickets}

## Speed

{per_second:,.0f} texts a second on one core, of {characters:.0f} characters on average (these comments, best of three
rounds; Python {version}); the model is read in {load_ms:.0f} ms, at first use.
"""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not arguments.data.exists():
        sys.exit(f"{arguments.data} is absent: GoEmotions is not part of this project")
    arguments.out.write_text(report(arguments.data), encoding="utf-8")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
