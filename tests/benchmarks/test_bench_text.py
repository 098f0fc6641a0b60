"""The text scores rank real comments better than VADER, on both axes, though they learned from none of them."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.bench_text import DATA, METRICS, Comments, rank_by_model, rank_by_vader, read, with_interval
from features.text.scores import AXES, shipped_model

needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"GoEmotions is not part of this project: {DATA} is absent")
COMMENTS = 5000  # of train: dev is kept for the page


@pytest.fixture(scope="module")
def ranked():
    comments = read(DATA, "train")
    few = Comments(comments.texts[:COMMENTS], comments.labels[:COMMENTS])
    return few.labels, rank_by_model(shipped_model(), few.texts), rank_by_vader(few.texts)


@needs_data
@pytest.mark.parametrize("axis", range(len(AXES)))
@pytest.mark.parametrize("metric", [roc_auc_score, average_precision_score])
def test_ours_ranks_above_vader(ranked, axis, metric):
    labels, ours, vader = ranked
    assert metric(labels[:, axis], ours[:, axis]) > metric(labels[:, axis], vader[:, axis]) + 0.02


def test_an_interval_holds_its_estimate_and_is_the_same_each_time():
    score = np.linspace(0, 1, 200)
    label = (np.random.default_rng(3).random(200) < score).astype(float)
    shown = with_interval(lambda at: METRICS["AUC"](label[at], score[at]), 200)
    estimate, low, high = (float(part.strip("[],")) for part in shown.split())
    assert low < estimate < high
    assert shown == with_interval(lambda at: METRICS["AUC"](label[at], score[at]), 200)


def test_a_line_that_is_no_comment_is_named(tmp_path):
    (tmp_path / "labels.txt").write_text("anger\nneutral\n")
    (tmp_path / "dev.tsv").write_text("fine\t1\ta\nbroken line\n")
    with pytest.raises(ValueError, match=r"dev\.tsv line 2: expected text, labels and id, came 1 fields"):
        read(tmp_path, "dev")
