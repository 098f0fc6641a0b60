"""Trees grown by several workers are as good as those of one process, and are grown so above a stated size alone."""

import os
import signal
import threading

import lightgbm as lgb
import numpy as np
import pytest

import training.distributed
import training.risk
from features.catalogue import CATEGORIES
from features.cluster import open_cluster
from features.scorer import INPUTS, Method
from training.distributed import DISTRIBUTED_ROWS, WorkersTooSmall, grow_on
from training.risk import TREE_PARAMETERS, fit

NAMES = {feature.name for feature in CATEGORIES}


@pytest.fixture(scope="module")
def rows():
    """Six thousand rows whose outcome depends on two inputs."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(6_000, len(INPUTS)))
    for position, name in enumerate(INPUTS):
        if name in NAMES:
            inputs[:, position] = rng.integers(0, 5, len(inputs))
    event = (rng.random(len(inputs)) < 1 / (1 + np.exp(1 - inputs[:, 0] - inputs[:, 3]))).astype(float)
    return inputs, event, rng.uniform(0.5, 1.5, len(inputs))


def loss(model, rows):
    inputs, event, weight = rows
    chance = model.predict(inputs)
    return -np.average(event * np.log(chance) + (1 - event) * np.log(1 - chance), weights=weight)


def test_trees_of_two_workers_are_as_good_as_those_of_one_process(cluster, rows):
    inputs, event, weight = rows
    parameters = {**TREE_PARAMETERS, "seed": 7, "num_threads": 1}
    names = [feature.name for feature in CATEGORIES]
    data = lgb.Dataset(inputs, event, weight=weight, feature_name=list(INPUTS), categorical_feature=names)
    alone = lgb.train(dict(parameters), data, num_boost_round=40)
    together = grow_on(cluster, inputs, event, weight, parameters=parameters, trees=40)
    assert together.num_trees() == 40
    assert together.feature_name() == alone.feature_name()
    null = -np.average(event * np.log(event.mean()) + (1 - event) * np.log(1 - event.mean()), weights=weight)
    # bins come from other rows, bags from other draws: over seeds the losses differ by some thousandths
    assert loss(together, rows) == pytest.approx(loss(alone, rows), abs=0.01)
    assert loss(alone, rows) < null - 0.02


def test_trees_are_grown_anew_where_a_worker_is_killed(rows, monkeypatch):
    inputs, event, weight = rows
    attempts = []
    grown = training.distributed._grown

    def watched(cluster, *arguments, **options):
        attempts.append(cluster.workers)
        if len(attempts) == 1:
            nanny = next(iter(cluster.client.cluster.workers.values()))
            threading.Timer(1.0, os.kill, (nanny.pid, signal.SIGKILL)).start()
            options["trees"] = 5_000  # longer than a second, so that it is killed in the middle
        return grown(cluster, *arguments, **options)

    monkeypatch.setattr(training.distributed, "_grown", watched)
    with open_cluster(workers=2) as own:
        found = grow_on(
            own, inputs, event, weight, parameters={**TREE_PARAMETERS, "seed": 7, "num_threads": 1}, trees=20
        )
    assert len(attempts) == 2
    assert found.num_trees() == 20


def test_rows_go_to_the_workers_in_small_pieces_evenly(cluster, rows, monkeypatch):
    monkeypatch.setattr(training.distributed, "PIECE_ROWS", 700)
    sent = []
    scatter = cluster.client.scatter

    def watched(piece, *, workers, **options):
        sent.append((workers[0], piece.dtype, len(piece)))
        return scatter(piece, workers=workers, **options)

    monkeypatch.setattr(cluster.client, "scatter", watched)
    inputs, event, weight = rows
    grow_on(cluster, inputs, event, weight, parameters={**TREE_PARAMETERS, "seed": 7, "num_threads": 1}, trees=3)
    held = {worker: sum(size for at, _, size in sent if at == worker) for worker, _, _ in sent}
    assert {dtype for _, dtype, _ in sent} == {np.dtype(np.float32)}
    assert max(size for _, _, size in sent) == 700
    assert list(held.values()) == [9_000, 9_000]  # three thousand inputs, events and weights each


@pytest.mark.parametrize(
    ("rows", "workers", "gib", "sentence"),
    [
        (
            5_000_001,
            2,
            2,
            "takes 7.2 GiB on each of 2 workers, and they are given 2.0: start 9 of them, or give each more",
        ),
        (5_000_001, 9, 0.25, "and they are given 0.2: give each more; `--share`"),
    ],
)
def test_workers_that_are_too_small_are_told_what_is_needed(rows, workers, gib, sentence):
    with pytest.raises(WorkersTooSmall, match="growing trees of 5,000,001 rows") as raised:
        training.distributed._check_room(rows, workers=workers, limit=int(gib * 2**30))
    assert sentence in str(raised.value)


def test_as_many_workers_as_were_asked_for_are_enough():
    training.distributed._check_room(5_000_001, workers=9, limit=2 << 30)


def test_nothing_is_sent_to_workers_that_are_too_small(cluster, rows, monkeypatch):
    monkeypatch.setattr(training.distributed, "ROW_BYTES", 1_000_000)
    monkeypatch.setattr(cluster.client, "scatter", lambda *_pieces, **_options: pytest.fail("sent"))
    with pytest.raises(WorkersTooSmall, match=r"on each of 2 workers, and they are given 2\.0: start 4 of them"):
        grow_on(cluster, *rows, parameters={**TREE_PARAMETERS, "seed": 7, "num_threads": 1}, trees=3)


@pytest.mark.parametrize(("limit", "spread"), [(DISTRIBUTED_ROWS, 0), (1_000, 1)])
def test_only_a_training_set_above_the_stated_size_goes_to_the_cluster(simulate, monkeypatch, limit, spread):
    asked = []
    dataset = simulate(1, n=1500).dataset

    def grow(cluster, inputs, event, weight, *, parameters, trees):
        asked.append(len(inputs))
        names = [feature.name for feature in CATEGORIES]
        data = lgb.Dataset(inputs, event, weight=weight, feature_name=list(INPUTS), categorical_feature=names)
        return lgb.train({**TREE_PARAMETERS, "seed": 7, "num_threads": 1}, data, num_boost_round=trees)

    monkeypatch.setattr(training.risk, "grow_on", grow)
    monkeypatch.setattr(training.risk, "DISTRIBUTED_ROWS", limit)
    fitted = fit(dataset, method=Method.LIGHTGBM, cluster=object())
    assert len(asked) == spread
    assert fitted.scorer.booster is not None
