from dataclasses import replace

import numpy as np
import pytest

import training.backtest
from features.events import MICROSECONDS_PER_DAY
from features.rules import Stratum
from features.scorer import HORIZONS_DAYS
from training.backtest import STEP_DAYS, backtest
from training.risk import fit


@pytest.fixture(scope="module")
def by_stratum(simulate):
    return {Stratum.IN_USE: simulate(81, n=1_500).dataset}


def test_each_origin_knows_only_what_came_before_it(by_stratum, monkeypatch):
    ends = []

    def watching(past, **options):
        ends.append((past.as_of + (past.known + past.silence) * MICROSECONDS_PER_DAY).max())
        return fit(past, **options)

    monkeypatch.setattr(training.backtest, "fit", watching)
    found = backtest(by_stratum, origins=2)
    dataset = by_stratum[Stratum.IN_USE]
    judged = dataset.as_of[~np.isnan(dataset.abandoned()[:, 0])]
    origins = [int(judged.max()) - k * STEP_DAYS * MICROSECONDS_PER_DAY for k in (2, 1)]
    assert len(found.origins) == 2
    assert all(end <= origin + 1 for end, origin in zip(ends, origins, strict=True))
    assert set(found.pooled) == set(HORIZONS_DAYS)
    assert set(found.pooled[0]) == {"model", "warnings"}
    assert found.pooled[0]["model"]["auc"].value > 0.6
    assert found.document()["pooled"]["0"]["model"]["auc"]["value"] == found.pooled[0]["model"]["auc"].value


def test_too_short_a_time_is_refused_with_how_much_it_takes(by_stratum):
    dataset = by_stratum[Stratum.IN_USE]
    short = replace(dataset, as_of=np.full(len(dataset), dataset.as_of.min()))
    with pytest.raises(ValueError, match="span 0 days: a backtest needs 28 to judge"):
        backtest({Stratum.IN_USE: short})
